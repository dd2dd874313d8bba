"""What is marked `without_ipip`, in a boot of User-mode Linux whose modules are out of reach."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MARK = "@pytest.mark.without_ipip"
HIDE = "mount -t tmpfs none /lib/modules && "  # what --modules names is loaded by then, nothing else can be


def test_the_cases_without_the_driver_pass_where_it_cannot_be_had() -> None:
    files = [file for file in sorted((ROOT / "tests/kernel").rglob("test_*.py")) if MARK in file.read_text()]
    expected = sum(file.read_text().count(MARK) for file in files)
    assert expected >= 6
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "without_ipip"]
    pytest += ["-k", "not plain", *map(str, files)]  # with or without nexthop objects is another question
    uml = [sys.executable, "-m", "routed_lab.uml", "--modules", "veth,bridge", "--timeout", "240", "--"]
    done = subprocess.run(
        [*uml, "sh", "-c", f'{HIDE} exec "$@"', "sh", *pytest], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, told
    assert re.search(rf"^{expected} passed", done.stdout, re.MULTILINE), told

"""The cases of inside/ in one boot of User-mode Linux, whose kernel has the IPIP driver (the machine's may not)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CASES = sorted((Path(__file__).parent / "inside").glob("case_*.py"))


def test_the_tunnel_cases_pass_under_a_kernel_with_the_driver() -> None:
    expected = sum(len(re.findall(r"^def test_", case.read_text(), re.MULTILINE)) for case in CASES)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(case) for case in CASES)]
    done = subprocess.run(
        [sys.executable, "-m", "routed_lab.uml", "--modules", "veth", "--timeout", "240", "--", *pytest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, told
    assert re.search(rf"^{expected} passed in ", done.stdout, re.MULTILINE), told

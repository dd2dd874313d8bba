"""Each benchmark runs in its short form and prints one JSON object with the keys its issue names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {"start": {"ready_seconds", "cni_add_vs_ptp", "agent_rss_mb"}}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_short_form_prints_one_object_with_every_figure(name: str) -> None:
    script = Path(__file__).parent / f"bench_{name}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["name"] == name
    assert value["figures"].keys() == KEYS[name]
    assert all(isinstance(figure, int | float) and figure > 0 for figure in value["figures"].values())
    assert value["machine"]["cpus"] > 0

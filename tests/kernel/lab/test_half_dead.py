"""A lab whose keeper and runner were killed together: the next run clears up what was the lab's, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

NAME = f"dead-{os.getpid()}"
INTERFACE = f"d{os.getpid()}"
STRANGER = f"clab-{NAME}-stranger"

LAB = f"""\
name: {NAME}
topology:
  defaults: {{kind: linux}}
  nodes:
    a: {{cmd: sleep 600, cpu: 1}}
    sw: {{kind: bridge}}
  links:
    - endpoints: ["a:eth1", "host:{INTERFACE}"]
    - endpoints: ["a:eth2", "sw:p1"]
"""


def lab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "routed", "lab", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def keeper() -> int:
    card = next(path for path in Path("/run").glob(f"**/routed-lab/{NAME}/keeper.json"))
    return int(json.loads(card.read_text())["pid"])


def kill_both() -> None:
    """SIGKILL for the runner and its keeper, which gets no time to clear up after it."""
    pid = keeper()
    runner = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    os.kill(pid, signal.SIGSTOP)
    for each in (runner, pid):
        os.kill(each, signal.SIGKILL)


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob(f"*{NAME}*")}


@pytest.fixture
def file(tmp_path: Path) -> Generator[Path]:
    """A lab that was killed, with a stranger's namespace beside it."""
    path = tmp_path / "dead.clab.yml"
    path.write_text(LAB)
    subprocess.run(["ip", "netns", "add", STRANGER], check=True)
    try:
        assert lab("up", path, "--kernel", "host").returncode == 0
        kill_both()
        yield path
    finally:
        lab("down", path)
        subprocess.run(["ip", "netns", "delete", STRANGER], check=True)


def test_the_next_run_takes_over(file: Path) -> None:
    assert namespaces() == {f"clab-{NAME}-a", f"clab-{NAME}-sw", STRANGER}

    up = lab("up", file, "--kernel", "host")

    assert up.returncode == 0, up.stderr
    assert "dead.clab.yml:5:30: cpu has no effect: only a container runtime can do that" in up.stderr
    assert lab("exec", file, "a", "ip", "link", "show", "dev", "eth1").returncode == 0
    assert lab("down", file).returncode == 0
    assert namespaces() == {STRANGER}
    assert not Path(f"/sys/class/net/{INTERFACE}").exists()


def test_down_clears_up_even_when_the_file_is_broken_by_now(file: Path) -> None:
    file.write_text(LAB.replace("kind: bridge", "kind: brigde"))

    down = lab("down", file)

    assert down.returncode == 0, down.stderr
    assert namespaces() == {STRANGER}
    assert not Path(f"/sys/class/net/{INTERFACE}").exists()

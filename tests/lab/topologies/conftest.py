"""Labs on a User-mode Linux kernel of their own, driven by the command that operators use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
MINUTES = 60.0


class Lab:
    """`routed lab VERB FILE ...` for one topology, with a runtime directory of its own."""

    def __init__(self, file: Path, runtime: Path) -> None:
        self.file = file
        self._env = dict(os.environ) | {"XDG_RUNTIME_DIR": str(runtime)}

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        """Begin a command; its output is piped."""
        return subprocess.Popen(
            [sys.executable, "-m", "routed", "lab", verb, str(self.file), *words],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, verb: str, *words: str, status: int = 0) -> str:
        """Run a command to its end and return its stdout; its exit status has to be `status`."""
        with self.start(verb, *words) as command:
            try:
                out, err = command.communicate(timeout=3 * MINUTES)
            except subprocess.TimeoutExpired:
                command.kill()
                raise
        assert command.returncode == status, f"routed lab {verb} {' '.join(words)}: {command.returncode}\n{out}{err}"
        return out

    def check(self, *words: str) -> dict[str, Any]:
        """The one object that `check --json` prints."""
        found = json.loads(self.do("check", "--json", *words))
        assert isinstance(found, dict)
        return found

    def inspect(self) -> dict[str, Any]:
        """What `inspect --json` tells of each node, by its name in the topology file."""
        (containers,) = json.loads(self.do("inspect", "--json")).values()
        return {"nodes": {container["node"]: container for container in containers}}

    @contextmanager
    def running(self, node: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
        """A program in a node or pod; ended by SIGINT, as Ctrl-C would, if it still runs."""
        with self.start("exec", node, *argv) as program:
            try:
                yield program
            finally:
                if program.poll() is None:
                    program.send_signal(signal.SIGINT)
                    try:
                        program.wait(20)
                    except subprocess.TimeoutExpired:
                        program.kill()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Bring a topology of the repository up, for the tests of one module; it goes down after the last."""
    labs: list[Lab] = []

    def bring_up(name: str, *words: str) -> Lab:
        lab = Lab(TOPOLOGIES / f"{name}.clab.yml", tmp_path_factory.mktemp("runtime"))
        labs.append(lab)
        lab.do("up", "--kernel", "uml", *words)
        return lab

    yield bring_up
    for lab in labs:
        lab.do("down")

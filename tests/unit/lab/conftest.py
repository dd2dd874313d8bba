"""Reading topology files of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from routed.errors import OperatorError
from routed_lab import topology
from routed_lab.topology import Topology

Read = Callable[..., Topology]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a lab from its text: `nodes` and what follows when it has no name of its own, as lab `small`."""

    def from_text(text: str, environment: Mapping[str, str] | None = None) -> Topology:
        text = dedent(text)
        if "name:" not in text.partition("\n")[0]:
            text = "name: small\ntopology:\n" + "".join(f"  {line}\n" for line in text.splitlines())
        path = tmp_path / "small.clab.yml"
        path.write_text(text)
        return topology.load(path, environment=environment or {})

    return from_text


@pytest.fixture
def refusal(read: Read) -> Callable[..., str]:
    """What is said of a file that is refused."""

    def of(text: str, environment: Mapping[str, str] | None = None) -> str:
        with pytest.raises(OperatorError) as caught:
            read(text, environment)
        return str(caught.value)

    return of

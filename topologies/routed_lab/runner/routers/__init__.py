"""The routers of the fabric: what the lab does with any of them (`router.py`), and a module for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from routed_lab.runner.routers.bird import Bird
from routed_lab.runner.routers.frr import Frr
from routed_lab.runner.routers.gobgp import Gobgp
from routed_lab.topology import RouterKind

if TYPE_CHECKING:
    from routed_lab.runner.routers.router import Router

KINDS: Mapping[RouterKind, type[Router]] = {
    RouterKind.BIRD: Bird,
    RouterKind.FRR: Frr,
    RouterKind.GOBGP: Gobgp,
}

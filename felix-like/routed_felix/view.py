"""What calc sees: one immutable picture of the cluster, the Loc-RIB and the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from routed.model.address import Address, Prefix
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed.model.path import Path
from routed_felix.state import Settings, UnderlayRoute


@dataclass(frozen=True, kw_only=True)
class View:
    """The input of `calc.desired`.

    `best` is the Loc-RIB: the paths of each prefix in order of preference. `blocks` are the node's own. `interfaces`,
    `underlay` and `tunnel` (whether the tunnel device is there or can be made) are what `Dataplane.read` found;
    `tunnel_address` is the IPAM's, None while there is none.
    """

    node: str
    cluster: Cluster
    best: Mapping[Prefix, tuple[Path, ...]] = field(default_factory=dict[Prefix, tuple[Path, ...]])
    blocks: Iterable[Prefix] = ()
    endpoints: Iterable[Endpoint] = ()
    interfaces: Mapping[str, Interface] = field(default_factory=dict[str, Interface])
    underlay: Sequence[UnderlayRoute] = ()
    tunnel_address: Address | None = None
    tunnel: bool = False
    settings: Settings = field(default_factory=Settings)

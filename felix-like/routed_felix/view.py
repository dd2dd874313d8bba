"""What calc sees: one immutable picture of the cluster, the Loc-RIB and the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from routed.model.address import Address, AnyAddress, AnyPrefix, Family
from routed.model.cluster import Cluster
from routed.model.endpoint import Endpoint
from routed.model.interface import Interface
from routed.model.nlri import Nlri
from routed.model.path import Path
from routed_felix.state import Encapsulation, Settings, UnderlayRoute


def only_the_best(paths: Sequence[Path]) -> Sequence[Path]:
    """No path shares the traffic with the best."""
    return paths[:1]


@dataclass(frozen=True, kw_only=True)
class View:
    """The input of calc for one `family`.

    `best` is the Loc-RIB, unicast: the paths of each prefix in order of preference. It may be live, changing between
    calls; whatever else is here is a value. Tuples of paths are shared among prefixes, and calc counts on it: it
    decides once per tuple. `blocks` are the node's own, `peers` whom it has sessions with, `gateways` those through
    which some of these are to be reached. `interfaces`, `underlay`, `tunnel` (whether the IPIP device is there or can
    be made) and `vxlan` (likewise) are what the `Dataplane` found; `tunnel_address` is the IPAM's, None while there is
    none. `sharing` says which of the ranked paths of a prefix share its traffic, the best first: the decision process's
    word. The sessions with `lost` peers have ended, which the Loc-RIB may not show yet: their paths count only where
    there are no others. Devices are to be there for the ways `kept`, whether pools need them or not.
    """

    node: str
    cluster: Cluster
    family: Family = Family.IPV4
    best: Mapping[Nlri, tuple[Path, ...]] = field(default_factory=dict[Nlri, tuple[Path, ...]])
    blocks: Sequence[AnyPrefix] = ()
    peers: Sequence[AnyAddress] = ()
    gateways: Mapping[Address, Address] = field(default_factory=dict[Address, Address])
    endpoints: Sequence[Endpoint] = ()
    interfaces: Mapping[str, Interface] = field(default_factory=dict[str, Interface])
    underlay: Sequence[UnderlayRoute] = ()
    tunnel_address: Address | None = None
    tunnel: bool = False
    vxlan: bool = False
    settings: Settings = field(default_factory=Settings)
    sharing: Callable[[Sequence[Path]], Sequence[Path]] = only_the_best
    lost: frozenset[AnyAddress] = frozenset()
    kept: frozenset[Encapsulation] = frozenset()

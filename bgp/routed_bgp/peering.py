"""What one peer may tell us and what it is told, besides the safe defaults: the policy half of a peering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from routed.model.address import Address, AnyAddress, Family
from routed.model.bgp import NextHopMode
from routed_bgp.filters import Rules

__all__ = ["BfdSettings", "NextHopMode", "PeerPolicy"]


@dataclass(frozen=True, slots=True)
class BfdSettings:
    """RFC 5880 for one peer: `interval` in milliseconds, asked for both ways; `multiplier` missed ones mean down."""

    interval: int = 300
    multiplier: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPolicy:
    """See the module. `peer` is the session's key.

    `import_rules` and `export_rules` are the peer's BGPFilters in order, joined, by family; a family without rules is
    not there. `allowed_local_as`: how often our own AS may be in a path (numAllowedLocalASNumbers). `client`: we are a
    reflector for this peer, in our AS or as a member of another, and `cluster_id` is ours (RFC 4456); it is None when
    this node reflects nothing.
    `max_prefixes` ends the session when exceeded (RFC 4486 subcode 1), a warning is shown from `warning_prefixes` on;
    None: without bound.
    """

    peer: AnyAddress
    import_rules: Mapping[Family, Rules] = field(default_factory=dict[Family, Rules])
    export_rules: Mapping[Family, Rules] = field(default_factory=dict[Family, Rules])
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    allowed_local_as: int = 0
    cluster_id: Address | None = None
    client: bool = False
    max_prefixes: int | None = None
    warning_prefixes: int | None = None
    bfd: BfdSettings | None = None
    reachable_by: AnyAddress | None = None

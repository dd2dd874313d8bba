"""A BGP path, as the decision process compares it and calc forwards by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from routed.model.address import Address, Prefix


class Origin(IntEnum):
    """ORIGIN, RFC 4271 section 5.1.1; lower is preferred."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True)
class Path:
    """One path to `prefix`, after import policy.

    `local_pref` is ours, set by who originated the path (design: 90 for a member's own address as next hop, 100 for
    a router of the fabric), never the peer's. `med` absent is None. `stale`: kept through the peer's graceful restart
    (RFC 4724 section 4.2), loses to any fresh path.
    """

    prefix: Prefix
    next_hop: Address
    peer: Address
    peer_as: int
    peer_router_id: Address
    ebgp: bool
    as_path: tuple[int, ...]
    as_path_length: int  # an AS_SET counts as one, RFC 4271 section 9.1.2.2 a
    origin: Origin
    local_pref: int
    med: int | None = None
    communities: tuple[int, ...] = ()
    stale: bool = False

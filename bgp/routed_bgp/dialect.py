"""What two speakers have agreed, as far as it changes how an UPDATE is read and written."""

from __future__ import annotations

from dataclasses import dataclass

from routed.model.address import Family
from routed_bgp.open import Open
from routed_bgp.sessions import Session


@dataclass(frozen=True, slots=True)
class Dialect:
    """`ebgp`: the peer is in another AS. `asn4`: AS numbers have four octets (RFC 6793).

    `families` can be used in both directions; in those of `add_path` the peer's prefixes have a path identifier (RFC
    7911). `extended_next_hop`: IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    """

    ebgp: bool
    asn4: bool = True
    families: frozenset[Family] = frozenset({Family.IPV4})
    add_path: frozenset[Family] = frozenset()
    extended_next_hop: bool = False


def agreed(session: Session, opened: Open) -> Dialect:
    """What the `session` that we offer and the peer's OPEN have in common; four-octet AS numbers are always offered."""
    families = opened.families.intersection(session.families)
    return Dialect(
        ebgp=session.ebgp,
        asn4=opened.asn4,
        families=families,
        add_path=families & opened.add_path if session.add_path else frozenset(),
        extended_next_hop=session.extended_next_hop and opened.extended_next_hop and Family.IPV4 in families,
    )

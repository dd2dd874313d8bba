"""OPEN messages: what a peer says about itself and can do (RFC 4271 section 4.2, RFC 5492)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routed.model.address import Address, Family
from routed_bgp.as_path import AS_TRANS
from routed_bgp.nlri import unicast
from routed_bgp.notification import SessionReset

_VERSION = 4
_FIXED = 10  # octets before the optional parameters
_CAPABILITIES = 2  # optional parameter type, RFC 5492 section 4
_EXTENDED = 255  # length and type that announce two-octet lengths, RFC 9072 section 2
_MULTIPROTOCOL, _ROUTE_REFRESH, _EXTENDED_NEXT_HOP = 1, 2, 5  # capability codes, IANA
_GRACEFUL_RESTART, _FOUR_OCTET_AS, _ADD_PATH, _ENHANCED_REFRESH = 64, 65, 69, 70
_R_BIT, _N_BIT = 0x8000, 0x4000
_SENDS = (2, 3)  # RFC 7911 section 4: send, or both
_BAD_VERSION, _BAD_AS, _BAD_IDENTIFIER, _BAD_HOLD_TIME = 1, 2, 3, 6  # RFC 4271 section 6.2
_UNSPECIFIC = 0


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """The Graceful Restart capability, RFC 4724 section 3.

    `restarting` is the R bit. `restart_time` in seconds: how long the peer asks us to keep its paths. `families` has
    those families of ours for which it asks so, each with the F bit, "forwarding state preserved"; a peer that lists
    none only helps others to restart. `notification` is the N bit: it keeps our paths after most NOTIFICATIONs too
    (RFC 8538 section 2).
    """

    restarting: bool
    restart_time: int
    families: tuple[tuple[Family, bool], ...] = ()
    notification: bool = False

    def keeps(self, family: Family) -> bool:
        """Whether paths of `family` are to be kept while the peer restarts."""
        return any(family is listed for listed, _ in self.families)

    def kept(self, family: Family) -> bool:
        """Whether the peer forwarded `family` all the time it was away (F bit)."""
        return (family, True) in self.families


@dataclass(frozen=True, slots=True)
class Open:
    """A peer's OPEN. `asn` is its real AS, from the four-octet capability when there is one; `hold_time` in seconds.

    `families`: what it has routes of; IPv4 when it says nothing (RFC 4760 section 8). `add_path`: where it wants to
    send several paths of a prefix (RFC 7911). `extended_next_hop`: it takes IPv6 next hops for IPv4 (RFC 8950).
    `route_refresh`, `enhanced_refresh`: RFC 2918, RFC 7313.
    """

    asn: int
    hold_time: int
    router_id: Address
    asn4: bool = False
    graceful_restart: GracefulRestart | None = None
    families: frozenset[Family] = frozenset({Family.IPV4})
    add_path: frozenset[Family] = frozenset()
    extended_next_hop: bool = False
    route_refresh: bool = False
    enhanced_refresh: bool = False


def decode(body: bytes) -> Open:
    """Decode an OPEN without its 19-octet header; unknown capabilities and parameters are passed over.

    Raises SessionReset where it contradicts itself or no session may have such values (RFC 4271 section 6.2).
    """
    if len(body) < _FIXED:
        raise _malformed(f"{len(body)} octets, expected at least {_FIXED}")
    if body[0] != _VERSION:
        raise _malformed(f"BGP version {body[0]}, expected {_VERSION}", _BAD_VERSION)
    asn = int.from_bytes(body[1:3])
    hold_time = int.from_bytes(body[3:5])
    said: dict[int, list[bytes]] = {}
    for code, value in _capabilities(body):
        said.setdefault(code, []).append(value)
    if _FOUR_OCTET_AS in said:
        asn = int.from_bytes(_sized(said[_FOUR_OCTET_AS][-1], 4, "four-octet AS"))
    if asn in (0, AS_TRANS):  # RFC 7607 section 2; AS_TRANS is nobody's number
        raise _malformed(f"AS {asn}", _BAD_AS)
    if hold_time in (1, 2):
        raise _malformed(f"hold time of {hold_time} s, expected 0 or at least 3", _BAD_HOLD_TIME)
    if not any(body[5:9]):  # RFC 6286 section 2.1
        raise _malformed("BGP identifier 0.0.0.0", _BAD_IDENTIFIER)
    return Open(
        asn=asn,
        hold_time=hold_time,
        router_id=Address(body[5:9]),
        asn4=_FOUR_OCTET_AS in said,
        # several instances: the last counts, RFC 4724 section 3
        graceful_restart=_graceful_restart(said[_GRACEFUL_RESTART][-1]) if _GRACEFUL_RESTART in said else None,
        families=_families(said[_MULTIPROTOCOL]) if _MULTIPROTOCOL in said else frozenset({Family.IPV4}),
        add_path=_add_path(said.get(_ADD_PATH, [])),
        extended_next_hop=_extended_next_hop(said.get(_EXTENDED_NEXT_HOP, [])),
        route_refresh=_ROUTE_REFRESH in said,
        enhanced_refresh=_ENHANCED_REFRESH in said,
    )


def _graceful_restart(value: bytes) -> GracefulRestart:
    head = int.from_bytes(_sized(value[:2], 2, "graceful restart"))
    families = tuple(
        (family, bool(flags & 0x80))
        for *afi_safi, flags in _rows(value[2:], 4, "graceful restart")
        if (family := unicast(bytes(afi_safi)))
    )
    return GracefulRestart(bool(head & _R_BIT), head & 0x0FFF, families, bool(head & _N_BIT))


def _families(values: list[bytes]) -> frozenset[Family]:
    """RFC 4760 section 8: AFI, a reserved octet, SAFI."""
    found = (_sized(value, 4, "multiprotocol") for value in values)
    return frozenset(family for value in found if (family := unicast(value[:2] + value[3:])))


def _add_path(values: list[bytes]) -> frozenset[Family]:
    """RFC 7911 section 4: AFI, SAFI, direction; the last instance counts."""
    rows = _rows(values[-1], 4, "add-path") if values else ()
    return frozenset(family for row in rows if row[3] in _SENDS and (family := unicast(row[:3])))


def _extended_next_hop(values: list[bytes]) -> bool:
    """RFC 8950 section 4: AFI, SAFI of two octets, AFI of the next hop; only IPv6 next hops of IPv4 matter to us."""
    return any(row == b"\0\1\0\1\0\2" for value in values for row in _rows(value, 6, "extended next hop"))


def _sized(value: bytes, size: int, name: str) -> bytes:
    if len(value) != size:
        raise _malformed(f"{name} capability of {len(value)} octets, expected {size}")
    return value


def _rows(value: bytes, size: int, name: str) -> tuple[bytes, ...]:
    if len(value) % size:
        raise _malformed(f"{name} capability with {len(value)} octets of rows, expected {size} for each")
    return tuple(value[at : at + size] for at in range(0, len(value), size))


def _capabilities(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of every capability, RFC 5492, in either form of optional parameters, RFC 9072."""
    length, at, size = body[9], _FIXED, 1
    if length == _EXTENDED and body[10:11] == bytes([_EXTENDED]):
        length, at, size = int.from_bytes(body[11:13]), _FIXED + 3, 2
    if at + length != len(body):
        raise _malformed(f"{length} octets of optional parameters announced, {len(body) - at} sent")
    for kind, parameter in _items(body, at, size):
        if kind == _CAPABILITIES:
            yield from _items(parameter, 0, 1)


def _items(data: bytes, at: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of a row of items with a length field of `size` octets."""
    while at < len(data):
        start = at + 1 + size
        end = start + int.from_bytes(data[at + 1 : start])
        if start > len(data) or end > len(data):
            raise _malformed("an optional parameter or capability runs past its end")
        yield data[at], data[start:end]
        at = end


def _malformed(what: str, subcode: int = _UNSPECIFIC) -> SessionReset:
    return SessionReset(f"malformed OPEN: {what}", 2, subcode)

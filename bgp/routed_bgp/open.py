"""OPEN messages: what a peer says about itself and can do (RFC 4271 section 4.2, RFC 5492, RFC 6793, RFC 4724)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routed.errors import PeerError
from routed.model.address import Address

IPV4_UNICAST = (1, 1)  # (AFI, SAFI), RFC 4760

_VERSION = 4
_FIXED = 10  # octets before the optional parameters
_CAPABILITIES = 2  # optional parameter type, RFC 5492 section 4
_EXTENDED = 255  # length and type that announce two-octet lengths, RFC 9072 section 2
_GRACEFUL_RESTART = 64
_FOUR_OCTET_AS = 65


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """The Graceful Restart capability, RFC 4724 section 3.

    `restarting` is the R bit. `restart_time` in seconds: how long the peer asks us to keep its paths. `families` maps
    (AFI, SAFI) to the F bit, "forwarding state preserved"; a peer that lists none only helps others to restart.
    """

    restarting: bool
    restart_time: int
    families: tuple[tuple[tuple[int, int], bool], ...] = ()

    @property
    def keeps_ipv4(self) -> bool:
        """Whether paths for IPv4 unicast are to be kept while the peer restarts."""
        return any(family == IPV4_UNICAST for family, _ in self.families)

    @property
    def kept_ipv4(self) -> bool:
        """Whether the peer forwarded IPv4 all the time it was away (F bit)."""
        return (IPV4_UNICAST, True) in self.families


@dataclass(frozen=True, slots=True)
class Open:
    """A peer's OPEN. `asn` is its real AS, from the four-octet capability when there is one; `hold_time` in seconds."""

    asn: int
    hold_time: int
    router_id: Address
    asn4: bool = False
    graceful_restart: GracefulRestart | None = None


def decode(body: bytes) -> Open:
    """Decode an OPEN without its 19-octet header; unknown capabilities and parameters are passed over.

    Raises PeerError where the lengths contradict one another or the version is not 4.
    """
    if len(body) < _FIXED:
        raise _malformed(f"{len(body)} octets, expected at least {_FIXED}")
    if body[0] != _VERSION:
        raise _malformed(f"BGP version {body[0]}, expected {_VERSION}")
    asn = int.from_bytes(body[1:3])
    asn4 = False
    graceful_restart: GracefulRestart | None = None
    for code, value in _capabilities(body):
        if code == _FOUR_OCTET_AS:
            if len(value) != 4:
                raise _malformed(f"four-octet AS capability of {len(value)} octets, expected 4")
            asn, asn4 = int.from_bytes(value), True
        elif code == _GRACEFUL_RESTART:
            graceful_restart = _graceful_restart(value)
    return Open(asn, int.from_bytes(body[3:5]), Address(body[5:9]), asn4, graceful_restart)


def _graceful_restart(value: bytes) -> GracefulRestart:
    if len(value) < 2 or (len(value) - 2) % 4:
        raise _malformed(f"graceful restart capability of {len(value)} octets, expected 2 and 4 for each family")
    head = int.from_bytes(value[:2])
    families = tuple(
        ((int.from_bytes(value[at : at + 2]), value[at + 2]), bool(value[at + 3] & 0x80))
        for at in range(2, len(value), 4)
    )
    return GracefulRestart(bool(head & 0x8000), head & 0x0FFF, families)


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


def _malformed(what: str) -> PeerError:
    return PeerError(f"malformed OPEN: {what}")

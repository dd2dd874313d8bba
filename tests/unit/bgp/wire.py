"""UPDATE bodies, octet by octet."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from routed.model.address import Family
from routed_bgp.nlri import from_prefix

ORIGIN = bytes([0x40, 1, 1, 0])
NEXT_HOP = bytes([0x40, 3, 4, 10, 0, 0, 2])
NEXT_HOP6 = IPv6Address("2001:db8::2").packed
MP_REACH, MP_UNREACH = 14, 15


def attribute(flags: int, code: int, value: bytes) -> bytes:
    if len(value) > 0xFF:
        return bytes([flags | 0x10, code]) + len(value).to_bytes(2) + value
    return bytes([flags, code, len(value)]) + value


def sequence(*numbers: int, size: int = 4, kind: int = 2) -> bytes:
    return bytes([kind, len(numbers)]) + b"".join(n.to_bytes(size) for n in numbers)


def as_path(*numbers: int, size: int = 4) -> bytes:
    return attribute(0x40, 2, sequence(*numbers, size=size) if numbers else b"")


def next_hop(address: str) -> bytes:
    return attribute(0x40, 3, ip_address(address).packed)


def nlri(*prefixes: str) -> bytes:
    return b"".join(map(key, prefixes))


def key(prefix: str, path_id: int | None = None) -> bytes:
    """A prefix as the RIBs hold it; with a path identifier in an add-path family."""
    packed = from_prefix(ip_network(prefix))
    return packed if path_id is None else path_id.to_bytes(4) + packed


def reach(family: int, hop: bytes, prefixes: bytes, *, safi: int = 1, flags: int = 0x80) -> bytes:
    value = family.to_bytes(2) + bytes([safi, len(hop)]) + hop + b"\0" + prefixes
    return attribute(flags, MP_REACH, value)


def unreach(family: int, prefixes: bytes, *, safi: int = 1, flags: int = 0x80) -> bytes:
    return attribute(flags, MP_UNREACH, family.to_bytes(2) + bytes([safi]) + prefixes)


def raw_body(withdrawn: bytes, attributes: bytes, announced: bytes) -> bytes:
    return len(withdrawn).to_bytes(2) + withdrawn + len(attributes).to_bytes(2) + attributes + announced


def body(*announced: str, withdrawn: tuple[str, ...] = (), attributes: bytes | None = None) -> bytes:
    """An UPDATE body of IPv4; ordinary attributes unless others are given."""
    if attributes is None:
        attributes = ORIGIN + as_path(65001) + NEXT_HOP if announced else b""
    return raw_body(nlri(*withdrawn), attributes, nlri(*announced))


def body6(*announced: str, attributes: bytes | None = None, hop: bytes = NEXT_HOP6) -> bytes:
    """An UPDATE body that announces IPv6; ordinary attributes besides MP_REACH_NLRI unless others are given."""
    if attributes is None:
        attributes = ORIGIN + as_path(65001)
    return raw_body(b"", reach(Family.IPV6, hop, nlri(*announced)) + attributes, b"")

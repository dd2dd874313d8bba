"""UPDATE bodies, octet by octet."""

from __future__ import annotations

from routed.model.address import Address, Prefix

ORIGIN = bytes([0x40, 1, 1, 0])
NEXT_HOP = bytes([0x40, 3, 4, 10, 0, 0, 2])


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes([flags, code, len(value)]) + value


def sequence(*numbers: int, size: int = 4, kind: int = 2) -> bytes:
    return bytes([kind, len(numbers)]) + b"".join(n.to_bytes(size) for n in numbers)


def as_path(*numbers: int, size: int = 4) -> bytes:
    return attribute(0x40, 2, sequence(*numbers, size=size) if numbers else b"")


def nlri(*prefixes: str) -> bytes:
    packed = b""
    for text in prefixes:
        prefix = Prefix(text)
        packed += bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    return packed


def body(*announced: str, withdrawn: tuple[str, ...] = (), attributes: bytes | None = None) -> bytes:
    """An UPDATE body; ordinary attributes unless others are given."""
    if attributes is None:
        attributes = ORIGIN + as_path(65001) + NEXT_HOP if announced else b""
    gone = nlri(*withdrawn)
    return len(gone).to_bytes(2) + gone + len(attributes).to_bytes(2) + attributes + nlri(*announced)


def next_hop(address: str) -> bytes:
    return attribute(0x40, 3, Address(address).packed)

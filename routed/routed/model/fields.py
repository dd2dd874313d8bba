"""The types of single fields: numbers with their bounds, and values that manifests write as text.

A text type is read by `parse`, which raises a ValueError fit for the operator, and `str()` is the text that `parse`
takes back. They are plain classes, since msgspec would read a dataclass from an object and not from text.
"""

from __future__ import annotations

import re
from abc import ABC
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

from msgspec import Meta

from routed.model.address import AnyAddress, AnyPrefix

AsNumber = Annotated[int, Meta(ge=1, le=4294967295)]
BlockSize = Annotated[int, Meta(ge=20, le=128)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Priority = Annotated[int, Meta(ge=1, le=2147483646)]
# RFC 1123 subdomain, as Kubernetes names objects; \Z, since $ would let a line end pass
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN, max_length=253)]
# a key of a Kubernetes secret, which here is the name of a file; never . or .. or anything with a slash
SecretKey = Annotated[str, Meta(pattern=r"^[-_a-zA-Z0-9]([-._a-zA-Z0-9]*)\Z", max_length=253)]

if TYPE_CHECKING:
    AnyAddressField: TypeAlias = AnyAddress
    AnyPrefixField: TypeAlias = AnyPrefix
else:

    class AnyAddressField(ABC):  # noqa: B024  a name for both families: msgspec takes no union of two foreign types
        """An IPv4 or IPv6 address."""

    class AnyPrefixField(ABC):  # noqa: B024
        """An IPv4 or IPv6 prefix."""

    AnyAddressField.register(IPv4Address)
    AnyAddressField.register(IPv6Address)
    AnyPrefixField.register(IPv4Network)
    AnyPrefixField.register(IPv6Network)


class Text:
    """Base of the text types: equal text is an equal value."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)


class Duration(Text):
    """A time as Kubernetes writes it, e.g. 90s, 300ms or 1m30s; exact to the millisecond."""

    __slots__ = ("milliseconds",)

    def __init__(self, *, seconds: int = 0, milliseconds: int = 0) -> None:
        self.milliseconds = 1000 * seconds + milliseconds

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form."""
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is no time, e.g. 90s, 300ms or 1m30s")
        return cls(milliseconds=round(sum(float(number) * _UNITS[unit] for number, unit in parts)))

    @property
    def seconds(self) -> int:
        """Whole seconds, rounded as Calico does."""
        return (self.milliseconds + 500) // 1000

    def __str__(self) -> str:
        whole, rest = divmod(self.milliseconds, 1000)
        return f"{self.milliseconds}ms" if rest else f"{whole}s"


class PeerAddress(Text):
    """Where a peer speaks BGP: 10.1.1.1, 10.1.1.1:1179, 2001:db8::1 or [2001:db8::1]:1179. `port` None: the default."""

    __slots__ = ("ip", "port")

    def __init__(self, ip: AnyAddress, port: int | None = None) -> None:
        self.ip = ip
        self.port = port

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form."""
        address, port = text, ""
        if "%" in text:
            raise ValueError(f"{text!r} names an interface: a peer needs an address that is not link-local")
        if text.startswith("["):
            address, bracket, port = text[1:].partition("]:")
            if not bracket:
                raise ValueError(_no_peer(text))
        elif text.count(":") == 1:
            address, _, port = text.partition(":")
        try:
            ip = ip_address(address)
        except ValueError:
            raise ValueError(_no_peer(text)) from None
        if address == text:
            return cls(ip)
        if (text[0] == "[") != (ip.version == 6) or not port.isascii() or not port.isdecimal():
            raise ValueError(_no_peer(text))
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"{text!r}: {port} is no port, expected 1 to 65535")
        return cls(ip, int(port))

    def __str__(self) -> str:
        if self.port is None:
            return str(self.ip)
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


def _no_peer(text: str) -> str:
    return f"{text!r} is no address of a peer, e.g. 10.1.1.1, 10.1.1.1:1179, 2001:db8::1 or [2001:db8::1]:1179"


class Community(Text):
    """A community `aa:nn` of 16-bit numbers (RFC 1997) or a large one `aa:nn:mm` of 32-bit numbers (RFC 8092)."""

    __slots__ = ("numbers",)

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form."""
        words = text.split(":")
        limit = {2: 65535, 3: 4294967295}.get(len(words))
        if limit is None or not all(word.isascii() and word.isdecimal() for word in words):
            raise ValueError(f"{text!r} is no community, e.g. 64512:100, or 64512:100:1 for a large one")
        numbers = tuple(map(int, words))
        for number in numbers:
            if number > limit:
                kind = "community" if limit == 65535 else "large community"
                raise ValueError(f"{text!r}: {number} is out of range, the numbers of a {kind} go from 0 to {limit}")
        return cls(*numbers)

    @property
    def standard(self) -> int | None:
        """The four octets of RFC 1997; None for a large community."""
        return self.numbers[0] << 16 | self.numbers[1] if len(self.numbers) == 2 else None

    @property
    def large(self) -> tuple[int, int, int] | None:
        """The three numbers of RFC 8092; None for a standard community."""
        return (self.numbers[0], self.numbers[1], self.numbers[2]) if len(self.numbers) == 3 else None

    def __str__(self) -> str:
        return ":".join(map(str, self.numbers))

"""What is asked of `/bgp/routes`, read from the parameters of an HTTP query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

from routed.errors import OperatorError
from routed.model.address import AnyAddress, AnyPrefix, Family

DEFAULT_LIMIT = 1000  # some 15 ms of the event loop
MOST = 20_000

_Value = TypeVar("_Value")


class Table(StrEnum):
    """Whose routes: as the peer sent them, as policy let them in, the Loc-RIB, and what the peer is told."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    BEST = "best"
    ADVERTISED = "advertised"


@dataclass(frozen=True, slots=True)
class Query:
    """`where` is a prefix, found exactly, or an address, of which the longest match is found; None: everything.

    `peer` narrows to one; in the table `best` to the paths of that peer that win.
    """

    table: Table = Table.BEST
    peer: AnyAddress | None = None
    families: tuple[Family, ...] = tuple(Family)
    where: AnyPrefix | AnyAddress | None = None
    limit: int = DEFAULT_LIMIT

    @classmethod
    def of(cls, parameters: Mapping[str, str], peers: Collection[AnyAddress]) -> Query:
        """Read it; `peers` are those that there are. Raises OperatorError for what is no query."""
        if unknown := [name for name in parameters if name not in _NAMES]:
            raise OperatorError(f"unknown parameter {unknown[0]}", hint=f"known are {', '.join(_NAMES)}")
        peer = _read(parameters, "peer", ip_address, "an address, e.g. 10.1.1.1")
        if peer is not None and peer not in peers:
            there = ", ".join(map(str, peers)) or "none"
            raise OperatorError(f"peer: there is no session with {peer}", hint=f"there is: {there}")
        table = _read(parameters, "table", Table, f"one of {', '.join(Table)}")
        family = _read(parameters, "family", _family, "ipv4 or ipv6")
        where = _read(parameters, "prefix", _where, "a prefix or an address, e.g. 10.244.1.0/24")
        if where is not None:
            its = Family.of(where)
            if family not in (None, its):
                raise OperatorError(f"prefix: {where} is not of the family {parameters['family']}")
            family = its
        limit = _read(parameters, "limit", _limit, f"a number from 1 to {MOST}")
        return cls(
            table=table or (Table.BEST if peer is None else Table.RECEIVED),
            peer=peer,
            families=tuple(Family) if family is None else (family,),
            where=where,
            limit=limit or DEFAULT_LIMIT,
        )


_NAMES = ("table", "peer", "family", "prefix", "limit")


def _read(parameters: Mapping[str, str], name: str, convert: Callable[[str], _Value], expected: str) -> _Value | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        return convert(text)
    except OperatorError:
        raise
    except ValueError:
        raise OperatorError(f"{name}: {text!r} is not {expected}") from None


def _family(text: str) -> Family:
    try:
        return Family[text.upper()]
    except KeyError:
        raise ValueError(text) from None


def _where(text: str) -> AnyPrefix | IPv4Address | IPv6Address:
    if "/" not in text:
        return ip_address(text)
    prefix = ip_network(text, strict=False)
    if prefix.network_address != ip_address(text.partition("/")[0]):
        raise OperatorError(f"prefix: {text!r} is no prefix", hint=f"did you mean {prefix}?")
    return prefix


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= MOST:
        raise ValueError(text)
    return limit

"""BGPFilter rules, compiled and applied: the policy that an operator writes, between the safe defaults.

The rules of all filters of a peer form one list. The first rule of which everything holds decides; where none does,
the safe defaults are left to speak. What a rule asks falls in two: facts of the path, which all prefixes with the same
attributes share, and the prefix. So `given` takes the facts once and leaves rules on the prefix alone, mostly none or
one, and a path's prefixes are asked of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from itertools import chain

from routed.model.address import Family
from routed.model.bgp_filter import Action, BGPFilterSpec, FilterRule, MatchOperator, PeerType

NORMAL_PRIORITY = 1024  # Calico's priority of a route that nothing raised; lower is preferred


class Direction(Enum):
    """Which way routes go."""

    IMPORT = "import"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules ask of a path. `as_numbers`: nearest first. `remote`: learned by BGP, not originated by us.

    `interface`: the one that leads to the next hop, None where that is not known, which matches no rule that names one.
    """

    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    as_numbers: tuple[int, ...] = ()
    remote: bool = True
    interface: str | None = None
    priority: int = NORMAL_PRIORITY


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule does with a route; `prepend` as the AS path will begin, `priority` None: left as it is."""

    accept: bool
    add_communities: tuple[int, ...] = ()
    add_large_communities: tuple[tuple[int, int, int], ...] = ()
    prepend: tuple[int, ...] = ()
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """A set of prefixes: those that begin as `start` and then, under `mask`, as `rest`, of a length in the range.

    `negated`: all others. It reads the wire form: the length and then the octets that it fills, so an octet that is
    compared is there, and the length is compared first.
    """

    shortest: int
    longest: int
    start: bytes
    mask: int = 0
    rest: int = 0
    negated: bool = False

    def matches(self, nlri: bytes) -> bool:
        """Whether `nlri` is in the set."""
        inside = (
            self.shortest <= nlri[0] <= self.longest
            and nlri.startswith(self.start, 1)
            and (not self.mask or nlri[1 + len(self.start)] & self.mask == self.rest)
        )
        return inside is not self.negated


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule in the order of its cost: the facts, then the prefix."""

    verdict: Verdict
    prefix: PrefixMatch | None = None
    community: int | None = None
    large_community: tuple[int, int, int] | None = None
    as_path: tuple[int, ...] = ()
    remote: bool = False
    interface: str | None = None
    priority: int | None = None

    def holds(self, facts: Facts) -> bool:
        """Whether all that is asked of the path holds."""
        return (
            (not self.remote or facts.remote)
            and (self.priority is None or facts.priority == self.priority)
            and (self.community is None or self.community in facts.communities)
            and (self.large_community is None or self.large_community in facts.large_communities)
            and facts.as_numbers[: len(self.as_path)] == self.as_path
            and (
                self.interface is None or (facts.interface is not None and fnmatchcase(facts.interface, self.interface))
            )
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """What rules come to for one path: `rules` in order, and `otherwise` for the prefixes that none of them matches."""

    rules: tuple[tuple[PrefixMatch, Verdict], ...] = ()
    otherwise: Verdict | None = None

    def verdict(self, nlri: bytes) -> Verdict | None:
        """The verdict on `nlri`; None: no rule matched."""
        for prefix, verdict in self.rules:
            if prefix.matches(nlri):
                return verdict
        return self.otherwise


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a peer for one direction and family, in order. Equal rules are equal values."""

    _rules: tuple[_Rule, ...] = ()
    depends_on_prefix: bool = field(default=False, compare=False)  # else the verdict is the same for all prefixes

    @classmethod
    def of(cls, filters: Iterable[BGPFilterSpec], direction: Direction, family: Family, *, ebgp: bool) -> Rules:
        """Compile `filters` for a peer that is in another AS (`ebgp`) or in ours."""
        written = chain.from_iterable(_written(spec, direction, family) for spec in filters)
        peer_type = PeerType.EBGP if ebgp else PeerType.IBGP
        rules = tuple(_compiled(rule) for rule in written if rule.peer_type in (None, peer_type))
        return cls(rules, any(rule.prefix is not None for rule in rules))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def given(self, facts: Facts) -> Decided:
        """The rules that are left for a path with `facts`. Worth keeping as long as many prefixes have the path."""
        left: list[tuple[PrefixMatch, Verdict]] = []
        for rule in self._rules:
            if rule.holds(facts):
                if rule.prefix is None:
                    return Decided(tuple(left), rule.verdict)
                left.append((rule.prefix, rule.verdict))
        return Decided(tuple(left))

    def evaluate(self, nlri: bytes, facts: Facts) -> Verdict | None:
        """The verdict on one prefix, an NLRI in wire form, of the first rule that matches; None when none does."""
        for rule in self._rules:
            if (rule.prefix is None or rule.prefix.matches(nlri)) and rule.holds(facts):
                return rule.verdict
        return None


def _written(spec: BGPFilterSpec, direction: Direction, family: Family) -> Sequence[FilterRule]:
    if direction is Direction.IMPORT:
        return spec.import_v4 if family is Family.IPV4 else spec.import_v6
    return spec.export_v4 if family is Family.IPV4 else spec.export_v6


def _compiled(rule: FilterRule) -> _Rule:
    community = rule.communities.values[0] if rule.communities is not None else None
    return _Rule(
        verdict=_verdict(rule),
        prefix=_prefix_match(rule),
        community=community.standard if community is not None else None,
        large_community=community.large if community is not None else None,
        as_path=rule.as_path_prefix,
        remote=rule.source is not None,
        interface=rule.interface,
        priority=rule.priority,
    )


def _prefix_match(rule: FilterRule) -> PrefixMatch | None:
    if rule.cidr is None:
        return None
    own = rule.cidr.prefixlen
    shortest: int = own
    longest: int = rule.cidr.max_prefixlen
    if rule.prefix_length is not None:
        if rule.prefix_length.min is not None:
            shortest = max(own, rule.prefix_length.min)  # no shorter prefix lies inside
        if rule.prefix_length.max is not None:
            longest = rule.prefix_length.max
    operator = rule.match_operator or MatchOperator.IN  # validate asks for one
    if operator in (MatchOperator.EQUAL, MatchOperator.NOT_EQUAL):
        longest = min(longest, own)
    octets = rule.cidr.network_address.packed
    whole, spare = divmod(own, 8)
    return PrefixMatch(
        shortest=shortest,
        longest=longest,
        start=octets[:whole],
        mask=0xFF00 >> spare & 0xFF,
        rest=octets[whole] if spare else 0,
        negated=operator in (MatchOperator.NOT_EQUAL, MatchOperator.NOT_IN),
    )


def _verdict(rule: FilterRule) -> Verdict:
    if rule.action is Action.REJECT:
        return Verdict(False)
    added = [operation.add_community.value for operation in rule.operations if operation.add_community is not None]
    priorities = [operation.set_priority.value for operation in rule.operations if operation.set_priority is not None]
    return Verdict(
        accept=True,
        add_communities=tuple(value.standard for value in added if value.standard is not None),
        add_large_communities=tuple(value.large for value in added if value.large is not None),
        prepend=tuple(chain.from_iterable(_prepended(rule))),
        priority=priorities[-1] if priorities else None,
    )


def _prepended(rule: FilterRule) -> Iterator[tuple[int, ...]]:
    """The numbers that go in front: what is prepended later stands before what was prepended earlier."""
    for operation in reversed(rule.operations):
        if operation.prepend_as_path is not None:
            yield operation.prepend_as_path.prefix

"""What BGPFilters must be for their rules to mean something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from routed.model.bgp_filter import Action, FilterRule, MatchOperator, Operation
from routed.model.problem import Problem
from routed.model.resources import BGPFilter

AS_TRANS = 23456  # RFC 6793 section 9: stands for an AS of four octets, and is nobody's


def filter_problems(filters: Iterable[BGPFilter]) -> Iterator[Problem]:
    """What is wrong with `filters`, each on its own."""
    for each in filters:
        spec = each.spec
        lists: tuple[tuple[str, Sequence[FilterRule]], ...] = (
            ("importV4", spec.import_v4),
            ("exportV4", spec.export_v4),
            ("importV6", spec.import_v6),
            ("exportV6", spec.export_v6),
        )
        for name, rules in lists:
            for index, rule in enumerate(rules):
                where = f"spec.{name}[{index}]"
                sent = _sent(rule) if name.startswith("export") else ()
                for field, message, hint in (*_match(rule), *_range(rule), *_operations(rule), *sent):
                    yield Problem("BGPFilter", each.name, f"{where}.{field}", message, hint)


def interface_problem(pattern: str) -> str | None:
    """Why `pattern` can match no interface, if so. Linux names them with up to 15 characters."""
    if not pattern or any(character.isspace() or character in "/:" for character in pattern):
        return f"{pattern!r} is no name of an interface"
    if len(pattern.replace("*", "")) > 15:
        return f"{pattern!r} is longer than an interface's name, which has 15 characters"
    return None


def as_problem(number: int | None) -> str | None:
    """Why `number`, which is in range, is the AS of nobody, if so."""
    if number == AS_TRANS:
        return f"{number} stands for AS numbers of four octets (RFC 6793) and is nobody's"
    return None


_Found = tuple[str, str, str]
_AS_HINT = "give a real AS number, e.g. a private one from 64512 to 65534"


def _match(rule: FilterRule) -> Iterator[_Found]:
    if rule.cidr is not None and rule.match_operator is None:
        choice = ", ".join(MatchOperator)
        yield "matchOperator", f"is missing beside cidr {rule.cidr}", f"expected one of {choice}"
    if rule.cidr is None and rule.match_operator is not None:
        yield "matchOperator", f"{rule.match_operator} compares with cidr, which is missing", "add cidr, or remove it"
    if rule.interface is not None and (fault := interface_problem(rule.interface)):
        yield "interface", fault, "expected a name, in which * and ? match"
    for index, number in enumerate(rule.as_path_prefix):
        if fault := as_problem(number):
            yield f"asPathPrefix[{index}]", fault, _AS_HINT


def _sent(rule: FilterRule) -> Iterator[_Found]:
    """What only means something for routes that come in."""
    if rule.interface is not None:
        message = "is not known of a route that is sent, so that the rule would match none"
        yield "interface", message, "match by cidr or communities, or put the rule under importV4 or importV6"
    for index, operation in enumerate(rule.operations):
        if operation.set_priority is not None:
            message = "a priority is this node's own, and is not sent"
            hint = "put it under importV4 or importV6, or add a community that the peer acts on"
            yield f"operations[{index}].setPriority", message, hint


def _range(rule: FilterRule) -> Iterator[_Found]:
    lengths = rule.prefix_length
    if lengths is None:
        return
    if rule.cidr is None:
        yield "prefixLength", "narrows cidr, which is missing", "add cidr and matchOperator, or remove it"
        return
    own, bits = rule.cidr.prefixlen, rule.cidr.max_prefixlen
    low = own if lengths.min is None else lengths.min
    high = bits if lengths.max is None else lengths.max
    expected = f"expected lengths from {own} to {bits}"
    if low > high:
        yield "prefixLength", f"no length is from {low} to {high}", f"{expected}, min no more than max"
    elif low < own:
        yield "prefixLength.min", f"no prefix inside {rule.cidr} is as short as /{low}", expected
    elif rule.match_operator in (MatchOperator.EQUAL, MatchOperator.NOT_EQUAL) and low > own:
        message = f"{rule.match_operator} compares with {rule.cidr} alone, which is no /{low} or longer"
        yield "prefixLength.min", message, "remove prefixLength, or use In or NotIn"


def _operations(rule: FilterRule) -> Iterator[_Found]:
    if rule.operations and rule.action is Action.REJECT:
        yield "operations", "change a route that is rejected", "remove them, or set action: Accept"
    for index, operation in enumerate(rule.operations):
        where = f"operations[{index}]"
        stated = _stated(operation)
        if len(stated) != 1:
            found = " and ".join(stated) or "none"
            yield where, f"an operation is one change, found {found}", "give each its own entry in the list"
        if operation.prepend_as_path is not None:
            for place, number in enumerate(operation.prepend_as_path.prefix):
                if fault := as_problem(number):
                    yield f"{where}.prependASPath.prefix[{place}]", fault, _AS_HINT


def _stated(operation: Operation) -> list[str]:
    fields = {
        "addCommunity": operation.add_community,
        "prependASPath": operation.prepend_as_path,
        "setPriority": operation.set_priority,
    }
    return [name for name, value in fields.items() if value is not None]

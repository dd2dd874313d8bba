"""BGPFilter rules, compiled and applied."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bgp.clusters import bgp_filter

from routed.model.address import AnyPrefix, Family
from routed.model.bgp_filter import Action, FilterRule, MatchOperator
from routed_bgp.filters import Direction, Facts, Rules, Verdict


def wire(prefix: AnyPrefix | str) -> bytes:
    """The NLRI of a prefix: its length, then as few octets as hold it."""
    prefix = ip_network(prefix)
    return bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]


def rules(*written: dict[str, Any], ebgp: bool = False, family: Family = Family.IPV4) -> Rules:
    name = "importV4" if family is Family.IPV4 else "importV6"
    return Rules.of([bgp_filter("f", **{name: list(written)}).spec], Direction.IMPORT, family, ebgp=ebgp)


def accepts(prefix: str, rule: dict[str, Any], facts: Facts | None = None, **options: Any) -> bool:
    verdict = rules({"action": "Accept", **rule}, **options).evaluate(wire(prefix), facts or Facts())
    return verdict is not None and verdict.accept


@pytest.mark.parametrize(
    ("operator", "lengths", "matched"),
    [
        ("Equal", None, {"10.244.0.0/16"}),
        ("Equal", {"max": 16}, {"10.244.0.0/16"}),
        ("NotEqual", None, {"10.244.128.0/17", "10.244.1.1/32", "10.244.0.0/15", "0.0.0.0/0", "11.0.0.0/8"}),
        ("In", None, {"10.244.0.0/16", "10.244.128.0/17", "10.244.1.1/32"}),
        ("In", {"min": 17, "max": 24}, {"10.244.128.0/17"}),
        ("In", {"min": 32}, {"10.244.1.1/32"}),
        ("In", {"max": 16}, {"10.244.0.0/16"}),
        ("NotIn", None, {"10.244.0.0/15", "0.0.0.0/0", "11.0.0.0/8"}),
        ("NotIn", {"max": 24}, {"10.244.1.1/32", "10.244.0.0/15", "0.0.0.0/0", "11.0.0.0/8"}),
    ],
)
def test_match_operators_and_lengths(operator: str, lengths: dict[str, int] | None, matched: set[str]) -> None:
    every = {"10.244.0.0/16", "10.244.128.0/17", "10.244.1.1/32", "10.244.0.0/15", "0.0.0.0/0", "11.0.0.0/8"}
    rule: dict[str, Any] = {"cidr": "10.244.0.0/16", "matchOperator": operator}
    if lengths is not None:
        rule["prefixLength"] = lengths
    assert {prefix for prefix in every if accepts(prefix, rule)} == matched


@pytest.mark.parametrize(
    ("rule", "facts", "holds"),
    [
        ({"communities": {"values": ["64512:1"]}}, Facts(communities=(5, 64512 << 16 | 1)), True),
        ({"communities": {"values": ["64512:1"]}}, Facts(large_communities=((64512, 1, 1),)), False),
        ({"communities": {"values": ["1:2:3"]}}, Facts(large_communities=((1, 2, 3),)), True),
        ({"communities": {"values": ["1:2:3"]}}, Facts(), False),
        ({"asPathPrefix": [65101, 65000]}, Facts(as_numbers=(65101, 65000, 65102)), True),
        ({"asPathPrefix": [65101, 65000]}, Facts(as_numbers=(65101,)), False),
        ({"asPathPrefix": [65000]}, Facts(as_numbers=(65101, 65000)), False),
        ({"source": "RemotePeers"}, Facts(remote=True), True),
        ({"source": "RemotePeers"}, Facts(remote=False), False),
        ({"interface": "eth*"}, Facts(interface="eth1"), True),
        ({"interface": "eth?"}, Facts(interface="eth10"), False),
        ({"interface": "*"}, Facts(interface=None), False),
        ({"priority": 512}, Facts(priority=512), True),
        ({"priority": 512}, Facts(), False),
        ({"source": "RemotePeers", "priority": 1024}, Facts(), True),
        ({"source": "RemotePeers", "priority": 512}, Facts(), False),
    ],
)
def test_all_that_a_rule_asks_of_the_path_must_hold(rule: dict[str, Any], facts: Facts, holds: bool) -> None:
    assert accepts("10.0.0.0/8", rule, facts) is holds


@pytest.mark.parametrize(
    ("kind", "ebgp", "holds"), [("eBGP", True, True), ("eBGP", False, False), ("iBGP", False, True)]
)
def test_a_rule_for_a_type_of_peer(kind: str, ebgp: bool, holds: bool) -> None:
    assert accepts("10.0.0.0/8", {"peerType": kind}, ebgp=ebgp) is holds


def test_the_first_rule_that_matches_decides_across_filters() -> None:
    first = bgp_filter("one", importV4=[{"action": "Reject", "cidr": "10.0.0.0/8", "matchOperator": "Equal"}]).spec
    second = bgp_filter("two", importV4=[{"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In"}]).spec
    both = Rules.of([first, second], Direction.IMPORT, Family.IPV4, ebgp=True)
    found = [both.evaluate(wire(prefix), Facts()) for prefix in ("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8")]
    assert [verdict and verdict.accept for verdict in found] == [False, True, None]


def test_directions_and_families_have_rules_of_their_own() -> None:
    spec = bgp_filter("f", exportV6=[{"action": "Reject"}]).spec
    found = {
        (direction, family): bool(Rules.of([spec], direction, family, ebgp=True))
        for direction in Direction
        for family in Family
    }
    assert {key for key, there in found.items() if there} == {(Direction.EXPORT, Family.IPV6)}


def test_operations_in_order() -> None:
    written = {
        "action": "Accept",
        "operations": [
            {"addCommunity": {"value": "1:2"}},
            {"prependASPath": {"prefix": [65000, 65001]}},
            {"addCommunity": {"value": "1:2:3"}},
            {"prependASPath": {"prefix": [65002]}},
            {"setPriority": {"value": 7}},
            {"setPriority": {"value": 512}},
        ],
    }
    assert rules(written).evaluate(wire("10.0.0.0/8"), Facts()) == Verdict(
        accept=True,
        add_communities=(1 << 16 | 2,),
        add_large_communities=((1, 2, 3),),
        prepend=(65002, 65000, 65001),
        priority=512,
    )


def test_rules_depend_on_the_prefix_only_if_one_names_a_cidr() -> None:
    assert not rules({"action": "Reject"}).depends_on_prefix
    assert rules({"action": "Reject", "cidr": "0.0.0.0/0", "matchOperator": "In"}).depends_on_prefix
    foreign = {"action": "Reject", "cidr": "0.0.0.0/0", "matchOperator": "In", "peerType": "eBGP"}
    assert not rules(foreign, ebgp=False).depends_on_prefix


def test_equal_rules_are_equal_and_serve_as_a_key() -> None:
    written = {"action": "Reject", "cidr": "10.0.0.0/8", "matchOperator": "In"}
    assert {rules(written): 1}[rules(written)] == 1
    assert rules(written) != rules({**written, "action": "Accept"})


# ---- against a naive reference, which reads the rules as they are written


def naive(written: list[FilterRule], prefix: AnyPrefix, facts: Facts, peer_type: str) -> bool | None:
    for rule in written:
        asked: list[bool] = []
        if rule.cidr is not None:
            equal = prefix == rule.cidr
            within = prefix.network_address in rule.cidr and prefix.prefixlen >= rule.cidr.prefixlen
            if rule.prefix_length is not None:
                low = rule.prefix_length.min if rule.prefix_length.min is not None else rule.cidr.prefixlen
                high = rule.prefix_length.max if rule.prefix_length.max is not None else prefix.max_prefixlen
                equal = equal and low <= prefix.prefixlen <= high
                within = within and low <= prefix.prefixlen <= high
            asked.append(
                {
                    MatchOperator.EQUAL: equal,
                    MatchOperator.NOT_EQUAL: not equal,
                    MatchOperator.IN: within,
                    MatchOperator.NOT_IN: not within,
                }[rule.match_operator or MatchOperator.IN]
            )
        if rule.peer_type is not None:
            asked.append(rule.peer_type == peer_type)
        if rule.source is not None:
            asked.append(facts.remote)
        if rule.interface is not None:
            asked.append(facts.interface is not None and fnmatchcase(facts.interface, rule.interface))
        if rule.communities is not None:
            value = rule.communities.values[0]
            asked.append(value.standard in facts.communities or value.large in facts.large_communities)
        if rule.as_path_prefix:
            asked.append(list(facts.as_numbers)[: len(rule.as_path_prefix)] == list(rule.as_path_prefix))
        if rule.priority is not None:
            asked.append(facts.priority == rule.priority)
        if all(asked):
            return rule.action is Action.ACCEPT
    return None


def near(bits: int) -> st.SearchStrategy[AnyPrefix]:
    """Prefixes that lie near one another, so that rules match."""
    kind = IPv4Network if bits == 32 else IPv6Network
    base = 0b1010 << (bits - 4)
    return st.tuples(st.integers(0, 255), st.integers(0, bits)).map(
        lambda pair: kind((base | pair[0] << (bits - 12), pair[1]), strict=False)
    )


def written_rules(bits: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    lengths = st.fixed_dictionaries({}, optional={"min": st.integers(0, 16), "max": st.integers(8, bits)})
    match = st.fixed_dictionaries(
        {"cidr": near(bits).map(str), "matchOperator": st.sampled_from([*MatchOperator])},
        optional={"prefixLength": lengths},
    )
    facts = st.fixed_dictionaries(
        {"action": st.sampled_from(["Accept", "Reject"])},
        optional={
            "source": st.just("RemotePeers"),
            "interface": st.sampled_from(["eth*", "eth0", "?"]),
            "peerType": st.sampled_from(["eBGP", "iBGP"]),
            "communities": st.sampled_from([{"values": ["1:1"]}, {"values": ["1:1:1"]}]),
            "asPathPrefix": st.lists(st.sampled_from([1, 2]), min_size=1, max_size=2),
            "priority": st.sampled_from([512, 1024]),
        },
    )
    rule = st.tuples(facts, st.just({}) | match).map(lambda halves: {**halves[0], **halves[1]})
    return st.lists(rule, max_size=5)


FACTS = st.builds(
    Facts,
    communities=st.sampled_from([(), (1 << 16 | 1,)]),
    large_communities=st.sampled_from([(), ((1, 1, 1),)]),
    as_numbers=st.lists(st.sampled_from([1, 2]), max_size=3).map(tuple),
    remote=st.booleans(),
    interface=st.sampled_from([None, "eth0", "x"]),
    priority=st.sampled_from([512, 1024]),
)


@pytest.mark.parametrize(("family", "bits"), [(Family.IPV4, 32), (Family.IPV6, 128)], ids=["ipv4", "ipv6"])
@given(st.data())
def test_compiled_rules_say_what_the_written_rules_say(family: Family, bits: int, data: st.DataObject) -> None:
    prefix, facts, ebgp = data.draw(near(bits)), data.draw(FACTS), data.draw(st.booleans())
    name = "exportV4" if family is Family.IPV4 else "exportV6"
    spec = bgp_filter("f", **{name: data.draw(written_rules(bits))}).spec
    written: list[FilterRule] = [*spec.export_v4, *spec.export_v6]
    compiled = Rules.of([spec], Direction.EXPORT, family, ebgp=ebgp)
    verdict = compiled.evaluate(wire(prefix), facts)
    expected = naive(written, prefix, facts, "eBGP" if ebgp else "iBGP")
    assert (None if verdict is None else verdict.accept) == expected
    assert compiled.given(facts).verdict(wire(prefix)) == verdict
    if not compiled.depends_on_prefix:
        assert compiled.evaluate(b"\0", facts) == verdict

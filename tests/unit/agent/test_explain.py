"""From the decision to the kernel's word: whether the two agree, and what is in the way if not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from routed.agent.explain import Seen, as_told, conclude, find_pod
from routed.agent.explainer import parse
from routed.errors import OperatorError
from routed.model.endpoint import Endpoint
from routed_felix.fib import FibAnswer
from routed_felix.state import Encapsulation, Forwarding, Hop, Reason, RouteKey, Settings, Why

ADDRESS, TOR, MEMBER = IPv4Address("10.244.3.7"), IPv4Address("10.1.1.1"), IPv4Address("10.2.2.21")
BLOCK = IPv4Network("10.244.3.0/24")
DIRECT, TUNNEL = Hop("eth1", TOR), Hop("tunl0", MEMBER, onlink=True)
VXLAN = Hop("vxlan.routed", MEMBER, onlink=True)
POD = Endpoint("c0ffee11", "eth0", IPv4Address("10.244.1.5"), "rtd0011")


def decided(encapsulation: Encapsulation, *hops: Hop, programmed: bool = True) -> Forwarding:
    key = RouteKey(BLOCK, 1024) if programmed else None
    return Forwarding(BLOCK, encapsulation, Reason(Why.FABRIC, "the reason"), hops, key)


def ours(*hops: Hop, **more: Any) -> FibAnswer:
    said: dict[str, Any] = {"prefix": BLOCK, "protocol": 114, "metric": 1024, "ways": hops, "hop": hops[0]}
    return FibAnswer("unicast", **{**said, **more})


def seen(decision: Forwarding | None, kernel: FibAnswer, **more: Any) -> Seen:
    known: dict[str, Any] = {
        "node": "a1",
        "address": ADDRESS,
        "pod": None,
        "learned": None,
        "paths": (),
        "pool": "pods",
        "owner": "b1",
        "outer": None,
        "failure": None,
        "settings": Settings(),
    }
    return Seen(decision=decision, kernel=kernel, **{**known, **more})


AGREED = {
    "direct": (decided(Encapsulation.DIRECT, DIRECT), ours(DIRECT)),
    "tunnel": (decided(Encapsulation.TUNNEL, TUNNEL), ours(TUNNEL)),
    "VXLAN": (decided(Encapsulation.VXLAN, VXLAN), ours(VXLAN)),
    "shared, in any order": (decided(Encapsulation.DIRECT, DIRECT, Hop("eth2", TOR)), ours(Hop("eth2", TOR), DIRECT)),
    "an address of the node": (None, FibAnswer("local", prefix=BLOCK)),
    "not ours to decide": (None, ours(DIRECT, protocol=3, metric=0)),
}


@pytest.mark.parametrize("case", AGREED, ids=str)
def test_the_kernel_does_what_was_decided(case: str) -> None:
    found = conclude(seen(*AGREED[case]))
    assert (found.agrees, found.forwarded) == (True, True)


def test_a_pods_address_on_an_interface_of_the_node_is_no_agreement() -> None:
    found = conclude(seen(decided(Encapsulation.LOCAL, Hop("rtd0011")), FibAnswer("local", prefix=BLOCK)))
    assert not found.agrees
    assert "ip address show to 10.244.3.7" in found.hint


def test_the_command_in_the_hint_can_hit_no_route_but_the_one_it_is_about() -> None:
    found = conclude(seen(decided(Encapsulation.DIRECT, DIRECT), ours(DIRECT, protocol=4, metric=10)))
    assert found.hint.endswith("ip route del 10.244.3.0/24 proto 4 metric 10")


def test_an_address_that_no_pod_has_goes_nowhere_as_it_should() -> None:
    found = conclude(seen(decided(Encapsulation.BLACKHOLE), FibAnswer("blackhole")))
    assert (found.agrees, found.forwarded) == (True, False)


def test_an_address_that_nobody_announces_goes_nowhere_and_the_hint_names_the_owner() -> None:
    found = conclude(seen(None, FibAnswer("no route")))
    assert (found.agrees, found.forwarded) == (True, False)
    assert "node b1" in found.hint


IN_THE_WAY = {
    "a longer route": (ours(DIRECT, prefix=IPv4Network("10.244.3.0/25"), protocol=4), "longer route", "10.244.3.0/25"),
    "a lower metric": (ours(DIRECT, protocol=4, metric=10), "lower metric", "protocol 4"),
    "a route of our key": (ours(DIRECT, protocol=4), "in the place of ours", "protocol 4"),
    "ours is missing": (ours(DIRECT, prefix=IPv4Network("0.0.0.0/0"), protocol=4, metric=0), "not there", "0.0.0.0/0"),
    "a policy rule": (ours(DIRECT, table=100), "table 100", "policy rule"),
    "another next hop": (ours(Hop("eth1", IPv4Address("10.1.1.9"))), "another next hop", "eth1 via 10.1.1.1"),
    "a blackhole": (FibAnswer("blackhole"), "blackhole", "not what was decided"),
    "rp_filter": (FibAnswer("refused by rp_filter"), "rp_filter", "drops"),
}


@pytest.mark.parametrize("case", IN_THE_WAY, ids=str)
def test_what_is_in_the_way_is_named(case: str) -> None:
    kernel, *words = IN_THE_WAY[case]
    found = conclude(seen(decided(Encapsulation.DIRECT, DIRECT), kernel))
    assert not found.agrees
    for word in words:
        assert word in found.text


def test_a_refusal_of_the_kernel_is_the_reason() -> None:
    kernel = ours(DIRECT, prefix=IPv4Network("0.0.0.0/0"), protocol=4, metric=0)
    found = conclude(seen(decided(Encapsulation.DIRECT, DIRECT), kernel, failure="No space left on device"))
    assert (found.agrees, found.forwarded) == (False, False)
    assert "No space left on device" in found.text


def test_what_is_not_programmed_says_why_and_what_is_left() -> None:
    kernel = ours(DIRECT, prefix=IPv4Network("0.0.0.0/0"), protocol=4, metric=0)
    found = conclude(seen(decided(Encapsulation.TUNNEL, TUNNEL, programmed=False), kernel))
    assert not found.agrees
    assert "the reason" in found.text
    assert "0.0.0.0/0" in found.text


def test_all_of_it_is_told() -> None:
    told = as_told(seen(decided(Encapsulation.TUNNEL, TUNNEL), ours(TUNNEL), pod=POD, outer=ours(DIRECT)))
    assert told["from"]["host_interface"] == "rtd0011"
    assert told["decision"]["next_hops"] == [{"device": "tunl0", "gateway": "10.2.2.21"}]
    assert told["kernel"]["taken"] == {"device": "tunl0", "gateway": "10.2.2.21"}
    assert told["outer"]["taken"] == {"device": "eth1", "gateway": "10.1.1.1"}
    assert (told["agrees"], told["forwarded"], told["owner"]) == (True, True, "b1")


# ---- whose packets


ENDPOINTS = {each.address: each for each in (POD, replace(POD, address=IPv4Address("10.244.1.6"), interface="eth1"))}
NAMES = {POD.address: "shop/cart"}


@pytest.mark.parametrize("word", ["10.244.1.5", "rtd0011", "shop/cart", "cart"])
def test_a_pod_is_found_by(word: str) -> None:
    first = {POD.address: POD}
    assert find_pod(word, first, NAMES) is POD


def test_a_pod_is_found_by_the_beginning_of_its_container_id() -> None:
    assert find_pod("c0ff", {POD.address: POD}, {}) is POD


@pytest.mark.parametrize(("word", "why"), [("nobody", "no pod of this node"), ("c0ffee11", "several pods")])
def test_a_word_for_none_or_several_pods_is_refused_with_what_there_is(word: str, why: str) -> None:
    with pytest.raises(OperatorError, match=why) as caught:
        find_pod(word, ENDPOINTS, NAMES)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "10.1.1", "10.1.1.0/24", "fe80::1%eth0/64", "pod"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="is no address"):
        parse(text)

"""What a pod's annotations, its namespace's and the network configuration ask for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import OperatorError
from routed.ipam.request import CAPABILITY, wish_of
from routed.ipam.wish import Wish, eligible
from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.resources import Metadata, Namespace

from .cluster import node, pool

V4, V6 = Family.IPV4, Family.IPV6
POOLS4, POOLS6 = "cni.projectcalico.org/ipv4pools", "cni.projectcalico.org/ipv6pools"
ADDRESSES = "cni.projectcalico.org/ipAddrs"


def shop(**annotations: str) -> Cluster:
    named = {f"cni.projectcalico.org/{name}": value for name, value in annotations.items()}
    return Cluster.of([Namespace(metadata=Metadata("shop", {"team": "shop"}, named))])


def wish(annotations: dict[str, str] | None = None, cluster: Cluster | None = None, **ipam: Any) -> Wish:
    configuration: dict[str, Any] = {"name": "n", "ipam": ipam}
    if annotations is not None:
        configuration["runtimeConfig"] = {CAPABILITY: annotations}
    return wish_of(configuration, "shop", cluster or Cluster())


def test_who_asks_for_nothing_gets_whatever_is_there():
    assert wish() == wish({}) == wish({"cni.projectcalico.org/podIP": "10.1.1.1/32", "other": "x"}) == Wish()


def test_the_pods_annotation_goes_before_its_namespaces_and_that_before_the_configuration():
    cluster = shop(ipv4pools='["theirs"]')
    assert wish({POOLS4: '["mine"]'}, cluster, ipv4_pools=["all"]).pools == {V4: ("mine",)}
    assert wish({}, cluster, ipv4_pools=["all"]).pools == {V4: ("theirs",)}
    assert wish({}, ipv4_pools=["all"], ipv6_pools=["fd00::/64"]).pools == {V4: ("all",), V6: ("fd00::/64",)}


def test_each_family_is_looked_up_by_itself():
    assert wish({POOLS6: '["six"]'}, shop(ipv4pools='["four"]')).pools == {V4: ("four",), V6: ("six",)}


def asked_by_runtime(ips: object, annotations: dict[str, str] | None = None, argument: str = "") -> Wish:
    return wish_of({"runtimeConfig": {"ips": ips, CAPABILITY: annotations or {}}}, "", Cluster(), argument)


def test_the_runtimes_addresses_go_before_the_annotations_and_their_prefixes_mean_nothing():
    """CNI conventions, capability `ips`: a list of `IP[/PREFIX]`."""
    asked = asked_by_runtime(["10.1.0.7/24", "fd00::7"], {ADDRESSES: '["10.1.0.8"]'})
    assert asked.addresses == {V4: IPv4Address("10.1.0.7"), V6: IPv6Address("fd00::7")}
    assert asked.families == (V4, V6)
    for none in ([], None):
        assert asked_by_runtime(none, {ADDRESSES: '["10.1.0.8"]'}).addresses == {V4: IPv4Address("10.1.0.8")}


def test_the_argument_ip_counts_where_the_capability_is_not_given():
    """CNI conventions, CNI_ARGS: `IP`, which a capability of the same meaning goes before."""
    assert asked_by_runtime([], {ADDRESSES: '["10.1.0.8"]'}, "10.1.0.9,fd00::9/64").addresses == {
        V4: IPv4Address("10.1.0.9"),
        V6: IPv6Address("fd00::9"),
    }
    assert asked_by_runtime(["10.1.0.7"], {}, "10.1.0.9").addresses == {V4: IPv4Address("10.1.0.7")}
    with pytest.raises(OperatorError, match="IP in CNI_ARGS is ''"):
        asked_by_runtime([], {}, "10.1.0.9,")


@pytest.mark.parametrize("ips", ["10.1.0.7", [7], ["x"], ["10.1.0.0/33"], ["10.1.0.1", "10.1.0.2"], {"a": 1}])
def test_addresses_of_the_runtime_that_cannot_be_are_refused(ips: object):
    with pytest.raises(OperatorError, match=r"runtimeConfig\.ips is"):
        asked_by_runtime(ips)


def test_addresses_by_name_are_the_only_ones():
    asked = wish({ADDRESSES: '["fd00::7", "10.1.0.7"]'}, ipv4_pools=["all"])
    assert asked.addresses == {V4: IPv4Address("10.1.0.7"), V6: IPv6Address("fd00::7")}
    assert asked.families == (V4, V6)
    assert wish({ADDRESSES: '["10.1.0.7"]'}).families == (V4,)


@pytest.mark.parametrize(
    ("ipam", "families"),
    [
        ({"assign_ipv4": "true"}, None),
        ({"assign_ipv4": "true", "assign_ipv6": "true"}, (V4, V6)),
        ({"assign_ipv6": True}, (V4, V6)),
        ({"assign_ipv6": "false"}, (V4,)),
        ({"assign_ipv4": False}, (V6,)),
    ],
)
def test_the_configuration_chooses_families(ipam: dict[str, Any], families: object):
    assert wish(**ipam).families == families


WRONG: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({POOLS4: "pods"}, {}, f"pod annotation {POOLS4} is 'pods'"),
    ({POOLS4: "[]"}, {}, f"pod annotation {POOLS4} is '[]'"),
    ({POOLS6: "[1]"}, {}, f"pod annotation {POOLS6} is '[1]'"),
    ({ADDRESSES: '["10.1.0.300"]'}, {}, f"pod annotation {ADDRESSES} is '10.1.0.300'"),
    ({ADDRESSES: '["10.1.0.1", "10.1.0.2"]'}, {}, f"pod annotation {ADDRESSES} is"),
    ({ADDRESSES: '["10.1.0.1/24"]'}, {}, f"pod annotation {ADDRESSES} is '10.1.0.1/24'"),
    ({"cni.projectcalico.org/ipAddrsNoIpam": "[]"}, {}, "ipAddrsNoIpam is not supported"),
    ({}, {"assign_ipv4": "yes"}, "ipam.assign_ipv4 of the network configuration is 'yes'"),
    ({}, {"assign_ipv4": "false", "assign_ipv6": "false"}, "neither IPv4 nor IPv6"),
    ({}, {"ipv4_pools": "pods"}, "ipam.ipv4_pools of the network configuration is 'pods'"),
    ({}, {"subnet": "10.0.0.0/8"}, "ipam.subnet of the network configuration is not supported"),
]


@pytest.mark.parametrize(("annotations", "ipam", "message"), WRONG, ids=[case[2] for case in WRONG])
def test_what_cannot_be_understood_is_refused_with_its_place_and_value(
    annotations: dict[str, str], ipam: dict[str, Any], message: str
):
    with pytest.raises(OperatorError) as caught:
        wish(annotations, **ipam)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_wrong_annotation_of_the_namespace_names_the_namespace():
    with pytest.raises(OperatorError, match=f"namespace shop annotation {POOLS4} is 'x'"):
        wish({}, shop(ipv4pools="x"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, JSON)
def test_nothing_that_a_runtime_sends_makes_it_fail_otherwise_than_with_its_own_error(ipam: Any, runtime: Any):
    for handed_on in (runtime, {CAPABILITY: runtime}, {CAPABILITY: {POOLS4: runtime}}, {"ips": runtime}):
        try:
            wish_of({"ipam": ipam, "runtimeConfig": handed_on}, "shop", Cluster())
        except OperatorError:
            continue


def test_a_pool_for_some_namespaces_serves_the_pods_of_these():
    cluster = Cluster.of(
        [
            pool("10.1.0.0/24", "shops", namespaceSelector="team == 'shop'"),
            pool("10.2.0.0/24", "others", namespaceSelector="team != 'shop'"),
            node("a"),
            *shop().namespaces.values(),
        ]
    )
    pools, refusals = eligible(cluster, "a", V4, wish({}, cluster))
    assert [each.name for each in pools] == ["shops"]
    assert [each.pool for each in refusals] == ["others"]

"""Resources to JSON and back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import EnvironmentFault
from routed.model.bgp import (
    BFDTimers,
    BGPPassword,
    CIDRBlock,
    NamedCommunity,
    NextHopMode,
    PrefixAdvertisement,
    SecretKeySelector,
)
from routed.model.bgp_filter import (
    Action,
    AddCommunity,
    BGPFilterSpec,
    CommunityMatch,
    FilterRuleV4,
    FilterRuleV6,
    MatchOperator,
    Operation,
    PrefixLengthV4,
    PrependASPath,
)
from routed.model.codec import decode_hook, decode_json, encode_json, resource_key
from routed.model.fields import AnyAddressField, AnyPrefixField, Community, Duration, PeerAddress
from routed.model.resources import (
    BGPConfiguration,
    BGPConfigurationSpec,
    BGPFilter,
    BGPPeer,
    BGPPeerSpec,
    EncapsulationMode,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeBGPSpec,
    NodeSpec,
)
from routed.model.selector import Selector

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
ADDRESSES6 = st.integers(0, 2**128 - 1).map(IPv6Address)
PREFIXES = st.tuples(ADDRESSES, st.integers(0, 32)).map(lambda pair: IPv4Network(pair, strict=False))
PREFIXES6 = st.tuples(ADDRESSES6, st.integers(0, 128)).map(lambda pair: IPv6Network(pair, strict=False))
HOSTS = st.tuples(ADDRESSES, st.integers(0, 32)).map(IPv4Interface)
HOSTS6 = st.tuples(ADDRESSES6, st.integers(0, 128)).map(IPv6Interface)
AS_NUMBERS = st.integers(1, 2**32 - 1)
PORTS = st.integers(1, 65535)
DURATIONS = st.builds(Duration, milliseconds=st.integers(0, 10**7))
PEERS = st.builds(PeerAddress, ADDRESSES | ADDRESSES6, st.none() | PORTS)
STANDARD = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda numbers: Community(*numbers))
LARGE = st.tuples(*[st.integers(0, 2**32 - 1)] * 3).map(lambda numbers: Community(*numbers))
COMMUNITIES = STANDARD | LARGE
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
METADATA = st.builds(Metadata, NAMES, st.dictionaries(TEXT, TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=2))
PASSWORDS = st.builds(BGPPassword, st.builds(SecretKeySelector, NAMES, NAMES))


def few(each):
    return st.lists(each, max_size=3).map(tuple)


OPERATIONS = st.builds(Operation, add_community=st.builds(AddCommunity, COMMUNITIES)) | st.builds(
    Operation, prepend_as_path=st.builds(PrependASPath, st.lists(AS_NUMBERS, min_size=1, max_size=10).map(tuple))
)
RULES4 = st.builds(
    FilterRuleV4,
    action=st.sampled_from(Action),
    match_operator=st.none() | st.sampled_from(MatchOperator),
    cidr=st.none() | PREFIXES,
    prefix_length=st.none() | st.builds(PrefixLengthV4, st.none() | st.integers(0, 32), st.none() | st.integers(0, 32)),
    communities=st.none() | COMMUNITIES.map(lambda value: CommunityMatch((value,))),
    as_path_prefix=few(AS_NUMBERS),
    operations=few(OPERATIONS),
)
RULES6 = st.builds(FilterRuleV6, action=st.sampled_from(Action), cidr=st.none() | PREFIXES6)
RESOURCES = st.one_of(
    st.builds(
        Node,
        metadata=METADATA,
        spec=st.builds(
            NodeSpec,
            bgp=st.builds(
                NodeBGPSpec,
                ipv4_address=HOSTS,
                as_number=st.none() | AS_NUMBERS,
                ipv6_address=st.none() | HOSTS6,
                route_reflector_cluster_id=st.none() | ADDRESSES,
            ),
            pod_cidrs=few(PREFIXES | PREFIXES6),
        ),
    ),
    st.builds(
        IPPool,
        metadata=METADATA,
        spec=st.builds(
            IPPoolSpec,
            cidr=PREFIXES | PREFIXES6,
            ipip_mode=st.sampled_from(EncapsulationMode),
            disabled=st.booleans(),
        ),
    ),
    st.builds(
        BGPPeer,
        metadata=METADATA,
        spec=st.builds(
            BGPPeerSpec,
            peer_ip=st.none() | PEERS,
            as_number=st.none() | AS_NUMBERS,
            node=st.none() | NAMES,
            node_selector=st.none() | st.just(Selector("rack == 'a' && !has(spine)")),
            next_hop_mode=st.none() | st.sampled_from(NextHopMode),
            password=st.none() | PASSWORDS,
            hold_time=st.none() | DURATIONS,
            reachable_by=st.none() | ADDRESSES | ADDRESSES6,
            filters=few(NAMES),
            bfd=st.none() | st.builds(BFDTimers, DURATIONS, st.integers(2, 255)),
        ),
    ),
    st.builds(
        BGPConfiguration,
        metadata=METADATA,
        spec=st.builds(
            BGPConfigurationSpec,
            as_number=AS_NUMBERS,
            listen_port=PORTS,
            node_mesh_password=st.none() | PASSWORDS,
            communities=few(st.builds(NamedCommunity, NAMES, COMMUNITIES)),
            prefix_advertisements=few(st.builds(PrefixAdvertisement, PREFIXES | PREFIXES6, few(TEXT))),
            service_cluster_ips=few(st.builds(CIDRBlock, PREFIXES | PREFIXES6)),
        ),
    ),
    st.builds(
        BGPFilter,
        metadata=METADATA,
        spec=st.builds(BGPFilterSpec, few(RULES4), few(RULES4), few(RULES6), few(RULES6)),
    ),
)


@given(RESOURCES)
def test_every_resource_survives_the_store(resource):
    assert decode_json(encode_json(resource)) == resource


@given(RESOURCES)
def test_the_stores_form_is_ordered_as_manifests_are(resource):
    text = encode_json(resource)
    places = [text.index(b'"%s":' % name) for name in (b"apiVersion", b"kind", b"metadata", b"spec")]
    assert places == sorted(places)


@given(PREFIXES | PREFIXES6)
def test_a_prefix_is_read_as_it_is_written(prefix):
    assert decode_hook(type(prefix), str(prefix)) == prefix
    assert decode_hook(AnyPrefixField, str(prefix)) == prefix


@given(ADDRESSES | ADDRESSES6)
def test_an_address_of_either_family_is_read_as_it_is_written(address):
    assert decode_hook(AnyAddressField, str(address)) == address


@given(DURATIONS | PEERS | COMMUNITIES)
def test_a_text_type_is_read_as_it_is_written(value):
    assert decode_hook(type(value), str(value)) == value


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("90s", 90_000), ("1m30s", 90_000), ("300ms", 300), ("1.5s", 1500), ("1h", 3_600_000)]
)
def test_a_time_is_read_as_kubernetes_writes_it(text, milliseconds):
    assert Duration.parse(text).milliseconds == milliseconds


@pytest.mark.parametrize("value", ["", "90", "s", "90 s", "-1s", "1d", "9s9", 90, None])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match=r"is no time|Expected text"):
        decode_hook(Duration, value)


@pytest.mark.parametrize(
    ("text", "ip", "port"),
    [
        ("10.1.1.1", "10.1.1.1", None),
        ("10.1.1.1:1179", "10.1.1.1", 1179),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:1179", "2001:db8::1", 1179),
    ],
)
def test_a_peer_is_an_address_with_or_without_a_port(text, ip, port):
    found = PeerAddress.parse(text)
    assert (str(found.ip), found.port, str(found)) == (ip, port, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tor",
        "10.1.1.1:",
        "10.1.1.1:0",
        "10.1.1.1:65536",
        "10.1.1.1:x",
        "[10.1.1.1]:179",
        "[2001:db8::1]",
        "2001:db8::1:x",
        "[2001:db8::1]:",
        "[]:1",
        "fe80::1%eth0",
        "10.1.1.1/32",
        "[fe80::1%eth0]:179",
    ],
)
def test_what_is_no_peer_is_refused(text):
    with pytest.raises(ValueError, match=r"is no address of a peer|is no port|link-local"):
        PeerAddress.parse(text)


@pytest.mark.parametrize(
    "text", ["", "64512", "64512:", ":1", "a:b", "65536:1", "1:65536", "1:2:3:4", "4294967296:1:1", "-1:2", "1 :2"]
)
def test_what_is_no_community_is_refused(text):
    with pytest.raises(ValueError, match=r"is no community|is out of range"):
        Community.parse(text)


def test_a_community_is_standard_or_large():
    assert (Community.parse("64512:100").standard, Community.parse("64512:100").large) == (64512 << 16 | 100, None)
    assert (Community.parse("1:2:3").standard, Community.parse("1:2:3").large) == (None, (1, 2, 3))


def test_an_ipv6_prefix_may_be_spelled_in_any_way_but_without_host_bits():
    assert decode_hook(AnyPrefixField, "2001:DB8:0::/48") == IPv6Network("2001:db8::/48")
    with pytest.raises(ValueError, match=r"did you mean 2001:db8::/64\?"):
        decode_hook(IPv6Network, "2001:db8::1/64")


@pytest.mark.parametrize(
    ("wanted", "text", "message"),
    [
        (IPv6Network, "10.0.0.0/8", "is no IPv6 prefix"),
        (AnyPrefixField, "2001:db8::", "is no IPv6 prefix"),
        (AnyPrefixField, "fe80::%eth0/64", "is no IPv6 prefix"),
        (IPv6Interface, "10.1.1.1/24", "is no IPv6 address with prefix length"),
        (IPv6Interface, "fe80::1%eth0/64", "is no IPv6 address with prefix length"),
        (AnyAddressField, "fe80::1%eth0", "is no address"),
        (AnyAddressField, 1, "is no address"),
    ],
)
def test_what_is_of_another_family_or_names_an_interface_is_refused(wanted, text, message):
    with pytest.raises(ValueError, match=message):
        decode_hook(wanted, text)


def test_a_secret_stays_in_its_directory():
    for name in ("..", "a/b", "", ".hidden"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"secretKeyRef": {"name": "ok", "key": name}}, BGPPassword)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"secretKeyRef": {"name": name, "key": "ok"}}, BGPPassword)


@pytest.mark.parametrize(
    "text", ["10.1.1.1/24", "10.1.1.0", "10.1.1.0/255.255.255.0", "10.1.1.0/33", "", "10.1.1.0/ 24", 5]
)
def test_what_is_not_exactly_a_prefix_is_refused(text):
    with pytest.raises(ValueError, match="is no prefix"):
        decode_hook(IPv4Network, text)


def test_a_prefix_with_host_bits_is_refused_with_the_right_one():
    with pytest.raises(ValueError, match=r"did you mean 10\.1\.1\.0/24\?"):
        decode_hook(IPv4Network, "10.1.1.77/24")


@pytest.mark.parametrize("text", ["10.1.1.1", "10.1.1.1/99", "10.1.1.1/255.0.0.0", 3232235777, None, "::1/64"])
def test_what_is_not_an_address_with_its_length_is_refused(text):
    with pytest.raises(ValueError, match=r"is no address with prefix length, e\.g\. 10\.1\.1\.11/24"):
        decode_hook(IPv4Interface, text)


@pytest.mark.parametrize("text", ["10.1.1", "10.1.1.1/32", 3232235777, True, "010.1.1.1"])
def test_what_is_not_an_address_is_refused(text):
    with pytest.raises(ValueError, match="is no IPv4 address"):
        decode_hook(IPv4Address, text)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"kind":"Node"}', b'{"kind":"Later","metadata":{"name":"x"}}'])
def test_what_another_version_stored_is_a_fault_that_names_the_key(data):
    with pytest.raises(EnvironmentFault, match="/routed/v1/resources/Node/a1"):
        decode_json(data, key=resource_key("Node", "a1"))


def test_a_name_does_not_end_in_a_line_end():
    with pytest.raises(EnvironmentFault, match="matching regex"):
        decode_json(
            b'{"apiVersion":"projectcalico.org/v3","kind":"BGPConfiguration","metadata":{"name":"a\\n"},"spec":{}}'
        )

"""Resources to JSON and back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import EnvironmentFault
from routed.model.codec import decode_hook, decode_json, encode_json, resource_key
from routed.model.resources import (
    BGPConfiguration,
    BGPConfigurationSpec,
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

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
PREFIXES = st.tuples(ADDRESSES, st.integers(0, 32)).map(lambda pair: IPv4Network(pair, strict=False))
HOSTS = st.tuples(ADDRESSES, st.integers(0, 32)).map(IPv4Interface)
AS_NUMBERS = st.integers(1, 2**32 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
METADATA = st.builds(Metadata, NAMES, st.dictionaries(TEXT, TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=2))
RESOURCES = st.one_of(
    st.builds(
        Node,
        metadata=METADATA,
        spec=st.builds(
            NodeSpec,
            bgp=st.builds(NodeBGPSpec, ipv4_address=HOSTS, as_number=st.none() | AS_NUMBERS),
            pod_cidrs=st.lists(PREFIXES, max_size=3).map(tuple),
        ),
    ),
    st.builds(
        IPPool,
        metadata=METADATA,
        spec=st.builds(IPPoolSpec, cidr=PREFIXES, ipip_mode=st.sampled_from(EncapsulationMode), disabled=st.booleans()),
    ),
    st.builds(
        BGPPeer,
        metadata=METADATA,
        spec=st.builds(BGPPeerSpec, peer_ip=ADDRESSES, as_number=AS_NUMBERS, node=st.none() | NAMES),
    ),
    st.builds(
        BGPConfiguration,
        metadata=METADATA,
        spec=st.builds(BGPConfigurationSpec, as_number=AS_NUMBERS, listen_port=st.integers(1, 65535)),
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


@given(PREFIXES)
def test_a_prefix_is_read_as_it_is_written(prefix):
    assert decode_hook(IPv4Network, str(prefix)) == prefix


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

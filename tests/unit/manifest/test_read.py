"""Manifests to resources, and what is said about bad ones."""

from __future__ import annotations

import io
import textwrap
from ipaddress import IPv4Interface, IPv4Network

import pytest

from routed.errors import OperatorError
from routed.manifest import Text, load, locate, read, read_files
from routed.model.resources import EncapsulationMode, IPPool, Node
from routed.model.validate import validate

NODE = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata:
  name: a1
  labels: {rack: "1"}
spec:
  bgp:
    ipv4Address: 10.1.1.11/24
    asNumber: 64601
  podCIDRs:
    - 10.244.0.0/24
"""
POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: pods
spec:
  cidr: 10.244.0.0/16
  ipipMode: CrossSubnet
"""


def complaint(text: str) -> str:
    with pytest.raises(OperatorError) as caught:
        read([Text("file.yml", textwrap.dedent(text))])
    return caught.value.message


def changed(old: str, new: str, text: str = NODE) -> str:
    assert old in text
    return complaint(text.replace(old, new))


def test_a_node_is_read():
    [manifest] = read([Text("file.yml", NODE)])
    node = manifest.resource
    assert isinstance(node, Node)
    assert node.spec.bgp.ipv4_address == IPv4Interface("10.1.1.11/24")
    assert node.spec.pod_cidrs == (IPv4Network("10.244.0.0/24"),)
    assert node.metadata.labels == {"rack": "1"}


def test_several_documents_and_files_keep_their_order():
    manifests = read([Text("one.yml", NODE + "---\n" + POOL), Text("two.yml", NODE.replace("a1", "a2"))])
    assert [manifest.resource.name for manifest in manifests] == ["a1", "pods", "a2"]
    assert isinstance(manifests[1].resource, IPPool)
    assert manifests[1].resource.spec.ipip_mode is EncapsulationMode.CROSS_SUBNET


@pytest.mark.parametrize("kind", ["List", "NodeList"])
def test_a_list_as_other_tools_print_it_is_read(kind):
    items = textwrap.indent(NODE, "    ").replace("    apiVersion", "  - apiVersion", 1)
    [manifest] = read([Text("file.yml", f"apiVersion: v1\nkind: {kind}\nitems:\n{items}")])
    assert manifest.resource.name == "a1"
    assert manifest.where("spec.bgp.ipv4Address") == "file.yml:11"


def test_what_an_api_server_adds_is_left_out():
    added = "  uid: b4\n  resourceVersion: '7'\n  creationTimestamp: 2024-01-01T00:00:00Z\n  name: a1\n"
    [manifest] = read([Text("file.yml", NODE.replace("  name: a1\n", added) + "status: {}\n")])
    assert manifest.resource.name == "a1"


def test_json_is_read_too():
    head = '"apiVersion": "projectcalico.org/v3", "kind": "IPPool"'
    text = f'{{{head}, "metadata": {{"name": "p"}}, "spec": {{"cidr": "10.0.0.0/8"}}}}'
    assert read([Text("file.json", text)])[0].resource.name == "p"


HOST = "an address with prefix length, e.g. 10.1.1.11/24"
AS = "expected a whole number from 1 to 4294967295"
NAME = "a name of lower-case letters, digits, - and ., which starts and ends with a letter or digit"
KINDS = "supported are Node, IPPool, BGPPeer, BGPConfiguration, BGPFilter, IPReservation, IPAMConfiguration, Namespace"
NODE_FIELDS = "ipv4Address, asNumber, ipv6Address, routeReflectorClusterID"
POOL_FIELDS = (
    "cidr, ipipMode, vxlanMode, natOutgoing, disabled, disableBGPExport, blockSize, nodeSelector, namespaceSelector, "
    "allowedUses"
)
MODES = "'Always', 'CrossSubnet' or 'Never'"


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("10.1.1.11/24", "10.1.1.1/99", 8, f"Node a1: spec.bgp.ipv4Address: '10.1.1.1/99' is no {HOST[3:]}"),
        (
            "10.244.0.0/24",
            "10.0.0.7/8",
            11,
            "Node a1: spec.podCIDRs[0]: '10.0.0.7/8' is no prefix: did you mean 10.0.0.0/8?",
        ),
        ("asNumber", "asnumber", 9, "Node a1: spec.bgp.asnumber: unknown field; did you mean asNumber?"),
        ("asNumber", "wireguard", 9, f"Node a1: spec.bgp.wireguard: unknown field; known are {NODE_FIELDS}"),
        ("64601", "0", 9, f"Node a1: spec.bgp.asNumber: {AS}, found 0"),
        ("64601", "'64601'", 9, f"Node a1: spec.bgp.asNumber: {AS}, found '64601'"),
        ("ipv4Address: 10.1.1.11/24", "", 7, f"Node a1: spec.bgp.ipv4Address: is missing; expected {HOST}"),
        ('"1"', "1", 5, "Node a1: metadata.labels.rack: expected text, found 1; quote it"),
        ("name: a1", "name: A1", 4, f"Node A1: metadata.name: expected {NAME}, found 'A1'"),
        ("kind: Node", "kind: Nod", 2, f"Nod a1: kind: unknown kind 'Nod', did you mean Node? {KINDS}"),
        ("kind: Node", "kind: Zebra", 2, f"Zebra a1: kind: unknown kind 'Zebra'; {KINDS}"),
        ("kind: Node", "", 1, f"a1: kind: is missing; {KINDS}"),
        ("projectcalico.org/v3", "v1", 1, "Node a1: apiVersion: expected projectcalico.org/v3, found 'v1'"),
        ("  labels", "  name: a2\n  labels", 5, "the key 'name' is there twice, first in line 4; remove one"),
    ],
)
def test_a_bad_node_is_said_with_line_field_and_expectation(old, new, line, expected):
    assert changed(old, new) == f"file.yml:{line}: {expected}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("CrossSubnet", "crosssubnet", f"spec.ipipMode: expected {MODES}, found 'crosssubnet'"),
        ("ipipMode: CrossSubnet", "vxlanMode: On", f"spec.vxlanMode: expected {MODES}, found 'On'"),
        ("ipipMode: CrossSubnet", "natOutgoing: 1", "spec.natOutgoing: expected true or false, found 1"),
        ("ipipMode: CrossSubnet", "disabled: yes", "spec.disabled: expected true or false, found 'yes'"),
        ("ipipMode: CrossSubnet", "reach: 26", f"spec.reach: unknown field; known are {POOL_FIELDS}"),
    ],
)
def test_a_bad_pool_is_said_with_line_field_and_expectation(old, new, expected):
    assert changed(old, new, POOL) == f"file.yml:7: IPPool pods: {expected}"


PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: tor
spec:
  peerIP: 10.1.1.1
  asNumber: 65101
"""
FILTER = """\
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata:
  name: f
spec:
  importV4:
    - action: Accept
"""
A_PEER = "is no address of a peer, e.g. 10.1.1.1, 10.1.1.1:1179, 2001:db8::1 or [2001:db8::1]:1179"


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        (PEER, "10.1.1.1", "tor.example", f"6: BGPPeer tor: spec.peerIP: 'tor.example' {A_PEER}"),
        (
            PEER,
            "10.1.1.1",
            "10.1.1.1:0",
            "6: BGPPeer tor: spec.peerIP: '10.1.1.1:0': 0 is no port, expected 1 to 65535",
        ),
        (PEER, "65101", "0", f"7: BGPPeer tor: spec.asNumber: {AS}, found 0"),
        (
            PEER,
            "asNumber: 65101",
            "nodeSelector: rack = 'a'",
            (
                "7: BGPPeer tor: spec.nodeSelector: \"rack = 'a'\" is no selector: at character 6 expected a label, a "
                "string or an operator, found \"= 'a'\""
            ),
        ),
        (
            PEER,
            "asNumber: 65101",
            "holdTime: 90",
            "7: BGPPeer tor: spec.holdTime: expected a time, e.g. 90s, found 90",
        ),
        (
            PEER,
            "asNumber: 65101",
            "nextHopMode: Own",
            "7: BGPPeer tor: spec.nextHopMode: expected 'Auto', 'Self' or 'Keep', found 'Own'",
        ),
        (
            PEER,
            "asNumber: 65101",
            "password: {secretKeyRef: {name: bgp, key: ../tor}}",
            (
                "7: BGPPeer tor: spec.password.secretKeyRef.key: expected a file name of letters, digits, -, _ and ., "
                "which does not start with ., found '../tor'"
            ),
        ),
        (
            PEER,
            "asNumber: 65101",
            "restartMode: LLGR",
            "7: BGPPeer tor: spec.restartMode: unknown field; did you mean ",
        ),
        (
            FILTER,
            "action: Accept",
            "action: Accept\n      prefixLength: {min: 33}",
            "8: BGPFilter f: spec.importV4[0].prefixLength.min: expected a whole number from 0 to 32, found 33",
        ),
        (
            FILTER,
            "action: Accept",
            "action: Accept\n      cidr: fd00::/48",
            "8: BGPFilter f: spec.importV4[0].cidr: 'fd00::/48' is no prefix, e.g. 10.244.0.0/24",
        ),
        (
            FILTER,
            "action: Accept",
            "action: Accept\n      communities: {values: []}",
            (
                "8: BGPFilter f: spec.importV4[0].communities.values: expected a list of one element, each element a "
                "community, e.g. 64512:100 or 64512:100:1, found a list"
            ),
        ),
        (
            FILTER,
            "action: Accept",
            "action: Accept\n      communities: {values: ['70000:1']}",
            (
                "8: BGPFilter f: spec.importV4[0].communities.values[0]: '70000:1': 70000 is out of range, the numbers "
                "of a community go from 0 to 65535"
            ),
        ),
    ],
)
def test_a_bad_session_or_filter_is_said_with_line_field_and_expectation(text, old, new, expected):
    assert changed(old, new, text).startswith(f"file.yml:{expected}")


def test_an_empty_spec_is_told_its_fields():
    spec = POOL[POOL.index("  cidr") :]
    assert changed(spec, "", POOL) == f"file.yml:5: IPPool pods: spec: expected the fields {POOL_FIELDS}, found nothing"


@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
def test_policy_is_refused_as_not_enforced(kind):
    assert f"{kind} is not enforced by this version" in changed("kind: Node", f"kind: {kind}")


def test_all_problems_of_all_files_come_at_once():
    with pytest.raises(OperatorError) as caught:
        read([Text("one.yml", "kind: X\n---\n5\n"), Text("two.yml", "a: [\n"), Text("three.yml", "# nothing\n")])
    assert [line.split(": ")[0] for line in caught.value.message.splitlines()] == [
        "one.yml:1",
        "one.yml:3",
        "two.yml:2",
        "three.yml",
    ]


def test_one_resource_twice_is_refused_with_both_places():
    with pytest.raises(OperatorError, match=r"two\.yml:1: Node a1: is there twice, first at one\.yml:1"):
        read([Text("one.yml", NODE), Text("two.yml", NODE)])


def test_directories_files_and_standard_input_are_read(tmp_path, monkeypatch):
    (tmp_path / "b.yml").write_text(POOL)
    (tmp_path / "a.yaml").write_text(NODE)
    (tmp_path / "notes.txt").write_text("not: read")
    monkeypatch.setattr("sys.stdin", io.StringIO(NODE.replace("a1", "a2")))
    manifests = read_files([str(tmp_path), "-"])
    assert [manifest.where() for manifest in manifests] == [
        f"{tmp_path}/a.yaml:1",
        f"{tmp_path}/b.yml:1",
        "standard input:1",
    ]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(OperatorError, match=r"absent\.yml: No such file"):
        read_files([str(tmp_path / "absent.yml")])
    with pytest.raises(OperatorError, match="holds no manifest"):
        read_files([str(tmp_path)])
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
    with pytest.raises(OperatorError, match=r"latin\.yml: not UTF-8"):
        read_files([str(tmp_path / "latin.yml")])


def test_a_contradiction_is_located_in_its_file_or_in_the_store():
    manifests = read([Text("file.yml", NODE)])
    [problem] = validate([manifests[0].resource])
    assert locate(problem, manifests).startswith(
        "file.yml:11: Node a1: spec.podCIDRs[0]: 10.244.0.0/24 lies in no pool"
    )
    assert locate(problem, []).startswith("store: Node a1: spec.podCIDRs[0]")


def test_load_refuses_a_cluster_that_contradicts_itself(tmp_path):
    (tmp_path / "node.yml").write_text(NODE)
    with pytest.raises(OperatorError, match=r"node\.yml:11: Node a1"):
        load([tmp_path / "node.yml"])
    (tmp_path / "pool.yml").write_text(POOL)
    assert [resource.name for resource in load([tmp_path / "node.yml", tmp_path / "pool.yml"])] == ["a1", "pods"]

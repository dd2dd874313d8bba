"""Reading containerlab's format: what is understood, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from routed.errors import OperatorError
from routed.model.resources import EncapsulationMode
from routed.model.validate import validate
from routed_lab import topology
from routed_lab.topology import End, Pod, Role, RouterKind

TOPOLOGIES = Path(__file__).parents[3] / "topologies"

RESOURCES = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16, ipipMode: Never}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: one}
spec: {bgp: {ipv4Address: 10.1.1.11/24}, podCIDRs: [10.244.1.0/24]}
"""

LAB = """\
name: small
topology:
  nodes:
    tor:
      kind: linux
      labels: {routed.role: router, routed.config: tor.conf}
      exec:
        - ip address add 10.1.1.1/24 dev eth1
    one:
      kind: linux
      labels: {routed.role: node, routed.pods: "2", routed.config: resources.yaml}
  links:
    - endpoints: ["tor:eth1", "one:eth1"]
"""


@pytest.fixture
def load(tmp_path: Path):
    """Load a lab from its text, its configuration files beside it."""
    (tmp_path / "tor.conf").write_text("protocol device {}\n")

    def from_text(text: str, resources: str = RESOURCES) -> topology.Topology:
        (tmp_path / "resources.yaml").write_text(resources)
        path = tmp_path / "small.clab.yml"
        path.write_text(text)
        return topology.load(path)

    return from_text


def refusal(load, text: str, resources: str = RESOURCES) -> str:
    with pytest.raises(OperatorError) as caught:
        load(text, resources)
    return str(caught.value)


def test_a_lab_is_read_with_its_nodes_links_and_resources(load):
    lab = load(LAB)

    assert lab.name == "small"
    assert [(node.name, node.role, node.pods) for node in lab.nodes.values()] == [
        ("tor", Role.ROUTER, 0),
        ("one", Role.NODE, 2),
    ]
    assert lab.nodes["tor"].commands == (("ip", "address", "add", "10.1.1.1/24", "dev", "eth1"),)
    assert [link.ends for link in lab.links] == [(End("tor", "eth1"), End("one", "eth1"))]
    assert lab.pods == (Pod("one", 1), Pod("one", 2))
    assert set(lab.cluster.nodes) == {"one"}


def test_namespaces_are_named_as_containerlab_names_containers(load):
    assert load(LAB).namespace("one") == "clab-small-one"
    assert load("prefix: mine\n" + LAB).namespace("one") == "mine-small-one"
    assert load("prefix: __lab-name\n" + LAB).namespace("one-pod1") == "small-one-pod1"


def test_defaults_kinds_and_nodes_are_merged_as_containerlab_does(load):
    lab = load(
        LAB.replace(
            "topology:\n",
            dedent("""\
            topology:
              defaults:
                kind: linux
                env: {A: defaults, B: defaults}
                exec: [first]
              kinds:
                linux: {image: any, env: {B: kind}, exec: ["second 'and a half'"]}
            """),
        )
    )

    assert {key: value for key, value in (lab.nodes["tor"].env or {}).items() if len(key) == 1} == {
        "A": "defaults",
        "B": "kind",
    }
    assert lab.nodes["tor"].commands[:2] == (("first",), ("second", "and a half"))
    assert len(lab.nodes["tor"].commands) == 3


def test_a_lab_needs_the_links_it_makes_and_the_tunnel_only_where_a_pool_may_use_it(load):
    assert load(LAB).needs == {"veth"}
    bridge = LAB.replace("ip address add 10.1.1.1/24 dev eth1", "ip -d link add br0 type bridge vlan_filtering 1")
    assert load(bridge).needs == {"veth", "bridge"}
    assert load(LAB, RESOURCES.replace("Never", "CrossSubnet")).needs == {"veth", "ipip"}


@pytest.mark.parametrize("name", ["two-racks-mesh", "two-racks-tor"])
def test_the_topologies_that_ship_are_read(name: str):
    lab = topology.load(TOPOLOGIES / f"{name}.clab.yml")

    assert lab.name == name
    assert len(lab.routers) == 3
    assert len(lab.members) == 4
    assert len(lab.pods) == 8
    assert lab.needs == {"veth", "bridge", "ipip"}
    assert lab.warnings == ()
    assert {node.rack for node in lab.members} == {"a", "b"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param(
            "      exec:\n",
            "      exce:\n",
            'small.clab.yml:7:7: unknown key "exce" in node tor; allowed: kind',
            id="node key",
        ),
        pytest.param("      exec:\n", "      exce:\n", 'did you mean "exec"?', id="node key, hint"),
        pytest.param(
            "name: small\n", "name: small\nmgnt: {}\n", ':2:1: unknown key "mgnt" in the topology file', id="top"
        ),
        pytest.param(
            "  links:\n", "  link:\n", ':12:3: unknown key "link" in topology; allowed: defaults', id="topology"
        ),
        pytest.param("name: small\n", "", 'the topology file has no "name"', id="no name"),
        pytest.param("name: small", "name: a/b", 'the name of the lab is "a/b", expected letters', id="lab name"),
        pytest.param("    one:", "    One:", 'the name of a node is "One", expected lower-case', id="node name"),
        pytest.param(
            "    one:", "    tor:", ':9:5: key "tor" of nodes was given before, on line 4', id="two of one name"
        ),
        pytest.param("tor.conf", "gone.conf", "label routed.config of node tor names gone.conf, but", id="no file"),
        pytest.param(
            ", routed.config: tor.conf",
            "",
            ":5:7: router tor has neither a label routed.config nor a bind to /etc/bird/bird.conf",
            id="no config",
        ),
        pytest.param(
            "role: router",
            "role: switch",
            'routed.role of node tor is "switch", expected node, router or plain',
            id="role",
        ),
        pytest.param(
            "routed.role: router, ", "", "node tor has no label routed.role, expected node or router", id="no role"
        ),
        pytest.param('"2"', "many", 'routed.pods of node one is "many", expected a number from 0 to 250', id="pods"),
        pytest.param('"2"', '"251"', 'routed.pods of node one is "251"', id="too many pods"),
        pytest.param("routed.pods", "routed.pod", 'unknown label "routed.pod" of node one', id="label"),
        pytest.param(
            "router, ", 'router, routed.pods: "1", ', "router tor has the label routed.pods", id="router's pods"
        ),
        pytest.param(
            "kind: linux", "kind: srl", 'node tor is of kind "srl"; this lab makes only linux, bridge, ext', id="kind"
        ),
        pytest.param(', "one:eth1"', "", "link 1 has 1 end (tor:eth1), expected two", id="one end"),
        pytest.param(
            "one:eth1", "two:eth1", 'at node "two", which the topology does not have; it has tor, one', id="node"
        ),
        pytest.param("one:eth1", "tor:eth1", "is at tor:eth1, which is in use on line 13", id="interface twice"),
        pytest.param("one:eth1", "one", 'an end of link 1 is "one", expected NODE:INTERFACE', id="no interface"),
        pytest.param("one:eth1", "one:" + "e" * 16, "at most 15 characters", id="interface too long"),
        pytest.param("ip address", "ip 'address", "is no command line: No closing quotation", id="quotes"),
        pytest.param("name: small", "name: [small", "small.clab.yml:2:9: not YAML", id="no YAML"),
        pytest.param("name: small", "name: " + "[" * 200_000, "small.clab.yml:1: not YAML: nested", id="too deep"),
        pytest.param("    one:", "    one: 1\n    two:", "node one is the text", id="no mapping"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(load, before: str, after: str, said: str):
    assert before in LAB

    assert said in refusal(load, LAB.replace(before, after, 1))


def tor_of(lab: topology.Topology) -> topology.LabNode:
    return lab.nodes["tor"]


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("frrouting/frr:v8.4.1", RouterKind.FRR),
        ("registry.example/frrouting/frr@sha256:0123", RouterKind.FRR),
        ("registry.example:5000/net/gobgp", RouterKind.GOBGP),
        ("pierky/bird:2.0.12", RouterKind.BIRD),
        ("frr.example/bird:2", RouterKind.BIRD),
        ("debian:12", RouterKind.BIRD),
    ],
)
def test_the_name_of_the_image_says_which_router_it_is(load, image: str, kind: RouterKind):
    assert tor_of(load(LAB.replace("kind: linux", f"kind: linux\n      image: {image}", 1))).router is kind


def test_the_label_routed_router_counts_more_than_the_image(load):
    text = LAB.replace("kind: linux", "kind: linux\n      image: frrouting/frr", 1).replace(
        "router,", "router, routed.router: gobgp,"
    )

    assert tor_of(load(text)).router is RouterKind.GOBGP


def test_an_unknown_router_is_refused_with_those_there_are(load):
    said = refusal(load, LAB.replace("router,", "router, routed.router: quagga,"))

    assert 'label routed.router of node tor is "quagga", expected one of bird, frr, gobgp' in said


def test_a_recipe_that_binds_frrs_files_needs_no_labels(load, tmp_path: Path):
    for name in ("daemons", "frr.conf"):
        (tmp_path / name).write_text("")
    stock = LAB.replace(
        "      labels: {routed.role: router, routed.config: tor.conf}\n",
        "      image: frrouting/frr:v7.5.1\n      binds: [daemons:/etc/frr/daemons, frr.conf:/etc/frr/frr.conf]\n",
    )

    tor = tor_of(load(stock))

    assert (tor.role, tor.router, tor.config) == (Role.ROUTER, RouterKind.FRR, tmp_path / "frr.conf")
    assert tor.files == {"daemons": tmp_path / "daemons"}


def test_a_bind_of_the_whole_directory_brings_all_its_files(load, tmp_path: Path):
    (tmp_path / "r1").mkdir()
    for name in ("daemons", "frr.conf", "vtysh.conf"):
        (tmp_path / "r1" / name).write_text("")
    text = LAB.replace(", routed.config: tor.conf", "").replace(
        "kind: linux", "kind: linux\n      image: frr\n      binds: [r1:/etc/frr]", 1
    )

    tor = tor_of(load(text))

    assert tor.config == tmp_path / "r1" / "frr.conf"
    assert set(tor.files) == {"daemons", "vtysh.conf"}


def test_a_bind_whose_source_is_not_there_is_refused(load):
    text = LAB.replace("kind: linux", "kind: linux\n      image: frr\n      binds: [gone.conf:/etc/frr/frr.conf]", 1)

    assert "names gone.conf, but" in refusal(load, text)


def test_a_pod_and_a_node_of_one_name_are_refused(load):
    more = indent("one-pod1:\n  kind: linux\n  labels: {routed.role: router, routed.config: tor.conf}\n", "    ")

    message = refusal(load, LAB.replace("  links:\n", f"{more}  links:\n"))

    assert "node one-pod1 has the name of a pod of node one" in message


def test_a_node_without_a_node_resource_is_refused(load):
    message = refusal(load, LAB, RESOURCES.replace("name: one", "name: two"))

    assert "small.clab.yml:9: node one has no Node resource of its name in" in message
    assert "add a document with kind: Node and metadata.name: one" in message


def test_a_node_resource_without_a_node_in_the_file_is_refused(load):
    other = (
        RESOURCES
        + "---\n"
        + RESOURCES.split("---\n")[1].replace("one", "other").replace("1.11", "1.12").replace("10.244.1", "10.244.2")
    )

    assert "the resources have a Node other, but no node of that name" in refusal(load, LAB, other)


def test_resources_are_checked_with_the_topology(load):
    assert "ipMode" in refusal(load, LAB, RESOURCES.replace("ipipMode", "ipMode"))
    overlapping = RESOURCES + "---\n" + RESOURCES.split("---\n")[0].replace("pods", "more")
    assert "resources.yaml" in (said := refusal(load, LAB, overlapping))
    assert "overlaps" in said


def test_the_resources_of_a_variant_go_on_top_of_those_of_the_file(load, tmp_path: Path):
    plain = load(LAB)
    variant = tmp_path / "variant.yaml"
    pool, node = RESOURCES.split("---\n")[:2]
    variant.write_text(pool.replace("Never", "Always") + "---\n" + node.replace("one", "two"))

    with pytest.raises(OperatorError, match=r"variant\.yaml"):
        topology.load(plain.path, [str(variant)])  # two nodes of one address
    variant.write_text(pool.replace("Never", "Always"))
    lab = topology.load(plain.path, [str(variant)])

    assert plain.cluster.pools["pods"].spec.ipip_mode is EncapsulationMode.NEVER
    assert lab.cluster.pools["pods"].spec.ipip_mode is EncapsulationMode.ALWAYS
    assert (plain.needs, lab.needs) == ({"veth"}, {"veth", "ipip"})
    assert lab.cluster.nodes == plain.cluster.nodes


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(OperatorError, match=r"gone\.clab\.yml: cannot read the topology: No such file"):
        topology.load(tmp_path / "gone.clab.yml")


def test_a_node_that_is_absent_has_its_links_and_no_part_in_the_cluster_until_it_joins():
    racks = topology.load(TOPOLOGIES / "two-racks-tor.clab.yml")

    without = racks.without(["node-b2"])
    again = without.joined("node-b2", racks.resources_of("node-b2"))

    assert "node-b2" not in without.cluster.nodes
    assert {pod.node for pod in without.pods} == {"node-a1", "node-a2", "node-b1"}
    assert not validate(without.resources)
    assert without.links == racks.links
    assert again.pods == racks.pods
    assert set(again.cluster.nodes) == set(racks.cluster.nodes)

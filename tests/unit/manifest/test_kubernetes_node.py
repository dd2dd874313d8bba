"""Kubernetes' own Node as a second source of podCIDRs and labels."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest
import yaml
from tests.unit.ipam.cluster import World, node, pool

from routed.errors import OperatorError
from routed.manifest import Text, read, write
from routed.model.cluster import Cluster
from routed.model.resources import AnyResource, KubernetesNode
from routed.model.validate import validate
from routed.store.resources import apply

AS_PRINTED = """\
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Node
    metadata:
      name: a
      labels: {rack: "7", zone: east}
      annotations: {kubeadm.alpha.kubernetes.io/cri-socket: unix:///run/containerd/containerd.sock}
      ownerReferences: []
      resourceVersion: "12"
    spec:
      podCIDR: 10.1.3.0/24
      podCIDRs: [10.1.3.0/24]
      providerID: kind://a
      taints: [{effect: NoSchedule, key: node-role.kubernetes.io/control-plane}]
      unschedulable: true
    status: {addresses: [{address: 192.0.2.7, type: InternalIP}]}
"""


def of_kubernetes(spec: str, name: str = "a", labels: str = "{}") -> AnyResource:
    text = f"{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {labels}}}, spec: {spec}}}"
    return read([Text("node.yml", text)])[0].resource


def told(*resources: AnyResource) -> list[str]:
    return list(map(str, validate([pool("10.1.0.0/16"), *resources])))


def test_a_node_as_kubectl_prints_it_is_read_for_what_it_says_of_pods():
    [manifest] = read([Text("nodes.yml", AS_PRINTED)])
    found = manifest.resource
    assert isinstance(found, KubernetesNode)
    assert (found.name, found.metadata.labels) == ("a", {"rack": "7", "zone": "east"})
    assert found.spec.stated == (ip_network("10.1.3.0/24"),)


def test_pod_cidr_alone_is_enough():
    cluster = Cluster.of([node("a"), of_kubernetes("{podCIDR: 10.1.3.0/24}")])
    assert cluster.assignable("a") == (ip_network("10.1.3.0/24"),)


def test_its_pod_cidrs_and_labels_are_the_nodes_where_that_says_nothing():
    cluster = Cluster.of([of_kubernetes("{podCIDR: 10.1.3.0/24}", labels="{rack: x, zone: y}"), node("a", rack="mine")])
    assert cluster.own_blocks("a") == (ip_network("10.1.3.0/24"),)
    assert cluster.nodes["a"].metadata.labels == {"rack": "mine", "zone": "y"}


def test_by_itself_it_makes_no_member():
    assert not Cluster.of([of_kubernetes("{podCIDR: 10.1.3.0/24}")]).nodes
    assert told(of_kubernetes("{podCIDR: 10.9.9.0/24}")) == []


def test_both_may_say_the_same():
    both = node("a", "10.1.3.0/24"), of_kubernetes("{podCIDR: 10.1.3.0/24}")
    assert told(*both) == []
    assert Cluster.of(both).own_blocks("a") == (ip_network("10.1.3.0/24"),)


def test_a_contradiction_is_refused_and_our_own_node_counts_where_it_is_stored():
    both = node("a", "10.1.3.0/24"), of_kubernetes("{podCIDR: 10.1.4.0/24}")
    (problem,) = told(*both)
    said = "KubernetesNode a: spec.podCIDRs: 10.1.4.0/24 contradicts the podCIDRs of Node a, 10.1.3.0/24; make both"
    assert problem.startswith(said)
    assert Cluster.of(both).own_blocks("a") == (ip_network("10.1.3.0/24"),)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{podCIDR: 10.9.0.0/24}", "KubernetesNode a: spec.podCIDRs[0]: 10.9.0.0/24 lies in no pool"),
        ("{podCIDR: 10.1.2.0/24, podCIDRs: [10.1.3.0/24]}", "KubernetesNode a: spec.podCIDR: 10.1.2.0/24 is not the"),
    ],
)
def test_what_cannot_be_is_told_of_the_resource_that_says_it(spec: str, expected: str):
    assert told(node("a"), of_kubernetes(spec))[0].startswith(expected)


@pytest.mark.parametrize("spec", ["{podCIDR: 10.1.3.7/24}", "{podCIDRs: 10.1.3.0/24}"])
def test_what_routed_reads_of_it_is_read_strictly(spec: str):
    with pytest.raises(OperatorError, match=r"node\.yml:1: Node a: spec"):
        of_kubernetes(spec)


def test_it_is_printed_as_it_is_applied():
    one = of_kubernetes("{podCIDRs: [10.1.3.0/24]}")
    text = write.to_yaml(one)
    assert yaml.safe_load(text)["kind"] == "Node"
    assert read([Text("printed", text)])[0].resource == one


def test_a_block_inside_its_pod_cidr_is_claimed_by_nobody():
    async def main() -> None:
        world = await World(pool("10.1.0.0/28", blockSize=29), node("a"), node("b")).start()
        await apply(world.store, [of_kubernetes("{podCIDR: 10.1.0.0/29}")])  # b has not heard of it
        assert await world.nodes["b"].assign("h") in ip_network("10.1.0.8/29")
        await world.hear("a")
        assert await world.nodes["a"].assign("h") in ip_network("10.1.0.0/29")

    asyncio.run(main())

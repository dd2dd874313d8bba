"""What an operator or a pod may choose, as the kernel has it afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kernel.cni.node import CONFIGURATION, MTU, Node, look, ping, run

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


def added(node: Node, pod: str, **fields: Any) -> Any:
    """The result of an ADD with these fields, in its newest form."""
    configuration = {**CONFIGURATION, "cniVersion": "1.1.0", **fields}
    answer = node.cni("ADD", pod, configuration=configuration)
    assert node.cni("CHECK", pod, configuration={**configuration, "prevResult": answer.result}).status == 0
    return answer.result


def test_an_mtu_is_that_of_both_ends_and_of_the_result(node: Node):
    pod = node.pod()
    result = added(node, pod, mtu=1300)
    assert [interface["mtu"] for interface in result["interfaces"]] == [1300, 1300]
    assert (look(pod, "link", "show", "eth0")[0]["mtu"], node.link(pod)["mtu"]) == (1300, 1300)
    assert added(node, node.pod(), mtu=0)["interfaces"][0]["mtu"] == MTU


def test_a_pod_may_forward_only_where_that_is_allowed(node: Node):
    for allowed, expected in ((True, "1"), (False, "0")):
        pod = node.pod()
        run("nsenter", f"--net=/run/netns/{pod}", "sysctl", "-qw", f"net.ipv4.ip_forward={int(not allowed)}")
        added(node, pod, container_settings={"allow_ip_forwarding": allowed})
        assert run("nsenter", f"--net=/run/netns/{pod}", "sysctl", "-n", "net.ipv4.ip_forward").strip() == expected


def test_an_annotation_chooses_the_hardware_address_and_the_pod_is_reached(node: Node):
    pod, other = node.pod(), node.pod()
    result = added(node, pod, runtimeConfig={ANNOTATIONS: {"cni.projectcalico.org/hwAddr": "02:00:00:AA:BB:01"}})
    assert result["interfaces"][1]["mac"] == look(pod, "link", "show", "eth0")[0]["address"] == "02:00:00:aa:bb:01"
    added(node, other)
    assert ping(other, result["ips"][0]["address"].removesuffix("/32")).received == 3


def test_a_runtime_chooses_address_and_hardware_address(node: Node):
    """CNI conventions: the capabilities `ips` and `mac`."""
    pod, other = node.pod(), node.pod()
    chosen = {**CONFIGURATION, "runtimeConfig": {"ips": ["10.9.0.40/26"], "mac": "02:00:00:00:00:40"}}
    answer = node.cni("ADD", pod, configuration=chosen)
    assert (answer.address, answer.result["interfaces"][1]["mac"]) == ("10.9.0.40", "02:00:00:00:00:40")
    node.cni("ADD", other)
    assert ping(other, "10.9.0.40").received == 3
    refused = node.cni("ADD", node.pod(), configuration=chosen).error
    assert f"10.9.0.40 is held by cni.{pod}.eth0" in refused["msg"]


@pytest.mark.spec("CNI 1.1.0", "2 ADD.5")
def test_two_interfaces_of_one_pod_are_reached_and_deleted_each_by_itself(node: Node):
    """Section 4: another network may have the default route, "be prepared to skip over" it."""
    pod, other = node.pod(), node.pod()
    node.cni("ADD", other)
    first, second = node.cni("ADD", pod), node.cni("ADD", pod, "net1")
    assert (first.result["routes"], second.result["routes"]) == ([{"dst": "0.0.0.0/0"}], [])
    assert [ping(other, answer.address).received for answer in (first, second)] == [3, 3]
    assert [node.check(pod, first).status, node.check(pod, second, "net1").status] == [0, 0]
    assert node.cni("DEL", pod, "net1").status == 0
    assert ping(other, first.address).received == 3
    assert node.check(pod, first).status == 0
    assert node.cni("DEL", pod).status == node.cni("DEL", other).status == 0
    node.settled()


def test_when_the_first_interface_goes_the_second_is_still_reached(node: Node):
    pod, other = node.pod(), node.pod()
    node.cni("ADD", other)
    node.cni("ADD", pod)
    second = node.cni("ADD", pod, "net1")
    assert node.cni("DEL", pod).status == 0
    assert ping(other, second.address).received == 3


@pytest.mark.spec("CNI 1.1.0", "1 Configuration.7", "5 Success.5")
def test_dns_of_the_configuration_is_handed_on(node: Node):
    told = {"nameservers": ["10.0.0.53"], "search": ["pods.example"]}
    assert added(node, node.pod(), dns=told)["dns"] == told

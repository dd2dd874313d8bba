"""Links that leave: fast for who asks, gone soon, and never in the way of the next."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.kernel.cni.node import Node, look, ping, run
from tests.waiting import until

from routed_cni.veths import HOST_MAC, host_interface

DOOMED = 0x72746400


def test_when_a_delete_answers_the_route_and_the_neighbour_are_gone(node: Node):
    pods = [node.pod() for _ in range(3)]
    added = [node.cni("ADD", pod) for pod in pods]
    assert node.cni("DEL", pods[0]).status == 0
    assert added[0].address not in {route["dst"] for route in node.routes()}
    known = {neighbour["dst"] for neighbour in look(node.name, "-4", "neigh", "show", "nud", "permanent")}
    assert known == {added[1].address, added[2].address}
    assert ping(pods[1], added[2].address).received == 3


def test_an_add_into_the_namespace_of_a_delete_just_now_succeeds(node: Node):
    pod, other = node.pod(), node.pod()
    node.cni("ADD", other)
    for number in range(5):
        container = f"c{number}"
        added = node.cni("ADD", pod, CNI_CONTAINERID=container)
        assert ping(other, added.address, 1).received == 1
        assert node.cni("DEL", pod, CNI_CONTAINERID=container).status == 0
    assert node.cni("ADD", pod).status == 0
    assert node.cni("DEL", pod).status == node.cni("ADD", pod).status == 0


def test_an_add_of_another_interface_takes_no_default_route_from_one_that_leaves(node: Node):
    pod = node.pod()
    node.cni("ADD", pod)
    node.cni("DEL", pod)
    assert node.cni("ADD", pod, "net1").result["routes"] == [{"dst": "0.0.0.0/0"}]
    assert [route["dev"] for route in look(pod, "route", "show", "default")] == ["net1"]


def test_a_hundred_adds_and_deletes_leave_no_link_a_second_later(node: Node):
    pods = [node.pod() for _ in range(4)]
    for number in range(100):
        pod = pods[number % len(pods)]
        assert node.cni("ADD", pod, CNI_CONTAINERID=f"c{number}").status == 0
        assert node.cni("DEL", pod, CNI_CONTAINERID=f"c{number}").status == 0
    began = time.monotonic()
    node.settled()
    print(f"settled after {time.monotonic() - began:.3f} s")


def test_what_a_killed_agent_had_given_up_is_gone_after_the_next_start(node: Node):
    pods = [node.pod() for _ in range(3)]
    added = [node.cni("ADD", pod) for pod in pods]
    node.stop(signal.SIGKILL)
    # as after a DEL that answered
    name = host_interface(pods[0], "eth0")
    run("ip", "-n", node.name, "route", "del", added[0].address)
    run("ip", "-n", node.name, "link", "set", name, "group", str(DOOMED))
    # as after a DEL whose link is gone, but not its address
    run("ip", "-n", node.name, "link", "del", host_interface(pods[1], "eth0"))
    # as after an ADD that was killed before the link had its alias
    stray = "rtd0123456789a"
    run("ip", "-n", node.name, "link", "add", stray, "type", "veth", "peer", "name", "x")
    run("ip", "-n", node.name, "link", "set", stray, "address", HOST_MAC)
    # a stranger's, that is only called like ours
    run("ip", "-n", node.name, "link", "add", "rtdffffffffffff"[:14], "type", "veth", "peer", "name", "y")
    node.start()
    until(lambda: node.held() == [f"cni.{pods[2]}.eth0"])
    assert {*node.links()} == {host_interface(pods[2], "eth0"), "rtdfffffffffff", "y"}
    assert [route["dst"] for route in node.routes()] == [added[2].address]


def test_an_agent_killed_among_adds_and_deletes_is_put_right_by_the_next(node: Node):
    pods = [node.pod() for _ in range(6)]
    for pod in pods[:3]:
        node.cni("ADD", pod)
    with ThreadPoolExecutor(len(pods)) as pool:
        running = [pool.submit(node.cni, "ADD" if pod in pods[3:] else "DEL", pod) for pod in pods]
        node.stop(signal.SIGKILL)
        node.start()
        assert {answer.result().status for answer in running} <= {0, 1}
    for pod in pods:
        assert node.cni("DEL", pod).status == 0
    node.settled()

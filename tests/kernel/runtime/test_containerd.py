"""Debian's containerd as the caller, by the interface that kubelet uses."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kernel.cni.node import Node, look, ping, run
from tests.kernel.runtime.containerd import IMAGE, Containerd
from tests.kernel.runtime.cri import CriError
from tests.waiting import until

SERVE = ("/bin/sh", "-c", "hostname >/www/index.html; httpd -f -p 80 -h /www")


def routes(node: Node) -> list[str]:
    return sorted(route["dst"] for route in node.routes() if route.get("protocol") == "114")


def settled(node: Node) -> None:
    """Nothing of a pod is left on the node."""
    assert routes(node) == []
    until(lambda: (node.links(), node.held()) == ([], []))


def fetched(containerd: Containerd, container: str, address: str) -> str:
    """What a web server at `address` answers to `container`, its last line; by hand, as busybox's static wget dies."""
    ask = rf"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {address} 80"
    return containerd.cri.execute(container, "/bin/sh", "-c", ask)[1].rpartition("\r\n\r\n")[2]


def test_pods_come_are_named_and_reach_each_other_over_http(node: Node, containerd: Containerd):
    cri = containerd.cri
    assert cri.network_ready()
    one, two = cri.run_sandbox("one"), cri.run_sandbox("two")
    assert routes(node) == sorted([cri.address(one), cri.address(two)])
    cri.run_container(one, "web", IMAGE, *SERVE)
    client = cri.run_container(two, "client", IMAGE, "/bin/sleep", "1000")
    until(lambda: fetched(containerd, client, cri.address(one)) == "one\n")


def test_stop_and_remove_twice_leave_nothing(node: Node, containerd: Containerd):
    """containerd sends DEL with each of them, later ones with an empty CNI_NETNS and no prevResult."""
    sandbox = containerd.cri.run_sandbox("one")
    for step in (containerd.cri.stop_sandbox, containerd.cri.remove_sandbox):
        for _ in range(2):
            step(sandbox.id)
    settled(node)


def test_a_port_of_the_node_leads_to_the_pod(node: Node, containerd: Containerd):
    run("ip", "-n", node.name, "link", "set", "lo", "up")
    run("ip", "-n", node.name, "addr", "add", "192.0.2.1/32", "dev", "lo")
    sandbox = containerd.cri.run_sandbox("one", ports={18080: 80})
    containerd.cri.run_container(sandbox, "web", IMAGE, *SERVE)
    ask = ("nsenter", f"--net=/run/netns/{node.name}", "curl", "-s", "-m", "2", "http://192.0.2.1:18080/")
    until(lambda: run(*ask, check=False) == "one\n")
    containerd.cri.stop_sandbox(sandbox.id)
    settled(node)
    assert run(*ask, check=False) == ""


def test_an_annotation_of_the_pod_chooses_its_hardware_address(node: Node, containerd: Containerd):
    annotations = {"cni.projectcalico.org/hwAddr": "02:00:00:00:00:42", "other": "x" * 1000}
    sandbox = containerd.cri.run_sandbox("one", annotations=annotations)
    container = containerd.cri.run_container(sandbox, "c", IMAGE, "/bin/sleep", "1000")
    assert containerd.cri.execute(container, "/bin/cat", "/sys/class/net/eth0/address")[1] == "02:00:00:00:00:42\n"


def test_pods_outlive_a_restart_of_containerd_and_of_the_agent(node: Node, containerd: Containerd):
    one, two = containerd.cri.run_sandbox("one"), containerd.cri.run_sandbox("two")
    client = containerd.cri.run_container(two, "client", IMAGE, "/bin/sleep", "1000")
    address = containerd.cri.address(one)
    containerd.stop(signal.SIGKILL)
    node.stop(signal.SIGKILL)
    node.start()
    containerd.start()
    assert containerd.cri.execute(client, "/bin/ping", "-c", "1", "-W", "2", address)[0] == 0
    for sandbox in (one, two):
        containerd.cri.stop_sandbox(sandbox.id)
        containerd.cri.remove_sandbox(sandbox.id)
    settled(node)


def test_a_sandbox_that_is_killed_is_cleaned_up_by_its_stop(node: Node, containerd: Containerd):
    sandbox = containerd.cri.run_sandbox("one")
    for pid in containerd.shims():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not containerd.shims())
    containerd.cri.stop_sandbox(sandbox.id)
    containerd.cri.remove_sandbox(sandbox.id)
    settled(node)


def test_twenty_pods_at_once(node: Node, containerd: Containerd):
    with ThreadPoolExecutor(20) as pool:
        sandboxes = list(pool.map(containerd.cri.run_sandbox, [f"pod{number}" for number in range(20)]))
        addresses = {containerd.cri.address(sandbox) for sandbox in sandboxes}
        assert (len(addresses), routes(node)) == (20, sorted(addresses))
        list(pool.map(lambda sandbox: containerd.cri.stop_sandbox(sandbox.id), sandboxes))
    settled(node)


def test_after_the_loss_of_all_namespaces_every_address_comes_back(node: Node, containerd: Containerd):
    """As after a reboot: the runtime and the agent find their stores, and nothing of what these tell of."""
    old = [containerd.cri.run_sandbox(f"old{number}") for number in range(3)]
    paths = mounted(node)
    containerd.stop(signal.SIGKILL)
    node.stop(signal.SIGKILL)
    for pid in containerd.shims():
        os.kill(pid, signal.SIGKILL)
    for path in paths:
        for pid in run("ip", "netns", "pids", Path(path).name).split():
            os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "del", Path(path).name)
    until(lambda: node.links() == [])
    node.start()
    containerd.start()
    until(lambda: node.held() == [])
    new = containerd.cri.run_sandbox("new")
    assert routes(node) == [containerd.cri.address(new)]
    for sandbox in old:
        containerd.cri.stop_sandbox(sandbox.id)
        containerd.cri.remove_sandbox(sandbox.id)
    assert routes(node) == [containerd.cri.address(new)]


def mounted(node: Node) -> list[str]:
    """The namespaces of containerd's that have a link of this node's."""
    found: list[str] = []
    ours = {link["address"] for link in look(node.name, "link", "show")}
    assert ours
    peers = {neighbour["lladdr"] for neighbour in look(node.name, "neigh", "show", "nud", "permanent")}
    for path in Path("/run/netns").glob("cni-*"):
        try:
            links = look(path.name, "link", "show")
        except AssertionError:  # another test's, gone meanwhile
            continue
        if any(link.get("address") in peers for link in links):
            found.append(str(path))
    return found


def test_a_pod_that_is_wanted_while_the_agent_restarts_waits_for_it(node: Node, containerd: Containerd):
    node.stop()
    late = threading.Timer(1, node.start)
    late.start()
    sandbox = containerd.cri.run_sandbox("one")
    late.join()
    assert routes(node) == [containerd.cri.address(sandbox)]


def test_a_pod_that_is_wanted_while_the_agent_is_away_fails_with_words_that_say_so(node: Node, containerd: Containerd):
    node.stop()
    try:
        with pytest.raises(CriError, match="routed agent is not answering"):
            containerd.cri.run_sandbox("one")
    finally:
        node.start()
    settled(node)


def test_the_first_packet_of_a_pod_is_answered(node: Node, containerd: Containerd):
    address = containerd.cri.address(containerd.cri.run_sandbox("one"))
    pod = node.pod()
    node.cni("ADD", pod)
    assert ping(pod, address, 1).received == 1

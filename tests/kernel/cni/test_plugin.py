"""The plugin as a runtime executes it, against a real agent's part in a real namespace; `ip` is the witness."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.cni.node import CONFIGURATION, MTU, Node, echo_requests, look, ping, run
from tests.unit.cni.forms import make
from tests.waiting import until

from routed.netlink.constants import Msg
from routed.netlink.message import IFINFO
from routed.netlink.socket import inside
from routed_cni import wiring
from routed_cni.faults import CniError
from routed_cni.veths import host_interface
from routed_cni.wiring import Wire, _pod_steps

HOST_MAC = "ee:ee:ee:ee:ee:ee"


def untouched(node: Node) -> None:
    """No link, no route, no address taken."""
    node.settled()


@pytest.mark.spec("CNI 1.1.0", "2 ADD.1")
def test_the_pod_gets_its_address_routes_neighbour_and_mtu(node: Node):
    pod = node.pod()
    address = node.cni("ADD", pod).address
    lo, eth0 = look(pod, "addr", "show")
    assert "UP" in lo["flags"]
    assert (eth0["ifname"], eth0["mtu"], {"UP", "LOWER_UP"} <= set(eth0["flags"])) == ("eth0", MTU, True)
    assert [(a["local"], a["prefixlen"]) for a in eth0["addr_info"] if a["family"] == "inet"] == [(address, 32)]
    routes = {route["dst"]: (route["dev"], route.get("gateway"), route.get("scope")) for route in look(pod, "route")}
    assert routes == {"default": ("eth0", "169.254.1.1", None), "169.254.1.1": ("eth0", None, "link")}
    assert [(n["dst"], n["lladdr"], n["state"]) for n in look(pod, "neigh", "show", "nud", "permanent")] == [
        ("169.254.1.1", HOST_MAC, ["PERMANENT"])
    ]


def test_the_node_gets_a_named_link_a_route_of_ours_and_a_neighbour(node: Node):
    pod = node.pod()
    result = node.cni("ADD", pod)
    name, mac = host_interface(pod, "eth0"), look(pod, "link", "show", "eth0")[0]["address"]
    link = node.link(pod)
    assert (link["mtu"], link["address"], link["ifalias"]) == (MTU, HOST_MAC, f"routed:pod {pod}/eth0")
    (route,) = node.routes()
    assert {key: route[key] for key in ("dst", "dev", "scope", "protocol", "metric")} == {
        "dst": result.address,
        "dev": name,
        "scope": "link",
        "protocol": "114",
        "metric": 1024,
    }
    (neighbour,) = look(node.name, "-4", "neigh", "show", "nud", "permanent")
    assert (neighbour["dst"], neighbour["lladdr"], neighbour["dev"]) == (result.address, mac, name)
    settings = {
        "ipv4/conf": {"forwarding": "1", "rp_filter": "1", "proxy_arp": "1"},
        "ipv4/neigh": {"proxy_delay": "0"},
    }
    settings["ipv6/conf"] = {"accept_ra": "0"}
    for family, keys in settings.items():
        for key, value in keys.items():
            found = run("nsenter", f"--net=/run/netns/{node.name}", "cat", f"/proc/sys/net/{family}/{name}/{key}")
            assert (key, found.strip()) == (key, value)


@pytest.mark.spec("CNI 1.1.0", "2 ADD.2", "5 Output.1", "5 Success.2", "5 Success.3", "5 Success.4", "5 Success.5")
def test_the_result_says_what_was_made(node: Node):
    pod = node.pod()
    result = node.cni("ADD", pod).result
    assert result["interfaces"] == [
        {"name": host_interface(pod, "eth0"), "mac": HOST_MAC},
        {
            "name": "eth0",
            "mac": look(pod, "link", "show", "eth0")[0]["address"],
            "sandbox": f"/run/netns/{pod}",
        },
    ]
    assert result["routes"] == [{"dst": "0.0.0.0/0"}]


@pytest.mark.spec("CNI 1.1.0", "5 Success.1")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_the_reference_plugins_read_the_result_and_pass_it_on(node: Node, version: str):
    pod = node.pod()
    configuration = {**CONFIGURATION, "cniVersion": version}
    result = node.cni("ADD", pod, configuration=configuration).result
    chained = subprocess.run(
        ["/usr/lib/cni/portmap"],
        env={
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/usr/lib/cni",
        },
        input=json.dumps({**configuration, "type": "portmap", "prevResult": result}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (chained.returncode, json.loads(chained.stdout)) == (0, result)


@pytest.mark.parametrize("form", ["python", "c"])
def test_each_form_of_the_executable_adds_and_deletes(node: Node, tmp_path: Path, form: str):
    node.plugin = make(form, tmp_path).write(node.directory / "bin", node.directory / "cni.sock", connect_seconds=20)
    one, two = node.pod(), node.pod()
    node.cni("ADD", one)
    assert ping(one, node.cni("ADD", two).address).received == 3
    assert [node.cni("DEL", pod).status for pod in (one, two)] == [0, 0]
    untouched(node)


def test_pods_of_one_node_reach_each_other_from_the_first_packet_on(node: Node):
    one, two = node.pod(), node.pod()
    node.cni("ADD", one)
    pings = ping(one, node.cni("ADD", two).address)
    assert pings.received == 3
    assert pings.milliseconds[0] < 100  # proxy ARP with its default delay takes 200 to 1,100


def test_a_pod_cannot_send_from_the_address_of_another(node: Node):
    one, two = node.pod(), node.pod()
    node.cni("ADD", one)
    stolen = node.cni("ADD", two).address
    victim = node.pod()
    target = node.cni("ADD", victim).address
    assert ping(two, target, count=1).received == 1
    assert echo_requests(victim) == 1
    run("nsenter", f"--net=/run/netns/{one}", "ip", "addr", "add", f"{stolen}/32", "dev", "eth0")
    run("nsenter", f"--net=/run/netns/{one}", "ping", "-c1", "-W1", "-I", stolen, target, check=False)
    assert echo_requests(victim) == 1


@pytest.mark.spec("CNI 1.1.0", "2 DEL.1", "2 DEL.3")
def test_a_delete_removes_all_of_it_and_may_be_repeated_without_a_namespace(node: Node):
    pod = node.pod()
    node.cni("ADD", pod)
    for namespace in (f"/run/netns/{pod}", "", None):
        assert node.cni("DEL", pod, CNI_NETNS=namespace).status == 0
        untouched(node)
        assert [link["ifname"] for link in look(pod, "link", "show")] == ["lo"]
        assert [route["dst"] for route in look(pod, "route")] == []


@pytest.mark.spec("CNI 1.1.0", "2 DEL.2")
def test_a_delete_after_the_namespace_is_gone_frees_the_address(node: Node):
    pod = node.pod()
    node.cni("ADD", pod)
    node.remove(pod)
    assert node.cni("DEL", pod).status == 0
    untouched(node)


@pytest.mark.spec("CNI 1.1.0", "2 DEL.3")
def test_a_delete_of_what_was_never_added_succeeds(node: Node):
    assert node.cni("DEL", "never", CNI_NETNS="/nowhere").status == 0


@pytest.mark.spec("CNI 1.1.0", "2 ADD.5")
def test_a_repeated_add_keeps_the_address_and_leaves_a_working_pod(node: Node):
    pod, other = node.pod(), node.pod()
    address = node.cni("ADD", pod).address
    assert node.cni("ADD", pod).address == address
    assert ping(other, address).received == 0
    node.cni("ADD", other)
    assert ping(other, address).received == 3


def test_the_leftover_link_of_a_dead_pod_is_replaced(node: Node):
    pod = node.pod()
    name = host_interface(pod, "eth0")
    run("nsenter", f"--net=/run/netns/{node.name}", "ip", "link", "add", name, "type", "veth", "peer", "name", "old")
    node.cni("ADD", pod)
    assert node.links() == [name]
    assert node.link(pod)["ifalias"] == f"routed:pod {pod}/eth0"


@pytest.mark.spec("CNI 1.1.0", "2 ADD.4", "2 Parameters.2")
def test_an_interface_that_is_there_already_is_refused_and_nothing_is_left(node: Node):
    pod = node.pod()
    run("nsenter", f"--net=/run/netns/{pod}", "ip", "link", "add", "eth0", "type", "bridge")
    error = node.cni("ADD", pod).error
    assert error["code"] == 4
    assert f"CNI_IFNAME eth0 exists already in the sandbox /run/netns/{pod}" in error["msg"]
    untouched(node)


def beyond(plan: Wire, index: int) -> list[Any]:
    """What the kernel refuses, behind all that it takes."""
    return [*_pod_steps(plan, index), ("do what cannot be done", Msg.SETLINK, 0, IFINFO.pack(0, 0, 1 << 20, 0, 0))]


def test_an_add_that_fails_at_its_last_step_leaves_nothing_anywhere(node: Node, monkeypatch: pytest.MonkeyPatch):
    pod = node.pod()
    node.cni("DEL", pod)  # the agent listens
    monkeypatch.setattr(wiring, "_pod_steps", beyond)
    plan = Wire(f"/run/netns/{pod}", "eth0", "rtd0", (IPv4Address("10.9.0.9"),), MTU, "routed:pod x/eth0")
    with inside(f"/run/netns/{node.name}"), pytest.raises(CniError, match="cannot do what cannot be done"):
        wiring.wire(plan, wiring.make(plan))
    untouched(node)
    assert [link["ifname"] for link in look(pod, "link", "show")] == ["lo"]
    assert look(pod, "route") == []


def test_a_retry_that_fails_leaves_no_link_and_keeps_the_address_for_the_next(node: Node):
    pod = node.pod()
    address = node.cni("ADD", pod).address
    node.remove(pod)
    node.namespace(pod)  # the same container again, in a sandbox that has an interface of its own
    run("ip", "-n", pod, "link", "add", "eth0", "type", "bridge")
    assert node.cni("ADD", pod).error["code"] == 4
    assert (node.links(), node.routes(), node.held()) == ([], [], [f"cni.{pod}.eth0"])
    run("ip", "-n", pod, "link", "del", "eth0")
    assert node.cni("ADD", pod).address == address


def test_a_sandbox_that_is_none_is_refused_by_name_and_nothing_is_left(node: Node, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("")
    for path in ("/run/netns/nowhere", str(tmp_path), str(tmp_path / "file"), str(tmp_path / "fifo"), "/proc/1/ns/uts"):
        error = node.cni("ADD", "c", CNI_NETNS=path).error
        assert (error["code"], path in error["msg"]) == (4, True)
    untouched(node)


def test_the_nodes_own_namespace_is_refused(node: Node):
    error = node.cni("ADD", "c", CNI_NETNS=f"/run/netns/{node.name}").error
    assert (error["code"], "the node's own network namespace" in error["msg"]) == (4, True)
    untouched(node)


BAD: list[tuple[str, dict[str, str | None], object, int]] = [
    ("no command", {"CNI_COMMAND": None}, CONFIGURATION, 4),
    ("no container", {"CNI_CONTAINERID": None}, CONFIGURATION, 4),
    ("no namespace", {"CNI_NETNS": ""}, CONFIGURATION, 4),
    ("no interface", {"CNI_IFNAME": None}, CONFIGURATION, 4),
    ("long interface", {"CNI_IFNAME": "a" * 16}, CONFIGURATION, 4),
    ("unknown command", {"CNI_COMMAND": "UPDATE"}, CONFIGURATION, 4),
    ("bad JSON", {}, "{", 6),
    ("no JSON", {}, "", 6),
    ("no object", {}, "[]", 7),
    ("no name", {}, {"cniVersion": "1.0.0", "type": "routed-cni"}, 7),
    ("old version", {}, {**CONFIGURATION, "cniVersion": "0.2.0"}, 1),
    ("no version", {}, {"name": "n", "type": "routed-cni"}, 1),
    ("unknown IPAM", {}, {**CONFIGURATION, "ipam": {"type": "no-such"}}, 7),
    ("unknown field", {}, {**CONFIGURATION, "bridge": "cni0"}, 2),
    ("not ours to do", {}, {**CONFIGURATION, "ipMasq": True}, 2),
    ("prevResult", {}, {**CONFIGURATION, "prevResult": []}, 7),
    ("wrong MTU", {}, {**CONFIGURATION, "mtu": 9}, 7),
]


@pytest.mark.spec("CNI 1.1.0", "2 Errors.1", "2 Errors.2", "5 Error.2", "5 Error.5", "5 Error.7", "5 Error.8")
def test_bad_input_is_told_with_the_specifications_code_and_leaves_nothing(node: Node):
    pod = node.pod()
    for name, changes, configuration, code in BAD:
        error = node.cni("ADD", pod, configuration=configuration, **changes).error
        assert (name, error["code"]) == (name, code)
        assert error["msg"]
    untouched(node)


def test_a_restarted_agent_keeps_pods_and_addresses_however_it_ended(node: Node):
    pods = [node.pod() for _ in range(3)]
    addresses = [node.cni("ADD", pod).address for pod in pods]
    for ending in (signal.SIGTERM, signal.SIGKILL):
        node.stop(ending)
        assert ping(pods[0], addresses[1]).received == 3
        node.start()
    late = node.pod()
    assert node.cni("ADD", late).address not in addresses
    assert node.cni("ADD", pods[0]).address == addresses[0]
    assert node.cni("DEL", pods[1]).status == 0
    until(lambda: len(node.held()) == 3)


def test_a_freed_address_is_not_given_to_the_next_pod(node: Node):
    pod, other = node.pod(), node.pod()
    freed = node.cni("ADD", pod).address
    node.cni("DEL", pod)
    assert node.cni("ADD", other).address != freed


@pytest.mark.spec("CNI 1.1.0", "3 Lifecycle.4")
def test_twenty_adds_and_deletes_at_once(node: Node):
    pods = [node.pod() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        addresses = [answer.address for answer in pool.map(lambda pod: node.cni("ADD", pod), pods)]
        assert len(set(addresses)) == 20
        assert sorted(route["dst"] for route in node.routes()) == sorted(addresses)
        assert ping(pods[0], addresses[19]).received == 3
        assert [answer.status for answer in pool.map(lambda pod: node.cni("DEL", pod), pods)] == [0] * 20
    untouched(node)


@pytest.mark.spec("CNI 1.1.0", "3 Lifecycle.2")
def test_an_add_and_a_delete_of_one_pod_at_once_end_with_nothing_left(node: Node):
    pod = node.pod()
    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda command: node.cni(command, pod), ["ADD", "DEL"] * 5):
            pass
    assert node.cni("DEL", pod).status == 0
    untouched(node)


def test_nobody_but_root_is_served(node: Node):
    node.cni("DEL", "c")  # the agent listens
    path = node.directory / "cni.sock"
    path.chmod(0o666)
    for directory in (node.directory, *node.directory.parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o011)
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.shutdown(socket.SHUT_WR); print(s.makefile().read())"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, str(path)], user=65534, capture_output=True, text=True, check=False
    )
    assert "user 65534 may not call the agent, only root" in done.stdout, done.stderr


def test_a_request_that_never_ends_does_not_hold_up_others(node: Node):
    pod = node.pod()
    node.cni("DEL", "c")
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.connect(str(node.directory / "cni.sock"))
        hostile.sendall(b"\0\0\xff\xffCNI_COMMAND=ADD")
        assert node.cni("ADD", pod).status == 0

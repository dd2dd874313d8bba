"""Lists of plugins as runtimes execute them: ours first, then Debian's `portmap` and `bandwidth`; and IPAM plugins."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.cni.node import CONFIGURATION, Answer, Node, ping, run
from tests.waiting import until

from routed_cni.veths import host_interface

DEBIAN = Path("/usr/lib/cni")


def debian(node: Node, kind: str, command: str, pod: str, previous: Any, **fields: Any) -> Answer:
    """Execute Debian's plugin `kind` in the node, as the next of the list."""
    configuration = {**CONFIGURATION, "type": kind, "prevResult": previous, **fields}
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{node.name}", str(DEBIAN / kind)],
        env={**node.environment(command, pod), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        input=json.dumps(configuration),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout)


def test_bandwidth_behind_us_limits_the_pods_link_and_lets_go_of_it(node: Node):
    pod, other = node.pod(), node.pod()
    node.cni("ADD", other)
    ours = node.cni("ADD", pod)
    limits = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}
    whole = debian(node, "bandwidth", "ADD", pod, ours.result, runtimeConfig={"bandwidth": limits})
    assert "qdisc tbf " in run("tc", "-n", node.name, "qdisc", "show", "dev", host_interface(pod, "eth0"), "root")
    assert ping(other, ours.address).received == 3
    assert node.check(pod, whole).status == 0
    assert debian(node, "bandwidth", "DEL", pod, whole.result, runtimeConfig={"bandwidth": limits}).status == 0
    assert node.cni("DEL", pod).status == node.cni("DEL", other).status == 0
    until(lambda: not any(name.startswith("rtd") for name in node.links()))


def test_portmap_behind_us_leads_a_port_of_the_node_to_the_pod_and_takes_it_back(node: Node):
    pod = node.pod()
    ours = node.cni("ADD", pod)
    run("ip", "-n", node.name, "link", "set", "lo", "up")
    # whence the node's own packets to a pod come: an address of its own
    run("ip", "-n", node.name, "addr", "add", "192.0.2.1/32", "dev", "lo")
    ports = {"portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]}
    mapped = debian(node, "portmap", "ADD", pod, ours.result, runtimeConfig=ports, snat=True)
    assert mapped.result["ips"] == ours.result["ips"]
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{pod}", "python3", "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        asked = run("nsenter", f"--net=/run/netns/{node.name}", "python3", "-c", CLIENT)
    finally:
        server.kill()
        server.communicate()
    assert asked == "pod\n"
    assert node.check(pod, mapped).status == 0
    assert debian(node, "portmap", "DEL", pod, mapped.result, runtimeConfig=ports, snat=True).status == 0
    assert node.cni("DEL", pod, configuration={**CONFIGURATION, "prevResult": mapped.result, **ports}).status == 0
    node.settled()


SERVER = """
import socket
s = socket.create_server(("", 80))
print("ready", flush=True)
s.accept()[0].sendall(b"pod")
"""
CLIENT = """
import socket
print(socket.create_connection(("192.0.2.1", 18080), 5).recv(9).decode())
"""


def ipam(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A configuration whose addresses host-local gives."""
    given = {"type": "host-local", "subnet": "10.66.0.0/29", "dataDir": str(tmp_path / "host-local"), **more}
    return {**CONFIGURATION, "ipam": given}


def leases(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "host-local" / "routed").glob("10.*"))


@pytest.mark.spec("CNI 1.1.0", "4 Procedure.2", "4 Procedure.4")
def test_addresses_of_host_local_are_wired_checked_and_given_back(node: Node, tmp_path: Path):
    """Section 4: an IPAM plugin is executed with the same environment and configuration."""
    configuration, pod, other = ipam(tmp_path), node.pod(), node.pod()
    node.cni("ADD", other)
    added = node.cni("ADD", pod, configuration=configuration)
    assert leases(tmp_path) == [added.address]
    assert ping(other, added.address).received == 3
    checked = {**configuration, "prevResult": added.result}
    assert node.cni("CHECK", pod, configuration=checked).output == ""
    assert node.cni("DEL", pod, configuration=configuration).status == 0
    assert leases(tmp_path) == []
    assert added.address not in [route["dst"] for route in node.routes()]
    assert node.cni("DEL", pod, configuration=configuration, CNI_NETNS="").status == 0


def test_an_address_of_static_and_its_dns_are_in_the_result(node: Node):
    pod = node.pod()
    static = {"type": "static", "addresses": [{"address": "10.66.1.5/24"}], "dns": {"nameservers": ["10.0.0.53"]}}
    result = node.cni("ADD", pod, configuration={**CONFIGURATION, "ipam": static}).result
    assert [each["address"] for each in result["ips"]] == ["10.66.1.5/32"]
    assert result["dns"] == {"nameservers": ["10.0.0.53"]}


def test_what_a_runtime_chooses_is_handed_to_the_ipam_plugin(node: Node):
    """CNI conventions, capability `ips`, which `static` knows."""
    chosen = {"ipam": {"type": "static"}, "runtimeConfig": {"ips": ["10.66.1.6/24"]}}
    assert node.cni("ADD", node.pod(), configuration={**CONFIGURATION, **chosen}).address == "10.66.1.6"


def test_a_restarted_agent_knows_pods_whose_addresses_are_not_its_own(node: Node, tmp_path: Path):
    configuration, pod, other = ipam(tmp_path), node.pod(), node.pod()
    node.cni("ADD", other)
    added = node.cni("ADD", pod, configuration=configuration)
    node.stop()
    node.start()
    assert node.cni("CHECK", pod, configuration={**configuration, "prevResult": added.result}).output == ""
    assert ping(other, added.address).received == 3
    assert node.cni("DEL", pod, configuration=configuration).status == 0
    until(lambda: host_interface(pod, "eth0") not in node.links())


@pytest.mark.spec("CNI 1.1.0", "4 Procedure.6")
def test_a_wiring_that_fails_gives_the_address_back(node: Node, tmp_path: Path):
    """Section 4: a delegated ADD is undone by a delegated DEL."""
    assert node.cni("ADD", "c", configuration=ipam(tmp_path), CNI_NETNS="/run/netns/nowhere").error["code"] == 4
    assert leases(tmp_path) == []
    node.settled()


@pytest.mark.spec("CNI 1.1.0", "4 Procedure.5")
def test_what_an_ipam_plugin_refuses_is_passed_on(node: Node, tmp_path: Path):
    """Section 4: errors of a delegated plugin are the caller's."""
    full = ipam(tmp_path, rangeStart="10.66.0.2", rangeEnd="10.66.0.2")
    assert node.cni("ADD", node.pod(), configuration=full).status == 0
    error = node.cni("ADD", node.pod(), configuration=full).error
    assert "IPAM plugin host-local: " in error["msg"]
    assert "no IP addresses available" in error["msg"]


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.7", "4 Procedure.5")
def test_a_lost_address_is_told_by_the_ipam_plugins_check(node: Node, tmp_path: Path):
    """Section 2, CHECK: "should call CHECK on any delegated (e.g. IPAM) plugins and pass any errors on"."""
    configuration, pod = ipam(tmp_path), node.pod()
    added = node.cni("ADD", pod, configuration=configuration)
    (tmp_path / "host-local" / "routed" / added.address).unlink()
    error = node.cni("CHECK", pod, configuration={**configuration, "prevResult": added.result}).error
    assert error["msg"].startswith("IPAM plugin host-local: ")


def test_an_address_that_a_pod_of_ours_has_is_refused(node: Node):
    address = node.cni("ADD", node.pod()).address
    static = {"type": "static", "addresses": [{"address": f"{address}/24"}]}
    error = node.cni("ADD", node.pod(), configuration={**CONFIGURATION, "ipam": static}).error
    assert (error["code"], f"static gave {address}" in error["msg"]) == (7, True)
    assert [route["dst"] for route in node.routes()] == [address]


@pytest.mark.parametrize("answer", ["", "{", "[]", '{"ips": [{"address": "x"}]}', '{"ips": []}'])
def test_an_ipam_plugin_that_answers_nonsense_is_named_and_nothing_is_left(node: Node, tmp_path: Path, answer: str):
    odd = tmp_path / "bin" / "odd"
    odd.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '%s' '{answer}'\n")
    odd.chmod(0o755)
    error = node.cni("ADD", node.pod(), configuration={**CONFIGURATION, "ipam": {"type": "odd"}}).error
    assert "IPAM plugin odd" in error["msg"]
    node.settled()


RECORDER = """#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >>'LOG'
[ "$CNI_COMMAND" != ADD ] || printf '{"cniVersion":"1.1.0","ips":[{"address":"10.66.2.%s/32"}]}' "${CNI_CONTAINERID#c}"
"""


@pytest.mark.spec("CNI 1.1.0", "2 GC.4", "2 GC.8", "2 STATUS.6", "4 Procedure.4")
def test_gc_and_status_are_forwarded_and_gc_gives_back_what_it_collects(node: Node, tmp_path: Path):
    """Section 2, GC: "MUST forward any GC calls to delegated plugins"; STATUS likewise."""
    log, recorder = tmp_path / "log", tmp_path / "bin" / "recorder"
    recorder.write_text(RECORDER.replace("LOG", str(log)))
    recorder.chmod(0o755)
    configuration = {**CONFIGURATION, "cniVersion": "1.1.0", "ipam": {"type": "recorder"}}
    for container in ("c1", "c2"):
        pod = node.pod()
        added = node.cni("ADD", pod, configuration=configuration, CNI_CONTAINERID=container)
        assert added.address == f"10.66.2.{container[1]}"
    node.stop()
    node.start()
    valid = {**configuration, "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    assert node.cni("GC", "", configuration=valid, CNI_NETNS=None, CNI_IFNAME=None).output == ""
    assert node.cni("STATUS", "", configuration=configuration, CNI_NETNS="", CNI_IFNAME="").output == ""
    assert log.read_text().splitlines() == ["ADD c1", "ADD c2", "DEL c1", "GC ", "STATUS "]
    assert node.links() == [host_interface("c2", "eth0")]

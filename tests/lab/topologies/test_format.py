"""What containerlab's format asks of a lab, on a kernel that the machine's own has not to do with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lab.topologies.conftest import Lab

TEXT = """\
name: {{ .name }}
mgmt: {ipv4-subnet: 192.0.2.0/28}
topology:
  defaults: {kind: linux, exec: ["ip address add ${SUBNET:=10.7.0}.__clabNodeName__/24 dev eth1"]}
  nodes:
    "1":
      binds: ["seen:/etc/lab/seen:ro"]
      exec: [grep -q seen /etc/lab/seen]
      cmd: sleep 600
      cpu: 2
    "2":
      network-mode: none
      stages: {create: {wait-for: [{node: "1", stage: configure}]}}
      exec: ["true"]
    sw: {kind: bridge}
  links:
    - endpoints: ["1:eth1", "sw:p1"]
    - endpoints: ["sw:p2", "2:eth1"]
      mtu: 1400
    - {type: dummy, endpoint: {node: "1", interface: dummy0, mac: "02:00:00:00:00:d0"}}
    - {type: host, host-interface: from1, endpoint: {node: "1", interface: eth2}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, up: Callable[..., Lab]) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("format")
    (directory / "format.clab.yml").write_text(TEXT)
    (directory / "format.clab_vars.yml").write_text("name: format\n")
    (directory / "seen").write_text("seen\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBNET", "10.8.0")
        yield up(str(directory / "format"))


def links(lab: Lab, node: str) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(lab.do("exec", node, "ip", "-d", "-j", "link"))}


def test_the_bridge_carries_with_the_addresses_that_the_shells_variable_gave(lab: Lab) -> None:
    lab.do("exec", "2", "ping", "-c1", "-W5", "10.8.0.1")


def test_interfaces_are_as_the_file_has_them(lab: Lab) -> None:
    one, bridge = links(lab, "1"), links(lab, "sw")

    assert (one["eth1"]["mtu"], one["dummy0"]["mtu"], one["dummy0"]["address"]) == (9500, 9500, "02:00:00:00:00:d0")
    assert one["eth2"]["operstate"] == "UP"
    assert (bridge["p2"]["master"], bridge["sw"]["mtu"]) == ("sw", 1400)
    assert "eth0" not in links(lab, "2")
    assert links(lab, "host")["from1"]["ifalias"] == "routed lab format"


def test_the_management_network_is_a_bridge_of_the_lab(lab: Lab) -> None:
    lab.do("exec", "1", "ping", "-c1", "-W5", "192.0.2.1")

    told = lab.inspect()["nodes"]
    assert told["1"]["addresses"]["eth0"] == ["192.0.2.2/28"]
    assert told["2"]["role"] == "plain"

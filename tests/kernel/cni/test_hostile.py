"""What nobody should send, through the executable to the kernel: refused by name, and nothing is left behind."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.kernel.cni.node import CONFIGURATION, Node, ping

from routed_cni.faults import Code

LARGE = {**CONFIGURATION, "args": {"x": "y" * (1 << 20)}}
CASES: list[tuple[dict[str, str | None], Any, int]] = [
    ({"CNI_CONTAINERID": ".."}, CONFIGURATION, 4),
    ({"CNI_CONTAINERID": "../../etc"}, CONFIGURATION, 4),
    ({"CNI_CONTAINERID": "a\nb"}, CONFIGURATION, 4),
    ({"CNI_IFNAME": ".."}, CONFIGURATION, 4),
    ({"CNI_IFNAME": "../x"}, CONFIGURATION, 4),
    ({"CNI_IFNAME": "eth%d"}, CONFIGURATION, 4),
    ({"CNI_NETNS": "/dev/zero"}, CONFIGURATION, 4),
    ({"CNI_NETNS": "../../run/netns/no"}, CONFIGURATION, 4),
    ({"CNI_NETNS": "x" * 5000}, CONFIGURATION, 4),
    ({"CNI_ARGS": "x" * 100_000}, CONFIGURATION, 4),
    ({}, json.dumps(LARGE), 6),
    ({}, json.dumps(CONFIGURATION)[:-1], 6),
    ({}, "[" * 100_000, 6),
    ({}, {**CONFIGURATION, "name": "../../etc"}, 7),
    ({}, {**CONFIGURATION, "ipam": {"type": "../../bin/sh"}}, 7),
    ({}, {**CONFIGURATION, "mtu": 1 << 70}, 7),
    ({}, '{"cniVersion":"1.0.0","name":"a\\u0000b","type":"t"}', 7),
]


def test_hostile_calls_are_refused_one_by_one_and_the_next_good_one_works(node: Node):
    pod, other = node.pod(), node.pod()
    for changes, configuration, code in CASES:
        error = node.cni("ADD", pod, configuration=configuration, **changes).error
        assert (error["code"], bool(error["msg"])) == (code, True), (changes, error)
    node.settled()
    node.cni("ADD", pod)
    assert ping(pod, node.cni("ADD", other).address, 1).received == 1


def test_a_hundred_thousand_bytes_of_annotations_and_a_long_id_are_taken(node: Node):
    annotations = {f"example.com/{number}": "x" * 1000 for number in range(100)}
    configuration = {**CONFIGURATION, "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}}
    pod, long = node.pod(), "c" * 500
    assert node.cni("ADD", pod, configuration=configuration, CNI_CONTAINERID=long).status == 0
    assert node.cni("DEL", pod, configuration=configuration, CNI_CONTAINERID=long).status == 0
    node.settled()


NUL = "a\0b"
NESTED: Any = None
for _ in range(200):
    NESTED = [NESTED]
FIELDS: list[dict[str, Any]] = [
    {"name": ".."},
    {"name": NUL},
    {"type": "../../bin/sh"},
    {
        "prevResult": {
            "interfaces": [{"name": "..", "sandbox": "/"}],
            "ips": [{"address": "0.0.0.0/0", "interface": -1}],
        }
    },
    {"prevResult": {"interfaces": NESTED, "ips": "all", "routes": 7, "dns": []}},
    {"runtimeConfig": {"ips": [NUL, "../1", "10.9.0.1"], "mac": "..", "io.kubernetes.cri.pod-annotations": NESTED}},
    {"runtimeConfig": {"ips": ["127.0.0.1"]}},
    {"ipam": {"type": "."}},
    {"ipam": {"type": "host-local", "subnet": "..", "dataDir": "/nowhere/x"}},
    {"cni.dev/valid-attachments": [{"containerID": "..", "ifname": NUL}] * 1000, "name": "other"},
    {"cni.dev/valid-attachments": NESTED},
    {"dns": NESTED, "args": NESTED},
]


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_hostile_configurations_of_any_command_are_answered_and_touch_no_pod(node: Node, command: str):
    running, pod = node.pod(), node.pod()
    added = node.cni("ADD", running)
    for fields in FIELDS:
        answer = node.cni(command, pod, configuration={**CONFIGURATION, "cniVersion": "1.1.0", **fields})
        if answer.status:
            assert answer.error["msg"]
            assert answer.error["code"] != Code.BUG, fields
        node.cni("DEL", pod)
    assert node.check(running, added).status == 0
    assert node.cni("DEL", running).status == 0
    node.settled()


@pytest.mark.parametrize("data", [b"\xff" * 4, b"\0\0\0\5abc", b"\0\0\0\0", bytes(70_000)])
def test_a_client_that_speaks_nonsense_does_not_hurt_the_agent(node: Node, data: bytes):
    pod = node.pod()
    node.cni("DEL", pod)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as hostile:
            hostile.connect(str(node.directory / "cni.sock"))
            hostile.sendall(data)
    assert node.cni("ADD", pod).status == 0


def test_fifty_calls_at_once_of_one_interface_leave_one_or_none(node: Node):
    pod = node.pod()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda command: node.cni(command, pod), ["ADD", "DEL", "CHECK", "DEL", "ADD"] * 10))
    assert {answer.status for answer in answers} <= {0, 1}
    assert node.cni("DEL", pod).status == 0
    node.settled()

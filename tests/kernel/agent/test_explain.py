"""`routed explain` on two nodes of one subnet: what they would do with an address, and what is in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Node, Pod, World, member
from tests.waiting import until

BLOCK = "10.244.2.0/24"


@dataclass
class Pair:
    one: Node
    two: Node
    pods: tuple[Pod, Pod]

    def explain(self, *words: str) -> tuple[int, str]:
        done = self.one.routed("explain", *words)
        return done.returncode, done.stdout + done.stderr

    def asked(self, *words: str) -> Any:
        done = self.one.routed("explain", "--json", *words)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    world = World(tmp_path_factory.mktemp("explain"))
    try:
        world.apply(POOL, member(1), member(2))
        one, two = world.node(1), world.node(2)
        for node in (one, two):
            node.start()
        for node in (one, two):
            node.ready(40)
        made = Pair(one, two, (world.pod(one), world.pod(two)))
        until(lambda: f"{BLOCK} 10.99.0.2" in one.namespace.ours(), 40)
        yield made
    finally:
        world.close()


def test_the_whole_way_from_the_path_to_the_kernel(pair: Pair) -> None:
    status, said = pair.explain(pair.pods[1].address)
    assert status == 0, said
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    told = {line[0]: line[1] for line in lines if len(line) == 2}
    assert said.startswith(f"{pair.pods[1].address} on node n1\n")
    assert told["address"] == "pool pods, block of node n2"
    assert told["learned"] == BLOCK
    assert told[">"] == "via 10.99.0.2 from 10.99.0.2: the only path"
    assert told["decision"] == f"{BLOCK} direct, eth1 via 10.99.0.2"
    assert told["because"] == "same subnet by eth1 10.99.0.0/24"
    assert told["kernel"].startswith(f"{BLOCK} proto 114 metric 1024, eth1 via 10.99.0.2")
    assert told["so"] == "the kernel agrees: eth1 via 10.99.0.2"


def test_a_pod_s_packets(pair: Pair) -> None:
    status, said = pair.explain(pair.pods[1].address, "--from", pair.pods[0].address)
    assert status == 0, said
    assert f"from pod {pair.pods[0].address}" in said


def test_a_pod_of_this_node_and_an_address_that_none_has(pair: Pair) -> None:
    answer = pair.asked(pair.pods[0].address)
    assert answer["decision"]["encapsulation"] == "local"
    assert (answer["agrees"], answer["forwarded"]) == (True, True)
    assert pair.explain("10.244.1.200")[0] == 1
    answer = pair.asked("10.244.1.200")
    assert (answer["decision"]["encapsulation"], answer["kernel"]["outcome"]) == ("blackhole", "blackhole")
    assert (answer["agrees"], answer["forwarded"]) == (True, False)


def test_an_address_outside_every_pool_is_not_ours_to_decide(pair: Pair) -> None:
    answer = pair.asked("10.99.0.2")
    assert (answer["pool"], answer["decision"], answer["agrees"]) == (None, None, True)
    assert "not ours to decide" in answer["conclusion"]


@pytest.mark.parametrize(
    ("words", "undone", "text"),
    [
        (("route", "add", BLOCK, "via", "10.99.0.2", "metric", "5"), ("route", "del", BLOCK, "metric", "5"), "lower"),
        (
            ("route", "add", "10.244.2.0/25", "via", "10.99.0.2"),
            ("route", "del", "10.244.2.0/25"),
            "a longer route takes these packets: 10.244.2.0/25",
        ),
        (("rule", "add", "to", BLOCK, "blackhole"), ("rule", "del", "to", BLOCK, "blackhole"), "blackhole"),
    ],
    ids=["metric", "longer", "rule"],
)
def test_what_is_in_the_way_is_named(pair: Pair, words: tuple[str, ...], undone: tuple[str, ...], text: str) -> None:
    pair.one.namespace.ip(*words)
    try:
        status, said = pair.explain("10.244.2.5")
        assert status == 1, said
        assert text in said
    finally:
        pair.one.namespace.ip(*undone)
    until(lambda: pair.explain("10.244.2.5")[0] == 0)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("10.244.2",), "'10.244.2' is no address"),
        (("10.244.2.5", "--from", "nobody"), "'nobody' is no pod of this node"),
    ],
    ids=["address", "pod"],
)
def test_bad_input_is_told_with_what_was_expected(pair: Pair, words: tuple[str, ...], error: str) -> None:
    status, said = pair.explain(*words)
    assert status == 1
    assert error in said
    assert "hint: " in said or "e.g." in said


def test_without_the_agent_the_kernel_s_word_is_left(pair: Pair) -> None:
    argv = pair.one.namespace.argv(sys.executable, "-m", "routed", "explain", "10.99.0.2")
    elsewhere = dict(os.environ) | {"ROUTED_HEALTH_PORT": "9098", "ROUTED_NODE": "n1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=elsewhere)
    assert done.returncode == 1
    assert "as far as the kernel alone can say" in done.stdout
    assert "no agent answers on 127.0.0.1:9098" in done.stderr

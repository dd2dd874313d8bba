"""Two nodes on one subnet and a BIRD router that peers with both: what they do together, and what disturbs nobody.

One world for all tests: each leaves it as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, ROUTER, TO_ROUTER, Namespace, Node, Pod, Router, World, member, run
from tests.waiting import until

BEHIND = "10.244.9.0/24"  # announced by the router, for a member in another subnet
FAR = {"kind": "Node", "metadata": {"name": "far"},
       "spec": {"bgp": {"ipv4Address": "10.98.0.9/24"}, "podCIDRs": [BEHIND]}}  # fmt: skip
LEARNED, LEARNED_BY_2 = "10.244.2.0/24 10.99.0.2", "10.244.1.0/24 10.99.0.1"


@dataclass
class Pair:
    world: World
    one: Node
    two: Node
    router: Router
    pods: tuple[Pod, Pod]

    def quiet(self) -> Any:
        """The route events of everybody, while the block runs."""
        return _all_quiet(self)

    @contextlib.contextmanager
    def draining(self, *words: str) -> Generator[subprocess.Popen[str]]:
        """`routed node drain` on the first node, ended with the block."""
        with self.one.command("node", "drain", *words) as command:
            try:
                yield command
            finally:
                command.kill()


@contextlib.contextmanager
def _all_quiet(pair: Pair) -> Generator[list[list[str]]]:
    places = (pair.one.namespace, pair.two.namespace, pair.router.namespace)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(place.watched()) for place in places]


def up(node: Node) -> set[str]:
    """The peers with which `node` has a session."""
    return {each["peer"] for each in node.status()["sessions"] if each["state"] == "established"}


def settled(pair: Pair) -> None:
    """Everybody has told everybody everything."""
    tor = ["n1", "n2"]
    until(lambda: all("Established" in pair.router.ask("show", "protocols", name) for name in tor), 40)
    until(lambda: up(pair.one) >= {"10.99.0.2", ROUTER} and up(pair.two) >= {"10.99.0.1", ROUTER}, 40)
    until(lambda: not any(each["stale"] for node in (pair.one, pair.two) for each in node.status()["sessions"]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    world = World(tmp_path_factory.mktemp("pair"))
    try:
        world.apply(POOL, member(1), member(2), TO_ROUTER)
        one, two = world.node(1), world.node(2)
        router = world.router([1, 2], {BEHIND: "10.98.0.9"})
        for node in (one, two):
            node.namespace.ip("route", "add", "10.98.0.0/24", "via", ROUTER)
            node.start()
        for node in (one, two):
            node.ready(40)
        made = Pair(world, one, two, router, (world.pod(one), world.pod(two)))
        settled(made)
        yield made
        for node in (one, two):
            assert not re.search("Traceback|never retrieved|never awaited", node.log.read_text())
    finally:
        world.close()


def test_the_nodes_learn_each_others_block_and_pods_ping(pair: Pair) -> None:
    assert LEARNED in pair.one.namespace.ours()
    assert LEARNED_BY_2 in pair.two.namespace.ours()
    assert pair.pods[0].reaches(pair.pods[1])
    assert pair.pods[1].reaches(pair.pods[0])
    assert "10.244.1.0/24 via 10.99.0.1" in pair.router.namespace.ip("route")


def test_status_readiness_and_metrics_say_so(pair: Pair) -> None:
    status = pair.one.status()
    assert (status["node"], status["ready"], status["synced"], status["endpoints"]) == ("n1", True, True, 1)
    sessions = {each["peer"]: (each["member"], each["state"], each["accepted"]) for each in status["sessions"]}
    assert sessions["10.99.0.2"] == ("n2", "established", 1)
    assert sessions[ROUTER][:2] == (None, "established")
    decisions = {each["prefix"]: each for each in status["routes"]["decisions"]}
    assert decisions["10.244.2.0/24"]["encapsulation"] == "direct"
    assert decisions["10.244.2.0/24"]["because"] == "same subnet by eth1 10.99.0.0/24"
    table = pair.one.routed("node", "status").stdout
    assert "n1: ready, in sync, 3 of 3 routes programmed" in table
    assert any(line.split()[:4] == ["10.99.0.2", "64512", "n2", "established"] for line in table.splitlines())
    assert pair.one.http("/liveness") == (200, "alive\n")
    assert pair.one.http("/readiness") == (200, "ready\n")
    assert pair.one.http("/nowhere")[0] == 404
    metrics = pair.one.http("/metrics", 9091)[1]
    assert 'routed_bgp_session_up{as="64512",peer="10.99.0.2"} 1.0' in metrics
    assert "routed_ready 1.0" in metrics
    assert 'routed_dataplane_routes{state="programmed"} 3.0' in metrics
    repairs = _repairs(pair)
    pair.one.namespace.ip("route", "del", "10.244.2.0/24")
    until(lambda: LEARNED in pair.one.namespace.ours())
    assert _repairs(pair) == repairs + 1


def _repairs(pair: Pair) -> float:
    found = re.search(r"^routed_dataplane_repairs_total (\S+)$", pair.one.http("/metrics", 9091)[1], re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_bgp_status_and_routes_say_what_is_there_and_why(pair: Pair) -> None:
    shown = pair.one.routed("bgp", "status").stdout
    assert shown.startswith("2 of 2 sessions established; prefixes: 2 IPv4, 0 IPv6")
    best = pair.one.routed("bgp", "routes", pair.pods[1].address).stdout
    assert best.startswith("10.244.2.0/24\n> via 10.99.0.2, from 10.99.0.2\n    why           the only path\n")
    sent = json.loads(pair.one.routed("bgp", "routes", "--peer", ROUTER, "--json").stdout)["routes"]
    assert {each["prefix"]: each["rejected"] for each in sent} == {BEHIND: None}
    told = pair.one.routed("bgp", "routes", "--peer", ROUTER, "--advertised").stdout
    assert "10.244.1.0/24" in told
    refused = pair.one.routed("bgp", "routes", "--peer", "10.7.7.7")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        1,
        "error: peer: there is no session with 10.7.7.7",
    )


def test_rfc8326_a_drained_node_is_marked_then_withdrawn_and_comes_back(pair: Pair) -> None:
    def known() -> str:
        return pair.router.ask("show", "route", "10.244.1.0/24", "all")

    with pair.draining("--wait", "3600") as command:
        until(lambda: "(65535,0)" in known())
        assert LEARNED_BY_2 in pair.two.namespace.ours()
        assert pair.pods[1].reaches(pair.pods[0])
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=20)
    assert (command.returncode, "node n1 stays lowered" in said) == (130, True)
    assert "drain: paths to this node are marked" in pair.one.routed("bgp", "status").stdout
    assert pair.one.routed("node", "drain", "--wait", "0").returncode == 0
    until(lambda: "10.244.1.0/24" not in known() and LEARNED_BY_2 not in pair.two.namespace.ours())
    assert pair.one.routed("node", "undrain").stdout == "node n1 is in service again\n"
    until(lambda: "(65535,0)" not in known() and LEARNED_BY_2 in pair.two.namespace.ours())
    settled(pair)


@pytest.mark.without_ipip
def test_without_the_driver_direct_routes_are_there_and_status_names_pool_and_module(pair: Pair) -> None:
    pair.world.apply(FAR)
    until(lambda: any("not programmed" in each for each in pair.one.status()["problems"]), what=pair.one.status)
    (problem,) = [each for each in pair.one.status()["problems"] if "IPIP" in each]
    assert "pool pods is CrossSubnet but this kernel has no IPIP driver; 10.244.9.0/24: not programmed" in problem
    assert "modprobe ipip" in problem
    assert pair.one.status()["tunnel"]["available"] is False
    assert LEARNED in pair.one.namespace.ours()
    assert "no IPIP driver" in pair.one.routed("node", "status").stdout
    pair.world.delete(FAR)
    until(lambda: not any("not programmed" in each for each in pair.one.status()["problems"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_restart_shows_no_route_event_and_loses_no_ping(pair: Pair, number: signal.Signals) -> None:
    settled(pair)
    routes = pair.one.namespace.ours()
    with pair.quiet() as events, pair.pods[0].pinging(pair.pods[1]) as lost:
        began = time.monotonic()
        ended = pair.one.stop(number)
        assert ended.status == (0 if number is signal.SIGTERM else -9)
        down = time.monotonic()
        until(lambda: "Established" not in pair.router.ask("show", "protocols", "n1"))
        pair.one.start()
        pair.one.ready(40)
        print(f"stop {down - began:.2f} s, start to ready {time.monotonic() - down:.2f} s")
        settled(pair)
    assert events == [[], [], []]
    assert lost == []
    assert pair.one.namespace.ours() == routes
    assert pair.one.status()["endpoints"] == 1
    address = pair.pods[0].namespace.look("addr", "show", "dev", "eth0")[0]["addr_info"][0]["local"]
    assert address == pair.pods[0].address
    assert pair.one.cni("STATUS", "", "")[0] == 0


def test_a_killed_exabgp_is_started_again_without_a_route_event(pair: Pair) -> None:
    settled(pair)
    first = pair.one.exabgp
    with pair.quiet() as events, pair.pods[0].pinging(pair.pods[1]) as lost:
        os.kill(first, signal.SIGKILL)
        until(lambda: pair.one.exabgp not in (0, first))
        settled(pair)
    assert events == [[], [], []]
    assert lost == []
    assert pair.one.status()["problems"] == pair.two.status()["problems"]


def repair_time(pair: Pair, *damage: str) -> float:
    """Milliseconds from the first route that `ip route DAMAGE` took to the last that was put back."""
    before = pair.one.namespace.look("-d", "route", "show", "proto", "114")
    with pair.one.namespace.watched() as events:
        pair.one.namespace.ip("route", *damage)
        until(lambda: pair.one.namespace.look("-d", "route", "show", "proto", "114") == before, 5)
    times = [datetime.fromisoformat(line[1 : line.index("]")]) for line in events]
    milliseconds = (max(times) - min(times)).total_seconds() * 1000
    print(f"ip route {' '.join(damage)}: repaired in {milliseconds:.1f} ms")
    return milliseconds


@pytest.mark.parametrize(
    "damage",
    [
        "del 10.244.2.0/24 metric 1024",
        "flush proto 114",
        "replace 10.244.2.0/24 via 10.99.0.77 metric 1024 proto static",
        "replace 10.244.2.0/24 via 10.99.0.77 metric 1024 proto 114",
        "append 10.244.2.0/24 via 10.99.0.77 metric 1024 proto 114",
    ],
)
def test_a_route_that_another_hand_changed_is_back_at_once(pair: Pair, damage: str) -> None:
    assert repair_time(pair, *damage.split()) < 500
    assert pair.pods[0].reaches(pair.pods[1])
    assert pair.one.status()["conflicts"] == []


def test_a_strangers_route_stays_and_is_reported(pair: Pair) -> None:
    ip = pair.one.namespace.ip
    ip("route", "add", "10.244.2.0/24", "via", ROUTER, "metric", "5", "proto", "static")
    (conflict,) = until(lambda: pair.one.status()["conflicts"])
    assert "10.244.2.0/24" in conflict
    assert "with metric 5, used instead of ours" in conflict
    assert "Conflicts with what others put into the kernel:" in pair.one.routed("node", "status").stdout
    ip("route", "del", "10.244.2.0/24", "metric", "5")
    until(lambda: not pair.one.status()["conflicts"])


def since(pair: Pair) -> str:
    return pair.router.ask("show", "protocols", "n1").split("up")[1].split()[0]


def test_a_node_that_comes_and_goes_takes_effect_and_disturbs_nobody(pair: Pair) -> None:
    settled(pair)
    before = since(pair), pair.one.exabgp
    pair.world.apply(member(3))
    until(lambda: "10.99.0.3" in {each["peer"] for each in pair.one.status()["sessions"]})
    three = pair.world.node(3)
    three.start()
    until(lambda: "10.244.3.0/24 10.99.0.3" in pair.one.namespace.ours(), 40, three.log.read_text)
    assert LEARNED in until(lambda: pair.two.namespace.ours() >= {"10.244.3.0/24 10.99.0.3"} and {LEARNED})
    pair.world.delete(member(3))
    until(lambda: "10.244.3.0/24 10.99.0.3" not in pair.one.namespace.ours())
    until(lambda: "10.99.0.3" not in {each["peer"] for each in pair.two.status()["sessions"]})
    assert three.http("/readiness") == (503, "Node n3 is not in the store\n")
    used = three.cpu_seconds()
    time.sleep(1)
    assert three.cpu_seconds() - used < 0.2, "an agent whose Node is gone is busy"
    assert three.stop().status == 0
    assert (since(pair), pair.one.exabgp) == before
    assert pair.pods[0].reaches(pair.pods[1])


def test_a_change_of_the_pool_takes_effect(pair: Pair) -> None:
    before = since(pair)
    pair.world.apply({**POOL, "spec": {**POOL["spec"], "disableBGPExport": True}})
    until(lambda: LEARNED not in pair.one.namespace.ours())
    pair.world.apply(POOL)
    until(lambda: LEARNED in pair.one.namespace.ours())
    assert since(pair) == before


def test_a_node_that_is_taken_out_of_the_store_by_mistake_keeps_its_routes_until_it_is_back(pair: Pair) -> None:
    settled(pair)
    routes = pair.one.namespace.ours()
    with pair.one.namespace.watched() as events:
        pair.world.delete(member(1))
        until(lambda: pair.one.http("/readiness")[0] == 503)
        until(lambda: LEARNED_BY_2 not in pair.two.namespace.ours())
        pair.world.apply(member(1))
        until(lambda: pair.one.http("/readiness")[0] == 200, 40, pair.one.log.read_text)
        settled(pair)
    assert events == []
    assert pair.one.namespace.ours() == routes
    until(lambda: LEARNED_BY_2 in pair.two.namespace.ours())


def test_pods_added_and_deleted_amid_route_churn_never_lose_a_route(pair: Pair) -> None:
    node, churning = pair.one, threading.Event()

    def churn() -> None:
        while not churning.is_set():
            for verb in ("add", "del"):
                node.namespace.ip("route", verb, "198.51.100.0/24", "via", ROUTER, check=False)

    thread = threading.Thread(target=churn)
    thread.start()
    sandboxes = [pair.world.namespace("p") for _ in range(4)]
    lost: list[str] = []
    try:
        with node.namespace.watched() as events:
            for round_ in range(6):
                for sandbox in sandboxes:
                    status, answer = node.cni("ADD", f"{sandbox.name}-{round_}", sandbox.path)
                    assert status == 0, answer
                    address = answer["ips"][0]["address"].removesuffix("/32")
                    run(*sandbox.argv("ping", "-n", "-c", "1", "-W", "1", pair.pods[0].address))
                    lost += (
                        [address] if not any(each.startswith(f"{address} ") for each in node.namespace.ours()) else []
                    )
                for sandbox in sandboxes:
                    assert node.cni("DEL", f"{sandbox.name}-{round_}", sandbox.path)[0] == 0
        deleted = [line for line in events if line.split("] ")[-1].startswith("Deleted 10.244.1.")]
        added = [line for line in events if " proto 114 " in line and "Deleted" not in line]
    finally:
        churning.set()
        thread.join()
    assert lost == []
    assert len(added) == 24, "a pod's route was written more than once"
    assert len(deleted) <= 24
    assert node.status()["endpoints"] == 1


def test_adds_and_deletes_during_a_restart_are_done_or_refused_and_leave_no_half_pod(pair: Pair) -> None:
    settled(pair)
    node, sandboxes = pair.one, [pair.world.namespace("p") for _ in range(3)]
    answers: list[tuple[int, Any]] = []
    done = threading.Event()

    def come_and_go(sandbox: Namespace) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            answers.append(node.cni("ADD", f"{sandbox.name}-{turn}", sandbox.path))
            while True:  # as a runtime does
                answers.append(node.cni("DEL", f"{sandbox.name}-{turn}", sandbox.path))
                if answers[-1][0] == 0:
                    break

    threads = [threading.Thread(target=come_and_go, args=(sandbox,)) for sandbox in sandboxes]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before = len(answers)
            until(lambda before=before: len(answers) > before + 10)
            assert node.stop().status == 0
            node.start()
            node.ready(40)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    refused = [answer for status, answer in answers if status]
    assert all(answer["code"] == 11 for answer in refused), refused
    assert len(refused) < 10
    assert node.status()["endpoints"] == 1
    links = lambda: [each["ifname"] for each in node.namespace.look("link", "show")]  # noqa: E731
    until(lambda: len([name for name in links() if name.startswith("rtd")]) == 1)  # the janitor goes round
    assert len([route for route in node.namespace.ours() if route.startswith("10.244.1.")]) == 2
    settled(pair)


def test_a_storm_of_events_leaves_half_of_the_processor_to_others(pair: Pair) -> None:
    batch = "".join(
        f"route {verb} 198.51.100.{number}/32 via {ROUTER}\n" for number in range(200) for verb in ("add", "del")
    )
    began, used, rounds = time.monotonic(), pair.one.cpu_seconds(), 0
    while time.monotonic() - began < 2:
        run(*pair.one.namespace.argv("ip", "-batch", "-"), input=batch)
        rounds += 1
    share = (pair.one.cpu_seconds() - used) / (time.monotonic() - began)
    print(f"{rounds * 400 / 2:.0f} events/s: {share:.0%} of a processor")
    assert share < 0.75
    assert repair_time(pair, "del", "10.244.2.0/24", "metric", "1024") < 2000  # it may be at rest for a second


def test_an_idle_agent_is_idle(pair: Pair) -> None:
    settled(pair)
    began, used = time.monotonic(), pair.one.cpu_seconds()
    time.sleep(4)
    share = (pair.one.cpu_seconds() - used) / (time.monotonic() - began)
    print(f"idle: {share:.2%} of a processor, {pair.one.rss_mb():.0f} MB with ExaBGP")
    assert share < 0.01
    assert pair.one.rss_mb() < 120

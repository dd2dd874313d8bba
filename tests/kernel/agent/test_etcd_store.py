"""Two nodes whose agents share a store in etcd: it comes, goes and comes back, and pods never notice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.agent.world import POOL, Node, World, member
from tests.kernel.store.etcd import Member
from tests.waiting import until


@dataclass
class Site:
    world: World
    etcd: Member
    one: Node
    two: Node

    def apply(self, node: Node, *resources: dict[str, Any]) -> None:
        """By the command, on `node`: etcd is reached from the subnet alone."""
        path = self.world.directory / "resources.yml"
        path.write_text(
            "\n---\n".join(json.dumps({"apiVersion": "projectcalico.org/v3", **each}) for each in resources)
        )
        done = node.routed("apply", "-f", str(path))
        assert done.returncode == 0, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    world = World(tmp_path)
    etcd = Member(tmp_path, address="10.99.0.50", ports=(2379, 2380), inside=world.plugged("etcd", 50).argv())
    try:
        etcd.up()
        world.store = f"etcd://{etcd.endpoint}/site-a"
        one, two = world.node(1), world.node(2)
        made = Site(world, etcd, one, two)
        for node in (one, two):
            (node.directory / "agent.toml").write_text(f'store = "{world.store}"\n')
        made.apply(one, POOL, member(1), member(2))
        for node in (one, two):
            node.start()
        for node in (one, two):
            node.ready()
        yield made
    finally:
        world.close()
        etcd.kill()


def peers(node: Node) -> set[str]:
    return {each["peer"] for each in node.status()["sessions"]}


def misses_the_store(node: Node) -> bool:
    return any("etcd at" in problem for problem in node.status()["problems"])


def test_two_nodes_on_one_etcd_carry_pods_through_its_absence_and_follow_it_again(site):
    one, two = site.world.pod(site.one), site.world.pod(site.two)
    until(lambda: one.reaches(two), 30)
    assert site.etcd.ctl("get", "/site-a/routed/v1/", "--prefix", "--keys-only").strip()

    with one.pinging(two) as lost:
        site.etcd.kill()
        until(lambda: misses_the_store(site.one) and misses_the_store(site.two), 40)
        site.etcd.up()
        until(lambda: not misses_the_store(site.one) and not misses_the_store(site.two), 60)
    assert lost == []

    site.apply(site.two, member(3))  # changed from one node, followed by the other
    until(lambda: "10.99.0.3" in peers(site.one), 60)
    three = site.world.pod(site.two)
    assert three.address not in {one.address, two.address}
    until(lambda: one.reaches(three), 30)


def journal(node: Node) -> Any:
    return node.status()["journal"]


def holder(site: Site, address: str) -> str | None:
    """Whose `address` is, as etcd has it."""
    done = site.two.routed("ipam", "show", address, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["addresses"][0].get("node")


def test_pods_come_and_go_while_etcd_is_away_and_it_is_told_when_it_is_back_even_by_the_next_agent(site):
    stays, goes, far = site.world.pod(site.one), site.world.pod(site.one), site.world.pod(site.two)
    site.etcd.kill()
    comes = site.world.pod(site.one)
    until(lambda: comes.reaches(far) and far.reaches(comes), 30)
    assert site.one.cni("DEL", goes.namespace.name, goes.namespace.path) == (0, {})
    until(lambda: journal(site.one) == {"store_away": True, "waiting": 2, "lost": []}, 30)
    assert any("2 changes wait in its journal" in problem for problem in site.one.status()["problems"])
    assert "routed_ipam_journal_waiting 2.0" in site.one.http("/metrics", 9091)[1]

    site.one.stop(signal.SIGKILL)
    site.etcd.up()
    site.one.start()
    site.one.ready(60)
    assert holder(site, comes.address) == "n1"
    assert holder(site, goes.address) is None
    assert journal(site.one)["waiting"] == 0
    until(lambda: comes.reaches(far) and stays.reaches(far), 30)


def test_an_etcd_that_stands_still_holds_no_pod_up_and_is_told_when_it_goes_on(site):
    site.etcd.pause()
    pods = [site.world.pod(site.one), site.world.pod(site.one)]
    assert len({pod.address for pod in pods}) == 2
    site.etcd.go_on()
    until(lambda: not journal(site.one)["store_away"], 60)
    assert [holder(site, pod.address) for pod in pods] == ["n1", "n1"]
    until(lambda: not misses_the_store(site.one), 60)


def test_an_agent_that_starts_while_etcd_is_away_says_so_and_ends(site):
    site.one.stop()
    site.etcd.kill()
    site.one.start()
    ended = site.one.ended(60)
    assert ended.status == 1
    assert any("etcd at 10.99.0.50:2379" in line for line in ended.complaints)

"""Three members and their users, each in a network namespace of its own on one switch, while the network breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.kernel.agent.world import Namespace, World
from tests.kernel.store.etcd import Member, until

TRAFFIC = Path(__file__).with_name("traffic.py")
PORTS = (2379, 2380)


@dataclass
class User:
    """One running traffic.py, and what it has said."""

    process: subprocess.Popen[str]
    acknowledged: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def end(self) -> None:
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self._listening.join()
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            match line.split():
                case ["ack", number]:
                    self.acknowledged.append(int(number))
                case ["saw", number]:
                    self.seen.append(int(number))
                case _:
                    pass

    def goes_on(self) -> None:
        """Both its changes and its watch go on from here."""
        changes, events = len(self.acknowledged), len(self.seen)
        until(lambda: len(self.acknowledged) > changes + 5 and len(self.seen) > events + 5)


@dataclass
class Cluster:
    members: list[Member]
    places: list[Namespace]
    users: list[User]

    def leader(self) -> int:
        found: list[int] = []
        until(lambda: found.extend(n for n, each in enumerate(self.members) if each.is_leader()) or found)
        return found[0]

    def cut(self, number: int, *, users: bool) -> list[str]:
        """Let member `number` send nothing to its peers, nor to `users`; the addresses that it lost."""
        lost = [each.address for each in self.members if each is not self.members[number]]
        lost += ["10.99.0.20"] if users else []
        for address in lost:
            self.places[number].ip("route", "add", "blackhole", address)
        return lost

    def mend(self, number: int, lost: list[str]) -> None:
        for address in lost:
            self.places[number].ip("route", "del", "blackhole", address)

    def all_go_on(self) -> None:
        for user in self.users:
            user.goes_on()

    def end(self) -> None:
        """Nothing acknowledged was lost, and every watch told of every number once, in order."""
        self.all_go_on()
        for number, user in enumerate(self.users):
            user.end()
            assert user.seen == list(range(1, len(user.seen) + 1))
            assert user.acknowledged == sorted(set(user.acknowledged))
            last = int(self.members[0].ctl("get", f"/{number}", "--print-value-only"))
            assert last - user.acknowledged[-1] in (0, 1)  # the one under way


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three users, each of whom begins with another member: one of them is the leader's."""
    world = World(tmp_path)
    members: list[Member] = []
    users: list[User] = []
    try:
        places = [world.plugged(f"e{number}", 11 + number) for number in range(3)]
        members += [
            Member(tmp_path, f"e{n}", address=f"10.99.0.{11 + n}", ports=PORTS, inside=place.argv())
            for n, place in enumerate(places)
        ]
        for member in members:
            member.joins(members)
            member.start()
        for member in members:
            member.serves()
        url = "etcd://" + ",".join(each.endpoint for each in members)
        home = world.plugged("u", 20)
        for number in range(3):
            command = home.argv(sys.executable, str(TRAFFIC), url, f"/{number}", str(number))
            users.append(User(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        made = Cluster(members, places, users)
        made.all_go_on()
        yield made
    finally:
        for user in users:
            user.end()
        for member in members:
            member.kill()
        world.close()


@pytest.mark.parametrize("users", [False, True], ids=["from its peers", "from everybody"])
def test_a_leader_that_is_cut_off_loses_nothing_and_everybody_goes_on(cluster, users):
    leader = cluster.leader()
    lost = cluster.cut(leader, users=users)
    cluster.all_go_on()
    cluster.mend(leader, lost)
    cluster.all_go_on()
    cluster.end()


def test_a_leader_that_is_killed_loses_nothing_and_everybody_goes_on(cluster):
    leader = cluster.members[cluster.leader()]
    leader.kill()
    cluster.all_go_on()
    leader.up()
    cluster.end()


def test_all_members_killed_and_started_again_lose_nothing(cluster):
    for member in cluster.members:
        member.kill()
    for member in cluster.members:
        member.start()
    cluster.end()

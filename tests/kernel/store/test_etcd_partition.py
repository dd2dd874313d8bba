"""Three members and their users, each in a network namespace of its own on one switch, while the network breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.kernel.store.three import Three, three_members
from tests.waiting import until

TRAFFIC = Path(__file__).with_name("traffic.py")


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
    three: Three
    users: list[User]

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
            last = int(self.three.members[0].ctl("get", f"/{number}", "--print-value-only"))
            assert last - user.acknowledged[-1] in (0, 1)  # the one under way


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three users, each of whom begins with another member: one of them is the leader's."""
    users: list[User] = []
    with three_members(tmp_path) as three:
        try:
            for number in range(3):
                command = three.home.argv(sys.executable, str(TRAFFIC), three.url, f"/{number}", str(number))
                users.append(User(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
            made = Cluster(three, users)
            made.all_go_on()
            yield made
        finally:
            for user in users:
                user.end()


@pytest.mark.parametrize("users", [False, True], ids=["from its peers", "from everybody"])
def test_a_leader_that_is_cut_off_loses_nothing_and_everybody_goes_on(cluster, users):
    leader = cluster.three.leader()
    lost = cluster.three.cut(leader, users=users)
    cluster.all_go_on()
    cluster.three.mend(leader, lost)
    cluster.all_go_on()
    cluster.end()


def test_a_leader_that_is_killed_loses_nothing_and_everybody_goes_on(cluster):
    leader = cluster.three.members[cluster.three.leader()]
    leader.kill()
    cluster.all_go_on()
    leader.up()
    cluster.end()


def test_all_members_killed_and_started_again_lose_nothing(cluster):
    for member in cluster.three.members:
        member.kill()
    for member in cluster.three.members:
        member.start()
    cluster.end()

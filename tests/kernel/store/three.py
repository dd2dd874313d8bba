"""Three members of etcd, each in a network namespace of its own on one switch, and a place for their users."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.agent.world import Namespace, World
from tests.kernel.store.etcd import Member
from tests.waiting import until

PORTS = (2379, 2380)
USERS = "10.99.0.20"


@dataclass
class Three:
    members: list[Member]
    places: list[Namespace]
    home: Namespace

    @property
    def url(self) -> str:
        return "etcd://" + ",".join(each.endpoint for each in self.members)

    def leader(self) -> int:
        found: list[int] = []
        until(lambda: found.extend(n for n, each in enumerate(self.members) if each.is_leader()) or found)
        return found[0]

    def cut(self, number: int, *, users: bool) -> list[str]:
        """Let member `number` send nothing to its peers, nor to `users`; the addresses that it lost."""
        lost = [each.address for each in self.members if each is not self.members[number]]
        lost += [USERS] if users else []
        for address in lost:
            self.places[number].ip("route", "add", "blackhole", address)
        return lost

    def mend(self, number: int, lost: list[str]) -> None:
        for address in lost:
            self.places[number].ip("route", "del", "blackhole", address)


@contextmanager
def three_members(directory: Path) -> Generator[Three]:
    """They serve when the block begins, and are gone after it."""
    world = World(directory)
    members: list[Member] = []
    try:
        places = [world.plugged(f"e{number}", 11 + number) for number in range(3)]
        members += [
            Member(directory, f"e{n}", address=f"10.99.0.{11 + n}", ports=PORTS, inside=place.argv())
            for n, place in enumerate(places)
        ]
        for member in members:
            member.joins(members)
            member.start()
        for member in members:
            member.serves()
        yield Three(members, places, world.plugged("u", int(USERS.rpartition(".")[2])))
    finally:
        for member in members:
            member.kill()
        world.close()

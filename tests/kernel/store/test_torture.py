"""Eight processes take and give back addresses while whatever can be is killed or cut off: nothing acknowledged is
lost, nothing is given twice, and in the end the store holds what was acknowledged and nothing else.

ROUTED_TORTURE_SECONDS makes it go on for so long, over and over, on each backend (`./dev torture SECONDS`);
ROUTED_TORTURE_SEED repeats the choices of a former run, though not its moments.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.kernel.store.crowd import crowd, killing
from tests.kernel.store.three import three_members

SECONDS = float(os.environ.get("ROUTED_TORTURE_SECONDS", "0"))


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("ROUTED_TORTURE_SEED", random.randrange(1 << 32)))
    print(f"ROUTED_TORTURE_SEED={chosen}")
    return chosen


def disturbed(chance: random.Random, disturbances: Sequence[Callable[[], None]]) -> None:
    """Each of them once, in any order; all again until the time is over."""
    until = time.monotonic() + SECONDS
    while True:
        for disturb in chance.sample(disturbances, len(disturbances)):
            disturb()
        if time.monotonic() >= until:
            return


def test_addresses_in_a_file_survive_the_kill_of_any_process(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    with crowd(f"sqlite://{tmp_path}/store.db", seed, tmp_path, lambda *command: list(command)) as all_nodes:
        disturbed(chance, [killing(all_nodes, chance)] * 4)
        all_nodes.goes_on(20)
        all_nodes.end()


def test_addresses_in_etcd_survive_the_kill_of_processes_and_leaders_and_partitions(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    with three_members(tmp_path) as three, crowd(three.url, seed, tmp_path, three.home.argv) as all_nodes:

        def kill_the_leader() -> None:
            leader = three.members[three.leader()]
            leader.kill()
            all_nodes.goes_on(chance.randrange(1, 20))
            leader.up()

        def cut_the_leader_off() -> None:
            leader = three.leader()
            lost = three.cut(leader, users=chance.random() < 0.5)
            all_nodes.goes_on(chance.randrange(1, 20))
            killing(all_nodes, chance)()
            three.mend(leader, lost)

        disturbed(chance, [kill_the_leader, cut_the_leader_off])
        all_nodes.goes_on(20)
        all_nodes.end()

"""Whatever happens meanwhile, the kernel ends up as wanted, and nothing of a stranger's is touched."""

from __future__ import annotations

import os
import select
import socket
from ipaddress import IPv4Network
from random import Random

import pytest
from tests.kernel.felix.faults import Daemon, Faulty, Mortal
from tests.kernel.felix.life import NEIGHBOUR, TOR, Life, prefixes, strangers, ways
from tests.kernel.felix.world import World
from tests.unit.felix.words import A1

BOTH = (TOR, NEIGHBOUR)


def by(hop: str, of: list[str], device: str = "eth1") -> dict[str, tuple[str, str]]:
    return dict.fromkeys(of, (device, hop))


def learned(world: World) -> set[str]:
    """Our routes, but for the node's own block."""
    return set(world.routes()) - {A1}


def all_by(hop: str, of: list[str]) -> dict[str, str]:
    return dict.fromkeys(of, hop)


def test_a_daemon_that_deletes_replaces_and_adds_at_full_rate_does_not_win(world: World) -> None:
    ours, theirs = prefixes(0, 40), prefixes(100, 110)
    random = Random(4)
    with Life(world, all_by(TOR, ours)) as life:
        life.begin()
        wish = all_by(TOR, ours)
        with Daemon(world, ours, theirs, seed=4) as daemon:
            while daemon.rounds < 3000:
                changes = {prefix: random.choice(BOTH) for prefix in random.sample(ours, 5)}
                wish |= changes
                life.round(dict(changes))
        life.settle()
        assert learned(world) == set(ours)
        assert ways(world, ours) == {prefix: ("eth1", hop) for prefix, hop in wish.items()}
        assert set(world.routes(protocol=4)) == {"default", *theirs}


def test_events_lost_in_a_storm_lead_to_a_comparison_of_everything(world: World) -> None:
    ours = prefixes(0, 200)
    with Life(world, all_by(TOR, ours)) as life:
        life.begin()
        with socket.socket(fileno=os.dup(life.monitor.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes it the least it can
        world.ip("route", "flush", "proto", "114")
        assert select.select([life.monitor], [], [], 10)[0]
        changes = life.monitor.read()
        assert changes.overflow
        life.plane.take(changes)
        life.settle()
        assert learned(world) == set(ours)
        assert ways(world, ours[:20]) == by(TOR, ours[:20])


def test_a_storm_of_link_flaps_ends_as_wanted(world: World) -> None:
    ours = prefixes(0, 40)
    random = Random(7)
    with Life(world, all_by(TOR, ours)) as life:
        life.begin()
        for number in range(30):
            if random.randrange(2):
                world.ip("link", "set", "eth1", "down")
                world.ip("link", "set", "eth1", "up")
            else:
                world.beyond("ip", "link", "set", world.tor, "down")
                world.beyond("ip", "link", "set", world.tor, "up")
            if random.randrange(3):
                life.round({ours[number]: NEIGHBOUR})
            else:
                life.round({ours[number]: None})
                life.round({ours[number]: NEIGHBOUR})
        world.until(lambda: "LOWER_UP" in world.link("eth1")["flags"])
        life.settle()
        assert learned(world) == set(ours)
        assert ways(world, ours) == by(NEIGHBOUR, ours[:30]) | by(TOR, ours[30:])


def test_routes_follow_an_address_to_another_interface(world: World) -> None:
    ours = prefixes(0, 10)
    world.ip("link", "add", "eth2", "type", "veth", "peer", "name", "second", "netns", world.outside)
    world.beyond("ip", "link", "set", "second", "up")
    world.ip("link", "set", "eth2", "up")
    world.until(lambda: "LOWER_UP" in world.link("eth2")["flags"])
    with Life(world, all_by(NEIGHBOUR, ours)) as life:
        life.begin()
        assert ways(world, ours) == by(NEIGHBOUR, ours)
        world.ip("addr", "del", "10.1.1.11/24", "dev", "eth1")
        world.ip("addr", "add", "10.1.1.11/24", "dev", "eth2")
        life.settle()
        assert ways(world, ours) == by(NEIGHBOUR, ours, "eth2")
        world.ip("addr", "add", "10.1.1.11/24", "dev", "eth1")  # and back, the new one before the old one goes
        world.ip("addr", "del", "10.1.1.11/24", "dev", "eth2")
        life.settle()
        assert ways(world, ours) == by(NEIGHBOUR, ours)


def test_a_full_fib_is_reported_by_prefix_and_the_rest_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Faulty)
    ours = prefixes(0, 20)
    refused = ours[3:6]
    monkeypatch.setattr(Faulty, "doomed", {IPv4Network(prefix).network_address.packed for prefix in refused})
    with Life(world, all_by(TOR, ours)) as life:
        report = life.begin()
        assert {(str(key).split()[0], reason) for key, reason in report.failures.items()} == {
            (prefix, "No space left on device") for prefix in refused
        }
        assert (report.desired, report.programmed) == (21, 18)
        assert learned(world) == set(ours) - set(refused)
        report = life.round({ours[0]: NEIGHBOUR}, retry=True)
        assert len(report.failures) == 3
        assert ways(world, ours[:1]) == by(NEIGHBOUR, ours[:1])
        Faulty.doomed.clear()
        life.settle()
        assert learned(world) == set(ours)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events_and_faults_ends_as_from_scratch(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", Faulty)
    monkeypatch.setattr(Faulty, "doomed", set[bytes]())
    monkeypatch.setattr(Faulty, "lose", 0)
    random, every = Random(seed), prefixes(0, 30)
    wish = all_by(TOR, every[:20])
    with Life(world, wish) as life:
        life.begin()
        for _ in range(40):
            match random.randrange(8):
                case 0:
                    some = random.sample(every, 6)
                    Faulty.doomed = {IPv4Network(prefix).network_address.packed for prefix in some}
                case 1:
                    Faulty.lose = random.randrange(5)
                case 2:
                    world.ip("route", "flush", "proto", "114", "root", random.choice(every))
                case 3:
                    protocol = random.choice(["114", "bird"])  # where ours is not there, bird's own is a conflict
                    world.ip("route", "replace", "blackhole", random.choice(every), "metric", "1024", "proto", protocol)
                case 4:
                    world.ip("link", "set", "eth1", "down")
                    life.round()
                    world.ip("link", "set", "eth1", "up")
                case _:
                    pass  # one change meets what the last one left, or several are squashed into one
            changes = {prefix: random.choice([*BOTH, None]) for prefix in random.sample(every, random.randrange(6))}
            for prefix, hop in changes.items():
                wish.pop(prefix, None)
                if hop is not None:
                    wish[prefix] = hop
            life.round(changes)
        Faulty.doomed, Faulty.lose = set(), 0
        world.ip("route", "flush", "proto", "bird")
        life.settle()
        assert learned(world) == set(wish)
        assert ways(world, sorted(wish)) == {prefix: ("eth1", hop) for prefix, hop in sorted(wish.items())}
    with Life(world, wish) as anew:
        assert anew.begin().changed == 0


@pytest.mark.parametrize("late", [False, True], ids=["before_it_is_sent", "when_the_kernel_has_done_it"])
def test_killed_at_any_step_of_an_apply_it_converges_and_touches_no_stranger(world: World, *, late: bool) -> None:
    before = all_by(TOR, prefixes(0, 12))
    after = all_by(NEIGHBOUR, prefixes(4, 8)) | all_by(TOR, prefixes(8, 16))
    world.ip("route", "add", "192.168.200.0/26", "via", TOR, "proto", "static", "metric", "1024")
    world.ip("route", "add", prefixes(8, 9)[0], "via", NEIGHBOUR, "proto", "bird", "metric", "32")
    world.ip("nexthop", "add", "id", "4711", "via", NEIGHBOUR, "dev", "eth1", "protocol", "static")
    world.ip("rule", "add", "to", "192.168.201.0/24", "lookup", "77", "protocol", "static")
    kept = strangers(world)
    fatal = 0
    died = True
    while died:
        fatal += 1
        with Life(world, before) as life:
            life.begin()
        died = _dies_at(world, after, fatal, late=late)
        with Life(world, after) as life:
            life.begin()
            assert not life.report.failures
            assert learned(world) == set(after)
            assert life.begin().changed == 0
        assert ways(world, [prefix for prefix in after if prefix != prefixes(8, 9)[0]]) == {
            prefix: ("eth1", hop) for prefix, hop in after.items() if prefix != prefixes(8, 9)[0]
        }
        assert strangers(world) == kept
    assert fatal > 3, "an apply was expected to have several steps"


def _dies_at(world: World, best: dict[str, str], fatal: int, *, late: bool) -> bool:
    """Another process brings about `best`, and dies at that send; whether it came so far."""
    child = os.fork()
    if not child:
        status = 1
        try:
            socket.socket = Mortal  # type: ignore[misc]  # in this child, each netlink socket made from here on
            Mortal.fatal, Mortal.late, Mortal.sends = fatal, late, 0
            with Life(world, best) as life:
                life.begin()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), f"the child ended with {status}"
    return status == 9

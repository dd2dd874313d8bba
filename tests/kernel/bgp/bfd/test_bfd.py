"""BFD against BIRD 2 and FRR's bfdd: up, timers, failure, AdminDown, and whatever befalls the agent and the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.bgp.bfd.world import (
    FAR_NODE,
    FAR_ROUTER,
    LOCAL_NODE,
    LOCAL_ROUTER,
    NODE,
    NODE6,
    ROUTER,
    ROUTER6,
    Agent,
    Bird,
    Frr,
    World,
    holds,
    run,
)
from tests.waiting import until

SINGLE: dict[str, Any] = {"peer": ROUTER, "local": NODE, "interval": 100, "interface": "wire"}
SINGLE6: dict[str, Any] = {"peer": ROUTER6, "local": NODE6, "interval": 100}
LOCAL: dict[str, Any] = {"peer": LOCAL_ROUTER, "local": LOCAL_NODE, "interval": 100, "interface": "wire"}
MULTI: dict[str, Any] = {"peer": FAR_ROUTER, "local": FAR_NODE, "interval": 100, "multihop": True}
EXPIRED, SAID = "control detection time expired", "neighbor signaled session down"
CAME_UP = (True, False, "")


@pytest.fixture(params=["bird", "frr"])
def router(world: World, request: pytest.FixtureRequest) -> Bird | Frr:
    return world.bird() if request.param == "bird" else world.frr()


def joined(world: World, router: Bird | Frr, **fields: Any) -> Agent:
    agent = world.agent()
    agent.want({**SINGLE, **fields})
    agent.until_up()
    until(router.up)
    return agent


def agreed(session: dict[str, Any]) -> tuple[int, int]:
    return session.get("transmit_interval", 0), session.get("detection_time", 0)


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_rfc5881_rfc5883_up_over_one_hop_and_more_in_both_families(world: World, router: Bird | Frr) -> None:
    agent = world.agent()
    agent.want(SINGLE, SINGLE6, LOCAL, MULTI)
    for peer, us in ((ROUTER, NODE), (ROUTER6, NODE6), (LOCAL_ROUTER, LOCAL_NODE), (FAR_ROUTER, FAR_NODE)):
        agent.until_up(peer)
        until(lambda us=us: router.up(us))
    agent.until(lambda known: {agreed(each) for each in known["sessions"].values()} == {(100_000, 300_000)})
    assert agent.changes == [CAME_UP] * 4


def test_rfc5880_6_8_3_other_timers_are_agreed_on_while_the_session_stays_up(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    agent.want({**SINGLE, "interval": 250})
    agent.until(lambda known: agreed(known["sessions"][ROUTER]) == (250_000, 750_000))
    agent.want(SINGLE)
    agent.until(lambda known: agreed(known["sessions"][ROUTER]) == (100_000, 300_000))
    if isinstance(router, Bird):
        until(lambda: router.session()[2:] == ("0.100", "0.300"))
    assert agent.changes == [CAME_UP]
    assert router.up()


def test_rfc5880_6_8_4_a_link_that_is_down_is_a_failure_and_back_is_back(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    world.ip("router", "link", "set", "wire", "down")
    agent.until(lambda known: len(known["changes"]) == 2)
    world.ip("router", "link", "set", "wire", "up")
    agent.until(lambda known: len(known["changes"]) == 3)
    assert agent.changes == [CAME_UP, (False, True, agent.changes[1][2]), CAME_UP]
    assert agent.changes[1][2] in (EXPIRED, SAID)


def test_rfc5880_6_8_4_a_router_that_is_not_heard_has_failed(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    world.mute("router", NODE)
    agent.until(lambda known: len(known["changes"]) == 2)
    assert agent.changes == [CAME_UP, (False, True, EXPIRED)]
    world.unmute("router", NODE)
    agent.until_up()


def test_rfc5880_6_8_6_a_router_that_does_not_hear_us_has_failed_too(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    world.mute("node", ROUTER)
    agent.until(lambda known: len(known["changes"]) == 2)
    assert agent.changes == [CAME_UP, (False, True, SAID)]


def test_rfc5882_3_2_the_routers_admin_down_is_no_failure(world: World) -> None:
    router = world.frr()
    agent = joined(world, router)
    router.vtysh("configure terminal", "bfd", f"peer {NODE} interface wire", "shutdown")
    agent.until(lambda known: len(known["changes"]) == 2)
    assert agent.changes == [CAME_UP, (False, False, SAID)]
    router.vtysh("configure terminal", "bfd", f"peer {NODE} interface wire", "no shutdown")
    agent.until(lambda known: len(known["changes"]) == 3)
    assert agent.changes[2] == CAME_UP


def test_rfc5880_6_8_16_an_agent_that_ends_says_admin_down(world: World) -> None:
    router = world.frr()
    agent = joined(world, router)
    agent.close()
    until(lambda: not router.up())
    peer = router.peers()[NODE]
    assert (peer["diagnostic"], peer["remote-diagnostic"]) == (SAID, "administratively down")


def test_a_session_that_is_no_longer_wanted_says_admin_down_and_leaves_others_up(world: World) -> None:
    router = world.frr()
    agent = world.agent()
    agent.want(SINGLE, MULTI)
    agent.until_up()
    agent.until_up(FAR_ROUTER)
    agent.want(MULTI)
    until(lambda: router.peers()[NODE]["remote-diagnostic"] == "administratively down")
    assert router.up(FAR_NODE)
    agent.want(MULTI, SINGLE)
    agent.until_up()
    assert agent.changes == [CAME_UP] * 3


def test_an_agent_that_is_stopped_costs_no_session(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    since = router.session()[1] if isinstance(router, Bird) else ""
    agent.process.send_signal(signal.SIGSTOP)
    holds(router.up, 2.0)
    agent.process.send_signal(signal.SIGCONT)
    if isinstance(router, Bird):
        assert router.session()[1] == since
    agent.want(SINGLE, SINGLE6)
    agent.until_up(ROUTER6)
    agent.until(lambda _: agent.changes == [CAME_UP] * 2)


def test_a_killed_process_is_started_again_and_neither_side_notices(world: World) -> None:
    router = world.bird(interval=1000)  # it waits 3 s for us, so that a slow machine is no failure
    agent = joined(world, router, interval=1000)
    agent.until(lambda known: agreed(known["sessions"][ROUTER])[1] == 3_000_000)
    first, since = agent.known["pid"], router.session()[1]
    os.kill(first, signal.SIGKILL)
    agent.until(lambda known: known["pid"] not in (first, None) and known["sessions"][ROUTER]["watched"])
    agent.until(lambda known: not known["fault"])
    holds(lambda: router.session()[:2] == ("Up", since), 4.0)
    assert agent.changes == [CAME_UP]


def test_a_router_that_noticed_the_gap_comes_back_and_nothing_is_told(world: World, router: Bird | Frr) -> None:
    agent = joined(world, router)
    pid = agent.known["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: not router.up())
    os.kill(pid, signal.SIGKILL)
    until(router.up)
    agent.until(lambda known: known["pid"] != pid and known["sessions"][ROUTER].get("state") == 3)
    assert agent.changes == [CAME_UP]


def test_a_link_that_fails_while_the_process_is_started_again_is_a_failure(world: World) -> None:
    router = world.bird()
    agent = joined(world, router)
    world.mute("router", NODE)
    os.kill(agent.known["pid"], signal.SIGKILL)
    agent.until(lambda known: len(known["changes"]) == 2)
    assert agent.changes[1][:2] == (False, True)


def test_an_agent_killed_with_sigkill_takes_the_process_with_it(world: World) -> None:
    router = world.bird()
    agent = joined(world, router)
    pid = agent.known["pid"]
    agent.process.kill()
    until(lambda: gone(pid))
    until(lambda: not router.up())


def test_a_router_without_bfd_is_waited_for_in_silence(world: World) -> None:
    agent = world.agent()
    agent.want(SINGLE)
    agent.until(lambda known: known["sessions"].get(ROUTER, {}).get("discriminator"))
    holds(lambda: not agent.changes, 1.5)
    world.bird()
    agent.until_up()


def test_a_taken_port_is_named_and_tried_again(world: World) -> None:
    world.bird()
    listen = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 3784))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    inside = world.inside("node", sys.executable, "-c", listen)
    owner = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout
    try:
        assert owner.stdout.readline() == b"ready\n"
        agent = world.agent()
        agent.want(SINGLE, MULTI)
        agent.until(lambda known: f"BFD cannot listen on {NODE} port 3784: another process" in known["fault"])
        assert "ss -lunp 'sport = :3784'" in agent.known["fault"]
        agent.until_up(FAR_ROUTER)
    finally:
        owner.communicate(timeout=10)
    agent.until(lambda known: not known["fault"])
    agent.until_up()


def test_an_address_that_comes_late_and_an_interface_made_anew_are_found(world: World) -> None:
    router = world.bird()
    world.ip("node", "address", "delete", f"{NODE}/24", "dev", "wire")
    agent = world.agent()
    agent.want(SINGLE)
    agent.until(lambda known: f"BFD cannot listen on {NODE} port 3784: no interface has this" in known["fault"])
    world.ip("node", "address", "add", f"{NODE}/24", "dev", "wire")
    agent.until_up()
    world.ip("node", "link", "delete", "wire")
    agent.until(lambda known: not known["sessions"][ROUTER]["up"])
    world.wire()
    agent.until_up()
    until(router.up)


def test_rfc5881_5_a_packet_that_a_router_passed_on_is_refused(world: World) -> None:
    """A Down packet with one hop less, sent from the router's own address, changes nothing and is named in the log."""
    router = world.bird()
    agent = joined(world, router)
    session = agent.known["sessions"][ROUTER]
    forged = (
        "import socket, struct, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 254); s.bind((sys.argv[1], 50000))\n"
        "words = [int(word) for word in sys.argv[3:]]\n"
        "s.sendto(struct.pack('!BBBBIIIII', 0x20, 0x40, 3, 24, *words, 100000, 100000, 0), (sys.argv[2], 3784))\n"
    )
    discriminators = (str(session["remote_discriminator"]), str(session["discriminator"]))
    run(*world.inside("router", sys.executable, "-c", forged, ROUTER, NODE, *discriminators))
    until(lambda: "it came over a router: 254 hops left, expected 255" in agent.log.read_text())
    until(lambda: agent.changes == [CAME_UP])
    assert router.up()


def test_a_flood_of_rubbish_costs_no_session(world: World) -> None:
    router = world.bird()
    agent = joined(world, router)
    since = router.session()[1]
    flood = (
        "import os, socket, sys, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)\n"
        "s.bind((sys.argv[1], 50000)); end = time.monotonic() + 2\n"
        "while time.monotonic() < end: s.sendto(os.urandom(24), (sys.argv[2], 3784)); time.sleep(0.0002)\n"
    )
    run(*world.inside("router", sys.executable, "-c", flood, ROUTER, NODE))
    assert agent.changes == [CAME_UP]
    assert router.session()[:2] == ("Up", since)

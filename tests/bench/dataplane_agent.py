"""The agent as a user runs it, with a table from a simulated router: how soon it repairs, and what it costs at rest."""

from __future__ import annotations

import socket
import statistics
import struct
import time
from typing import Self

from bgp_tables import FIRST, one_router, up
from bgp_world import ROUTER_AS, Agent, World, cpu_seconds
from dataplane_rig import percentile
from harness import Json, say, spread
from simulator import attributes, grouped, nlri

from routed.netlink.socket import inside

_HEADER = struct.Struct("=IHHII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEWROUTE, _DELROUTE, _GATEWAY, _PRIORITY = 24, 25, 5, 6
_REPLACE, _CREATE = 0x100, 0x400
_OURS, _METRIC, _STATIC = 114, 1024, 4
_OTHER = "10.99.255.11"  # a gateway that is on the link
_SECONDS = 10
_APART = 0.05  # seconds between two damages: each is one, and no storm, which the agent meets at leisure


class Foreigner:
    """Another hand in the agent's namespace: it spoils a route of ours, and sees when that is put back."""

    def __init__(self, namespace: str) -> None:
        with inside(f"/run/netns/{namespace}"):
            self._hand = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._eye = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._hand.bind((0, 0))
        self._eye.bind((0, 0x40))  # RTMGRP_IPV4_ROUTE
        self._eye.settimeout(_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hand.close()
        self._eye.close()

    def spoil(self, number: int, *, replace: bool) -> float:
        """Delete the route to a prefix, or put a static one in its place; milliseconds until ours is there again."""
        octets = nlri(number)[1:]
        protocol, kind = (_STATIC, 1) if replace else (0, 0)
        body = _RTMSG.pack(socket.AF_INET, 27, 0, 0, 254, protocol, 0 if replace else 255, kind, 0)
        body += struct.pack("=HH", 8, 1) + octets + struct.pack("=HHI", 8, _PRIORITY, _METRIC)
        if replace:
            body += struct.pack("=HH", 8, _GATEWAY) + socket.inet_aton(_OTHER)
        message = _NEWROUTE if replace else _DELROUTE
        flags = 1 | (_REPLACE | _CREATE if replace else 0)
        start = time.perf_counter()
        self._hand.send(_HEADER.pack(_HEADER.size + len(body), message, flags, 1, 0) + body)
        spoiled = False
        while True:
            event = self._eye.recv(1 << 16)  # TimeoutError: never repaired
            if event[16 + _RTMSG.size + 8 + 4 :][:4] != octets:
                continue
            ours = event[16 + 5] == _OURS
            if not spoiled:
                spoiled = _HEADER.unpack_from(event)[1] == message
            elif ours and _HEADER.unpack_from(event)[1] == _NEWROUTE:
                return (time.perf_counter() - start) * 1000


def agent_figures(quick: bool) -> tuple[dict[str, float], Json]:
    """`repair_p99_ms` over alternately deleted and replaced routes; `idle_100k_cpu_percent` of agent and children."""
    count, repairs, rest, repeats = (5_000, 20, 3.0, 1) if quick else (100_000, 80, 20.0, 3)
    say("an agent with a table: repairs, and rest")
    deleted: list[float] = []
    replaced: list[float] = []
    cpu: list[float] = []
    with World(peers=1) as world:
        agent = one_router(world)
        agent.up()
        table = grouped(map(nlri, range(count)), attributes(FIRST, [ROUTER_AS]))
        before = world.fib(agent.namespace)
        up(world, agent.address, table)
        world.simulator.run(lambda: world.fib(agent.namespace) >= before + count, 60, "the kernel's table", every=0.05)
        world.simulator.turn(0.0)
        _wait(world, 3.0)  # until what a start leaves to do is done
        for _ in range(repeats):
            with Foreigner(agent.namespace) as foreigner:
                for number in range(repairs):
                    _wait(world, _APART)
                    replace = bool(number % 2)
                    found = replaced if replace else deleted
                    found.append(foreigner.spoil(number * 997 % count, replace=replace))
            if world.fib(agent.namespace) < before + count:
                raise SystemExit("bench: a repaired table is not whole")
            _wait(world, 3.0)
            cpu.append(_percent(world, agent, rest))
    p99 = percentile([*deleted, *replaced], 99)
    return {"repair_p99_ms": p99, "idle_100k_cpu_percent": statistics.median(cpu)}, {
        "repair_ms": {"deleted": spread(deleted), "replaced": spread(replaced)}, "idle_cpu_percent": spread(cpu),
    }  # fmt: skip


def _wait(world: World, seconds: float) -> None:
    """Let time pass; the sessions are served."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        world.simulator.turn(left)


def _percent(world: World, agent: Agent, seconds: float) -> float:
    pids = agent.processes().values()
    start, used = time.monotonic(), sum(map(cpu_seconds, pids))
    _wait(world, seconds)
    return 100 * (sum(map(cpu_seconds, pids)) - used) / (time.monotonic() - start)

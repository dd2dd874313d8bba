"""RFC 5882 section 4.3: what becomes of our paths at a router when our agent restarts or is killed.

The node's BGP is a BIRD here, which dies without NOTIFICATION as an agent's speaker does; its BFD is ours.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from tests.kernel.bgp.bfd.world import NODE, ROUTER, Agent, Bird, Frr, World, end, holds
from tests.waiting import until

PREFIX = "10.244.0.0/26"
FRR = f"router bgp 65001\n no bgp ebgp-requires-policy\n neighbor {NODE} remote-as 65000\n neighbor {NODE} bfd\n"
BIRD = f"""protocol bgp node {{
    local {ROUTER} as 65001; neighbor {NODE} as 65000; direct; passive yes; bfd graceful;
    graceful restart yes; ipv4 {{ import all; export none; }};
}}"""
SPEAKER = f"""router id {NODE};
protocol device {{}}
protocol static {{ ipv4; route {PREFIX} blackhole; }}
protocol bgp tor {{
    local {NODE} as 65000; neighbor {ROUTER} as 65001; connect delay time 1; graceful restart yes;
    ipv4 {{ import none; export all; }};
}}"""


def paths(router: Bird | Frr) -> str:
    if isinstance(router, Frr):
        return router.vtysh(f"show bgp ipv4 unicast {PREFIX}")
    return router.ask("show", "route", PREFIX, "all")


def in_order(speaker: subprocess.Popen[bytes], agent: Agent, down: Callable[[], object]) -> None:
    end(speaker)
    until(down)
    agent.close()


def killed(speaker: subprocess.Popen[bytes], agent: Agent, down: Callable[[], object]) -> None:
    agent.process.kill()
    end(speaker)


@pytest.mark.parametrize("ending", [in_order, killed])
@pytest.mark.parametrize("kind", ["bird", "frr"])
def test_rfc5882_4_3_a_router_keeps_our_paths_through_our_restart(
    world: World, kind: str, ending: Callable[[subprocess.Popen[bytes], Agent, Callable[[], object]], None]
) -> None:
    router = world.bird(interval=300, bgp=BIRD) if kind == "bird" else world.frr(interval=300, bgp=FRR)
    (world.directory / "speaker.conf").write_text(SPEAKER)
    files = [f"-{flag}{world.directory}/speaker.{name}" for flag, name in (("c", "conf"), ("s", "ctl"), ("P", "pid"))]
    agent = world.agent()
    agent.want({"peer": ROUTER, "local": NODE, "interval": 300})
    agent.until_up()
    speaker = subprocess.Popen(world.inside("node", "bird", "-f", *files))
    try:
        until(lambda: NODE in paths(router))

        def down() -> bool:
            if isinstance(router, Frr):
                return '"Established"' not in router.vtysh("show bgp neighbors json")
            return "Established" not in router.ask("show", "protocols", "node")

        until(router.up)
        ending(speaker, agent, down)
        until(lambda: not router.up())
        holds(lambda: NODE in paths(router), 2.0)
    finally:
        end(speaker)

"""From IPIP to VXLAN and back, where the kernel has both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kernel.felix.overlay import DEVICE, Member
from tests.kernel.felix.world import World
from tests.unit.felix import words

from routed_felix.state import Encapsulation

DELROUTE = 25
BLOCK = words.B1
FAR = "192.168.21.5"
BOTH = frozenset({Encapsulation.TUNNEL, Encapsulation.VXLAN})


@pytest.fixture
def a1(world: World) -> Iterator[Member]:
    with Member(world, "a1", words.cluster()) as member:
        member.begin()
        member.learns({BLOCK: "10.2.2.21"})
        member.settle()
        yield member


def test_a_pool_goes_over_and_back_with_no_route_less(a1: Member) -> None:
    assert a1.way(FAR) == ("tunl0", "10.2.2.21")
    with a1.world.listen() as listener:
        a1.becomes(kept=BOTH)
        assert a1.way(FAR) == ("tunl0", "10.2.2.21")
        assert a1.world.addresses(DEVICE) == a1.world.addresses("tunl0") == ["192.168.11.1/32"]
        a1.becomes(cluster=words.vxlan())
        assert a1.way(FAR) == (DEVICE, "10.2.2.21")
        a1.becomes(kept=frozenset())
        a1.settle()
        assert "UP" not in a1.world.link("tunl0")["flags"]
        assert a1.world.addresses("tunl0") == []
        # the old address' entry in the local table is the only route that goes
        assert listener.heard().count(DELROUTE) == 1
    assert a1.way(FAR) == (DEVICE, "10.2.2.21")
    assert a1.world.routes()[BLOCK]["prefsrc"] == "192.168.11.1"
    a1.becomes(kept=BOTH)
    a1.becomes(cluster=words.cluster())
    a1.becomes(kept=frozenset())
    a1.settle()
    assert a1.way(FAR) == ("tunl0", "10.2.2.21")
    assert DEVICE not in {link["ifname"] for link in a1.world.look("link")}


def test_two_pools_may_have_one_each(a1: Member) -> None:
    nodes = [words.node(name, *each) for name, each in words.NODES.items() if name != "b1"]
    b1 = words.node("b1", words.NODES["b1"][0], BLOCK, "172.16.21.0/26")
    pools = [
        words.pool("pods", "192.168.0.0/16", "CrossSubnet"),
        words.pool("more", "172.16.0.0/16", "Never", vxlan="CrossSubnet"),
    ]
    a1.becomes(cluster=words.Cluster.of([*nodes, b1, *pools]))
    a1.learns({BLOCK: "10.2.2.21", "172.16.21.0/26": "10.2.2.21"})
    a1.settle()
    assert (a1.way(FAR)[0], a1.way("172.16.21.1")[0]) == ("tunl0", DEVICE)
    assert a1.world.addresses(DEVICE) == a1.world.addresses("tunl0") == ["192.168.11.1/32"]

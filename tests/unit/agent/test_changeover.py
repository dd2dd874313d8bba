"""A pool's encapsulation changes in steps, so that no node sends what another cannot take in yet or any more."""

from __future__ import annotations

import pytest
from tests.unit.felix.words import cluster, vxlan

from routed.agent.changeover import LINGER_SECONDS, PREPARE_SECONDS, Changeover
from routed.model.cluster import Cluster
from routed_felix.state import Encapsulation

IPIP, VXLAN = Encapsulation.TUNNEL, Encapsulation.VXLAN
SWITCH = 100 + PREPARE_SECONDS
END = SWITCH + LINGER_SECONDS


def after(before: Cluster) -> Changeover:
    made = Changeover()
    made.adopt(before, 0)
    made.settle(0)
    return made


def test_a_first_cluster_is_taken_as_it_is() -> None:
    made = after(vxlan())
    assert (made.cluster, made.kept, made.next_deadline) == (vxlan(), {VXLAN}, None)


@pytest.mark.parametrize(
    ("old", "new", "ways"),
    [
        (cluster("CrossSubnet"), vxlan("Always"), {IPIP, VXLAN}),
        (vxlan("CrossSubnet"), cluster("Always"), {IPIP, VXLAN}),
        (cluster("Never"), vxlan(), {VXLAN}),
        (cluster("Never"), cluster(), {IPIP}),
    ],
    ids=["IPIP to VXLAN", "VXLAN to IPIP", "Never to VXLAN", "Never to IPIP"],
)
def test_the_device_is_there_before_and_the_old_one_after(old: Cluster, new: Cluster, ways: set[Encapsulation]) -> None:
    made = after(old)
    made.adopt(new, 100)
    made.settle(100)
    assert made.cluster == old
    assert made.kept >= after(new).kept
    assert made.next_deadline == SWITCH
    made.settle(SWITCH)
    assert (made.cluster, made.kept) == (new, ways)
    made.settle(END)
    assert made.next_deadline is None
    assert made.kept == after(new).kept


def test_a_pool_that_becomes_never_does_so_at_once_and_its_device_lingers() -> None:
    made = after(vxlan())
    made.adopt(cluster("Never"), 100)
    assert (made.cluster, made.kept, made.next_deadline) == (cluster("Never"), {VXLAN}, 100 + LINGER_SECONDS)
    made.settle(100 + LINGER_SECONDS)
    assert (made.kept, made.next_deadline) == (set(), None)


def test_a_change_of_mode_alone_needs_no_preparation() -> None:
    made = after(vxlan("CrossSubnet"))
    made.adopt(vxlan("Always"), 100)
    assert (made.cluster, made.next_deadline) == (vxlan("Always"), None)


def test_a_change_taken_back_in_time_has_never_been() -> None:
    made = after(cluster())
    made.adopt(vxlan(), 100)
    made.adopt(cluster(), 100.5)
    assert (made.cluster, made.kept, made.next_deadline) == (cluster(), {IPIP}, None)


def test_a_way_back_within_the_lingering_needs_no_preparation() -> None:
    made = after(cluster())
    made.adopt(vxlan(), 100)
    made.settle(SWITCH)
    made.adopt(cluster(), SWITCH + 1)
    assert (made.cluster, made.kept) == (cluster(), {IPIP, VXLAN})
    made.settle(SWITCH + 1 + LINGER_SECONDS)
    assert made.kept == {IPIP}


def test_other_changes_meanwhile_are_taken_in_and_postpone_nothing() -> None:
    made = after(cluster())
    made.adopt(vxlan(), 100)
    fewer = Cluster.of([*list(vxlan().nodes.values())[:-1], *vxlan().pools.values()])
    made.adopt(fewer, 100.9)
    assert made.cluster.nodes == fewer.nodes
    assert made.cluster.pools == cluster().pools
    assert made.next_deadline == SWITCH

"""Import policy, design section 5."""

from __future__ import annotations

import pytest
from tests.unit.bgp.clusters import RACKS, cluster, node, pool

from routed.model.address import Address, Prefix
from routed.model.path import Origin, Path
from routed_bgp.policy import FABRIC_LOCAL_PREF, MEMBER_LOCAL_PREF, ImportPolicy, Rejection, Source
from routed_bgp.update import Attributes, Segment

POLICY = ImportPolicy.of(cluster(*RACKS), "a1")
TOR = Source(Address("10.1.1.1"), 65101, Address("10.0.0.1"), True)


def verdict(prefix: str, via: str = "10.1.1.1", *numbers: int, policy: ImportPolicy = POLICY) -> Path | Rejection:
    path = (Segment(True, numbers),) if numbers else ()
    return policy.apply(Prefix(prefix), Attributes(Origin.IGP, path, Address(via), 5, 300, (1,)), TOR)


def test_a_path_keeps_what_the_decision_process_needs() -> None:
    assert verdict("10.244.3.0/26", "10.1.1.1", 65101, 65000) == Path(
        prefix=Prefix("10.244.3.0/26"),
        next_hop=Address("10.1.1.1"),
        peer=TOR.peer,
        peer_as=65101,
        peer_router_id=TOR.router_id,
        ebgp=True,
        as_path=(65101, 65000),
        as_path_length=2,
        origin=Origin.IGP,
        local_pref=FABRIC_LOCAL_PREF,
        med=5,
        communities=(1,),
    )


@pytest.mark.parametrize(
    ("via", "preference"),
    [("10.1.1.1", FABRIC_LOCAL_PREF), ("10.2.2.11", MEMBER_LOCAL_PREF), ("10.1.1.12", MEMBER_LOCAL_PREF)],
)
def test_local_pref_follows_the_next_hop_not_the_peer(via: str, preference: int) -> None:
    path = verdict("10.244.3.0/26", via, 65101)
    assert isinstance(path, Path)
    assert path.local_pref == preference


def test_the_fabric_is_preferred_to_the_mesh() -> None:
    assert (MEMBER_LOCAL_PREF, FABRIC_LOCAL_PREF) == (90, 100)


def test_rfc4271_9_1_2_our_own_as_in_the_path_is_a_loop() -> None:
    assert verdict("10.244.2.0/26", "10.1.1.1", 65101, 64512) is Rejection.AS_LOOP


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "192.0.2.0/24", "10.245.0.0/26"])
def test_a_prefix_outside_every_pool_is_rejected(prefix: str) -> None:
    assert verdict(prefix) is Rejection.OUTSIDE_POOLS


def test_a_default_route_is_rejected_whatever_the_pools() -> None:
    everything = ImportPolicy.of(cluster(node("a1"), pool("0.0.0.0/0")), "a1")
    assert verdict("0.0.0.0/0", policy=everything) is Rejection.DEFAULT
    assert isinstance(verdict("0.0.0.0/1", policy=everything), Path)


@pytest.mark.parametrize(
    "prefix", ["10.244.1.0/26", "10.244.1.7/32", "10.244.0.0/16"], ids=["equal", "inside", "cover"]
)
def test_what_touches_an_own_block_is_rejected(prefix: str) -> None:
    assert verdict(prefix) is Rejection.OWN_BLOCK


def test_rfc4271_5_1_3_our_own_address_is_no_next_hop() -> None:
    assert verdict("10.244.3.0/26", "10.1.1.11") is Rejection.OWN_NEXT_HOP

"""What is agreed from what we offer and what the peer says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routed.model.address import Address, Family
from routed_bgp.dialect import Dialect, agreed
from routed_bgp.open import Open
from routed_bgp.sessions import Session

BOTH = frozenset(Family)
SESSION = Session(
    name="peer/tor",
    peer=Address("10.0.0.1"),
    peer_as=65001,
    local=Address("10.0.0.2"),
    local_as=64512,
    router_id=Address("10.0.0.2"),
)
EAGER = replace(SESSION, families=tuple(Family), add_path=True, extended_next_hop=True)
OPEN = Open(65001, 90, Address("10.0.0.1"))
ABLE = replace(OPEN, asn4=True, families=BOTH, add_path=BOTH, extended_next_hop=True)


def test_rfc4271_an_old_speaker_has_ipv4_and_two_octet_numbers() -> None:
    assert agreed(EAGER, OPEN) == Dialect(ebgp=True, asn4=False)


def test_what_both_can_is_agreed() -> None:
    assert agreed(EAGER, ABLE) == Dialect(True, True, BOTH, BOTH, True)


def test_what_we_do_not_offer_is_not_agreed() -> None:
    assert agreed(SESSION, ABLE) == Dialect(ebgp=True)
    assert agreed(replace(EAGER, families=(Family.IPV6,)), ABLE) == Dialect(
        True, True, frozenset({Family.IPV6}), frozenset({Family.IPV6}), extended_next_hop=False
    )


@pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)
def test_rfc4760_8_a_family_is_agreed_if_both_have_it(family: Family) -> None:
    assert agreed(EAGER, replace(ABLE, families=frozenset({family}))).families == {family}


def test_rfc7911_4_path_identifiers_come_only_in_families_where_the_peer_sends_them() -> None:
    assert agreed(EAGER, replace(ABLE, add_path=frozenset({Family.IPV6}))).add_path == {Family.IPV6}
    assert agreed(replace(EAGER, add_path=False), ABLE).add_path == frozenset()


def test_a_peer_in_our_as_is_internal() -> None:
    assert not agreed(replace(SESSION, peer_as=64512), OPEN).ebgp

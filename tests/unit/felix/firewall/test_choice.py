"""Which backend serves, and when both forms of firewall are in use."""

from __future__ import annotations

import pytest

from routed_felix.firewall.choice import Census, order, warning

LEGACY, NFT, BOTH = Census(legacy=("filter", "nat")), Census(nft=("ip filter",)), Census(("filter",), ("inet f",))


@pytest.mark.parametrize(
    ("census", "first"), [(Census(), "nft"), (NFT, "nft"), (BOTH, "nft"), (LEGACY, "iptables-legacy")]
)
def test_a_node_that_uses_legacy_tables_alone_is_followed_and_any_other_gets_nftables(census, first):
    assert order("auto", census)[0] == first
    assert sorted(order("auto", census)) == ["iptables-legacy", "iptables-nft", "nft"]


@pytest.mark.parametrize("name", ["nft", "iptables-nft", "iptables-legacy"])
def test_what_is_configured_serves_whatever_the_node_uses(name):
    assert {order(name, census) for census in (Census(), LEGACY, NFT, BOTH)} == {(name,)}


def test_switched_off_nothing_serves():
    assert order("off", LEGACY) == ()


def test_rules_in_both_are_told_with_their_tables_and_what_to_do():
    first, _, hint = warning(BOTH).partition("\n")
    assert first == (
        "firewall: iptables-legacy (filter) and nftables (inet f) both hold rules: a packet has to pass both, and who "
        "lists one does not see the other"
    )
    assert "iptables-legacy-save" in hint
    assert [warning(each) for each in (Census(), LEGACY, NFT)] == ["", "", ""]

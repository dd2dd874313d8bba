"""The table of nftables: what is written for a difference. That it does what it says is tested with packets."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

from routed_felix.firewall.nft_table import Table, read_listing, removal, table_of, transaction
from routed_felix.firewall.rules import Rules, Source

RULES = Rules(
    members=frozenset(map(ip_address, ("10.1.1.11", "10.2.2.21", "2001:db8::11"))),
    pods=frozenset({Source("rtd1", ip_address("10.244.1.5")), Source("rtd1", ip_address("fd00::5"))}),
    pools=frozenset(map(ip_network, ("10.244.0.0/16", "fd00::/64"))),
)
NAT = Rules(RULES.members, RULES.pods, RULES.pools, frozenset({ip_network("10.244.0.0/16")}))


def commands(wanted: Table, found: Table | None) -> list[dict[str, Any]]:
    done = transaction(wanted, found)
    assert done is not None
    return json.loads(json.dumps(done))["nftables"]


def listing(wanted: Table) -> dict[str, Any]:
    """What nft would tell after `wanted` was written; with the handles that the kernel gives."""
    told: list[dict[str, Any]] = [{"metainfo": {"version": "1.0.6"}}]
    for command in commands(wanted, None)[2:]:
        for kind, body in command["add"].items():
            told.append({kind: {**body, "handle": len(told)}})
    return {"nftables": told}


def test_elements_are_as_nft_shows_them():
    elements = table_of(NAT).elements
    assert elements == {
        "members4": {"10.1.1.11", "10.2.2.21"},
        "members6": {"2001:db8::11"},
        "pod_interfaces": {"rtd1"},
        "pod_sources4": {"rtd1 . 10.244.1.5"},
        "pod_sources6": {"rtd1 . fd00::5"},
        "pools4": {"10.244.0.0/16"},
        "pools6": {"fd00::/64"},
        "nat_pools4": {"10.244.0.0/16"},
        "nat_pools6": set(),
    }


def test_connection_tracking_is_asked_for_only_by_a_pool_with_nat_outgoing():
    assert "postrouting" not in table_of(RULES).chains
    assert "postrouting" in table_of(NAT).chains


def test_what_is_there_already_needs_nothing():
    assert transaction(table_of(NAT), read_listing(listing(table_of(NAT)))) is None


def test_a_single_flag_is_the_same_without_brackets():
    told = listing(table_of(NAT))
    for entry in told["nftables"]:
        if "flags" in entry.get("set", {}):
            (entry["set"]["flags"],) = entry["set"]["flags"]
    assert read_listing(told) == table_of(NAT)


def test_a_pod_that_comes_is_two_elements():
    more = Rules(RULES.members, RULES.pods | {Source("rtd2", ip_address("10.244.1.6"))}, RULES.pools)
    assert commands(table_of(more), table_of(RULES)) == [
        {"add": {"element": {"family": "inet", "table": "routed", "name": "pod_interfaces", "elem": ["rtd2"]}}},
        {"add": {"element": {"family": "inet", "table": "routed", "name": "pod_sources4",
                             "elem": [{"concat": ["rtd2", "10.244.1.6"]}]}}},
    ]  # fmt: skip


def test_a_pool_that_changes_is_removed_before_the_new_one_is_added():
    other = Rules(RULES.members, RULES.pods, frozenset({ip_network("10.244.0.0/15"), ip_network("fd00::/64")}))
    verbs = [(verb, body["element"]["elem"]) for each in commands(table_of(other), table_of(RULES))
             for verb, body in each.items()]  # fmt: skip
    assert verbs == [
        ("delete", [{"prefix": {"addr": "10.244.0.0", "len": 16}}]),
        ("add", [{"prefix": {"addr": "10.244.0.0", "len": 15}}]),
    ]


def test_a_rule_that_another_hand_removed_has_the_table_made_anew_in_one_transaction():
    told = listing(table_of(NAT))
    told["nftables"].remove(next(each for each in told["nftables"] if "rule" in each))
    made = commands(table_of(NAT), read_listing(told))
    assert [next(iter(each)) for each in made[:3]] == ["add", "delete", "add"]
    assert made == commands(table_of(NAT), None)


def test_a_set_of_another_hand_in_our_table_has_it_made_anew():
    told = listing(table_of(NAT))
    told["nftables"].append({"map": {"name": "extra", "family": "inet", "table": "routed"}})
    assert commands(table_of(NAT), read_listing(told)) == commands(table_of(NAT), None)


def test_an_element_that_is_no_such_element_of_ours_has_the_table_made_anew():
    told = listing(table_of(NAT))
    body = next(each["set"] for each in told["nftables"] if each.get("set", {}).get("name") == "members4")
    body["elem"].append({"elem": {"val": "10.9.9.9", "timeout": 60}})
    assert commands(table_of(NAT), read_listing(told)) == commands(table_of(NAT), None)


def test_removing_is_the_table_alone():
    assert removal() == {"nftables": [{"delete": {"table": {"family": "inet", "name": "routed"}}}]}

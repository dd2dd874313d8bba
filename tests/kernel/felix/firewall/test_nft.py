"""The table of nftables over time: adopted, kept, put back, removed."""

from __future__ import annotations

import select
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from tests.kernel.felix.firewall.site import NAT, RULES, Site

from routed_felix.firewall import program
from routed_felix.firewall.firewall import Choice, Firewall, cleanup
from routed_felix.firewall.nft import Nft
from routed_felix.firewall.program import UnsupportedError
from routed_felix.firewall.rules import Rules, Source

MORE = Rules(RULES.members, RULES.pods | {Source("rtd2", ip_address("10.244.1.7"))}, RULES.pools)


def life(site: Site) -> Firewall:
    return Firewall(lambda: Choice([Nft(site.node)]), site.node)


@pytest.fixture
def firewall(site: Site) -> Iterator[Firewall]:
    with life(site) as made:
        yield made


def told(firewall: Firewall) -> bool:
    """Wait for an event, then whether it concerns us."""
    assert select.select([firewall], [], [], 5)[0], "no event"
    return firewall.changed()


@pytest.mark.parametrize("rules", [RULES, NAT, Rules()], ids=["guard", "nat", "nothing"])
def test_a_restart_without_memory_finds_it_right_and_writes_nothing(site, firewall, rules):
    assert firewall.bring(rules)
    before = site.ruleset()
    with life(site) as second:
        assert not second.bring(rules)
    assert site.ruleset() == before


def test_what_we_write_is_no_news_to_us(site, firewall):
    firewall.bring(RULES)
    firewall.bring(MORE)
    assert not select.select([firewall], [], [], 0)[0]


def test_a_pod_that_comes_leaves_the_chains_as_they_are(site, firewall):
    firewall.bring(RULES)
    before = site.on_node("nft", "--handle", "list", "chain", "inet", "routed", "from_pod")
    assert firewall.bring(MORE)
    assert site.on_node("nft", "--handle", "list", "chain", "inet", "routed", "from_pod") == before
    assert '"rtd2" . 10.244.1.7' in site.ruleset()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of every call of nft that begins from now on."""
    found: list[str] = []

    def ask(words, namespace, given=""):
        found.append(" ".join(words[1:]))
        return program.ask(words, namespace, given)

    monkeypatch.setattr("routed_felix.firewall.nft.ask", ask)
    return found


def test_a_pod_that_comes_or_goes_is_one_transaction_and_nothing_is_read(site, firewall, asked):
    firewall.bring(RULES)
    del asked[:]
    assert firewall.bring(MORE)
    assert '"rtd2" . 10.244.1.7' in site.ruleset()
    assert firewall.bring(RULES)
    assert '"rtd2"' not in site.ruleset()
    assert asked == ["--json --file -"] * 2


def test_rules_that_are_wanted_again_are_looked_at(site, firewall, asked):
    firewall.bring(RULES)
    del asked[:]
    assert not firewall.bring(RULES)
    assert len(asked) == 1
    assert "list table" in asked[0]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_another_hand_does_while_a_pod_comes_is_put_back(site, firewall, monkeypatch, when):
    """Before our transaction, or between it and the moment when we hear of it."""
    firewall.bring(RULES)

    def strike():
        site.on_node("nft", "flush", "set", "inet", "routed", "members4")

    if when == "before":
        strike()
    else:
        monkeypatch.setattr("routed_felix.firewall.nft.ask", lambda *words: [strike(), program.ask(*words)][1])
    assert firewall.bring(MORE)
    monkeypatch.undo()
    firewall.bring(RULES)
    with life(site) as second:
        assert not second.bring(RULES)


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet routed",
        "flush table inet routed",
        "flush chain inet routed input",
        "flush set inet routed members4",
        "delete element inet routed members4 { 10.1.1.12 }",
        "add element inet routed members4 { 10.1.1.77 }",
        "add set inet routed extra { type ipv4_addr; flags timeout; elements = { 10.1.1.77 timeout 60s } }",
        "insert rule inet routed input accept",
        "add chain inet routed another",
    ],
)
def test_what_another_hand_does_to_it_is_told_and_put_back(site, firewall, damage):
    firewall.bring(NAT)
    right = site.on_node("nft", "--stateless", "list", "table", "inet", "routed")
    site.on_node("nft", "-f", "-", given=f"{damage}\n")
    assert told(firewall)
    assert firewall.bring(NAT)
    assert site.on_node("nft", "--stateless", "list", "table", "inet", "routed") == right
    assert not firewall.bring(NAT)


def test_what_happens_in_other_tables_is_no_news(site, firewall):
    firewall.bring(RULES)
    site.on_node("nft", "add", "table", "inet", "stranger")
    assert not told(firewall)


def test_other_tables_stay_whatever_becomes_of_ours(site, firewall):
    for family in ("inet", "ip"):
        site.on_node("nft", "add", "table", family, "stranger")
    site.on_node("nft", "add", "table", "ip", "routed")  # of another family: not ours
    firewall.bring(RULES)
    assert cleanup([Nft(site.node)]) == (("nft",), ())
    assert site.tables() == {"inet stranger", "ip stranger", "ip routed"}
    assert cleanup([Nft(site.node)]) == ((), ())


def test_what_an_earlier_configuration_used_is_swept(site, firewall):
    firewall.bring(RULES)
    with Firewall(lambda: Choice([], [Nft(site.node)]), site.node) as off:
        assert off.bring(RULES)
        assert not off.bring(RULES)
    assert site.tables() == set()


def test_a_machine_without_nft_is_told_what_to_install(site, firewall, monkeypatch):
    monkeypatch.setattr(program, "installed", lambda _: None)
    with pytest.raises(UnsupportedError, match="nft is not installed") as caught:
        firewall.bring(RULES)
    assert caught.value.hint == "apt-get install nftables"
    monkeypatch.undo()
    assert firewall.bring(RULES)


def test_thousands_of_members_are_one_transaction(site, firewall):
    many = frozenset(ip_address(0x0A000000 + number) for number in range(5000))
    assert firewall.bring(Rules(many, RULES.pods, RULES.pools))
    assert firewall.bring(Rules(many | RULES.members, RULES.pods, RULES.pools))
    with life(site) as second:
        assert not second.bring(Rules(many | RULES.members, RULES.pods, RULES.pools))

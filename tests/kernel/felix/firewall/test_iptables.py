"""Chains of iptables over time, in both forms; and which form is chosen on a node that uses one of them."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
from tests.kernel.felix.firewall.site import NAT, RULES, Site

from routed_felix.firewall import program
from routed_felix.firewall.backends import all_backends, chooser, take_census
from routed_felix.firewall.choice import Census
from routed_felix.firewall.firewall import Choice, Firewall, cleanup
from routed_felix.firewall.iptables import Iptables
from routed_felix.firewall.program import UnsupportedError


class Form:
    """One form of iptables on a site."""

    def __init__(self, site: Site, form: str) -> None:
        self.site, self.form = site, form

    def life(self) -> Firewall:
        return Firewall(lambda: Choice([Iptables(self.form, self.site.node)]), self.site.node)

    def run(self, *words: str) -> None:
        self.site.on_node(f"iptables-{self.form}", *words)

    def saved(self) -> list[str]:
        """Rules and chains of both families, without counters and comments."""
        both = [self.site.on_node(f"{each}-{self.form}-save") for each in ("iptables", "ip6tables")]
        lines = [line for each in both for line in each.splitlines() if line[:1] != "#"]
        return [line.partition(" [")[0] for line in lines]


@pytest.fixture(params=["legacy", "nft"])
def form(site: Site, request: pytest.FixtureRequest) -> Form:
    return Form(site, request.param)


@pytest.fixture
def firewall(form: Form) -> Iterator[Firewall]:
    with form.life() as made:
        yield made


@pytest.mark.parametrize("rules", [RULES, NAT], ids=["guard", "nat"])
def test_a_restart_without_memory_finds_it_right_and_writes_nothing(form, firewall, rules):
    assert firewall.bring(rules)
    assert not firewall.bring(rules)
    with form.life() as second:
        assert not second.bring(rules)


@pytest.mark.parametrize(
    "damage",
    [
        ("-t", "filter", "-F"),
        ("-t", "nat", "-F"),
        ("-t", "raw", "-F", "routed-from-pod"),
        ("-t", "filter", "-D", "INPUT", "-p", "4", "-j", "routed-guard"),
        ("-t", "filter", "-I", "INPUT", "-j", "routed-guard"),
        ("-t", "filter", "-I", "routed-guard", "-j", "ACCEPT"),
        ("-t", "filter", "-N", "routed-unknown"),
    ],
    ids=" ".join,
)
def test_what_another_hand_does_to_it_is_put_back(form, firewall, damage):
    firewall.bring(NAT)
    right = form.saved()
    form.run(*damage)
    assert form.saved() != right
    assert firewall.bring(NAT)
    assert form.saved() == right
    assert not firewall.bring(NAT)


def test_rules_of_others_stay_and_cleanup_leaves_what_was_there_before(form, firewall):
    form.run("-t", "nat", "-N", "KUBE-POSTROUTING")
    form.run("-t", "nat", "-A", "POSTROUTING", "-j", "KUBE-POSTROUTING")
    form.run("-A", "INPUT", "-p", "tcp", "-m", "comment", "--comment", "a stranger's", "-j", "ACCEPT")
    before = set(form.saved())
    firewall.bring(NAT)
    assert before < set(form.saved())
    assert cleanup([Iptables(form.form, form.site.node)]) == ((f"iptables-{form.form}",), ())
    assert not any("routed-" in line for line in form.saved())
    assert before <= set(form.saved())
    assert cleanup([Iptables(form.form, form.site.node)]) == ((), ())


def test_cleanup_of_an_untouched_node_makes_no_table(site):
    assert cleanup(list(all_backends(site.node).values())) == ((), ())
    assert site.tables() == set()
    assert site.on_node("cat", "/proc/net/ip_tables_names") == ""


def test_the_nft_form_is_told_of_changes_and_not_of_its_own(site):
    form = Form(site, "nft")
    with form.life() as firewall:
        firewall.bring(NAT)
        assert not select.select([firewall], [], [], 0)[0]
        form.run("-t", "filter", "-F")
        assert select.select([firewall], [], [], 5)[0]
        assert firewall.changed()


def test_a_flush_of_the_legacy_form_shows_at_a_glance_and_what_we_write_does_not(site):
    form = Form(site, "legacy")
    with form.life() as firewall:
        firewall.bring(NAT)
        firewall.bring(RULES)
        assert not firewall.changed()
        form.run("-t", "filter", "-F")
        assert firewall.changed()
        firewall.bring(RULES)
        assert not firewall.changed()


# ---- the choice


def chosen(site: Site, setting: str = "auto") -> Firewall:
    firewall = Firewall(chooser(setting, site.node), site.node)
    try:
        firewall.bring(NAT)
    except BaseException:
        firewall.close()
        raise
    return firewall


def test_an_untouched_node_gets_a_table_of_nftables(site):
    with chosen(site) as firewall:
        assert (firewall.backend, firewall.warning) == ("nft", "")
    assert take_census(site.node) == Census()


def test_where_the_best_cannot_be_had_the_next_serves(site, monkeypatch):
    there = program.installed
    monkeypatch.setattr(program, "installed", lambda name: None if name == "nft" else there(name))
    with chosen(site) as firewall:
        assert firewall.backend == "iptables-nft"
    with pytest.raises(UnsupportedError, match="nft is not installed"):
        chosen(site, "nft")


def test_a_node_that_uses_legacy_tables_is_followed(site):
    Form(site, "legacy").run("-A", "INPUT", "-p", "tcp", "-j", "ACCEPT")
    assert take_census(site.node) == Census(legacy=("filter",))
    with chosen(site) as firewall:
        assert (firewall.backend, firewall.warning) == ("iptables-legacy", "")
    assert take_census(site.node) == Census(legacy=("filter",))  # ours are no strangers'


def test_a_node_that_uses_iptables_nft_gets_nftables(site):
    Form(site, "nft").run("-A", "INPUT", "-p", "tcp", "-j", "ACCEPT")
    with chosen(site) as firewall:
        assert (firewall.backend, firewall.warning) == ("nft", "")


def test_both_in_use_are_named_and_the_firewall_is_there_all_the_same(site):
    for each in ("legacy", "nft"):
        Form(site, each).run("-A", "INPUT", "-p", "tcp", "-j", "ACCEPT")
    site.on_node("nft", "add", "table", "inet", "firewalld")
    with chosen(site) as firewall:
        assert firewall.backend == "nft"
        assert "iptables-legacy (filter) and nftables (ip filter, inet firewalld) both hold rules" in firewall.warning


def test_another_choice_takes_away_what_the_one_before_had_written(site):
    with chosen(site, "iptables-legacy"):
        pass
    with chosen(site, "iptables-nft"):
        assert not any("routed-" in line for line in Form(site, "legacy").saved())
        assert any("routed-guard" in line for line in Form(site, "nft").saved())
    with chosen(site, "nft"):
        assert not any("routed-" in line for line in Form(site, "nft").saved())
        assert "inet routed" in site.tables()
    with chosen(site, "off"):
        assert "inet routed" not in site.tables()

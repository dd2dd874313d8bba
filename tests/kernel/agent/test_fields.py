"""What an operator sets is seen at the other end: fields of BGPPeer, BGPConfiguration, BGPFilter and IPPool, live.

One agent with a session to each of three BIRDs; each test changes what one of them, `tor`, is told or has agreed to,
sees it in BIRD's own words, and takes it back. The other sessions stay up all the time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.interop.bird import Bird
from tests.kernel.interop.ours import Ours, Resource
from tests.kernel.interop.routers import Neighbor, Route, Setup, Subnet
from tests.kernel.interop.scenarios import with_password
from tests.waiting import until

US, TOR, INNER, OTHER = "10.99.0.1", "10.99.0.10", "10.99.0.11", "10.99.0.12"
BLOCK, LEARNED, OUTSIDE = "10.244.1.0/24", "10.244.10.0/24", "192.168.7.0/24"
POOL: Resource = {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"}}
NODE: Resource = {
    "kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "a"}},
    "spec": {"bgp": {"ipv4Address": f"{US}/24"}, "podCIDRs": [BLOCK]},
}  # fmt: skip


def configuration(**spec: Any) -> Resource:
    return {"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": spec}


def peer(address: str, asn: int, **spec: Any) -> Resource:
    name = f"p{address.rpartition('.')[2]}"
    return {"kind": "BGPPeer", "metadata": {"name": name}, "spec": {"peerIP": address, "asNumber": asn, **spec}}


def tor(**spec: Any) -> Resource:
    return peer(TOR, 65010, **spec)


def rules(**spec: Any) -> Resource:
    return {"kind": "BGPFilter", "metadata": {"name": "rules"}, "spec": spec}


USUAL = (configuration(), POOL, NODE, tor())


@dataclass
class Rack:
    ours: Ours
    tor: Bird

    def printed(self) -> str:
        """All that the router says of its session with us."""
        return self.tor._ask("show", "protocols", "all", "n10_99_0_1")

    def told(self) -> dict[str, Any]:
        return self.tor.routes(US)

    def accepted(self) -> dict[str, Any]:
        return self.ours.accepted(TOR)

    def counts(self, *peers: str) -> list[int]:
        """How often each session has been established."""
        return [self.ours.session(each)["counts"]["established"] for each in peers]

    @contextlib.contextmanager
    def setting(self, *resources: Resource) -> Generator[None]:
        """Have `resources` while the block runs; nobody but `tor` may notice."""
        before = self.counts(INNER, OTHER)
        self.ours.apply(*resources)
        try:
            yield
        finally:
            self.ours.apply(*USUAL)
            until(lambda: self.ours.established(TOR) and self.told().keys() == {BLOCK}, 20, self.why)
            until(lambda: self.accepted().keys() == {LEARNED}, 20, self.why)
        assert self.counts(INNER, OTHER) == before

    def why(self) -> object:
        return self.ours.session(TOR), self.told(), self.accepted(), self.ours.tail()


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    subnet = Subnet(tmp_path_factory.mktemp("rack"))
    routers: list[Bird] = []
    ours: Ours | None = None
    try:
        place = subnet.place(1, "n1")
        for number, asn in ((10, 65010), (11, 64512), (12, 65012)):
            routers.append(Bird(subnet.place(number, f"r{number}")))
            routes = (Route(prefix=f"10.244.{number}.0/24", communities=("65000:1",)),)
            outside = (Route(prefix=OUTSIDE), Route(prefix="0.0.0.0/0")) if number == 10 else ()
            us = Neighbor(address=US, remote_as=64512, restart_time=60)
            routers[-1].start(Setup(asn=asn, neighbors=(us,), routes=routes + outside))
        ours = Ours(place, bgp_sync_seconds=5)
        ours.apply(*USUAL, peer(INNER, 64512), peer(OTHER, 65012))
        ours.start()
        for address in (TOR, INNER, OTHER):
            until(lambda address=address: ours is not None and ours.established(address), 30, ours.tail)
        yield Rack(ours, routers[0])
        assert not re.search("Traceback|never retrieved|never awaited", ours.log.read_text())
    finally:
        for each in (ours, *routers):
            if each is not None:
                each.close()
        subnet.close()


# ---- BGPPeer


@pytest.mark.parametrize(
    ("spec", "printed"),
    [
        ({"maxRestartTime": "33s"}, "Restart time: 33"),
        ({"holdTime": "30s"}, r"Hold timer: .*/30"),
        ({"addressFamilies": ["IPv4", "IPv6"]}, "AF announced: ipv4 ipv6"),
        ({"nodeSelector": "rack == 'a'", "sourceAddress": "None"}, "BGP state: +Established"),
    ],
    ids=str,
)
def test_what_a_bgppeer_states_is_in_the_open_of_its_session(rack: Rack, spec: dict[str, Any], printed: str) -> None:
    with rack.setting(tor(**spec)):
        until(lambda: re.search(printed, rack.printed()) and rack.ours.established(TOR), 10, rack.printed)


def test_a_selector_that_does_not_select_us_ends_the_session(rack: Rack) -> None:
    with rack.setting(tor(nodeSelector="rack == 'b'")):
        until(lambda: TOR not in rack.ours.sessions() and not rack.told(), 10, rack.why)


def test_rfc4486_a_limit_that_is_lowered_below_what_was_sent_holds_at_once(rack: Rack) -> None:
    with rack.setting(tor(maxPrefixes=2)):
        until(lambda: rack.ours.session(TOR)["state"] == "prefix limit", 10, rack.why)
        assert "prefix limit exceeded: 3 of 2" in rack.ours.session(TOR)["last_error"]


def test_a_session_that_waits_for_an_open_is_configured_anew_at_once(rack: Rack) -> None:
    """The router's packets have a TTL of 1: its connection comes in, its OPEN or its KEEPALIVE does not."""
    with rack.setting(tor(ttlSecurity=1)):
        until(lambda: not rack.ours.established(TOR), 10, rack.why)
        until(lambda: re.search("OpenSent|OpenConfirm|Established", rack.printed()), 10, rack.printed)


def test_a_password_that_is_written_or_changed_counts_without_a_change_of_resources(rack: Rack, tmp_path: Path) -> None:
    ours, setup = rack.ours, rack.tor.setup
    assert setup is not None
    missing = {"secretKeyRef": {"name": "late", "key": "tor"}}
    try:
        with rack.setting(tor(password=missing)):
            until(lambda: ours.ask("/bgp/status")["faults"], 10)
            for password in ("first", "second"):
                rack.tor.change(with_password(setup, US, password))
                rack.tor.reset(US)
                until(lambda: not ours.established(TOR), 10, rack.why)
                ours.secret("late", "tor", password)
                until(lambda: ours.established(TOR) and rack.told(), 20, rack.why)
            rack.tor.change(setup)
    finally:
        rack.tor.change(setup)
    assert "second" not in ours.log.read_text()


# ---- BGPFilter


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        ({"action": "Accept", "cidr": "192.168.0.0/16", "matchOperator": "In"}, {LEARNED, OUTSIDE}),
        ({"action": "Accept", "cidr": "0.0.0.0/0", "matchOperator": "Equal"}, {LEARNED, "0.0.0.0/0"}),
        ({"action": "Reject", "communities": {"values": ["65000:1"]}}, set[str]()),
        ({"action": "Reject", "asPathPrefix": [65010]}, set[str]()),
        ({"action": "Reject", "interface": "eth*"}, set[str]()),
        ({"action": "Reject", "interface": "bond0"}, {LEARNED}),
        ({"action": "Reject", "peerType": "eBGP"}, set[str]()),
        ({"action": "Reject", "peerType": "iBGP"}, {LEARNED}),
    ],
    ids=str,
)
def test_a_filter_on_import_changes_what_is_let_in_and_no_session(
    rack: Rack, rule: dict[str, Any], accepted: set[str]
) -> None:
    before = rack.counts(TOR)
    with rack.setting(rules(importV4=[rule]), tor(filters=["rules"])):
        until(lambda: rack.accepted().keys() == accepted, 10, rack.why)
    assert rack.counts(TOR) == before


def test_a_filter_changes_what_is_told_and_no_session(rack: Rack) -> None:
    before = rack.counts(TOR)
    operations = [{"addCommunity": {"value": "1:2"}}, {"prependASPath": {"prefix": [7, 8]}}]
    with rack.setting(rules(exportV4=[{"action": "Accept", "operations": operations}]), tor(filters=["rules"])):
        until(lambda: rack.told()[BLOCK].as_path == (64512, 7, 8), 10, rack.why)
        assert rack.told()[BLOCK].communities == {"1:2"}
        rack.ours.apply(rules(exportV4=[{"action": "Reject", "cidr": BLOCK, "matchOperator": "Equal"}]))
        until(lambda: not rack.told(), 10, rack.why)
    assert rack.counts(TOR) == before


# ---- BGPConfiguration and IPPool


def test_communities_and_services_of_the_cluster_are_told(rack: Rack) -> None:
    before = rack.counts(TOR)
    ranges = {"serviceClusterIPs": 96, "serviceExternalIPs": 97, "serviceLoadBalancerIPs": 98}
    spec = {
        "communities": [{"name": "pods", "value": "64512:9"}],
        "prefixAdvertisements": [{"cidr": "10.244.0.0/16", "communities": ["pods", "64512:10"]}],
        **{name: [{"cidr": f"10.{number}.0.0/16"}] for name, number in ranges.items()},
    }
    with rack.setting(configuration(**spec)):
        services = {f"10.{number}.0.0/16" for number in ranges.values()}
        until(lambda: rack.told().keys() == {BLOCK, *services}, 10, rack.why)
        until(lambda: rack.told()[BLOCK].communities == {"64512:9", "64512:10"}, 10, rack.why)
    assert rack.counts(TOR) == before


def test_a_pool_that_is_not_exported_is_withdrawn(rack: Rack) -> None:
    with rack.setting({**POOL, "spec": {**POOL["spec"], "disableBGPExport": True}}):
        until(lambda: not rack.told(), 10, rack.why)


def test_a_filter_that_accepts_is_stronger_than_the_pool(rack: Rack) -> None:
    hidden = {**POOL, "spec": {**POOL["spec"], "disableBGPExport": True}}
    accepting = rules(exportV4=[{"action": "Accept", "cidr": BLOCK, "matchOperator": "Equal"}])
    with rack.setting(hidden, accepting, tor(filters=["rules"])):
        until(lambda: INNER in rack.ours.sessions() and not rack.ours.advertised(INNER), 10, rack.why)
        assert rack.told().keys() == {BLOCK}


def test_the_least_severe_message_of_bgp_that_is_logged_is_a_setting(rack: Rack) -> None:
    with rack.setting(configuration(logSeverityScreen="Error")):
        said = rack.ours.log.read_text()
        before = rack.counts(TOR)
        rack.tor.reset(US)
        until(lambda: rack.counts(TOR) > before, 10, rack.why)
        assert "session e" not in rack.ours.log.read_text().removeprefix(said)

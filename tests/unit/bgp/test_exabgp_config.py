"""What we write for ExaBGP, read by ExaBGP's own parser."""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib import import_module
from ipaddress import ip_address
from typing import Any

import pytest

from routed.errors import OperatorError
from routed.model.address import Address, Family
from routed_bgp.exabgp.adaptations import Extras, extras
from routed_bgp.exabgp.config import check, configuration, settings
from routed_bgp.sessions import PASSIVE_SECONDS, Session

SESSION = Session(
    name="mesh/a2",
    peer=Address("10.1.1.12"),
    peer_as=64512,
    local=Address("10.1.1.11"),
    local_as=64601,
    router_id=Address("10.1.1.11"),
)
SIX = replace(SESSION, peer=ip_address("fd99::2"), local=ip_address("fd99::1"), families=(Family.IPV4, Family.IPV6))


def exabgp(module: str) -> Any:
    return import_module(f"exabgp.{module}")


def read(*sessions: Session) -> dict[str, Any]:
    """ExaBGP's neighbors by address."""
    check(sessions)
    exabgp("logger").log.init(exabgp("environment").getenv())  # its parser writes to its log
    found = exabgp("configuration.configuration").Configuration([configuration(sessions)], text=True)
    assert found.reload(), str(found.error)
    return {str(neighbor["peer-address"]): neighbor for neighbor in found.neighbors.values()}


def families(neighbor: Any) -> list[str]:
    return [f"{afi} {safi}" for afi, safi in neighbor.families()]


def test_exabgp_reads_every_field_as_meant() -> None:
    session = replace(SESSION, port=1790, listen_port=1791, passive=True, hold_time=30, restart_time=77)
    neighbor = read(session)["10.1.1.12"]
    names = ("local-address", "router-id", "local-as", "peer-as", "connect", "listen", "passive", "hold-time")
    assert [str(neighbor[name]) for name in names] == [
        "10.1.1.11",
        "10.1.1.11",
        "64601",
        "64512",
        "1790",
        "1791",
        "True",
        "30",
    ]
    assert (neighbor["manual-eor"], neighbor["adj-rib-in"]) == (True, False)
    assert neighbor["capability"]["graceful-restart"] == 77
    assert neighbor["capability"]["asn4"]
    assert neighbor["capability"]["route-refresh"]
    assert not neighbor["capability"]["extended-message"]
    assert not neighbor["capability"]["nexthop"]
    assert families(neighbor) == ["ipv4 unicast"]
    assert extras(neighbor) == Extras(0, notification=False, patience=PASSIVE_SECONDS)


def test_exabgp_tells_us_what_the_stock_mode_needs_and_nothing_else() -> None:
    api = read(SESSION)["10.1.1.12"].api
    told = {name for name, processes in api.items() if processes and not name.startswith("processes")}
    assert told == {"neighbor-changes", "receive-packets", "receive-open", "receive-update", "receive-refresh"}


def test_an_ipv6_session_has_both_families_and_their_next_hops() -> None:
    neighbor = read(replace(SIX, add_path=True, extended_next_hop=True))["fd99::2"]
    assert families(neighbor) == ["ipv4 unicast", "ipv6 unicast"]
    assert [" ".join(map(str, row)) for row in neighbor.nexthops()] == ["ipv4 unicast ipv6"]
    assert neighbor["capability"]["add-path"] == 1  # receive
    assert len(neighbor.addpaths()) == 2


def test_what_the_configuration_has_no_words_for_is_in_the_description() -> None:
    neighbor = read(replace(SESSION, keepalive_time=7, notification_restart=True))["10.1.1.12"]
    assert extras(neighbor) == Extras(7, notification=True, patience=PASSIVE_SECONDS)


def test_no_restart_time_means_no_graceful_restart() -> None:
    assert read(replace(SESSION, restart_time=0))["10.1.1.12"]["capability"]["graceful-restart"] is False


@pytest.mark.parametrize(("hops", "minimum"), [(1, 255), (2, 254), (255, 1)])
def test_rfc5082_hops_are_the_least_ttl(hops: int, minimum: int) -> None:
    neighbor = read(replace(SESSION, ttl_security=hops))["10.1.1.12"]
    assert (neighbor["incoming-ttl"], neighbor["outgoing-ttl"]) == (minimum, 255)


@pytest.mark.parametrize("password", ["secret", "x; } neighbor 192.0.2.66 { ", 'a"b\\', "\u00fc\n", "x" * 80])
def test_rfc2385_a_password_is_read_as_it_is(password: str) -> None:
    neighbor = read(replace(SESSION, password=password))["10.1.1.12"]
    assert neighbor["md5-base64"] is True
    assert base64.b64decode(neighbor["md5-password"]) == password.encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": ""}, "1 to 80 octets"),
        ({"password": "\u00fc" * 41}, "1 to 80 octets"),
        ({"ttl_security": 0}, "1 to 255 hops"),
        ({"peer": ip_address("fd99::2")}, "two families"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_session(change: dict[str, Any], words: str) -> None:
    with pytest.raises(OperatorError, match=f"mesh/a2: .*{words}") as caught:
        check([replace(SESSION, **change)])
    assert caught.value.hint


def test_two_sessions_with_one_peer_are_refused() -> None:
    with pytest.raises(OperatorError, match=r"other: 10\.1\.1\.12 has another session"):
        check([SESSION, replace(SESSION, name="other")])


def test_several_sessions_are_read_as_sessions_of_their_own() -> None:
    assert set(read(SESSION, SIX, replace(SESSION, peer=Address("10.1.1.1"), peer_as=4200000000))) == {
        "10.1.1.12",
        "10.1.1.1",
        "fd99::2",
    }


def test_no_text_of_an_operator_reaches_the_configuration() -> None:
    evil = "x; } neighbor 192.0.2.66 { "
    assert configuration([replace(SESSION, name=evil, member=evil)]) == configuration([SESSION])


@pytest.mark.parametrize(
    "field",
    ["peer", "local", "router_id", "peer_as", "local_as", "port", "listen_port", "hold_time", "restart_time"],
)
def test_a_field_that_is_no_number_or_address_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="1; "):
        configuration([replace(SESSION, **{field: "1; }"})])  # type: ignore[arg-type]


def test_the_reactor_may_be_slow_only_where_every_socket_wakes_it() -> None:
    assert settings(stock=False)["exabgp.reactor.speed"] == "10"
    assert settings(stock=True)["exabgp.reactor.speed"] == "1"

"""What we write for ExaBGP, read by ExaBGP's own parser."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from tests.unit.bgp.clusters import RACKS, cluster, peer

from routed.model.address import Address
from routed_bgp.exabgp.config import configuration, settings
from routed_bgp.sessions import Session, wanted_sessions

SESSION = Session("mesh/a2", Address("10.1.1.12"), 64512, Address("10.1.1.11"), 64601, Address("10.1.1.11"))


def exabgp(module: str) -> Any:
    return import_module(f"exabgp.{module}")


def read(*sessions: Session) -> dict[str, Any]:
    """ExaBGP's neighbors by address."""
    exabgp("logger").log.init(exabgp("environment").getenv())  # its parser writes to its log
    found = exabgp("configuration.configuration").Configuration([configuration(sessions)], text=True)
    assert found.reload(), str(found.error)
    return {str(neighbor["peer-address"]): neighbor for neighbor in found.neighbors.values()}


def test_exabgp_reads_every_field_as_meant() -> None:
    neighbor = read(replace(SESSION, port=1790, passive=True, hold_time=30, restart_time=77))["10.1.1.12"]
    fields = ("local-address", "router-id", "local-as", "peer-as", "connect", "passive", "hold-time")
    assert [str(neighbor[name]) for name in fields] == [
        "10.1.1.11",
        "10.1.1.11",
        "64601",
        "64512",
        "1790",
        "True",
        "30",
    ]
    assert (neighbor["manual-eor"], neighbor["adj-rib-in"], neighbor["adj-rib-out"]) == (True, False, True)
    assert neighbor["capability"]["graceful-restart"] == 77
    assert not neighbor["capability"]["extended-message"]
    assert [f"{afi} {safi}" for afi, safi in neighbor.families()] == ["ipv4 unicast"]


def test_exabgp_tells_us_opens_updates_and_changes_and_nothing_else() -> None:
    api = read(SESSION)["10.1.1.12"].api
    told = {name for name, processes in api.items() if processes and not name.startswith("processes")}
    assert told == {"neighbor-changes", "receive-packets", "receive-open", "receive-update"}


def test_no_restart_time_means_no_graceful_restart() -> None:
    assert read(replace(SESSION, restart_time=0))["10.1.1.12"]["capability"]["graceful-restart"] is False


def test_a_mesh_and_a_router_are_read_as_sessions_of_their_own() -> None:
    wanted = wanted_sessions(cluster(*RACKS, peer("tor", "10.1.1.1", 4200000000)), "a1")
    found = read(*wanted)
    assert set(found) == {"10.1.1.1", "10.1.1.12", "10.2.2.11"}
    assert int(found["10.1.1.1"]["peer-as"]) == 4200000000


def test_no_text_of_an_operator_reaches_the_configuration() -> None:
    evil = "x; } neighbor 192.0.2.66 { "
    assert configuration([replace(SESSION, name=evil, member=evil)]) == configuration([SESSION])


@pytest.mark.parametrize(
    "field", ["peer", "local", "router_id", "peer_as", "local_as", "port", "hold_time", "restart_time"]
)
def test_a_field_that_is_no_number_or_address_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="1; "):
        configuration([replace(SESSION, **{field: "1; }"})])  # type: ignore[arg-type]


def test_settings_bind_to_the_one_address() -> None:
    found = settings(Address("10.1.1.11"), 1790)
    assert (found["exabgp.tcp.bind"], found["exabgp.tcp.port"]) == ("10.1.1.11", "1790")

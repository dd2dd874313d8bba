"""What we and real routers tell one another, and what becomes of a session that must not come up."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from tests.kernel.interop.ours import Ours, Told
from tests.kernel.interop.routers import Route, Seen
from tests.kernel.interop.scenarios import (
    AS,
    BLOCK_6,
    BLOCKS,
    OF_MEMBER,
    OF_MEMBER_6,
    OURS,
    OUTSIDE,
    PASSWORD,
    TAG,
    TWICE,
    End,
    Fabric,
    keys,
    with_password,
)
from tests.waiting import until

FOUR = ("plain", "md5", "ttl", "wide-as", "ipv6-over-ipv4", "extended-next-hop")
SIX = ("ipv6", "ipv6-over-ipv4", "extended-next-hop")
SECONDS = 30.0


def about(*scenarios: str, roles: tuple[str, ...] = ("tor", "reflector")) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("end", keys(*scenarios, roles=roles), ids=str, indirect=True)


def received(ours: Ours, end: End, prefix: str) -> Told:
    """The path to `prefix` that we have from this router, as soon as it is there."""
    until(lambda: prefix in ours.received(end.address), SECONDS, lambda: why(ours, end))
    return ours.received(end.address)[prefix]


def seen(ours: Ours, end: End, prefix: str) -> Seen:
    """Our path to `prefix` as the router prints it, as soon as it does."""
    until(lambda: prefix in end.router.routes(end.us), SECONDS, lambda: why(ours, end))
    return end.router.routes(end.us)[prefix]


def why(ours: Ours, end: End) -> str:
    return (
        f"{end.key}: ours: {ours.session(end.address)}; theirs: {end.router.state(end.us)} "
        f"{end.router.last_error(end.us)} {end.router.routes(end.us)}\n{ours.tail()}"
    )


def next_hops(end: End, version: int, number: int) -> set[str]:
    """How the next hop of a path of node `number` may be told: RFC 8950 section 4, and mapped in IPv6 (RFC 4659)."""
    four, six = f"10.99.0.{number}", f"fd99::{number:x}"
    if version == 6:
        return {six, f"::ffff:{four}", str(IPv6Address(f"::ffff:{four}"))}
    return {six} if end.key.scenario == "extended-next-hop" else {four}


# ---- what we are told


@about(*FOUR, roles=("tor",))
def test_a_route_of_a_top_of_rack_router_is_received_and_wins(ours: Ours, end: End) -> None:
    told = received(ours, end, end.route.prefix)
    assert told.next_hop in next_hops(end, 4, end.number)
    assert told.as_path == (end.asn,)
    assert told.communities == {f"65000:{end.number}"}
    assert told.med == end.number
    until(lambda: end.route.prefix in ours.best(), SECONDS, ours.tail)
    best = ours.best()[end.route.prefix]
    assert (best.peer, best.local_pref, best.rejected) == (end.address, 100, None)


@about(*SIX, roles=("tor",))
def test_an_ipv6_route_of_a_top_of_rack_router_is_received(ours: Ours, end: End) -> None:
    told = received(ours, end, end.route_6.prefix)
    assert told.next_hop in next_hops(end, 6, end.number)
    assert told.as_path == (end.asn,)
    assert told.communities == {f"65000:{end.number}"}


@about(*FOUR, roles=("reflector",))
def test_a_member_s_route_is_received_through_the_reflector_unchanged(ours: Ours, end: End) -> None:
    told = received(ours, end, OF_MEMBER)
    assert told.next_hop in next_hops(end, 4, 2)
    assert (told.as_path, told.communities, told.local_pref) == ((), {f"{AS}:2"}, 100)
    accepted = ours.accepted(end.address)[OF_MEMBER]
    assert accepted.local_pref == 90  # a member's own address as next hop


@about(*SIX, roles=("reflector",))
def test_a_member_s_ipv6_route_is_received_through_the_reflector(ours: Ours, end: End) -> None:
    told = received(ours, end, OF_MEMBER_6)
    assert told.next_hop in next_hops(end, 6, 2)
    assert told.as_path == ()


@about("plain", roles=("tor",))
def test_what_the_safe_defaults_refuse_is_received_and_not_used(ours: Ours, end: End) -> None:
    received(ours, end, end.route.prefix)
    for prefix in OUTSIDE:
        assert received(ours, end, prefix).rejected
    assert not ours.best().keys() & set(OUTSIDE)
    assert not ours.accepted(end.address).keys() & set(OUTSIDE)


@about("add-path")
def test_rfc7911_both_paths_of_a_prefix_are_received(ours: Ours, end: End) -> None:
    until(lambda: len(ours.paths("received", peer=end.address).get(TWICE, ())) == 2, SECONDS, lambda: why(ours, end))
    paths = ours.paths("received", peer=end.address)[TWICE]
    assert {community for path in paths for community in path.communities} == {
        f"65000:{number}" for number in end.feeders
    }
    if end.tor:
        assert {path.as_path for path in paths} == {(end.asn, 65504), (end.asn, 65505)}
    else:
        assert {path.next_hop for path in paths} == {"10.99.0.2", "10.99.0.3"}


# ---- what we tell


@about(*FOUR)
def test_the_router_prints_our_blocks_with_their_communities(ours: Ours, end: End) -> None:
    for block in BLOCKS:
        printed = seen(ours, end, block)
        assert printed.next_hop in next_hops(end, 4, 1)
        assert printed.as_path == ((end.our_as,) if end.tor else ())
        assert printed.communities == {TAG}
        assert printed.stale is False
    assert ours.advertised(end.address).keys() >= set(BLOCKS)


@about(*SIX)
def test_the_router_prints_our_ipv6_block(ours: Ours, end: End) -> None:
    printed = seen(ours, end, BLOCK_6)
    assert printed.next_hop in next_hops(end, 6, 1)
    assert printed.communities == {TAG}


@about(*FOUR, roles=("reflector",))
def test_rfc4456_the_reflector_passes_our_block_on(ours: Ours, end: End, fabric: Fabric) -> None:
    feeder = fabric.feeders[2]
    until(lambda: BLOCKS[0] in feeder.routes(end.address), SECONDS, lambda: why(ours, end))
    printed = feeder.routes(end.address)[BLOCKS[0]]
    assert printed.originator == OURS
    assert printed.communities == {TAG}
    assert len(printed.cluster_list) == 1


@about("plain", roles=("tor",))
def test_nothing_that_another_router_told_us_is_passed_on_to_a_router(ours: Ours, end: End) -> None:
    for block in BLOCKS:
        seen(ours, end, block)
    assert end.router.routes(end.us).keys() == set(BLOCKS)


# ---- refresh


@pytest.mark.parametrize("end", [key for key in keys("plain") if key.kind != "gobgp"], ids=str, indirect=True)
def test_rfc2918_a_router_that_asks_for_a_refresh_gets_our_routes_again(ours: Ours, end: End) -> None:
    """GoBGP answers ROUTE-REFRESH but has no command to send one."""
    seen(ours, end, BLOCKS[0])
    before = end.router.updates(end.us)
    end.router.ask_refresh(end.us)
    until(lambda: end.router.updates(end.us) > before, SECONDS, lambda: why(ours, end))
    assert end.router.routes(end.us).keys() >= set(BLOCKS)
    assert end.router.established(end.us)


@about("plain")
def test_rfc7313_a_router_that_sends_everything_again_takes_nothing_away(ours: Ours, end: End) -> None:
    prefix = end.route.prefix if end.tor else OF_MEMBER
    received(ours, end, prefix)
    count = ours.session(end.address)["counts"]["established"]
    marker = Route(prefix=f"10.244.{end.number}.128/25")
    end.router.resend(end.us)
    end.router.announce(marker)
    try:
        received(ours, end, marker.prefix)  # it comes behind what was sent again
        assert prefix in ours.accepted(end.address)
        assert ours.established(end.address)
        assert ours.session(end.address)["counts"]["established"] == count
    finally:
        end.router.withdraw(marker)


# ---- what must not come up


@about("wrong-as")
def test_rfc4271_6_2_a_router_in_another_as_is_refused_and_told_why(ours: Ours, end: End) -> None:
    until(lambda: _as_in(ours.session(end.address)["last_error"]), SECONDS, lambda: why(ours, end))
    assert not ours.established(end.address)
    assert not end.router.established(end.us)
    if end.key.kind != "gobgp":  # which keeps to itself what it was told
        until(lambda: _as_in(end.router.last_error(end.us)), SECONDS, lambda: why(ours, end))


@about("not-our-as")
def test_rfc4271_6_2_a_router_that_refuses_our_as_is_quoted(ours: Ours, end: End) -> None:
    until(lambda: _as_in(ours.session(end.address)["last_error"]), SECONDS, lambda: why(ours, end))
    assert not ours.established(end.address)


def _as_in(text: str | None) -> bool:
    """Whether a peer AS is complained of, in whoever's words."""
    return "peer as" in (text or "").lower() or "as number" in (text or "").lower()


@about("wrong-password")
def test_rfc2385_nothing_but_the_right_password_brings_the_session_up(ours: Ours, end: End) -> None:
    until(lambda: ours.session(end.address)["state"] != "unknown", SECONDS, ours.tail)
    assert not end.router.established(end.us)
    assert not ours.established(end.address)
    wrong = end.setup
    try:
        end.router.change(with_password(wrong, end.us, PASSWORD[::-1]))
        until(lambda: end.router.established(end.us), SECONDS, lambda: why(ours, end))
        seen(ours, end, BLOCKS[0])
        assert PASSWORD[::-1] not in ours.log.read_text()
    finally:
        end.router.change(wrong)
        end.router.reset(end.us)
        until(lambda: not ours.established(end.address), SECONDS, lambda: why(ours, end))


@about("flood", roles=("tor",))
def test_rfc4486_a_router_that_sends_too_many_prefixes_loses_its_session_and_the_others_do_not(
    ours: Ours, end: End
) -> None:
    received(ours, end, end.route.prefix)
    many = [Route(prefix=f"10.244.{200 + end.number % 20}.{16 * each}/28") for each in range(11)]
    up = {peer for peer, session in ours.sessions().items() if session["state"] == "established"} - {end.address}
    end.router.announce(*many)
    try:
        until(lambda: ours.session(end.address)["state"] == "prefix limit", SECONDS, lambda: why(ours, end))
        until(lambda: not end.router.established(end.us), SECONDS, lambda: why(ours, end))
        assert "prefix" in end.router.last_error(end.us).lower(), why(ours, end)
        assert end.route.prefix not in ours.best()
        assert all(ours.established(peer) for peer in up)
    finally:
        end.router.withdraw(*many)


@about("limit")
def test_rfc4486_a_router_that_takes_fewer_prefixes_than_we_have_is_quoted(ours: Ours, end: End) -> None:
    end.router.kill()  # it refuses connections by now, and that is our last error
    end.router.start(end.setup)
    until(
        lambda: "prefixes" in (ours.session(end.address)["last_error"] or "").lower(), SECONDS, lambda: why(ours, end)
    )

"""Runs of UPDATEs that differ in communities and prefix only: taken together they mean what each means alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bgp import wire
from tests.unit.bgp.clusters import RACKS, bgp_filter, cluster, peer, pool
from tests.unit.bgp.ribs import BOTH, MEMBER, TOR, a_rib, after, announce, best, down, graceful, paths, refresh, up

from routed.model.address import Family
from routed_bgp.columns import Columns, Run
from routed_bgp.policy import GRACEFUL_SHUTDOWN
from routed_bgp.rib import Rib
from routed_bgp.speaker import Refresh, UpdatesReceived

FILTERED = cluster(
    *RACKS[:1],
    RACKS[2],
    pool(),
    bgp_filter("f", importV4=[{"action": "Reject", "communities": {"values": ["0:7"]}}]),
    peer("tor", str(TOR), 65101, filters=("f",)),
)
LIMITED = cluster(*RACKS[:1], RACKS[2], pool(), peer("tor", str(TOR), 65101, max_prefixes=40))
CLUSTERS = {"plain": BOTH, "filtered": FILTERED, "limited": LIMITED}


def nlri(index: int, length: int = 26, host_bits: int = 0) -> bytes:
    """Prefixes one behind the other, in the pool 10.244.0.0/16 and, from 1024 on, beyond it."""
    octets = struct.pack(">I", (0x0AF40000 + (index << (32 - length))) | host_bits)
    return bytes([length]) + octets[: (length + 7) // 8]


def update(attributes: bytes, announced: bytes, withdrawn: bytes = b"") -> bytes:
    body = wire.raw_body(withdrawn, attributes, announced)
    return b"\xff" * 16 + (19 + len(body)).to_bytes(2) + b"\2" + body


def attributes(*communities: int, path: tuple[int, ...] = (65101,), behind: bytes = b"", origin: int = 0) -> bytes:
    values = struct.pack(f">{len(communities)}I", *communities)
    said = wire.attribute(0xC0, 8, values) if communities else b""
    return wire.attribute(0x40, 1, bytes([origin])) + wire.as_path(*path) + wire.next_hop(str(TOR)) + said + behind


LARGE = wire.attribute(0xC0, 32, struct.pack(">3I", 1, 2, 3))


@dataclass(frozen=True)
class Stretch:
    """UPDATEs of one kind, one behind the other."""

    kind: str
    first: int
    count: int
    communities: int = 1
    sets: int = 1000  # how many sets of communities there are

    def messages(self) -> Iterator[bytes]:
        for index in range(self.first, self.first + self.count):
            said = [index % self.sets + number for number in range(self.communities)]
            match self.kind:
                case "withdrawn":
                    yield update(b"", b"", nlri(index))
                case "malformed":
                    yield update(attributes(*said, origin=9), nlri(index))
                case "host bits":
                    yield update(attributes(*said), nlri(index, host_bits=index % 3))
                case "loop":
                    yield update(attributes(*said, path=(65101, 64512)), nlri(index))
                case "shutdown":
                    yield update(attributes(GRACEFUL_SHUTDOWN if index % 7 == 0 else 1, *said), nlri(index))
                case "addresses":
                    yield update(attributes(*said), nlri(index, 32))
                case "large":
                    yield update(attributes(*said, behind=LARGE), nlri(index))
                case "again":
                    yield update(attributes(*said), nlri(index // 2))
                case "lengths":
                    yield update(attributes(*said), nlri(index, 26 - index % 2))
                case "reset":
                    yield update(attributes(*said), b"\x21\x0a\xf4\0\0")
                case "end":
                    yield update(b"", b"")
                case _:
                    yield update(attributes(*said), nlri(index))


KINDS = (
    "withdrawn",
    "malformed",
    "host bits",
    "loop",
    "shutdown",
    "addresses",
    "large",
    "again",
    "lengths",
    "end",
    "plain",
    "plain",
    "plain",
)
stretches = st.lists(
    st.builds(
        Stretch,
        st.sampled_from(KINDS),
        st.integers(0, 60) | st.integers(1000, 1060),
        st.integers(1, 60),
        st.integers(0, 3),
        st.sampled_from([1, 10, 1000]),
    )
    | st.builds(Stretch, st.sampled_from(["reset"]), st.just(0), st.just(1)),
    max_size=6,
)


def prepared(name: str, before: str) -> Rib:
    """A RIB in which things are as they may be when UPDATEs come."""
    rib = after(up(TOR, graceful()), up(MEMBER, graceful()), rib=a_rib(CLUSTERS[name]))
    known = tuple(f"10.244.{index}.0/26" for index in range(8))
    match before:
        case "known by another":
            after(announce(*known, peer=MEMBER, path=()), rib=rib)
        case "stale":
            after(announce(*known), down(), up(TOR, graceful()), rib=rib)
        case "refreshed":
            after(announce(*known), refresh(Refresh.BEGIN), rib=rib)
        case "assigned":
            rib.set_assigned(frozenset(nlri(index, 32) for index in range(0, 60, 7)))
        case _:
            pass
    rib.take_changes()
    return rib


def known(rib: Rib) -> dict[str, Any]:
    table = rib.tables(TOR)
    assert table is not None
    inside = table.tables[Family.IPV4]
    return {
        "best": dict(rib.best()),
        "changed": {family: set(changed) for family, changed in rib.take_changes().items()},
        "received": inside.received,
        "rejected": inside.rejected,
        "stale": inside.stale,
        "refreshed": inside.refreshed,
        "resets": dict(rib.take_resets()),
        "status": rib.status(),
        "suspended": rib.suspended,
        "next hops": rib.next_hops,
    }


@settings(max_examples=300)
@given(
    stretches,
    st.sampled_from(["nothing", "known by another", "stale", "refreshed", "assigned"]),
    st.sampled_from(sorted(CLUSTERS)),
    st.integers(1, 200),
)
def test_updates_that_come_together_mean_what_each_means_alone(
    said: list[Stretch], before: str, name: str, at_once: int
) -> None:
    messages = [message for stretch in said for message in stretch.messages()]
    together, alone = prepared(name, before), prepared(name, before)
    for start in range(0, len(messages), at_once):
        after(UpdatesReceived(TOR, b"".join(messages[start : start + at_once])), rib=together)
    after(*(UpdatesReceived(TOR, message) for message in messages), rib=alone)
    if not alone.suspended and not together.suspended:  # a limit is looked at after whatever came together
        one, other = known(together), known(alone)
        if other["resets"]:  # what came before the fault may have been there for a moment
            del one["changed"], other["changed"], one["next hops"], other["next hops"]
        assert one == other


def found(*messages: bytes, prefix: bytes) -> Run | None:
    data = b"".join(messages)
    return Columns().following(data, 0, len(messages[0]), prefix)


def test_a_run_holds_what_follows_and_ends_where_something_else_comes():
    messages = [update(attributes(index, 7), nlri(index)) for index in range(40)]
    other = update(attributes(5, 7, 9), nlri(99))

    run = found(*messages, other, *messages, prefix=nlri(0))

    assert run is not None
    assert run.nlris == [nlri(index) for index in range(1, 40)]
    assert run.communities == [(index, 7) for index in range(1, 40)]
    assert run.end == len(b"".join(messages))


@pytest.mark.parametrize(
    ("following", "why"),
    [
        ([update(attributes(index), nlri(index)) for index in range(15)], "too few"),
        ([update(attributes(index, path=(65102,)), nlri(index)) for index in range(40)], "another AS path"),
        ([update(attributes(index), nlri(index, 25)) for index in range(40)], "another length of prefix"),
        ([update(attributes(index, origin=2), nlri(index)) for index in range(40)], "another origin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_is_no_run_of(following: list[bytes], why: str):
    assert found(update(attributes(99), nlri(99)), *following, prefix=nlri(99)) is None, why


@pytest.mark.parametrize(
    ("following", "why"),
    [
        ([update(attributes(index % 3), nlri(index)) for index in range(40)], "the same again and again"),
        ([update(attributes(index), nlri(index, host_bits=1)) for index in range(40)], "bits beyond the length"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stretch_is_looked_at_once_if_nothing_comes_of_it(following: list[bytes], why: str):
    run = found(update(attributes(99), nlri(99)), *following, prefix=nlri(99))

    assert run is not None, why
    assert (run.nlris, run.communities) == ([], [])
    assert run.end == sum(map(len, following)) + len(following[0])


def test_communities_that_come_again_in_the_next_data_are_left_to_be_remembered():
    columns = Columns()
    data = b"".join(update(attributes(index), nlri(index)) for index in range(40))
    size = len(update(attributes(0), nlri(0)))

    first, second = (columns.following(data, 0, size, nlri(0)) for _ in range(2))

    assert first is not None
    assert second is not None
    assert (len(first.nlris), len(second.nlris)) == (39, 0)


def test_a_table_of_runs_weighs_what_its_attributes_weigh():
    rib = after(up(TOR, graceful()), rib=a_rib())
    after(
        UpdatesReceived(TOR, b"".join(update(attributes(index), nlri(index)) for index in range(100))),
        rib=rib,
    )
    tables = rib.tables(TOR)
    assert tables is not None
    assert (tables.weight(), len(best(rib))) == (100, 99)  # one is in a block of this node
    assert [path.communities for path in paths(rib, "10.244.1.64/26")] == [(5,)]

"""`routed ipam` over a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, ip_network
from pathlib import Path

import pytest

from routed.ipam.allocator import Allocator
from routed.model.cluster import Cluster
from routed.model.resources import IPPool, IPPoolSpec, Metadata, Node, NodeBGPSpec, NodeSpec
from routed.store.resources import apply, delete, read_resources
from routed.store.sqlite import SqliteStore

from .agents import serving
from .conftest import Run

POOL = IPPool(metadata=Metadata("pods"), spec=IPPoolSpec(ip_network("10.1.0.0/28"), block_size=30))
NODES = [
    Node(metadata=Metadata(name), spec=NodeSpec(NodeBGPSpec(IPv4Interface(f"192.0.2.{number}/24"))))
    for number, name in enumerate("ab", 1)
]


@pytest.fixture(autouse=True)
def given(tmp_path: Path) -> list[IPv4Address]:
    """Node a has three addresses."""

    async def fill() -> list[IPv4Address]:
        store = SqliteStore(tmp_path / "store.db")
        await apply(store, [POOL, *NODES])
        allocator = Allocator(store, node="a")
        await allocator.adopt(Cluster.of(await read_resources(store)))
        found = [await allocator.assign(f"h{number}", {"pod": f"p{number}"}) for number in range(3)]
        await store.close()
        return found

    return asyncio.run(fill())


def without(tmp_path: Path, names: Sequence[tuple[str, str]]) -> None:
    async def change() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await delete(store, names)
        await store.close()

    asyncio.run(change())


def test_show_draws_how_full_pools_and_blocks_are(run: Run):
    result = run("ipam", "show")
    assert result.status == 0
    first, _, *rows = result.out.splitlines()
    assert first.endswith("[#######.............] 3 of 8 addresses, 2 of 4 blocks of /30")
    assert sorted(row.split("confirmed")[1].strip() for row in rows) == [
        "[####################] 2/2  -",
        "[##########..........] 1/2  -",
    ]


def test_show_tells_programs_the_same(run: Run):
    (pool,) = json.loads(run("ipam", "show", "--json").out)["pools"]
    assert (pool["name"], pool["used"], pool["usable"], pool["blockSize"]) == ("pods", 3, 8, 30)
    assert sorted(block["used"] for block in pool["blocks"]) == [1, 2]


def test_show_tells_who_has_an_address(run: Run, given: list[IPv4Address]):
    result = run("ipam", "show", given[0], "10.9.9.9")
    assert f"{given[0]} is held by h0 on node a" in result.out
    assert "pod: p0" in result.out
    assert "10.9.9.9 is free, and in no block" in result.out


def test_check_is_clean_and_says_what_it_saw(run: Run):
    result = run("ipam", "check")
    assert (result.status, result.out) == (0, "clean: 2 blocks, 3 addresses in use\n")
    assert json.loads(run("ipam", "check", "--json").out) == {"clean": True, "findings": []}


def test_an_address_of_a_node_that_is_there_is_released_by_force_only(run: Run, given: list[IPv4Address]):
    refused = run("ipam", "release", given[0])
    assert (refused.status, "node a is there" in refused.err) == (1, True)
    assert run("ipam", "release", given[0], "--force").out == f"released {given[0]}\n"
    assert (
        run("ipam", "release", "--handle", "h1", "--force", "--json").out
        == json.dumps({"released": [str(given[1])]}) + "\n"
    )
    again = run("ipam", "release", given[0])
    assert (again.status, f"{given[0]} is not in use" in again.err) == (1, True)


@pytest.mark.parametrize("words", [[], ["10.1.0.1", "--handle", "h"], ["x"], ["--handle", "none"]])
def test_release_says_what_it_expects(run: Run, words: list[str]):
    result = run("ipam", "release", *words)
    assert (result.status, "hint:" in result.err) == (1, True)


def test_gc_gives_back_what_a_gone_node_had(run: Run, tmp_path: Path):
    assert run("ipam", "gc").out == "nothing to give back\n"
    without(tmp_path, [("Node", "a")])
    assert run("ipam", "gc", "--dry-run").out.endswith("3 addresses and 2 blocks would be given back\n")
    assert "which is gone (routed ipam gc)" in run("ipam", "check").out
    result = run("ipam", "gc", "--grace", "0")
    assert result.out.endswith("3 addresses and 2 blocks given back\n")
    assert run("ipam", "check").out == "clean: 0 blocks, 0 addresses in use\n"
    assert json.loads(run("ipam", "gc", "--json").out) == {"addresses": [], "blocks": []}


def test_gc_gives_back_what_the_agent_of_this_node_sees_without_an_interface_and_what_is_nobody_elses(
    run: Run, given: list[IPv4Address], monkeypatch: pytest.MonkeyPatch
):
    def status(_: dict[str, str]) -> tuple[int, bytes]:
        leaks = [{"handle": "h1", "addresses": [str(given[1])], "seconds": 70.0}, {"handle": "unknown"}]
        return 200, json.dumps({"node": "a", "leaks": leaks}).encode()

    with serving({"/status": status}) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        assert run("ipam", "gc", "--dry-run").out.splitlines()[0] == f"{given[1]} of h1 on node a"
        result = run("ipam", "gc", "--grace", "0")
    assert result.out.endswith("1 addresses and 0 blocks given back\n")
    assert run("ipam", "show", given[1]).out.startswith(f"{given[1]} is free")
    assert run("ipam", "show", given[0]).out.startswith(f"{given[0]} is held by h0")


def test_gc_leaves_a_handle_whose_interface_is_there_when_it_looks_again(
    run: Run, given: list[IPv4Address], monkeypatch: pytest.MonkeyPatch
):
    looks: list[None] = []

    def status(_: dict[str, str]) -> tuple[int, bytes]:
        looks.append(None)
        return 200, json.dumps({"node": "a", "leaks": [{"handle": "h1"}] if len(looks) == 1 else []}).encode()

    with serving({"/status": status}) as port:
        monkeypatch.setenv("ROUTED_HEALTH_PORT", str(port))
        assert run("ipam", "gc", "--grace", "0").out == "nothing to give back\n"
    assert run("ipam", "show", given[1]).out.startswith(f"{given[1]} is held by h1")

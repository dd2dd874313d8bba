"""Requests that nobody would send on purpose, a fixed number of them: damaged ones, and results that are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from routed_cni import condition, network
from routed_cni.faults import CniError
from routed_cni.protocol import Command, Request, decode, requested_version
from routed_cni.results import Attachment, encode_error, encode_result
from routed_cni.server import Server

BUDGET = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
NAMED = "CNI_CONTAINERID=c0ffee\0CNI_NETNS=/run/netns/p\0CNI_IFNAME=eth0\0CNI_ARGS=A=1;B=2"
RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "rtd0", "mac": "ee:ee:ee:ee:ee:ee"}, {"name": "eth0", "sandbox": "/n", "mtu": 1480}],
    "ips": [{"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0"}],
}
FIELDS = {
    "cniVersion": "1.1.0", "name": "routed", "type": "routed-cni", "mtu": 1400, "ipam": {"type": "static"},
    "runtimeConfig": {"mac": "02:00:00:00:00:01"}, "prevResult": RESULT,
}  # fmt: skip
COLLECT = {**FIELDS, "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
SEEDS = [
    f"CNI_COMMAND={command}\0{NAMED}\0\0{json.dumps(COLLECT if command == 'GC' else FIELDS)}".encode()
    for command in COMMANDS
]
PIECES = st.sampled_from(
    [b"\0", b"\0\0", b"..", b"/", b"\xff", b"{", b"}", b'"', b"null", b"-1", b"1e999", b"[" * 5000, b'"\\ud800"', b"="]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request of a runtime, of which up to four places were cut out, doubled or written over."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(PIECES | st.binary(max_size=4) | st.just(data[start:stop] * 2))
        data = data[:start] + piece + data[stop:]
    return data


def test_the_undamaged_requests_are_whole():
    assert [decode(seed).command for seed in SEEDS] == [
        *map(Command, ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"))
    ]


@BUDGET
@given(damaged())
def test_a_damaged_request_is_a_request_or_an_error_that_can_be_told(data: bytes):
    try:
        outcome: Request | CniError = decode(data)
    except CniError as error:
        outcome = error
    if isinstance(outcome, CniError):
        assert json.loads(encode_error(requested_version(data), outcome))["msg"] == outcome.msg
    elif outcome.command is Command.ADD:  # whatever an earlier plugin's result was, ours is JSON behind it
        made = Attachment("rtd0", "", "eth0", "", outcome.netns, (), 1480)
        assert json.loads(encode_result(outcome.version, made, outcome.previous))["interfaces"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["eth0", "/n", "10.1.0.1/32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "sandbox", "mac", "mtu", "address", "interface", "dst"]), inner)
    ),
    max_leaves=12,
)


@BUDGET
@given(st.dictionaries(st.sampled_from(["interfaces", "ips", "routes"]), JSON))
@example({"interfaces": [{"name": "eth0", "sandbox": "/n"}], "routes": [{"dst": [], "gw": {}}]})
def test_a_result_to_check_is_what_is_expected_or_an_error(result: dict[str, Any]):
    with contextlib.suppress(CniError):
        assert condition.expected(result, "eth0", "rtd0").interface == "eth0"


@BUDGET
@given(st.dictionaries(st.sampled_from(["mtu", "ipam", "runtimeConfig", "container_settings", "dns", "ipMasq"]), JSON))
def test_settings_are_read_or_refused(fields: dict[str, Any]):
    with contextlib.suppress(CniError):
        assert network.settings({"name": "n", **fields}).mtu >= 0


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 32), damaged(), st.booleans()), min_size=1, max_size=8))
def test_whatever_clients_send_the_server_answers_the_next_one(tmp_path: Path, clients: list[tuple[int, bytes, bool]]):
    """Lengths that are lies, requests that are none, clients that hang up; and then a call as it should be."""

    async def handle(payload: bytes) -> tuple[int, bytes]:
        return 0, payload

    async def client(size: int, data: bytes, hang_up: bool) -> None:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        with contextlib.suppress(ConnectionError):
            writer.write((size & 0xFFFFFFFF).to_bytes(4, "big") + data)
            if hang_up:
                writer.write_eof()
                await reader.read()
        writer.transport.abort()

    async def story() -> None:
        server = Server(tmp_path / "s", handle)
        await server.start()
        await asyncio.gather(*(client(*each) for each in clients))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(len(SEEDS[0]).to_bytes(4, "big") + SEEDS[0])
        assert await reader.read() == b"\0" + SEEDS[0]
        writer.transport.abort()
        await server.close()

    asyncio.run(story())

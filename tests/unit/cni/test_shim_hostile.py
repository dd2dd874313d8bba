"""Calls and agents that nobody would make on purpose: a fixed number of them for each form, against a model of it."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.cni.calls import agent, execute, received, version
from tests.unit.cni.forms import Maker

MEBIBYTE = 1 << 20
LONGEST_VARIABLE = (1 << 17) - 1  # linux/binfmts.h: MAX_ARG_STRLEN, with its NUL
TOO_LARGE, TRY_AGAIN_LATER, BUG = 6, 11, 100


@dataclass(frozen=True)
class Call:
    environment: dict[bytes, bytes]
    stdin: bytes

    @property
    def payload(self) -> bytes:
        variables = (name + b"=" + value for name, value in self.environment.items() if name.startswith(b"CNI_"))
        return b"\0".join(variables) + b"\0\0" + self.stdin

    @property
    def asks_version(self) -> bool:
        return self.environment.get(b"CNI_COMMAND") == b"VERSION"


@dataclass(frozen=True)
class Agent:
    """Reads the whole request, or (`reads`) some of it, sends `answer` in pieces of `piece` bytes, hangs up."""

    answer: bytes
    reads: int | None = None
    piece: int = 1 << 16


def filled(unit: bytes, size: int) -> bytes:
    return (unit * (size // len(unit) + 1))[:size]


def values(sizes: list[int], alphabet: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(filled, alphabet, st.sampled_from(sizes))


ANY = st.sampled_from([b"\0", b"\0\0", b"{", b'"', b"\\", b"\n", b"\xff", b'{"cniVersion":"1.0.0"}', b"CNI_X=1\0\0"])
NAMES = st.sampled_from(
    [b"CNI_ARGS", b"CNI_COMMAND", b"CNI_IFNAME", b"CNI_", b"CNI_\xff", b"CNI", b"cni_args", b"X", b"LC_ALL", b"TZ",
     b"GCONV_PATH", b"LD_LIBRARY_PATH", b"MALLOC_CHECK_", b"PYTHONPATH", b"PYTHONSTARTUP",
     *map(b"CNI_%d".__mod__, range(9))]
)  # fmt: skip
CALLS = st.builds(
    Call,
    st.dictionaries(
        NAMES,
        st.just(b"VERSION")
        | values([0, 1, 100, 10_000, LONGEST_VARIABLE - 20], ANY.map(lambda b: b.replace(b"\0", b"%n"))),
        max_size=12,
    ),
    values([0, 1, 2, 5_000, 65_535, 65_536, 70_000, 900_000, 2 * MEBIBYTE], ANY),
)
ALMOST = {b"CNI_%d" % number: b"x" * 131_064 for number in range(8)}  # eight bytes short of one mebibyte
STATUSES = st.sampled_from([b"\0", b"\1", b"\x7f", b"\x80", b"\xff"])


def answers(sizes: list[int]) -> st.SearchStrategy[bytes]:
    return st.builds(bytes.__add__, STATUSES, values(sizes, ANY))


AGENTS = (
    st.builds(Agent, st.just(b""), reads=st.sampled_from([None, 0, 1, 4, 1000]))
    | st.builds(Agent, answers([0, 1, 65_535, 65_536, 300_000, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 3 * MEBIBYTE]))
    | st.builds(Agent, answers([0, 1, 2, 300]), piece=st.just(1))
    | st.builds(Agent, answers([0, 1, 10_000]), reads=st.sampled_from([0, 1, 4, 1000]))
)


def expected(call: Call, by: Agent) -> tuple[int, bytes | int]:
    """Exit status, and the output or the error's code."""
    if len(call.payload) > MEBIBYTE:
        return 1, TOO_LARGE
    if call.asks_version:
        return 0, version(call.stdin)
    if not by.answer:
        return 1, TRY_AGAIN_LATER
    if len(by.answer) > 1 + MEBIBYTE:
        return 1, BUG
    return by.answer[0], by.answer[1:]


@pytest.fixture(scope="session")
def plugin(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile")
    return maker.write(directory, directory / "s")


def outcome(plugin: Path, call: Call, by: Agent) -> tuple[int, bytes]:
    requests = list[bytes]()

    def behave(connection: socket.socket) -> None:
        if by.reads is None:
            requests.append(received(connection))
        elif by.reads:
            connection.recv(by.reads)
        with contextlib.suppress(ConnectionError):  # the plugin stops reading what is too large
            for start in range(0, len(by.answer), by.piece):
                connection.sendall(by.answer[start : start + by.piece])

    if call.asks_version or expected(call, by)[1] == TOO_LARGE:  # answered without an agent
        return execute(plugin, call.stdin, call.environment)
    with agent(plugin.with_name("s"), behave):
        answer = execute(plugin, call.stdin, call.environment)
    assert requests == [call.payload] * (by.reads is None)
    return answer


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(CALLS, AGENTS)
# variables that with their separator are as large as may be, a byte larger, and so large that only its end is too much
@example(Call({**ALMOST, b"CNI_": b"x"}, b""), Agent(b"\0"))
@example(Call({**ALMOST, b"CNI_": b"xx"}, b""), Agent(b"\0"))
@example(Call({**ALMOST, b"CNI_": b"xxx"}, b""), Agent(b"\0"))
@example(Call({**ALMOST, b"CNI_": b"xxx", b"CNI_A": b"x" * 100_000, b"CNI_B": b"x" * 100_000}, b""), Agent(b"\0"))
@example(Call({b"CNI_%d" % n: filled(b"x", 131_000) for n in range(9)}, b"\0" * MEBIBYTE), Agent(b"\0"))
@example(Call({}, b"\0" * (MEBIBYTE - 2)), Agent(b"\0" + b"x" * MEBIBYTE))
@example(Call({}, b"\0" * (MEBIBYTE - 1)), Agent(b"\0"))
@example(Call({}, b"x" * 900_000), Agent(b"\1" + b"y" * 10_000, reads=0))
def test_exit_status_and_output_are_what_the_call_and_the_agent_make_them(plugin: Path, call: Call, by: Agent):
    status, output = outcome(plugin, call, by)
    want_status, want = expected(call, by)
    if isinstance(want, bytes):
        assert (status, output) == (want_status, want)
    else:
        error = json.loads(output)
        assert (status, error["code"], error["cniVersion"]) == (want_status, want, "1.0.0")
        assert error["msg"]

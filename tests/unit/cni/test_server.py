from __future__ import annotations

import asyncio
import json
import resource
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from routed.errors import EnvironmentFault, OperatorError
from routed_cni.server import Server


async def echo(payload: bytes) -> tuple[int, bytes]:
    return 3, payload[::-1]


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


async def ask(path: Path, data: bytes, *, hang_up: bool = False) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        if hang_up:
            writer.write_eof()
        return await reader.read()
    finally:
        await hung_up(writer)


async def hung_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


def serve(server: Server, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await server.start()
        try:
            await story()
        finally:
            await server.close()

    asyncio.run(told())


def test_a_call_is_answered_with_status_and_output(tmp_path: Path):
    async def story() -> None:
        assert await ask(tmp_path / "s", framed(b"abc")) == b"\3cba"

    serve(Server(tmp_path / "s", echo), story)


def test_the_socket_is_for_root_only_and_gone_after_close(tmp_path: Path):
    path = tmp_path / "run" / "s"

    async def story() -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]

    serve(Server(path, echo), story)
    assert list(path.parent.iterdir()) == []


def test_the_socket_of_a_dead_agent_is_replaced(tmp_path: Path):
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(tmp_path / "s"))

    async def story() -> None:
        assert await ask(tmp_path / "s", framed(b"a")) == b"\3a"

    serve(Server(tmp_path / "s", echo), story)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path):
    (tmp_path / "s").write_text("precious")
    with pytest.raises(OperatorError, match="not a socket"):
        asyncio.run(Server(tmp_path / "s", echo).start())
    assert (tmp_path / "s").read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_a_fault_of_the_machine(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot listen"):
        asyncio.run(Server(tmp_path / "file" / "s", echo).start())


def test_closing_does_not_take_away_the_socket_of_a_successor(tmp_path: Path):
    async def story() -> None:
        old, new = Server(tmp_path / "s", echo), Server(tmp_path / "s", echo)
        await old.start()
        await new.start()
        await old.close()
        assert await ask(tmp_path / "s", framed(b"a")) == b"\3a"
        await new.close()

    asyncio.run(story())


def test_a_silent_client_is_told_so_after_its_time_and_holds_up_nobody(tmp_path: Path):
    async def story() -> None:
        silent = asyncio.create_task(ask(tmp_path / "s", b"\0\0"))
        await asyncio.sleep(0.01)
        assert await ask(tmp_path / "s", framed(b"a")) == b"\3a"
        assert not silent.done()
        answer = await silent
        assert (answer[0], json.loads(answer[1:])["code"]) == (1, 5)

    serve(Server(tmp_path / "s", echo, client_seconds=0.3), story)


@pytest.mark.parametrize("data", [b"", b"\0\0", framed(b"abc")[:-1]])
def test_a_client_that_ends_early_is_a_decode_failure(tmp_path: Path, data: bytes):
    async def story() -> None:
        answer = await ask(tmp_path / "s", data, hang_up=True)
        assert (answer[0], json.loads(answer[1:])["code"]) == (1, 6)

    serve(Server(tmp_path / "s", echo), story)


def test_a_request_that_announces_too_much_is_refused_before_it_is_read(tmp_path: Path):
    async def story() -> None:
        answer = await ask(tmp_path / "s", b"\xff\xff\xff\xff")
        assert (answer[0], json.loads(answer[1:])["code"]) == (1, 6)

    serve(Server(tmp_path / "s", echo), story)


def test_a_client_that_takes_no_answer_is_let_go_after_its_time(tmp_path: Path):
    started = asyncio.Event()

    async def much(_: bytes) -> tuple[int, bytes]:
        started.set()
        return 0, bytes(10 << 20)

    server = Server(tmp_path / "s", much, client_seconds=0.1, close_seconds=5)

    async def story() -> None:
        _, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1)
        writer.write(framed(b"a"))
        await started.wait()
        _, late = await asyncio.wait(server._calls, timeout=5)
        assert not late
        await hung_up(writer)

    serve(server, story)


def test_a_client_that_is_gone_does_not_stop_its_call(tmp_path: Path):
    finished = asyncio.Event()

    async def slow(_: bytes) -> tuple[int, bytes]:
        await asyncio.sleep(0.05)
        finished.set()
        return 0, b""

    async def story() -> None:
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(framed(b"a"))
        await writer.drain()
        await hung_up(writer)
        async with asyncio.timeout(5):
            await finished.wait()

    serve(Server(tmp_path / "s", slow), story)


def test_calls_in_flight_are_finished_on_close(tmp_path: Path):
    started = asyncio.Event()

    async def slow(payload: bytes) -> tuple[int, bytes]:
        started.set()
        await asyncio.sleep(0.05)
        return 0, payload

    async def story() -> None:
        server = Server(tmp_path / "s", slow)
        await server.start()
        asking = asyncio.create_task(ask(tmp_path / "s", framed(b"a")))
        await started.wait()
        await server.close()
        assert await asking == b"\0a"
        assert not (tmp_path / "s").exists()

    asyncio.run(story())


def test_a_call_that_never_ends_is_cancelled_when_close_has_waited_enough(tmp_path: Path):
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_: bytes) -> tuple[int, bytes]:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 0, b""

    async def story() -> None:
        server = Server(tmp_path / "s", endless, close_seconds=0.05)
        await server.start()
        asking = asyncio.create_task(ask(tmp_path / "s", framed(b"a")))
        await started.wait()
        await server.close()
        assert cancelled.is_set()
        assert await asking == b""

    asyncio.run(story())


def test_more_calls_than_allowed_are_to_be_tried_again(tmp_path: Path):
    async def story() -> None:
        silent = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(2)]
        answer = await ask(tmp_path / "s", framed(b"a"))
        assert (answer[0], json.loads(answer[1:])["code"]) == (1, 11)
        for _, writer in silent:
            await hung_up(writer)

    serve(Server(tmp_path / "s", echo, connections=2), story)


def test_two_hundred_calls_at_once_are_all_answered(tmp_path: Path):
    async def story() -> None:
        answers = await asyncio.gather(*(ask(tmp_path / "s", framed(b"%d" % n)) for n in range(200)))
        assert answers == [b"\3" + str(n).encode()[::-1] for n in range(200)]

    serve(Server(tmp_path / "s", echo), story)


def test_without_a_free_file_calls_wait_and_are_answered_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("routed_cni.server._REST_SECONDS", 0.01)

    async def story() -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(tmp_path / "s"))
            client.send(framed(b"a"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno(), before[1]))  # those below are open
            try:
                async with asyncio.timeout(5):
                    while not caplog.records:  # noqa: ASYNC110  nothing else tells of it
                        await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(client, 100) == b"\3a"
        assert caplog.messages[0] == "CNI calls wait: Too many open files"

    serve(Server(tmp_path / "s", echo), story)

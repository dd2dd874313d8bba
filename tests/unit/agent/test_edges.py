"""HTTP and systemd: the agent's small edges."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.agent.parts import free_port

from routed.agent import health
from routed.agent.health import Answer, HealthServer, as_json
from routed.agent.notify import notify
from routed.errors import EnvironmentFault, OperatorError


def get(port: int, path: str) -> tuple[int, str, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()


def broken(query: Mapping[str, str]) -> Answer:
    raise ZeroDivisionError


def refuses(query: Mapping[str, str]) -> Answer:
    raise OperatorError("peer: 'x' is no address", hint="e.g. 10.1.1.1")


def test_answers_are_made_in_the_loop_and_others_are_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        port = free_port()
        server = HealthServer(port, {"/a": as_json, "/b": broken, "/d": refuses}, "health_port")
        assert await asyncio.to_thread(get, port, "/a/?x=1%2F2&y=&x=3") == (
            200,
            "application/json",
            b'{"x": "3", "y": ""}\n',
        )
        assert await asyncio.to_thread(get, port, "/c") == (404, "text/plain", b"there is: /a, /b, /d\n")
        status, _, body = await asyncio.to_thread(get, port, "/b")
        assert (status, body) == (500, b"routed failed: ZeroDivisionError(); see the agent's log\n")
        assert await asyncio.to_thread(get, port, "/d?peer=x") == (
            400,
            "text/plain",
            b"peer: 'x' is no address\n  e.g. 10.1.1.1\n",
        )
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 0.3
        with pytest.raises(ConnectionRefusedError):
            get(port, "/a")

    asyncio.run(main())
    assert "an answer could not be made" in caplog.text


def test_a_stuck_loop_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.05)

    async def main() -> None:
        port = free_port()
        server = HealthServer(port, {"/a": lambda _: as_json(1)}, "health_port")
        asking = asyncio.get_running_loop().run_in_executor(None, get, port, "/a")
        time.sleep(0.3)  # noqa: ASYNC251  this is the stuck loop
        assert (await asking)[0] == 503
        server.close()

    asyncio.run(main())


def test_a_taken_port_names_the_setting() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as owner:
            port = owner.getsockname()[1]
            with pytest.raises(EnvironmentFault, match=rf"127.0.0.1:{port} \(metrics_port\): Address already in use"):
                HealthServer(port, {}, "metrics_port")

    asyncio.run(main())


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_a_manager_that_cannot_be_told_is_no_reason_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "READY=1 was not told" in caplog.text

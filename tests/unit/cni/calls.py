"""The plugin called as a runtime calls it, and an agent that behaves as the test says."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

ENVIRONMENT = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_NETNS": "", "OTHER": "x"}
STDIN = b'{"cniVersion":"1.0.0","name":"n","type":"t"}'
Behaviour = Callable[[socket.socket], None]


def version(stdin: bytes) -> bytes:
    """What VERSION answers to `stdin`."""
    asked = re.search(rb'"cniVersion"\s*:\s*"(0\.3\.0|0\.3\.1|0\.4\.0|1\.0\.0)"', stdin)
    told = asked[1] if asked else b"1.1.0"
    return b'{"cniVersion":"%s","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}' % told


def execute(plugin: Path, stdin: bytes, environment: Mapping[str, str] | Mapping[bytes, bytes]) -> tuple[int, bytes]:
    """Exit status and output. A form whose memory is watched reports on stderr, which is to be empty for all."""
    done = subprocess.run([plugin], input=stdin, env=environment, capture_output=True, timeout=30, check=False)
    assert done.stderr == b""
    return done.returncode, done.stdout


def run(plugin: Path, stdin: bytes = STDIN, **environment: str) -> tuple[int, bytes]:
    return execute(plugin, stdin, {**ENVIRONMENT, **environment})


def received(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read(int.from_bytes(stream.read(4), "big"))


def answering(answer: bytes, calls: list[bytes] | None = None) -> Behaviour:
    """Reads the request, into `calls` if given, and answers."""

    def behave(connection: socket.socket) -> None:
        request = received(connection)
        if calls is not None:
            calls.append(request)
        connection.sendall(answer)

    return behave


@contextmanager
def agent(path: Path, behave: Behaviour, delay: float = 0) -> Generator[None]:
    """One call is answered as `behave` does, by a socket that is there after `delay` seconds."""

    def serve() -> None:
        time.sleep(delay)
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(str(path))
            listening.listen()
            ready.set()
            listening.settimeout(20)
            connection, _ = listening.accept()
            with closing(connection):
                connection.settimeout(20)
                behave(connection)

    ready = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    if not delay:
        assert ready.wait(20)
    try:
        yield
    finally:
        thread.join(25)
        path.unlink(missing_ok=True)
    assert not thread.is_alive()

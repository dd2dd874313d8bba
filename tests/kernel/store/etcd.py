"""Real etcd for tests: members on free ports of this machine's loopback, or each in a network namespace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.waiting import until

SECONDS = 40.0  # in which whatever is waited for has to come about on a busy machine


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Member:
    """One etcd. `inside` is the command that enters its network namespace."""

    def __init__(
        self,
        directory: Path,
        name: str = "one",
        *,
        address: str = "127.0.0.1",
        ports: tuple[int, int] | None = None,
        inside: Sequence[str] = (),
        options: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        self.name, self.address, self.inside = name, address, tuple(inside)
        self.port, self._peer_port = ports or tuple(free_ports(2))
        self.data = directory / f"data-{name}"
        self.log = directory / f"log-{name}"
        self._scheme = "https" if tls else "http"
        self._options = list(options)
        self._cluster = f"{name}={self.peer_url}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def peer_url(self) -> str:
        return f"http://{self.address}:{self._peer_port}"

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    def joins(self, members: Sequence[Member]) -> None:
        """Be one of `members` from the start on."""
        self._cluster = ",".join(f"{each.name}={each.peer_url}" for each in members)

    def start(self) -> None:
        """Start, and do not wait."""
        client = f"{self._scheme}://{self.endpoint}"
        command = [
            *self.inside, "setpriv", "--pdeathsig", "KILL", "etcd", "--name", self.name, "--data-dir", str(self.data),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self._cluster, *self._options,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def up(self) -> None:
        """Start, and wait until it serves."""
        self.start()
        self.serves()

    def serves(self) -> None:
        """Wait until it serves."""
        until(lambda: b"ready to serve client requests" in self.log.read_bytes() or self._fell())

    def _fell(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None
            self.log.unlink()  # the next start is told from this one

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def ctl(self, *words: str, user: str = "", given: str = "", check: bool = True) -> str:
        """`etcdctl`, the second reader."""
        command = [*self.inside, "etcdctl", "--endpoints", self.endpoint, "--dial-timeout", "20s", *words]
        environment = {**os.environ, "ETCDCTL_API": "3", **({"ETCDCTL_USER": user} if user else {})}
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=environment, timeout=60
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def is_leader(self) -> bool:
        fields = self.ctl("endpoint", "status", check=False).split(", ")
        return len(fields) > 4 and fields[4] == "true"

    def __enter__(self) -> Member:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

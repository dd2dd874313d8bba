"""BIRD 2 and GoBGP as receivers, to compare with."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from harness import in_namespace, wait_for

ASN = 64512  # of every receiver, ours included


class Bird:
    """BIRD 2 with one session for each address; asked over its control socket, which costs it next to nothing."""

    name = "bird"

    def __init__(self, namespace: str, address: str, directory: Path) -> None:
        self.namespace, self.address, self.directory = namespace, address, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._left = b""

    def start(self, peer: str, peer_as: int, *, kernel: bool = False, active: bool = False) -> None:
        """Run with one peer; `kernel`: with the kernel protocol; `active`: it connects, else it only listens."""
        kernel_part = "protocol kernel { ipv4 { export all; }; }" if kernel else ""
        self._run(
            f"""router id {self.address}; protocol device {{}} protocol direct {{ ipv4; }} {kernel_part}
            protocol bgp sim {{
                local {self.address} as {ASN}; neighbor {peer} as {peer_as}; passive {"no" if active else "yes"};
                connect delay time 1; connect retry time 1; error wait time 1, 2;
                ipv4 {{ import all; export none; }};
            }}"""
        )

    def _run(self, text: str) -> None:
        configuration = self.directory / "bird.conf"
        configuration.write_text(text)
        control = self.directory / "bird.ctl"
        control.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace}", "bird", "-f", "-c", str(configuration),
             "-s", str(control), "-P", str(self.directory / "bird.pid")],
        )  # fmt: skip
        self._control = socket.socket(socket.AF_UNIX)
        # the file is there a moment before BIRD listens
        wait_for("BIRD's control socket", lambda: self._connected(control), 10)
        self._answer()

    def _connected(self, control: Path) -> bool:
        assert self._control is not None
        return self._control.connect_ex(str(control)) == 0

    def stop(self) -> None:
        """End it."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control, self._process, self._left = None, None, b""

    def established(self) -> bool:
        """Whether the session is up."""
        return "Established" in self.ask("show protocols sim")

    def received(self) -> int:
        """How many routes of the peer are in the table."""
        words = self.ask("show protocols all sim").split("Routes:")
        return int(words[1].split()[0]) if len(words) > 1 else 0

    def ask(self, command: str) -> str:
        """The answer to a command."""
        assert self._control is not None
        self._control.sendall(command.encode() + b"\n")
        return self._answer()

    def _answer(self) -> str:
        assert self._control is not None
        lines: list[bytes] = []
        while True:
            while b"\n" not in self._left:
                self._left += self._control.recv(65536)
            line, _, self._left = self._left.partition(b"\n")
            lines.append(line)
            # a four-digit code and a space ends an answer, 0xxx, 8xxx and 9xxx being the final ones
            if line[:4].isdigit() and line[4:5] == b" " and line[:1] in b"089":
                return b"\n".join(lines).decode()


def _tag(number: int) -> str:
    """Two communities that no other route has both of, as in `simulator.attributes`."""
    return f"bgp_community.add((65001, {number >> 16})); bgp_community.add((65000, {number & 0xFFFF}));"


class BirdFeeder(Bird):
    """BIRD as the sender of a table of static routes; it connects to one receiver at a time."""

    def __init__(self, namespace: str, address: str, directory: Path, *, asn: int) -> None:
        super().__init__(namespace, address, directory)
        self._asn = asn

    def start(self, count: int, *, alike: bool, receivers: Sequence[str]) -> None:  # type: ignore[override]
        """Have `count` routes, all with the same attributes or no two; `receivers` are their addresses."""
        routes = "\n".join(
            f"route {IPv4Address((20 << 24) + (number << 5))}/27 blackhole"
            + (";" if alike else f" {{ {_tag(number)} }};")
            for number in range(count)
        )
        sessions = "".join(
            f"""
            protocol bgp {self._name(receiver)} {{
                disabled; local {self.address} as {self._asn}; neighbor {receiver} as {ASN};
                connect delay time 1; connect retry time 1; error wait time 1, 2;
                ipv4 {{ import none; export where source = RTS_STATIC; }};
            }}"""
            for receiver in receivers
        )
        self._run(f"router id {self.address}; protocol device {{}} protocol static {{ ipv4; {routes} }} {sessions}")

    def open(self, receiver: str) -> None:
        """Connect to it."""
        self.ask(f"enable {self._name(receiver)}")

    def close(self, receiver: str) -> None:
        """End the session."""
        self.ask(f"disable {self._name(receiver)}")

    def established(self, receiver: str = "") -> bool:
        """Whether the session with it is up."""
        return "Established" in self.ask(f"show protocols {self._name(receiver)}")

    def wake(self) -> None:
        """Ask it something: its loop sleeps for up to 3 s with events of its own queued, unless a socket wakes it."""
        self.ask("show status")

    @staticmethod
    def _name(receiver: str) -> str:
        return "to_" + receiver.replace(".", "_")


class Gobgp:
    """GoBGP with one session; asked by its own command, run beside the measurement and not too often."""

    name = "gobgp"

    def __init__(self, namespace: str, address: str, directory: Path) -> None:
        self.namespace, self.address, self.directory = namespace, address, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._question: subprocess.Popen[str] | None = None
        self._received = 0
        self._ask_at = 0.0

    def start(self, peer: str, peer_as: int) -> None:
        """Run with one peer, which connects to it."""
        configuration = self.directory / "gobgpd.toml"
        configuration.write_text(
            f"""[global.config]
            as = {ASN}
            router-id = "{self.address}"
            [[neighbors]]
            [neighbors.config]
            neighbor-address = "{peer}"
            peer-as = {peer_as}
            [neighbors.transport.config]
            passive-mode = true
            """
        )
        with (self.directory / "gobgp.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", "gobgpd", "-f", str(configuration), "-l", "error",
                 "--api-hosts", "127.0.0.1:50051", "--pprof-disable"], stdout=log, stderr=log,
            )  # fmt: skip
        wait_for("GoBGP's API", self._ready, 10)
        self._received = 0

    def _ready(self) -> bool:
        try:
            return "session_state" in in_namespace(self.namespace, "sh", "-c", "gobgp -j neighbor | head -c 100000")
        except subprocess.CalledProcessError:
            return False

    def stop(self) -> None:
        """End it."""
        for process in (self._question, self._process):
            if process is not None:
                process.kill()
                process.communicate()
        self._question = self._process = None

    def received(self) -> int:
        """How many routes of the peer it has accepted, by the last answer; asks again.

        The peer's counters, not `global rib summary`, which walks the table while nothing else can happen.
        """
        if self._question is None and time.monotonic() > self._ask_at:
            self._ask_at = time.monotonic() + 0.2
            self._question = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", "gobgp", "-j", "neighbor"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        elif self._question is not None and self._question.poll() is not None:
            (neighbor,) = json.loads(self._question.communicate()[0])
            self._received = sum(int(each["state"].get("accepted", 0)) for each in neighbor["afi_safis"])
            self._question = None
        return self._received

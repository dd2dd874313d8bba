"""The proof that an agent's restart shows nowhere: netlink monitors on every machine, pings between pods."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from conftest import Lab

NODES = ("node-a1", "node-a2", "node-b1", "node-b2")
ROUTERS = ("tor-a", "spine", "tor-b")


def assert_restart_is_invisible(lab: Lab) -> None:
    """Restart node-a1's agent while every route table is watched and pods ping each other at 100 Hz."""
    pods = {pod["name"]: pod["address"] for node in lab.inspect()["nodes"].values() for pod in node.get("pods", ())}
    with ExitStack() as stack:
        monitors = {
            name: stack.enter_context(lab.running(name, "ip", "-ts", "monitor", "route")) for name in (*NODES, *ROUTERS)
        }
        events = {name: Lines(monitor) for name, monitor in monitors.items()}
        mark(lab, events, "192.0.2.1")
        pings = {
            f"{source} to {destination}": stack.enter_context(
                lab.running(source, "ping", "-n", "-i", "0.01", pods[destination])
            )
            for source, destination in (
                ("node-a1-pod1", "node-b1-pod1"),
                ("node-b2-pod1", "node-a1-pod2"),
                ("node-a2-pod1", "node-a1-pod1"),
            )
        }
        answers = {name: Lines(ping) for name, ping in pings.items()}
        for lines in answers.values():
            lines.until("icmp_seq=100 ")

        lab.do("restart", "node-a1")
        time.sleep(5)  # what a peer would flush late: its End-of-RIB timer, a withdrawn path
        mark(lab, events, "192.0.2.2")

        for ping in pings.values():
            ping.send_signal(2)
        for name, lines in answers.items():
            said = lines.rest()
            counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
            assert counts is not None, said
            transmitted, received = int(counts[1]), int(counts[2])
            # Late is not lost: one processor runs the whole lab. The last may have been on its way at the end.
            assert transmitted - received <= 1, f"{name}: {transmitted} sent, {received} answered"
            assert received > 500, f"{name}: only {received} pings within the restart"
    for name, lines in events.items():
        strange = [line for line in lines.seen if "192.0.2." not in line]
        assert strange == [], f"{name} saw its routes change"


class Lines:
    """The lines that a program writes, read as the test needs them."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        self._out: IO[str] = program.stdout
        self.seen: list[str] = []

    def until(self, word: str) -> None:
        """Read until a line has `word` in it; the program's end is a failure."""
        for line in self._out:
            self.seen.append(line.rstrip())
            if word in line:
                return
        raise AssertionError(f"ended without {word!r}: {self.seen}")

    def rest(self) -> str:
        """Read to the end and return all."""
        self.seen += [line.rstrip() for line in self._out]
        return "\n".join(self.seen)


def mark(lab: Lab, events: dict[str, Lines], address: str) -> None:
    """Change a route of no meaning on every machine and wait until each monitor has told of it: they do listen."""
    for name, lines in events.items():
        lab.do("exec", name, "sh", "-c", f"until ip route add blackhole {address}; do :; done")
        lines.until(address)

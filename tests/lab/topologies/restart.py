"""The proof that an agent's restart shows nowhere: netlink monitors on every machine, pings between pods."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING

from tests.lab.topologies.conftest import MINUTES

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
    """The lines that a program writes, collected by a thread and waited for with a deadline."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        self._out: IO[str] = program.stdout
        self._news = threading.Condition()
        self._ended = False
        self._searched = 0
        self.seen: list[str] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        with suppress(ValueError):  # closed under our hands, once the test is over
            for line in self._out:
                with self._news:
                    self.seen.append(line.rstrip())
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def has(self, word: str, seconds: float) -> bool:
        """Wait at most `seconds` for one more line with `word` in it; the program's end is a failure."""
        with self._news:
            found = self._news.wait_for(lambda: self._find(word) or self._ended, seconds) and self._find(word)
            assert found or not self._ended, f"ended without {word!r}: {self.seen}"
            if found:
                self._searched = next(n for n in range(self._searched, len(self.seen)) if word in self.seen[n]) + 1
            return found

    def until(self, word: str) -> None:
        """Wait until a line has `word` in it."""
        assert self.has(word, MINUTES), f"no {word!r} yet: {self.seen[-20:]}"

    def rest(self) -> str:
        """Wait for the program's end and return all that it said."""
        with self._news:
            assert self._news.wait_for(lambda: self._ended, MINUTES), f"has not ended: {self.seen[-20:]}"
        return "\n".join(self.seen)

    def _find(self, word: str) -> bool:
        return any(word in line for line in self.seen[self._searched :])


def mark(lab: Lab, events: dict[str, Lines], address: str) -> None:
    """Change a route of no meaning on every machine until its monitor has told of it: from then on it does listen."""
    for name, lines in events.items():
        deadline = time.monotonic() + MINUTES
        told = False
        while not told:
            assert time.monotonic() < deadline, f"the monitor of {name} tells nothing"
            change = f"ip route del blackhole {address} 2>/dev/null; ip route add blackhole {address}"
            lab.do("exec", name, "sh", "-c", change)
            told = lines.has(address, 1)

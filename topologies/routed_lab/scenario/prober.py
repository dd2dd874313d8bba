"""The prober: one process that sends echoes between pods at a steady rate until SIGTERM, then writes their fates.

Started as `python -m routed_lab.scenario.prober JOB` (a Job as JSON). The kernel of the destination answers and the
kernel of the source stamps the answer, so a round trip does not count how long this process took to wake up. It sends
nothing in a burst: what it could not send in time is not sent, and when it was late it says so, lest its own hiccups
be taken for the network's. It has no priority either: where a system call takes 0.1 ms (User-mode Linux on a busy
machine) a thousand probes a second with priority kept the lab from doing anything else.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import sys
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from routed.netlink.socket import inside
from routed_lab.capture import checksum
from routed_lab.probe import replies, stamp
from routed_lab.scenario import sieve

MOST: Final = 4_000_000
"""Probes of all pairs together, 12 bytes each; then the prober sends no more."""

LINGER: Final = 1.0
"""Seconds after the last probe in which its reply counts."""

_ECHO = struct.Struct("!BBHHHII")  # type, code, checksum, identifier, sequence number; the run and the probe's number
_REPLY = struct.Struct("!HHII")
_REPLY_AT = 24  # in the IPv4 packet: after its header, type, code and checksum
_BEHIND = 50_000_000  # nanoseconds: a prober that is further behind leaves probes out
_SOON = 1_000_000  # nanoseconds: what is sent so much after its time is not late
_TURNS = 16  # between looks at what has come: to look each time costs as much as to send


class Route(msgspec.Struct, frozen=True):
    """From which namespace to which address the probes of a pair go."""

    namespace: str
    address: str


class Job(msgspec.Struct, frozen=True):
    """What to do: `rate` probes a second and pair; the time of the first to the file `begun`, all results to `out`."""

    pairs: list[Route]
    rate: int
    out: str
    begun: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the probes of one pair: when each was sent, nanoseconds of the clock; its round trip or 0."""

    sent: array[int]
    trips: array[int]
    late: int


def read(path: Path) -> list[Result]:
    """The results that a prober has written, in the order of its pairs."""
    results: list[Result] = []
    with path.open("rb") as file:
        while header := file.read(16):
            count, late = struct.unpack("=QQ", header)
            sent, trips = array("q"), array("I")
            sent.frombytes(file.read(8 * count))
            trips.frombytes(file.read(4 * count))
            results.append(Result(sent, trips, late))
    return results


class Prober:
    """The sockets and the memory of one run. Needs CAP_NET_RAW and CAP_SYS_ADMIN."""

    def __init__(self, job: Job) -> None:
        self._run = int.from_bytes(os.urandom(4))
        self._period = 1_000_000_000 // job.rate
        self._room = MOST // len(job.pairs)
        self._sent = [array("q") for _ in job.pairs]
        self._trips = [array("I") for _ in job.pairs]
        self._late = 0
        self._ending = False
        self._sockets: dict[str, socket.socket] = {}  # by namespace; they close with the process
        for route in job.pairs:
            if route.namespace not in self._sockets:
                with inside(route.namespace):
                    self._sockets[route.namespace] = replies(sieve.only_probes())
        self._ways = [(self._sockets[route.namespace], (route.address, 0)) for route in job.pairs]
        bases = [checksum(_ECHO.pack(8, 0, 0, sieve.PROBE, pair, self._run, 0)) for pair in range(len(job.pairs))]
        self._sums = [0xFFFF - base for base in bases]

    def end(self) -> None:
        """Send no more, and wait only for what is under way."""
        self._ending = True

    def run(self, begun: Path) -> None:
        """Send and receive until `end`; tell in the file `begun` when that begins."""
        draft = begun.with_suffix(".draft")
        draft.write_text(str(time.time_ns()), encoding="ascii")
        draft.rename(begun)
        due = time.time_ns()
        turn = 0
        while not self._ending:
            ahead = due - time.time_ns()
            if ahead > 0:
                time.sleep(ahead / 1e9)
            elif ahead < -_BEHIND:
                due -= ahead
            self._late += ahead < -self._period - _SOON
            self._send()
            due += self._period
            turn += 1
            if not turn % _TURNS:
                self._receive()
        until = time.monotonic() + LINGER
        while time.monotonic() < until:
            time.sleep(LINGER / 10)
            self._receive()

    def write(self, path: Path) -> None:
        """Write the results; the file appears whole or not at all."""
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            for sent, trips in zip(self._sent, self._trips, strict=True):
                file.write(struct.pack("=QQ", len(sent), self._late))
                file.write(sent.tobytes() + trips.tobytes())
        draft.rename(path)

    def _send(self) -> None:
        number = len(self._sent[0])
        if number >= self._room:
            return
        for pair, (way, address) in enumerate(self._ways):
            total = self._sums[pair] + (number >> 16) + (number & 0xFFFF)
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            packet = _ECHO.pack(8, 0, 0xFFFF - total, sieve.PROBE, pair, self._run, number)
            self._sent[pair].append(time.time_ns())
            self._trips[pair].append(0)
            with suppress(OSError):  # no route now, or no room in the queue: a lost probe
                way.sendto(packet, address)

    def _receive(self) -> None:
        """Take all replies that have arrived. They bear their times, so it does not matter when."""
        for way in self._sockets.values():
            while True:
                try:
                    packet, control, _, _ = way.recvmsg(64, 64)
                except BlockingIOError:
                    break
                except OSError:  # an ICMP error that came for an earlier probe
                    continue
                if len(packet) < _REPLY_AT + _REPLY.size:
                    continue
                pair: int
                number: int
                _, pair, run, number = _REPLY.unpack_from(packet, _REPLY_AT)
                if run == self._run and not self._trips[pair][number]:
                    took: int = (stamp(control) - self._sent[pair][number]) // 1000
                    self._trips[pair][number] = max(1, min(took, 0xFFFFFFFF))


def main(argv: list[str]) -> int:
    """Probe as `argv[0]` says."""
    job = msgspec.json.decode(argv[0], type=Job)
    prober = Prober(job)
    signal.signal(signal.SIGTERM, lambda _number, _frame: prober.end())
    gc.disable()  # a pause of its own would show as delay
    prober.run(Path(job.begun))
    prober.write(Path(job.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

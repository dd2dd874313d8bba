"""1,000 UDP packets a second to many destinations, numbered, until stdin says something; then their times, as JSON.

A process of its own, so that nobody delays it.

    dataplane_packets.py PREFIXES
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import time

from dataplane_rig import FIRST, STEP

PORT = 4660
PACKET = struct.Struct("!Q")  # number
EVERY = 0.001


def main() -> None:
    """Send, to another prefix each time."""
    prefixes = int(sys.argv[1])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    times: list[float] = []
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        destination = socket.inet_ntoa(struct.pack("!I", FIRST + len(times) * 7919 % prefixes * STEP + 1))
        times.append(time.monotonic())
        with contextlib.suppress(OSError):  # no route, or the ICMP error of an earlier one: lost, which is counted
            sock.sendto(PACKET.pack(len(times) - 1), (destination, PORT))
        due += EVERY
    print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()

"""The launcher: what it replaces in ExaBGP, what it falls back from, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from ipaddress import ip_address

import pytest

from routed.errors import EnvironmentFault
from routed.model.address import Address, AnyAddress
from routed_bgp.exabgp import adaptations, connections, pinned, seams
from routed_bgp.exabgp.adaptations import Api
from routed_bgp.exabgp.digests import DIGESTS
from routed_bgp.exabgp.frames import Kind, Splitter
from routed_bgp.exabgp.port import require_port


def launch(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own: the launcher changes the ExaBGP it imports."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


ADAPTED = """
import socket
from routed_bgp.exabgp import launcher
ours, theirs = socket.socketpair()
note = launcher.adapt(theirs, "seams")
"""


def test_the_digests_are_of_what_is_relied_on_and_of_nothing_else() -> None:
    relied_on = {*adaptations.RELIED_ON, *connections.RELIED_ON, *seams.RELIED_ON}
    assert {piece: pinned.digest(piece) for piece in relied_on} == DIGESTS


def test_with_the_exabgp_of_the_lock_the_seams_are_replaced() -> None:
    assert launch(ADAPTED + "print(repr(note))").stdout == "''\n"


def test_another_version_of_exabgp_is_refused_by_name() -> None:
    code = "import exabgp.version as v; v.release = '6.0.0'" + ADAPTED
    assert "it is version 6.0.0, expected 5.0.15" in launch(code).stderr


def test_where_a_seam_differs_the_stock_mode_is_used_and_says_so() -> None:
    ended = launch("import exabgp.bgp.timer as t; t.ReceiveTimer = t.SendTimer" + ADAPTED + "print(note)")
    assert ended.stdout == "ReceiveTimer is not as in version 5.0.15\n", ended.stderr


def test_where_the_rest_differs_it_does_not_run() -> None:
    code = "import exabgp.bgp.timer as t, exabgp.reactor.delay as d; d.Delay = t.SendTimer" + ADAPTED
    assert "UnexpectedExaBGP: Delay is not as in version 5.0.15" in launch(code).stderr


def test_the_pause_between_attempts_is_capped() -> None:
    code = ADAPTED + (
        "import time; from exabgp.reactor.delay import Delay; d = Delay()\n"
        "for _ in range(20): d.increase()\n"
        "print(round(d._time - time.time()))"
    )
    assert launch(code).stdout == "1\n"


def test_a_connection_attempt_gives_up_after_two_more_syns() -> None:
    code = ADAPTED + (
        "from exabgp.reactor.network import outgoing; from exabgp.protocol.family import AFI\n"
        "print(outgoing.create(AFI.ipv4).getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT))"
    )
    assert launch(code).stdout == "2\n"


def test_the_api_process_is_the_socket() -> None:
    code = ADAPTED + (
        "from exabgp.reactor.api import processes\n"
        "helper = processes.subprocess.Popen(['x'], stdin=processes.subprocess.PIPE)\n"
        "helper.stdin.write(b'hello')\n"
        "print(ours.recv(99)[8:], helper.poll(), helper.stdout.fileno() == theirs.fileno())"
    )
    assert launch(code).stdout == "b'hello' None True\n"


def test_rfc8538_the_n_bit_is_offered_where_it_is_wanted() -> None:
    code = ADAPTED + (
        "from exabgp.bgp.message.open.capability.capabilities import Capabilities\n"
        "from exabgp.bgp.neighbor import Neighbor\n"
        "for wanted in (0, 1):\n"
        "  n = Neighbor(); n['description'] = f'keepalive 0 notification {wanted} patience 2.0'\n"
        "  n['capability']['graceful-restart'] = 120; c = Capabilities(); c._graceful(n, True)\n"
        "  print(c[64].extract()[0].hex())"
    )
    assert launch(code).stdout == "8078\nc078\n"


def test_writing_waits_for_a_slow_reader_and_loses_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        data = bytes(range(256)) * 8192
        splitter, received = Splitter(), list[tuple[Kind, tuple[int, ...], bytes]]()

        def read() -> None:
            while not received:
                received.extend(splitter.feed(ours.recv(65536)))

        reader = threading.Thread(target=read)
        reader.start()
        assert Api(theirs).write(data) == len(data)
        reader.join(10)
        assert received == [(Kind.LINE, (), data)]


UPDATE = b"\xff" * 16 + b"\0\x17\x02\0\0\0\0"
KEEPALIVE = b"\xff" * 16 + b"\0\x13\x04"


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        (b"", 0),
        (UPDATE[:22], 0),
        (UPDATE, 23),
        (UPDATE * 3 + UPDATE[:7], 69),
        (UPDATE + KEEPALIVE + UPDATE, 23),
        (UPDATE + UPDATE.replace(b"\xff", b"\xfe", 1), 23),
        (b"\xff" * 16 + b"\0\x16\x02\0\0\0", 0),
        (b"\xff" * 16 + b"\x10\x01\x02" + bytes(5000), 0),
    ],
    ids=[
        "nothing",
        "a part",
        "one",
        "three and a part",
        "up to another type",
        "a broken marker",
        "too short",
        "too long",
    ],
)
def test_rfc4271_4_1_whole_updates_at_the_beginning_of_a_stream(data: bytes, octets: int) -> None:
    assert seams.whole_updates(bytearray(data)) == octets


def test_it_does_not_start_for_a_parent_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [str(theirs.fileno()), str(os.getppid()), "seams", "none"]
        ended = subprocess.run(
            [sys.executable, "-m", "routed_bgp.exabgp.launcher", *arguments],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert "the agent is gone" in ended.stderr


@pytest.mark.parametrize("address", [Address("127.0.0.1"), ip_address("::1")])
def test_a_free_port_is_no_fault_and_a_taken_one_is_named_with_what_to_do(address: AnyAddress) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.create_server((str(address), 0), family=family) as server:
        port = server.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"{address} port {port}: another process listens there") as caught:
            require_port(address, port)
        assert f"sport = :{port}" in (caught.value.hint or "")
    require_port(address, port)


def test_an_address_of_no_interface_is_named() -> None:
    with pytest.raises(EnvironmentFault, match=r"192\.0\.2\.1 port 1790: no interface has this address"):
        require_port(Address("192.0.2.1"), 1790)

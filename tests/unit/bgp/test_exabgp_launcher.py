"""The launcher: what it replaces in ExaBGP, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from routed.errors import EnvironmentFault
from routed.model.address import Address
from routed_bgp.exabgp.launcher import EXABGP_VERSION, Api
from routed_bgp.exabgp.port import require_port


def launch(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own: the launcher changes the ExaBGP it imports."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


ADAPTED = """
import socket
from routed_bgp.exabgp import launcher
ours, theirs = socket.socketpair()
launcher.adapt(theirs)
"""


def test_another_version_of_exabgp_is_refused_by_name() -> None:
    code = "import exabgp.version as v; v.release = '6.0.0'" + ADAPTED
    assert f"expected ExaBGP {EXABGP_VERSION}, but it is version 6.0.0" in launch(code).stderr


def test_an_exabgp_without_the_part_to_replace_is_refused() -> None:
    code = "from exabgp.reactor.loop import Reactor; del Reactor._pending_adjribout" + ADAPTED
    assert "Reactor._pending_adjribout is missing" in launch(code).stderr


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
        "helper.stdin.write(b'hello'); print(ours.recv(9), helper.poll(), helper.stdout.fileno() == theirs.fileno())"
    )
    assert launch(code).stdout == "b'hello' None True\n"


def test_writing_waits_for_a_slow_reader_and_loses_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        data = bytes(range(256)) * 8192
        received = bytearray()

        def read() -> None:
            while len(received) < len(data):
                received.extend(ours.recv(65536))

        reader = threading.Thread(target=read)
        reader.start()
        assert Api(theirs).write(data) == len(data)
        reader.join(10)
        assert received == data


def test_it_does_not_start_for_a_parent_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "routed_bgp.exabgp.launcher", str(theirs.fileno()), str(os.getppid()), "none"]
        ended = subprocess.run(
            command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == 1
    assert "the agent is gone" in ended.stderr


def test_a_free_port_is_no_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    require_port(Address("127.0.0.1"), port)


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1 port {port}: another process listens there") as caught:
            require_port(Address("127.0.0.1"), port)
    assert f"sport = :{port}" in (caught.value.hint or "")


def test_an_address_of_no_interface_is_named() -> None:
    with pytest.raises(EnvironmentFault, match=r"192\.0\.2\.1 port 1790: no interface has this address"):
        require_port(Address("192.0.2.1"), 1790)

"""The contract of the plugin's executable, for each of its forms."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.cni.calls import ENVIRONMENT, STDIN, Behaviour, agent, answering, execute, received, run, version
from tests.unit.cni.forms import Maker, make

from routed_cni.protocol import decode

MEBIBYTE = 1 << 20
NUMBERS = b"".join(b"%d " % number for number in range(200_000))[:MEBIBYTE]  # no part of it is like another
# Executes its first argument with the variables that follow, which no mapping could hold.
LAUNCH = """
import ctypes, sys
words = [word.encode() for word in sys.argv[1:]]
array = lambda items: (ctypes.c_char_p * (len(items) + 1))(*items, None)
ctypes.CDLL(None).execve(words[0], array(words[:1]), array(words[1:]))
"""


@pytest.fixture
def s(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def plugin(maker: Maker, tmp_path: Path, s: Path) -> Path:
    return maker.write(tmp_path, s)


@pytest.fixture
def patient(maker: Maker, tmp_path: Path, s: Path) -> Path:
    """Waits long for an agent that is away."""
    return maker.write(tmp_path, s, connect_seconds=20)


def error(status: int, output: bytes) -> tuple[int, str]:
    """The code and message of an error that is a well-formed one."""
    body = json.loads(output)
    assert (status, body["cniVersion"], set(body)) == (1, "1.0.0", {"cniVersion", "code", "msg"})
    return body["code"], body["msg"]


def test_the_agent_gets_the_variables_of_cni_and_stdin(plugin: Path, s: Path):
    calls = list[bytes]()
    with agent(s, answering(b"\0", calls)):
        run(plugin)
    request = decode(calls[0])
    assert (request.command, request.container_id, request.interface, request.network) == ("DEL", "c", "eth0", "n")
    assert b"OTHER" not in calls[0]


def test_without_a_variable_the_separator_stands_alone(plugin: Path, s: Path):
    calls = list[bytes]()
    with agent(s, answering(b"\0", calls)):
        subprocess.run([plugin], input=STDIN, env={}, check=True)
    assert calls == [b"\0\0" + STDIN]


def test_of_a_variable_that_is_there_twice_the_first_counts_and_one_without_a_value_is_none(plugin: Path, s: Path):
    calls = list[bytes]()
    variables = ["CNI_A=1", "CNI_B", "X=1", "CNI_AB=2", "CNI_A=3", "CNI_B=4=5", "CNI_=", "CNI_B=6", "=CNI_C=7"]
    with agent(s, answering(b"\0", calls)):
        subprocess.run([sys.executable, "-c", LAUNCH, plugin, *variables], input=STDIN, check=True)
    assert calls == [b"CNI_A=1\0CNI_AB=2\0CNI_B=4=5\0CNI_=\0\0" + STDIN]


@pytest.mark.spec("CNI 1.1.0", "2 Errors.1")
@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_output_and_exit_status_are_the_agents(plugin: Path, s: Path, status: int):
    output = b"\xc3\xa9\0" + NUMBERS[:300_000]  # more than a pipe holds
    with agent(s, answering(bytes((status,)) + output)):
        assert run(plugin) == (status, output)


def test_a_request_of_one_mebibyte_arrives_whole_and_one_byte_more_is_refused_without_a_call(plugin: Path, s: Path):
    calls = list[bytes]()
    variables = b"\0".join(f"{key}={value}".encode() for key, value in ENVIRONMENT.items() if key != "OTHER")
    stdin = NUMBERS[: MEBIBYTE - len(variables) - 2]
    with agent(s, answering(b"\0", calls)):
        assert run(plugin, stdin) == (0, b"")
    assert calls == [variables + b"\0\0" + stdin]
    assert error(*run(plugin, stdin + b" ")) == (6, "the network configuration on stdin is larger than 1 MiB")


def test_variables_of_more_than_one_mebibyte_are_refused_without_a_call(plugin: Path):
    assert error(*run(plugin, **{f"CNI_{number}": "x" * 130_000 for number in range(9)}))[0] == 6


def test_an_answer_of_one_mebibyte_is_printed_whole_and_one_byte_more_is_a_fault(plugin: Path, s: Path):
    output = NUMBERS
    with agent(s, answering(b"\3" + output)):
        assert run(plugin) == (3, output)

    def behave(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            answering(b"\3x" + output)(connection)

    with agent(s, behave):
        assert error(*run(plugin)) == (100, "the answer of routed agent is larger than 1 MiB")


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.4", "5 Error.9")
def test_without_an_agent_the_runtime_is_told_to_try_again_and_where_it_was_looked_for(plugin: Path, s: Path):
    told = f"routed agent is not answering at {s}: No such file or directory; is it running on this node?"
    assert error(*run(plugin)) == (11, told)


@pytest.mark.parametrize("path", ['/run/a"b\\c/s', "/run/é€/s", "/" + '"' * 106])
def test_the_message_is_json_whatever_the_path(maker: Maker, tmp_path: Path, path: str):
    plugin = maker.write(tmp_path, Path(path), connect_seconds=0)
    assert f" {path}: " in error(*run(plugin))[1]


def test_a_stale_socket_is_an_agent_that_is_away(plugin: Path, s: Path):
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(s))
    code, message = error(*run(plugin))
    assert (code, f"not answering at {s}: Connection refused" in message) == (11, True)


def test_a_path_that_leads_nowhere_is_not_waited_for(maker: Maker, tmp_path: Path):
    (tmp_path / "file").write_text("")
    plugin = maker.write(tmp_path, tmp_path / "file" / "s", connect_seconds=60)  # more than `run` waits
    assert error(*run(plugin)) == (11, f"routed agent cannot be reached at {tmp_path}/file/s: Not a directory")


def test_an_agent_that_comes_back_in_time_is_waited_for(patient: Path, s: Path):
    with agent(s, answering(b"\0done"), delay=0.4):
        assert run(patient) == (0, b"done")


def test_an_agent_whose_queue_is_full_is_waited_for(patient: Path, s: Path):
    with (
        closing(socket.socket(socket.AF_UNIX)) as listening,
        closing(socket.socket(socket.AF_UNIX)) as other,
        subprocess.Popen([patient], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as calling,
    ):
        listening.bind(str(s))
        listening.listen(0)
        listening.settimeout(20)
        other.connect(str(s))
        assert calling.stdin is not None
        calling.stdin.write(STDIN)
        calling.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            calling.wait(0.3)
        listening.accept()[0].close()
        connection, _ = listening.accept()
        with closing(connection):
            answering(b"\0done")(connection)
        assert calling.stdout is not None
        assert calling.stdout.read() == b"done"


def test_an_agent_that_goes_without_an_answer_is_tried_again_later(plugin: Path, s: Path):
    told = "routed agent closed the connection without an answer; it may be restarting"
    with agent(s, lambda connection: received(connection) and None):
        assert error(*run(plugin)) == (11, told)


def test_an_agent_that_hangs_up_while_it_is_written_to_is_tried_again_later(plugin: Path, s: Path):
    with agent(s, lambda connection: connection.close()):
        code, message = error(*run(plugin, STDIN + b" " * 900_000))
    assert (code, "routed agent closed the connection: " in message) == (11, True)


def test_an_answer_to_a_request_unread_is_taken(plugin: Path, s: Path):
    with agent(s, lambda connection: connection.sendall(b"\1refused")):
        assert run(plugin, STDIN + b" " * 900_000) == (1, b"refused")


def silent(connection: socket.socket) -> None:
    received(connection)
    connection.recv(1)


def never_reading(connection: socket.socket) -> None:
    over.wait(15)


def dribbling(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while not over.wait(0.02):
            connection.sendall(b"\0")


over = threading.Event()


@pytest.fixture(scope="module", params=["python", "c"])
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    directory = tmp_path_factory.mktemp("impatient")
    return make(request.param, directory).impatient(directory)


@pytest.mark.parametrize("behave", [silent, never_reading, dribbling])
def test_an_answer_is_not_waited_for_longer_than_its_bound(
    impatient: Maker, tmp_path: Path, s: Path, behave: Behaviour
):
    plugin = impatient.write(tmp_path, s)
    over.clear()
    with agent(s, behave):
        try:
            stdin = STDIN + b" " * 900_000 * (behave is never_reading)
            assert error(*run(plugin, stdin)) == (11, "routed agent did not answer within 1 s")
        finally:
            over.set()


@pytest.mark.spec("CNI 1.1.0", "2 VERSION.1", "2 VERSION.2")
def test_version_is_answered_without_an_agent_and_without_stdin(patient: Path):
    assert execute(patient, b"", {"CNI_COMMAND": "VERSION"}) == (0, version(b""))


@pytest.mark.spec("CNI 1.1.0", "5 Version.1")
@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        *((b'{"cniVersion":"%s"}' % known, known) for known in (b"0.3.0", b"0.3.1", b"0.4.0", b"1.0.0", b"1.1.0")),
        (b'\n{ "name": "n",\n  "cniVersion" :\t"0.4.0" }', b"0.4.0"),
        (b'{"cniVersion":"0.1.0"}', b"1.1.0"),
        (b'{"cniVersion":"1.0.00"}', b"1.1.0"),
        (b'{"cniVersion":', b"1.1.0"),
        (b'{"cniVersion":"1.0.0', b"1.1.0"),
    ],
)
def test_version_is_answered_in_the_version_that_asks(plugin: Path, stdin: bytes, told: bytes):
    status, output = run(plugin, stdin, CNI_COMMAND="VERSION", CNI_ARGS='"cniVersion":"0.3.0"')
    assert (status, output.startswith(b'{"cniVersion":"%s",' % told), output) == (0, True, version(stdin))


@pytest.mark.spec("CNI 1.1.0", "5 Error.6")
def test_a_stdin_that_cannot_be_read_is_an_input_output_failure(plugin: Path):
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        done = subprocess.run([plugin], stdin=descriptor, env=ENVIRONMENT, capture_output=True, check=False)
    finally:
        os.close(descriptor)
    assert done.stderr == b""
    told = "cannot read the network configuration on stdin: Bad file descriptor"
    assert error(done.returncode, done.stdout) == (5, told)


def test_a_runtime_that_does_not_take_the_answer_makes_it_a_failure_and_no_signal(plugin: Path, s: Path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with agent(s, answering(b"\0done")):
            done = subprocess.run(
                [plugin], input=STDIN, env=ENVIRONMENT, stdout=writing, stderr=subprocess.PIPE, check=False
            )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_pipes_that_do_not_block_are_waited_for(plugin: Path, s: Path):
    calls = list[bytes]()
    output = NUMBERS[:300_000]
    (stdin, to_plugin), (from_plugin, stdout) = os.pipe(), os.pipe()
    for descriptor in (stdin, stdout):
        os.set_blocking(descriptor, False)
    with agent(s, answering(b"\0" + output, calls)):
        calling = subprocess.Popen([plugin], env=ENVIRONMENT, stdin=stdin, stdout=stdout)
        os.close(stdin)
        os.close(stdout)
        with os.fdopen(to_plugin, "wb") as stream:
            with pytest.raises(subprocess.TimeoutExpired):
                calling.wait(0.2)
            stream.write(STDIN)
        with os.fdopen(from_plugin, "rb") as stream:
            with pytest.raises(subprocess.TimeoutExpired):
                calling.wait(0.2)
            assert stream.read() == output
        assert calling.wait(20) == 0
    assert calls[0].endswith(b"\0\0" + STDIN)


def test_a_call_that_is_stopped_and_continued_goes_on(plugin: Path, s: Path):
    def behave(connection: socket.socket) -> None:
        received(connection)
        for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH):
            calling.send_signal(number)
        connection.sendall(b"\0done")

    with agent(s, behave):
        calling = subprocess.Popen([plugin], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert calling.communicate(STDIN, 20) == (b"done", None)
        assert calling.returncode == 0


def test_the_script_imports_built_in_modules_only(tmp_path: Path):
    plugin = make("python", tmp_path).write(tmp_path, tmp_path / "s")
    listing = subprocess.run(
        [*plugin.read_text().split("\n", 1)[0].removeprefix("#!").split(), "-X", "importtime", str(plugin)],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip() for line in listing.splitlines()}
    assert "_socket" in imported
    assert not imported & {"os", "socket", "json", "enum", "re", "site", "asyncio", "collections"}

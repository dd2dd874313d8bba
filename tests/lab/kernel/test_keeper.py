"""The life of a lab's keeper, with a runner that makes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed_lab import client, kernels, launch, place, wire

STANDIN = str(Path(__file__).with_name("standin.py"))
FILE = "/standin.clab.yml"
LAB = f"keeper-test-{os.getpid()}"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "routed-lab" / LAB


def settings(kernel: kernels.Kernel = "host", *, file: str = FILE, leashed: bool = False) -> launch.Settings:
    return launch.Settings(
        lab=LAB, file=file, kernel=kernel, memory="512M", leashed=leashed, runner=(sys.executable, STANDIN)
    )


def bring_up(kernel: kernels.Kernel = "host", *, file: str = FILE, leashed: bool = False) -> client.Client:
    keeper = client.Client(launch.start_keeper(settings(kernel, file=file, leashed=leashed)))
    try:
        keeper.call(wire.Up(id=keeper.new_id(), file=file), ignore)
    except BaseException:
        keeper.wait_end()
        keeper.close()
        raise
    return keeper


def ignore(_text: str | None) -> None:
    """Progress that nobody looks at."""


def take_down(lab: client.Client) -> None:
    with lab:
        lab.call(wire.Down(id=lab.new_id()), ignore)
        lab.wait_end()


def processes() -> set[int]:
    """All processes of this test's labs: the keeper has the lab's name on its command line, a runner the stand-in."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            dead = line and (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
            continue
        if not dead and (LAB.encode() in line or STANDIN.encode() in line):
            found.add(int(entry.name))
    return found


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def nothing_left(runtime: Path) -> bool:
    return eventually(lambda: not runtime.exists() and not processes())


@pytest.mark.parametrize("kernel", ["host", "uml"])
def test_a_lab_outlives_the_command_that_brought_it_up_until_down(kernel: kernels.Kernel, runtime: Path) -> None:
    bring_up(kernel).close()
    lab, card = client.connect(LAB, FILE)
    assert (card.lab, card.kernel, card.file) == (LAB, kernel, FILE)
    value = lab.call(wire.Inspect(id=lab.new_id()), ignore)
    assert isinstance(value, dict)
    assert (value["kernel"] == os.uname().release) == (kernel == "host")
    assert processes()
    take_down(lab)
    assert not processes()
    assert not runtime.exists()


def test_a_second_lab_of_the_name_is_refused_and_the_first_unharmed(runtime: Path) -> None:
    with bring_up() as first:
        with pytest.raises(ConflictError, match=rf'lab "{LAB}" is already up \(since .*, kernel host\)'):
            bring_up()
        assert first.call(wire.Inspect(id=first.new_id()), ignore)
        take_down(first)
    assert nothing_left(runtime)


def test_a_failed_up_leaves_nothing(runtime: Path) -> None:
    with pytest.raises(OperatorError, match="no such luck") as caught:
        bring_up(file="/fail.clab.yml")
    assert caught.value.hint == "try another file"
    assert nothing_left(runtime)


def test_a_broken_leash_while_rising_takes_the_lab_down(runtime: Path) -> None:
    with client.Client(launch.start_keeper(settings(file="/slow.clab.yml"))) as leash:
        with pytest.raises(TimeoutError, match="enough"):
            leash.call(wire.Up(id=1, file="/slow.clab.yml"), give_up_when_waiting)
        assert processes()
    assert nothing_left(runtime)


def test_an_interrupted_up_can_be_taken_down_over_the_same_connection(runtime: Path) -> None:
    with client.Client(launch.start_keeper(settings(file="/slow.clab.yml"))) as leash:
        with pytest.raises(TimeoutError, match="enough"):
            leash.call(wire.Up(id=leash.new_id(), file="/slow.clab.yml"), give_up_when_waiting)
        take_down(leash)
    assert nothing_left(runtime)


def give_up_when_waiting(text: str | None) -> None:
    if text is None:
        raise TimeoutError("enough")


def test_a_leashed_lab_goes_down_with_its_leash(runtime: Path) -> None:
    leash = bring_up(leashed=True)
    other, _ = client.connect(LAB, FILE)
    with other:
        leash.close()
        assert nothing_left(runtime)


def test_down_from_elsewhere_while_rising_fails_up_and_leaves_nothing(runtime: Path) -> None:
    with client.Client(launch.start_keeper(settings(file="/slow.clab.yml"))) as leash:

        def down(text: str | None) -> None:
            if text == "building":
                lab, _ = client.connect(LAB, FILE)
                take_down(lab)

        with pytest.raises(EnvironmentFault, match="was taken down"):
            leash.call(wire.Up(id=1, file="/slow.clab.yml"), down)
    assert nothing_left(runtime)


@pytest.mark.parametrize("kernel", ["host", "uml"])
def test_a_killed_keeper_leaves_no_process_and_the_next_up_works(kernel: kernels.Kernel, runtime: Path) -> None:
    bring_up(kernel).close()
    card = place.read_card(runtime)
    assert card is not None
    os.kill(card.pid, signal.SIGKILL)
    assert eventually(lambda: not processes())
    with pytest.raises(OperatorError, match="is not up"):
        client.connect(LAB, FILE)
    take_down(bring_up())
    assert nothing_left(runtime)


def test_a_runner_that_dies_fails_what_waits_for_it_and_leaves_its_log(runtime: Path) -> None:
    with bring_up() as lab, pytest.raises(EnvironmentFault, match="was killed by SIGKILL") as caught:
        lab.call(wire.Restart(id=lab.new_id(), node="node-a1"), ignore)
    assert "node-a1 makes it die" in str(caught.value)
    assert eventually(lambda: not processes())
    with pytest.raises(OperatorError, match=r"not up any more: .*was killed by SIGKILL"):
        client.connect(LAB, FILE)
    client.forget(LAB)
    assert nothing_left(runtime)


def test_a_terminated_keeper_takes_the_lab_down(runtime: Path) -> None:
    with bring_up():
        card = place.read_card(runtime)
        assert card is not None
        os.kill(card.pid, signal.SIGTERM)
        assert nothing_left(runtime)


EXECUTE = """
import sys
from routed_lab import client
lab, _ = client.connect(sys.argv[1], "")
sys.exit(lab.execute("node", sys.argv[2:]))
"""


def execute(*argv: str) -> list[str]:
    return [sys.executable, "-c", EXECUTE, LAB, *argv]


def test_exec_passes_streams_and_status_beside_a_client_that_does_not_read(runtime: Path) -> None:
    lab = bring_up()
    with subprocess.Popen(execute("head", "-c", "5000000", "/dev/zero"), stdout=subprocess.PIPE) as stuck:
        data = os.urandom(300_000)
        done = subprocess.run(
            execute("sh", "-c", "tee /dev/stderr; exit 9"), input=data, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (9, data, data)
        assert stuck.stdout is not None
        assert len(stuck.stdout.read()) == 5_000_000
    take_down(lab)
    assert nothing_left(runtime)


def test_a_signal_to_exec_reaches_its_program(runtime: Path) -> None:
    lab = bring_up()
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(execute("sh", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 5
    take_down(lab)
    assert nothing_left(runtime)


def test_a_program_ends_when_its_client_is_killed(runtime: Path) -> None:
    lab = bring_up()
    with subprocess.Popen(execute("sh", "-c", "echo $$; exec sleep 600"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        program = int(process.stdout.readline())
        process.kill()
    assert eventually(lambda: not Path(f"/proc/{program}").exists())
    take_down(lab)
    assert nothing_left(runtime)

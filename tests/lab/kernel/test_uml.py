"""`python -m routed_lab.uml`: a command under a kernel of its own behaves as it does without. A boot costs 2-4 s."""

from __future__ import annotations

import hashlib
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

UML = (sys.executable, "-m", "routed_lab.uml")
SECONDS = 90


def uml(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*UML, *arguments], input=stdin, capture_output=True, timeout=SECONDS, check=False)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, by /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            found.add(child)
            todo.append(child)
    return found


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that is not below /run, which the kernel hides by its own."""
    path = Path("/var/tmp") / f"routed-uml-test-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def test_the_kernel_is_another_with_ipip_and_the_machine_stays_untouched(shared: Path) -> None:
    private = shared.with_name(f"{shared.name}-private")
    (shared / "read").write_text("in")
    script = f"""
        set -e
        uname -r
        ls /sys/class/net
        cat {shared}/read
        echo out > {shared}/written
        echo lost > {private}
        echo lost > /etc/hostname
        cat {private} >&2
        exit 7
    """
    before = Path("/etc/hostname").read_bytes()
    done = uml("--modules", "ipip,veth", "--rw", str(shared), "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (7, b"lost\n")
    release, *words = done.stdout.decode().split()
    assert release != os.uname().release
    assert words == ["lo", "tunl0", "in"]
    assert (shared / "written").read_text() == "out\n"
    assert not private.exists()
    assert Path("/etc/hostname").read_bytes() == before


def test_a_signal_that_kills_the_command_is_its_status() -> None:
    assert uml("--", "sh", "-c", "kill -SEGV $$").returncode == 128 + signal.SIGSEGV


def test_binary_input_and_output_pass_through_even_to_a_slow_reader() -> None:
    data = random.Random(2).randbytes(400_000)
    script = "head -c 3000000 /dev/zero >&2; sleep 1; tee /dev/stderr | md5sum"
    done = uml("--stdin", "--", "sh", "-c", script, stdin=data)
    assert done.returncode == 0
    assert done.stdout.split()[0].decode() == hashlib.md5(data).hexdigest()
    assert done.stderr == bytes(3_000_000) + data


def test_a_signal_reaches_the_command_and_the_kernel_ends_with_it() -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*UML, "--", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        below = descendants(process.pid)
        process.terminate()
        assert process.stdout.read() == b"caught\n"
        assert process.wait(SECONDS) == 3
    assert below
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_killed_caller_leaves_no_process() -> None:
    with subprocess.Popen([*UML, "--", "sh", "-c", "echo ready; sleep 600"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        below = descendants(process.pid)
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
    assert below
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_timeout_ends_the_command_with_124() -> None:
    done = uml("--timeout", "4", "--", "sleep", "600")
    assert done.returncode == 124
    assert b"timeout after 4 s" in done.stderr


def test_a_module_that_the_kernel_has_not_is_named() -> None:
    done = uml("--modules", "ipip,flux_capacitor", "--", "true")
    assert done.returncode == 125
    assert b"has no module flux_capacitor" in done.stderr


@pytest.fixture
def ordinary() -> pwd.struct_passwd:
    """An ordinary user: ourselves, or any that the machine has."""
    uid = os.geteuid() or next(
        user.pw_uid for user in pwd.getpwall() if user.pw_uid >= 1000 or user.pw_name == "nobody"
    )
    return pwd.getpwuid(uid)


def test_an_ordinary_user_is_root_in_it(ordinary: pwd.struct_passwd) -> None:
    root = os.geteuid() == 0
    done = subprocess.run(
        [*UML, "--modules", "ipip", "--", "sh", "-c", "id -u; ls /sys/class/net; modprobe bridge && echo on demand"],
        capture_output=True,
        timeout=SECONDS,
        cwd="/",
        check=False,
        user=ordinary.pw_uid if root else None,
        group=ordinary.pw_gid if root else None,
        extra_groups=[] if root else None,
    )
    assert (done.returncode, done.stdout.decode().splitlines(), done.stderr) == (
        0,
        ["0", "lo", "tunl0", "on demand"],
        b"",
    )

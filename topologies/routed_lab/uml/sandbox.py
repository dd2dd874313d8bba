"""The child of the calling process that runs linux.uml where it can change nothing of the machine.

Its own mount and PID namespaces (for an ordinary user a user namespace around them), in which every mount but the `rw`
directories is read-only; the new kernel's memory and files lie on private tmpfs mounts. When it ends, however it ends,
they all go.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from routed_lab.uml import system
from routed_lab.uml.guest import STATE
from routed_lab.uml.needs import PATH
from routed_lab.uml.system import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC

if TYPE_CHECKING:
    from routed_lab.uml.guest import Config

_SPARE = 64 << 20  # what the kernel keeps beside its memory
_SHM = "/dev/shm"  # noqa: S108  covered by a tmpfs of our own before it is used


@dataclass(frozen=True, slots=True)
class Machine:
    """The kernel to run: its file, its memory in bytes, and what of the machine it may really write to."""

    kernel: str
    memory: int
    writable: tuple[str, ...]
    pinned: bool = True


def run(machine: Machine, config: Config, channel: int, log: int, parent: int) -> NoReturn:
    """Build the namespaces, run the kernel with its serial line on `channel`, and end with it.

    For a freshly forked child of `parent` (its process id); the console and what goes wrong here go to `log`. OSError
    when the machine refuses a namespace or a mount.
    """
    os.setpgid(0, 0)  # the terminal's Ctrl-C is for the calling process, which passes it on
    system.die_with_parent(parent)
    if machine.pinned:
        # Its processes take turns: waking one another across CPUs costs twice as much.
        os.sched_setaffinity(0, {_idlest_cpu()})
    _unshare()
    system.die_with_parent(parent)  # a change of credentials forgets it
    child = os.fork()
    if child:  # outside of the new PID namespace: just wait
        os.close(channel)
        os.close(log)
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    system.die_with_parent(0)
    _mounts(machine)
    _lay_out(config)
    os.environ.clear()
    os.environ.update(PATH=PATH, HOME="/root", TMPDIR=_SHM)
    kernel = subprocess.Popen(
        _command_line(machine, channel, log),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(channel, log),
        start_new_session=True,
    )
    while True:  # PID 1 of the namespace reaps all, and ends with the kernel
        pid, status = os.wait()
        if pid == kernel.pid:
            os._exit(0 if status == 0 else 1)


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    system.unshare(system.CLONE_NEWNS | system.CLONE_NEWPID | (system.CLONE_NEWUSER if uid else 0))
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path("/proc/self", name).write_text(text, encoding="ascii")


def _mounts(machine: Machine) -> None:
    system.mount(None, "/", None, MS_REC | MS_PRIVATE)
    for directory in machine.writable:
        system.mount(directory, directory, None, MS_BIND | MS_REC)
    system.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    system.set_read_only("/", read_only=True)
    for directory in machine.writable:
        system.set_read_only(directory, read_only=False)
    system.mount("tmpfs", _SHM, "tmpfs", MS_NOSUID | MS_NODEV, f"size={machine.memory + _SPARE}")
    system.mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={_SPARE}")


def _lay_out(config: Config) -> None:
    """Write what the guest finds in STATE: its configuration, a place for its overlay, and the program of PID 1."""
    state = Path(STATE)
    (state / "overlay").mkdir(parents=True)
    (state / "config").write_text(json.dumps(config), encoding="utf-8")
    packages = str(Path(__file__).resolve().parents[2])
    program = f"import sys; sys.path.append({packages!r}); from routed_lab.uml.guest import main; main()"
    init = state / "init"
    init.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(program)}\n", encoding="utf-8"
    )
    init.chmod(0o755)


def _command_line(machine: Machine, channel: int, log: int) -> list[str]:
    return [
        machine.kernel,
        f"mem={machine.memory >> 20}M",
        "umid=uml",
        f"uml_dir={STATE}",
        "rootfstype=hostfs",
        "rootflags=/",
        f"init={STATE}/init",
        "con=null",
        f"con0=null,fd:{log}",
        "ssl=null",
        f"ssl0=fd:{channel},fd:{channel}",
        "lsm=yama",
        "panic=-1",
        "seccomp=auto",
        "dummy.numdummies=0",
        "ifb.numifbs=0",
        "bonding.max_bonds=0",
        "ro",
        "noreboot",
    ]


def _idlest_cpu() -> int:
    def idle() -> dict[int, int]:
        rows = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
        return {int(row[0][3:]): int(row[4]) for row in rows if row[0].startswith("cpu") and row[0][3:].isdigit()}

    before = idle()
    time.sleep(0.05)
    after = idle()
    ours = sorted(os.sched_getaffinity(0))
    # Of equals not always the first, so that kernels started at the same time spread.
    return max(ours, key=lambda cpu: (after.get(cpu, 0) - before.get(cpu, 0), (cpu + os.getpid()) % len(ours)))

"""How the processes of a lab are started: its keeper, the runner below it, the runner that sweeps after a dead one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from routed.errors import EnvironmentFault
from routed_lab import wire
from routed_lab.kernels import Kernel

SWEEP_SECONDS: Final = 60.0
"""How long removing what a killed lab left in the host kernel may take."""

_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PRELOADED = frozenset(
    {"bridge", "dummy", "ipip", "veth", "vxlan"}
)  # named as their link kind; others load when asked for


RUNNER: Final = (sys.executable, "-m", "routed_lab.runner")
"""The command of the process that builds a lab."""


class Settings(msgspec.Struct, frozen=True):
    """What the keeper of a lab is told on its command line, as JSON.

    `needs` are the kinds of link of the topology, `memory` (as 512M or 2G) is the kernel's; both concern uml only. A
    `leashed` lab goes down with the process that brought it up.
    """

    lab: str
    file: str
    kernel: Kernel
    needs: tuple[str, ...] = ()
    memory: str = "2G"
    leashed: bool = False
    runner: tuple[str, ...] = RUNNER


def runner_command(settings: Settings) -> tuple[str, ...]:
    """Return the command that runs the lab's runner on the kernel of `settings`."""
    if settings.kernel == "host":
        return settings.runner
    modules = sorted(_PRELOADED.intersection(settings.needs))
    load = ("--modules", ",".join(modules)) if modules else ()
    uml = (sys.executable, "-m", "routed_lab.uml", "--stdin", "--cwd", "/", "--mem", settings.memory, *load)
    return (*uml, "--", *settings.runner)


def runner_environment() -> dict[str, str]:
    """Return our environment with the directories of system programs in PATH, which an ordinary user's may lack."""
    path = os.environ.get("PATH")
    return {**os.environ, "PATH": f"{path}:{_SEARCHED}" if path else _SEARCHED}


def start_keeper(settings: Settings) -> socket.socket:
    """Start the lab's keeper in the background; return the leash, a connection to it that speaks `wire`.

    What goes wrong before the keeper serves comes over the leash, as a Failed with id 0.
    """
    leash, theirs = socket.socketpair()
    with theirs:
        starter = subprocess.Popen(
            (sys.executable, "-m", "routed_lab.keeper", msgspec.json.encode(settings).decode(), str(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=runner_environment(),
            start_new_session=True,
        )
    starter.wait()  # it has forked the keeper, or told over the leash why not
    return leash


def sweep(lab: str, runner: Iterable[str]) -> None:
    """Remove what the lab of that name, killed, has left in the host kernel; nothing if it left nothing. For root.

    Raises the runner's error, or EnvironmentFault when it gives no answer.
    """
    request = wire.encode(wire.Down(id=1, lab=lab))
    try:
        done = subprocess.run(
            tuple(runner),
            input=request,
            stdout=subprocess.PIPE,
            env=runner_environment(),
            timeout=SWEEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"removing what the lab {lab} left took more than {SWEEP_SECONDS:g} s") from None
    for line in done.stdout.splitlines():
        answer = wire.decode_answer(line)
        if isinstance(answer, wire.Failed):
            raise wire.error_of(answer)
        if isinstance(answer, wire.Result):
            return
    raise EnvironmentFault(
        f"the lab's runner ended (status {done.returncode}) without saying whether it removed what was left",
        hint="its last words are above, or in the log",
    )

"""Run one of the machine's firewall programs, in a network namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from routed.errors import EnvironmentFault
from routed.netlink.socket import inside

_SECONDS = 30.0  # a program that takes longer is stuck: 5000 members take 0.2
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not in every PATH that an agent is started with
_PACKAGES = {"nft": "nftables"}  # Debian's; all others are in `iptables`
# what a kernel without a table, a family or an expression says, through nft and iptables
_UNSUPPORTED = ("not supported", "Table does not exist", "can't initialize", "missing kernel module", "No chain/target")


class UnsupportedError(EnvironmentFault):
    """The program is not there, or the kernel lacks what it needs: another backend may do."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program answered; `error` is empty where it succeeded."""

    output: str
    error: str


def installed(name: str) -> str | None:
    """The path of the program `name`, if it is on this machine."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))


def ask(words: Sequence[str], namespace: str | None, given: str = "") -> Said:
    """Run a program with `given` as its input. Raises UnsupportedError without it, EnvironmentFault when stuck."""
    path = installed(words[0])
    if path is None:
        package = _PACKAGES.get(words[0], "iptables")
        raise UnsupportedError(f"firewall: {words[0]} is not installed", hint=f"apt-get install {package}")
    try:
        with inside(namespace) if namespace else nullcontext():  # a child is born where the thread is
            done = subprocess.run(
                [path, *words[1:]],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(
            f"firewall: {words[0]} did not end within {_SECONDS:g} s", hint="it is tried again and again"
        ) from None
    except OSError as error:
        raise EnvironmentFault(
            f"firewall: {path} cannot be run: {error.strerror or error}", hint="it is tried again and again"
        ) from error
    if done.returncode == 0:
        return Said(done.stdout, "")
    return Said(done.stdout, done.stderr.strip() or f"exit status {done.returncode}")


def refused(words: Sequence[str], reason: str, *, lasting: bool = False) -> EnvironmentFault:
    """The fault to raise for `reason`, which the program gave; `lasting`: it will not pass, whatever the words say."""
    told = " ".join(reason.split("\n")[0].split())
    if lasting or any(each in reason for each in _UNSUPPORTED):
        return UnsupportedError(
            f"firewall: {words[0]}: {told}", hint="this kernel lacks what it needs; `firewall` may name another backend"
        )
    return EnvironmentFault(f"firewall: {words[0]}: {told}", hint="it is tried again and again")

"""What User-mode Linux needs on this machine, and which Debian package brings it."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from routed.errors import EnvironmentFault
from routed_lab.uml import system

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are sought, outside and inside; an ordinary user's own PATH has no sbin."""

MODULES = "/usr/lib/uml/modules"
"""Where Debian's user-mode-linux keeps its modules, by kernel release."""


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing, and what to do about it."""

    what: str
    remedy: str


def kernel() -> str | None:
    """Return the path of the kernel to boot: $ROUTED_UML if set, else linux.uml; None if there is none."""
    return os.environ.get("ROUTED_UML") or shutil.which("linux.uml", path=PATH)


def lacks() -> list[Lack]:
    """Return what is missing on this machine, nothing if User-mode Linux can run."""
    found: list[Lack] = []
    path = kernel()
    if path is None:
        found.append(_package("linux.uml is not installed", "user-mode-linux"))
    elif not os.access(path, os.X_OK):
        found.append(Lack(f"$ROUTED_UML names {path}, which cannot be run", "unset it, or name an executable kernel"))
    elif not os.environ.get("ROUTED_UML") and not Path(MODULES).is_dir():
        found.append(_package(f"{MODULES}, the modules of linux.uml, is missing", "user-mode-linux"))
    if shutil.which("modprobe", path=PATH) is None:
        found.append(_package("modprobe is not installed, so the kernel could not load drivers", "kmod"))
    if os.geteuid() and (refusal := _user_namespace_refusal()):
        found.append(refusal)
    return found


def require() -> str:
    """Return the path of the kernel to boot; EnvironmentFault naming what is missing if it cannot run here."""
    if found := lacks():
        raise EnvironmentFault(
            "User-mode Linux cannot run here: " + "; ".join(lack.what for lack in found),
            hint="\n  ".join(dict.fromkeys(lack.remedy for lack in found)),
        )
    path = kernel()
    assert path is not None
    return path


def _package(what: str, name: str) -> Lack:
    return Lack(what, f"install the Debian package {name}: apt-get install {name}")


def _user_namespace_refusal() -> Lack | None:
    """Try it in a child: which of several switches forbids user namespaces differs between distributions."""
    child = os.fork()
    if child == 0:
        try:
            system.unshare(system.CLONE_NEWUSER | system.CLONE_NEWNS | system.CLONE_NEWPID)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(255)
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number == 0:
        return None
    if number in (errno.ENOSPC, errno.EUSERS):
        remedy = "raise the limit as root: sysctl user.max_user_namespaces=10000; or run this as root"
    else:
        remedy = (
            "allow them as root: sysctl kernel.unprivileged_userns_clone=1 (Debian), or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); or run this as root"
        )
    return Lack(f"user namespaces are refused to ordinary users ({os.strerror(number)})", remedy)

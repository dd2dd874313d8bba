"""System calls that Python 3.11 does not have, from the kernel's own headers. Each raises OSError."""

from __future__ import annotations

import ctypes
import os
import struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8  # linux/mount.h
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x1000, 0x2000, 0x4000, 1 << 18, 1 << 19, 1 << 20
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER = 0x20000, 0x4000000, 0x10000000  # linux/sched.h
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

_SYS_FINIT_MODULE, _SYS_MOUNT_SETATTR = 313, 442  # asm/unistd_64.h; the second is the same everywhere
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MODULE_INIT_COMPRESSED_FILE = 4
_PR_SET_PDEATHSIG = 1
_LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    raw = [None if text is None else os.fsencode(text) for text in (source, target, fstype, data)]
    _check(_libc.mount(raw[0], raw[1], raw[2], ctypes.c_ulong(flags), raw[3]), f"mount {fstype or source} on {target}")


def set_read_only(path: str, read_only: bool) -> None:
    """Make the mount at `path` and all below it read-only, or writable: mount_setattr(2), Linux 5.12."""
    on, off = (MS_RDONLY, 0) if read_only else (0, MS_RDONLY)
    attributes = struct.pack("=4Q", on, off, 0, 0)  # struct mount_attr: set, clear, propagation, userns_fd
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, f"mount_setattr {path}")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2): this thread's namespace of the kind CLONE_NEW... becomes that of `descriptor`."""
    _check(_libc.setns(descriptor, kind), "setns")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    raw = os.fsencode(name)
    _check(_libc.sethostname(raw, len(raw)), f"sethostname {name}")


def load_module(path: str) -> None:
    """Load the kernel module in the file `path`; one that is loaded already is no error. finit_module(2)."""
    flags = 0 if path.endswith(".ko") else _MODULE_INIT_COMPRESSED_FILE
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syscall(_SYS_FINIT_MODULE, fd, b"", flags), f"load {path}")
    except FileExistsError:
        pass
    finally:
        os.close(fd)


def die_with_parent(parent: int, signum: int = 9) -> None:
    """Have the kernel send us `signum` when the thread that forked us ends; end at once if `parent` has ended already.

    `parent` is the process id as this process sees it (0 across a PID namespace). prctl(2), PR_SET_PDEATHSIG.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def power_off() -> None:
    """Stop the kernel, without syncing. reboot(2)."""
    _check(_libc.reboot(_LINUX_REBOOT_CMD_POWER_OFF), "reboot")

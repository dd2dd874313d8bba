"""PID 1 of the new kernel: gives it a root whose changes stay in memory, runs the command, relays its streams.

Started by /bin/sh with a bare interpreter (`-I -S`), at a sixth of the machine's speed: what is imported here is paid
at each boot.
"""

# pathlib is one import more, 50 ms of each boot:
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH120, PTH123, PTH211

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
import tty
from contextlib import suppress

from routed_lab.uml import frames, system
from routed_lab.uml.system import MS_MOVE, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_SHARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypedDict

    class Config(TypedDict):
        """What the outside wants done, as JSON in STATE/config."""

        command: list[str]
        env: dict[str, str]
        cwd: str
        writable: list[str]
        stdin: bool
        hostname: str
        modules: list[str]
        modules_dir: str
        time: float
        seed: str


STATE = "/run/routed-uml"
"""The same path for every kernel: it lies on a private tmpfs of its sandbox."""

_RNDADDENTROPY = 0x40085203  # linux/random.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_IFREQ = struct.Struct("16sh14x")  # struct ifreq with flags

_EARLY_MODULES = ("overlay",)
_USUAL_MODULES = ("ipv6", "tun")

_MOUNTS = (
    ("devtmpfs", "/dev", MS_NOSUID, "mode=755"),
    ("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None),
    ("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, None),
    ("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"),  # noqa: S108  the new kernel's own
    ("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, None),
    ("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"),
    ("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, None),
    ("bpf", "/sys/fs/bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700"),
)
_DISPENSABLE = frozenset({"/sys/fs/bpf", "/sys/fs/cgroup", "/dev/mqueue"})  # a kernel of one's own may lack them


class Refusal(Exception):  # noqa: N818  the outside shows its text, not its name
    """The command cannot be run as asked; the text says why."""


def main() -> None:
    """Do all that PID 1 has to do, and stop the kernel. Never returns."""
    with open(f"{STATE}/config", encoding="utf-8") as file:
        config: Config = json.load(file)
    system.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    system.mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    try:
        system.mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID)
    except OSError as error:
        if error.errno != errno.EBUSY:  # the kernel has mounted it itself
            raise
    _fill_standard_descriptors()
    channel = os.open("/dev/ttyS0", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(channel)
    _write(channel, frames.MAGIC)
    code, trouble = 125, ""
    try:
        modules = Modules(config["modules_dir"])
        modules.load(_EARLY_MODULES)
        _new_root(config)
        _settle(config)
        modules.load(_USUAL_MODULES)
        if absent := modules.load(config["modules"]):
            raise Refusal(f"{os.uname().release} has no module {', '.join(absent)}")  # noqa: TRY301
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = file.read().split()[0]
        _write(channel, frames.frame(frames.READY, f"{os.uname().release} {uptime}".encode()))
        code = _run(config, channel)
    except Refusal as refusal:
        trouble = str(refusal)
    except Exception as error:  # noqa: BLE001  PID 1 must not die: the kernel would panic and hide the reason
        trouble = f"inside the kernel: {type(error).__name__}: {error}"
    os.sync()
    _write(channel, frames.frame(frames.EXIT, bytes((code,)) + trouble.encode(errors="replace")))
    time.sleep(2)  # the outside stops us as soon as it has read that
    system.power_off()


def _fill_standard_descriptors() -> None:
    """The kernel's console is null, or missing: no pipe of ours may become descriptor 0, 1 or 2."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Modules:
    """The modules of this kernel, loaded without modprobe: starting it takes longer here than loading five modules."""

    def __init__(self, directory: str) -> None:
        self._base = f"{directory}/{os.uname().release}" if directory else ""
        self._needs: dict[str, list[str]] = {}
        self._loaded: set[str] = set()
        self._builtin: set[str] = set()
        if not self._base:
            return
        for line in self._lines("modules.dep"):
            path, _, rest = line.partition(":")
            self._needs[self._name(path)] = [path, *rest.split()]
        self._builtin = {self._name(line.strip()) for line in self._lines("modules.builtin")}

    def load(self, names: Iterable[str]) -> list[str]:
        """Load modules and what they need; return those that this kernel has neither as a module nor built in.

        A kernel without a module directory has all built in: there is nothing to load, and nothing to check by.
        """
        absent: list[str] = []
        for name in [name.replace("-", "_") for name in names]:
            for path in reversed(self._needs.get(name, ())):  # modules.dep: what is needed most stands last
                if path not in self._loaded:
                    system.load_module(f"{self._base}/{path}")
                    self._loaded.add(path)
            if self._base and name not in self._needs and name not in self._builtin:
                absent.append(name)
        return absent

    def _lines(self, name: str) -> list[str]:
        try:
            with open(f"{self._base}/{name}", encoding="utf-8") as file:
                return file.readlines()
        except FileNotFoundError:
            raise Refusal(f"{self._base}/{name} is missing: the modules do not belong to this kernel") from None

    @staticmethod
    def _name(path: str) -> str:
        return path.rsplit("/", 1)[-1].split(".", 1)[0].replace("-", "_")


def _new_root(config: Config) -> None:
    """Replace / by an overlay of the machine's tree whose changes stay in memory."""
    overlay = f"{STATE}/overlay"
    system.mount("tmpfs", overlay, "tmpfs", 0, "mode=755,size=75%")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{overlay}/{name}")
    root = f"{overlay}/root"
    system.mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={overlay}/upper,workdir={overlay}/work")
    for kind, where, flags, options in _MOUNTS:
        try:
            os.makedirs(root + where, exist_ok=True)
            system.mount(kind, root + where, kind, flags, options)
        except OSError:
            if where not in _DISPENSABLE:
                raise
    for directory in config["writable"]:
        system.mount("none", root + directory, "hostfs", 0, directory)
    if config["modules_dir"]:  # where modprobe looks, that of the kernel's own calls included
        release = os.uname().release
        path = f"{root}/lib/modules/{release}"
        if not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(f"{config['modules_dir']}/{release}", path)
    os.chdir(root)
    system.mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    system.mount(None, "/", None, MS_REC | MS_SHARED)  # as systemd does it: ip-netns counts on that


def _settle(config: Config) -> None:
    """Set up what an init sets up: /run, /dev, clock, random seed, host name, loopback device, cgroups."""
    for path, mode in (("/run/lock", 0o1777), ("/run/netns", 0o755), ("/dev/net", 0o755)):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
    os.unlink("/dev/ptmx")  # devtmpfs's own is not that of our /dev/pts
    links = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx"))
    for name, target in links:
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(target, f"/dev/{name}")
    if abs(time.time() - config["time"]) > 30:
        time.clock_settime(time.CLOCK_REALTIME, config["time"])
    seed = bytes.fromhex(config["seed"])
    with open("/dev/random", "wb") as random:
        # struct rand_pool_info: entropy in bits, size, bytes
        fcntl.ioctl(random, _RNDADDENTROPY, struct.pack("ii", 8 * len(seed), len(seed)) + seed)
    socket.sethostname(config["hostname"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _, flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
    try:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as file:
            controllers = file.read().split()
        with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write(" ".join("+" + name for name in controllers))
    except OSError:
        pass  # a kernel without cgroups; who needs them will say so


def _run(config: Config, channel: int) -> int:
    """Run the command, relay its streams and signals, reap orphans; return its exit status."""
    wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    os.environ.clear()
    os.environ.update(config["env"])
    try:
        os.chdir(config["cwd"])
    except OSError as error:
        raise Refusal(f"cannot enter {config['cwd']}: {error.strerror}; name another directory with --cwd") from None
    out, out_writer = os.pipe()
    err, err_writer = os.pipe()
    stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    stdin_writer = -1
    if config["stdin"]:
        os.close(stdin)
        stdin, stdin_writer = os.pipe()
        os.set_blocking(stdin_writer, False)
    command = config["command"]
    try:
        pid = os.posix_spawnp(
            command[0],
            command,
            config["env"],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, out_writer, err_writer))
            ],
            setsid=True,
            setsigdef=[signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        _write(channel, frames.data(frames.STDERR, f"routed: {command[0]}: {error.strerror}\n".encode()))
        return 127 if error.errno == errno.ENOENT else 126
    for fd in (stdin, out_writer, err_writer):
        os.close(fd)
    return Relay(channel, wake, pid, {out: frames.STDOUT, err: frames.STDERR}, stdin_writer).run()


def _ignore(_signum: int, _frame: object) -> None:
    """A handler, so that the wake-up descriptor is written."""


class Relay:
    """Moves bytes between the channel and the command until the command and its output have ended."""

    def __init__(self, channel: int, wake: int, pid: int, outputs: dict[int, int], stdin: int) -> None:
        self._channel, self._wake, self._pid = channel, wake, pid
        self._outputs = outputs
        self._credit = dict.fromkeys(outputs.values(), frames.WINDOW)
        self._stdin = stdin
        self._input = frames.Inflow(frames.STDIN_WINDOW)
        self._frames = frames.Frames(synced=True)
        self._status: int | None = None
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._poll.register(wake, select.POLLIN)

    def run(self) -> int:
        """Return the command's exit status, 128 + N if signal N ended it."""
        while self._status is None or self._outputs:
            for fd, stream in self._outputs.items():
                self._watch(fd, select.POLLIN if self._credit[stream] else None)
            if self._stdin >= 0:
                # with nothing to write POLLERR alone is of interest, which always comes: the command closed its stdin
                self._watch(self._stdin, select.POLLOUT if self._input else 0)
            for fd, events in self._poll.poll():
                if fd == self._channel:
                    self._hear()
                elif fd == self._wake:
                    self._reap()
                elif fd == self._stdin:
                    self._feed(closed=bool(events & select.POLLERR))
                elif fd in self._outputs:
                    self._send(fd)
        return self._status

    def _watch(self, fd: int, events: int | None) -> None:
        if events is not None:
            self._poll.register(fd, events)
            return
        with suppress(KeyError):
            self._poll.unregister(fd)

    def _send(self, fd: int) -> None:
        stream = self._outputs[fd]
        data = os.read(fd, min(frames.CHUNK, self._credit[stream]))
        if data:
            self._credit[stream] -= len(data)
            _write(self._channel, frames.data(stream, data))
        else:
            self._poll.unregister(fd)
            del self._outputs[fd]
            os.close(fd)
            _write(self._channel, frames.data(stream, b""))

    def _hear(self) -> None:
        for kind, payload in self._frames.feed(os.read(self._channel, 65536)):
            if kind == frames.SIGNAL:
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, payload[0])
            elif kind == frames.CREDIT:
                stream, size = frames.credit_of(payload)
                self._credit[stream] += size
            elif kind == frames.DATA:
                if self._stdin < 0:  # nobody reads it: let it come and go
                    _write(self._channel, frames.credit(frames.STDIN, len(payload) - 1))
                    continue
                self._input.add(payload[1:])
                self._feed()

    def _feed(self, *, closed: bool = False) -> None:
        """Write what has come for the command's stdin; `closed`: the command has closed it."""
        try:
            size = os.write(self._stdin, self._input.head(frames.CHUNK)) if self._input else 0
        except BlockingIOError:
            return
        except BrokenPipeError:
            size, closed = 0, True
        credit = self._input.wrote(size)
        if closed:
            self._input.ended = True
            credit += self._input.drop()
        if credit:
            _write(self._channel, frames.credit(frames.STDIN, credit))
        if self._input.ended and not self._input:
            self._watch(self._stdin, None)
            os.close(self._stdin)
            self._stdin = -1

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 512)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # what it left running, so that the pipes end

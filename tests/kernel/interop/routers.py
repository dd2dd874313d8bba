"""Real routers as fixtures: one vocabulary for what a router shall do, and for what its own CLI says that it did.

A test describes a router by `Setup` and reads what it knows as `Seen`. How that is written and read is each router's
own module: `bird`, `frr`, `gobgp`. Each router has a network namespace of its own, so that it listens on port 179 and
keeps its stock behaviour.
"""

from __future__ import annotations

import abc
import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from tests.kernel.agent.world import Namespace, run
from tests.waiting import until


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a router originates; without `next_hop` it is the router itself."""

    prefix: str
    communities: tuple[str, ...] = ()
    med: int | None = None
    next_hop: str | None = None

    @property
    def version(self) -> int:
        return 6 if ":" in self.prefix else 4


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A session as the router is told to have it. `families`: 4, 6 or both. `client`: the router reflects for it.

    `local_as`: another AS than the router's own towards this one; for BIRD only. `add_path`: send all paths (RFC 7911).
    `restart_time`: graceful restart (RFC 4724), None without.
    """

    address: str
    remote_as: int
    local_as: int | None = None
    families: tuple[int, ...] = (4,)
    client: bool = False
    password: str | None = None
    ttl_security: bool = False
    passive: bool = False
    add_path: bool = False
    extended_next_hop: bool = False
    restart_time: int | None = None
    max_prefixes: int | None = None
    hold_time: int = 90
    bfd: bool = False

    @property
    def version(self) -> int:
        return ip_address(self.address).version


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All of a router's configuration; its addresses are those of its namespace."""

    asn: int
    neighbors: tuple[Neighbor, ...]
    routes: tuple[Route, ...] = ()

    def neighbor(self, address: str) -> Neighbor:
        return next(each for each in self.neighbors if each.address == address)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A path as the router's CLI prints it. An attribute that it does not print is None."""

    next_hop: str
    as_path: tuple[int, ...] = ()
    communities: frozenset[str] = frozenset()
    local_pref: int | None = None
    med: int | None = None
    originator: str | None = None
    cluster_list: tuple[str, ...] = ()
    stale: bool = False


@dataclass
class Place:
    """Where a router stands: its namespace on the common subnet, with an address of both families."""

    namespace: Namespace
    directory: Path
    address: str
    address6: str

    def local(self, version: int) -> str:
        return self.address if version == 4 else self.address6


class Router(abc.ABC):
    """A running router. `start` may be called again after `stop` or `kill`; what was set up is forgotten then."""

    kind: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self.place = place
        self.setup: Setup | None = None
        self.log = place.directory / f"{self.kind}.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    # ---- what each router does in its own way

    @abc.abstractmethod
    def _launch(self, setup: Setup, *, restarting: bool) -> None:
        """Start the daemons; `restarting`: in graceful restart, with the R bit where the router can."""

    @abc.abstractmethod
    def change(self, setup: Setup) -> None:
        """Go on with `setup`; sessions that did not change stay up. Routes are not changed by this."""

    @abc.abstractmethod
    def state(self, neighbor: str) -> str:
        """The session's state in the router's own words."""

    @abc.abstractmethod
    def last_error(self, neighbor: str) -> str:
        """Why the session went down last, in the router's own words; empty if it never did."""

    @abc.abstractmethod
    def paths(self, neighbor: str) -> dict[str, list[Seen]]:
        """What `neighbor` announced and the router took, by prefix."""

    @abc.abstractmethod
    def updates(self, neighbor: str) -> int:
        """How many UPDATEs, or routes in them, came from `neighbor` so far: it only grows while the session is up."""

    @abc.abstractmethod
    def announce(self, *routes: Route) -> None:
        """Originate these, too."""

    @abc.abstractmethod
    def withdraw(self, *routes: Route) -> None:
        """Originate these no longer."""

    @abc.abstractmethod
    def ask_refresh(self, neighbor: str) -> None:
        """Send ROUTE-REFRESH to `neighbor`."""

    @abc.abstractmethod
    def resend(self, neighbor: str) -> None:
        """Announce everything to `neighbor` again; with BoRR and EoRR where the router can."""

    @abc.abstractmethod
    def reset(self, neighbor: str) -> None:
        """Close the session by a NOTIFICATION; it may come back."""

    @abc.abstractmethod
    def shut(self, neighbor: str) -> None:
        """Administrative shutdown."""

    # ---- common

    def start(self, setup: Setup, *, restarting: bool = False) -> None:
        self.setup = setup
        self._launch(setup, restarting=restarting)

    def routes(self, neighbor: str) -> dict[str, Seen]:
        """`paths` where there is one for each prefix."""
        return {prefix: paths[0] for prefix, paths in self.paths(neighbor).items()}

    def established(self, neighbor: str) -> bool:
        return self.state(neighbor).lower().startswith("establ")

    def kill(self) -> None:
        """SIGKILL: a crash. Connections close without a NOTIFICATION."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it for good."""
        self.kill()

    def stop(self) -> None:
        """SIGTERM: what an operator's stop does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        # the last started first: no daemon sees another one go and tells its peers about it
        for process in reversed(self._processes):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _run(self, *argv: str) -> None:
        """Start a daemon in the foreground, its output in the log."""
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    self.place.namespace.argv(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=self.place.directory,
                )
            )  # fmt: skip

    def _require_alive(self) -> bool:
        """True; AssertionError with the log's end if a daemon ended by itself."""
        for process in self._processes:
            assert process.poll() is None, f"{process.args}: ended\n{self.log.read_text()[-2000:]}"
        return True

    def _cli(self, *argv: str, check: bool = True) -> str:
        return run(*self.place.namespace.argv(*argv), check=check)


def decoded(text: str) -> Any:
    """JSON, or an empty mapping where a CLI printed nothing or a complaint."""
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    return json.loads(text[start:]) if start >= 0 else {}


def objects(text: str) -> list[Any]:
    """The JSON objects that stand one behind the other in `text`, whatever is between them."""
    found, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = text.find("{", end)
    return found


class Subnet:
    """One bridge, 10.99.0.0/24 and fd99::/64, and the places that are plugged into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.switch = Namespace("s")
        self._namespaces = [self.switch]
        self.switch.ip("link", "add", "br0", "up", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")

    def place(self, number: int, name: str) -> Place:
        namespace = Namespace(name[:8])
        self._namespaces.append(namespace)
        # FRR sends router advertisements: nobody shall get a second IPv6 address from them
        run(*namespace.argv("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.all.accept_ra=0"))
        port, address, address6 = f"p{number}", f"10.99.0.{number}", f"fd99::{number:x}"
        batch = [
            f"link add {port} type veth peer name eth1 netns {namespace.name}",
            f"link set {port} master br0 up",
        ]
        run(*self.switch.argv("ip", "-batch", "-"), input="\n".join(batch) + "\n")
        batch = [
            f"address add {address}/24 dev eth1",
            f"address add {address6}/64 dev eth1 nodad",  # duplicate address detection keeps it unusable for a second
            "link set eth1 up",
        ]
        run(*namespace.argv("ip", "-batch", "-"), input="\n".join(batch) + "\n")
        directory = self.directory / f"{number}-{name}"
        directory.mkdir()
        return Place(namespace, directory, address, address6)

    def cut(self, number: int, *, up: bool = False) -> None:
        """Take the far end out of the bridge: the place's own link stays up, nothing arrives (or undo that)."""
        words = ("master", "br0") if up else ("nomaster",)
        self.switch.ip("link", "set", f"p{number}", *words)

    def carrier(self, number: int, *, up: bool) -> None:
        """Take away the carrier of a place's link, or give it back."""
        self.switch.ip("link", "set", f"p{number}", "up" if up else "down")

    def close(self) -> None:
        for namespace in self._namespaces:
            namespace.close()


def up(router: Router, *neighbors: str, seconds: float = 20.0) -> None:
    """Return when the router says that its sessions are up."""
    for neighbor in neighbors:
        until(lambda each=neighbor: router.established(each), seconds, lambda each=neighbor: _why(router, each))


def _why(router: Router, neighbor: str) -> str:
    log = router.log.read_text()[-2000:] if router.log.exists() else ""
    return f"{router.kind} {router.state(neighbor)} {router.last_error(neighbor)}\n{log}"


def numbers(words: Sequence[str]) -> tuple[int, ...]:
    """An AS path; sets in braces are flattened."""
    return tuple(int(word.strip("{},")) for word in words if word.strip("{},").isdigit())

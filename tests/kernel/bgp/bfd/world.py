"""The node under test and a router, joined twice: by one link, and through a third machine that forwards."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.waiting import until

NODE, ROUTER = "10.98.0.1", "10.98.0.2"
NODE6, ROUTER6 = "2001:db8:98::1", "2001:db8:98::2"
LOCAL_NODE, LOCAL_ROUTER = "fe80::98:1", "fe80::98:2"
FAR_NODE, FAR_ROUTER = "10.98.1.1", "10.98.2.2"  # with a hop between
_serial = itertools.count()


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=20).stdout


def holds(condition: Callable[[], Any], seconds: float) -> None:
    """`condition` is true for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(10)
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Agent:
    """The node's agent, see agent.py."""

    def __init__(self, inside: list[str], log: Path) -> None:
        self.log = log
        self.known: dict[str, Any] = {"pid": None, "fault": "", "changes": [], "sessions": {}}
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*inside, sys.executable, str(Path(__file__).with_name("agent.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.known = json.loads(line)

    def want(self, *sessions: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(sessions).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, condition: Callable[[dict[str, Any]], Any], seconds: float = 20.0) -> Any:
        return until(lambda: condition(self.known), seconds, lambda: f"{self.known}\n{self.log.read_text()[-3000:]}")

    def until_up(self, peer: str = ROUTER) -> None:
        self.until(lambda known: known["sessions"].get(peer, {}).get("up"))

    @property
    def changes(self) -> list[tuple[bool, bool, str]]:
        return [(change["up"], change["failed"], change["diagnostic"]) for change in self.known["changes"]]

    def close(self) -> None:
        """In order, as on SIGTERM."""
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process.wait(10)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)
        self.thread.join(5)  # it reads what is closed next
        end(self.process)


class Bird:
    """BIRD 2 at the other end."""

    def __init__(self, inside: list[str], directory: Path, *, interval: int = 100, bgp: str = "") -> None:
        self.control = directory / "bird.ctl"
        timers = f"interval {interval} ms; multiplier 3;"
        (directory / "bird.conf").write_text(f"""
            router id {ROUTER};
            protocol device {{}}
            protocol bfd {{
                interface "wire" {{ {timers} }};
                multihop {{ {timers} }};
                neighbor {NODE} dev "wire" local {ROUTER};
                neighbor {NODE6} dev "wire" local {ROUTER6};
                neighbor {LOCAL_NODE} dev "wire" local {LOCAL_ROUTER};
                neighbor {FAR_NODE} local {FAR_ROUTER} multihop yes;
            }}
            {bgp}""")
        files = ["-c", str(directory / "bird.conf"), "-s", str(self.control), "-P", str(directory / "bird.pid")]
        self.process = subprocess.Popen([*inside, "bird", "-f", *files])
        until(self.control.exists)

    def session(self, peer: str = NODE) -> tuple[str, str, str, str]:
        """State, since when, interval and timeout."""
        shown = self.ask("show", "bfd", "sessions")
        found = re.search(rf"^{peer} +\S+ +(\w+) +(\S+) +(\S+) +(\S+)", shown, re.MULTILINE)
        return (found[1], found[2], found[3], found[4]) if found else ("", "", "", "")

    def up(self, peer: str = NODE) -> bool:
        return self.session(peer)[0] == "Up"

    def ask(self, *command: str) -> str:
        return run("birdc", "-s", str(self.control), *command, check=False)

    def kill(self) -> None:
        end(self.process)


class Frr:
    """FRR's bfdd and the zebra it needs, with a /run and /var/tmp of their own."""

    SCRIPT = """
        mount -t tmpfs none /run; mount -t tmpfs none /var/tmp; mkdir /run/frr; chown frr:frr /run/frr
        printf '%s\\n' "$1" >/run/frr/bfdd.conf; : >/run/frr/zebra.conf
        /usr/lib/frr/zebra -f /run/frr/zebra.conf &
        while [ ! -S /run/frr/zserv.api ]; do sleep 0.05; done
        [ -z "$2" ] || { printf '%s\\n' "$2" >/run/frr/bgpd.conf; /usr/lib/frr/bgpd -f /run/frr/bgpd.conf & }
        exec /usr/lib/frr/bfdd -f /run/frr/bfdd.conf
    """

    def __init__(self, inside: list[str], log: Path, *, interval: int = 100, bgp: str = "") -> None:
        timers = f"  receive-interval {interval}\n  transmit-interval {interval}\n  detect-multiplier 3\n"
        peers = (
            f"peer {NODE} interface wire",
            f"peer {NODE6} local-address {ROUTER6} interface wire",
            f"peer {LOCAL_NODE} local-address {LOCAL_ROUTER} interface wire",
            f"peer {FAR_NODE} multihop local-address {FAR_ROUTER}",
        )
        text = "bfd\n" + "".join(f" {peer}\n{timers} exit\n" for peer in peers)
        # the shell is the first process of a PID namespace: no daemon survives it
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*inside, *apart, "sh", "-c", self.SCRIPT, "sh", text, bgp], stdout=output, stderr=output
            )
        self.log = log
        until(lambda: len(self.peers()) == 4, what=log.read_text)

    def vtysh(self, *commands: str) -> str:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        options = [word for command in commands for word in ("-c", command)]
        return run("nsenter", f"--target={children[0]}", "--mount", "vtysh", *options, check=False) if children else ""

    def peers(self) -> dict[str, dict[str, Any]]:
        try:
            return {peer["peer"]: peer for peer in json.loads(self.vtysh("show bfd peers json"))}
        except json.JSONDecodeError:
            return {}

    def up(self, peer: str = NODE) -> bool:
        return bool(self.peers().get(peer, {}).get("status") == "up")

    def kill(self) -> None:
        end(self.process)


class World:
    """Three network namespaces."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        mark = f"rtdbfd{os.getpid()}x{next(_serial)}"
        self.names = {name: f"{mark}{name}" for name in ("node", "router", "hop")}
        self.started: list[Agent | Bird | Frr] = []

    def inside(self, name: str, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.names[name]}", *command]

    def ip(self, name: str, *arguments: str) -> None:
        run(*self.inside(name, "ip", *arguments))

    def up(self) -> None:
        for name in self.names.values():
            run("ip", "netns", "add", name)
        self.wire()
        self._link("node", "far", "hop", "tonode")
        self._link("router", "far", "hop", "torouter")
        for name, address, device in (
            ("node", f"{FAR_NODE}/24", "far"),
            ("hop", "10.98.1.9/24", "tonode"),
            ("router", f"{FAR_ROUTER}/24", "far"),
            ("hop", "10.98.2.9/24", "torouter"),
        ):
            self.ip(name, "address", "add", address, "dev", device)
        self.ip("node", "route", "add", "10.98.2.0/24", "via", "10.98.1.9")
        self.ip("router", "route", "add", "10.98.1.0/24", "via", "10.98.2.9")
        run(*self.inside("hop", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"))

    def wire(self) -> None:
        """The link between node and router."""
        self._link("node", "wire", "router", "wire")
        for name, v4, *v6 in (("node", NODE, NODE6, LOCAL_NODE), ("router", ROUTER, ROUTER6, LOCAL_ROUTER)):
            self.ip(name, "address", "add", f"{v4}/24", "dev", "wire")
            for address in v6:
                self.ip(name, "address", "add", f"{address}/64", "dev", "wire", "nodad")

    def _link(self, one: str, device: str, other: str, far_device: str) -> None:
        self.ip(one, "link", "add", device, "type", "veth", "peer", "name", far_device, "netns", self.names[other])
        self.ip(one, "link", "set", device, "up")
        self.ip(other, "link", "set", far_device, "up")

    def mute(self, name: str, peer: str) -> None:
        """What `name` sends to `peer` gets lost, without a sign on either side."""
        self.ip(name, "neighbour", "replace", peer, "lladdr", "02:00:00:00:00:99", "dev", "wire", "nud", "permanent")

    def unmute(self, name: str, peer: str) -> None:
        self.ip(name, "neighbour", "delete", peer, "dev", "wire")

    def agent(self) -> Agent:
        self.started.append(made := Agent(self.inside("node"), self.directory / "agent.log"))
        return made

    def bird(self, **options: Any) -> Bird:
        self.started.append(made := Bird(self.inside("router"), self.directory, **options))
        return made

    def frr(self, **options: Any) -> Frr:
        self.started.append(made := Frr(self.inside("router"), self.directory / "frr.log", **options))
        return made

    def down(self) -> None:
        for each in self.started:
            with contextlib.suppress(Exception):  # the namespaces must go in any case
                each.kill()
        for name in self.names.values():
            run("ip", "netns", "delete", name, check=False)

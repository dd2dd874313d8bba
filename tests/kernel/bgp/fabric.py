"""A small fabric: the node under test and two BIRD routers, each in its own network namespace, on one bridge."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

NODE = "10.99.0.1"
A = "10.99.0.2"
B = "10.99.0.3"
_serial = itertools.count()


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=20).stdout


def until(condition: Callable[[], Any], seconds: float = 20.0, what: Callable[[], object] = lambda: "") -> Any:
    """The first true value of `condition`; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.02)
    return value


def inside(namespace: str, *command: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]


class Running:
    """A started program that is ended by its own process id."""

    def __init__(self, *command: str, **options: Any) -> None:
        self.process = subprocess.Popen(command, **options)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(10)


class Bird:
    """A router: real BIRD 2 with one BGP session towards the node."""

    def __init__(self, namespace: str, directory: Path, address: str) -> None:
        self.namespace, self.directory, self.address = namespace, directory, address
        self.control = directory / "bird.ctl"
        self.running: Running | None = None

    def start(self, *, asn: int, node_asn: int, routes: list[str], bgp: str = "", recover: bool = False) -> None:
        static = " ".join(f"route {route} blackhole;" for route in routes)
        (self.directory / "bird.conf").write_text(f"""
            router id {self.address};
            protocol device {{}}
            protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; graceful restart; }}
            protocol static {{ ipv4; {static} }}
            protocol bgp node {{
                local {self.address} as {asn};
                neighbor {NODE} as {node_asn};
                connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;
                ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
                {bgp or "graceful restart yes; graceful restart time 60;"}
            }}""")
        paths = ["-c", str(self.directory / "bird.conf"), "-s", str(self.control), "-P", f"{self.directory}/pid"]
        self.running = Running(*inside(self.namespace, "bird", "-f", *paths, *(["-R"] if recover else [])))
        until(self.control.exists)

    def ask(self, *command: str) -> str:
        return run("birdc", "-s", str(self.control), *command, check=False)

    def routes(self) -> dict[str, str]:
        """Prefix and next hop of what the node announced, with `stale` where BIRD says so."""
        found: dict[str, str] = {}
        prefix = ""
        for line in self.ask("show", "route", "protocol", "node", "all").splitlines():
            if line[:1].isdigit() and "/" in line:
                prefix = line.split()[0]
                found[prefix] = "stale" if "s]" in line.split("[", 1)[1].split()[0] else ""
            elif "BGP.next_hop" in line:
                found[prefix] = (line.split(":")[1].strip() + " " + found[prefix]).strip()
        return found

    def established(self) -> bool:
        return "Established" in self.ask("show", "protocols", "node")

    def kill(self) -> None:
        if self.running:
            self.running.kill()

    @contextlib.contextmanager
    def watched(self) -> Generator[list[str]]:
        """The route events of this router's kernel while the block runs."""
        seen: list[str] = []
        monitor = Running(
            *inside(self.namespace, "ip", "-4", "monitor", "route"), stdout=subprocess.PIPE, text=True, bufsize=1
        )
        stdout = monitor.process.stdout
        assert stdout
        thread = threading.Thread(target=lambda: seen.extend(stdout), daemon=True)
        thread.start()
        probe = ["ip", "route", "{}", "blackhole", "192.0.2.1"]
        try:
            self._mark(probe, seen)
            seen.clear()
            yield seen
            self._mark(probe, seen)
        finally:
            monitor.kill(signal.SIGTERM)
            thread.join(5)
            stdout.close()

    def _mark(self, probe: list[str], seen: list[str]) -> None:
        """Make an event of our own and wait until it was seen: all earlier ones were, too."""
        before = len(seen)

        def marked() -> bool:
            for verb in ("add", "del"):
                run(*inside(self.namespace, *(word.format(verb) for word in probe)), check=False)
            return any("192.0.2.1" in line for line in seen[before:])

        until(marked)


class Node:
    """The node under test, see node.py."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "node.log"
        self.known: dict[str, Any] = {"best": {}, "peers": {}, "pid": None, "fault": "", "synced": False, "changes": 0}
        self.history: list[dict[str, Any]] = []
        with self.log.open("ab") as log:
            self.running = Running(
                *inside(namespace, sys.executable, str(Path(__file__).with_name("node.py")), str(directory / "run")),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.running.process.stdout
        for line in self.running.process.stdout:
            self.known = json.loads(line)
            self.history.append(self.known)

    def want(self, *resources: dict[str, Any], node: str = "node", **options: int) -> None:
        self.order(node=node, resources=[{"apiVersion": "projectcalico.org/v3", **r} for r in resources], **options)

    def want_in_turn(self, *wants: tuple[dict[str, Any], ...]) -> None:
        """One want after the other, all of them read before the speaker has its turn."""
        orders = [
            {"node": "node", "resources": [{"apiVersion": "projectcalico.org/v3", **r} for r in resources]}
            for resources in wants
        ]
        self._send(*orders)

    def order(self, **order: Any) -> None:
        self._send(order)

    def _send(self, *orders: dict[str, Any]) -> None:
        assert self.running.process.stdin
        self.running.process.stdin.write(b"".join(json.dumps(order).encode() + b"\n" for order in orders))
        self.running.process.stdin.flush()

    def until(self, condition: Callable[[dict[str, Any]], Any], seconds: float = 20.0) -> Any:
        return until(lambda: condition(self.known), seconds, lambda: f"{self.known}\n{self.log.read_text()[-3000:]}")

    def state(self, peer: str) -> str:
        return str(self.known["peers"].get(peer, {}).get("state"))

    def best(self) -> dict[str, str]:
        return {prefix: path["via"] for prefix, path in self.known["best"].items()}

    def close(self) -> None:
        if self.running.process.stdin and not self.running.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.running.process.stdin.close()
        try:
            self.running.process.wait(10)
        finally:
            self.running.kill()
            self.thread.join(5)
            assert self.running.process.stdout
            self.running.process.stdout.close()


class Fabric:
    """Namespaces with one bridge between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        mark = f"rtdbgp{os.getpid()}x{next(_serial)}"
        self.names = {NODE: f"{mark}n", A: f"{mark}a", B: f"{mark}b"}
        self.birds: list[Bird] = []
        self.nodes: list[Node] = []

    def up(self) -> None:
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run(*inside(name, "ip", "link", "set", "lo", "up"))
        node = self.names[NODE]
        run(*inside(node, "ip", "link", "add", "br0", "type", "bridge"))
        for address in (A, B):
            end = f"to{address.rsplit('.', 1)[1]}"
            peer = self.names[address]
            run(*inside(node, "ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", peer))
            run(*inside(node, "ip", "link", "set", end, "master", "br0", "up"))
            run(*inside(peer, "ip", "address", "add", f"{address}/24", "dev", "eth0"))
            run(*inside(peer, "ip", "link", "set", "eth0", "up"))
        run(*inside(node, "ip", "address", "add", f"{NODE}/24", "dev", "br0"))
        run(*inside(node, "ip", "link", "set", "br0", "up"))

    def bird(self, address: str) -> Bird:
        directory = self.directory / address
        directory.mkdir()
        self.birds.append(Bird(self.names[address], directory, address))
        return self.birds[-1]

    def node(self, address: str = NODE) -> Node:
        directory = self.directory / address
        directory.mkdir(exist_ok=True)
        self.nodes.append(Node(self.names[address], directory))
        return self.nodes[-1]

    def down(self) -> None:
        for end in [node.close for node in self.nodes] + [bird.kill for bird in self.birds]:
            with contextlib.suppress(Exception):  # the namespaces must go in any case
                end()
        for name in self.names.values():
            run("ip", "netns", "delete", name, check=False)

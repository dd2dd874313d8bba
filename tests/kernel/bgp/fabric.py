"""A small fabric: the node under test and two BIRD routers, each in its own network namespace, on one bridge."""

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
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import until

NODE, A, B = "10.99.0.1", "10.99.0.2", "10.99.0.3"
NODE6, A6, B6 = "fd99::1", "fd99::2", "fd99::3"
ASN = 64512  # of the node, and of a peer with which it speaks iBGP
_serial = itertools.count()


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=20).stdout


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

    def start(
        self,
        *,
        asn: int,
        node_asn: int = ASN,
        routes: Sequence[str] = (),
        bgp: str = "",
        channel: str = "",
        ends: tuple[str, str] | None = None,
        recover: bool = False,
    ) -> None:
        """Run, with `routes` to announce.

        `bgp` is in place of graceful restart, `channel` more for the IPv4 channel, `ends` are its address and ours, if
        others than usual.
        """
        static = {
            version: " ".join(f"route {route} blackhole;" for route in routes if (":" in route) == (version == 6))
            for version in (4, 6)
        }
        own, ours = ends or (self.address, NODE)
        export = "export where source = RTS_STATIC; next hop self;"
        (self.directory / "bird.conf").write_text(f"""
            router id {self.address};
            protocol device {{}}
            protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; graceful restart; }}
            protocol static {{ ipv4; {static[4]} }}
            protocol static {{ ipv6; {static[6]} }}
            protocol bgp node {{
                local {own} as {asn};
                neighbor {ours} as {node_asn};
                connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;
                ipv4 {{ import all; {export} {channel} }};
                ipv6 {{ import all; {export} }};
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
            if re.match(r"[0-9a-f][0-9a-f.:]*/\d", line):
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


class Process:
    """A node under test: a script that obeys orders on its stdin and says on its stdout what it knows."""

    def __init__(self, namespace: str, directory: Path, script: str, *arguments: str, known: dict[str, Any]) -> None:
        self.directory = directory
        self.log = directory / "node.log"
        self.known = known
        self.history: list[dict[str, Any]] = []
        with self.log.open("ab") as log:
            self.running = Running(
                *inside(namespace, sys.executable, str(Path(__file__).with_name(script)), *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.running.process.stdout
        for line in self.running.process.stdout:
            self.history.append(json.loads(line))
            self.known = self.history[-1]  # after it: who waits for something known finds it in the history

    def order(self, **order: Any) -> None:
        self.orders(order)

    def orders(self, *orders: dict[str, Any]) -> None:
        """One after the other, all of them read before the speaker has its turn."""
        assert self.running.process.stdin
        self.running.process.stdin.write(b"".join(json.dumps(order).encode() + b"\n" for order in orders))
        self.running.process.stdin.flush()

    def until(self, condition: Callable[[dict[str, Any]], Any], seconds: float = 20.0) -> Any:
        """The first true value of `condition` of what is known; AssertionError after `seconds`, or when it has died."""

        def told() -> Any:
            alive = self.running.process.poll() is None
            value = condition(self.known)
            assert value or alive, self.log.read_text()[-3000:]
            return value

        return until(told, seconds, lambda: f"{self.known}\n{self.log.read_text()[-3000:]}")

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


class Node(Process):
    """A node with a speaker and no RIB, see node.py. `mode` is that of the launcher."""

    def __init__(self, namespace: str, directory: Path, address: str, mode: str) -> None:
        empty: dict[str, Any] = {"peers": {}, "pid": None, "fault": "", "note": None, "refused": "", "refreshes": []}
        super().__init__(namespace, directory, "node.py", str(directory / "run"), mode, known=empty)
        self.address = address

    def want(self, *peers: dict[str, Any], **common: Any) -> None:
        """Sessions with these peers; what is not said is the node's own."""
        self.order(sessions=[self.session(**common, **peer) for peer in peers])

    def session(self, **fields: Any) -> dict[str, Any]:
        ours = {"local": self.address, "local_as": ASN, "router_id": NODE if self.address == NODE6 else self.address}
        return {"name": f"to {fields['peer']}"} | ours | fields

    def peer(self, address: str) -> dict[str, Any]:
        nothing: dict[str, Any] = {
            "state": "",
            "ups": 0,
            "reason": "",
            "ending": "",
            "codes": [],
            "routes": {},
            "ended": [],
            "downs": [],
        }
        return dict(self.known["peers"].get(address, nothing))

    def down(self, address: str, ending: str, code: int = 0, subcode: int = 0, words: str = "") -> None:
        """Wait until the session with a peer has ended, or an attempt at it, for this reason."""
        wanted = [ending, code, subcode]
        self.until(lambda _: any(down[:3] == wanted and words in down[3] for down in self.peer(address)["downs"]))

    def routes(self, address: str) -> dict[str, str]:
        """What a peer whose session is up has announced, by prefix: next hops."""
        peer = self.peer(address)
        return dict(peer["routes"]) if peer["state"] == "up" else {}


class RibNode(Process):
    """A node with all of the agent's BGP, see rib_node.py. `name` is that of its Node."""

    def __init__(self, namespace: str, directory: Path, mode: str, name: str) -> None:
        empty: dict[str, Any] = {"best": {}, "peers": {}, "pid": None, "fault": "", "synced": False, "changes": 0}
        super().__init__(namespace, directory, "rib_node.py", str(directory / "run"), mode, name, known=empty)

    def want(self, *resources: dict[str, Any]) -> None:
        self.orders(self.wanting(*resources))

    def wanting(self, *resources: dict[str, Any]) -> dict[str, Any]:
        """The order to adopt a cluster of these."""
        return {"resources": [{"apiVersion": "projectcalico.org/v3", **each} for each in resources]}

    def peer(self, address: str) -> dict[str, Any]:
        """What is known of a peer; empty as long as it is not wanted."""
        return dict(self.known["peers"].get(address, {}))

    def best(self) -> dict[str, str]:
        return {prefix: path["via"] for prefix, path in self.known["best"].items()}


class Fabric:
    """Namespaces with one bridge between them."""

    def __init__(self, directory: Path, mode: str = "seams") -> None:
        self.directory = directory
        self.mode = mode
        mark = f"rtdbgp{os.getpid()}x{next(_serial)}"
        self.names = {NODE: f"{mark}n", A: f"{mark}a", B: f"{mark}b"}
        self.birds: list[Bird] = []
        self.nodes: list[Process] = []

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
            run(*inside(peer, "ip", "link", "set", "eth0", "up"))
            self.address(peer, "eth0", address)
        run(*inside(node, "ip", "link", "set", "br0", "up"))
        self.address(node, "br0", NODE)

    def address(self, namespace: str, device: str, address: str) -> None:
        run(*inside(namespace, "ip", "address", "add", f"{address}/24", "dev", device))
        six = f"fd99::{address.rsplit('.', 1)[1]}/64"
        run(*inside(namespace, "ip", "address", "add", six, "dev", device, "nodad"))

    def bird(self, address: str) -> Bird:
        directory = self.directory / address
        directory.mkdir()
        self.birds.append(Bird(self.names[address], directory, address))
        return self.birds[-1]

    def node(self, at: str = NODE, *, local: str = "", mode: str = "") -> Node:
        directory = self.directory / at
        directory.mkdir(exist_ok=True)
        node = Node(self.names[at], directory, local or at, mode or self.mode)
        self.nodes.append(node)
        return node

    def rib_node(self, at: str = NODE, name: str = "node") -> RibNode:
        directory = self.directory / at
        directory.mkdir(exist_ok=True)
        node = RibNode(self.names[at], directory, self.mode, name)
        self.nodes.append(node)
        return node

    def down(self) -> None:
        for end in [node.close for node in self.nodes] + [bird.kill for bird in self.birds]:
            with contextlib.suppress(Exception):  # the namespaces must go in any case
                end()
        for name in self.names.values():
            run("ip", "netns", "delete", name, check=False)

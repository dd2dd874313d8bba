"""Nodes with real agents, pods wired by the real plugin and a BIRD router, on one subnet; all in network namespaces."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel.nexthops import leading
from tests.waiting import until

from routed_cni.install import write_plugin

ROUTER = "10.99.0.100"
POOL = {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16", "ipipMode": "CrossSubnet"}}
TO_ROUTER = {"kind": "BGPPeer", "metadata": {"name": "tor"}, "spec": {"peerIP": ROUTER, "asNumber": 65000}}
MARK = "192.0.2.1"
_serial = itertools.count(1)


def run(*command: str, check: bool = True, **options: Any) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **options)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def member(number: int, **spec: Any) -> dict[str, Any]:
    bgp = {"ipv4Address": f"10.99.0.{number}/24"}
    return {"kind": "Node", "metadata": {"name": f"n{number}"},
            "spec": {"bgp": bgp, "podCIDRs": [f"10.244.{number}.0/24"], **spec}}  # fmt: skip


class Namespace:
    """A network namespace, and `ip` in it."""

    def __init__(self, name: str) -> None:
        self.name = f"rtdag{os.getpid()}x{next(_serial)}{name}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def argv(self, *command: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def ip(self, *words: str, check: bool = True) -> str:
        return run(*self.argv("ip", *words), check=check)

    def look(self, *words: str) -> Any:
        out = self.ip("-j", *words)
        return json.loads(out) if out.strip() else []

    def ours(self) -> set[str]:
        """Prefix and next hop or device of the routes of ours."""
        return {
            f"{route['dst']} {route.get('gateway') or route.get('dev') or route.get('type')}"
            for route in leading(self.look("route", "show", "proto", "114"), self.look("nexthop", "show"))
        }

    @contextlib.contextmanager
    def watched(self) -> Generator[list[str]]:
        """The route events of this namespace while the block runs, with their times."""
        seen: list[str] = []
        monitor = subprocess.Popen(
            self.argv("stdbuf", "-oL", "ip", "-4", "-ts", "monitor", "route"), stdout=subprocess.PIPE, text=True
        )
        assert monitor.stdout
        stdout = monitor.stdout
        thread = threading.Thread(target=lambda: seen.extend(stdout), daemon=True)
        thread.start()
        try:
            self._mark(seen)
            seen.clear()
            yield seen
            self._mark(seen)
        finally:
            monitor.terminate()
            monitor.wait()
            thread.join(5)
            stdout.close()
            seen[:] = [line for line in seen if MARK not in line]

    def _mark(self, seen: list[str]) -> None:
        """Make an event of our own and wait until it was seen: all earlier ones were, too."""
        before = len(seen)

        def marked() -> bool:
            for verb in ("add", "del"):
                self.ip("route", verb, "blackhole", MARK, check=False)
            return any(MARK in line for line in seen[before:])

        until(marked)

    def close(self) -> None:
        run("ip", "netns", "del", self.name, check=False)


@dataclass(frozen=True)
class Ended:
    status: int
    output: str

    @property
    def complaints(self) -> list[str]:
        """What is for the operator: the lines of the command itself, and log lines above `info`."""
        return [line for line in self.output.splitlines() if line.startswith("error:") or " ERROR " in line]


class Node:
    """A node: its namespace, its agent, its files."""

    def __init__(self, number: int, namespace: Namespace, directory: Path, store: str, **settings: Any) -> None:
        self.number, self.namespace, self.directory, self.store = number, namespace, directory, store
        self.settings = {
            "node": f"n{number}", "store": store, "run_dir": str(directory / "run"),
            "state_dir": str(directory / "state"), **settings,
        }  # fmt: skip
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.record: Path | None = None  # where the agent is to write what it is told
        self._notified: socket.socket | None = None
        directory.mkdir()
        self.plugin = write_plugin(directory / "bin", directory / "run/cni.sock", connect_seconds=10.0)

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def exabgp(self) -> int:
        """The process id of the agent's ExaBGP; 0 while there is none."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def start(self, **settings: Any) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**self.settings, **settings}.items()]
        (self.directory / "agent.toml").write_text("\n".join(lines) + "\n")
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(path))
        recording = ("--record", str(self.record)) if self.record else ()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv("agent", *recording), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
            )  # fmt: skip

    def _argv(self, *words: str) -> list[str]:
        return self.namespace.argv(
            sys.executable, "-m", "routed", *words, "--config", str(self.directory / "agent.toml")
        )

    def told(self, seconds: float = 0.0) -> str:
        """What the agent told the service manager within `seconds`; empty for nothing."""
        assert self._notified
        self._notified.settimeout(seconds)
        try:
            return self._notified.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return ""

    def ready(self, seconds: float = 20.0) -> None:
        assert self.told(seconds) == "READY=1", self.log.read_text()[-3000:]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        assert self.process
        self.process.send_signal(number)
        return self.ended()

    def ended(self, seconds: float = 20.0) -> Ended:
        """Wait for its end."""
        assert self.process
        try:
            status = self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
            if self._notified:
                self._notified.close()
        return Ended(status, self.log.read_text())

    def close(self) -> None:
        if self.process:
            self.stop(signal.SIGKILL)

    def routed(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._argv(*words), capture_output=True, text=True, check=False, timeout=60)

    def command(self, *words: str) -> subprocess.Popen[str]:
        """The same, running beside the test."""
        return subprocess.Popen(self._argv(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def status(self) -> Any:
        done = self.routed("node", "status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def http(self, path: str, port: int = 9099) -> tuple[int, str]:
        url = f"http://127.0.0.1:{port}{path}"
        program = (
            "import sys, http.client as h; c = h.HTTPConnection('127.0.0.1', int(sys.argv[1]));"
            "c.request('GET', sys.argv[2]); a = c.getresponse(); print(a.status); print(a.read().decode(), end='')"
        )
        out = run(*self.namespace.argv(sys.executable, "-c", program, str(port), path))
        status, _, body = out.partition("\n")
        assert status.isdigit(), url
        return int(status), body

    def cni(self, command: str, container: str, netns: str) -> tuple[int, Any]:
        """Execute the plugin as a runtime does; exit status and the decoded answer."""
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.plugin.parent),
        }  # fmt: skip
        network = json.dumps({"cniVersion": "1.1.0", "name": "routed", "type": "routed-cni"})
        done = subprocess.run(
            [self.plugin], env=environment, input=network, capture_output=True, text=True, check=False, timeout=90
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def cpu_seconds(self) -> float:
        """Processor time that the agent alone has used."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def rss_mb(self) -> float:
        """Memory of the agent and its ExaBGP."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (self.pid, self.exabgp) if pid]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Pod:
    """A sandbox with an interface."""

    namespace: Namespace
    node: Node
    address: str

    @contextlib.contextmanager
    def pinging(self, other: Pod) -> Generator[list[int]]:
        """Ping `other` a hundred times a second while the block runs; afterwards the numbers without an answer."""
        lost: list[int] = []
        command = self.namespace.argv("stdbuf", "-oL", "ping", "-n", "-i", "0.01", other.address)
        ping = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert ping.stdout
        try:
            yield lost
        finally:
            ping.send_signal(signal.SIGINT)
            numbers = [int(found) for found in re.findall(r"icmp_seq=(\d+) ttl", ping.communicate(timeout=10)[0])]
        assert len(numbers) > 20
        lost += sorted(set(range(1, numbers[-1] + 1)) - set(numbers))

    def reaches(self, other: Pod) -> bool:
        command = self.namespace.argv("ping", "-n", "-c", "1", "-W", "1", other.address)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Router:
    """Real BIRD 2 in AS 65000, with an eBGP session to each node and its routes in its kernel."""

    def __init__(self, namespace: Namespace, directory: Path, nodes: list[int], announced: Mapping[str, str]) -> None:
        self.namespace = namespace
        self._control = directory / "bird.ctl"
        static = " ".join(f"route {prefix} blackhole;" for prefix in announced)
        hops = " ".join(f"if net = {prefix} then bgp_next_hop = {hop};" for prefix, hop in announced.items())
        sessions = "".join(
            f"""
            protocol bgp n{number} {{
                local {ROUTER} as 65000; neighbor 10.99.0.{number} as 64512;
                connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;
                ipv4 {{ import all; export filter {{ if source != RTS_STATIC then reject; {hops} accept; }}; }};
                graceful restart yes;
            }}"""
            for number in nodes
        )
        (directory / "bird.conf").write_text(
            f"""router id {ROUTER}; protocol device {{}}
            protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
            protocol static {{ ipv4; {static} }} {sessions}"""
        )
        command = namespace.argv(
            "bird", "-f", "-c", str(directory / "bird.conf"), "-s", str(self._control), "-P", str(directory / "pid")
        )
        self._process = subprocess.Popen(command)
        until(self._control.exists)

    def ask(self, *words: str) -> str:
        return run("birdc", "-s", str(self._control), *words, check=False)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class World:
    """One subnet, 10.99.0.0/24: a bridge and whoever is plugged into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = f"sqlite://{directory}/store.db"
        self._namespaces: list[Namespace] = []
        self._running: list[Node | Router] = []
        self.switch = self.namespace("s")
        self.switch.ip("link", "add", "br0", "up", "type", "bridge", "forward_delay", "0")

    def namespace(self, name: str) -> Namespace:
        made = Namespace(name)
        self._namespaces.append(made)
        return made

    def plugged(self, name: str, number: int) -> Namespace:
        made = self.namespace(name)
        self.switch.ip("link", "add", name, "type", "veth", "peer", "name", "eth1", "netns", made.name)
        self.switch.ip("link", "set", name, "master", "br0", "up")
        made.ip("address", "add", f"10.99.0.{number}/24", "dev", "eth1")
        made.ip("link", "set", "eth1", "up")
        return made

    def node(self, number: int, **settings: Any) -> Node:
        name = f"n{number}"
        made = Node(number, self.plugged(name, number), self.directory / name, self.store, **settings)
        self._running.append(made)
        return made

    def router(self, nodes: list[int], announced: Mapping[str, str]) -> Router:
        made = Router(self.plugged("tor", 100), self.directory, nodes, announced)
        self._running.append(made)
        return made

    def pod(self, node: Node) -> Pod:
        sandbox = self.namespace("p")
        status, answer = node.cni("ADD", sandbox.name, sandbox.path)
        assert status == 0, answer
        return Pod(sandbox, node, answer["ips"][0]["address"].removesuffix("/32"))

    def apply(self, *resources: dict[str, Any]) -> None:
        self._change("apply", *resources)

    def delete(self, *resources: dict[str, Any]) -> None:
        self._change("delete", *resources)

    def _change(self, verb: str, *resources: dict[str, Any]) -> None:
        text = "\n---\n".join(json.dumps({"apiVersion": "projectcalico.org/v3", **each}) for each in resources)
        run(sys.executable, "-m", "routed", verb, "-f", "-", "--store", self.store, input=text)

    def held(self) -> dict[str, list[str]]:
        """Block to the handles that hold an address of it, as the store has them."""
        import sqlite3  # a second reader of the store

        path = self.directory / "store.db"
        if not path.exists():
            return {}
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT key, value FROM kv WHERE key LIKE '/routed/v1/ipam/blocks/%'").fetchall()
        return {key.rsplit("/", 1)[1]: re.findall(r'"handle": ?"([^"]*)"', value.decode()) for key, value in rows}

    def close(self) -> None:
        for each in self._running:
            with contextlib.suppress(Exception):  # the namespaces must go in any case
                each.close()
        for namespace in self._namespaces:
            namespace.close()

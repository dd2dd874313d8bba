"""Where the BGP benchmark takes place: one subnet in network namespaces, simulated peers on it, and the receivers.

10.99.0.1 and up    simulated peers, all in the namespace that has the bridge
10.99.255.1, .2     nodes with our agent
10.99.255.11, .12   BIRD and GoBGP
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from bgp_peers import ASN, Bird, BirdFeeder, Gobgp
from harness import Json, Node, in_namespace, sh, wait_for
from simulator import Simulator

from routed.netlink.socket import inside

ROUTER_AS = 65000  # of a simulated peer that is no member
FEEDER = "10.99.255.13"
Resource = dict[str, Any]


def peer_address(number: int) -> str:
    """The address of the simulated peer of that number, from 1."""
    return str(IPv4Address("10.99.0.0") + number)


class Agent(Node):
    """A node with our agent, and what it tells over HTTP."""

    def __init__(self, name: str, namespace: str, directory: Path, address: str, store: str) -> None:
        super().__init__(name, namespace, directory)
        self.address = address
        # routes of a first start are written as they come, so that no figure waits for End-of-RIB
        (directory / "agent.toml").write_text(
            f'node = "{name}"\nstore = "{store}"\nrun_dir = "{directory}/run"\n'
            f'state_dir = "{directory}/state"\nbgp_sync_seconds = 1\nlog_level = "warning"\n'
        )

    def up(self) -> None:
        """Start it; it answers when this returns, and may have no session yet."""
        self._ready = self.start()  # nobody reads it, but the agent shall have somebody to tell
        wait_for(f"{self.name}'s agent", self._answers, 30)
        wait_for(f"{self.name}'s speaker", self._listens, 30)

    def down(self) -> None:
        """End it as a crash does, and take its routes out of the kernel, so that the next start is a first one."""
        self.crash()
        in_namespace(self.namespace, "ip", "route", "flush", "proto", "114")

    def crash(self) -> None:
        """SIGKILL."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
            self.agent = None
            self._ready.close()

    def _answers(self) -> bool:
        if self.agent is not None and self.agent.poll() is not None:
            raise SystemExit(f"bench: {self.name}: the agent ended:\n{self.log.read_text()[-2000:]}")
        try:
            self.bgp()
        except OSError:
            return False
        return True

    def _listens(self) -> bool:
        out = in_namespace(self.namespace, "ss", "-Hltn", "sport", "=", ":179")
        return bool(out.strip())

    def bgp(self) -> Json:
        """`/bgp/status`."""
        with inside(f"/run/netns/{self.namespace}"):
            plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with plug:
            plug.settimeout(30)
            plug.connect(("127.0.0.1", 9099))
            client = http.client.HTTPConnection("127.0.0.1", 9099)
            client.sock = plug
            client.request("GET", "/bgp/status")
            answer = client.getresponse()
            value: Json = json.loads(answer.read())
            return value

    def loc_rib(self) -> tuple[int, float]:
        """Prefixes in the Loc-RIB, and when it changed last, monotonic seconds of this machine."""
        table = self.bgp()["loc_rib"]
        return sum(table["prefixes"].values()), float(table["changed_at"])

    def processes(self) -> dict[str, int]:
        """Process ids of the agent and its children by what they are: agent, speaker, other."""
        assert self.agent is not None
        found, todo = {"agent": self.agent.pid}, [self.agent.pid]
        while todo:
            pid = todo.pop()
            children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            todo += children
            for child in children:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                found["speaker" if b"exabgp" in command else f"other {child}"] = child
        return found


def resident_mb(pid: int) -> float:
    """Resident set of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time that all threads of a process have used."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


class World:
    """The namespaces; `with` it everything goes."""

    def __init__(self, peers: int) -> None:
        self.prefix = f"rg{os.getpid()}"
        self.directory = Path(tempfile.mkdtemp(prefix="routed-bench-"))
        self._names: list[str] = []
        self._agents: list[Agent] = []
        self.outside = self._namespace("sim")
        commands = ["link add br0 up type bridge forward_delay 0"]
        commands += [f"address add {peer_address(number)}/16 dev br0" for number in range(1, peers + 1)]
        self._batch(self.outside, commands)
        self.simulator = Simulator(self.outside)
        self.bird = Bird(*self._plugged("bird", "10.99.255.11"))
        self.gobgp = Gobgp(*self._plugged("gobgp", "10.99.255.12"))
        self.feeder = BirdFeeder(*self._plugged("feeder", FEEDER), asn=ROUTER_AS)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.simulator.end()
        self.bird.stop()
        self.gobgp.stop()
        self.feeder.stop()
        for agent in self._agents:
            agent.crash()
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(self.directory)

    def agents(self, count: int, resources: Sequence[Resource], name: str) -> list[Agent]:
        """Nodes `r1` and up at 10.99.255.1 and up, sharing a new store that holds `resources`."""
        store = f"sqlite://{self.directory}/{name}.db"
        # JSON is YAML; one document each
        text = "\n---\n".join(json.dumps({"apiVersion": "projectcalico.org/v3", **each}) for each in resources)
        file = self.directory / f"{name}.yml"
        file.write_text(text)
        sh(sys.executable, "-m", "routed", "apply", "-f", str(file), "--store", store)
        made = []
        for number in range(1, count + 1):
            address = f"10.99.255.{number}"
            namespace = f"{self.prefix}-r{number}"
            if namespace not in self._names:
                self._plugged(f"r{number}", address)
            directory = self.directory / f"{name}-r{number}"
            directory.mkdir()
            made.append(Agent(f"r{number}", namespace, directory, address, store))
        self._agents += made
        return made

    def fib(self, namespace: str) -> int:
        """How many IPv4 prefixes are in the main table of a namespace's kernel."""
        with inside(f"/run/netns/{namespace}"):
            text = Path("/proc/thread-self/net/fib_triestat").read_text()
        main = text[text.index("Main:") :]
        return int(main.split("Prefixes:")[1].split()[0])

    def _namespace(self, name: str) -> str:
        full = f"{self.prefix}-{name}"
        sh("ip", "netns", "add", full)
        self._names.append(full)
        in_namespace(full, "ip", "link", "set", "lo", "up")
        return full

    def _plugged(self, name: str, address: str) -> tuple[str, str, Path]:
        namespace = self._namespace(name)
        self._batch(
            self.outside,
            [f"link add {name} type veth peer name eth1 netns {namespace}", f"link set {name} master br0 up"],
        )
        self._batch(namespace, [f"address add {address}/16 dev eth1", "link set eth1 up"])
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return namespace, address, directory

    def _batch(self, namespace: str, commands: Sequence[str]) -> None:
        argv = ["nsenter", f"--net=/run/netns/{namespace}", "ip", "-batch", "-"]
        subprocess.run(argv, input="\n".join(commands) + "\n", text=True, check=True, capture_output=True)


# ---- resources


def configuration(*, mesh: bool) -> list[Resource]:
    """AS 64512, and a pool that holds every prefix of the simulator."""
    pool = {"cidr": "20.0.0.0/8", "ipipMode": "Never"}
    return [
        {"kind": "BGPConfiguration", "metadata": {"name": "default"},
         "spec": {"asNumber": ASN, "nodeToNodeMeshEnabled": mesh}},
        {"kind": "IPPool", "metadata": {"name": "pods"}, "spec": pool},
    ]  # fmt: skip


def node(name: str, address: str, *, reflector: bool = False) -> Resource:
    """A member; a reflector has the cluster id 244.0.0.1 and a label."""
    bgp: Resource = {"ipv4Address": f"{address}/16"}
    if reflector:
        bgp["routeReflectorClusterID"] = "244.0.0.1"
    labels = {"role": "reflector" if reflector else "client"}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"bgp": bgp}}


def router(address: str) -> Resource:
    """A session of every node with a router."""
    name = f"to-{address.replace('.', '-')}"
    spec = {"peerIP": address, "asNumber": ROUTER_AS}
    return {"kind": "BGPPeer", "metadata": {"name": name}, "spec": spec}


def reflection(reflectors: int, clients: Sequence[str]) -> list[Resource]:
    """Reflectors `r1` and up that are ours, and clients at these addresses."""
    nodes = [node(f"r{number}", f"10.99.255.{number}", reflector=True) for number in range(1, reflectors + 1)]
    nodes += [node(f"c{number}", address) for number, address in enumerate(clients, 1)]
    chosen = "role == 'reflector'"
    spec = {"nodeSelector": chosen, "peerSelector": "all()"}
    return [
        *configuration(mesh=False), *nodes,
        {"kind": "BGPPeer", "metadata": {"name": "reflection"}, "spec": spec},
    ]  # fmt: skip

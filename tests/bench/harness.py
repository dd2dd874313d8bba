"""What benchmarks share: nodes in network namespaces on this kernel, figures, and how they are printed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routed.netlink.socket import inside

Json = dict[str, Any]


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def sh(*argv: str) -> str:
    """Run a program that must succeed; its stdout."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def in_namespace(name: str, *argv: str) -> str:
    """`sh` in a network namespace."""
    return sh("nsenter", f"--net=/run/netns/{name}", *argv)


def wait_for(what: str, check: Callable[[], bool], seconds: float, pause: float = 0.005) -> None:
    """Return when `check` holds, asked every `pause` seconds; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {what}: not within {seconds} s")
        time.sleep(pause)


@dataclass
class Pod:
    """A sandbox: a network namespace without a process."""

    name: str
    address: str = ""

    @property
    def path(self) -> str:
        """The namespace's path."""
        return f"/run/netns/{self.name}"

    def ping(self, destination: str, seconds: float) -> float | None:
        """Seconds from now until `destination` answered, asking every 10 ms; None if it did not."""
        with inside(self.path):
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMP)
        start = time.monotonic()
        with sock:
            sock.settimeout(0.01)
            number = 0
            while time.monotonic() - start < seconds:
                number += 1
                try:
                    sock.sendto(_echo(number), (destination, 0))
                    while True:
                        answer, (source, _) = sock.recvfrom(1500)
                        if source == destination and answer[20] == 0:
                            return time.monotonic() - start
                except OSError:  # no route yet, or no answer within 10 ms
                    time.sleep(0.002)
        return None


def _echo(number: int) -> bytes:
    def header(checksum: int) -> bytes:
        return struct.pack("!BBHHH", 8, 0, checksum, os.getpid() & 0xFFFF, number)

    total = sum(struct.unpack("!4H", header(0)))
    return header(~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)


@dataclass
class Node:
    """A node: its namespace, its agent, its files."""

    name: str
    namespace: str
    directory: Path
    agent: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.directory / "agent.log"

    @property
    def run_dir(self) -> Path:
        """Where the agent's sockets are."""
        return self.directory / "run"

    def start(self) -> socket.socket:
        """Start the agent; return the socket on which it reports readiness."""
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(self.directory / "notify")
        Path(path).unlink(missing_ok=True)
        ready.bind(path)
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-m", "routed", "agent",
                 "--config", str(self.directory / "agent.toml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": path},
            )  # fmt: skip
        return ready

    def wait_ready(self, ready: socket.socket, seconds: float = 60) -> None:
        """Return when the agent has said READY=1."""
        with ready:
            ready.settimeout(seconds)
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                raise SystemExit(f"bench: {self.name} is not ready:\n{self.log.read_text()[-2000:]}") from None

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.agent is not None:
            self.agent.terminate()
            try:
                self.agent.wait(10)
            except subprocess.TimeoutExpired:
                self.agent.kill()
                self.agent.wait()
            self.agent = None

    def memory(self) -> dict[str, float]:
        """Resident set of the agent and of its descendants, MB by command."""
        assert self.agent is not None
        found: dict[str, float] = {}
        todo = [self.agent.pid]
        while todo:
            pid = todo.pop()
            todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            status = Path(f"/proc/{pid}/status").read_text()
            resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            found[f"{pid} {command}"] = resident / 1024
        return found

    def status(self) -> Json:
        """What the agent says of itself."""
        value: Json = json.loads(self.routed("node", "status", "--json"))
        return value

    def routed(self, *arguments: str) -> str:
        """Run a verb of `routed` on the node; what it prints."""
        configuration = str(self.directory / "agent.toml")
        return in_namespace(self.namespace, sys.executable, "-m", "routed", *arguments, "--config", configuration)


class Subnet:
    """`count` nodes on one bridge, with a mesh, a pool, and a /24 of it each."""

    def __init__(self, count: int) -> None:
        self.prefix = f"rb{os.getpid()}"
        self.directory = Path(tempfile.mkdtemp(prefix="routed-bench-"))
        self.nodes: list[Node] = []
        self.pods: list[Pod] = []
        self._names: list[str] = []
        switch = self._namespace("switch")
        in_namespace(switch, "ip", "link", "add", "br0", "up", "type", "bridge")
        pool = "metadata: {name: pods}, spec: {cidr: 10.244.0.0/16, ipipMode: Never}"
        documents = [f"{{apiVersion: projectcalico.org/v3, kind: IPPool, {pool}}}"]
        for number in range(1, count + 1):
            node = self._node(number, switch)
            self.nodes.append(node)
            documents.append(
                f"{{apiVersion: projectcalico.org/v3, kind: Node, metadata: {{name: {node.name}}}, spec: "
                f"{{bgp: {{ipv4Address: 10.99.0.{number}/24}}, podCIDRs: [10.244.{number}.0/24]}}}}"
            )
        resources = self.directory / "cluster.yml"
        resources.write_text("\n---\n".join(documents) + "\n")
        sh(sys.executable, "-m", "routed", "apply", "-f", str(resources), "--store", self.store)

    @property
    def store(self) -> str:
        """The store that the nodes share."""
        return f"sqlite://{self.directory}/store.db"

    def pod(self, name: str) -> Pod:
        """A sandbox for a pod."""
        pod = Pod(self._namespace(name))
        self.pods.append(pod)
        return pod

    def close(self) -> None:
        """Stop the agents and remove everything."""
        for node in self.nodes:
            node.stop()
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(self.directory)

    def _namespace(self, name: str) -> str:
        full = f"{self.prefix}-{name}"
        sh("ip", "netns", "add", full)
        self._names.append(full)
        in_namespace(full, "ip", "link", "set", "lo", "up")
        return full

    def _node(self, number: int, switch: str) -> Node:
        name = f"n{number}"
        namespace = self._namespace(name)
        directory = self.directory / name
        directory.mkdir()
        in_namespace(switch, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth1", "netns", namespace)
        in_namespace(switch, "ip", "link", "set", name, "master", "br0", "up")
        in_namespace(namespace, "ip", "link", "set", "eth1", "up")
        in_namespace(namespace, "ip", "address", "add", f"10.99.0.{number}/24", "dev", "eth1")
        (directory / "agent.toml").write_text(
            f'node = "{name}"\nstore = "{self.store}"\nrun_dir = "{directory}/run"\nstate_dir = "{directory}/state"\n'
        )
        return Node(name, namespace, directory)


def cni(node: Node, plugin: Path, command: str, configuration: bytes, container: str, pod: Pod) -> tuple[Json, float]:
    """Call a CNI plugin on `node` as a runtime does; its result, and the seconds it took."""
    environment = {
        "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod.path, "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugin.parent), "PATH": os.environ["PATH"],
    }  # fmt: skip
    with inside(f"/run/netns/{node.namespace}"):  # the child inherits it: no nsenter in the measured time
        start = time.perf_counter()
        done = subprocess.run([str(plugin)], input=configuration, env=environment, capture_output=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"bench: {plugin.name} {command} failed: {done.stdout.decode()} {done.stderr.decode()}")
    value: Json = json.loads(done.stdout) if done.stdout.strip() else {}
    return value, seconds


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark: its key, and the target as text and as a test."""

    key: str
    meaning: str
    target: str
    met: Callable[[float], bool]


def machine() -> Json:
    """Where the figures were taken."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(), "python": platform.python_version(),
            "load": os.getloadavg()[0]}  # fmt: skip


def spread(values: Sequence[float]) -> Json:
    """How far repeats were apart."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


@contextmanager
def subnet(count: int) -> Iterator[Subnet]:
    """A Subnet that is gone afterwards."""
    made = Subnet(count)
    try:
        yield made
    finally:
        made.close()


def at_most(key: str, limit: float, meaning: str) -> Figure:
    """A figure whose target is at most `limit`."""
    return Figure(key, meaning, f"<= {limit:g}", lambda value: value <= limit)


def at_least(key: str, limit: float, meaning: str) -> Figure:
    """A figure whose target is at least `limit`."""
    return Figure(key, meaning, f">= {limit:g}", lambda value: value >= limit)


def under(key: str, limit: float, meaning: str) -> Figure:
    """A figure whose target is under `limit`."""
    return Figure(key, meaning, f"< {limit:g}", lambda value: value < limit)


def main(
    name: str,
    figures: Sequence[Figure],
    measure: Callable[[bool], tuple[Mapping[str, float], Json]],
    parents: Sequence[argparse.ArgumentParser] = (),
) -> None:
    """Parse the common options, measure, print. Exits 0 when every figure was taken, met or not.

    `measure` takes whether it is to be quick and returns figures and detail; what the detail has as `machine` is said
    of the machine, in place of what was found out about it. `parents` have the options that only this benchmark has.
    """
    parser = argparse.ArgumentParser(prog=f"./dev bench {name}", parents=list(parents))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    parser.add_argument("--quick", action="store_true", help="the short form: fewer repeats, no targets")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("bench: makes network namespaces on this kernel: run it as root")
    taken, detail = measure(options.quick)
    where = {**machine(), **detail.pop("machine", {})}
    missing = [figure.key for figure in figures if figure.key not in taken]
    if missing:
        raise SystemExit(f"bench: no figure for {', '.join(missing)}")
    if options.json:
        rounded = {key: round(value, 4) for key, value in taken.items()}
        print(json.dumps({"name": name, "figures": rounded, "detail": detail, "machine": where}))
        return
    print(f"{'figure':<24}{'value':>10}  {'target':<16}meaning")
    for figure in figures:
        value = taken[figure.key]
        verdict = "" if options.quick else ("met" if figure.met(value) else "MISSED")
        print(f"{figure.key:<24}{value:>10.3f}  {figure.target:<10}{verdict:<6}{figure.meaning}")

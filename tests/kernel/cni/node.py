"""A node in a network namespace with the agent's part for the plugin, pods beside it, and `ip -j` as their witness."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tests.waiting import until

from routed.ipam.allocator import Allocator
from routed.store.sqlite import SqliteStore
from routed_cni.install import write_plugin
from routed_cni.veths import host_interface

MTU = 1480
CIDR = "10.9.0.0/26"
CIDR6 = "fd00:9::/64"
CONFIGURATION = {"cniVersion": "1.0.0", "name": "routed", "type": "routed-cni"}
_numbers = itertools.count(1)


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def look(namespace: str, *words: str) -> Any:
    """What `ip -j` says inside `namespace`."""
    out = run("nsenter", f"--net=/run/netns/{namespace}", "ip", "-j", *words)
    return json.loads(out) if out.strip() else []


@dataclass(frozen=True)
class Answer:
    status: int
    output: str

    @property
    def result(self) -> Any:
        assert self.status == 0, self.output
        return json.loads(self.output)

    @property
    def error(self) -> Any:
        assert self.status == 1, self.output
        return json.loads(self.output)

    @property
    def address(self) -> str:
        address: str = self.result["ips"][0]["address"]
        return address.removesuffix("/32")

    @property
    def address6(self) -> str:
        address: str = self.result["ips"][1]["address"]
        return address.removesuffix("/128")


class Node:
    def __init__(self, directory: Path, *cidrs: str) -> None:
        self.directory = directory
        self.cidrs = cidrs or (CIDR,)
        self.name = f"rtdcn{os.getpid()}n{next(_numbers)}"
        self.namespaces = list[str]()
        self._agent: subprocess.Popen[bytes] | None = None
        self.store = directory / "store.db"
        self.namespace(self.name)
        self.plugin = write_plugin(directory / "bin", directory / "cni.sock")
        self.start()

    def namespace(self, name: str) -> str:
        run("ip", "netns", "add", name)
        self.namespaces.append(name)
        return name

    def pod(self) -> str:
        """A sandbox without an interface; its name."""
        return self.namespace(f"{self.name}p{len(self.namespaces)}")

    def remove(self, pod: str) -> None:
        run("ip", "netns", "del", pod)
        self.namespaces.remove(pod)

    def start(self) -> None:
        """Calls wait for the socket: that is the shim's work."""
        program = str(Path(__file__).with_name("agent_part.py"))
        arguments = (str(self.directory / "cni.sock"), str(self.store), ",".join(self.cidrs), str(MTU))
        self._agent = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.name}", sys.executable, program, *arguments]
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        agent, self._agent = self._agent, None
        assert agent is not None
        agent.send_signal(number)
        return agent.wait(20)

    def close(self) -> None:
        try:
            if self._agent is not None:
                assert self.stop() == 0
        finally:
            for name in self.namespaces:
                run("ip", "netns", "del", name, check=False)

    def cni(
        self,
        command: str,
        pod: str,
        interface: str = "eth0",
        *,
        configuration: Any = CONFIGURATION,
        **changes: str | None,
    ) -> Answer:
        """Execute the plugin as a runtime does; the container's ID is the pod's name."""
        done = subprocess.run(
            self.command(),
            env=self.environment(command, pod, interface, **changes),
            input=configuration if isinstance(configuration, str) else json.dumps(configuration),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == ""
        return Answer(done.returncode, done.stdout)

    def command(self) -> list[str]:
        """What a runtime executes."""
        return [str(self.plugin)]

    def environment(self, command: str, pod: str, interface: str = "eth0", **changes: str | None) -> dict[str, str]:
        """What it sets."""
        whole = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": interface,
            "CNI_PATH": f"{self.directory / 'bin'}:/usr/lib/cni",
            **changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    @staticmethod
    def stdin() -> bytes:
        """And what it writes."""
        return json.dumps(CONFIGURATION).encode()

    def check(self, pod: str, added: Answer, interface: str = "eth0", **fields: Any) -> Answer:
        """CHECK of what `added` answered."""
        return self.cni("CHECK", pod, interface, configuration={**CONFIGURATION, "prevResult": added.result, **fields})

    def links(self) -> list[str]:
        return [link["ifname"] for link in look(self.name, "link", "show") if link["ifname"] != "lo"]

    def link(self, pod: str, interface: str = "eth0") -> Any:
        return look(self.name, "-d", "link", "show", host_interface(pod, interface))[0]

    def routes(self) -> list[Any]:
        routes: list[Any] = look(self.name, "-d", "route", "show", "table", "main")
        return routes

    def settled(self) -> None:
        """No link, no route, no address taken: at once, or when the janitor went round."""
        assert self.routes() == []
        until(lambda: (self.links(), self.held()) == ([], []))

    def held(self) -> list[str]:
        """The handles of the addresses in use, as the store has them."""

        async def read() -> list[str]:
            store = SqliteStore(self.store)
            allocator = Allocator(store, [ip_network(cidr) for cidr in self.cidrs], node="node")
            await allocator.load()
            await store.close()
            return [held.handle for held in allocator.allocations().values()]

        return asyncio.run(read())


@dataclass(frozen=True)
class Pings:
    received: int
    milliseconds: list[float]


def ping(namespace: str, address: str, count: int = 3) -> Pings:
    out = run(
        "nsenter", f"--net=/run/netns/{namespace}",
        "ping", "-n", "-c", str(count), "-i", "0.02", "-W", "2", address, check=False,
    )  # fmt: skip
    received = re.search(r"(\d+) received", out)
    return Pings(int(received[1]) if received else 0, [float(ms) for ms in re.findall(r"time=([\d.]+)", out)])


def echo_requests(namespace: str) -> int:
    """How many echo requests have arrived in `namespace`, by the kernel's own count."""
    names, values = (
        line.split()
        for line in run("nsenter", f"--net=/run/netns/{namespace}", "cat", "/proc/net/snmp").splitlines()
        if line.startswith("Icmp:")
    )
    return int(values[names.index("InEchos")])

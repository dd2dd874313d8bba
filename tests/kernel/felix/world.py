"""Network namespaces with an uplink, and witnesses of their state that share no code with what is tested."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.kernel.nexthops import leading

_numbers = itertools.count(1)


class World:
    """A node's namespace, eth1 with `node`, and beyond it a router's with `gateway`, where its default route goes.

    The router also answers for 10.1.1.12, a member of the node's subnet. Several nodes may share one `router`.
    """

    def __init__(self, node: str = "10.1.1.11/24", *, gateway: str = "10.1.1.1", router: str = "") -> None:
        number = next(_numbers)
        self.name = f"rtdfx{os.getpid()}n{number}"
        self.outside = router or f"{self.name}o"
        self.path = f"/run/netns/{self.name}"
        self._made = [self.name] if router else [self.name, self.outside]
        tor = f"tor{number}"
        for name in self._made:
            self._run("ip", "netns", "add", name)
        self.ip("link", "add", "eth1", "type", "veth", "peer", "name", tor, "netns", self.outside)
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", "eth1", "up")
        self.ip("addr", "add", node, "dev", "eth1")
        self.beyond("ip", "addr", "add", f"{gateway}/24", "dev", tor)
        if not router:
            self.beyond("ip", "addr", "add", "10.1.1.12/24", "dev", tor)
            self.beyond("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.beyond("ip", "link", "set", tor, "up")
        self.tor = tor
        self.ip("route", "add", "default", "via", gateway, "proto", "static")
        self.until(lambda: "LOWER_UP" in self.link("eth1")["flags"])

    def beyond(self, *words: str) -> None:
        """Run a program where the router is."""
        self._run("nsenter", f"--net=/run/netns/{self.outside}", *words)

    def close(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def ip(self, *words: str) -> None:
        self._run("nsenter", f"--net={self.path}", "ip", *words)

    def look(self, *words: str) -> Any:
        """What `ip -j` says, inside."""
        out = self._run("nsenter", f"--net={self.path}", "ip", "-j", *words)
        return json.loads(out) if out.strip() else []

    def routes(self, protocol: int = 114) -> dict[str, dict[str, Any]]:
        """Routes of `protocol` in the main table, by destination; one by a nexthop object with where that leads."""
        found = self.look("route", "show", "table", "main", "proto", str(protocol))
        return {entry["dst"]: entry for entry in leading(found, self.look("nexthop", "show"))}

    def link(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.look("-d", "link", "show", "dev", name)[0]
        return found

    def addresses(self, device: str) -> list[str]:
        told = self.look("-4", "addr", "show", device)
        return [f"{a['local']}/{a['prefixlen']}" for link in told for a in link.get("addr_info", ())]

    def sysctl(self, key: str) -> str:
        return self._run("nsenter", f"--net={self.path}", "cat", f"/proc/sys/{key}").strip()

    def set_sysctl(self, key: str, value: str) -> None:
        self._run("nsenter", f"--net={self.path}", "sh", "-c", f"echo {value} > /proc/sys/{key}")

    def listen(self, *, neighbours: bool = False) -> Listener:
        return Listener(self.path, 0x4 if neighbours else 0)

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "condition not met in time"
            time.sleep(0.01)

    @staticmethod
    def _run(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout


class Listener:
    """Counts link, address, route and nexthop events of a namespace: a bare socket, so that silence is the kernel's
    word."""

    def __init__(self, path: str, more_groups: int = 0) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(path, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            assert libc.setns(target, 0x40000000) == 0
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        finally:
            assert libc.setns(home, 0x40000000) == 0
            os.close(target)
            os.close(home)
        self._socket.bind((0, 0x1 | 0x10 | 0x40 | 1 << 31 | more_groups))
        self._socket.setblocking(False)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> list[int]:
        """Message types since the last call."""
        types: list[int] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return types
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                types.append(kind)
                offset += (length + 3) & ~3

"""A node with a pod and, beyond its uplink, a router that can send as anybody and sees what comes.

Receivers take packets in the order in which they were sent: where one that must not come is sent before one that must,
the second tells that the first was dropped.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network

from tests.kernel.felix.world import World

from routed.netlink.socket import inside
from routed_felix.firewall.rules import Rules, Source

NODE, ROUTER, MEMBER, STRANGER = "10.1.1.11", "10.1.1.1", "10.1.1.12", "10.1.1.77"
NODE6, ROUTER6, MEMBER6, STRANGER6 = "2001:db8::11", "2001:db8::1", "2001:db8::12", "2001:db8::77"
POD, OTHER_POD, REMOTE_POD = "10.244.1.5", "10.244.1.6", "10.244.2.5"
POD6, OTHER_POD6, REMOTE_POD6 = "fd00::1:5", "fd00::1:6", "fd00::2:5"
POD_LINK = "rtd0123456789a"
PORT = 9
ANYTHING = 253  # a protocol for experiments, RFC 3692

RULES = Rules(
    members=frozenset(map(ip_address, (NODE, MEMBER, NODE6, MEMBER6))),
    pods=frozenset({Source(POD_LINK, ip_address(POD)), Source(POD_LINK, ip_address(POD6))}),
    pools=frozenset(map(ip_network, ("10.244.0.0/16", "fd00::/64"))),
)
NAT = Rules(RULES.members, RULES.pods, RULES.pools, nat_pools=RULES.pools)


class Site:
    """`node`, `pod` and `router` are paths of network namespaces."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node, self.router, self.pod = world.path, f"/run/netns/{world.outside}", f"/run/netns/{world.name}p"
        self.run("ip", "netns", "add", f"{world.name}p")
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            world.set_sysctl(f"net/{key}", "1")
            self.run("sh", "-c", f"echo 1 > /proc/sys/net/{key}", at=self.router)
        for each in ("all", "default", "eth1"):  # what drops a forged source shall be the firewall
            world.set_sysctl(f"net/ipv4/conf/{each}/rp_filter", "0")
        for at in (self.node, self.pod):  # nobody else has the link's addresses
            self.run(
                "sh", "-c", "for each in all default; do echo 0 > /proc/sys/net/ipv6/conf/$each/accept_dad; done", at=at
            )
        self._wire()
        for address in (NODE6,):
            world.ip("address", "add", f"{address}/64", "dev", "eth1", "nodad")
        for address in (ROUTER6, MEMBER6):
            world.beyond("ip", "address", "add", f"{address}/64", "dev", world.tor, "nodad")
        for address in (f"{REMOTE_POD}/32", f"{REMOTE_POD6}/128"):
            world.beyond("ip", "address", "add", address, "dev", world.tor, *(["nodad"] if ":" in address else []))
        world.beyond("ip", "route", "add", "10.244.1.0/24", "via", NODE)
        world.beyond("ip", "route", "add", "fd00::1:0/112", "via", NODE6)
        world.ip("route", "add", f"{REMOTE_POD}/32", "via", ROUTER)
        world.ip("route", "add", f"{REMOTE_POD6}/128", "via", ROUTER6)

    def _wire(self) -> None:
        world = self.world
        world.ip("link", "add", POD_LINK, "type", "veth", "peer", "name", "eth0", "netns", f"{world.name}p")
        world.ip("link", "set", POD_LINK, "up")
        world.set_sysctl(f"net/ipv4/conf/{POD_LINK}/proxy_arp", "1")
        world.ip("route", "add", f"{POD}/32", "dev", POD_LINK)
        world.ip("route", "add", f"{POD6}/128", "dev", POD_LINK)
        world.ip("address", "add", "fe80::1/64", "dev", POD_LINK, "nodad")
        self.inside_pod("link", "set", "lo", "up")
        self.inside_pod("link", "set", "eth0", "up")
        for address in (POD, OTHER_POD):
            self.inside_pod("address", "add", f"{address}/32", "dev", "eth0")
        for address in (POD6, OTHER_POD6):
            self.inside_pod("address", "add", f"{address}/128", "dev", "eth0", "nodad")
        self.inside_pod("route", "add", "169.254.1.1", "dev", "eth0")
        self.inside_pod("route", "add", "default", "via", "169.254.1.1")
        self.inside_pod("route", "add", "default", "via", "fe80::1", "dev", "eth0")
        world.until(lambda: "LOWER_UP" in world.link(POD_LINK)["flags"])

    def close(self) -> None:
        self.run("ip", "netns", "del", f"{self.world.name}p")

    def inside_pod(self, *words: str) -> None:
        self.run("ip", *words, at=self.pod)

    def run(self, *words: str, at: str = "", given: str = "") -> str:
        entered = ("nsenter", f"--net={at}", *words) if at else words
        done = subprocess.run(entered, capture_output=True, text=True, check=False, input=given)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def on_node(self, *words: str, given: str = "") -> str:
        return self.run(*words, at=self.node, given=given)

    def tables(self) -> set[str]:
        """Family and name of the tables of nftables on the node."""
        found = json.loads(self.on_node("nft", "-j", "list", "tables"))["nftables"]
        return {f"{each['table']['family']} {each['table']['name']}" for each in found if "table" in each}

    def ruleset(self) -> str:
        """All of nftables on the node, with handles: what was written again has others."""
        return self.on_node("nft", "--handle", "--stateless", "list", "ruleset")

    # ---- packets

    @contextlib.contextmanager
    def received(self, at: str, protocol: int = ANYTHING, family: int = socket.AF_INET) -> Iterator[Receiver]:
        """What arrives by IP `protocol` for a namespace itself."""
        with inside(at), socket.socket(family, socket.SOCK_RAW, protocol) as opened:
            opened.settimeout(5)
            yield Receiver(opened)

    @contextlib.contextmanager
    def datagrams(self, at: str, family: int = socket.AF_INET) -> Iterator[Receiver]:
        """Who sends UDP to the port of this site."""
        with inside(at), socket.socket(family, socket.SOCK_DGRAM) as opened:
            opened.settimeout(5)
            opened.bind(("", PORT))
            yield Receiver(opened)

    def send(self, at: str, source: str, destination: str, protocol: int = ANYTHING) -> None:
        """One packet with any source that one likes."""
        first, last = ip_address(source), ip_address(destination)
        payload = header(ip_address("192.0.2.1"), ip_address("192.0.2.2"), ANYTHING, 0) if protocol == 4 else b"payload"
        family = socket.AF_INET if first.version == 4 else socket.AF_INET6
        with inside(at), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
            opened.sendto(header(first, last, protocol, len(payload)) + payload, (destination, 0))

    def say(self, at: str, source: str, destination: str) -> None:
        """One UDP datagram, by an ordinary socket."""
        with (
            inside(at),
            socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as opened,
        ):
            opened.bind((source, 0))
            opened.sendto(b"word", (destination, PORT))


class Receiver:
    """Takes packets one by one."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def source(self) -> str:
        """Where the next packet comes from."""
        return str(self._socket.recvfrom(1 << 12)[1][0])


def header(source: object, destination: object, protocol: int, size: int) -> bytes:
    """An IP header before a payload of `size` bytes."""
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        rest = source.packed + destination.packed
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0, 64, protocol, 0) + rest
    return struct.pack("!IHBB", 6 << 28, size, protocol, 64) + source.packed + destination.packed  # type: ignore[attr-defined]

"""FRR as Debian ships it: zebra, bgpd and, where a session asks for it, bfdd, with the paths of each router its own."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kernel.interop.routers import Neighbor, Place, Route, Router, Seen, Setup, decoded, objects
from tests.waiting import until

_DAEMONS = "/usr/lib/frr"


class Frr(Router):
    """zebra runs although nothing needs its routes: without it bgpd takes no next hop for reachable, and has no BFD."""

    kind = "frr"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._maps = 0
        # zebra insists on its own user, who may not enter the directories of a test
        self._own = Path(tempfile.mkdtemp(prefix="routed-frr-"))
        shutil.chown(self._own, "frr", "frr")
        self.log = self._own / "frr.log"

    def _launch(self, setup: Setup, *, restarting: bool) -> None:
        directory = self._own
        for old in directory.glob("*.vty"):
            old.unlink()
        (directory / "zebra.conf").write_text("no ip forwarding\nno ipv6 forwarding\n")
        (directory / "bfdd.conf").write_text("")
        (directory / "bgpd.conf").write_text("\n".join(self._configuration(setup)) + "\n")
        # bgpd has the R bit in its first OPEN by itself whenever graceful restart is configured
        self._daemon("zebra")
        until(lambda: self._require_alive() and (directory / "zserv.api").exists())
        if any(each.bfd for each in setup.neighbors):
            self._daemon("bfdd", "--bfdctl", str(directory / "bfdd.sock"))
            until(lambda: self._require_alive() and (directory / "bfdd.vty").exists())
        self._daemon("bgpd", "--socket_size", "1048576")
        until(lambda: self._require_alive() and (directory / "bgpd.vty").exists())

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._own)

    def _daemon(self, name: str, *arguments: str) -> None:
        directory = self._own
        self._run(
            f"{_DAEMONS}/{name}", "-f", str(directory / f"{name}.conf"), "-i", str(directory / f"{name}.pid"),
            "--vty_socket", str(directory), "-z", str(directory / "zserv.api"), "-P", "0",
            "--log", f"file:{self.log}", *arguments,
        )  # fmt: skip

    def change(self, setup: Setup) -> None:
        assert self.setup
        lines = [f"router bgp {setup.asn}"]
        for neighbor in setup.neighbors:
            if (before := self.setup.neighbor(neighbor.address)) == neighbor:
                continue
            gone = [line for line in _session(before) if line not in _session(neighbor)]
            lines += [f"no {line}" for line in gone if "remote-as" not in line]
            lines += [line for line in _session(neighbor) if line not in _session(before)]
        self.setup = setup
        self._ask("configure terminal", *lines)

    def state(self, neighbor: str) -> str:
        return str(self._neighbor(neighbor).get("bgpState", "Idle"))

    def last_error(self, neighbor: str) -> str:
        found = self._neighbor(neighbor)
        return str(found.get("lastNotificationReason") or found.get("lastResetDueTo", ""))

    def paths(self, neighbor: str) -> dict[str, list[Seen]]:
        assert self.setup
        found: dict[str, list[Seen]] = {}
        for version in self.setup.neighbor(neighbor).families:
            table = f"show bgp ipv{version} unicast"
            prefixes = decoded(self._ask(f"{table} json")).get("routes", {})
            if not prefixes:
                continue
            # the table alone has no communities, and no next hop of a link-local kind
            for answer in objects(self._ask(*(f"{table} {prefix} json" for prefix in prefixes))):
                seen = [_seen(path) for path in answer.get("paths", ()) if path["peer"]["peerId"] == neighbor]
                if seen:
                    found[answer["prefix"]] = seen
        return found

    def updates(self, neighbor: str) -> int:
        return int(self._neighbor(neighbor).get("messageStats", {}).get("updatesRecv", 0))

    def announce(self, *routes: Route) -> None:
        assert self.setup
        lines: list[str] = []
        networks: list[str] = [f"router bgp {self.setup.asn}"]
        for route in routes:
            name = self._map(route, lines)
            networks += [f"address-family ipv{route.version} unicast", f"network {route.prefix}{name}"]
            networks += ["exit-address-family"]
        self._ask("configure terminal", *lines, *networks)

    def withdraw(self, *routes: Route) -> None:
        assert self.setup
        lines = [f"router bgp {self.setup.asn}"]
        for route in routes:
            lines += [f"address-family ipv{route.version} unicast", f"no network {route.prefix}"]
            lines += ["exit-address-family"]
        self._ask("configure terminal", *lines)

    def ask_refresh(self, neighbor: str) -> None:
        self._ask(f"clear bgp {neighbor} soft in")

    def resend(self, neighbor: str) -> None:
        self._ask(f"clear bgp {neighbor} soft out")

    def reset(self, neighbor: str) -> None:
        self._ask(f"clear bgp {neighbor}")

    def shut(self, neighbor: str) -> None:
        assert self.setup
        self._ask("configure terminal", f"router bgp {self.setup.asn}", f"neighbor {neighbor} shutdown")

    # ---- the configuration

    def _configuration(self, setup: Setup) -> list[str]:
        maps: list[str] = []
        names = {route: self._map(route, maps) for route in setup.routes}
        lines = [
            *maps, f"router bgp {setup.asn}", f"bgp router-id {self.place.address}", "no bgp ebgp-requires-policy",
            "no bgp default ipv4-unicast", "no bgp network import-check",
        ]  # fmt: skip
        restart = [each.restart_time for each in setup.neighbors if each.restart_time is not None]
        lines += ["bgp graceful-restart", f"bgp graceful-restart restart-time {max(restart)}"] if restart else []
        lines += [line for neighbor in setup.neighbors for line in _session(neighbor)]
        for version in (4, 6):
            lines += [f"address-family ipv{version} unicast"]
            lines += [f"network {route.prefix}{name}" for route, name in names.items() if route.version == version]
            for neighbor in setup.neighbors:
                if version in neighbor.families:
                    lines += _family(neighbor)
            lines += ["exit-address-family"]
        return lines

    def _map(self, route: Route, lines: list[str]) -> str:
        """Append the route map that sets the attributes of `route`; the words that refer to it."""
        self._maps += 1
        # through the map, as an operator would: what bgpd originates otherwise has a metric of 0
        lines += [f"route-map r{self._maps} permit 10"]
        lines += [f"set community {' '.join(route.communities)}"] if route.communities else []
        lines += [f"set metric {route.med}"] if route.med is not None else []
        if route.next_hop:
            lines += [f"set {'ip next-hop' if route.version == 4 else 'ipv6 next-hop global'} {route.next_hop}"]
        lines += ["exit"]
        return f" route-map r{self._maps}"

    def _neighbor(self, address: str) -> Any:
        return decoded(self._ask(f"show bgp neighbors {address} json")).get(address, {})

    def _ask(self, *commands: str) -> str:
        words = [word for command in commands for word in ("-c", command)]
        return self._cli(
            "vtysh", "--vty_socket", str(self._own), "--config_dir", str(self._own), *words,
            check=False,
        )  # fmt: skip


def _session(neighbor: Neighbor) -> list[str]:
    words = [
        f"remote-as {neighbor.remote_as}", "timers connect 1", "advertisement-interval 0",
        f"timers {max(1, neighbor.hold_time // 3)} {neighbor.hold_time}",
    ]  # fmt: skip
    words += [f"password {neighbor.password}"] if neighbor.password else []
    words += ["ttl-security hops 1"] if neighbor.ttl_security else []
    words += ["passive"] if neighbor.passive else []
    words += ["capability extended-nexthop"] if neighbor.extended_next_hop else []
    words += ["bfd", "bfd 3 100 100"] if neighbor.bfd else []
    words += ["graceful-restart" if neighbor.restart_time is not None else "graceful-restart-disable"]
    return [f"neighbor {neighbor.address} {word}" for word in words]


def _family(neighbor: Neighbor) -> Sequence[str]:
    words = ["activate"]
    words += ["route-reflector-client"] if neighbor.client else []
    words += ["addpath-tx-all-paths"] if neighbor.add_path else []
    words += [f"maximum-prefix {neighbor.max_prefixes}"] if neighbor.max_prefixes else []
    return [f"neighbor {neighbor.address} {word}" for word in words]


def _seen(path: Any) -> Seen:
    hops = path.get("nexthops", [])
    # of a global and a link-local next hop (RFC 2545 section 3) the one that both ends name
    hop = next((each for each in hops if each.get("scope") != "link-local"), hops[0] if hops else {})
    clusters = path.get("clusterList", {})
    communities = path.get("community", {}).get("string", "")
    return Seen(
        next_hop=hop.get("ip", ""),
        as_path=tuple(int(each) for each in re.findall(r"\d+", path.get("aspath", {}).get("string", ""))),
        communities=frozenset(communities.split()),
        local_pref=path.get("locPrf", path.get("localpref")),
        med=path.get("med", path.get("metric")),
        originator=path.get("originatorId"),
        cluster_list=tuple(clusters.get("list", ())),
        stale=bool(path.get("stale", False)),
    )

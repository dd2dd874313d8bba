"""GoBGP as Debian ships it, with the gobgp command for what it knows."""

from __future__ import annotations

import re
from typing import Any

from tests.kernel.interop.routers import Neighbor, Route, Router, Seen, Setup, decoded
from tests.waiting import until

# path attributes by their type code, as `gobgp -j` numbers them
_ORIGINATOR, _CLUSTERS, _AS_PATH, _NEXT_HOP, _MED, _LOCAL_PREF, _COMMUNITIES, _REACH = 9, 10, 2, 3, 4, 5, 8, 14
_STATES = ("unknown", "idle", "connect", "active", "opensent", "openconfirm", "established")


class Gobgp(Router):
    """Its own API on 127.0.0.1 of its namespace; routes are added by the command, since no file can."""

    kind = "gobgp"

    def _launch(self, setup: Setup, *, restarting: bool) -> None:
        file = self._write(setup)
        # API first on loopback: `[::]:50051` would do as well, but shows in nobody's netstat this way
        arguments = ["-f", str(file), "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p", "-l", "info"]
        self._run("gobgpd", *arguments, *(["-r"] if restarting else []))
        until(lambda: self._require_alive() and decoded(self._ask("global", check=False)))
        self.announce(*setup.routes)

    def change(self, setup: Setup) -> None:
        self.setup = setup
        self._write(setup)
        for process in self._processes:
            process.send_signal(1)  # SIGHUP: read the file again

    def state(self, neighbor: str) -> str:
        return _STATES[int(self._neighbor(neighbor).get("state", {}).get("session_state", 0))]

    def last_error(self, neighbor: str) -> str:
        # the CLI tells the state only: what happened is in the log, which an operator reads with it
        lines = [line for line in self.log.read_text().splitlines() if neighbor in line]
        return next((line for line in reversed(lines) if "notification" in line.lower() or "Peer Down" in line), "")

    def paths(self, neighbor: str) -> dict[str, list[Seen]]:
        assert self.setup
        found: dict[str, list[Seen]] = {}
        for version in self.setup.neighbor(neighbor).families:
            text = self._ask("neighbor", neighbor, "adj-in", "-a", f"ipv{version}", check=False)
            for prefix, paths in (decoded(text) or {}).items():
                if isinstance(paths, list):  # else it says that there is no such session
                    found[prefix] = [_seen(path) for path in paths]
        return found

    def updates(self, neighbor: str) -> int:
        messages = self._neighbor(neighbor).get("state", {}).get("messages", {})
        return int(messages.get("received", {}).get("update", 0))

    def announce(self, *routes: Route) -> None:
        for route in routes:
            self._ask("global", "rib", "add", "-a", f"ipv{route.version}", *_words(route))

    def withdraw(self, *routes: Route) -> None:
        for route in routes:
            self._ask("global", "rib", "del", "-a", f"ipv{route.version}", route.prefix)

    def ask_refresh(self, neighbor: str) -> None:
        self._ask("neighbor", neighbor, "softresetin")

    def resend(self, neighbor: str) -> None:
        self._ask("neighbor", neighbor, "softresetout")

    def reset(self, neighbor: str) -> None:
        # its own `reset` keeps the session down for 30 s, whatever idle-hold-time-after-reset says
        self._ask("neighbor", neighbor, "disable")
        until(lambda: not self.established(neighbor))
        self._ask("neighbor", neighbor, "enable")

    def shut(self, neighbor: str) -> None:
        self._ask("neighbor", neighbor, "shutdown")

    # ---- the configuration

    def _write(self, setup: Setup) -> Any:
        lines = ["[global.config]", f"as = {setup.asn}", f'router-id = "{self.place.address}"']
        for neighbor in setup.neighbors:
            lines += self._session(neighbor)
        file = self.place.directory / "gobgpd.toml"
        file.write_text("\n".join(lines) + "\n")
        return file

    def _session(self, neighbor: Neighbor) -> list[str]:
        local = self.place.local(neighbor.version)
        lines = [
            "[[neighbors]]", "[neighbors.config]", f'neighbor-address = "{neighbor.address}"',
            f"peer-as = {neighbor.remote_as}",
        ]  # fmt: skip
        lines += [f'auth-password = "{neighbor.password}"'] if neighbor.password else []
        lines += ["[neighbors.transport.config]", f'local-address = "{local}"']
        lines += ["passive-mode = true"] if neighbor.passive else []
        lines += [
            "[neighbors.timers.config]", "connect-retry = 1", "idle-hold-time-after-reset = 1",
            f"hold-time = {neighbor.hold_time}", f"keepalive-interval = {max(1, neighbor.hold_time // 3)}",
        ]  # fmt: skip
        lines += ["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"] * neighbor.ttl_security
        if neighbor.client:
            lines += ["[neighbors.route-reflector.config]", "route-reflector-client = true"]
            lines += [f'route-reflector-cluster-id = "{self.place.address}"']
        if neighbor.restart_time is not None:
            lines += ["[neighbors.graceful-restart.config]", "enabled = true"]
            lines += [f"restart-time = {neighbor.restart_time}"]
        for version in neighbor.families:
            lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]"]
            lines += [f'afi-safi-name = "ipv{version}-unicast"']
            if neighbor.restart_time is not None:
                lines += ["[neighbors.afi-safis.mp-graceful-restart.config]", "enabled = true"]
            if neighbor.add_path:
                lines += ["[neighbors.afi-safis.add-paths.config]", "send-max = 8"]
            if neighbor.max_prefixes:
                lines += ["[neighbors.afi-safis.prefix-limit.config]", f"max-prefixes = {neighbor.max_prefixes}"]
        return lines

    def _neighbor(self, address: str) -> Any:
        return decoded(self._ask("neighbor", address, check=False)) or {}

    def _ask(self, *words: str, check: bool = True) -> str:
        return self._cli("gobgp", "-j", *words, check=check)


def _words(route: Route) -> list[str]:
    words = [route.prefix]
    words += ["nexthop", route.next_hop] if route.next_hop else []
    words += ["med", str(route.med)] if route.med is not None else []
    words += ["community", ",".join(route.communities)] if route.communities else []
    return words


def _seen(path: Any) -> Seen:
    attributes = {each["type"]: each for each in path["attrs"]}
    reach = attributes.get(_REACH, {})
    segments = attributes.get(_AS_PATH, {}).get("as_paths") or []
    communities = attributes.get(_COMMUNITIES, {}).get("communities") or []
    clusters = attributes.get(_CLUSTERS, {}).get("value") or []
    return Seen(
        next_hop=reach.get("nexthop") or attributes.get(_NEXT_HOP, {}).get("nexthop", ""),
        as_path=tuple(int(number) for segment in segments for number in segment["asns"]),
        communities=frozenset(f"{number >> 16}:{number & 0xFFFF}" for number in communities),
        local_pref=attributes.get(_LOCAL_PREF, {}).get("value"),
        med=attributes.get(_MED, {}).get("metric"),
        originator=attributes.get(_ORIGINATOR, {}).get("value"),
        cluster_list=tuple(re.findall(r"[\d.]+", str(clusters))),
        stale=bool(path.get("stale", False)),
    )

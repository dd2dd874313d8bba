"""BIRD 2 as Debian ships it."""

from __future__ import annotations

import re

from tests.kernel.interop.routers import Neighbor, Route, Router, Seen, Setup, numbers
from tests.waiting import until

_VALUE = re.compile(r"\s+BGP\.(\w+): ?(.*)")
_FIRST = re.compile(r"(\S+/\d+)?\s+\S+ \[(\w+) ")


class Bird(Router):
    """Its routes are static ones, each with a filter of its attributes; `announce` writes the configuration anew."""

    kind = "bird"

    def _launch(self, setup: Setup, *, restarting: bool) -> None:
        self._routes = list(setup.routes)
        self._shut: set[str] = set()
        self._write()
        directory = self.place.directory
        control = directory / "bird.ctl"
        control.unlink(missing_ok=True)
        arguments = ["-c", str(directory / "bird.conf"), "-s", str(control), "-P", str(directory / "pid")]
        self._run("bird", "-f", *arguments, *(["-R"] if restarting else []))
        until(lambda: self._require_alive() and control.exists())

    def change(self, setup: Setup) -> None:
        self.setup = setup
        self._configure()

    def state(self, neighbor: str) -> str:
        line = self._ask("show", "protocols", self._name(neighbor)).splitlines()[-1].split()
        return line[5] if len(line) > 5 else "Idle"

    def last_error(self, neighbor: str) -> str:
        text = self._ask("show", "protocols", "all", self._name(neighbor))
        found = re.search(r"Last error: +(.*)", text)
        return found[1] if found else ""

    def paths(self, neighbor: str) -> dict[str, list[Seen]]:
        # 2.0.12 does not mark a path that it keeps through a graceful restart: the session says so
        stale = "graceful restart active" in self._ask("show", "protocols", "all", self._name(neighbor))
        found: dict[str, list[Seen]] = {}
        for version in self._neighbor(neighbor).families:
            text = self._ask("show", "route", "table", f"master{version}", "protocol", self._name(neighbor), "all")
            found.update(parsed(text, stale=stale))
        return found

    def updates(self, neighbor: str) -> int:
        text = self._ask("show", "protocols", "all", self._name(neighbor))
        return sum(int(each) for each in re.findall(r"Import (?:updates|withdraws): +(\d+)", text))

    def announce(self, *routes: Route) -> None:
        self._routes += routes
        self._configure()

    def withdraw(self, *routes: Route) -> None:
        self._routes = [route for route in self._routes if route not in routes]
        self._configure()

    def ask_refresh(self, neighbor: str) -> None:
        self._ask("reload", "in", self._name(neighbor))

    def resend(self, neighbor: str) -> None:
        self._ask("reload", "out", self._name(neighbor))

    def reset(self, neighbor: str) -> None:
        self._ask("restart", self._name(neighbor))
        self._ask("enable", self._name(neighbor))  # where a limit had disabled it

    def shut(self, neighbor: str) -> None:
        self._ask("disable", self._name(neighbor))

    # ---- the configuration

    def _configure(self) -> None:
        self._write()
        answer = self._ask("configure")
        assert "Reconfigured" in answer or "Reconfiguration" in answer, answer

    def _write(self) -> None:
        assert self.setup
        place, neighbors = self.place, self.setup.neighbors
        parts = [f"router id {place.address};", "protocol device { scan time 1; }"]
        parts += ["protocol direct { ipv4; ipv6; }"]
        if any(each.bfd for each in neighbors):
            parts += ['protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }']
        for version in (4, 6):
            for number, row in enumerate(self._rows(version)):
                routes = " ".join(f"route {route.prefix} blackhole;" for route in row)
                parts += [f"protocol static static{version}x{number} {{ ipv{version}; {routes} }}"]
        parts += [self._session(each) for each in neighbors]
        (place.directory / "bird.conf").write_text("\n".join(parts) + "\n")

    def _rows(self, version: int) -> list[list[Route]]:
        """Our routes, no prefix twice in a row: a table holds one route of each protocol for a prefix."""
        rows: list[list[Route]] = []
        for route in (each for each in self._routes if each.version == version):
            row = next((row for row in rows if all(other.prefix != route.prefix for other in row)), None)
            if row is None:
                row = []
                rows.append(row)
            row.append(route)
        return rows

    def _export(self, version: int) -> str:
        """The filter that lets out what is ours or was learned; a MED is sent only if it is set here."""
        words = ["if source = RTS_BGP then accept;", "if source != RTS_STATIC then reject;"]
        for number, row in enumerate(self._rows(version)):
            for route in row:
                acts = [f"bgp_community.add(({each.replace(':', ',')}));" for each in route.communities]
                acts += [f"bgp_med = {route.med};"] if route.med is not None else []
                acts += [f"bgp_next_hop = {route.next_hop};"] if route.next_hop else []
                ours = f'net = {route.prefix} && proto = "static{version}x{number}"'
                words += [f"if {ours} then {{ {' '.join(acts)} }}"] if acts else []
        return " ".join([*words, "accept;"])

    def _session(self, neighbor: Neighbor) -> str:
        assert self.setup
        words = [
            f"local {self.place.local(neighbor.version)} as {neighbor.local_as or self.setup.asn};",
            f"neighbor {neighbor.address} as {neighbor.remote_as};",
            "direct;",
            f"hold time {neighbor.hold_time};",
            "connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;",
        ]
        words += [f'password "{neighbor.password}";'] if neighbor.password else []
        words += ["ttl security on;"] if neighbor.ttl_security else []
        words += ["passive yes;"] if neighbor.passive else []
        words += ["rr client;"] if neighbor.client else []
        words += ["bfd on;"] if neighbor.bfd else []
        words += (
            ["graceful restart off;"] if neighbor.restart_time is None
            else [f"graceful restart on; graceful restart time {neighbor.restart_time};"]
        )  # fmt: skip
        for version in neighbor.families:
            channel = ["import all;", f"export filter {{ {self._export(version)} }};"]
            channel += ["add paths tx;"] if neighbor.add_path else []
            channel += ["extended next hop on;"] if neighbor.extended_next_hop else []
            channel += [f"import limit {neighbor.max_prefixes} action disable;"] if neighbor.max_prefixes else []
            words.append(f"ipv{version} {{ {' '.join(channel)} }};")
        return f"protocol bgp {self._name(neighbor.address)} {{ {' '.join(words)} }}"

    def _name(self, neighbor: str) -> str:
        return "n" + re.sub(r"\W", "_", neighbor)

    def _neighbor(self, address: str) -> Neighbor:
        assert self.setup
        return self.setup.neighbor(address)

    def _ask(self, *words: str) -> str:
        return self._cli("birdc", "-s", str(self.place.directory / "bird.ctl"), *words, check=False)


def parsed(text: str, *, stale: bool = False) -> dict[str, list[Seen]]:
    """What `birdc show route all` printed."""
    found: dict[str, list[Seen]] = {}
    prefix, values = "", dict[str, str]()

    def keep() -> None:
        if not values:
            return
        originator = values.get("originator_id")
        local_pref, med = values.get("local_pref"), values.get("med")
        found.setdefault(prefix, []).append(
            Seen(
                next_hop=values["next_hop"].split()[0],
                as_path=numbers(values.get("as_path", "").split()),
                communities=frozenset(
                    f"{high}:{low}" for high, low in re.findall(r"\((\d+),(\d+)\)", values.get("community", ""))
                ),
                local_pref=int(local_pref) if local_pref else None,
                med=int(med) if med else None,
                originator=originator,
                cluster_list=tuple(values.get("cluster_list", "").split()),
                stale=stale,
            )
        )

    for line in text.splitlines():
        if first := _FIRST.match(line):
            keep()
            prefix, values = first[1] or prefix, {}
        elif value := _VALUE.match(line):
            values[value[1]] = value[2]
    keep()
    return found

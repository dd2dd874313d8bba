"""Our end: the real `routed agent` in a namespace, told by resources and asked over HTTP, as an operator's tools do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.kernel.agent.world import run
from tests.kernel.interop.routers import Place, numbers
from tests.kernel.nexthops import leading
from tests.waiting import until

from routed.netlink.socket import inside

Resource = dict[str, Any]
MODES = ("seams", "stock")
PROCESS = Path(__file__).with_name("agent_process.py")


@dataclass(frozen=True, kw_only=True)
class Told:
    """A path as `/bgp/routes` shows it."""

    next_hop: str
    as_path: tuple[int, ...]
    communities: frozenset[str]
    local_pref: int | None
    med: int | None
    peer: str | None
    best: bool
    stale: bool
    rejected: str | None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Told:
        return cls(
            next_hop=value["next_hop"],
            as_path=numbers(str(value["as_path"]).replace("[", " ").replace("]", " ").replace(",", " ").split()),
            communities=frozenset(value["communities"]),
            local_pref=value["local_pref"],
            med=value["med"],
            peer=value["peer"],
            best=value["best"],
            stale=value["stale"],
            rejected=value["rejected"],
        )


class Ours:
    """A node's agent; it may be started, stopped and killed again and again, the store stays."""

    def __init__(self, place: Place, *, node: str = "n1", mode: str = "seams", **settings: Any) -> None:
        self.place, self.node, self.mode = place, node, mode
        self.log = place.directory / "agent.log"
        self.secrets = place.directory / "secrets"
        self.secrets.mkdir(exist_ok=True)
        self.store = f"sqlite://{place.directory}/store.db"
        self._settings: dict[str, Any] = {
            "node": node, "store": self.store, "run_dir": str(place.directory / "run"),
            "secrets_dir": str(self.secrets), "state_dir": str(place.directory / "state"), **settings,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    # ---- life

    def start(self) -> None:
        file = self.place.directory / "agent.toml"
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self._settings.items()))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.place.namespace.argv(sys.executable, str(PROCESS), self.mode, "agent", "--config", str(file)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._answers, 30, self.tail)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM: the agent leaves silently, as for an upgrade. SIGKILL: it crashes."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.end(signal.SIGKILL)

    def tail(self) -> str:
        return self.log.read_text()[-3000:]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.tail()
        try:
            self.ask("/liveness")
        except OSError:
            return False
        return True

    # ---- what it is told

    def apply(self, *resources: Resource) -> None:
        self._change("apply", *resources)

    def delete(self, *resources: Resource) -> None:
        self._change("delete", *resources)

    def secret(self, name: str, key: str, value: str) -> Resource:
        """Write a password where the agent looks for it; the `password` of a resource that refers to it."""
        file = self.secrets / name / key
        file.parent.mkdir(exist_ok=True)
        file.write_text(value)
        return {"secretKeyRef": {"name": name, "key": key}}

    def _change(self, verb: str, *resources: Resource) -> None:
        # JSON is YAML; one document each
        text = "\n---\n".join(json.dumps({"apiVersion": "projectcalico.org/v3", **each}) for each in resources)
        run(sys.executable, "-m", "routed", verb, "-f", "-", "--store", self.store, input=text)

    # ---- what it tells

    def ask(self, path: str, **query: str) -> Any:
        """The decoded answer to GET `path`; text where it is no JSON."""
        with inside(self.place.namespace.path):
            plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plug.settimeout(10)
        with plug:
            plug.connect(("127.0.0.1", 9099))
            client = http.client.HTTPConnection("127.0.0.1", 9099)
            client.sock = plug
            client.request("GET", f"{path}?{urlencode(query)}" if query else path)
            answer = client.getresponse()
            body = answer.read()
            if answer.headers.get_content_type() == "application/json":
                return json.loads(body)
            assert answer.status < 500, body
            return body.decode()

    def sessions(self) -> dict[str, Any]:
        """What `/bgp/status` says of each session, by the peer's address."""
        return {each["peer"]: each for each in self.ask("/bgp/status")["sessions"]}

    def session(self, peer: str) -> Any:
        return self.sessions().get(peer, {"state": "unknown", "last_error": None})

    def established(self, peer: str) -> bool:
        return bool(self.session(peer)["state"] == "established")

    def paths(self, table: str, **query: str) -> dict[str, list[Told]]:
        """A table of `/bgp/routes`: received, accepted, advertised (each of one `peer`) or best.

        Empty where the agent does not know the peer: it answers before it has read the store.
        """
        found: dict[str, list[Told]] = {}
        answer = self.ask("/bgp/routes", table=table, **query)
        for each in answer["routes"] if isinstance(answer, dict) else ():
            found.setdefault(each["prefix"], []).append(Told.of(each))
        return found

    def received(self, peer: str) -> dict[str, Told]:
        """What `peer` announced, before import policy; `rejected` says why a path was not let in."""
        return {prefix: paths[0] for prefix, paths in self.paths("received", peer=peer).items()}

    def accepted(self, peer: str) -> dict[str, Told]:
        """What is left of it, after import policy."""
        return {prefix: paths[0] for prefix, paths in self.paths("accepted", peer=peer).items()}

    def advertised(self, peer: str) -> dict[str, Told]:
        """What we announced to `peer`."""
        return {prefix: paths[0] for prefix, paths in self.paths("advertised", peer=peer).items()}

    def best(self) -> dict[str, Told]:
        """The Loc-RIB."""
        return {prefix: paths[0] for prefix, paths in self.paths("best").items()}

    def kernel(self, version: int = 4) -> dict[str, str]:
        """Our routes in the kernel: prefix to gateway, or to device where there is none."""
        return {route["dst"]: route.get("gateway") or route.get("dev", "") for route in self._routes(version)}

    def ways(self) -> dict[str, list[str]]:
        """The gateways that share the traffic, of each IPv4 route of ours that has any."""
        found: dict[str, list[str]] = {}
        for route in self._routes(4):
            hops = route.get("nexthops", [route])
            if gateways := [hop["gateway"] for hop in hops if "gateway" in hop]:
                found[route["dst"]] = gateways
        return found

    def _routes(self, version: int) -> list[dict[str, Any]]:
        routes, nexthops = (
            json.loads(run(*self.place.namespace.argv("ip", *words)) or "[]")
            for words in ((f"-{version}", "-j", "route", "show", "proto", "114"), ("-j", "nexthop", "show"))
        )
        return leading(routes, nexthops)

    def children(self) -> dict[int, str]:
        """The agent's child processes and their command lines."""
        assert self._process is not None
        pid = self._process.pid
        found: dict[int, str] = {}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def kill_speaker(self) -> int:
        """SIGKILL to ExaBGP; its process id."""
        pid = next(pid for pid, command in self.children().items() if "exabgp" in command)
        os.kill(pid, signal.SIGKILL)
        return pid

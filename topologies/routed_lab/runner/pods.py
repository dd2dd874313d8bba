"""Pods: namespaces wired by executing the CNI plugin as a runtime does (CNI specification 1.0.0, section 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from routed.errors import EnvironmentFault
from routed_lab.runner import process

if TYPE_CHECKING:
    from routed_lab.runner.sandbox import Sandbox

_INTERFACE: Final = "eth0"
_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plugin:
    """The plugin of one node, run in the node's sandbox; configuration, answers and log in `directory`."""

    executable: Path
    sandbox: Sandbox
    directory: Path
    env: Mapping[str, str]

    async def add(self, container: str, sandbox: Path) -> IPv4Address:
        """Wire a sandbox and return its address; EnvironmentFault with the plugin's words when it refuses."""
        result = await self._run("ADD", container, sandbox)
        try:
            ips = cast("list[dict[str, str]]", result["ips"])
            return IPv4Interface(ips[0]["address"]).ip
        except (KeyError, IndexError, TypeError, ValueError):
            raise EnvironmentFault(
                f"the CNI plugin's ADD for {container} succeeded without an address: {json.dumps(result)}"
            ) from None

    async def delete(self, container: str, sandbox: Path) -> None:
        """Undo `add`; EnvironmentFault when the plugin refuses."""
        await self._run("DEL", container, sandbox)

    async def _run(self, command: str, container: str, sandbox: Path) -> dict[str, object]:
        config = self.directory / f"{container}.conf"
        answer = self.directory / f"{container}.{command.lower()}"
        log = self.directory / "cni.log"
        config.write_text(
            json.dumps({"cniVersion": "1.0.0", "name": "routed-lab", "type": self.executable.name}), encoding="utf-8"
        )
        env = dict(self.env) | {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(sandbox),
            "CNI_IFNAME": _INTERFACE,
            "CNI_PATH": str(self.executable.parent),
        }
        what = f"the CNI plugin's {command} for {container}"
        with config.open("rb") as stdin, answer.open("wb") as stdout:
            status = await process.run(
                what,
                [str(self.executable)],
                sandbox=self.sandbox,
                env=env,
                log=log,
                stdin=stdin,
                stdout=stdout,
                limit=_TIMEOUT,
            )
        text = answer.read_text(encoding="utf-8", errors="replace").strip()
        result = _object(text)
        if status:
            words = f"{result.get('msg')} {result.get('details') or ''}".strip() if "msg" in result else text
            raise EnvironmentFault(f"{what} failed: {words or f'status {status}'}{process.tail(log)}")
        return result


def _object(text: str) -> dict[str, object]:
    try:
        value: object = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}

"""`routed node cleanup`: this node's kernel as if routed had never run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from routed.config import AgentConfig
from routed.errors import EnvironmentFault, OperatorError

if TYPE_CHECKING:
    from routed_felix.cleanup import Removed


def cleanup(config: AgentConfig) -> int:
    """Remove what is ours and say so; 1 when the kernel refused a part.

    Raises OperatorError without root, and while an agent runs, which would put everything back.
    """
    if os.geteuid() != 0:
        raise OperatorError("node cleanup changes the kernel and needs root", hint="sudo routed node cleanup")
    from routed_felix.cleanup import cleanup as clean
    from routed_felix.state import Settings

    with _no_agent(config.run_dir):
        try:
            removed = clean(
                Settings(
                    config.route_protocol,
                    config.route_metric,
                    config.tunnel_device,
                    vxlan_device=config.vxlan_device,
                )
            )
        except OSError as error:
            raise EnvironmentFault(
                f"the kernel cannot be asked by netlink: {error.strerror}", hint="root needs CAP_NET_ADMIN here"
            ) from error
    print(render(removed, config.tunnel_device))
    return 1 if removed.failures else 0


def render(removed: Removed, tunnel_device: str) -> str:
    """What was done, a line each."""
    lines = [f"removed {len(removed.routes)} route{'' if len(removed.routes) == 1 else 's'}"] if removed.routes else []
    lines += [f"removed the pod interface {name}" for name in removed.veths]
    lines += [f"removed the address {address} from {tunnel_device}" for address in removed.addresses]
    lines += [f"set {tunnel_device} down"] if removed.tunnel_down else []
    lines += [f"removed {removed.vxlan}"] if removed.vxlan else []
    lines += [f"removed the firewall ({name})" for name in removed.firewall]
    lines = lines or ["nothing of routed was in this kernel"]
    lines += [f"left: {conflict.message}; {conflict.hint}" for conflict in removed.left]
    lines += [f"failed: {failure}" for failure in removed.failures]
    return "\n".join(lines)


@contextmanager
def _no_agent(run_dir: Path) -> Generator[None]:
    """Hold the agent's lock, so that none starts meanwhile. Raises OperatorError when one runs."""
    path = run_dir / "agent.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # no agent ever ran with this run_dir
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OperatorError(
                f"an agent is running (it holds {path}) and would put everything back",
                hint="stop it first: systemctl stop routed",
            ) from error
        yield
    finally:
        os.close(descriptor)

"""What the agent of this machine sees of leaks, for `routed ipam gc`."""

from __future__ import annotations

import msgspec

from routed.cli import agent_client
from routed.errors import EnvironmentFault
from routed.ipam.collect import Owner


class Leak(msgspec.Struct):
    """A handle whose interface is gone."""

    handle: str


class Status(msgspec.Struct):
    """Of /status, what concerns leaks."""

    node: str
    leaks: list[Leak] = []


def leaks(port: int) -> frozenset[Owner]:
    """Node and handle of each; none where no agent answers on `port`, as none has to run here."""
    try:
        status = agent_client.read(agent_client.fetch(port, "/status"), Status, port=port)
    except EnvironmentFault:
        return frozenset()
    return frozenset((status.node, leak.handle) for leak in status.leaks)

"""A node on its way out of service, as the store holds it: a key per node, outside the resources.

So applying manifests brings no drained node back, and an agent that restarts goes on where it was.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from routed.errors import EnvironmentFault

DRAINS = "/routed/v1/drain/"
"""Prefix of every such key."""


class Phase(StrEnum):
    """How far the node is; a node without a key is in service."""

    LOWERED = "lowered"  # others are preferred where there are others, and it still forwards (RFC 8326)
    WITHDRAWN = "withdrawn"


class _Drain(msgspec.Struct, frozen=True):
    """The value. Fields of a later version are ignored."""

    phase: Phase


def drain_key(node: str) -> str:
    """The store's key of `node`."""
    return f"{DRAINS}{node}"


def encode(phase: Phase) -> bytes:
    """The store's form."""
    return msgspec.json.encode(_Drain(phase))


def decode(data: bytes, *, key: str = "") -> Phase:
    """Read the store's form. Raises EnvironmentFault, naming `key`, when it is not what `encode` writes."""
    try:
        return msgspec.json.decode(data, type=_Drain).phase
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"store: key {key}: cannot read this drain: {error}",
            hint="it was written by another version of routed or by hand: upgrade, or `routed node undrain` the node",
        ) from error

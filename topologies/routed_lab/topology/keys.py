"""The keys that a node, a kind, a group or the defaults may have, and what becomes of those that only Docker can do.

The list is containerlab's (types/node_definition.go); one that is not in it is an error, as with its strict reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from routed_lab.topology.document import Value


def _text(value: Value) -> None:
    value.text()


def _number(value: Value) -> None:
    value.check_number()


def _truth(value: Value) -> None:
    value.boolean()


def _texts(value: Value) -> None:
    for item in value.list():
        item.text_or_nothing()


def _mapping(value: Value) -> None:
    for _ in value.items():
        pass


def _anything(_: Value) -> None:
    """What has a structure of its own that nothing here depends on."""


_DOCKER: Final = "only a container runtime can do that"
_DEVICE: Final = "it is for the vendors' network operating systems"
_NAMES: Final = "there are no host names in a lab of network namespaces"

WITHOUT_EFFECT: Final[dict[str, tuple[Callable[[Value], None], str]]] = {
    "aliases": (_texts, _NAMES),
    "auto-remove": (_truth, _DOCKER),
    "cap-add": (_texts, "programs have the capabilities of whoever runs the lab"),
    "certificate": (_mapping, _DEVICE),
    "cgroupns-mode": (_text, _DOCKER),
    "components": (_anything, _DEVICE),
    "config": (_mapping, _DEVICE),
    "cpu": (_number, _DOCKER),
    "cpu-set": (_text, _DOCKER),
    "credentials": (_mapping, _DEVICE),
    "devices": (_texts, _DOCKER),
    "dns": (_mapping, _NAMES),
    "enforce-startup-config": (_truth, _DEVICE),
    "extras": (_mapping, _DEVICE),
    "healthcheck": (_mapping, "a router or agent is healthy when it says that it is ready, any other node at once"),
    "hostname": (_text, _NAMES),
    "image-pull-policy": (_text, "no image is pulled"),
    "license": (_text, _DEVICE),
    "link-apply-mode": (_text, _DEVICE),
    "memory": (_text, _DOCKER),
    "password": (_text, _DEVICE),
    "pid-mode": (_text, _DOCKER),
    "ports": (_texts, _DOCKER),
    "privileged": (_truth, _DOCKER),
    "restart-policy": (_text, _DOCKER),
    "runtime": (_text, _DOCKER),
    "security-opts": (_texts, _DOCKER),
    "shm-size": (_text, _DOCKER),
    "startup-config": (_text, _DEVICE),
    "suppress-startup-config": (_truth, _DEVICE),
    "tmpfs": (_mapping, _DOCKER),
    "type": (_text, _DEVICE),
    "user": (_text, "programs run as whoever runs the lab"),
    "username": (_text, _DEVICE),
}
"""What is read, checked for its form, and answered with a warning: the form, and why it has no effect."""

SCALARS: Final = (
    "kind", "group", "image", "entrypoint", "cmd", "network-mode", "startup-delay", "mgmt-ipv4", "mgmt-ipv6",
    "position",
)  # fmt: skip
MAPS: Final = ("env", "labels", "sysctls")
LISTS: Final = ("exec", "env-files")

KEYS: Final = (*SCALARS, *MAPS, *LISTS, "binds", "stages", *WITHOUT_EFFECT)
"""All keys, those that mean something here first."""


class Warnings:
    """What of a file has no effect: the first place of each key, however many nodes have it."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def of(self, fields: Iterable[tuple[str, Value]]) -> None:
        """Check the form of those of `fields` that have no effect, and note each that is new."""
        for key, value in fields:
            if key in WITHOUT_EFFECT:
                check, why = WITHOUT_EFFECT[key]
                check(value)
                self.say(key, value, why)

    def say(self, key: str, value: Value, why: str) -> None:
        """Note that `key`, given by `value`, has no effect, unless it was noted before."""
        self._said.setdefault(key, f"{value.place}: {key} has no effect: {why}")

    @property
    def texts(self) -> tuple[str, ...]:
        """One sentence each, in the order in which they were met."""
        return tuple(self._said.values())

"""From what a node has to what it is: its kind, its role, its namespace, its programs and its files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from routed_lab.topology import routers
from routed_lab.topology.document import Value
from routed_lab.topology.inheritance import Settings
from routed_lab.topology.keys import Warnings
from routed_lab.topology.model import HOST, MANAGEMENT, Bind, Kind, LabNode, Role
from routed_lab.topology.routers import RouterKind
from routed_lab.topology.stages import commands, waits, words
from routed_lab.topology.surroundings import Surroundings, variables_of

INTERFACE: Final = re.compile(r"[^\s/:]{1,15}")
"""A name that the kernel takes for an interface: IFNAMSIZ less its NUL, dev_valid_name() in net/core/dev.c."""

LABELS: Final = ("routed.role", "routed.rack", "routed.pods", "routed.config", "routed.router")
"""Our own labels: what containerlab has no key for."""

_MEMBER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # such a node is a resource too: RFC 1123 label
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # a container, here a namespace and a directory
_CLUSTER_NODE = re.compile(r"(?P<cluster>.+)-(?:control-plane|worker)[0-9]*")
_KEY = re.compile(r"[^A-Za-z0-9]")
_SYSCTL = re.compile(r"net(?:[./][A-Za-z0-9_-]+)+")
_LONGEST_DELAY = 3600  # seconds
_MOST_PODS = 250


class Reader:
    """Makes the nodes of one file; `clusters` are the settings of its k8s-kind nodes by name."""

    def __init__(self, around: Surroundings, warnings: Warnings, clusters: Mapping[str, Settings]) -> None:
        self._around = around
        self._warnings = warnings
        self._clusters = clusters

    def node(self, key: Value, value: Value, settings: Settings) -> LabNode:
        """The node called `key`, described by `value`, that has `settings`. Raises OperatorError."""
        name = key.text()
        kind = kind_of(name, value, settings)
        labels = dict(settings.map("labels"))
        cluster = _CLUSTER_NODE.fullmatch(name) if kind is Kind.EXTERNAL else None
        if cluster is not None and cluster["cluster"] in self._clusters:
            theirs = self._clusters[cluster["cluster"]].map("labels")
            labels = {text: label for text, label in theirs.items() if text.startswith("routed.")} | labels
        image = settings.scalar("image")
        in_cluster = cluster is not None and cluster["cluster"] in self._clusters
        role = _role(name, value, labels, kind, Role.NODE if in_cluster else _by_image(image))
        _check_name(key, kind, role)
        plain = kind in (Kind.BRIDGE, Kind.HOST)
        config = self._config(name, labels)
        binds = () if plain else self._binds(name, settings)
        files: dict[str, Path] = {}
        router = RouterKind.BIRD
        if role is Role.ROUTER:
            router = _router(name, labels.get("routed.router"), image)
            files = self._files(binds, router)
            bound = files.pop(router.config.rpartition("/")[2], None)
            config = config or bound
            binds = tuple(bind for bind in binds if routers.bound(bind.target, router) is None)
            if config is None:
                raise value.error(
                    f"router {name} has neither a label routed.config nor a bind to {router.config}",
                    hint=f"name the configuration of its {router}, relative to this file",
                )
        return LabNode(
            name=name,
            role=role,
            line=key.line,
            rack=labels["routed.rack"].text() if "routed.rack" in labels else None,
            pods=_pods(name, labels.get("routed.pods"), role),
            config=config,
            router=router,
            files=files,
            commands=self._commands(name, settings) if kind is not Kind.BRIDGE else (),
            env=self._environment(name, kind, settings),
            kind=kind,
            image=image,
            group=settings.scalar("group"),
            labels={text: label.text_or_nothing() for text, label in labels.items()},
            program=() if plain else self._program(settings),
            binds=binds,
            sysctls={} if plain else self._sysctls(settings),
            joins=self._joins(name, kind, settings),
            delay=settings.scalars["startup-delay"].integer(0, _LONGEST_DELAY)
            if "startup-delay" in settings.scalars
            else 0,
            waits=waits(settings),
            stage_commands=commands(settings, name, self._around),
        )

    def _config(self, name: str, labels: Mapping[str, Value]) -> Path | None:
        label = labels.get("routed.config")
        if label is None:
            return None
        text = self._around.magic(label.text(), name)
        path = self._around.path(text)
        if not self._around.is_file(path):
            raise label.error(
                f"label routed.config of node {name} names {text}, but {path} is no file",
                hint="the path is relative to the topology file",
            )
        return path

    def _files(self, binds: Sequence[Bind], router: RouterKind) -> dict[str, Path]:
        """The files that binds bring into the directory of the router's configuration, by name; the last one counts."""
        files: dict[str, Path] = {}
        for bind in binds:
            target = routers.bound(bind.target, router)
            if target is not None and bind.source is not None:
                files |= {target: bind.source} if target else self._around.files(bind.source)
        return files

    def _commands(self, name: str, settings: Settings) -> tuple[tuple[str, ...], ...]:
        return tuple(words(self._around.magic(value.text(), name), value) for value in settings.list("exec"))

    def _program(self, settings: Settings) -> tuple[str, ...]:
        given = (settings.scalars[key] for key in ("entrypoint", "cmd") if key in settings.scalars)
        return tuple(word for value in given for word in words(value.text(), value))

    def _environment(self, name: str, kind: Kind, settings: Settings) -> dict[str, str]:
        found: dict[str, str] = {}
        for value in settings.list("env-files"):
            found |= variables_of(self._around.read(self._around.path(value.text())), value)
        given = {text: value.text_or_nothing() for text, value in settings.map("env").items()}
        if given.get("__IMPORT_ENVS") == "true":
            found = {**self._around.environment, **found}
        labels = {text: label.text_or_nothing() for text, label in settings.map("labels").items()} | {
            "containerlab": self._around.lab,
            "clab-node-name": name,
            "clab-node-kind": str(kind),
            "clab-node-group": settings.scalar("group"),
            "clab-node-lab-dir": str(self._around.lab_directory / name),
        }
        return found | given | {f"CLAB_LABEL_{_KEY.sub('_', text).upper()}": label for text, label in labels.items()}

    def _binds(self, name: str, settings: Settings) -> tuple[Bind, ...]:
        return tuple(self._bind(name, target, value) for target, value in settings.binds.items())

    def _bind(self, name: str, target: str, value: Value) -> Bind:
        source, *rest = value.text().split(":")
        if not target.startswith("/") or "/../" in f"{target}/":
            raise value.error(f'the destination of {value.what} is "{target}", expected an absolute path')
        if not rest:
            return Bind(target)
        path = self._around.path(self._around.magic(source, name))
        if not self._around.exists(path):
            raise value.error(
                f"{value.what} names {source}, but {path} does not exist",
                hint="the path is relative to the topology file",
            )
        return Bind(target, path, read_only=len(rest) > 1 and "ro" in rest[1].split(","))

    def _sysctls(self, settings: Settings) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in settings.map("sysctls").items():
            if _SYSCTL.fullmatch(name):
                found[name] = value.text()
            else:
                self._warnings.say(f"sysctl {name}", value, "only net.* belongs to a network namespace")
        return found

    def _joins(self, name: str, kind: Kind, settings: Settings) -> str | None:
        """Whose network namespace the node is in; None for one of its own."""
        mode = settings.scalar("network-mode")
        if kind is Kind.HOST:
            return HOST
        if mode == "host":
            return None if kind is Kind.BRIDGE else HOST
        if mode in ("", "bridge", "none"):
            return None
        _, colon, other = mode.partition("container:")
        if not colon or not other:
            raise settings.scalars["network-mode"].error(
                f'network-mode of node {name} is "{mode}", expected none, host, bridge or container:NODE'
            )
        return other


def kind_of(name: str, value: Value, settings: Settings) -> Kind:
    """The kind of node `name`, in any case of letters; OperatorError if there is none or this lab does not make it."""
    given = settings.scalars.get("kind")
    if given is None:
        raise value.error(
            f"node {name} has no kind, and neither its group nor the defaults say one",
            hint=f"add kind: with one of {', '.join(Kind)}",
        )
    text = given.text().lower()
    if text not in tuple(Kind):
        raise given.error(f'node {name} is of kind "{text}"; this lab makes only {", ".join(Kind)}')
    return Kind(text)


def _check_name(key: Value, kind: Kind, role: Role) -> None:
    name = key.text()
    if name == MANAGEMENT or (name == HOST and kind is not Kind.HOST):
        raise key.error(f'a node cannot be called "{name}": links know the {_RESERVED[name]} by that name')
    if kind is Kind.BRIDGE:
        bridge, bar, rest = name.partition("|")
        if (
            not INTERFACE.fullmatch(bridge)
            or bridge in (".", "..", "lo")
            or bool(bar) != bool(rest)
            or (bar and not _NAME.fullmatch(rest))
        ):
            raise key.error(f'the name of a bridge is "{name}", expected an interface name, or that and |NAME')
    elif role is Role.NODE:
        _matching(key, "name of a node", _MEMBER, "lower-case letters, digits and '-', at most 63")
    else:
        _matching(key, "name of a node", _NAME, "letters, digits, '-', '_' and '.', at most 63")


_RESERVED = {HOST: "machine", MANAGEMENT: "management bridge"}


def _matching(value: Value, what: str, pattern: re.Pattern[str], expected: str) -> None:
    if not pattern.fullmatch(value.text()):
        raise value.error(f'the {what} is "{value.text()}", expected {expected}')


def _by_image(image: str) -> Role | None:
    return Role.ROUTER if routers.by_image(image) is not None else None


def _router(name: str, label: Value | None, image: str) -> RouterKind:
    if label is None:
        return routers.by_image(image) or RouterKind.BIRD
    if label.text() not in tuple(RouterKind):
        expected = ", ".join(RouterKind)
        raise label.error(f'label routed.router of node {name} is "{label.text()}", expected one of {expected}')
    return RouterKind(label.text())


def _role(name: str, value: Value, labels: Mapping[str, Value], kind: Kind, implied: Role | None) -> Role:
    ours = [text for text in labels if text.startswith("routed.")]
    for text in ours:
        if text not in LABELS:
            raise labels[text].error(f'unknown label "{text}" of node {name}; allowed: {", ".join(LABELS)}')
    label = labels.get("routed.role")
    if label is None:
        if implied is not None and kind in (Kind.LINUX, Kind.EXTERNAL):
            return implied
        if kind in (Kind.LINUX, Kind.EXTERNAL) and {"routed.config", "routed.pods"} & set(ours):
            raise value.error(f"node {name} has no label routed.role, expected {Role.NODE} or {Role.ROUTER}")
        return Role.PLAIN
    if label.text() not in tuple(Role):
        raise label.error(
            f'label routed.role of node {name} is "{label.text()}", expected {Role.NODE}, {Role.ROUTER} or {Role.PLAIN}'
        )
    role = Role(label.text())
    if role is not Role.PLAIN and kind not in (Kind.LINUX, Kind.EXTERNAL):
        raise label.error(f"node {name} is of kind {kind} and cannot have the role {role}")
    return role


def _pods(name: str, label: Value | None, role: Role) -> int:
    if label is None:
        return 0
    if role is not Role.NODE:
        what = "router" if role is Role.ROUTER else "node"
        raise label.error(f"{what} {name} has the label routed.pods; only nodes of role node have pods")
    text = label.text()
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > _MOST_PODS:
        raise label.error(f'label routed.pods of node {name} is "{text}", expected a number from 0 to {_MOST_PODS}')
    return int(text)

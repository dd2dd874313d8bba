"""Read a `*.clab.yml` and what it names. Reading the files is the only I/O here.

Format: https://containerlab.dev/manual/topo-def-file/, of which the keys below are understood; what stands in
`defaults`, `kinds` and the node itself is merged as containerlab does: maps by key, lists one after the other, the rest
by the most special. `image`, `group` and `binds` are for containerlab alone: a lab of namespaces runs the machine's own
programs and reads a router's configuration by its label.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from routed.errors import OperatorError
from routed.manifest.read import Manifest, locate, read_files
from routed.model.resources import AnyResource
from routed.model.validate import validate
from routed_lab.topology.document import Value, parse
from routed_lab.topology.model import End, LabNode, Link, Role, Topology

_NODE_KEYS = ("kind", "image", "group", "binds", "labels", "exec", "env")
_TOPOLOGY_KEYS = ("defaults", "kinds", "nodes", "links")
_LABELS = ("routed.role", "routed.rack", "routed.pods", "routed.config")
_LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # a node is a resource too: RFC 1123 label
_INTERFACE = re.compile(r"[^\s/:]{1,15}")  # IFNAMSIZ less its NUL, dev_valid_name() in net/core/dev.c
_MOST_PODS = 250


def load(path: Path, variant: Sequence[str] = ()) -> Topology:
    """Return the lab that the file at `path` describes, checked against itself and its resources.

    `variant` names files or directories of resources that go on top of those which the file names, as if applied
    afterwards: of the same kind and name, theirs is the one. Raises OperatorError with file, line and what was
    expected.
    """
    document = parse(_read(path, "topology"), path).named("the topology file")
    top = document.fields(("name", "prefix", "topology"), required=("name", "topology"))
    name = _matching(top["name"], "name of the lab", _LAB_NAME, "letters, digits, '-', '_' and '.', at most 63")
    prefix = _prefix(top.get("prefix"))
    keys = top["topology"].named("topology").fields(_TOPOLOGY_KEYS, required=("nodes",))
    nodes = _nodes(keys)
    links = _links(keys["links"], nodes) if "links" in keys else ()
    topology = Topology(path, name, prefix, nodes, links, _resources(nodes, variant))
    _check_members(topology)
    _check_namespaces(topology)
    return topology


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the {what}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path}: the {what} is not UTF-8 text: byte {error.start}") from error


def _matching(value: Value, what: str, pattern: re.Pattern[str], expected: str) -> str:
    text = value.text()
    if not pattern.fullmatch(text):
        raise value.error(f'the {what} is "{text}", expected {expected}')
    return text


def _prefix(value: Value | None) -> str:
    """Containerlab's rule: `clab` unless the file says otherwise; `__lab-name` for the lab's name alone."""
    if value is None:
        return "clab"
    if value.text() == "__lab-name":
        return "__lab-name"
    return _matching(value, "prefix", _LAB_NAME, 'letters, digits, "-", "_" and ".", or "__lab-name"')


@dataclass(slots=True)
class _Settings:
    """What `defaults`, a kind or a node sets. `labels` and `config` keep their place for later errors."""

    kind: Value | None = None
    labels: dict[str, Value] = field(default_factory=dict[str, Value])
    commands: tuple[tuple[str, ...], ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])

    def over(self, base: _Settings) -> _Settings:
        """These settings on top of `base`."""
        return _Settings(
            self.kind or base.kind, base.labels | self.labels, base.commands + self.commands, base.env | self.env
        )


def _settings(value: Value) -> _Settings:
    keys = value.fields(_NODE_KEYS)
    for name in ("image", "group"):
        if name in keys:
            keys[name].text()
    if "binds" in keys:
        for bind in keys["binds"].list():
            bind.text()
    return _Settings(
        kind=keys.get("kind"),
        labels={key.text(): label for key, label in keys["labels"].items()} if "labels" in keys else {},
        commands=tuple(map(_command, keys["exec"].list())) if "exec" in keys else (),
        env={key.text(): text.text() for key, text in keys["env"].items()} if "env" in keys else {},
    )


def _command(value: Value) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(value.text()))
    except ValueError as error:
        raise value.error(f"{value.what} is no command line: {error}: {value.text()}") from error
    if not words:
        raise value.error(f"{value.what} is an empty command line")
    return words


def _nodes(keys: dict[str, Value]) -> dict[str, LabNode]:
    defaults = _settings(keys["defaults"].named("defaults")) if "defaults" in keys else _Settings()
    kinds: dict[str, _Settings] = {}
    if "kinds" in keys:
        kinds = {
            name: _settings(value.named(f"kind {name}")) for name, value in keys["kinds"].fields(("linux",)).items()
        }
    nodes: dict[str, LabNode] = {}
    for key, value in keys["nodes"].named("nodes").items():
        name = _matching(key, "name of a node", _NODE_NAME, "lower-case letters, digits and '-', at most 63")
        nodes[name] = _node(name, value.named(f"node {name}"), key.line, defaults, kinds)
    if not nodes:
        raise keys["nodes"].error("the topology has no nodes")
    return nodes


def _node(name: str, value: Value, line: int, defaults: _Settings, kinds: dict[str, _Settings]) -> LabNode:
    own = _settings(value)
    kind = own.kind or defaults.kind
    if kind is not None and kind.text() != "linux":
        raise kind.error(f'node {name} is of kind "{kind.text()}"; this lab makes only kind linux')
    settings = own.over(kinds.get("linux", _Settings()).over(defaults))
    labels = settings.labels
    for key, label in labels.items():
        if key.startswith("routed.") and key not in _LABELS:
            raise label.error(f'unknown label "{key}" of node {name}; allowed: {", ".join(_LABELS)}')
    role = _role(name, value, labels)
    config = labels.get("routed.config")
    if role is Role.ROUTER:
        if "routed.pods" in labels:
            raise labels["routed.pods"].error(f"router {name} has the label routed.pods; only nodes have pods")
        if config is None:
            raise value.error(
                f"router {name} has no label routed.config", hint="name its BIRD configuration, relative to this file"
            )
    return LabNode(
        name=name,
        role=role,
        line=line,
        rack=labels["routed.rack"].text() if "routed.rack" in labels else None,
        pods=_pods(name, labels.get("routed.pods")),
        config=None if config is None else _config(name, config),
        commands=settings.commands,
        env=settings.env,
    )


def _role(name: str, value: Value, labels: dict[str, Value]) -> Role:
    expected = " or ".join(Role)
    label = labels.get("routed.role")
    if label is None:
        raise value.error(f"node {name} has no label routed.role, expected {expected}")
    try:
        return Role(label.text())
    except ValueError:
        raise label.error(f'label routed.role of node {name} is "{label.text()}", expected {expected}') from None


def _pods(name: str, label: Value | None) -> int:
    if label is None:
        return 0
    text = label.text()
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > _MOST_PODS:
        raise label.error(f'label routed.pods of node {name} is "{text}", expected a number from 0 to {_MOST_PODS}')
    return int(text)


def _config(name: str, label: Value) -> Path:
    path = label.file.parent / label.text()
    if not path.is_file():
        raise label.error(
            f"label routed.config of node {name} names {label.text()}, but {path} is no file",
            hint="the path is relative to the topology file",
        )
    return path


def _links(value: Value, nodes: dict[str, LabNode]) -> tuple[Link, ...]:
    taken: dict[End, int] = {}
    links: list[Link] = []
    for number, item in enumerate(value.named("links").list(), 1):
        link = item.named(f"link {number}")
        endpoints = link.fields(("endpoints",), required=("endpoints",))["endpoints"].named(f"link {number}").list()
        if len(endpoints) != 2:
            ends = ", ".join(end.text() for end in endpoints) or "none"
            raise link.error(
                f"link {number} has {len(endpoints)} end{'s' * (len(endpoints) != 1)} ({ends}), expected two",
                hint='write endpoints: ["NODE:INTERFACE", "NODE:INTERFACE"]',
            )
        left, right = (_end(end.named(f"an end of link {number}"), nodes, taken) for end in endpoints)
        links.append(Link(left, right))
    return tuple(links)


def _end(value: Value, nodes: dict[str, LabNode], taken: dict[End, int]) -> End:
    node, colon, interface = value.text().partition(":")
    if not colon or not _INTERFACE.fullmatch(interface) or interface in (".", "..", "lo"):
        raise value.error(
            f'{value.what} is "{value.text()}", expected NODE:INTERFACE with an interface name of at most 15 characters'
        )
    if node not in nodes:
        raise value.error(
            f'{value.what} is at node "{node}", which the topology does not have; it has {", ".join(nodes)}'
        )
    end = End(node, interface)
    if end in taken:
        raise value.error(f"{value.what} is at {end}, which is in use on line {taken[end]}; an interface has one cable")
    taken[end] = value.line
    return end


def _resources(nodes: dict[str, LabNode], variant: Sequence[str]) -> tuple[AnyResource, ...]:
    """The resources of all nodes' files, each file once, and on top `variant`; they have to agree with one another."""
    files = dict.fromkeys(str(node.config) for node in nodes.values() if node.role is Role.NODE and node.config)
    manifests = read_files(list(files))
    if variant:
        above = read_files(variant)
        named = {_named(manifest): manifest for manifest in (*manifests, *above)}
        manifests = list(named.values())
    resources = tuple(manifest.resource for manifest in manifests)
    if problems := validate(resources):
        raise OperatorError("\n".join(locate(problem, manifests) for problem in problems))
    return resources


def _named(manifest: Manifest) -> tuple[type[AnyResource], str]:
    return type(manifest.resource), manifest.resource.metadata.name


def _check_members(topology: Topology) -> None:
    """Each node of the file is a Node resource and the other way about: a session to a node that is not there waits."""
    for node in topology.members:
        if node.name not in topology.cluster.nodes:
            files = ", ".join(sorted({str(member.config) for member in topology.members if member.config is not None}))
            raise OperatorError(
                f"{topology.path}:{node.line}: node {node.name} has no Node resource of its name"
                + (f" in {files}" if files else " and no label routed.config"),
                hint=f"add a document with kind: Node and metadata.name: {node.name}",
            )
    members = {node.name for node in topology.members}
    for name in topology.cluster.nodes:
        if name not in members:
            raise OperatorError(
                f"{topology.path}: the resources have a Node {name}, but no node of that name has the role node",
                hint="remove the resource, or add the node to the topology",
            )


def _check_namespaces(topology: Topology) -> None:
    pods = {pod.name: pod for pod in topology.pods}
    for name, node in topology.nodes.items():
        if name in pods:
            raise OperatorError(
                f"{topology.path}:{node.line}: node {name} has the name of a pod of node {pods[name].node}",
                hint="rename the node",
            )

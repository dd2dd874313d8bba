"""Read a `*.clab.yml` and what it names. Reading the files is the only I/O here.

Format: https://containerlab.dev/manual/topo-def-file/, read in containerlab's own order (core/file.go): the Go
template, then the shell's variables, then YAML, of which every key is known or refused. The parts are modules:
`template`, `substitution`, `document`, `keys`, `inheritance`, `nodes`, `stages`, `links`, `management`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from routed.errors import OperatorError
from routed.manifest.document import SyntaxFault, documents
from routed.manifest.read import Manifest, locate, read_files
from routed.model.resources import AnyResource
from routed.model.validate import validate
from routed_lab.topology import git, stages, substitution, template
from routed_lab.topology.document import Value, parse
from routed_lab.topology.inheritance import Settings, inherit, settings
from routed_lab.topology.keys import Warnings
from routed_lab.topology.links import Links, links, mentions
from routed_lab.topology.management import management
from routed_lab.topology.model import HOST, MANAGEMENT, Kind, LabNode, Management, Role, Topology
from routed_lab.topology.nodes import Reader, kind_of
from routed_lab.topology.surroundings import Surroundings

_TOP_KEYS = ("name", "prefix", "mgmt", "settings", "topology", "debug")
_TOPOLOGY_KEYS = ("defaults", "kinds", "groups", "nodes", "links")
_LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class _Described:
    """A node of the file: its key, its mapping, and all that it has."""

    key: Value
    place: Value
    settings: Settings


def load(path: Path, variant: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Topology:
    """Return the lab that the file at `path` describes, checked against itself and its resources.

    `variant` names files or directories of resources that go on top of those which the file names, as if applied
    afterwards: of the same kind and name, theirs is the one. `environment` are the variables that the file may use,
    this process's own if not given. Raises OperatorError with file, line and what was expected.
    """
    known = os.environ if environment is None else environment
    text = _read(path, "topology")
    document = parse(_expand(path, text, known), path).named("the topology file")
    top = document.fields(_TOP_KEYS, required=("name", "topology"))
    name = _name(top["name"])
    warnings = Warnings()
    if "settings" in top:
        warnings.say("settings", top["settings"], "certificates are for the vendors' network operating systems")
    around = Surroundings(
        directory=path.parent,
        lab=name,
        environment=known,
        home=Path.home(),
        exists=os.path.exists,  # not Path's, which raise for a name that is too long
        is_file=os.path.isfile,
        read=lambda file: _read(file, "env-file"),
        files=lambda directory: {each.name: each for each in directory.iterdir() if each.is_file()},
    )
    keys = top["topology"].named("topology").fields(_TOPOLOGY_KEYS, required=("nodes",))
    prefix = _prefix(top.get("prefix"))
    nodes, own = _nodes(keys, around, warnings)
    nodes = _joined(nodes, own, lambda node: Topology(path, name, prefix, {}, (), ()).namespace(node))
    stages.check(nodes, {node: value.place for node, value in own.items()})
    managed = _management(top.get("mgmt"), keys, nodes, own, warnings)
    has_eth0 = dict.fromkeys(managed.addresses, "its interface in the management network") if managed else {}
    found = links(keys["links"], nodes, has_eth0) if "links" in keys else Links()
    topology = Topology(
        path,
        name,
        prefix,
        nodes,
        found.cables,
        _resources(nodes, variant),
        found.dummies,
        managed,
        warnings.texts,
        substitution.used(text, known),
    )
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


def _expand(path: Path, text: str, environment: Mapping[str, str]) -> str:
    """The text with its template carried out and the variables put in."""
    try:
        if template.is_template(text):
            text = template.render(text, _template_variables(path))
        return substitution.substitute(text, environment)
    except substitution.SubstitutionFault as fault:
        raise OperatorError(
            f"{path}:{fault.line}:{fault.column}: {fault.message}",
            hint='of Go templates this lab takes {{ .variable }} and {{ "text" }}; write $$ for a dollar sign',
        ) from fault


def _template_variables(path: Path) -> template.Variables:
    """What FILE_vars.yaml, .yml or .json beside the topology holds; nothing if there is none."""
    for ending in (".yaml", ".yml", ".json"):
        file = path.with_name(f"{path.stem}_vars{ending}")
        if not file.exists():
            continue
        try:
            found = next(documents(_read(file, "template's variables")), None)
        except SyntaxFault as fault:
            raise OperatorError(f"{file}:{fault.line}: {fault.message}") from fault
        value = found.value if found is not None else {}
        if not isinstance(value, dict):
            raise OperatorError(f"{file}: expected a mapping of names to values")
        return value
    return {}


def _name(value: Value) -> str:
    text = value.text()
    if git.MAGIC.search(text):
        text = git.named(text, value.file.parent)
    if not _LAB_NAME.fullmatch(text):
        raise value.error(f'the name of the lab is "{text}", expected letters, digits, "-", "_" and ".", at most 63')
    return text


def _prefix(value: Value | None) -> str:
    """`clab` unless the file says otherwise; `__lab-name` for the lab's name alone, the empty text for none."""
    if value is None:
        return "clab"
    text = value.text()
    if text in ("", "__lab-name") or _LAB_NAME.fullmatch(text):
        return text
    raise value.error(f'the prefix is "{text}", expected letters, digits, "-", "_" and ".", "__lab-name" or ""')


def _nodes(
    keys: Mapping[str, Value], around: Surroundings, warnings: Warnings
) -> tuple[dict[str, LabNode], dict[str, _Described]]:
    """The nodes but for clusters, which are nothing by themselves, and what each was made of."""
    defaults = settings(keys["defaults"].named("defaults"), warnings) if "defaults" in keys else Settings()
    kinds, groups = (_levels(keys.get(key), key[:-1], warnings) for key in ("kinds", "groups"))
    described: dict[str, _Described] = {}
    clusters: dict[str, Settings] = {}
    for key, value in keys["nodes"].named("nodes").items():
        node = value.named(f"node {key.text()}")
        whole = inherit(settings(node, warnings), defaults, kinds, groups)
        if kind_of(key.text(), node, whole) is Kind.CLUSTER:
            clusters[key.text()] = whole
        else:
            described[key.text()] = _Described(key, node, whole)
    if not described:
        raise keys["nodes"].error("the topology has no nodes")
    reader = Reader(around, warnings, clusters)
    return {name: reader.node(it.key, it.place, it.settings) for name, it in described.items()}, described


def _levels(value: Value | None, what: str, warnings: Warnings) -> dict[str, Settings]:
    if value is None:
        return {}
    items = value.named(f"{what}s").items()
    return {key.text(): settings(level.named(f"{what} {key.text()}"), warnings) for key, level in items}


def _joined(
    nodes: Mapping[str, LabNode], described: Mapping[str, _Described], container: Callable[[str], str]
) -> dict[str, LabNode]:
    """The nodes with `network-mode: container:X` resolved: X is a node, or a node's container by its whole name."""
    by_container = {container(name): name for name in nodes}
    found: dict[str, LabNode] = {}
    for name, node in nodes.items():
        if node.joins is None:
            found[name] = node
            continue
        place = described[name].settings.scalars.get("network-mode", described[name].place)
        other = node.joins if node.joins in nodes else by_container.get(node.joins, node.joins)
        if node.kind is not Kind.HOST and node.role is Role.NODE:
            raise place.error(f"node {name} has the role node, and pods need a network namespace of their own")
        if node.sysctls:
            raise place.error(
                f"node {name} has sysctls, and its network namespace is that of {other}",
                hint="set them at the node whose namespace it is",
            )
        if other != HOST:
            if other not in nodes:
                raise place.error(
                    f'node {name} joins "{other}", which the topology does not have; it has {", ".join(nodes)}'
                )
            if nodes[other].kind not in (Kind.LINUX, Kind.EXTERNAL):
                raise place.error(f"node {name} joins {other}, which is of kind {nodes[other].kind} and no container")
        found[name] = replace(node, joins=other)
    for name in found:
        _check_ends(name, found, described)
    return found


def _check_ends(name: str, nodes: Mapping[str, LabNode], described: Mapping[str, _Described]) -> None:
    """A node that joins one that joins it has no namespace at all."""
    seen = [name]
    while (other := nodes[seen[-1]].joins) is not None and other != HOST:
        if other in seen:
            circle = " -> ".join((*seen, other))
            raise described[name].place.error(f"nodes join one another's network namespaces in a circle: {circle}")
        seen.append(other)


def _management(
    mgmt: Value | None,
    keys: Mapping[str, Value],
    nodes: Mapping[str, LabNode],
    described: Mapping[str, _Described],
    warnings: Warnings,
) -> Management | None:
    """The management network if the file wants one."""
    own = {name: it.settings for name, it in described.items()}
    wanted = mgmt is not None or any(key in it.scalars for it in own.values() for key in ("mgmt-ipv4", "mgmt-ipv6"))
    if not wanted and ("links" not in keys or not mentions(keys["links"], MANAGEMENT)):
        return None
    return management(mgmt, nodes, own, warnings)


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

"""YAML text to resources. Every problem of a whole set of files is reported at once, each with file, line and field."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import msgspec

from routed.errors import OperatorError
from routed.manifest.document import Document, Path, SyntaxFault, Value, documents
from routed.model.codec import decode_hook
from routed.model.resources import KINDS, AnyResource, KubernetesNode
from routed.model.validate import Problem, validate

_SUFFIXES = (".yml", ".yaml", ".json")
_NOT_ENFORCED = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")
# Written by an API server into what it prints; they say nothing about what is wanted.
_SERVER_SET = ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "managedFields")


@dataclass(frozen=True, slots=True)
class Text:
    """What a file says, and what to call it in messages."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A resource and where it was written."""

    resource: AnyResource
    source: str
    lines: Mapping[str, int]  # by field as messages name it, e.g. spec.podCIDRs[0]; "" is the object itself

    def where(self, field: str = "") -> str:
        """`file.yml:12`, of `field` or, where that was not written, of the nearest around it."""
        while field and field not in self.lines:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        return f"{self.source}:{self.lines[field]}"


def read_files(paths: Sequence[str]) -> list[Manifest]:
    """The resources of files, of directories (their *.yml, *.yaml and *.json) and of `-`, standard input.

    Raises OperatorError that lists all problems of all files.
    """
    return read(list(_texts(paths)))


def read(texts: Iterable[Text]) -> list[Manifest]:
    """The resources of `texts`, in order. Raises OperatorError that lists all problems, one per line."""
    manifests: list[Manifest] = []
    problems: list[str] = []
    for text in texts:
        before = len(manifests) + len(problems)
        try:
            for document in documents(text.text):
                for path, value in _objects(document.value):
                    _read_object(text.source, document, path, value, manifests, problems)
        except SyntaxFault as fault:
            problems.append(f"{text.source}:{fault.line}: {fault.message}")
        if len(manifests) + len(problems) == before:
            problems.append(f"{text.source}: holds no resource; expected kind {', '.join(KINDS)}")
    problems += _twins(manifests)
    if problems:
        raise OperatorError("\n".join(problems))
    return manifests


def load(paths: Iterable[FilePath]) -> tuple[AnyResource, ...]:
    """The resources of files that describe a whole cluster. Raises OperatorError, also where they contradict."""
    manifests = read_files([str(path) for path in paths])
    resources = tuple(manifest.resource for manifest in manifests)
    if problems := validate(resources):
        raise OperatorError("\n".join(locate(problem, manifests) for problem in problems))
    return resources


def locate(problem: Problem, manifests: Iterable[Manifest]) -> str:
    """`problem` as a line that starts with the file and line that state it, or with "store" for what is there."""
    for manifest in manifests:
        if (manifest.resource.kind, manifest.resource.name) == (problem.kind, problem.name):
            return f"{manifest.where(problem.field)}: {problem}"
    return f"store: {problem}"


def _texts(paths: Sequence[str]) -> Iterator[Text]:
    for path in paths:
        try:
            if path == "-":
                yield Text("standard input", sys.stdin.read())
                continue
            file = FilePath(path)
            files = [file]
            if file.is_dir():
                files = sorted(entry for entry in file.iterdir() if entry.suffix in _SUFFIXES and entry.is_file())
                if not files:
                    raise OperatorError(
                        f"{path}: this directory holds no manifest", hint=f"expected files *{', *'.join(_SUFFIXES)}"
                    )
            for each in files:
                yield Text(str(each), each.read_text(encoding="utf-8"))
        except OSError as error:
            name = error.filename or path
            raise OperatorError(f"{name}: {error.strerror}", hint="name a file, a directory or - after -f") from error
        except UnicodeDecodeError as error:
            raise OperatorError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error


def _objects(value: Value) -> Iterator[tuple[Path, Value]]:
    """The objects of a document: itself, or the items of a List (Calico's NodeList, Kubernetes' List)."""
    if isinstance(value, dict):
        kind, items = value.get("kind"), value.get("items")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
            for index, item in enumerate(items):
                yield ("items", index), item
            return
    yield (), value


def _read_object(
    source: str, document: Document, at: Path, value: Value, manifests: list[Manifest], problems: list[str]
) -> None:
    """Add `value`, found at `at`, to `manifests`, or what is wrong with it to `problems`."""
    subject = _subject(value)

    def problem(path: Path, message: str) -> None:
        field = f"{_field(path)}: " if path else ""
        problems.append(f"{source}:{document.line((*at, *path))}: {subject}: {field}{message}")

    if not isinstance(value, dict):
        problem((), "not a resource; expected the fields apiVersion, kind, metadata and spec")
        return
    kind = value.get("kind")
    if refusal := _refuse_kind(kind):
        problem(("kind",), refusal)
        return
    schema = KINDS[str(kind)]
    if _is_of_kubernetes(value):
        schema, value = KubernetesNode, _of_kubernetes(value)
    if value.get("apiVersion") != (expected := api_version(schema)):
        found = f"found {value['apiVersion']!r}" if "apiVersion" in value else "it is missing"
        problem(("apiVersion",), f"expected {expected}, {found}")
        return
    try:
        resource: AnyResource = msgspec.convert(_without_server_set(value), schema, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        from routed.manifest.explain import explain  # only needed when something is wrong

        problem(*explain(error, schema, value))
        return
    lines = {_field(path[len(at) :]): line for path, line in document.lines.items() if path[: len(at)] == at}
    manifests.append(Manifest(resource, source, lines))


def api_version(schema: type[AnyResource]) -> str:
    """What manifests of this kind state as their `apiVersion`."""
    field = next(field for field in msgspec.structs.fields(schema) if field.name == "api_version")
    return str(field.default)


def _refuse_kind(kind: Value) -> str | None:
    """Why there is no resource of this kind, if so."""
    if isinstance(kind, str) and kind in KINDS:
        return None
    if kind in _NOT_ENFORCED:
        return f"{kind} is not enforced by this version; apply it with the version that does"
    from routed.manifest.explain import suggest

    supported = f"supported are {', '.join(KINDS)}"
    if not isinstance(kind, str):
        return f"{'is missing' if kind is None else 'is not text'}; {supported}"
    near = suggest(kind, KINDS)
    return f"unknown kind {kind!r}{', ' + near if near.startswith('did') else ';'} {supported}"


def _without_server_set(value: dict[str, Value]) -> dict[str, Value]:
    """`value` without what an API server adds, so that printed objects can be applied again."""
    kept = {name: item for name, item in value.items() if name != "status"}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        kept["metadata"] = {name: item for name, item in metadata.items() if name not in _SERVER_SET}
    return kept


def _is_of_kubernetes(value: dict[str, Value]) -> bool:
    """Whether it is a Node of Kubernetes, and not ours with a wrong version, whose `bgp` must not be passed over."""
    spec = value.get("spec")
    ours = isinstance(spec, dict) and "bgp" in spec
    return value.get("kind") == "Node" and value.get("apiVersion") == "v1" and not ours


def _of_kubernetes(value: dict[str, Value]) -> dict[str, Value]:
    """Of Kubernetes' own Node what we read: most of it is nothing to us, and another version has other fields."""
    kept: dict[str, Value] = {**value, "kind": KubernetesNode.__name__}
    for part, names in (("metadata", ("name", "labels")), ("spec", ("podCIDR", "podCIDRs"))):
        fields = value.get(part)
        if isinstance(fields, dict):
            kept[part] = {name: fields[name] for name in names if name in fields}
    return {name: kept[name] for name in ("apiVersion", "kind", "metadata", "spec") if name in kept}


def _subject(value: Value) -> str:
    """`Node a1`, as far as the object says so."""
    if not isinstance(value, dict):
        return "document"
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = value.get("kind")
    return " ".join(part for part in (kind, name) if isinstance(part, str)) or "document"


def _field(path: Path) -> str:
    """`spec.podCIDRs[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _twins(manifests: Iterable[Manifest]) -> Iterator[str]:
    first: dict[tuple[str, str], Manifest] = {}
    for manifest in manifests:
        resource = manifest.resource
        earlier = first.setdefault((resource.kind, resource.name), manifest)
        if earlier is not manifest:
            yield f"{manifest.where()}: {resource.kind} {resource.name}: is there twice, first at {earlier.where()}"

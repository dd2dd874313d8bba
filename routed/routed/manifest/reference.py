"""The reference page of all resources, generated from their declarations.

`python -m routed.manifest.reference > docs/reference/resources.md`
"""

from __future__ import annotations

import inspect as python
import sys
from collections.abc import Iterator
from typing import Any, cast

import msgspec
from msgspec import inspect

from routed.manifest.explain import describe
from routed.manifest.read import api_version
from routed.model.codec import encode_hook
from routed.model.resources import KINDS, AnyResource, KubernetesNode
from routed.model.schema import Metadata

_HEAD = """\
# Resources

<!-- Generated: python -m routed.manifest.reference > docs/reference/resources.md -->

`routed apply -f` reads these kinds from YAML or JSON, with the names, fields and defaults of `projectcalico.org/v3`.
What Calico's open source lacks is marked as an addition. A field that is not here is refused by name, and so is what
contradicts the rest: nothing is dropped in silence.

Every object has `apiVersion: projectcalico.org/v3` (a Namespace and Kubernetes' own Node have `v1`), its `kind` and:

"""

_EXAMPLES = {
    "Node": """\
metadata: {name: a1, labels: {rack: a}}
spec:
  bgp: {ipv4Address: 10.1.1.11/24, ipv6Address: "2001:db8:1::11/64", asNumber: 64601}
  podCIDRs: [10.244.1.0/24]
""",
    "IPPool": """\
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16, ipipMode: CrossSubnet}
""",
    "BGPPeer": """\
metadata: {name: tor-a}
spec:
  nodeSelector: rack == 'a'
  peerIP: 10.1.1.1
  asNumber: 65101
  password: {secretKeyRef: {name: bgp, key: tor-a}}
  failureDetectionMode: BFDIfDirectlyConnected
  filters: [no-default]
""",
    "BGPConfiguration": """\
metadata: {name: default}
spec:
  asNumber: 64512
  nodeMeshMaxRestartTime: 60s
  communities: [{name: pods, value: "64512:100"}]
  prefixAdvertisements: [{cidr: 10.244.0.0/16, communities: [pods]}]
""",
    "IPReservation": """\
metadata: {name: routers}
spec: {reservedCIDRs: [10.244.0.0/30, 10.244.0.64/32]}
""",
    "IPAMConfiguration": """\
metadata: {name: default}
spec: {strictAffinity: false, maxBlocksPerHost: 4}
""",
    "Namespace": """\
metadata:
  name: shop
  labels: {team: shop}
  annotations: {cni.projectcalico.org/ipv4pools: '["pods"]'}
""",
    "KubernetesNode": """\
metadata: {name: a1, labels: {topology.kubernetes.io/zone: east}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24], taints: [{key: maintenance, effect: NoSchedule}]}
""",
    "BGPFilter": """\
metadata: {name: no-default}
spec:
  importV4:
    - {action: Reject, cidr: 0.0.0.0/0, matchOperator: Equal}
    - {action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}}
  exportV4:
    - {action: Accept, peerType: eBGP, operations: [{addCommunity: {value: "64512:100"}}]}
""",
}


def reference() -> str:
    """The page, Markdown."""
    told: dict[type, str] = {}
    metadata = _table(_rows("metadata", Metadata, told, "all kinds"))
    return (
        _HEAD
        + metadata
        + "".join(_section(kind, schema, told) for kind, schema in {**KINDS, "KubernetesNode": KubernetesNode}.items())
    )


def _section(kind: str, schema: type[AnyResource], told: dict[type, str]) -> str:
    spec = next(field.type for field in _fields(schema) if field.encode_name == "spec")
    struct = _struct(spec)
    if struct is None:
        raise TypeError(kind)
    text = python.cleandoc(struct.__doc__ or "")
    title, written = ("Node, `apiVersion: v1`", "Node") if schema is KubernetesNode else (kind, kind)
    example = f"```yaml\napiVersion: {api_version(schema)}\nkind: {written}\n{_EXAMPLES[kind]}```\n"
    return f"\n## {title}\n\n{text}\n\n{example}\n{_table(_rows('spec', struct, told, kind))}"


def _rows(path: str, struct: type, told: dict[type, str], kind: str) -> Iterator[tuple[str, str, str, str]]:
    """A row for each field, and below it those of a struct inside it, unless that struct has been told already."""
    for field in _fields(struct):
        name = f"{path}.{field.encode_name}"
        inner, many = _struct(field.type), isinstance(_value(field.type), inspect.VarTupleType)
        meaning = _description(field.type)
        if inner is None:
            yield name, describe(field.type), _default(field), meaning
            continue
        value = "a list of fields" if many else "fields"
        known = told.get(inner)
        yield name, f"{value}, as {known}" if known else f"{value}, below", _default(field), meaning
        if known is None:
            inside = f"{name}[]" if many else name
            told[inner] = f"`{inside}` of {kind}"
            yield from _rows(inside, inner, told, kind)


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    head = "| Field | Value | Default | Meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(
        f"| `{name}` | {value.replace('|', chr(92) + '|')} | {default} | {meaning} |\n"
        for name, value, default, meaning in rows
    )


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default in (None, ()) or field.default is msgspec.NODEFAULT or isinstance(field.default, msgspec.Struct):
        return ""
    plain: Any = msgspec.to_builtins(field.default, enc_hook=encode_hook)
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


def _fields(struct: type) -> tuple[inspect.Field, ...]:
    at = inspect.type_info(struct)
    return at.fields if isinstance(at, inspect.StructType) else ()


def _value(at: inspect.Type) -> inspect.Type:
    """`at` without annotations and without null."""
    while True:
        match at:
            case inspect.Metadata():
                at = at.type
            case inspect.UnionType():
                at = next(option for option in at.types if not isinstance(option, inspect.NoneType))
            case _:
                return at


def _struct(at: inspect.Type) -> type | None:
    """The struct that a field holds, or a list of which it holds."""
    value = _value(at)
    if isinstance(value, inspect.VarTupleType):
        value = _value(value.item_type)
    return value.cls if isinstance(value, inspect.StructType) else None


def _description(at: inspect.Type) -> str:
    if not isinstance(at, inspect.Metadata):
        return ""
    schema = cast("dict[str, object]", at.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType]  a bare dict
    return str(schema.get("description", ""))


if __name__ == "__main__":
    sys.stdout.write(reference())

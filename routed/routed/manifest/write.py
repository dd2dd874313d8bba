"""Resources as YAML and JSON for people and programs; what is written here `read` takes back unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from routed.manifest.document import add_core_schema
from routed.model.codec import builtins
from routed.model.resources import AnyResource, KubernetesNode


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or YAML 1.2 would read as something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  PyYAML's protocol
        """Indent lists below their key, as Kubernetes' manifests are written."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write values out, never `&id001`."""
        return True


add_core_schema(_Dumper)


def to_yaml(resource: AnyResource) -> str:
    """One resource as a YAML document."""
    return _yaml(_manifest(resource))


def to_json(resource: AnyResource) -> str:
    """One resource as indented JSON."""
    return _json(_manifest(resource))


def list_to_yaml(kind: str, resources: Sequence[AnyResource]) -> str:
    """Many as one list document of `kind`, e.g. NodeList, as Calico prints them."""
    return _yaml(_list(kind, resources))


def list_to_json(kind: str, resources: Sequence[AnyResource]) -> str:
    """Many as one list object of `kind`."""
    return _json(_list(kind, resources))


def _manifest(resource: AnyResource) -> dict[str, Any]:
    """As manifests have it."""
    told = builtins(resource)
    return {**told, "kind": "Node"} if isinstance(resource, KubernetesNode) else told


def _list(kind: str, resources: Sequence[AnyResource]) -> dict[str, Any]:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "items": [_manifest(item) for item in resources]}


def _yaml(value: dict[str, Any]) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)
    return text


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"

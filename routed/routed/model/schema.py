"""What all resources have in common."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from routed.model.fields import Name


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """Strict: unknown fields are errors, values never change. A field's description is the reference page's text."""


class Metadata(Schema, frozen=True):
    """What every resource carries."""

    name: Annotated[Name, Meta(description="Unique among the objects of its kind.")]
    labels: Annotated[dict[str, str], Meta(description="What selectors select by.")] = {}
    annotations: Annotated[dict[str, str], Meta(description="Notes, which routed keeps and does not read.")] = {}


class Resource(Schema, frozen=True, tag_field="kind"):
    """Base of the kinds; `kind` is written by the struct's tag."""

    metadata: Metadata
    api_version: Literal["projectcalico.org/v3", "v1"] = "projectcalico.org/v3"

    @property
    def kind(self) -> str:
        """The kind's name, as manifests write it."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

"""The reference page of the resources."""

from __future__ import annotations

import re
from pathlib import Path

from routed.manifest import Text, read
from routed.manifest.reference import reference
from routed.model.resources import KINDS
from routed.model.validate import validate

REPOSITORY = Path(__file__).parents[3]


def test_the_page_is_generated_from_the_declarations():
    page = REPOSITORY / "docs/reference/resources.md"
    assert page.read_text() == reference(), "run: python -m routed.manifest.reference > docs/reference/resources.md"


def test_the_examples_are_a_cluster_that_works():
    examples = re.findall(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    resources = [manifest.resource for manifest in read([Text("page", "---\n".join(examples))])]
    assert [resource.kind for resource in resources] == [*KINDS, "KubernetesNode"]
    assert validate(resources) == ()


def test_every_field_has_a_meaning():
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert line.split("|")[-2].strip(), line

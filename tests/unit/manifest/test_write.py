"""Resources to YAML and JSON; what is written can be read again."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routed.manifest import Text, read
from routed.manifest.write import list_to_json, list_to_yaml, to_json, to_yaml
from routed.model.resources import BGPConfiguration, Metadata

TRAPS = [
    "on",
    "no",
    "12",
    "1e3",
    "0o17",
    "0x1f",
    "~",
    "",
    " ",
    "null",
    "2024-01-01",
    "a: b",
    "#",
    "- x",
    "é",
    "1_0",
    ".5",
    "\n",
]
TEXT = st.sampled_from(TRAPS) | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=8)


def labelled(labels: dict[str, str]) -> BGPConfiguration:
    return BGPConfiguration(metadata=Metadata("default", labels))


@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_any_labels_survive_yaml_and_json(labels):
    resource = labelled(labels)
    for text in (to_yaml(resource), list_to_yaml("BGPConfigurationList", [resource])):
        assert [manifest.resource for manifest in read([Text("out", text)])] == [resource]
    assert json.loads(to_json(resource))["metadata"].get("labels", {}) == labels


@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_readers_of_yaml_1_1_see_the_same_labels(labels):
    assert yaml.safe_load(to_yaml(labelled(labels)))["metadata"].get("labels", {}) == labels


@pytest.mark.parametrize("text", [to_yaml(labelled({})), to_json(labelled({}))])
def test_fields_come_in_the_order_of_manifests(text):
    places = [text.index(name) for name in ("apiVersion", "kind", "metadata", "spec")]
    assert places == sorted(places)


def test_an_empty_list_is_a_list():
    assert json.loads(list_to_json("NodeList", [])) == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NodeList",
        "items": [],
    }

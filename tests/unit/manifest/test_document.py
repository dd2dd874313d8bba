"""YAML to plain values with their lines."""

from __future__ import annotations

import math

import pytest

from routed.manifest.document import SyntaxFault, documents


def value(text: str):
    [document] = documents(text)
    return document.value


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "y", "2024-01-02", "1:30", "1_000", "0b1", "=", "10.1.1.1"])
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text):
    assert value(f"key: {text}") == {"key": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("!!str 5", "5"),
    ],
)
def test_scalars_of_the_core_schema(text, expected):
    found = value(f"key: {text}")["key"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", ['"12"', "'true'", '"null"', "|-\n  12"])
def test_quoted_and_block_scalars_are_text(text):
    assert isinstance(value(f"key: {text}")["key"], str)


def test_every_field_knows_its_line():
    [document] = documents("a:\n  b:\n    - 1\n    - z: 1\n      c: 2\nd: {e: 3}\n")
    assert [document.line(path) for path in [("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "c"), ("d", "e")]] == [
        1, 2, 4, 5, 6,
    ]  # fmt: skip


def test_what_is_not_there_has_the_line_of_what_is_around_it():
    [document] = documents("x: 1\na:\n  b: 1\n")
    assert document.line(("a", "missing", "deeper")) == 2


def test_documents_are_separate_and_empty_ones_left_out():
    found = list(documents("---\na: 1\n---\n# nothing\n---\nb: 2\n"))
    assert [(document.value, document.line(())) for document in found] == [({"a": 1}, 2), ({"b": 2}, 6)]


def test_aliases_are_unfolded():
    assert value("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is there twice, first in line 1"),
        ("a: [1\nb: 2", 2, "not YAML: while parsing a flow sequence"),
        ("a:\n\t- 1", 2, "not YAML"),
        ("a: 1\n1: 2", 2, "the key '1' is not text; quote it"),
        ("? [a]\n: 1", 1, "this key is a list or fields; expected text"),
        ("a: !!binary abc", 1, "tag tag:yaml.org,2002:binary is not supported"),
        ("a: !!int x", 1, "'x' is not a value of its tag"),
        ("a: &x [*x]", 1, "does an alias contain itself"),
        ("a: 1\nb: " + "[" * 200 + "]" * 200, 2, "nested more than 64 deep"),
        ("[" * 200_000, 1, "nested more than 64 deep"),  # which would end a process that composed it
        ("a: b\nc: \x07", 2, "not allowed"),
        ("a: *nowhere", 1, "not YAML: found undefined alias"),
    ],
)
def test_bad_text_is_refused_with_its_line(text, line, message):
    with pytest.raises(SyntaxFault) as caught:
        list(documents(text))
    assert caught.value.line == line
    assert message in caught.value.message


def test_aliases_that_multiply_are_stopped():
    layers = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SyntaxFault, match="too large"):
        list(documents("\n".join(layers)))

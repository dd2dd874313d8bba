"""Calico's selector language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.selector import Selector, SelectorError

LABELS = {"rack": "a", "role": "spine-1", "projectcalico.org/zone": "", "deprecated": "yes"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "all()",
        "all( )",
        "global()",
        "has(rack)",
        "has( projectcalico.org/zone )",
        "!has(absent)",
        "rack == 'a'",
        'rack=="a"',
        "rack != 'b'",
        "absent != 'a'",
        "rack in {'a', 'b'}",
        "rack in{'a'}",
        "rack not in {'c'}",
        "absent not in {'a'}",
        "role contains 'ine'",
        "role starts with 'spine'",
        "role starts  with 'spine'",
        "role ends with '-1'",
        "projectcalico.org/zone == ''",
        "(rack == 'a')",
        "!(rack == 'b')",
        "!!has(rack)",
        "has(absent) || rack == 'a'",
        "has(absent) && has(absent) || rack == 'a'",
        "rack == 'a' || has(absent) && has(absent)",
        "(rack == 'a' || has(x)) && has(role)",
        "deprecated == 'yes'",  # begins as a word of the language would
    ],
)
def test_it_selects(text: str) -> None:
    assert Selector.parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        "!all()",
        "has(absent)",
        "rack == 'b'",
        "absent == ''",
        "rack != 'a'",
        "absent in {''}",
        "rack in {'b'}",
        "rack not in {'a'}",
        "absent contains ''",
        "absent starts with ''",
        "absent ends with ''",
        "role contains 'x'",
        "role starts with '1'",
        "role ends with 's'",
        "rack == 'a' && has(absent)",
        "(rack == 'a' || has(role)) && has(absent)",
    ],
)
def test_it_does_not_select(text: str) -> None:
    assert not Selector.parse(text).matches(LABELS)


def test_what_lives_in_a_namespace_is_not_global() -> None:
    assert not Selector.parse("global()").matches({"projectcalico.org/namespace": "x"})


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("rack", 5, "==, !=, in"),
        ("rack = 'a'", 6, "a label, a string or an operator"),
        ("rack == a", 9, "a string in"),
        ("rack == 'a", 9, "a label, a string or an operator"),
        ("rack == 'a' rack == 'b'", 13, "&&, || or the end"),
        ("rack == 'a' &&", 15, "a label, has(), all(), ! or ("),
        ("(rack == 'a'", 13, "&&, || or )"),
        ("rack == 'a')", 12, "&&, || or the end"),
        ("rack in 'a'", 9, "{ and the strings"),
        ("rack in {}", 10, "a string in"),
        ("rack in {'a' 'b'}", 14, ", or }"),
        ("'a' == rack", 1, "a label, has()"),
        ("every()", 6, "==, !=, in"),
        ("rack ~ 'a'", 6, "a label, a string or an operator"),
        ("&& has(a)", 1, "a label, has()"),
        ("!" * 100 + "has(a)", 66, "fewer than 64"),
        ("(" * 100 + "has(a)" + ")" * 100, 66, "fewer than 64"),
    ],
)
def test_what_is_no_selector_is_refused_with_the_place(text: str, position: int, expected: str) -> None:
    with pytest.raises(SelectorError) as caught:
        Selector.parse(text)
    assert caught.value.position == position
    assert f"at character {position} expected {expected}" in str(caught.value)


def test_equal_text_is_an_equal_selector() -> None:
    assert Selector("has(a)") == Selector("has(a)") != Selector("has(b)")
    assert str(Selector("has(a)")) == "has(a)"


# Selectors as text, each with what it means, made apart from the parser.

Meaning = Callable[[Mapping[str, str]], bool]
KEYS = st.sampled_from(["a", "b", "x/y.z-0"])
VALUES = st.text('abc "{}&|!()', max_size=3)
SPACE = st.sampled_from(["", " ", "  "])


def leaf(key: str, value: str, operator: str) -> tuple[str, Meaning]:
    meanings: dict[str, Meaning] = {
        "==": lambda labels: labels.get(key) == value,
        "!=": lambda labels: labels.get(key) != value,
        "contains": lambda labels: key in labels and value in labels[key],
        "starts with": lambda labels: key in labels and labels[key][: len(value)] == value,
        "ends with": lambda labels: key in labels and labels[key][len(labels[key]) - len(value) :] == value,
    }
    return f"{key} {operator} '{value}'", meanings[operator]


def membership(key: str, values: list[str], negated: bool) -> tuple[str, Meaning]:
    text = f"{key}{' not' * negated} in {{{','.join(repr_(value) for value in values)}}}"
    return text, lambda labels: (key in labels and labels[key] in values) is not negated


def repr_(value: str) -> str:
    return f"'{value}'"


def joined(parts: list[tuple[str, Meaning]], every: bool, space: str) -> tuple[str, Meaning]:
    text = f"{space}{'&&' if every else '||'}{space}".join(f"({text})" for text, _ in parts)
    combine = all if every else any
    return text, lambda labels: combine(meaning(labels) for _, meaning in parts)


def negated(part: tuple[str, Meaning], space: str) -> tuple[str, Meaning]:
    return f"!{space}({part[0]})", lambda labels: not part[1](labels)


LEAVES = (
    st.just(("all()", lambda labels: True))
    | KEYS.map(lambda key: (f"has({key})", lambda labels: key in labels))
    | st.builds(leaf, KEYS, VALUES, st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]))
    | st.builds(membership, KEYS, st.lists(VALUES, min_size=1, max_size=3), st.booleans())
)
SELECTORS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(joined, st.lists(inner, min_size=1, max_size=3), st.booleans(), SPACE)
        | st.builds(negated, inner, SPACE)
    ),
    max_leaves=8,
)


@given(SELECTORS, st.dictionaries(KEYS, VALUES, max_size=3))
def test_a_selector_selects_what_it_means(selector: tuple[str, Meaning], labels: dict[str, str]) -> None:
    text, meaning = selector
    assert Selector.parse(text).matches(labels) == meaning(labels)


@given(st.text("ab =!&|(){}'\",~\n", max_size=20) | st.text(max_size=10))
def test_any_text_is_a_selector_or_an_error_inside_it(text: str) -> None:
    with suppress(SelectorError):
        Selector.parse(text)
        return
    with pytest.raises(SelectorError) as caught:
        Selector.parse(text)
    assert 1 <= caught.value.position <= len(text) + 1

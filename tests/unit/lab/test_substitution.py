"""Variables of the shell and Go templates in a topology file, as hellt/envsubst's tests have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_lab.topology.substitution import SubstitutionFault, substitute, used
from routed_lab.topology.template import render

ENVIRONMENT = {"BAR": "bar", "FOO": "foo", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("$BAR$FOO - ${BAR}baz", "barfoo - barbaz"),
        ("${UNSET-w} ${UNSET=w} ${UNSET:-w} ${UNSET:=w}", "w w w w"),
        ("${EMPTY-w}|${EMPTY=w}|${EMPTY:-w}|${EMPTY:=w}", "||w|w"),
        ("${BAR-w} ${BAR:=w}", "bar bar"),
        ("${BAR+w} ${EMPTY+w} ${EMPTY:+w} ${UNSET+w}|${UNSET:+w}", "w w w |"),
        ("${UNSET:=$BAR} ${UNSET-$UNSET_TOO}|", "bar |"),
        ("${URL-http://[::1]:8080/?a=b}", "http://[::1]:8080/?a=b"),
        ("$UNSET ${UNSET} Stuff$ToIgnore!d", "$UNSET ${UNSET} Stuff$ToIgnore!d"),
        ("$_ ${_} $1 ${2} $(id) $", "$_ ${_} $1 ${2} $(id) $"),
        ("$$BAR $${BAR} $$", "$BAR ${BAR} $"),
        ("$$$BAR $$${UNSET:-baz}", "$bar $baz"),
        ("# a comment with $BAR\n$FOO", "# a comment with bar\nfoo"),
    ],
)
def test_variables_are_put_in_as_containerlab_does(text: str, expected: str):
    assert substitute(text, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("hello ${", 1, 7, "closing brace"),
        ("a\n  b: ${NAME\n", 2, 6, "${NAME has no closing brace"),
        ("${NAME%%.*}", 1, 1, "no substitution that containerlab knows"),
        ("${A:=${B}}", 1, 1, "no substitution"),
    ],
)
def test_what_is_no_substitution_is_refused_with_its_place(text: str, line: int, column: int, said: str):
    with pytest.raises(SubstitutionFault) as caught:
        substitute(text, ENVIRONMENT)

    assert (caught.value.line, caught.value.column) == (line, column)
    assert said in caught.value.message


@given(st.text(alphabet="ab $\n{}_1"))
def test_doubled_dollars_give_any_text_back(text: str):
    assert substitute(text.replace("$", "$$"), {"a": "x", "b": "x", "ab": "x"}) == text


def test_the_variables_that_a_text_mentions_are_what_another_reader_needs():
    assert used("a $BAR b ${FOO:=x} $NONE", ENVIRONMENT) == {"BAR": "bar", "FOO": "foo"}
    assert used("env: {__IMPORT_ENVS: true}", ENVIRONMENT) == ENVIRONMENT


def test_a_lab_is_named_by_a_variable_or_by_what_stands_for_it(read):
    text = 'name: ${LAB:=other}\ntopology: {nodes: {a: {kind: linux, env: {SHELL: "$$HOME ${NONE}"}}}}\n'

    assert read(text, {"LAB": "mine"}).name == "mine"
    assert read(text).name == "other"
    assert (read(text).nodes["a"].env or {})["SHELL"] == "$HOME ${NONE}"
    assert read(text, {"LAB": "mine", "ELSE": ""}).variables == {"LAB": "mine"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {{ .name }} b", "a lab b"),
        ("{{.site.rack}} {{ .site.number }} {{ .site.up }}", "r1 7 true"),
        ('{{ "{{" }} {{ `text` }}', "{{ text"),
        ("a\n  {{- /* gone */ -}}\n  b{{/* and gone */}}", "ab"),
    ],
)
def test_plain_templates_are_carried_out(text: str, expected: str):
    assert render(text, {"name": "lab", "site": {"rack": "r1", "number": 7, "up": True}}) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n {{ range seq 3 }}x{{ end }}", "the template action {{ range seq 3 }} is more than a variable or a text"),
        ("{{ .name | upper }}", "is more than a variable"),
        ("{{ .gone }}", "the template variable .gone has no value"),
        ("{{ .site }}", "the template variable .site is no text"),
        ("{{ .name", "{{ has no closing braces"),
    ],
)
def test_templates_that_are_not_plain_are_refused(text: str, said: str):
    with pytest.raises(SubstitutionFault, match=r"\{\{|variable") as caught:
        render(text, {"name": "lab", "site": {"rack": "r1"}})

    assert said in caught.value.message


def test_a_template_has_its_variables_beside_the_file(read, refusal, tmp_path: Path):
    text = "name: {{ .lab }}\ntopology: {nodes: {a: {kind: linux}}}\n"
    assert "small.clab.yml:1:7: the template variable .lab has no value" in refusal(text)
    (tmp_path / "small.clab_vars.yml").write_text("lab: from-vars\n")

    assert read(text).name == "from-vars"


def test_the_place_of_a_refused_loop_is_told_with_what_is_understood(refusal):
    said = refusal("name: x\ntopology:\n  nodes:\n{{ range .nodes }}\n    a:\n{{ end }}\n")

    assert "small.clab.yml:4:1: the template action {{ range .nodes }} is more than" in said
    assert "this lab takes {{ .variable }}" in said


def test_git_variables_name_the_branch_and_the_commit(read, tmp_path: Path):
    text = "name: a-__gitBranch__-__gitHash__\ntopology: {nodes: {a: {kind: linux}}}\n"
    assert read(text).name == "a-none-none"
    (tmp_path / ".git/refs/heads/feature").mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/feature/x\n")
    (tmp_path / ".git/refs/heads/feature/x").write_text("0123456789abcdef\n")

    assert read(text).name == "a-feature-x-0123456"

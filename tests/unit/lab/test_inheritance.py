"""What a node has from the defaults, its kind, its group and itself (containerlab's types/topology.go)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routed_lab.topology.document import parse
from routed_lab.topology.inheritance import Settings, settings
from routed_lab.topology.keys import Warnings

names = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(["1", "2", "x y"])
levels = st.fixed_dictionaries(
    {},
    optional={
        "image": texts,
        "cmd": texts,
        "env": st.dictionaries(names, texts, max_size=2),
        "sysctls": st.dictionaries(names, texts, max_size=2),
        "exec": st.lists(texts, max_size=3),
        "binds": st.lists(st.builds("{}:/{}".format, names, names), max_size=2, unique_by=lambda bind: bind[-1]),
        "stages": st.fixed_dictionaries(
            {"create": st.fixed_dictionaries({"wait-for": st.lists(
                st.fixed_dictionaries({"node": names, "stage": st.sampled_from(["create", "healthy"])}), max_size=2
            )})}
        ),
    },
)  # fmt: skip


def of(level: dict[str, object]) -> Settings:
    return settings(parse(yaml.safe_dump(level), Path("a.clab.yml")).named("level"), Warnings())


def plain(found: Settings) -> object:
    """The texts of settings, without their places."""
    return (
        {key: value.text() for key, value in found.scalars.items()},
        {key: {name: entry.text() for name, entry in found.map(key).items()} for key in found.maps},
        {key: [item.text() for item in found.list(key)] for key in found.lists},
        {target: bind.text() for target, bind in found.binds.items()},
        {stage: set(waits) for stage, waits in found.waits.items()},
    )


@given(levels, levels, levels)
def test_it_does_not_matter_which_levels_are_put_together_first(one, two, three):
    low, middle, high = of(one), of(two), of(three)

    assert plain(high.over(middle).over(low)) == plain(high.over(middle.over(low)))


@given(levels)
def test_a_level_that_sets_nothing_changes_nothing(one):
    level = of(one)

    assert plain(level.over(Settings())) == plain(level) == plain(Settings().over(level))


@given(levels, levels)
def test_each_part_is_merged_by_its_own_rule(low, high):
    found = of(high).over(of(low))
    scalars, maps, lists, binds, _ = plain(found)

    assert scalars == {key: level[key] for level in (low, high) for key in ("image", "cmd") if key in level}
    for key in ("env", "sysctls"):
        assert maps.get(key, {}) == low.get(key, {}) | high.get(key, {})
    assert lists.get("exec", []) == list(dict.fromkeys([*low.get("exec", []), *high.get("exec", [])]))
    by_target = {bind.partition(":")[2]: bind for bind in [*low.get("binds", []), *high.get("binds", [])]}
    assert binds == by_target


FOUR = """\
defaults: {image: defaults, env: {A: defaults, B: defaults, C: defaults, D: defaults}, exec: [first, both]}
kinds: {linux: {image: kind, env: {B: kind, C: kind, D: kind}, exec: [second, both]}}
groups: {g: {image: group, env: {C: group, D: group}, exec: [third]}}
nodes:
  a: {kind: linux, group: g, image: node, env: {D: node}, exec: [last, first]}
  b: {kind: linux, group: g}
  c: {kind: linux}
"""


def test_a_node_is_stronger_than_its_group_that_than_its_kind_that_than_the_defaults(read):
    lab = read(FOUR)

    assert [lab.nodes[name].image for name in "abc"] == ["node", "group", "kind"]
    env = lab.nodes["a"].env or {}
    assert [env[name] for name in "ABCD"] == ["defaults", "kind", "group", "node"]
    assert lab.nodes["a"].commands == (("first",), ("both",), ("second",), ("third",), ("last",))


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        ("{nodes: {a: {kind: bridge, group: g}}, groups: {g: {kind: linux}}}", "bridge"),
        ("{nodes: {a: {group: g}}, groups: {g: {kind: bridge}}, defaults: {kind: linux}}", "bridge"),
        ("{nodes: {a: }, groups: {g: {kind: bridge}}, defaults: {group: g, kind: linux}}", "bridge"),
        ("{nodes: {a: }, defaults: {kind: Bridge}}", "bridge"),
    ],
)
def test_the_kind_is_the_nodes_or_its_groups_or_the_default_groups_or_the_default(read, levels: str, kind: str):
    assert read(f"name: small\ntopology: {levels}\n").nodes["a"].kind == kind


def test_the_group_may_come_from_the_kind(read):
    lab = read("{kinds: {linux: {group: g}}, groups: {g: {image: group}}, nodes: {a: {kind: linux}}}")

    assert (lab.nodes["a"].group, lab.nodes["a"].image) == ("g", "group")


def test_of_binds_with_one_destination_the_nodes_own_counts(read, tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    lab = read("""\
        defaults: {kind: linux, binds: ["one:/etc/a:ro", "one:/etc/b", /var/empty]}
        nodes: {a: {binds: ["two:/etc/b:ro,z"]}}
        """)

    found = {bind.target: (bind.source and bind.source.name, bind.read_only) for bind in lab.nodes["a"].binds}
    assert found == {"/etc/a": ("one", True), "/etc/b": ("two", True), "/var/empty": (None, False)}


def test_anchors_and_merge_keys_are_read_as_containerlabs_yaml_does(read):
    lab = read("""\
        nodes:
          a: &base {kind: linux, image: one, env: {A: "1"}}
          b: {<<: *base, image: two}
        """)

    assert (lab.nodes["b"].image, (lab.nodes["b"].env or {})["A"]) == ("two", "1")

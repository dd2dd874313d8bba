"""The page of the CNI specification's requirements: complete in itself, and as the tests' markers have it."""

from __future__ import annotations

from tests.conformance import PAGE, REPOSITORY, markers, requirements, written

TEXT = PAGE.read_text()
REQUIREMENTS = {each.name: each for each in requirements(TEXT)}
PROVING = markers(REPOSITORY / "tests")


def test_every_requirement_stands_once_and_says_whom_it_binds():
    assert len(REQUIREMENTS) == len(list(requirements(TEXT))) > 80
    assert {each.level for each in REQUIREMENTS.values()} == {"must", "must not", "should", "should not"}
    assert {each.of for each in REQUIREMENTS.values()} <= {"plugin", "runtime", "IPAM plugin", "operator", "authors"}


def test_every_requirement_of_plugins_has_a_test():
    assert [name for name, each in REQUIREMENTS.items() if each.of == "plugin" and name not in PROVING] == []


def test_no_test_names_a_requirement_that_is_not_there():
    assert sorted(PROVING.keys() - REQUIREMENTS.keys()) == []


def test_the_page_names_the_tests_that_there_are():
    assert written(TEXT, PROVING) == TEXT, "run: .venv/bin/python -m tests.conformance"

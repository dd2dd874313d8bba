"""Where labs are found: one living keeper per name, nothing left of dead ones, no directory in other hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from routed.errors import ConflictError, EnvironmentFault, OperatorError
from routed_lab import client, place


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def taken() -> Iterator[Path]:
    directory = place.of("two-racks")
    lock = place.take(directory)
    yield directory
    place.give_up(directory, lock)


def test_labs_lie_below_the_users_runtime_directory_closed_to_others(runtime: Path) -> None:
    assert place.of("x") == runtime / "routed-lab" / "x"
    assert (runtime / "routed-lab").stat().st_mode & 0o777 == 0o700


def test_a_directory_open_to_others_is_refused(runtime: Path) -> None:
    (runtime / "routed-lab").mkdir()
    (runtime / "routed-lab").chmod(0o755)
    with pytest.raises(EnvironmentFault, match="belongs to user"):
        place.of("x")


def test_a_link_to_somewhere_else_is_refused(runtime: Path) -> None:
    (runtime / "elsewhere").mkdir(mode=0o700)
    (runtime / "routed-lab").symlink_to("elsewhere")
    with pytest.raises(EnvironmentFault, match="belongs to user"):
        place.of("x")


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "-x", "a" * 64])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(OperatorError, match="is no name for a lab"):
        place.of(name)


def test_a_second_keeper_is_refused_and_told_of_the_first(taken: Path) -> None:
    place.write_card(taken, place.Card("two-racks", "/t.clab.yml", "uml", pid=1, since=0))
    with pytest.raises(ConflictError, match=r'lab "two-racks" is already up \(since 19.*, kernel uml\)') as caught:
        place.take(taken)
    assert caught.value.hint == "take it down with: routed lab down /t.clab.yml"


def test_what_a_dead_keeper_left_is_removed_by_the_next() -> None:
    directory = place.of("dead")
    directory.mkdir()
    (directory / place.SOCKET).touch()
    (directory / "sub").mkdir()
    lock = place.take(directory)
    assert list(directory.iterdir()) == []
    place.give_up(directory, lock)
    assert not directory.exists()


def test_a_socket_without_a_keeper_is_no_lab(taken: Path) -> None:
    place.listen(taken).close()
    assert (taken / place.SOCKET).exists()
    with pytest.raises(OperatorError, match='lab "two-racks" is not up') as caught:
        client.connect("two-racks", "/t.clab.yml")
    assert caught.value.hint == "bring it up with: routed lab up /t.clab.yml"


def test_a_lab_of_another_file_is_not_taken_for_this_ones(taken: Path, tmp_path: Path) -> None:
    kept, other = tmp_path / "kept.clab.yml", tmp_path / "other.clab.yml"
    for file in (kept, other):
        file.touch()
    place.write_card(taken, place.Card("two-racks", str(kept), "uml", pid=1, since=0))
    with place.listen(taken):
        with pytest.raises(ConflictError, match=f'lab "two-racks" is up from another file, {kept}'):
            client.connect("two-racks", str(other))
        client.connect("two-racks", str(kept))[0].close()
        kept.unlink()  # moved: nobody could name it any more
        client.connect("two-racks", str(other))[0].close()


def test_a_lab_is_found_by_the_file_it_was_brought_up_from(taken: Path) -> None:
    place.write_card(taken, place.Card("two-racks", "/t.clab.yml", "uml", pid=1, since=0))
    assert client.up_from("/t.clab.yml") == "two-racks"
    assert client.up_from("/other.clab.yml") is None


def test_a_lab_that_died_tells_why_and_where_its_log_is() -> None:
    directory = place.of("died")
    lock = place.take(directory)
    place.write_card(directory, place.Card("died", "/t.clab.yml", "uml", pid=1, since=0))
    place.leave_word(directory, lock, "the runner was killed")
    with pytest.raises(OperatorError, match="not up any more: the runner was killed") as caught:
        client.connect("died", "/t.clab.yml")
    assert str(directory / place.LOG) in str(caught.value)
    client.forget("died")
    assert not directory.exists()


def test_a_runtime_directory_longer_than_a_socket_address_will_do(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = runtime / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    directory = place.of("x")
    lock = place.take(directory)
    with place.listen(directory):
        connection = place.connect(directory)
        assert connection is not None
        connection.close()
    os.close(lock)

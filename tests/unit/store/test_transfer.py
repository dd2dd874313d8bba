"""Taking a store's content and putting it elsewhere, whole or in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from routed.errors import ConflictError, EnvironmentFault
from routed.store import Compare, Delete, Put, TooLargeError, Txn
from routed.store.sqlite import SqliteStore
from routed.store.transfer import UNFINISHED, Content, Transfer, put, take


class Small(SqliteStore):
    """A backend that takes ten operations at once, and breaks after `breaks` transactions."""

    done = 0
    breaks = 1000

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
        if len(operations) > 101:
            raise TooLargeError("too many")
        if self.done == self.breaks:
            raise EnvironmentFault("gone")
        self.done += 1
        return await super().txn(compares, operations)


def run(path: Path, scenario: Callable[[Small], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Small(path)
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def content(count: int, value: bytes = b"v") -> Content:
    return Content(1, {f"/routed/{number:04}": value for number in range(count)})


@pytest.mark.parametrize("count", [1, 50, 350])
def test_what_was_put_is_taken_in_one_part_or_in_many(tmp_path, count):
    async def scenario(store: Small) -> None:
        assert await put(store, content(count), replace=False) == Transfer(count, 0, 0)
        assert (await take(store)).values == content(count).values

    run(tmp_path / "s.db", scenario)


def test_a_store_that_holds_something_else_is_left_alone(tmp_path):
    async def scenario(store: Small) -> None:
        await store.txn([], [Put("/routed/mine", b"")])
        with pytest.raises(ConflictError, match="holds 1 keys already"):
            await put(store, content(3), replace=False)
        assert list((await take(store)).values) == ["/routed/mine"]

    run(tmp_path / "s.db", scenario)


@pytest.mark.parametrize("count", [5, 350])
def test_replacing_deletes_what_is_not_in_the_content_and_rewrites_only_what_differs(tmp_path, count):
    async def scenario(store: Small) -> None:
        await store.txn([], [Put("/routed/0000", b"v"), Put("/routed/0001", b"other"), Put("/routed/old", b"")])
        assert await put(store, content(count), replace=True) == Transfer(count - 1, 1, 1)
        assert (await take(store)).values == content(count).values

    run(tmp_path / "s.db", scenario)


def test_the_same_content_again_changes_nothing_and_needs_no_leave(tmp_path):
    async def scenario(store: Small) -> None:
        await put(store, content(9), replace=False)
        revision = (await take(store)).revision
        assert await put(store, content(9), replace=False) == Transfer(0, 0, 9)
        assert (await take(store)).revision == revision

    run(tmp_path / "s.db", scenario)


def test_others_keys_beside_ours_are_neither_taken_nor_deleted(tmp_path):
    async def scenario(store: Small) -> None:
        await store.txn([], [Put("/registry/pods", b"")])
        await put(store, content(2), replace=True)
        assert "/registry/pods" not in (await take(store)).values
        assert await store.get("/registry/pods") is not None

    run(tmp_path / "s.db", scenario)


def test_a_transfer_that_broke_off_is_not_taken_for_a_store_and_can_be_finished(tmp_path):
    async def scenario(store: Small) -> None:
        store.breaks = 2
        with pytest.raises(EnvironmentFault, match="gone"):
            await put(store, content(350), replace=False)
        store.breaks = 1000
        assert await store.get(UNFINISHED) is not None
        with pytest.raises(EnvironmentFault, match="was not finished"):
            await take(store)
        done = await put(store, content(350), replace=True)
        assert done.unchanged > 0
        assert (await take(store)).values == content(350).values

    run(tmp_path / "s.db", scenario)


def test_a_target_that_others_change_meanwhile_is_left_to_them(tmp_path):
    class Disturbed(Small):
        async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Txn:
            await SqliteStore.txn(self, [], [Put("/routed/0001", b"theirs")])
            return await super().txn(compares, operations)

    async def main() -> None:
        store = Disturbed(tmp_path / "s.db")
        with pytest.raises(ConflictError, match="changed by others"):
            await put(store, content(3), replace=False)
        assert (await take(store)).values == {"/routed/0001": b"theirs"}
        await store.close()

    asyncio.run(main())

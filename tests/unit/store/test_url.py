"""Which URLs name a store."""

from __future__ import annotations

import asyncio

import pytest

from routed.errors import OperatorError
from routed.store import Put
from routed.store.url import open_store


def test_a_sqlite_url_opens_the_file_at_its_absolute_path(tmp_path):
    async def main() -> None:
        store = open_store(f"sqlite://{tmp_path}/with%20space.db")
        await store.txn([], [Put("/a", b"")])
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "with space.db").exists()


def test_a_fourth_slash_names_the_same_file(tmp_path):
    async def main() -> None:
        store = open_store(f"sqlite:///{tmp_path}/s.db")  # the path begins with one itself
        await store.txn([], [Put("/a", b"")])
        await store.close()

    asyncio.run(main())
    assert (tmp_path / "s.db").exists()


@pytest.mark.parametrize("url", ["etcd3://host:2379", "/var/lib/store.db", "", "postgres:x"])
def test_an_unknown_scheme_is_refused_with_what_is_supported(url):
    with pytest.raises(OperatorError, match="sqlite:///ABSOLUTE/PATH"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite://relative.db", "sqlite:///", "sqlite:", "sqlite:///a/b.db?mode=ro"])
def test_a_url_without_an_absolute_file_path_is_refused(url):
    with pytest.raises(OperatorError, match="absolute path"):
        open_store(url)

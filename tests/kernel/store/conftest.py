"""etcd for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tests.kernel.store.etcd import Member
from tests.unit.store.backend import Backend

from routed.store import Store
from routed.store.url import open_store

_prefixes = count()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def backend(member: Member) -> Backend:
    """One etcd for all tests of a module, each below its own prefix."""
    url = f"etcd://{member.endpoint}/test{next(_prefixes)}"

    def opened(**_: Any) -> Store:  # what is kept, and when a watch is woken, is etcd's affair
        return open_store(url)

    return Backend(url, opened, lambda revision: member.ctl("compact", str(revision)) and None)

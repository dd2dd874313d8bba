"""The embedded backend for the contract suite; tests/kernel/store runs it on the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.store.backend import Backend

from routed.store.sqlite import SqliteStore


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    path = tmp_path / "store.db"
    return Backend(f"sqlite://{path}", lambda **options: SqliteStore(path, **options))

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.cni.forms import Maker, make
from tests.unit.cni.world import MoodyStore, Story, Tell, World

from routed_cni import veths, wiring


@pytest.fixture(scope="session", params=["python", "c", "c-sanitized"])
def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return make(request.param, tmp_path_factory.mktemp("forms"))


@pytest.fixture(scope="session")
def c(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return make("c", tmp_path_factory.mktemp("form"))


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    async def told(story: Story) -> None:
        world = World(MoodyStore(tmp_path / "store.db"))
        monkeypatch.setattr(wiring, "make", world.make)
        monkeypatch.setattr(wiring, "wire", world.wire)
        monkeypatch.setattr(wiring, "occupied", lambda _: bool(world.links))
        for name in ("doom", "remove", "survey"):
            monkeypatch.setattr(veths, name, getattr(world, name))
        try:
            await story(world)
        finally:
            world.plugin.close()
            await world.store.close()

    return lambda story: asyncio.run(told(story))

from __future__ import annotations

import pytest
from tests.unit.cni.forms import Maker, make


@pytest.fixture(scope="session", params=["python", "c", "c-sanitized"])
def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return make(request.param, tmp_path_factory.mktemp("forms"))


@pytest.fixture(scope="session")
def c(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return make("c", tmp_path_factory.mktemp("form"))

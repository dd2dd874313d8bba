"""The fabric is made once for a module, with the routers that the collected tests need; ours once for each mode."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.kernel.interop.ours import MODES, Ours
from tests.kernel.interop.scenarios import End, Fabric, Key


def _wanted(request: pytest.FixtureRequest) -> list[Key]:
    """The routers that tests of this module are about."""
    here = [item for item in request.session.items if item.path == request.path]
    values = [value for item in here if (call := getattr(item, "callspec", None)) for value in call.params.values()]
    several = [value if isinstance(value, tuple) else (value,) for value in values]
    return [each for value in several for each in value if isinstance(each, Key)]


@pytest.fixture(scope="module")
def fabric(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    made = Fabric(tmp_path_factory.mktemp("fabric"), _wanted(request))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=MODES)
def ours(request: pytest.FixtureRequest, fabric: Fabric) -> Iterator[Ours]:
    """Our agent with its speaker in one of its modes; what every test of the module may rely on is up."""
    made = fabric.ours(request.param)
    try:
        made.start()
        yield made
        assert not re.search("Traceback|never retrieved|never awaited", made.log.read_text())
    finally:
        made.close()


@pytest.fixture
def end(request: pytest.FixtureRequest, fabric: Fabric) -> End:
    """The router that the test is about; parametrised by Key."""
    return fabric.ends[request.param]


@pytest.fixture
def ends(request: pytest.FixtureRequest, fabric: Fabric) -> list[End]:
    """The routers that the test is about; parametrised by a tuple of Keys."""
    return [fabric.ends[key] for key in request.param]

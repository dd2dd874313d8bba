from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from tests.kernel.felix.world import World

from routed.netlink.constants import Msg
from routed.netlink.socket import Netlink, NetlinkError


@pytest.fixture(autouse=True, params=["nexthop groups", "plain routes"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel as it is, and one before Linux 5.3, which knows no nexthop objects."""
    ask = Netlink.dump_bodies

    def old(self: Netlink, kind: Msg, body: bytes) -> list[bytes]:
        if kind == Msg.GETNEXTHOP:
            raise NetlinkError(errno.EOPNOTSUPP, "Operation not supported")
        return ask(self, kind, body)

    if request.param == "plain routes":
        monkeypatch.setattr(Netlink, "dump_bodies", old)
    return str(request.param)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.close()

"""A drained node in the store."""

from __future__ import annotations

import pytest

from routed.errors import EnvironmentFault
from routed.model.codec import RESOURCES
from routed.model.drain import DRAINS, Phase, decode, drain_key, encode


@pytest.mark.parametrize("phase", Phase)
def test_what_is_written_is_read(phase):
    assert decode(encode(phase)) is phase


def test_the_stored_form():
    assert (drain_key("a1"), encode(Phase.LOWERED)) == ("/routed/v1/drain/a1", b'{"phase":"lowered"}')


def test_it_is_outside_the_resources():
    assert not DRAINS.startswith(RESOURCES)
    assert not RESOURCES.startswith(DRAINS)


def test_a_field_of_a_later_version_is_passed_over():
    assert decode(b'{"phase":"withdrawn","by":"somebody"}') is Phase.WITHDRAWN


@pytest.mark.parametrize("value", [b"", b"{}", b'{"phase":"gone"}', b"\xff", b"[]"])
def test_what_cannot_be_read_names_the_key(value):
    with pytest.raises(EnvironmentFault, match="key /routed/v1/drain/a1: cannot read this drain"):
        decode(value, key=drain_key("a1"))

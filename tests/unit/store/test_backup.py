"""The file of a store's content."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import OperatorError
from routed.store.backup import decode, encode

TAKEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = encode({"/a": b'{"one": 1}', "/b": b"\xff\x00"}, 7, TAKEN)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])).map("/{}".format), st.binary()))
def test_what_was_written_is_read(values):
    assert decode(encode(values, 42, TAKEN), "f") == (values, 42)


def test_the_same_content_makes_the_same_file_in_whatever_order_it_comes():
    assert encode({"/b": b"\xff\x00", "/a": b'{"one": 1}'}, 7, TAKEN) == GOOD


def test_a_person_can_read_it():
    file = json.loads(GOOD)
    assert file["format"] == "routed-store-backup/1"
    assert file["taken"] == "2026-01-02T03:04:05+00:00"
    assert file["entries"] == [{"key": "/a", "text": '{"one": 1}'}, {"key": "/b", "base64": "/wA="}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no backup"),
        (b"{}", "is no backup"),
        (b"\xff\xfe", "is no backup"),
        (GOOD[: len(GOOD) // 2], "is no backup"),
        (GOOD.replace(b"backup/1", b"backup/2"), "expected 'routed-store-backup/1'"),
        (GOOD.replace(b"one", b"two"), "does not match its digest"),
        (GOOD.replace(b'"/a"', b'"/c"'), "does not match its digest"),
        (GOOD.replace(b"/wA=", b"!!"), "is no backup"),
        (GOOD.replace(b'"base64"', b'"base46"'), "is no backup"),
    ],
)
def test_damage_is_told_with_the_files_name(data, said):
    with pytest.raises(OperatorError, match=r"^my\.backup: ") as caught:
        decode(data, "my.backup")
    assert said in caught.value.message
    assert caught.value.hint

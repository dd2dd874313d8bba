"""NOTIFICATION in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed_bgp.notification import SessionReset, describe


def said(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


@pytest.mark.parametrize(
    ("code", "subcode", "words"),
    [
        (4, 0, "hold timer expired (4/0)"),
        (2, 2, "OPEN message error, bad peer AS (2/2)"),
        (6, 10, "cease, BFD down (6/10)"),
        (7, 1, "ROUTE-REFRESH message error, invalid message length (7/1)"),
        (6, 99, "cease (6/99)"),
        (99, 1, "unknown error (99/1)"),
    ],
)
def test_rfc4271_4_5_codes_have_words(code: int, subcode: int, words: str) -> None:
    assert describe(code, subcode) == words


@pytest.mark.parametrize(("subcode", "words"), [(2, "administrative shutdown"), (4, "administrative reset")])
def test_rfc9003_2_the_shutdown_communication_is_told(subcode: int, words: str) -> None:
    assert describe(6, subcode, said("back at noon: Zürich")) == f'cease, {words} (6/{subcode}): "back at noon: Zürich"'


@pytest.mark.parametrize("data", [b"", b"\0", b"\5"], ids=bytes.hex)
def test_rfc9003_2_without_text_there_is_none(data: bytes) -> None:
    assert describe(6, 2, data) == "cease, administrative shutdown (6/2)"


def test_rfc9003_4_text_that_is_cut_off_is_told_as_far_as_it_goes() -> None:
    assert describe(6, 2, b"\x09back").endswith(': "back"')


def test_rfc9003_6_text_cannot_forge_lines_or_reach_the_terminal() -> None:
    forged = describe(6, 2, said("ok\n\x1b[2J\u202eevil") + b"ignored")
    assert forged.isprintable()
    assert forged.endswith(': "ok\ufffd\ufffd[2J\ufffdevil"')
    assert describe(6, 2, b"\2\xff\xfe").endswith(': "\ufffd\ufffd"')


def test_rfc9003_2_other_notifications_carry_no_text() -> None:
    assert describe(6, 3, said("what")) == describe(6, 3)
    assert describe(3, 2, said("what")) == describe(3, 2)


def test_rfc8538_3_1_a_hard_reset_tells_what_it_stands_for() -> None:
    assert describe(6, 9, bytes([6, 2]) + said("bye")) == (
        'cease, hard reset (6/9): cease, administrative shutdown (6/2): "bye"'
    )
    assert describe(6, 9) == "cease, hard reset (6/9)"
    assert describe(6, 9, bytes([6, 9]) * 2000) == "cease, hard reset (6/9)"


@settings(deadline=None)  # shared cores: wall time says nothing
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=260))
def test_any_notification_is_one_printable_line(code: int, subcode: int, data: bytes) -> None:
    assert describe(code, subcode, data).isprintable()


def test_a_session_reset_has_the_codes_and_says_what_they_mean() -> None:
    error = SessionReset("malformed UPDATE: nonsense", 3, 1)
    assert (error.code, error.subcode) == (3, 1)
    assert str(error) == "malformed UPDATE: nonsense: UPDATE message error, malformed attribute list (3/1)"

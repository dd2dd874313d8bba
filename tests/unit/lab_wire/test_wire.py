"""The runner's protocol: what is encoded comes back, what is not a message is refused, lines survive any cut."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import Bug, ConflictError, EnvironmentFault, OperatorError, PeerError, RoutedError
from routed_lab import wire

IDS = st.integers(1, 2**53)
TEXT = st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
REQUESTS: st.SearchStrategy[wire.Request] = st.one_of(
    st.builds(
        wire.Up,
        id=IDS,
        file=TEXT,
        kernel=st.sampled_from(("host", "uml")),
        leftovers=st.booleans(),
        environment=st.dictionaries(TEXT, TEXT),
    ),
    st.builds(wire.Check, id=IDS, without_tor=st.none() | TEXT),
    st.builds(wire.Exec, id=IDS, node=TEXT, argv=st.lists(TEXT), tty=st.booleans(), stdin=st.booleans()),
    st.builds(wire.Inspect, id=IDS),
    st.builds(wire.Play, id=IDS, file=TEXT),
    st.builds(wire.Restart, id=IDS, node=TEXT),
    st.builds(wire.Down, id=IDS, lab=st.none() | TEXT),
    st.builds(wire.Signal, id=IDS, number=st.integers(1, 64)),
    st.builds(wire.Stdin, id=IDS, data=st.binary(), eof=st.booleans()),
)
ANSWERS: st.SearchStrategy[wire.Answer] = st.one_of(
    st.builds(wire.Progress, id=IDS, text=TEXT),
    st.builds(wire.Output, id=IDS, fd=st.sampled_from((1, 2)), data=st.binary()),
    st.builds(wire.Result, id=IDS, value=JSON),
    st.builds(
        wire.Failed,
        id=IDS,
        message=TEXT,
        hint=st.none() | TEXT,
        kind=st.sampled_from(("operator", "conflict", "peer", "environment", "bug")),
    ),
)


@given(REQUESTS)
def test_a_request_is_one_line_and_comes_back_as_it_was(request: wire.Request) -> None:
    line = wire.encode(request)
    assert line.count(b"\n") == 1
    assert wire.decode_request(line) == request


@given(ANSWERS)
def test_an_answer_is_one_line_and_comes_back_as_it_was(answer: wire.Answer) -> None:
    line = wire.encode(answer)
    assert line.count(b"\n") == 1
    assert wire.decode_answer(line) == answer


@given(st.lists(ANSWERS, max_size=8), st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(answers: list[wire.Answer], data: st.DataObject) -> None:
    stream = b"".join(map(wire.encode, answers))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    lines = wire.Lines()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [wire.decode_answer(line) for piece in pieces for line in lines.feed(piece)] == answers
    assert lines.rest == b""


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    lines = wire.Lines()
    assert list(lines.feed(bytes(wire.LINE_LIMIT))) == []
    with pytest.raises(EnvironmentFault, match="a line of more than"):
        list(lines.feed(b"x"))


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"{}", b'{"type":"up","id":1}', b'{"type":"dance","id":1}', b'{"type":"inspect","id":1,"x":2}'],
)
def test_what_is_no_request_is_refused_with_a_hint(line: bytes) -> None:
    with pytest.raises(OperatorError, match="not a request") as caught:
        wire.decode_request(line)
    assert caught.value.hint


def test_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match="not an answer"):
        wire.decode_answer(b"Traceback (most recent call last):")


@pytest.mark.parametrize("kind", [OperatorError, ConflictError, PeerError, EnvironmentFault, Bug])
def test_an_error_crosses_the_wire_with_its_kind_and_hint(kind: type[RoutedError]) -> None:
    answer = wire.decode_answer(wire.encode(wire.failed(7, kind("no", hint="do"))))
    assert isinstance(answer, wire.Failed)
    error = wire.error_of(answer)
    assert (type(error), error.message, error.hint, answer.id) == (kind, "no", "do", 7)


def test_rows_of_a_check_travel_as_arrays() -> None:
    value = {
        "summary": {
            "topology": "t", "pairs": 2, "reachable": 1, "direct": 1, "encapsulated": 0, "wrong": 0, "seconds": 1.5,
        },
        "rows": [["a", "b", "same rack", "none", "none", 0.25], ["b", "a", "", "", "none", None]],
    }  # fmt: skip
    checked = msgspec.convert(value, wire.Checked)
    assert checked.rows[0] == wire.Row("a", "b", "same rack", "none", "none", 0.25)
    assert checked.rows[1].rtt_ms is None

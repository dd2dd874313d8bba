"""The channel into User-mode Linux: frames survive any cut, credit is neither lost nor made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routed_lab.uml import frames

FRAMES = st.lists(st.tuples(st.sampled_from(list(b"REDCS")), st.binary(max_size=300)), max_size=12)


@given(FRAMES, st.binary(max_size=40), st.integers(1, 50))
def test_frames_come_out_whole_after_noise_however_the_stream_is_cut(
    sent: list[tuple[int, bytes]], noise: bytes, step: int
) -> None:
    stream = noise.replace(b"\x00", b"") + frames.MAGIC + b"".join(frames.frame(*frame) for frame in sent)
    parser = frames.Frames(synced=False)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert [frame for piece in pieces for frame in parser.feed(piece)] == sent


def test_credit_comes_back_as_it_was() -> None:
    ((kind, payload),) = frames.Frames(synced=True).feed(frames.credit(frames.STDERR, 123_456))
    assert kind == frames.CREDIT
    assert frames.credit_of(payload) == (frames.STDERR, 123_456)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=900), st.integers(1, 700)), max_size=30))
def test_all_that_came_is_written_in_order_and_credited_once(steps: list[tuple[bytes, int]]) -> None:
    inflow, written, credit = frames.Inflow(window=1000), b"", 0
    for payload, size in steps:
        inflow.add(payload)
        head = inflow.head(size)
        written += head
        credit += inflow.wrote(len(head))
    rest = inflow.head(1 << 20)
    credit += inflow.drop()
    assert written + rest == b"".join(payload for payload, _ in steps)
    assert credit == len(written + rest)
    assert not inflow


def test_credit_waits_for_a_quarter_of_the_window() -> None:
    inflow = frames.Inflow(window=400)
    inflow.add(bytes(200))
    assert [inflow.wrote(50), inflow.wrote(49), inflow.wrote(1)] == [0, 0, 100]


def test_an_empty_piece_ends_the_stream() -> None:
    inflow = frames.Inflow(window=400)
    inflow.add(b"")
    assert inflow.ended

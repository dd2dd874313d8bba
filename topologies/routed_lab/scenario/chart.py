"""The timeline of a scenario as a picture: steps, each pair's probes, BGP messages and kernel changes by node. Pure.

All lanes share one axis of time, so that cause and effect stand above one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from routed_lab.picture import COLOURS
from routed_lab.scenario.record import Change, Message, PairRecord, Record

MESSAGES: Final[Mapping[str, str]] = {
    "OPEN": "#3b7dd8",
    "UPDATE": "#e0a100",
    "NOTIFICATION": "#c8102e",
    "KEEPALIVE": "#c3ccd8",
}
"""Colours of BGP messages by kind."""

OUTCOMES: Final[Mapping[str, str]] = {"done": "#47566b", "met": "#009e73", "failed": "#c8102e", "skipped": "#b6bfca"}
"""Colours of steps by outcome."""

_LEFT, _WIDTH, _RIGHT = 190.0, 980.0, 20.0
_PROBES, _LANE, _GAP = 84.0, 17.0, 22.0
_MARK, _LEVELS = 18.0, 5  # how broad and high the number of a step is, and how many may stand above one another
_OTHER = "#7c8794"
_STYLE = "text{font:12px system-ui,sans-serif;fill:#1c2430}.s{font-size:10px;fill:#5b6675}"


@dataclass(frozen=True, slots=True)
class _Axis:
    seconds: float

    def x(self, time: float) -> float:
        return _LEFT + _WIDTH * min(max(time, 0.0), self.seconds) / self.seconds


def draw(record: Record) -> str:
    """The timeline of a whole run."""
    axis = _Axis(max(record.seconds, 0.001))
    parts: list[str] = []
    steps_end = _LEVELS * _MARK + 22
    parts += _heading("steps", steps_end - 12)
    y = steps_end
    y = steps_end + _GAP
    for pair in record.pairs:
        parts += _pair(record, pair, axis, y)
        y += _PROBES + _GAP
    for title, told in (("BGP messages from", record.messages), ("routes and links of", record.changes)):
        parts.append(f'<text class="s" x="10" y="{y + 2:.1f}">{title}</text>')
        y += 8
        for node in sorted({_whose(one) for one in told}):
            parts += _lane(node, [one for one in told if _whose(one) == node], axis, y)
            y += _LANE
        y += _GAP
    height = y + 18
    lines = list(_steps(record, axis, steps_end, y - _GAP))
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + _RIGHT:.0f} {height:.0f}"'
                f' width="100%" role="img" aria-label="timeline">'
            ),
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
            *_ticks(axis, y - 8),
            *lines,
            *parts,
            "</svg>",
        ]
    )


def _whose(one: Message | Change) -> str:
    return one.sender if isinstance(one, Message) else one.node


def _heading(text: str, y: float) -> Iterator[str]:
    yield f'<text x="10" y="{y + 4:.1f}">{escape(text)}</text>'


def _ticks(axis: _Axis, y: float) -> Iterator[str]:
    every = next(step for step in (0.5, 1, 2, 5, 10, 30, 60, 600) if axis.seconds / step <= 20 or step == 600)
    for number in range(int(axis.seconds / every) + 1):
        x = axis.x(number * every)
        yield (
            f'<line x1="{x:.1f}" y1="{_LEVELS * _MARK + 8:.0f}" x2="{x:.1f}" y2="{y:.1f}" stroke="#eef1f5"/>'
            f'<text class="s" x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle">{number * every:g} s</text>'
        )


def _steps(record: Record, axis: _Axis, top: float, bottom: float) -> Iterator[str]:
    """Acts are lines through all lanes; expectations bars as long as they took to come true.

    The number of a step stands on the lowest level that is free there.
    """
    taken = [-_MARK] * _LEVELS
    for number, step in enumerate(record.steps, 1):
        if step.outcome == "skipped":
            continue
        x, end = axis.x(step.begin), axis.x(step.end)
        level = next((one for one in range(_LEVELS) if x - taken[one] >= _MARK), _LEVELS - 1)
        taken[level] = x
        y = top - 20 - level * _MARK
        colour = OUTCOMES[step.outcome]
        told = f"<title>{number}. {escape(step.text)} ({step.begin:.2f} to {step.end:.2f} s) {step.outcome}</title>"
        if step.kind == "act":
            yield (
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#c8102e" stroke-width="1.2"'
                f' stroke-dasharray="4 3">{told}</line>'
            )
        else:
            yield (
                f'<rect x="{x:.1f}" y="{top - 9:.1f}" width="{max(2.0, end - x):.1f}" height="9" rx="2"'
                f' fill="{colour}" opacity=".75">{told}</rect>'
            )
        mark = "#c8102e" if step.kind == "act" else colour
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="#fff" stroke="{mark}">{told}</circle><text class="s"'
            f' x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{number}</text>'
        )


def _pair(record: Record, pair: PairRecord, axis: _Axis, top: float) -> Iterator[str]:
    """A pair's strip of encapsulation, its round trips as a band from least to most, its losses as bars."""
    yield f'<text x="10" y="{top + 11:.1f}">{escape(pair.source)}</text>'
    yield f'<text x="10" y="{top + 26:.1f}">&#8594; {escape(pair.destination)}</text>'
    yield f'<text class="s" x="10" y="{top + 42:.1f}">{pair.lost} of {pair.sent} lost</text>'
    seen = [one for one in record.seen if (one.source, one.destination) == (pair.source, pair.destination)]
    for one, end in zip(seen, [*(later.time for later in seen[1:]), record.seconds], strict=False):
        x = axis.x(one.time)
        yield (
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{max(1.0, axis.x(end) - x):.1f}" height="10"'
            f' fill="{COLOURS[one.encapsulation]}"><title>{escape(one.encapsulation)} by {escape(one.path)},'
            f" from {one.time:.2f} s</title></rect>"
        )
    base, high = top + _PROBES, _PROBES - 16
    worst = max((part.most for part in pair.bins if part.most is not None), default=1.0)
    scale = high / max(worst, 0.001)
    wide = max(0.8, axis.x(record.width) - _LEFT)
    band: list[str] = []
    for number, part in enumerate(pair.bins):
        x = axis.x(number * record.width)
        if part.least is not None and part.most is not None:
            y = base - part.most * scale
            band.append(f"M{x:.1f} {y:.1f}h{wide:.1f}V{base - part.least * scale + 0.8:.1f}h{-wide:.1f}z")
        if part.lost:
            share = part.lost / part.sent
            yield (
                f'<rect x="{x:.1f}" y="{base - high * share:.1f}" width="{max(1.2, wide):.1f}"'
                f' height="{high * share:.1f}" fill="#c8102e" opacity=".8"><title>{part.lost} of {part.sent} lost at'
                f" {number * record.width:.2f} s</title></rect>"
            )
    yield f'<path d="{"".join(band)}" fill="#3b7dd8" opacity=".55"><title>round trips, least to most</title></path>'
    yield f'<line x1="{_LEFT}" y1="{base:.1f}" x2="{_LEFT + _WIDTH}" y2="{base:.1f}" stroke="#9aa5b3"/>'
    yield f'<text class="s" x="{_LEFT - 6}" y="{top + 20:.1f}" text-anchor="end">{worst:.3g} ms</text>'
    yield f'<text class="s" x="{_LEFT - 6}" y="{base:.1f}" text-anchor="end">0</text>'


def _lane(node: str, told: Sequence[Message | Change], axis: _Axis, top: float) -> Iterator[str]:
    """A tick per message or change; what falls on the same spot is drawn once and counted."""
    yield f'<text class="s" x="{_LEFT - 6}" y="{top + 11:.1f}" text-anchor="end">{escape(node)}</text>'
    yield f'<line x1="{_LEFT}" y1="{top + 14:.1f}" x2="{_LEFT + _WIDTH}" y2="{top + 14:.1f}" stroke="#e3e8ee"/>'
    spots: dict[tuple[int, str], list[str]] = {}
    for one in told:
        if isinstance(one, Message):
            colour, text = MESSAGES.get(one.kind, _OTHER), f"{one.kind} to {one.receiver} {one.text}"
        else:
            colour = "#c8102e" if one.text.startswith("Deleted") or "down" in one.text else "#47566b"
            text = one.text
        spots.setdefault((round(axis.x(one.time)), colour), []).append(f"{one.time:.3f} s {text}")
    for (x, colour), texts in sorted(spots.items(), key=lambda spot: spot[0][1] != MESSAGES["KEEPALIVE"]):
        more = f"\n... and {len(texts) - 12} more" if len(texts) > 12 else ""
        yield (
            f'<rect x="{x - 1}" y="{top + 2:.1f}" width="2.4" height="12" fill="{colour}">'
            f"<title>{escape(chr(10).join(texts[:12]) + more)}</title></rect>"
        )

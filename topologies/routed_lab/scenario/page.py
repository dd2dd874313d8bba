"""The report of a scenario: one HTML file with its pictures inside, no script and nothing to fetch. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from routed_lab import picture
from routed_lab.scenario import chart
from routed_lab.scenario.record import Message, PairRecord, Record, StepRecord
from routed_lab.topology import Topology

_MARKS: Final = {"done": "&#9679;", "met": "&#10003;", "failed": "&#10007;", "skipped": "&#8211;"}
_SHOWN: Final = 3000  # lines of a list; the record beside the report has all
_GAPS: Final = 8  # gaps of a pair that are spelt out
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;color:#1c2430;max-width:1240px;margin:24px auto;padding:0 16px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 8px}p{margin:6px 0}
table{border-collapse:collapse;width:100%}td,th{padding:3px 10px 3px 0;text-align:left;vertical-align:top}
th{color:#5b6675;font-weight:500}tr{border-bottom:1px solid #e9edf2}td.n{text-align:right;white-space:nowrap}
.verdict{display:inline-block;padding:2px 12px;border-radius:12px;color:#fff;font-weight:600}
.quiet{color:#5b6675}.lists td{font:12px/1.4 ui-monospace,monospace}svg{max-width:100%;height:auto}
figure{margin:12px 0 24px;border:1px solid #d5dbe3;border-radius:8px;padding:8px}summary{cursor:pointer}
"""


def page(record: Record, topology: Topology, capture: str) -> str:
    """The report; `capture` is the name of the packet capture that lies beside it."""
    colour, verdict = ("#009e73", "as expected") if record.passed else ("#c8102e", "NOT as expected")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(record.scenario)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(record.scenario)}</h1>",
        f'<p><span class="verdict" style="background:{colour}">{verdict}</span></p>',
        (
            f'<p class="quiet">lab {escape(record.lab)}, {escape(record.machine)}, {escape(record.started)},'
            f" {record.seconds:.1f} s, {record.rate} probes a second and pair"
            f' &#183; packets: <a href="{escape(capture)}">{escape(capture)}</a></p>'
        ),
        "<h2>What was done, and what was expected</h2>",
        *_steps(record.steps),
        "<h2>What happened when</h2>",
        _key(),
        chart.draw(record),
        "<h2>Probes</h2>",
        *_probes(record),
        "<h2>How each pair's packets travelled</h2>",
        *_pictures(record, topology),
        *_list(
            f"BGP messages ({len(record.messages)}; keepalives left out)",
            [
                (one.time, f"{one.sender} &#8594; {one.receiver}", f"{one.kind} {escape(one.text)}")
                for one in record.messages
                if one.kind != "KEEPALIVE"
            ],
        ),
        *_list(
            f"Changes of routes, nexthops and links ({len(record.changes)})",
            [(one.time, one.node, escape(one.text)) for one in record.changes],
        ),
        f"<p>{record.dropped} packets or lines came when there was no more room.</p>" if record.dropped else "",
        "</body></html>",
    ]
    return "\n".join(parts)


def _key() -> str:
    def patch(colour: str, text: str) -> str:
        return f'<span style="color:{colour}">&#9632;</span> {text}'

    kinds = " ".join(patch(colour, kind) for kind, colour in chart.MESSAGES.items())
    ways = " ".join(patch(picture.COLOURS[name], name) for name in ("direct", "ipip", "vxlan", "mixed"))
    return (
        f'<p class="quiet">Numbers are steps; a dashed line is an act, a bar how long an expectation took. Strip of a'
        f" pair: {ways} {patch('#c8102e', 'no reply')}; below it {patch('#3b7dd8', 'round trips, least to most')}"
        f" {patch('#c8102e', 'share of probes lost')}. Messages: {kinds}. Point at anything to read it.</p>"
    )


def _steps(steps: Sequence[StepRecord]) -> Iterator[str]:
    yield "<table><tr><th></th><th></th><th>step</th><th>begun</th><th>took</th></tr>"
    for number, step in enumerate(steps, 1):
        colour = chart.OUTCOMES[step.outcome]
        detail = f'<br><span class="quiet">{escape(step.detail)}</span>' if step.detail else ""
        begun, took = (
            ("", "") if step.outcome == "skipped" else (f"{step.begin:.2f} s", f"{step.end - step.begin:.2f} s")
        )
        yield (
            f'<tr><td class="n">{number}</td><td style="color:{colour}" title="{step.outcome}">{_MARKS[step.outcome]}'
            f'</td><td>{escape(step.text)}{detail}</td><td class="n">{begun}</td><td class="n">{took}</td></tr>'
        )
    yield "</table>"


def _probes(record: Record) -> Iterator[str]:
    yield (
        "<table><tr><th>pair</th><th>sent</th><th>lost</th><th>round trip, median and most</th>"
        "<th>gaps, from when to when and how many probes</th></tr>"
    )
    for pair in record.pairs:
        trips = "none came back" if pair.median is None else f"{pair.median:.3f} ms, {pair.most:.3f} ms"
        yield (
            f"<tr><td>{escape(pair.source)} &#8594; {escape(pair.destination)}</td><td>{pair.sent}</td>"
            f"<td>{pair.lost}</td><td>{trips}</td><td>{_gaps(pair)}</td></tr>"
        )
    yield "</table>"
    wanted = int(record.seconds * record.rate)
    late = max((pair.late for pair in record.pairs), default=0)
    least = min((pair.sent for pair in record.pairs), default=0)
    quiet = sum(pair.quiet_lost for pair in record.pairs)
    yield (
        f'<p class="quiet">How far the prober itself can be trusted: of about {wanted} probes that a pair was due,'
        f" {least} were sent, {late} of them late; in the {record.quiet:g} quiet seconds before the first step"
        f" {quiet} were lost.</p>"
    )


def _gaps(pair: PairRecord) -> str:
    worst = sorted(pair.gaps, key=lambda gap: gap.begin - gap.end)[:_GAPS]
    told = [
        f"{gap.begin:.3f} s + {(gap.end - gap.begin) * 1000:.0f} ms: {gap.lost}"
        for gap in sorted(worst, key=lambda gap: gap.begin)
    ]
    if len(pair.gaps) > len(worst):
        told.append(f"and {len(pair.gaps) - len(worst)} shorter")
    return "<br>".join(told) or "none"


def _pictures(record: Record, topology: Topology) -> Iterator[str]:
    """One per expectation that asked for all pairs, unless it shows what the one before did."""
    shown: dict[tuple[str, str], tuple[str, str, bool]] = {}
    for number, step in enumerate(record.steps, 1):
        if not step.rows:
            continue
        ways = {(row.source, row.destination): (row.path, row.encapsulation, row.rtt_ms is None) for row in step.rows}
        if ways != shown:
            title = f"step {number}, {step.end:.1f} s: {step.text}"
            drawn = picture.draw(topology, step.rows, _sessions(record.messages, topology, step.end), title)
            yield f"<figure>{drawn}</figure>"
        shown = ways


def _sessions(messages: Sequence[Message], topology: Topology, at: float) -> list[picture.Session]:
    """The sessions that were heard of: down after a NOTIFICATION or an OPEN, up with the message that follows."""
    up: dict[tuple[str, str], bool] = {}
    for one in messages:
        if one.sender in topology.nodes and one.receiver in topology.nodes:
            ends = min(one.sender, one.receiver), max(one.sender, one.receiver)
            if one.time <= at:
                up[ends] = one.kind not in ("NOTIFICATION", "OPEN")
            else:
                up.setdefault(ends, True)
    return [picture.Session(left, right, state) for (left, right), state in up.items()]


def _list(title: str, lines: Sequence[tuple[float, str, str]]) -> Iterator[str]:
    yield f"<h2>{title}</h2><details><summary>{len(lines)} lines</summary><table class='lists'>"
    for time, who, text in lines[:_SHOWN]:
        yield f'<tr><td class="n">{time:.3f} s</td><td>{who}</td><td>{text}</td></tr>'
    yield "</table>"
    if len(lines) > _SHOWN:
        yield f"<p>{len(lines) - _SHOWN} more are in the record beside this file.</p>"
    yield "</details>"

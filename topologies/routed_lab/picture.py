"""A topology as a picture: racks, links, BGP sessions, and the path of each pod pair. Pure: values in, SVG out.

Routers without rack stand above, each rack below with its routers over its nodes and their pods. A pair's line follows
the nodes that its packets were seen on; both directions share one line while they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from routed_lab.topology import LabNode, Role, Topology
from routed_lab.wire import Row

COLOURS: Final[Mapping[str, str]] = {
    "direct": "#009e73",
    "ipip": "#d55e00",
    "vxlan": "#8a5fc7",
    "mixed": "#e0b000",
    "unseen": "#c8102e",
}
"""By encapsulation: green, orange and violet are told apart by the colour-blind too. Mixed is where the two directions
differ, red where nothing comes back."""

_BOX, _HEIGHT, _POD, _POD_HEIGHT = 116.0, 34.0, 50.0, 20.0
_GAP, _PAD, _TOP = 26.0, 18.0, 46.0
_TIER = 96.0
_ARC = 76.0
_LANES = 44.0  # how broad all lines together may be
_LANE = 3.0
_CELL = 15.0
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c2430}.s{font-size:10px;fill:#5b6675}.h{font-size:15px;font-weight:600}"
    ".i{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}"
)


@dataclass(frozen=True, slots=True)
class Session:
    """A BGP session between two nodes; `up` is None where nobody was asked."""

    left: str
    right: str
    up: bool | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """One way between two pods: whether the packets came back, and in which directions they go it."""

    path: tuple[str, ...]
    encapsulation: str
    ends: tuple[str, str]
    replied: bool
    both: bool

    @property
    def hops(self) -> list[tuple[str, str]]:
        """Each step of the way, from the one pod as far as the packets came."""
        stops = [self.ends[0], *self.path]
        if self.replied:
            stops.append(self.ends[1])
        return list(pairwise(stops))


@dataclass(frozen=True, slots=True)
class _Layout:
    places: Mapping[str, tuple[float, float]]
    racks: Sequence[tuple[str, float, float, float]]  # name, left edge, width, top
    width: float
    height: float


def draw(topology: Topology, rows: Sequence[Row], sessions: Sequence[Session] = (), title: str = "") -> str:
    """The picture. `rows` are what a check found of the pod pairs; without any, no paths are drawn."""
    layout = _lay_out(topology)
    matrix_at = layout.width + _GAP
    matrix = len(topology.pods) * _CELL + 110 if rows else 0.0
    width = max(matrix_at + matrix, 660.0)
    height = max(layout.height, _TOP + matrix + 20) + 34
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
            f' height="{height:.0f}" role="img" aria-label="{escape(title or topology.name)}">'
        ),
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="h" x="{_PAD}" y="26">{escape(title or topology.name)}</text>',
        *_racks(layout),
        *_links(topology, layout),
        *_paths(rows, layout),
        *_sessions(sessions, layout),
        *_interfaces(topology, layout),
        *_boxes(topology, layout),
        *(_matrix(topology, rows, matrix_at) if rows else ()),
        *_legend(rows, sessions, height - 16),
        "</svg>",
    ]
    return "\n".join(parts)


def _lay_out(topology: Topology) -> _Layout:
    places: dict[str, tuple[float, float]] = {}
    racks: list[tuple[str, float, float, float]] = []
    others = [node for node in topology.nodes.values() if node.role is not Role.NODE]
    above = [node for node in others if node.rack is None]
    top = _TOP + (_TIER if above else 14.0)
    left = _PAD
    for rack in dict.fromkeys(node.rack for node in topology.nodes.values() if node not in above):
        routers = [node for node in others if node.rack == rack and node not in above]
        members = [node for node in topology.members if node.rack == rack]
        breadth = max(
            sum(map(_breadth, members)) + _GAP * max(0, len(members) - 1),
            _BOX * len(routers) + _GAP * max(0, len(routers) - 1),
        )
        _spread(places, routers, left + _PAD, breadth, top + 26)
        at = left + _PAD
        for node in members:
            places[node.name] = at + _breadth(node) / 2, top + 26 + _TIER
            for number in range(1, node.pods + 1):
                x = at + _breadth(node) / 2 + (number - (node.pods + 1) / 2) * (_POD + 8)
                places[f"{node.name}-pod{number}"] = x, top + 26 + _TIER + 74
            at += _breadth(node) + _GAP
        racks.append((f"rack {rack}" if rack else "no rack", left, breadth + 2 * _PAD, top))
        left += breadth + 2 * _PAD + _GAP
    width = max(left, len(above) * (_BOX + _GAP) + _PAD)
    _spread(places, above, _PAD, width - _PAD - _GAP, _TOP + 8)
    return _Layout(places, racks, width, max(y for _, y in places.values()) + 46)


def _breadth(node: LabNode) -> float:
    return max(_BOX, node.pods * (_POD + 8))


def _spread(
    places: dict[str, tuple[float, float]], nodes: Sequence[LabNode], left: float, width: float, y: float
) -> None:
    for number, node in enumerate(nodes):
        places[node.name] = left + width * (number + 0.5) / len(nodes), y + _HEIGHT / 2


def _racks(layout: _Layout) -> Iterator[str]:
    for name, left, width, top in layout.racks:
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{layout.height - top - 10:.1f}" rx="10"'
            f' fill="#f4f6f9" stroke="#d5dbe3"/>'
            f'<text class="s" x="{left + 10:.1f}" y="{top + 16:.1f}">{escape(name)}</text>'
        )


def _links(topology: Topology, layout: _Layout) -> Iterator[str]:
    for link in (link for link in topology.links if all(end.node in layout.places for end in link.ends)):
        (x1, y1), (x2, y2) = layout.places[link.left.node], layout.places[link.right.node]
        yield (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#c3ccd8" stroke-width="9"'
            f' stroke-linecap="round"><title>{link.left} - {link.right}</title></line>'
        )


def _interfaces(topology: Topology, layout: _Layout) -> Iterator[str]:
    for link in (link for link in topology.links if all(end.node in layout.places for end in link.ends)):
        for end, far in (link.ends, link.ends[::-1]):
            (x, y), (far_x, far_y) = layout.places[end.node], layout.places[far.node]
            length = max(1.0, ((far_x - x) ** 2 + (far_y - y) ** 2) ** 0.5)
            share = min(0.45, 36 / length)
            yield (
                f'<text class="s i" x="{x + (far_x - x) * share:.1f}" y="{y + (far_y - y) * share + 3:.1f}"'
                f' text-anchor="middle">{escape(end.interface)}</text>'
            )


def _sessions(sessions: Iterable[Session], layout: _Layout) -> Iterator[str]:
    """Arcs beside the straight line between the two, so that neither hides the other."""
    for session in sessions:
        ends = layout.places[session.left], layout.places[session.right]
        (x1, y1), (x2, y2) = sorted(ends, key=lambda place: (place[1], place[0]))  # the upper one first
        length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
        side = _ARC if x2 < x1 else -_ARC  # towards the outside of the picture
        bend_x, bend_y = (y1 - y2) / length * side, (x2 - x1) / length * side
        if abs(y1 - y2) < 1:
            bend_x, bend_y = 0.0, -18 - length * 0.12
        colour = {True: "#3b7dd8", False: "#c8102e", None: "#8fa3bd"}[session.up]
        state = {True: "established", False: "not established", None: "configured"}[session.up]
        yield (
            f'<path d="M{x1:.1f} {y1:.1f} Q{(x1 + x2) / 2 + bend_x:.1f} {(y1 + y2) / 2 + bend_y:.1f} {x2:.1f} {y2:.1f}"'
            f' fill="none" stroke="{colour}" stroke-width="1.3" stroke-dasharray="5 4">'
            f"<title>BGP {escape(session.left)} - {escape(session.right)}: {state}</title></path>"
        )


def _lines(rows: Iterable[Row]) -> list[_Line]:
    """One line for a pair whose two directions are alike, else one for each direction."""
    found: dict[tuple[frozenset[str], tuple[str, ...], str, bool], _Line] = {}
    for row in rows:
        path = tuple(row.path.split(" > ")) if row.path else ()
        replied = row.rtt_ms is not None
        ends = frozenset((row.source, row.destination))
        back = found.get((ends, path[::-1], row.encapsulation, replied))
        if back is not None and back.ends != (row.source, row.destination):
            found[ends, path[::-1], row.encapsulation, replied] = _Line(
                back.path, back.encapsulation, back.ends, replied, both=True
            )
        else:
            found[ends, path, row.encapsulation, replied] = _Line(
                path, row.encapsulation, (row.source, row.destination), replied, both=False
            )
    return list(found.values())


def _paths(rows: Sequence[Row], layout: _Layout) -> Iterator[str]:
    """Between each two neighbours of the picture the lines lie side by side; where they meet, boxes cover them."""
    lines = sorted(_lines(rows), key=lambda line: (line.encapsulation, len(line.path), line.ends))
    hops = [line.hops for line in lines]
    beside: dict[tuple[str, ...], list[int]] = {}
    for number, way in enumerate(hops):
        for hop in way:
            beside.setdefault(tuple(sorted(hop)), []).append(number)
    for number, (line, way) in enumerate(zip(lines, hops, strict=True)):
        colour = COLOURS[line.encapsulation] if line.replied else COLOURS["unseen"]
        dash = "" if line.replied else ' stroke-dasharray="3 3"'
        arrow = "&lt;-&gt;" if line.both else "-&gt;"
        told = f"{escape(line.ends[0])} {arrow} {escape(line.ends[1])}: " + (
            f"{line.encapsulation} by {' &gt; '.join(map(escape, line.path))}" if line.replied else "no reply"
        )
        drawn = ""
        for hop in way:
            company = beside[tuple(sorted(hop))]
            lane = min(_LANE, _LANES / len(company))
            shift = (company.index(number) - (len(company) - 1) / 2) * lane
            (x1, y1), (x2, y2) = (layout.places[stop] for stop in sorted(hop))
            length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
            dx, dy = (y1 - y2) / length * shift, (x2 - x1) / length * shift
            drawn += f"M{x1 + dx:.1f} {y1 + dy:.1f}L{x2 + dx:.1f} {y2 + dy:.1f}"
        yield (
            f'<path d="{drawn}" fill="none" stroke="{colour}" stroke-width="{_LANE * 0.55:.2f}"{dash}>'
            f"<title>{told}</title></path>"
        )


def _boxes(topology: Topology, layout: _Layout) -> Iterator[str]:
    for node in topology.nodes.values():
        x, y = layout.places[node.name]
        router = node.role is Role.ROUTER
        yield (
            f'<rect x="{x - _BOX / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" width="{_BOX}" height="{_HEIGHT}"'
            f' rx="{4 if router else 9}" fill="{"#e7eefb" if router else "#fff"}" stroke="#47566b" stroke-width="1.3"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escape(node.name)}</text>'
        )
    for pod in topology.pods:
        x, y = layout.places[pod.name]
        yield (
            f'<rect x="{x - _POD / 2:.1f}" y="{y - _POD_HEIGHT / 2:.1f}" width="{_POD}" height="{_POD_HEIGHT}" rx="9"'
            f' fill="#fff8e6" stroke="#b59a4a"/><text class="s" x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">'
            f"pod{pod.number}</text>"
        )


def _matrix(topology: Topology, rows: Iterable[Row], left: float) -> Iterator[str]:
    """From the pod of the line to the pod of the column, a cell each."""
    place = {pod.name: number for number, pod in enumerate(topology.pods)}
    top = _TOP + 96
    yield f'<text class="s" x="{left:.1f}" y="{_TOP}">each pair, from row to column</text>'
    for name, number in place.items():
        y, x = top + (number + 0.75) * _CELL, left + 96 + (number + 0.7) * _CELL
        yield f'<text class="s" x="{left + 90:.1f}" y="{y:.1f}" text-anchor="end">{escape(name)}</text>'
        yield f'<text class="s" transform="translate({x:.1f} {top - 5:.1f}) rotate(-90)">{escape(name)}</text>'
    for row in rows:
        x, y = left + 96 + place[row.destination] * _CELL, top + place[row.source] * _CELL
        replied = row.rtt_ms is not None
        told = f"{row.encapsulation} by {row.path}, {row.rtt_ms} ms" if replied else "no reply"
        wrong = row.encapsulation != row.expected or not replied
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{_CELL - 1.5}" height="{_CELL - 1.5}" rx="2"'
            f' fill="{COLOURS[row.encapsulation] if replied else "#fff"}"'
            f' stroke="{COLOURS["unseen"] if wrong else "none"}" stroke-width="1.5">'
            f"<title>{escape(row.source)} -&gt; {escape(row.destination)}: {escape(told)}</title></rect>"
        )


def _legend(rows: Sequence[Row], sessions: Sequence[Session], y: float) -> Iterator[str]:
    shown = [
        *((COLOURS[name], name, "") for name in ("direct", "ipip", "vxlan", "mixed") if rows),
        *([(COLOURS["unseen"], "no reply", "3 3")] if rows else []),
        *([("#3b7dd8", "BGP session", "5 4")] if any(one.up for one in sessions) else []),
        *([("#8fa3bd", "BGP session as configured", "5 4")] if any(one.up is None for one in sessions) else []),
        *([("#c8102e", "BGP session down", "5 4")] if any(one.up is False for one in sessions) else []),
        ("#c3ccd8", "link", ""),
    ]
    x = _PAD
    for colour, name, dash in shown:
        yield (
            f'<line x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x + 22:.1f}" y2="{y - 4:.1f}" stroke="{colour}" stroke-width="3"'
            f' stroke-dasharray="{dash or "none"}"/><text class="s" x="{x + 27:.1f}" y="{y:.1f}">{escape(name)}</text>'
        )
        x += 44 + 5.6 * len(name)

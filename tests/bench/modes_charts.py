"""The two charts of docs/modes, as SVG and PNG: values above, the same over bare's below, message sizes in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from modes_report import ORDER, TITLES, Series, readable

# Colours that people who see few of them can tell apart (Okabe and Ito); dashes and markers for those who see none.
_STYLES = {
    "bare": ("#000000", "-", "o"),
    "macvlan": ("#7f7f7f", ":", "x"),
    "direct": ("#0072b2", "-", "s"),
    "ipip": ("#d55e00", "-", "^"),
    "vxlan": ("#009e73", "-", "v"),
    "flannel": ("#aa3377", "--", "D"),
}
_LABEL_GAP = 0.062  # of the panel's height: a line of text


@dataclass(frozen=True)
class Words:
    """The texts of a chart."""

    title: str
    values: str
    ratios: str
    sizes: str


TCP = Words("TCP throughput between pods on two hosts", "Gbit/s", "over bare (more is better)", "size of a write")
UDP = Words("UDP round trip between pods on two hosts", "µs", "over bare (less is better)", "size of a message")


def draw(series: Series, words: Words, stem: Path) -> None:
    """Write `stem`.svg and `stem`.png. OSError where that cannot be."""
    settings = {"svg.hashsalt": "routed", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(8, 7.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2.6))
        figure.suptitle(words.title, x=0.02, ha="left", fontweight="bold")
        for mode in ORDER:
            colour, dash, marker = _STYLES[mode]
            look = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4.5, "linewidth": 1.6}
            above.plot(series.sizes, [series.medians[mode][size] for size in series.sizes], label=TITLES[mode], **look)
            below.plot(series.sizes, [series.ratio(mode, "bare", size) for size in series.sizes], **look)
        _axes(series, words, above, below)
        _label_ends(series, below)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".png"), dpi=130)


def _axes(series: Series, words: Words, above: Axes, below: Axes) -> None:
    above.set_ylabel(words.values)
    above.legend(loc="upper left", frameon=False)
    below.set_ylabel(words.ratios)
    below.set_xlabel(words.sizes)
    above.set_xscale("log", base=2)
    if series.more_is_better:  # from tens of Mbit/s to tens of Gbit/s
        above.set_yscale("log")
    else:
        above.set_ylim(bottom=0)
    above.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    below.set_xticks(series.sizes, [readable(size) for size in series.sizes], rotation=35, ha="right")
    below.minorticks_off()
    for axes in (above, below):
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)


def _label_ends(series: Series, axes: Axes) -> None:
    """Name each line at its right end, or as near to it as names leave room for one another."""
    last = series.sizes[-1]
    low, high = axes.get_ylim()
    ends = {mode: series.ratio(mode, "bare", last) for mode in ORDER}
    rising = sorted(ORDER, key=ends.__getitem__)
    heights = spread_out([ends[mode] for mode in rising], _LABEL_GAP * (high - low))
    for mode, height in zip(rising, heights, strict=True):
        axes.annotate(
            TITLES[mode], (last, height), xytext=(8, 0), textcoords="offset points", va="center",
            color=_STYLES[mode][0], annotation_clip=False, fontsize=9,
        )  # fmt: skip


def spread_out(wanted: list[float], gap: float) -> list[float]:
    """Heights `gap` apart at least, in the order of the rising `wanted`; those that are too near share the shift."""
    clusters: list[list[float]] = []
    for height in wanted:
        clusters.append([height])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) - _bottom(clusters[-2], gap) < len(clusters[-2]) * gap:
            last = clusters.pop()
            clusters[-1] += last
    return [_bottom(cluster, gap) + place * gap for cluster in clusters for place in range(len(cluster))]


def _bottom(cluster: list[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - (len(cluster) - 1) / 2 * gap

"""What the samples of `bench_modes` come to: medians, ratios, the sentences and tables of docs/modes. Pure."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from harness import Json

ORDER = ("bare", "macvlan", "direct", "ipip", "vxlan", "flannel")
"""Of columns and lines: from nothing between the ends to most of it."""

TITLES = {
    "bare": "bare",
    "macvlan": "macvlan",
    "direct": "routed direct",
    "ipip": "routed IPIP",
    "vxlan": "routed VXLAN",
    "flannel": "bridge + VXLAN",
}
COMMAND = "./dev bench modes --write docs/modes"


@dataclass(frozen=True)
class Series:
    """Medians of one quantity: {mode: {size in bytes: value in `unit`}}; `more_is_better` of its values."""

    medians: Mapping[str, Mapping[int, float]]
    unit: str
    more_is_better: bool

    @classmethod
    def of(cls, samples: Mapping[str, Mapping[str, list[float]]], unit: str, *, more_is_better: bool) -> Series:
        """From {mode: {size: [one value per round]}}, sizes as JSON has them."""
        medians = {
            mode: {int(size): statistics.median(values) for size, values in by_size.items()}
            for mode, by_size in samples.items()
        }
        return cls(medians, unit, more_is_better)

    @property
    def sizes(self) -> list[int]:
        """Message sizes in bytes, rising."""
        return sorted(self.medians["bare"])

    def ratio(self, mode: str, other: str, size: int) -> float:
        """One mode's median over another's."""
        return self.medians[mode][size] / self.medians[other][size]

    def overall(self, mode: str, other: str) -> float:
        """The geometric mean of `ratio` over all sizes."""
        return math.exp(statistics.fmean(math.log(self.ratio(mode, other, size)) for size in self.sizes))

    def better_at(self, mode: str, other: str) -> int:
        """At how many sizes `mode` is better than `other`."""
        return sum((self.ratio(mode, other, size) > 1) == self.more_is_better for size in self.sizes)


def figures(streams: Series, probes: Series) -> dict[str, float]:
    """The benchmark's figures."""
    return {
        "direct_vs_bare_throughput": streams.overall("direct", "bare"),
        "direct_vs_bare_latency": probes.overall("direct", "bare"),
        "ipip_vs_vxlan_throughput": streams.overall("ipip", "vxlan"),
        "ipip_vs_vxlan_latency": probes.overall("ipip", "vxlan"),
    }


def sentence(series: Series) -> str:
    """What a chart shows, in words."""
    what = "carries {:.2f} times bare's throughput" if series.more_is_better else "takes {:.2f} times bare's round trip"
    ranked = sorted(ORDER[1:], key=lambda mode: series.overall(mode, "bare"), reverse=series.more_is_better)
    first, *rest = ((TITLES[mode], series.overall(mode, "bare")) for mode in ranked)
    others = ", ".join(f"{title} {value:.2f}" for title, value in rest)
    better = series.better_at("ipip", "vxlan")
    word = "faster" if series.more_is_better else "sooner"
    return textwrap.fill(
        f"Over all sizes {first[0]} {what.format(first[1])}; {others}. "
        f"IPIP is {word} than VXLAN at {better} of {len(series.sizes)} sizes.",
        width=120,
    )


def table(series: Series) -> str:
    """Markdown: a line per size, medians with their ratio to bare; the last has the geometric means of the ratios."""
    rows = [["message", *(TITLES[mode] for mode in ORDER)], ["---:"] * (len(ORDER) + 1)]
    for size in series.sizes:
        cells = (f"{short(series.medians[mode][size])} ({series.ratio(mode, 'bare', size):.2f})" for mode in ORDER[1:])
        rows.append([readable(size), short(series.medians["bare"][size]), *cells])
    rows.append(["all", "", *(f"({series.overall(mode, 'bare'):.2f})" for mode in ORDER[1:])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(streams: Series, probes: Series, told: Json) -> str:
    """docs/modes/README.md; `told` has `kernel`, `cpu`, `mtu`, and `rounds` by kind."""
    return f"""# The modes, compared

Two hosts of one kernel joined by a veth; one pod on each, or for *bare* the hosts' own addresses over the same veth.
*routed*'s pods are wired by its plugin and reached by its agents' routes; *bridge + VXLAN* is set up as flannel does,
*macvlan* over the host's interface. Made by

```sh
{COMMAND}
```

which takes about twenty minutes, on a quiet machine please: it writes this page and its charts, and nothing here
is written by hand. This run: Linux {told["kernel"]} (User-mode Linux, one processor) on {told["cpu"]}, every interface
with an MTU of {told["mtu"]}. The modes take turns at each size, and beginning with another one each time. Values are
medians of all rounds; in brackets: over bare; in the last line the geometric mean over all sizes.

A system call costs far more under User-mode Linux than elsewhere. So small messages say little of the network, and
the ratios say more than the values.

## TCP: {streams.unit} by the size of a write

iperf3, one connection, {told["rounds"]["stream"]} rounds.

{sentence(streams)}

![TCP throughput by message size](tcp-throughput.svg)

{table(streams)}

## UDP: {probes.unit} of a round trip by the size of a message

One message at a time, the median of a thousand, {told["rounds"]["probe"]} rounds.

{sentence(probes)}

![UDP round trip by message size](udp-latency.svg)

{table(probes)}
"""


def readable(size: int) -> str:
    """A size as people say it."""
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def short(value: float) -> str:
    """Three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"

"""The part of `routed lab` that plays scenarios and draws: what the commands ask of a lab, and where the files go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from routed.errors import OperatorError
from routed_lab import report, wire
from routed_lab.scenario import load as scenarios
from routed_lab.scenario.record import Record

if TYPE_CHECKING:
    from routed_lab.client import Client
    from routed_lab.scenario.model import Scenario
    from routed_lab.topology import Topology

CAPTURE = "capture.pcapng"
REPORT = "report.html"
RECORD = "record.json"


def find(topology: Topology, named: Path | None) -> Scenario | None:
    """The scenario that was named, or the one beside the topology; checked now, before anything is built.

    None when there is none. Raises OperatorError when it cannot be read or does not fit the topology.
    """
    path = scenarios.beside(topology.path) if named is None else named.absolute()
    if named is None and not path.exists():
        return None
    return scenarios.load(path, topology)


def place(wanted: Path | None, scenario: Path) -> Path:
    """Make the directory of a report: the one wanted, or one in the current directory named after the scenario."""
    path = wanted or Path(scenario.name.removesuffix(scenarios.SUFFIX) + ".report")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot make the directory of the report: {error.strerror}", hint="name another with --report DIR"
        ) from error
    return path


def play(client: Client, topology: Topology, scenario: Path, directory: Path) -> Record:
    """Play `scenario` in the lab and leave the report, the capture and the record in `directory`."""
    from routed_lab.scenario import page

    progress = report.Progress()
    try:
        with (directory / CAPTURE).open("wb") as capture:
            value = client.call(wire.Play(id=client.new_id(), file=str(scenario)), progress, capture.write)
    finally:
        progress.done()
    record = msgspec.convert(value, Record)
    (directory / RECORD).write_bytes(msgspec.json.encode(record))
    (directory / REPORT).write_text(page.page(record, topology, CAPTURE), encoding="utf-8")
    return record


def show(record: Record, directory: Path) -> None:
    """Tell a person on standard error how it went and where the report is."""
    for step in record.steps:
        mark = {"done": " ", "met": "+", "failed": "!", "skipped": "-"}[step.outcome]
        detail = f": {step.detail}" if step.outcome == "failed" else ""
        print(f"{mark} {step.begin:7.2f} s  {step.text}{detail}", file=sys.stderr)
    for pair in record.pairs:
        longest = max((gap.end - gap.begin for gap in pair.gaps), default=0.0)
        print(
            f"  {pair.source} > {pair.destination}: {pair.lost} of {pair.sent} probes lost,"
            f" longest gap {longest * 1000:.0f} ms",
            file=sys.stderr,
        )
    verdict = "as expected" if record.passed else "NOT as expected"
    print(f'scenario "{record.scenario}": {verdict}; report: {directory / REPORT}', file=sys.stderr)

"""Why a path won or lost, in the words of the decision process and with the values that decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from routed.model.path import Path
from routed_bgp.decision import Step, judged, multipath


@dataclass(frozen=True, slots=True)
class Explained:
    """A path of the Loc-RIB. `shares`: it is one of several that share the traffic."""

    path: Path
    best: bool
    shares: bool
    reason: str


def explained(paths: Sequence[Path], widths: tuple[int, int]) -> tuple[Explained, ...]:
    """All of `paths`, best first."""
    judgements = judged(paths)
    order = [judgement.path for judgement in judgements]
    chosen = multipath(order, ebgp=widths[0], ibgp=widths[1])
    sharing = {id(path) for path in chosen} if len(chosen) > 1 else set[int]()
    best = order[0]
    found: list[Explained] = []
    for judgement in judgements:
        path, step = judgement.path, judgement.lost_at
        shares = id(path) in sharing
        if path is best:
            runner_up = judgements[1] if len(judgements) > 1 else None
            reason = _won(
                best, runner_up.path if runner_up else None, runner_up.lost_at if runner_up else None, len(order)
            )
        else:
            reason = _lost(path, best, step)
            if shares:
                reason = f"shares the traffic; {reason}"
        found.append(Explained(path, path is best, shares, reason))
    return tuple(found)


def _won(best: Path, second: Path | None, step: Step | None, count: int) -> str:
    if second is None or step is None:
        reason = "the only path"
    else:
        ours, theirs = _value(step, best), _value(step, second)
        reason = f"best of {count}: {step}" + (f" ({ours}, the next {theirs})" if ours and ours != theirs else "")
    if best.unreachable:
        reason += "; not used: its next hop does not resolve"
    if best.stale:
        reason += "; stale: kept while the peer restarts"
    return reason


def _lost(path: Path, best: Path, step: Step | None) -> str:
    if step is None:
        return "equal to the best"
    ours, theirs = _value(step, path), _value(step, best)
    if ours and ours != theirs:
        return f"lost at {step} ({ours}, the best {theirs})"
    # step 4 compares with another path of the same neighbouring AS, which need not be the best
    return f"lost at {step}" + (f" ({ours})" if ours else "")


def _value(step: Step, path: Path) -> str:
    return _VALUES[step.number](path) if step.number in _VALUES else ""


_VALUES: Mapping[str, Callable[[Path], str]] = {
    "0a": lambda path: "does not" if path.unreachable else "does",
    "0b": lambda path: "stale" if path.stale else "fresh",
    "0c": lambda path: str(path.priority),
    "1": lambda path: str(path.local_pref),
    "2": lambda path: str(path.as_path_length),
    "3": lambda path: path.origin.name,
    "4": lambda path: str(path.med or 0),
    "5": lambda path: "eBGP" if path.ebgp else "iBGP",
    "7": lambda path: str(path.peer_router_id if path.originator_id is None else path.originator_id),
    "8": lambda path: str(len(path.cluster_list)),
    "9": lambda path: str(path.peer),
    "10": lambda path: str(path.path_id),
}

"""The pure core over a recording: the same Loc-RIB and the same calc, with nobody to talk to. Pure.

What comes out follows from the lines alone: the same file, the same decisions, in the same order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import msgspec

from routed.agent.neighbourhood import Neighbourhood
from routed.agent.path_source import PathSource
from routed.agent.recording import lines, plain
from routed.agent.routing import Routing
from routed.config import AgentConfig
from routed.errors import OperatorError, RoutedError
from routed.model.address import AnyAddress, AnyPrefix, Family
from routed.model.bgp import SecretKeySelector
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri, position, to_prefix
from routed.model.path import Path
from routed_bgp.bfd.ledger import BfdChange
from routed_bgp.bfd.messages import BfdSession
from routed_bgp.decision import multipath
from routed_bgp.loc_rib import Ranked
from routed_bgp.sessions import Session
from routed_bgp.speaker import Event, RefreshReceived, SessionDown, SessionUp, UpdatesReceived
from routed_felix.calc import Calculator
from routed_felix.state import Desired, Forwarding, NodeState
from routed_felix.view import View

What = Literal["refused", "reset", "best", "node", "route"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Something is decided otherwise than before, `at` seconds after the recording began.

    `what` about `subject`: a `best` path to a prefix, a `route` for a prefix, what the `node` needs besides routes, a
    session that is `reset`, a cluster that is `refused`. `text` is what holds now; empty for nothing any more.
    """

    at: float
    what: What
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:10.3f}  {self.what:<7} {self.subject}: {self.text or 'none'}"


def replay(recording: Iterable[tuple[float, lines.Line]], name: str = "recording") -> Iterator[Decision]:
    """The decisions of a recording, as they are made. OperatorError where its lines make no sense one after another."""
    return Replay(name).run(recording)


class Replay:
    """See the module; `desired` after `run` is what is wanted at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._core: _Core | None = None

    def run(self, recording: Iterable[tuple[float, lines.Line]]) -> Iterator[Decision]:
        """Take in the lines, yield the decisions. See `replay`."""
        for number, (at, line) in enumerate(recording, 2):
            try:
                if self._core is None:
                    self._core = _Core(at, _first(line))
                else:
                    yield from self._core.take(at, line)
            except (KeyError, ValueError, msgspec.ValidationError) as error:
                raise OperatorError(
                    f"{self._name}: line {number}: {error}", hint="the file is incomplete, or of another version"
                ) from None

    def desired(self, family: Family = Family.IPV4) -> Desired:
        """The kernel state that is wanted by now."""
        return Desired() if self._core is None else self._core.calculators[family].desired()


def _first(line: lines.Line) -> lines.Started:
    if isinstance(line, lines.Started):
        return line
    raise ValueError(f"{type(line).__name__} before Started")


class _Core:
    """What the agent composes, as far as it decides."""

    def __init__(self, at: float, started: lines.Started) -> None:
        self.calculators = {family: Calculator(family) for family in Family}
        self._started = at
        self._now = at
        self._settings = started.settings
        config = msgspec.convert(started.config, AgentConfig)
        self._node = config.node
        self._silence = _SilentSpeaker()
        self._passwords = _Passwords()
        self._routing = Routing(config, self._silence, _Unwatched(), lambda: self._now, self._passwords)
        best = {family: self._routing.rib.best(family) for family in Family}
        self._paths = PathSource(config.node, best, config.bgp_sync_seconds)
        self._sharing = partial(multipath, ebgp=config.bgp_multipath_ebgp, ibgp=config.bgp_multipath_ibgp)
        self._clusters: dict[int, Cluster] = {}
        self._surroundings: dict[Family, dict[str, Any]] = {family: {} for family in Family}
        self._views: dict[Family, View] = {}
        self._changed: dict[Family, set[Nlri] | None] = dict.fromkeys(Family)  # None: calc has seen nothing
        self._told: dict[tuple[What, str], str] = {}

    def take(self, at: float, line: lines.Line) -> Iterator[Decision]:
        """Take in one line; what is decided otherwise since."""
        self._now = at
        match line:
            case lines.Stored(number, resources):
                self._clusters[number] = lines.cluster_of(resources)
            case lines.Adopted(number, missing):
                yield from self._adopt(self._clusters[number], missing)
            case SessionUp() | SessionDown() | UpdatesReceived() | RefreshReceived():
                _finish(self._routing.handle(line))
            case BfdChange():
                _finish(self._routing.bfd_changed(line))
            case lines.LookedAround():
                if len(self._views) == len(Family):
                    _finish(self._routing.interfaces_changed(Neighbourhood(self._views)))
            case lines.Expired():
                _finish(self._routing.expire(at))
            case lines.Assigned(family, addresses):
                self._routing.assign(family, addresses)
            case lines.Borrowed(addresses):
                self._routing.borrow(addresses)
            case lines.Drained(drain):
                self._routing.drain(drain)
            case lines.Viewed(family, changed):
                yield from self._view(family, changed)
            case lines.Lost(peers):
                yield from self._lose(peers)
            case lines.Started():
                raise ValueError("Started twice")
        yield from self._ranked()

    def _adopt(self, cluster: Cluster, missing: Sequence[str]) -> Iterator[Decision]:
        self._passwords.missing = frozenset(missing)
        self._paths.adopt(cluster, self._now)
        try:
            _finish(self._routing.adopt(cluster))
        except OperatorError as error:
            yield from self._tell("refused", "cluster", str(error))
        else:
            yield from self._tell("refused", "cluster", "")

    def _ranked(self) -> Iterator[Decision]:
        """The RIB's decisions since it was asked last, and the sessions it wants closed."""
        _finish(self._routing.settle())
        for peer, reason in self._silence.take_resets():
            yield Decision(self._now - self._started, "reset", str(peer), reason)
        for family in Family:
            changed = self._routing.take_changes(family)
            known = self._changed[family]
            if known is not None:
                known |= changed
            best = self._routing.rib.best(family)
            for nlri in sorted(changed, key=position):
                yield from self._tell("best", str(to_prefix(nlri, family)), _ranking(best.get(nlri, ())))

    def _view(self, family: Family, changed: Mapping[str, Any]) -> Iterator[Decision]:
        yield from self._ranked()
        if self._paths.settle(self._now, synced=self._routing.rib.synced(self._now)):
            self._changed = dict.fromkeys(Family)
        seen = self._surroundings[family]
        seen.update(changed)
        around: lines.Surroundings = plain.decode(lines.Surroundings, seen)
        values = {each.name: getattr(around, each.name) for each in fields(around) if each.name != "cluster"}
        view = View(
            node=self._node,
            cluster=self._clusters[around.cluster],
            family=family,
            best=self._paths.best(family),
            settings=self._settings,
            sharing=self._sharing,
            **values,
        )
        self._views[family] = view
        yield from self._calculate(family, view, self._changed[family])
        self._changed[family] = set()

    def _lose(self, peers: frozenset[AnyAddress]) -> Iterator[Decision]:
        self._views = {family: replace(view, lost=peers) for family, view in self._views.items()}
        for family, view in self._views.items():
            yield from self._calculate(family, view, ())

    def _calculate(self, family: Family, view: View, changed: Collection[Nlri] | None) -> Iterator[Decision]:
        calculator = self.calculators[family]
        change = calculator.update(view, changed)
        for subject, text in _needs(change.node):
            yield from self._tell("node", f"{subject} (IPv{4 if family is Family.IPV4 else 6})", text)
        for nlri in sorted(change.routes.keys() | calculator.by(change.groups).keys(), key=position):
            prefix = to_prefix(nlri, family)
            yield from self._tell("route", str(prefix), _way(calculator, prefix))

    def _tell(self, what: What, subject: str, text: str) -> Iterator[Decision]:
        if self._told.get((what, subject), "") != text:
            self._told[what, subject] = text
            yield Decision(self._now - self._started, what, subject, text)


class _SilentSpeaker:
    """A speaker with nobody behind it; what is to be closed is kept."""

    def __init__(self) -> None:
        self._resets: list[tuple[AnyAddress, str]] = []

    def take_resets(self) -> list[tuple[AnyAddress, str]]:
        """The sessions that were to be closed since the last call, with the NOTIFICATION's code and subcode."""
        resets, self._resets = self._resets, []
        return resets

    async def set(self, sessions: Sequence[Session]) -> None:
        """Nobody comes."""

    def send(self, peers: Collection[AnyAddress], messages: bytes) -> None:
        """Nobody listens."""

    async def reset(self, peer: AnyAddress, code: int = 6, subcode: int = 4) -> None:
        """Note it."""
        self._resets.append((peer, f"NOTIFICATION {code}/{subcode}"))

    async def retry(self, peer: AnyAddress) -> None:
        """Nobody is there to be tried."""

    async def events(self) -> AsyncIterator[Event]:
        """None: they are in the recording."""
        for event in list[Event]():
            yield event

    async def close(self) -> None:
        """Nothing is open."""


class _Unwatched:
    """A BFD that watches nobody: what it said is in the recording."""

    async def set(self, wanted: Collection[BfdSession], /) -> None:
        """Nobody is watched."""


class _Passwords:
    """A recording has no passwords; it has which were missing."""

    def __init__(self) -> None:
        self.missing: frozenset[str] = frozenset()

    def forget(self) -> None:
        """Nothing is remembered."""

    def changed(self) -> bool:
        """Never: a change is a line of its own."""
        return False

    def __call__(self, wanted: SecretKeySelector) -> str:
        """A stand-in. Raises OperatorError for one that was missing."""
        name = f"{wanted.name}/{wanted.key}"
        if name in self.missing:
            raise OperatorError(f"{name}: the password was missing when this was recorded")
        return "recorded"


def _finish(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run what waits for nobody, since nobody is there, to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RoutedError("the replay of a recording has waited for something, which is a defect of routed")


def _ranking(paths: Ranked) -> str:
    return " | ".join(map(_path, paths))


def _path(path: Path) -> str:
    known = [f"via {path.next_hop} from {path.peer} local_pref {path.local_pref}"]
    if path.as_path:
        known.append("as_path " + " ".join(str(number) for segment in path.as_path for number in segment.numbers))
    known += [word for word, said in (("stale", path.stale), ("unreachable", path.unreachable)) if said]
    return " ".join(known)


def _way(calculator: Calculator, prefix: AnyPrefix) -> str:
    decision = calculator.decision_for(prefix)
    return "" if decision is None else _forwarding(decision)


def _forwarding(decision: Forwarding) -> str:
    hops = ", ".join(f"{hop.device} via {hop.gateway}" if hop.gateway else hop.device for hop in decision.hops)
    return f"{decision.encapsulation}{' by ' if hops else ''}{hops}: {decision.because}"


def _needs(node: NodeState) -> Iterator[tuple[str, str]]:
    """What the node needs besides routes, kind by kind."""
    for each in fields(NodeState):
        held: Mapping[Any, object] = getattr(node, each.name)
        yield each.name, "; ".join(sorted(f"{key} {_plainly(value)}" for key, value in held.items()))


def _plainly(value: object) -> str:
    found = plain.encode(value)
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()

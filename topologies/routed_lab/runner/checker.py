"""The proof: rounds of pings until the wire carries what the topology says, then one fresh round that is judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from routed.errors import EnvironmentFault
from routed_lab import expect
from routed_lab.probe import Probe

if TYPE_CHECKING:
    from routed_lab.expect import Encapsulation, Pair, TorSession, Verdict
    from routed_lab.runner.lab import Lab, Progress
    from routed_lab.session import Session
    from routed_lab.wire import Json

_CONVERGENCE: Final = 60.0  # seconds: BGP's own timers here are 5 s at most, an emulated CPU takes the rest
_REPLY: Final = 2.0  # seconds after which a ping is lost
_PAUSE: Final = 0.3  # seconds between rounds


async def check(lab: Lab, without_tor: str | None, progress: Progress) -> Json:
    """Judge all pod pairs of `lab`, with the ToR sessions of the node `without_tor` taken down meanwhile.

    Returns the value of the answer to wire.Check. What the wire carries in the end is the result, right or wrong;
    OperatorError for a node without a ToR session, EnvironmentFault when the lab itself is broken.
    """
    begin = time.monotonic()
    lab.require_alive()
    sessions = () if without_tor is None else expect.sessions_of(lab.topology, without_tor)
    expected = expect.expected(lab.topology, without_tor=() if without_tor is None else (without_tor,))
    pods = {pod: (wired.namespace, wired.address) for pod, wired in lab.pods.items()}
    with Probe(lab.topology, lab.namespaces, pods) as probe:
        try:
            for session in sessions:
                progress(f"taking the session {session.router} - {session.node} down")
                await switch(lab, session, up=False)
            await _converge(probe, expected, progress)
            verdicts = await asyncio.to_thread(probe.round, expected, _REPLY)
            seconds = time.monotonic() - begin
        finally:
            for session in sessions:
                progress(f"taking the session {session.router} - {session.node} up again")
                await switch(lab, session, up=True)
        if sessions:
            await _restored(lab, probe, sessions, progress)
    lab.require_alive()
    return {
        "summary": {**expect.summary(lab.topology, verdicts, seconds)},
        "rows": [[*expect.row(verdict)] for verdict in verdicts],
    }


async def _converge(probe: Probe, expected: Mapping[Pair, Encapsulation], progress: Progress) -> bool:
    """Ping until all is as expected, or for `_CONVERGENCE` seconds; tell whether it came to that."""
    deadline = time.monotonic() + _CONVERGENCE
    told = -1
    while True:
        verdicts = await asyncio.to_thread(probe.round, expected, _REPLY)
        good = sum(_good(verdict) for verdict in verdicts)
        if good != told:
            progress(f"{good} of {len(verdicts)} pod pairs are as the topology says")
            told = good
        if good == len(verdicts):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_PAUSE)


def _good(verdict: Verdict) -> bool:
    return verdict.reachable and verdict.right


async def switch(lab: Lab, session: TorSession, *, up: bool) -> None:
    """Take the router's session with the node down, or let it come up again."""
    await lab.routers[session.router].switch(await _of_router(lab, session), up=up)


async def _of_router(lab: Lab, session: TorSession) -> Session:
    for told in await lab.routers[session.router].sessions():
        if told.neighbor == session.node_address:
            return told
    raise EnvironmentFault(
        f"router {session.router} has no BGP session whose neighbour is {session.node_address}, the address of"
        f" {session.node}",
        hint=f"add one to {lab.topology.nodes[session.router].config}",
    )


async def _restored(lab: Lab, probe: Probe, sessions: Sequence[TorSession], progress: Progress) -> None:
    """Wait until the sessions are established and the fabric carries again; EnvironmentFault when that fails."""
    deadline = time.monotonic() + _CONVERGENCE
    for session in sessions:
        while not (await _of_router(lab, session)).established:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"the session {session.router} - {session.node} did not come up again within {_CONVERGENCE:.0f} s"
                )
            await asyncio.sleep(_PAUSE)
    if not await _converge(probe, expect.expected(lab.topology), progress):
        raise EnvironmentFault(
            f"the session {sessions[0].router} - {sessions[0].node} is up, but the fabric does not carry all pairs"
        )

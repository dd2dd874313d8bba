"""What can be told of a BFD session."""

from __future__ import annotations

from dataclasses import dataclass

from routed_bgp.bfd.packet import Diagnostic, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that can be told of a session, and enough to go on with it in another process.

    `transmit_interval` and `detection_time` are those in use now. `failures` counts how often the session went from Up
    to Down other than by order of an administrator.
    """

    discriminator: int
    state: State
    diagnostic: Diagnostic = Diagnostic.NONE
    remote_discriminator: int = 0
    remote_state: State = State.DOWN
    remote_diagnostic: Diagnostic = Diagnostic.NONE
    remote_min_tx: int = 0
    remote_min_rx: int = 1
    remote_multiplier: int = 0
    control_independent: bool = False
    transmit_interval: int = 0
    detection_time: int = 0
    failures: int = 0

"""One BFD session: the state machine of RFC 5880 section 6.8, asynchronous mode, the active role.

Time (monotonic seconds) and jitter (0 to 1, drawn by the caller) are arguments, packets are what comes in and goes out.
Intervals are in microseconds, as on the wire.
"""

from __future__ import annotations

from routed_bgp.bfd.packet import Diagnostic, Packet, State
from routed_bgp.bfd.snapshot import Snapshot

SLOW = 1_000_000  # while a session is not up, no more than a packet a second (section 6.8.3)

# (our state, the state received): our next state; what is not here changes nothing (sections 6.2 and 6.8.6)
_TRANSITIONS = {
    (State.DOWN, State.DOWN): State.INIT,
    (State.DOWN, State.INIT): State.UP,
    (State.INIT, State.INIT): State.UP,
    (State.INIT, State.UP): State.UP,
    (State.INIT, State.ADMIN_DOWN): State.DOWN,
    (State.UP, State.DOWN): State.DOWN,
    (State.UP, State.ADMIN_DOWN): State.DOWN,
}


class Session:
    """See the module. `version` changes whenever `snapshot` would."""

    def __init__(
        self, discriminator: int, *, interval: int, multiplier: int, now: float, resume: Snapshot | None = None
    ) -> None:
        """Start in Down, or where `resume` was; `interval` is both what we want to send and to receive."""
        # the state variables of section 6.8.1
        self.discriminator = discriminator
        self.state = State.DOWN
        self.diagnostic = Diagnostic.NONE
        self.remote_discriminator = 0
        self.remote_state = State.DOWN
        self.remote_diagnostic = Diagnostic.NONE
        self.remote_demand = False
        self.remote_min_tx = 0
        self.remote_min_rx = 1
        self.remote_multiplier = 0
        self.control_independent = False
        self.desired_min_tx = max(SLOW, interval)
        self.required_min_rx = interval
        self.failures = 0
        self.version = 0
        self._interval, self._multiplier = interval, multiplier
        self._tx_in_use, self._rx_in_use = self.desired_min_tx, interval
        self._polling = self._poll_owed = False
        self._heard: Packet | None = None
        self._heard_at: float | None = None  # the last packet, while it counts
        self._sent_at: float | None = None
        self._jitter = 1.0  # of the running transmission interval
        self._farewells: int | None = None  # AdminDown packets left to send
        self._last_interval = interval
        self._resumed = False
        if resume is not None:
            self._resume(resume, now)

    def snapshot(self) -> Snapshot:
        """The session as it is now."""
        return Snapshot(
            discriminator=self.discriminator,
            state=self.state,
            diagnostic=self.diagnostic,
            remote_discriminator=self.remote_discriminator,
            remote_state=self.remote_state,
            remote_diagnostic=self.remote_diagnostic,
            remote_min_tx=self.remote_min_tx,
            remote_min_rx=self.remote_min_rx,
            remote_multiplier=self.remote_multiplier,
            control_independent=self.control_independent,
            transmit_interval=self.transmit_interval,
            detection_time=self.detection_time,
            failures=self.failures,
        )

    @property
    def transmit_interval(self) -> int:
        """How far apart our packets are, before jitter (section 6.8.2)."""
        return max(self._tx_in_use, self.remote_min_rx)

    @property
    def detection_time(self) -> int:
        """After how long without a packet the session is down (section 6.8.4); 0 before the first packet."""
        return self.remote_multiplier * max(self._rx_in_use, self.remote_min_tx)

    @property
    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        due = self._transmission_due
        lost = self._detection_due
        return due if lost is None else lost if due is None else min(due, lost)

    @property
    def left(self) -> bool:
        """After `leave`: the peer knows, or has been told often enough."""
        return self._farewells is not None and (
            self._farewells <= 0 or self.remote_state in (State.DOWN, State.ADMIN_DOWN)
        )

    def receive(self, packet: Packet, now: float, jitter: float) -> list[Packet]:
        """Take a packet that names this session; section 6.8.6 from "Set bfd.RemoteDiscr" on."""
        if packet != self._heard:
            self._remember(packet)
        if packet.final and self._polling:
            self._polled()
        if self.state is State.ADMIN_DOWN:
            return []
        self._heard_at, self._resumed = now, False
        state = _TRANSITIONS.get((self.state, packet.state))
        if state is not None:
            self._enter(state, Diagnostic.NEIGHBOR_SIGNALED_DOWN if state is State.DOWN else None)
        if packet.poll or state is not None:  # answered at once (6.8.7), and a new state is told at once
            return [self._send(now, jitter, final=packet.poll)]
        return []

    def tick(self, now: float, jitter: float) -> list[Packet]:
        """Do what is due at `now`: notice that the peer is silent, send."""
        changed = False
        lost = self._detection_due
        if lost is not None and lost <= now:
            self._heard = self._heard_at = None
            self._resumed = False
            # the peer may come back as another one (6.8.1), and may then want packets again
            self.remote_discriminator, self.remote_min_rx, self.remote_demand = 0, 1, False
            self.version += 1
            if self.state in (State.INIT, State.UP):
                self._enter(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
                changed = True
        due = self._transmission_due
        if changed or (due is not None and due <= now):
            return [self._send(now, jitter)]
        return []

    def configure(self, *, interval: int, multiplier: int) -> None:
        """Want other timers; a session that is up agrees on them by a Poll Sequence (section 6.8.3)."""
        if (interval, multiplier) == (self._interval, self._multiplier):
            return
        self._interval, self._multiplier = interval, multiplier
        self.required_min_rx = interval
        if self.state is State.ADMIN_DOWN:
            return
        self._want(interval if self.state is State.UP else max(SLOW, interval))

    def leave(self, now: float, jitter: float) -> list[Packet]:
        """Go to AdminDown for good (section 6.8.16), until `left`.

        The peer is told as often as it takes it for dead without us, and as fast as it let us until now: an AdminDown
        that is lost would be a failure to it, and a second between packets too long for an agent that is stopping.
        """
        self._last_interval = max(self._interval, self.remote_min_rx)
        met = self._heard_at is not None and self.remote_state in (State.INIT, State.UP)
        self._farewells = self._multiplier if met else 1
        self._enter(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
        return [self._send(now, jitter)]

    @property
    def _transmission_due(self) -> float | None:
        if self._farewells is not None:
            interval = None if self.left else self._last_interval
        elif self.remote_min_rx == 0 or self._silenced:
            interval = None
        else:
            interval = self.transmit_interval
        if interval is None:
            return None
        return -1.0 if self._sent_at is None else self._sent_at + interval * self._jitter / 1e6

    @property
    def _silenced(self) -> bool:
        """Whether the peer's demand mode keeps us silent (section 6.8.7)."""
        return self.remote_demand and self.state is self.remote_state is State.UP and not self._polling

    @property
    def _detection_due(self) -> float | None:
        if self._heard_at is None or self.state is State.ADMIN_DOWN:
            return None
        time = self.detection_time
        if self._resumed:  # a peer that gave us up meanwhile sends slowly: hear it before we call it silent
            time = max(time, 3 * SLOW)
        return self._heard_at + time / 1e6

    def _remember(self, packet: Packet) -> None:
        self._heard = packet
        self.remote_discriminator = packet.my_discriminator
        self.remote_state = packet.state
        self.remote_diagnostic = packet.diagnostic
        self.remote_demand = packet.demand
        self.remote_min_tx = packet.desired_min_tx
        self.remote_min_rx = packet.required_min_rx
        self.remote_multiplier = packet.multiplier
        self.control_independent = packet.control_independent
        self.version += 1

    def _enter(self, state: State, diagnostic: Diagnostic | None) -> None:
        if self.state is State.UP and state is State.DOWN and self.remote_state is not State.ADMIN_DOWN:
            self.failures += 1
        self.state = state
        self.version += 1
        if diagnostic is not None:
            self.diagnostic = diagnostic
        if state is State.UP:
            self.diagnostic = Diagnostic.NONE
            self._want(self._interval)
        else:
            self._polling = self._poll_owed = False
            self._want(max(SLOW, self._interval))

    def _want(self, desired_min_tx: int) -> None:
        """Want to send every `desired_min_tx`, and to receive as configured.

        When the session is up, what would surprise the peer waits until it has answered our poll: sending more slowly,
        and expecting it sooner (section 6.8.3).
        """
        self.version += 1
        self.desired_min_tx = desired_min_tx
        if self.state is not State.UP:
            self._tx_in_use, self._rx_in_use = desired_min_tx, self.required_min_rx
            return
        self._tx_in_use = min(self._tx_in_use, desired_min_tx)
        self._rx_in_use = max(self._rx_in_use, self.required_min_rx)
        if self._polling:
            self._poll_owed = True
        else:
            self._polling = True

    def _polled(self) -> None:
        """The peer answered: it knows what we told it when the sequence began."""
        self._polling = False
        if not self._poll_owed:
            self._tx_in_use, self._rx_in_use = self.desired_min_tx, self.required_min_rx
        self.version += 1

    def _send(self, now: float, jitter: float, *, final: bool = False) -> Packet:
        packet = Packet(
            state=self.state,
            diagnostic=self.diagnostic,
            my_discriminator=self.discriminator,
            your_discriminator=self.remote_discriminator,
            desired_min_tx=self.desired_min_tx,
            required_min_rx=self.required_min_rx,
            multiplier=self._multiplier,
            poll=self._polling and not final,
            final=final,
        )
        self._sent_at = now
        # up to 25 % early, at least 10 % where one lost packet is a failure (section 6.8.7)
        self._jitter = 0.75 + (0.15 if self._multiplier == 1 else 0.25) * jitter
        if self._farewells is not None:
            self._farewells -= 1
        elif self._poll_owed and not self._polling:  # the next sequence, after a packet that ends the last
            self._polling, self._poll_owed = True, False
        return packet

    def _resume(self, before: Snapshot, now: float) -> None:
        """Be the session that `before` tells of; the peer need not notice that it is another process."""
        self.discriminator = before.discriminator
        self.state = before.state
        self.diagnostic = before.diagnostic
        self.remote_discriminator = before.remote_discriminator
        self.remote_state = before.remote_state
        self.remote_diagnostic = before.remote_diagnostic
        self.remote_min_tx = before.remote_min_tx
        self.remote_min_rx = before.remote_min_rx
        self.remote_multiplier = before.remote_multiplier
        self.control_independent = before.control_independent
        self.failures = before.failures
        self._heard_at, self._resumed = now, True
        self._want(self._interval if self.state is State.UP else max(SLOW, self._interval))

"""What the agent answers over HTTP, by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from routed.agent.bgp_observation import BgpObservation
from routed.agent.bgp_routes import bgp_routes
from routed.agent.bgp_view import bgp_status
from routed.agent.health import Answer, HealthServer, as_json
from routed.agent.status import Observation, metrics, status
from routed.config import AgentConfig


def serve(
    stack: AsyncExitStack,
    config: AgentConfig,
    *,
    not_ready: Callable[[], str | None],
    observe: Callable[[], Observation],
    observe_bgp: Callable[[], BgpObservation],
    explain: Callable[[Mapping[str, str]], object],
) -> None:
    """Serve until `stack` is closed. Raises EnvironmentFault, naming the setting, where a port is taken."""

    def readiness() -> Answer:
        reason = not_ready()
        return (200, "text/plain", b"ready\n") if reason is None else (503, "text/plain", f"{reason}\n".encode())

    health = HealthServer(
        config.health_port,
        {
            "/liveness": lambda _: (200, "text/plain", b"alive\n"),
            "/readiness": lambda _: readiness(),
            "/status": lambda _: as_json(status(observe())),
            "/bgp/status": lambda _: as_json(bgp_status(observe_bgp())),
            "/bgp/routes": lambda query: as_json(bgp_routes(observe_bgp(), query)),
            "/explain": lambda query: as_json(explain(query)),
        },
        "health_port",
    )
    stack.callback(health.close)
    numbers = HealthServer(config.metrics_port, {"/metrics": lambda _: metrics(observe())}, "metrics_port")
    stack.callback(numbers.close)

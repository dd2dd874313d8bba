"""The agent as a process: one per node and run directory, ended by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from routed.agent.agent import Agent, Parts
from routed.agent.recording.recorder import Recorder
from routed.config import AgentConfig
from routed.errors import ConflictError, EnvironmentFault, OperatorError, RoutedError
from routed.ipam.allocator import Allocator
from routed.ipam.journal_file import JournalFile
from routed.store.patient import PatientStore
from routed.store.url import open_store
from routed_bgp.bfd.client import Bfd
from routed_bgp.exabgp.speaker import ExaBGP
from routed_cni.plugin import Plugin
from routed_cni.server import Server
from routed_felix.dataplane import Dataplane
from routed_felix.firewall.backends import chooser
from routed_felix.firewall.firewall import Firewall
from routed_felix.monitor import Monitor
from routed_felix.state import Settings

_log = logging.getLogger("routed.agent")
STORE_SECONDS = 5.0  # a pod waits so long for the store; then its address comes by the journal

SWITCH_SECONDS = 0.0002  # between threads that compute


def run(config: AgentConfig, record: Path | None = None) -> int:
    """Run the agent until it is told to stop; its exit status. Raises RoutedError when it cannot start or go on.

    `record`: a file to which every input of what decides is written, for `routed replay`.
    """
    # Who wires a pod asks the kernel some forty times, and gets the interpreter back each time only when the event loop
    # lets go of it: at the default of 5 ms a round of the reconciler, short as it is, would cost a pod ten of them.
    sys.setswitchinterval(SWITCH_SECONDS)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "  # the journal has its own
    logging.basicConfig(level=config.log_level.upper(), format=stamp + "%(levelname)-7s %(name)s: %(message)s")
    if os.geteuid():
        raise OperatorError("the agent changes routes, links and namespaces: it needs root", hint="run it as root")
    with _alone(config.run_dir):
        try:
            asyncio.run(_run(config, record))
        except (RoutedError, OSError):
            raise
        except Exception:  # the terminal gets a sentence; whoever repairs it needs to know where it was
            _log.exception("the agent ends by a fault of routed's; routes stay")
            raise
    return 0


@contextmanager
def _alone(run_dir: Path) -> Generator[None]:
    """Hold the run directory's lock: two agents on one node would undo each other's work."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(
            f"run_dir {run_dir}: {error.strerror}", hint="it must be a directory that root can write to"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another agent runs already: it holds {run_dir}/agent.lock",
                hint="stop it, or give this one its own run_dir",
            ) from None
        yield
    finally:
        os.close(lock)


async def _run(config: AgentConfig, record: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = Settings(
        config.route_protocol,
        config.route_metric,
        config.tunnel_device,
        config.nexthop_groups,
        config.vxlan_device,
        config.vxlan_vni,
        config.vxlan_port,
    )
    # closed from the last to the first: pods' requests end, then BGP goes silent, then the store
    async with AsyncExitStack() as stack:
        store = open_store(config.store)
        stack.push_async_callback(store.close)
        dataplane = stack.enter_context(Dataplane(settings))
        monitor = stack.enter_context(Monitor(settings, own_port=dataplane.port))
        firewall = stack.enter_context(Firewall(chooser(config.firewall)))
        bfd = Bfd()
        stack.push_async_callback(bfd.close)  # after BGP: FRR and BIRD take even AdminDown for a failure of the session
        speaker = ExaBGP(config.run_dir / "bgp")
        stack.push_async_callback(speaker.close)
        journal = JournalFile(config.state_dir / f"{config.node}.journal")
        allocator = Allocator(PatientStore(store, STORE_SECONDS), node=config.node, journal=journal)
        kernel = asyncio.Lock()
        agent: Agent
        plugin = Plugin(
            allocator,
            kernel=kernel,
            mtu=lambda: agent.pod_mtu(),  # noqa: PLW0108  the agent is made with the plugin, so it comes after it
            on_change=lambda: agent.endpoints_changed(),  # noqa: PLW0108  likewise
            ready=lambda: agent.require_serving(),  # noqa: PLW0108  likewise
            limited=lambda: agent.not_ready(),  # noqa: PLW0108  likewise
            route_protocol=config.route_protocol,
            route_metric=config.route_metric,
        )
        stack.callback(plugin.close)
        server = Server(config.run_dir / "cni.sock", plugin.handle)
        server.check()  # it starts last, when an address is assigned already
        parts = Parts(store, speaker, dataplane, monitor, firewall, allocator, plugin, bfd)
        recorder = None if record is None else stack.enter_context(Recorder(record))
        if recorder is not None:
            recorder.start(config, settings)
        agent = Agent(config, settings, parts, kernel, recorder=recorder)

        async def serve_plugin() -> None:
            await plugin.repair()
            await server.start()
            stack.push_async_callback(server.close)

        _log.info("node %s, store %s", config.node, config.store)
        await agent.run(serve_plugin, stop)
        _log.info("stopping: routes stay, BGP closes silently")

"""A lab's life: up, kept, restarted in part, inspected, down. What is built is removed again, whatever failed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed_lab.runner import links, namespace, process
from routed_lab.runner.daemons import Agent, Daemon, environment
from routed_lab.runner.directory import RunDirectory
from routed_lab.runner.network import Network
from routed_lab.runner.pods import Plugin
from routed_lab.runner.process import Child
from routed_lab.runner.routers import KINDS
from routed_lab.runner.sandbox import Container, Mount
from routed_lab.runner.stages import Stages
from routed_lab.topology import HOST, Kind, LabNode, Pod, Role, Stage, Topology

if TYPE_CHECKING:
    from routed.model.resources import AnyResource
    from routed_lab.runner.routers.router import Router
    from routed_lab.runner.sandbox import Sandbox

Progress = Callable[[str], None]
_COMMAND: Final = 30.0  # seconds an `exec` line may take
_GRACE: Final = 2.0  # seconds that the program of a plain node has for its end


@dataclass(frozen=True, slots=True)
class Wired:
    """A pod that the plugin has wired."""

    namespace: Path
    address: IPv4Address


class Lab:
    """One lab in this kernel. Not to be used for a second `up` after `down`."""

    def __init__(self, topology: Topology, directory: RunDirectory, absent: Collection[str] = ()) -> None:
        """`absent` are nodes that become members by `join`, after `up`."""
        self.whole = topology
        self.topology = topology.without(absent)
        self._network = Network(topology, directory)
        self._stages = Stages(topology.nodes.values())
        self._programs: dict[str, Child] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self.routers: dict[str, Router] = {}
        self.agents: dict[str, Agent] = {}
        self.pods: dict[Pod, Wired] = {}
        self._directory = directory
        self._store = directory.path / "store.db"
        self._plugins: dict[str, Plugin] = {}
        self._containers: dict[str, Container] = {}
        self._pod_namespaces: dict[Pod, Path] = {}
        self._pod_sandboxes: dict[str, Sandbox] = {}
        self._busy: set[str] = set()
        self._killed: set[str] = set()
        self._ending = False

    async def up(self, progress: Progress) -> None:
        """Build all of it and wait until every agent is ready and every pod wired; the caller undoes a failure."""
        topology = self.topology
        progress(f"checking the configurations of {len(topology.routers)} routers")
        self._home("").mkdir()
        await together(*(self._check(router) for router in topology.routers))
        progress(f"making {len(topology.nodes)} namespaces and {len(topology.links)} links")
        for pod in self.whole.pods:  # before the nodes, which would not see the mounts by which these are held
            self._pod_namespaces[pod] = self._directory.make(topology.namespace(pod.name))
        self._network.make()
        for node in topology.nodes.values():
            self._home(node.name).mkdir(exist_ok=True)
            if node.kind is not Kind.HOST:
                self._containers[node.name] = self._contain(node)
        progress("applying the resources")
        await self.apply(topology.resources)
        progress(f"starting {len(topology.routers)} routers and {len(topology.members)} agents")
        for router in topology.routers:
            self.routers[router.name] = KINDS[router.router](
                router, self._home(router.name), self._containers[router.name].sandbox, environment(router.env)
            )
        for node in topology.members:
            self._equip(node)
        await together(*(self._live(node, progress) for node in topology.nodes.values()))
        self.require_alive()
        for name in self._daemons():
            self._guard(name)

    async def down(self, progress: Progress) -> None:
        """Remove all that `up` made, as far as it came; what cannot be undone in order goes with its namespace."""
        self._ending = True
        progress("removing the pods")
        await asyncio.gather(*(self._unwire(node, progress) for node in self.topology.members))
        progress("stopping the agents and routers")
        await asyncio.gather(*(daemon.stop() for daemon in self._daemons().values()))
        await asyncio.gather(*(program.stop(_GRACE) for program in self._programs.values()))
        for task in self._ends:
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)
        await asyncio.gather(*(container.close() for container in self._containers.values()))
        for sandbox in self._pod_sandboxes.values():
            os.close(sandbox.uts)
        self._directory.clear()
        self._directory.remove()

    async def join(self, name: str, progress: Progress) -> None:
        """Make a node that was absent a member: its resources, its agent, its pods."""
        member = self.whole.nodes[name]
        if name in self.agents:
            raise OperatorError(
                f"{name} is a member of lab {self.topology.name} already",
                hint="a scenario that adds it names it under absent, and is played by: routed lab run",
            )
        resources = self.whole.resources_of(name)
        await self.apply(resources)
        self._equip(member)
        self.topology = self.topology.joined(name, resources)
        await self._populate(member, progress)
        self._guard(name)

    async def restart(self, name: str, progress: Progress) -> None:
        """Stop and start the daemon of a node or router, the kernel's state untouched."""
        daemon = self._daemon(name)
        if name in self._busy:
            raise EnvironmentFault(f"{name} is being restarted already", hint="wait for the other restart")
        self._busy.add(name)
        try:
            progress(f"stopping {name}")
            await daemon.stop()
            progress(f"starting {name}")
            await daemon.start(progress)
            self._killed.discard(name)
        finally:
            self._busy.discard(name)
        self._guard(name)

    async def kill(self, name: str) -> None:
        """SIGKILL the daemon of a node or router; the lab goes on without it until `start`."""
        alive = [child for child in self._daemon(name).children if child.alive]
        self._killed.add(name)
        for child in alive:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        for child in alive:
            await child.wait()

    async def start(self, name: str, progress: Progress) -> None:
        """Start a daemon that was killed; nothing if it runs."""
        daemon = self._daemon(name)
        if not daemon.children or not all(child.alive for child in daemon.children):
            await self.restart(name, progress)

    def require_alive(self) -> None:
        """EnvironmentFault when an agent or router has ended by itself, with the end of its log."""
        for name, daemon in self._daemons().items():
            for child in daemon.children:
                if name not in self._busy | self._killed and not child.alive:
                    raise child.died()

    def sandbox_of(self, name: str) -> Sandbox | None:
        """The namespaces of a node, router or pod, None for the machine; OperatorError when the name is nobody's."""
        if (container := self._containers.get(name)) is not None:
            return container.sandbox
        if (sandbox := self._pod_sandboxes.get(name)) is not None:
            return sandbox
        if name == HOST or (name in self.topology.nodes and self.topology.nodes[name].kind is Kind.HOST):
            return None
        raise OperatorError(
            f'"{name}" is neither a node nor a pod of lab {self.topology.name}',
            hint=f"it has {', '.join((*self.topology.nodes, *self._pod_sandboxes))}",
        )

    def log_of(self, name: str) -> Path:
        """Where the daemons of a node or router log to; OperatorError when the lab has none of that name."""
        if name not in self._programs:
            self._daemon(name)
        return self._home(name) / "log"

    def namespace_of(self, name: str) -> Path:
        """The network namespace of a node, router or pod; OperatorError when the lab has none of that name."""
        pods = {pod.name: wired.namespace for pod, wired in self.pods.items()}
        found = self._network.places.get(name) or pods.get(name)
        if found is None:
            raise OperatorError(
                f'"{name}" is neither a node nor a pod of lab {self.topology.name}',
                hint=f"it has {', '.join((*self.topology.nodes, *pods))}",
            )
        return found

    @property
    def directory(self) -> Path:
        """Where the lab keeps its files; they go with it."""
        return self._directory.path

    def environment_of(self, name: str) -> dict[str, str]:
        """What a program that is run in a node or pod sees; `routed` finds the lab's store there."""
        node = self.topology.nodes.get(name)
        if node is None:
            return environment(None)
        store = {"ROUTED_STORE": f"sqlite://{self._store}"} if name in self.agents else {}
        return environment({**store, **(node.env or {})})

    @property
    def namespaces(self) -> Mapping[str, Path]:
        """The network namespaces of the nodes that have one of their own."""
        return self._network.namespaces

    def _guard(self, name: str) -> None:
        """Tell the runner's log when a daemon of the finished lab ends by itself."""

        def report(child: Child) -> None:
            if not self._ending and name not in self._busy | self._killed:
                print(child.died(), file=sys.stderr, flush=True)

        for child in self._daemons()[name].children:
            child.when_done(report)

    def _daemon(self, name: str) -> Daemon:
        daemon = self._daemons().get(name)
        if daemon is None:
            raise OperatorError(
                f'"{name}" is no node of lab {self.topology.name} that runs an agent or a router',
                hint=f"those are {', '.join(self._daemons()) or 'none'}",
            )
        return daemon

    def _daemons(self) -> Mapping[str, Daemon]:
        return {**self.agents, **self.routers}

    def _equip(self, node: LabNode) -> None:
        """Give a node its agent, not yet started, and its plugin."""
        agent = self.agents[node.name] = Agent(
            node.name,
            self._store,
            self._containers[node.name].sandbox,
            self._home(node.name),
            environment(node.env),
        )
        self._plugins[node.name] = Plugin(
            self._install_plugin(node.name, agent.cni_socket),
            self._containers[node.name].sandbox,
            self._home(node.name),
            environment(node.env),
        )

    def _home(self, name: str) -> Path:
        return self._directory.path / "n" / name

    async def _check(self, router: LabNode) -> None:
        self._home(router.name).mkdir(exist_ok=True)
        await KINDS[router.router].check(router, self._home(router.name) / "check.log")

    def _contain(self, node: LabNode) -> Container:
        scratch = self._home(node.name) / "mounts"
        mounts = self._furnish(node)
        scratch.mkdir(exist_ok=True)
        return Container(node.name, self._network.places[node.name], mounts, node.binds, scratch)

    def _furnish(self, node: LabNode) -> list[Mount]:
        """Lay out what a node has of its own: /run but for the lab's directory and the namespaces, /var/log, more."""
        home, lab = self._home(node.name), self._directory.path
        run = home / "run"
        held = {lab: run / lab.relative_to("/run"), namespace.HOME: run / "netns"}
        for path in (*held.values(), home / "var-log"):
            path.mkdir(parents=True, exist_ok=True)
        for path in (run, home / "var-log"):
            path.chmod(0o755)  # daemons that are not root's look for their own directory in there
        mounts = [Mount(source, str(target)) for source, target in held.items()]
        mounts += [Mount(run, "/run"), Mount(home / "var-log", "/var/log")]
        return [*mounts, *(KINDS[node.router].furnish(node, home) if node.role is Role.ROUTER else ())]

    async def _live(self, node: LabNode, progress: Progress) -> None:
        """Take a node through its stages, each when the topology file lets it."""
        async with self._stage(node, Stage.CREATE):
            if node.role is Role.PLAIN and node.program:
                self._start_program(node)
        async with self._stage(node, Stage.CREATE_LINKS):
            self._network.raise_links(node)
        async with self._stage(node, Stage.CONFIGURE):
            for command in node.commands:
                await self._command(node, command)
        async with self._stage(node, Stage.HEALTHY):
            if node.role is Role.ROUTER:
                await self.routers[node.name].start(progress)
            elif node.role is Role.NODE and node.present:
                await self._populate(node, progress)

    @asynccontextmanager
    async def _stage(self, node: LabNode, stage: Stage) -> AsyncGenerator[None]:
        commands = node.stage_commands.get(stage, ())
        await self._stages.may_enter(node, stage)
        for command in commands:
            if not command.on_exit:
                await self._command(node, command.argv, on_host=command.on_host)
        yield
        for command in commands:
            if command.on_exit:
                await self._command(node, command.argv, on_host=command.on_host)
        self._stages.complete(node, stage)

    def _start_program(self, node: LabNode) -> None:
        """Start what the node's `entrypoint` and `cmd` say; whoever waits for its end is told of that."""
        seen = environment(node.env)
        if not node.binds and shutil.which(node.program[0], path=seen["PATH"]) is None:
            raise OperatorError(
                f"{self.topology.path}:{node.line}: node {node.name} runs {node.program[0]}, which this machine lacks",
                hint="install it, or correct the keys cmd and entrypoint",
            )
        child = self._programs[node.name] = Child(
            f"program of {node.name}",
            node.program,
            sandbox=self._containers[node.name].sandbox,
            env=seen,
            log=self._home(node.name) / "log",
        )
        task = asyncio.create_task(self._end(node, child))
        self._ends.add(task)

    async def _end(self, node: LabNode, child: Child) -> None:
        status = await child.wait()
        if status and not self._ending:
            print(child.died(), file=sys.stderr, flush=True)
        try:
            async with self._stage(node, Stage.EXIT):
                pass
        except RoutedError as error:
            print(error, file=sys.stderr, flush=True)

    async def _command(self, node: LabNode, command: Sequence[str], *, on_host: bool = False) -> None:
        """Run a command that the file has for the node, in the node or on the machine."""
        log = self._home(node.name) / "exec.log"
        what = f"exec of {node.name}: {' '.join(command)}"
        status = await process.run(
            what,
            command,
            sandbox=None if on_host else self.sandbox_of(node.name),
            env=environment(node.env),
            log=log,
            limit=_COMMAND,
        )
        if status:
            raise OperatorError(
                f"{self.topology.path}:{node.line}: {what} ended with status {status}{process.tail(log)}",
                hint="correct the line under the node's key exec",
            )

    async def apply(self, resources: Sequence[AnyResource]) -> None:
        """Write resources into the lab's store, as `routed apply` does."""
        from routed.store.resources import apply
        from routed.store.sqlite import SqliteStore

        opened = SqliteStore(self._store)
        try:
            await apply(opened, resources)
        finally:
            await opened.close()

    def _install_plugin(self, node: str, cni_socket: Path) -> Path:
        from routed_cni.install import write_plugin

        return write_plugin(self._home(node) / "cni-bin", cni_socket)

    async def _populate(self, node: LabNode, progress: Progress) -> None:
        """Start the node's agent, then wire its pods one after the other, as its runtime would."""
        await self.agents[node.name].start(progress)
        progress(f"{node.name} is in sync")
        for pod in (pod for pod in self.whole.pods if pod.node == node.name):
            held = self._pod_namespaces[pod]
            links.up(held, ["lo"])
            self._pod_sandboxes[pod.name] = self._containers[node.name].sandbox.pod(pod.name, held)
            address = await self._plugins[node.name].add(held.name, held)
            self.pods[pod] = Wired(held, address)
            progress(f"{pod.name} has {address}")

    async def _unwire(self, node: LabNode, progress: Progress) -> None:
        agent = self.agents.get(node.name)
        if agent is None or not any(child.alive for child in agent.children):
            return
        for pod, held in self._pod_namespaces.items():
            if pod.node == node.name and pod.name in self._pod_sandboxes:
                try:
                    await self._plugins[node.name].delete(held.name, held)
                except RoutedError as error:
                    progress(f"{pod.name}: {error.message}")
                namespace.delete(held.name)


async def together(*work: Awaitable[None]) -> None:
    """Wait for all of `work`; when one fails, cancel the rest and raise its error alone, not a group of one."""

    async def one(awaitable: Awaitable[None]) -> None:
        await awaitable

    try:
        async with asyncio.TaskGroup() as group:
            for awaitable in work:
                group.create_task(one(awaitable))
    except BaseExceptionGroup as group_error:
        raise _first(group_error) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    while isinstance(first, BaseExceptionGroup):
        first = cast("BaseExceptionGroup[BaseException]", first).exceptions[0]
    return first

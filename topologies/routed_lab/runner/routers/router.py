"""What the lab does with a router, whichever it is: check its configuration, furnish its node, run it, ask it."""

from __future__ import annotations

import itertools
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from routed.errors import EnvironmentFault, OperatorError
from routed_lab.runner import process
from routed_lab.runner.sandbox import Mount

if TYPE_CHECKING:
    from routed_lab.runner.process import Child
    from routed_lab.runner.sandbox import Sandbox
    from routed_lab.session import Session
    from routed_lab.topology import LabNode

Progress = Callable[[str], None]
GRACE: Final = 10.0
"""Seconds that a daemon has to end by itself."""
READY: Final = 120.0
"""Seconds that a router may take to be ready; an emulated CPU is slow, and may run twenty of them."""
POLL: Final = 0.02
"""Seconds between two looks at what a daemon tells nobody of."""


class Router(ABC):
    """One router. Its files lie in `home`, its programs run in `sandbox`."""

    name: ClassVar[str]
    package: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    checking: ClassVar[tuple[str, ...]]
    """The command that, with a configuration's path after it, says whether the router can read it."""

    def __init__(self, node: LabNode, home: Path, sandbox: Sandbox, env: Mapping[str, str]) -> None:
        self.node = node
        self.home = home
        self.log = home / "log"
        self.sandbox = sandbox
        self.env = env
        self.children: Sequence[Child] = ()
        self._asked = itertools.count()

    @classmethod
    async def check(cls, node: LabNode, log: Path) -> None:
        """Have the router's own program read the configuration.

        EnvironmentFault when it is not installed, which names the package; OperatorError with its words when it does
        not accept the configuration.
        """
        assert node.config is not None
        for program in cls.programs:
            if shutil.which(program) is None:
                raise EnvironmentFault(
                    f"router {node.name} runs {cls.name}, but {program} is not installed",
                    hint=f"install the Debian package {cls.package}: apt-get install {cls.package}",
                )
        command = [*cls.checking, str(node.config)]
        if await process.run(" ".join(command), command, log=process.fresh(log)):
            raise OperatorError(
                f"{node.config}: {cls.name} does not accept this configuration{process.tail(log)}",
                hint=f"correct it and try: {' '.join(command)}",
            )

    @classmethod
    def furnish(cls, node: LabNode, home: Path) -> Sequence[Mount]:  # noqa: ARG003  most need none
        """Lay out below `home` what is the router's own in its node, and return what of it goes where."""
        return ()

    @abstractmethod
    async def start(self, progress: Progress) -> None:
        """Start it and wait until it answers its CLI; EnvironmentFault with the end of its log when it does not."""

    async def stop(self) -> None:
        """SIGTERM, and wait for its end; nothing if it does not run."""
        for child in self.children:
            await child.stop(GRACE)

    @abstractmethod
    async def sessions(self) -> Sequence[Session]:
        """Its BGP sessions; EnvironmentFault when it cannot be asked."""

    @abstractmethod
    async def switch(self, session: Session, *, up: bool) -> None:
        """Take a session down, administratively, or let it come up again."""

    @abstractmethod
    async def cli(self, *words: str) -> str:
        """What its own command line says to `words`; EnvironmentFault with its words when it refuses."""

    @abstractmethod
    async def rib(self) -> str:
        """Its BGP table, as its own CLI prints it."""

    async def ask(self, *argv: str) -> str:
        """The standard output of a command of its CLI; EnvironmentFault with its words when that fails."""
        # Two may ask at once: each has files of its own.
        number = next(self._asked)
        output, words = self.home / f"cli-{number}.out", self.home / f"cli-{number}.log"
        command = " ".join(argv)
        try:
            with output.open("wb") as out:
                what = f"{command} on {self.node.name}"
                status = await process.run(what, argv, sandbox=self.sandbox, env=self.env, log=words, stdout=out)
            answer = output.read_text(encoding="utf-8", errors="replace")
            if status:
                raise EnvironmentFault(
                    f"{command} on {self.node.name} ended with status {status}: {answer}{process.tail(words)}"
                )
            return answer
        finally:
            output.unlink(missing_ok=True)
            words.unlink(missing_ok=True)

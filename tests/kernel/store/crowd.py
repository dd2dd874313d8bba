"""Eight nodes with pods that come and go on one store, killed and started again; and what they were told."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernel.agent.world import run
from tests.kernel.store.ledger import Ledger
from tests.waiting import until

PODS = Path(__file__).with_name("pods.py")
NODES = [f"n{number}" for number in range(8)]
KIND = "apiVersion: projectcalico.org/v3, kind: "
POOL = "cidr: 10.77.0.0/26, blockSize: 29, ipipMode: Never"  # 48 addresses: as many as there are pods
MANIFEST = "\n---\n".join([
    f"{{{KIND}IPPool, metadata: {{name: pods}}, spec: {{{POOL}}}}}",
    *(
        f"{{{KIND}Node, metadata: {{name: {name}}}, spec: {{bgp: {{ipv4Address: 192.0.2.{number}/24}}}}}}"
        for number, name in enumerate(NODES, 1)
    ),
])  # fmt: skip


@dataclass
class Crowd:
    """`inside` makes a command run where the store can be reached."""

    url: str
    seed: int
    errors: Path
    inside: Callable[..., list[str]]
    ledger: Ledger = field(default_factory=Ledger)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: dict[str, tuple[subprocess.Popen[str], threading.Thread]] = field(default_factory=dict)
    _generation: int = 0

    def routed(self, *words: str) -> str:
        return run(*self.inside(sys.executable, "-m", "routed", *words, "--store", self.url))

    def start(self, name: str, unsure: Sequence[str] = ()) -> None:
        self._generation += 1
        words = ("run", self.url, name, str(self._generation), str(self.seed), *unsure)
        with self.errors.open("ab") as errors:
            process = subprocess.Popen(
                self.inside(sys.executable, str(PODS), *words), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        listening = threading.Thread(target=self._listen, args=(process,), daemon=True)
        listening.start()
        self._running[name] = process, listening

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            with self._lock:
                self.ledger.hear(line)
        process.stdout.close()

    def kill(self, *names: str) -> None:
        """kill -9, and start them again, told to give back what was under way."""
        for name in names:
            process, listening = self._running[name]
            process.kill()
            process.wait()
            listening.join()
        for name in names:
            with self._lock:
                unsure = self.ledger.killed(name)
            self.start(name, unsure)

    def goes_on(self, addresses: int) -> None:
        """So many more addresses are given."""
        before = self.ledger.given

        def went_on() -> bool:
            dead = [name for name, (process, _) in self._running.items() if process.poll() is not None]
            assert not dead, f"{dead} ended: {self.errors.read_text()[-3000:]}"
            assert not self.ledger.wrong, self.ledger.wrong
            return self.ledger.given >= before + addresses

        until(went_on)

    def end(self) -> None:
        """Let all nodes come to rest, and compare what they were told with the store."""
        until(lambda: len(self.ledger.loaded) == len(NODES))
        for process, _ in self._running.values():
            process.terminate()
        for process, listening in self._running.values():
            assert process.wait(60) == 0, self.errors.read_text()[-3000:]
            listening.join()
        judged = self.ledger.judged()
        assert not judged, judged
        there = set(
            run(*self.inside(sys.executable, str(PODS), "audit", self.url, *sorted(self.ledger.doubtful))).splitlines()
        )
        told = {f"{address} {handle.partition('.')[0]} {handle}" for handle, address in self.ledger.held().items()}
        assert there == told, f"in the store alone: {there - told}; acknowledged alone: {told - there}"
        assert told
        self.routed("ipam", "check")

    def close(self) -> None:
        for process, _ in self._running.values():
            process.kill()
            process.wait()


@contextmanager
def crowd(url: str, seed: int, directory: Path, inside: Callable[..., list[str]]) -> Generator[Crowd]:
    """All nodes have begun when the block does; it is to call `end`."""
    made = Crowd(url, seed, directory / "errors", inside)
    (directory / "cluster.yml").write_text(MANIFEST)
    made.routed("apply", "-f", str(directory / "cluster.yml"))
    try:
        for name in NODES:
            made.start(name)
        made.goes_on(len(NODES))
        yield made
    finally:
        made.close()


def killing(crowd: Crowd, chance: random.Random) -> Callable[[], None]:
    """A disturbance: some nodes at once, at a random moment."""

    def disturb() -> None:
        crowd.goes_on(chance.randrange(1, 40))
        crowd.kill(*chance.sample(NODES, chance.choice((1, 1, 2, 4))))

    return disturb

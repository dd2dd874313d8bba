"""The lab's place on disk: what a run keeps while it lives, and the record by which a later run clears up after it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from routed.errors import ConflictError, EnvironmentFault
from routed_lab.runner import links, namespace

HOME: Final = Path("/run/routed-runner")
_RECORD: Final = "namespaces"
_INTERFACES: Final = "interfaces"


class RunDirectory:
    """The directory of the lab `name`, held by a lock as long as the runner lives."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def claim(cls, name: str, *, leftovers: bool) -> Self:
        """Take the directory of lab `name`, clearing what a run that was killed left if `leftovers` allows.

        Raises ConflictError when the lab is up or left something that may not be cleared, EnvironmentFault when the
        process may not write there.
        """
        path = HOME / name
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise EnvironmentFault(
                f"{path}: cannot make the lab's directory: {error.strerror}", hint="run as root, or use --kernel uml"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConflictError(
                f"the lab {name} is up on this kernel already", hint="take it down first: routed lab down FILE"
            ) from None
        claimed = cls(path, descriptor)
        if any(path.iterdir()):
            if not leftovers:
                os.close(descriptor)
                raise ConflictError(f"{path}: an earlier run of lab {name} ended without clearing up")
            claimed.clear()
            claimed._empty()
        return claimed

    def make(self, name: str) -> Path:
        """Make a network namespace, recorded first; ConflictError when someone else's has its name."""
        if not namespace.path(name).exists():
            with (self.path / _RECORD).open("a", encoding="utf-8") as record:
                record.write(f"{name}\n")
        return namespace.create(name)

    @property
    def alias(self) -> str:
        """What marks the lab's own interfaces on the machine."""
        return f"routed lab {self.path.name}"

    def record_interface(self, name: str) -> None:
        """Note an interface that the lab is about to have on the machine itself, for `clear`."""
        with (self.path / _INTERFACES).open("a", encoding="utf-8") as record:
            record.write(f"{name}\n")

    def clear(self) -> None:
        """Remove what is recorded: the interfaces that bear the lab's mark, and the namespaces with all processes in
        them, whoever started those.
        """
        interfaces = self.path / _INTERFACES
        if interfaces.exists():
            for name in interfaces.read_text(encoding="utf-8").splitlines():
                links.delete(Path("/proc/self/ns/net"), name, self.alias)
            interfaces.unlink()
        record = self.path / _RECORD
        if not record.exists():
            return
        names = record.read_text(encoding="utf-8").splitlines()
        for process in namespace.processes(names):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for name in names:
            namespace.delete(name)
        record.unlink()

    def remove(self) -> None:
        """Remove the directory and let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # other labs are up, or none ever was
            HOME.rmdir()
        os.close(self._descriptor)

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

"""The journal on disk: entries are appended, durably, and go all at once when the store has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from routed.errors import EnvironmentFault
from routed.ipam.journal import Entry, decode, encode


class JournalFile:
    """The file at `path`, for one process at a time. Without entries there is no file.

    Raises EnvironmentFault when it cannot be read or written, JournalFormatError for what stands in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0  # of what is whole
        self.entries: list[Entry] = self._read()
        """All that is written down, the oldest first."""

    def append(self, written: Sequence[Entry]) -> None:
        """Write down `written`, after the others; they are on the disk when this returns, or not in the journal."""
        if not written:
            return
        data = encode(written)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # what is gone of itself (a `clear` that failed half way) must not go on in the middle of a new file
            create = 0 if self._size else os.O_CREAT
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
            try:
                os.ftruncate(file, self._size)  # what failed half way, now or before a crash, must not be continued
                done = 0
                while done < len(data):
                    done += os.pwrite(file, data[done:], self._size + done)
                os.fsync(file)
            finally:
                os.close(file)
            if not self._size:
                self._sync_directory()
        except OSError as error:
            raise self._fault(error) from error
        self._size += len(data)
        self.entries += written

    def clear(self) -> None:
        """Forget everything: the store has it."""
        if not self._size:
            return
        try:
            self._path.unlink(missing_ok=True)
            self._sync_directory()
        except OSError as error:
            raise self._fault(error) from error
        self._size, self.entries = 0, []

    def _read(self) -> list[Entry]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._fault(error) from error
        self._size = data.rfind(b"\n") + 1
        return decode(data, source=str(self._path))

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _fault(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"journal of addresses {self._path}: {error.strerror}", hint="state_dir must be a directory to write to"
        )

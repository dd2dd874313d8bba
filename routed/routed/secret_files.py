"""Passwords: files NAME/KEY below one directory, where Kubernetes would have secrets.

A mounted Kubernetes secret has this form too. What a file holds is never part of a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from routed.errors import EnvironmentFault, OperatorError
from routed.model.bgp import SecretKeySelector

_MOST_OCTETS = 4096  # a file that is no secret is not read whole


_Version = tuple[int, int] | None
"""Inode and time of change, also of its mode; None while there is nothing to read."""


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Reads secrets below `directory`, each time anew: a password may change while the agent runs."""

    directory: Path
    _read: dict[Path, _Version] = field(default_factory=dict[Path, "_Version"], compare=False)

    def forget(self) -> None:
        """Nothing of what was read before counts for `changed`."""
        self._read.clear()

    def changed(self) -> bool:
        """Whether a file that was asked for is another one now, or has come; one that is gone changes nothing yet.

        So a file that is deleted and written again, or emptied first, costs no session.
        """
        return any(_version(path) not in (None, version) for path, version in self._read.items())

    def __call__(self, wanted: SecretKeySelector) -> str:
        """The secret, without the line end behind it. Raises EnvironmentFault or OperatorError that names the file."""
        path = self.directory / wanted.name / wanted.key
        self._read[path] = _version(path)  # before it is read: a change at this moment is found later
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_OCTETS)
        except OSError as error:
            raise EnvironmentFault(
                f"{path}: cannot read the password: {error.strerror}",
                hint="write it there, readable by the agent alone, or correct secretKeyRef (NAME/KEY in secrets_dir)",
            ) from error
        try:
            text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise OperatorError(
                f"{path}: the password is not UTF-8 text", hint="write it as text, as the peer has it"
            ) from None
        if any(not character.isprintable() for character in text):
            raise OperatorError(
                f"{path}: the password has a line end, a tab or another character that cannot be printed",
                hint="write it as one line of text, as the peer has it",
            )
        return text


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_ctime_ns) if found.st_size else None

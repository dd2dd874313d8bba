"""The forms of the plugin's executable, made for tests: with a short bound on the wait for an answer if they ask."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from routed_cni import install, shim
from routed_cni.install import write_plugin

SOURCE = Path(install.__file__).parents[1] / "shim" / "routed-cni.c"
STATIC = ("-static",)
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiled(target: Path, *flags: str) -> Path:
    """The C form, as the build has it but for `flags`."""
    done = subprocess.run(
        ["cc", "-std=c11", "-Os", "-Wall", "-Wextra", "-Werror", *flags, "-o", target, SOURCE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


@dataclass(frozen=True)
class Maker:
    """Writes one form of the plugin from `source`: a compiled program or a script."""

    name: str
    form: Literal["c", "python"]
    source: Path

    def write(self, directory: Path, socket: Path, connect_seconds: float = 0.1) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            if self.form == "c":
                patch.setattr(install, "PREBUILT", self.source)
            else:
                patch.setattr(shim, "__file__", str(self.source))
            return write_plugin(directory, socket, connect_seconds=connect_seconds, form=self.form)

    def impatient(self, directory: Path) -> Maker:
        """The same, but an answer may take one second only."""
        source = directory / f"impatient-{self.name}"
        if self.form == "python":
            text = self.source.read_text()
            assert text.count("_ANSWER_SECONDS = 60.0") == 1
            source.write_text(text.replace("_ANSWER_SECONDS = 60.0", "_ANSWER_SECONDS = 1.0"))
        else:
            compiled(source, *(STATIC if self.name == "c" else SANITIZED), "-DANSWER_SECONDS=1")
        return Maker(self.name, self.form, source)


def make(name: str, directory: Path) -> Maker:
    """The form `name`: python, c, or c-sanitized, whose memory and arithmetic are watched."""
    match name:
        case "python":
            return Maker(name, "python", Path(shim.__file__))
        case "c":
            return Maker(name, "c", compiled(directory / "c", *STATIC))
        case _:
            return Maker(name, "c", compiled(directory / "c-sanitized", *SANITIZED))

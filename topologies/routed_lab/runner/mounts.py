"""The binds of a node: files and directories of the machine seen at other places, in the node and nowhere else.

Where a bind's destination does not exist, the machine is not to get one: the nearest directory above it is covered by
an overlay whose upper layer is a tmpfs in the mount namespace, and the destination is made there. mount_namespaces(7),
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from routed_lab.topology import Bind
from routed_lab.uml import system
from routed_lab.uml.system import MS_BIND, MS_REC


def mount(binds: Sequence[Bind], scratch: Path, own: Collection[Path]) -> None:
    """Mount `binds` in the mount namespace of this process, which must be its own; destinations differ.

    `scratch` is a directory that exists; a tmpfs on it holds what binds need besides their sources. In the directories
    `own`, which are the node's alone, places are simply made. Raises OSError.
    """
    system.mount("tmpfs", str(scratch), "tmpfs")
    # by descriptors: what is made in a directory above covers the paths of what is mounted below it
    room = f"/proc/self/fd/{os.open(scratch, os.O_PATH)}"
    sources: dict[str, tuple[str, bool]] = {}
    for number, bind in enumerate(binds):
        if bind.source is None:
            os.mkdir(f"{room}/volume-{number}")  # noqa: PTH102  not a path to join
        opened = os.open(bind.source or f"{room}/volume-{number}", os.O_PATH)
        sources[bind.target] = (f"/proc/self/fd/{opened}", stat.S_ISDIR(os.fstat(opened).st_mode))
    _place({bind.target: bind for bind in binds}, sources, room, set(own))


def _place(binds: Mapping[str, Bind], sources: Mapping[str, tuple[str, bool]], room: str, writable: set[Path]) -> None:
    """Mount those whose destinations are in no other's, all places being made before, and then what is in each.

    A place in a `writable` bind is made in its source, as Docker does: an overlay there would swallow what the node
    writes.
    """
    outer = {Path(target) for target in binds if not any(str(parent) in binds for parent in Path(target).parents)}
    missing = [target for target in sorted(outer) if not target.exists()]
    nearest = {
        next(parent for parent in target.parents if parent.is_dir())
        for target in missing
        if not writable.intersection(target.parents)
    }
    for directory in nearest:
        if not nearest.intersection(directory.parents):
            hidden = {each: os.open(each, os.O_PATH) for each in sorted(writable) if directory in each.parents}
            _cover(directory, f"{room}{directory}")
            for each, opened in hidden.items():
                system.mount(f"/proc/self/fd/{opened}", str(each), None, MS_BIND | MS_REC)
    for target in missing:
        _make(target, is_directory=sources[str(target)][1])
    for target in outer:
        system.mount(sources[str(target)][0], str(target), None, MS_BIND | MS_REC)
        if binds[str(target)].read_only:
            system.set_read_only(str(target), True)
    inner = {text: bind for text, bind in binds.items() if Path(text) not in outer}
    if inner:
        _place(inner, sources, f"{room}/below", {each for each in outer if not binds[str(each)].read_only})


def _cover(directory: Path, room: str) -> None:
    """Let what is made in `directory` be seen here alone. What is mounted in it is no longer seen."""
    if str(directory) == "/":
        raise OSError(errno.ENOENT, "a destination is in no directory of the machine but /")
    upper, work = Path(room, "upper"), Path(room, "work")
    upper.mkdir(parents=True)
    work.mkdir()
    upper.chmod(directory.stat().st_mode & 0o7777)
    system.mount("overlay", str(directory), "overlay", 0, f"lowerdir={directory},upperdir={upper},workdir={work}")


def _make(target: Path, *, is_directory: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_directory:
        target.mkdir()
    else:
        target.touch()

"""`routed node install|uninstall`: the files of a node's service.

Each file of ours but the plugin's carries in its first line a digest of the rest, so that a file that an operator has
changed is known for it: install refuses to write over it, uninstall leaves it. All files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from routed.config import DEFAULT_PATH, load, template
from routed.errors import ConflictError, EnvironmentFault, RoutedError
from routed.files import write_whole

UNIT = Path("/etc/systemd/system/routed.service")
PROTOCOLS = Path("/etc/iproute2/rt_protos.d/routed.conf")
_STAMP = "# Written by `routed node install`, digest "


@dataclass(frozen=True, slots=True)
class Layout:
    """Where to write: all paths are below `root`, and inside the files named without it."""

    root: Path
    bin_dir: Path
    conf_dir: Path

    def at(self, path: Path) -> Path:
        """`path` in the tree."""
        return self.root / path.relative_to("/") if path.is_absolute() else self.root / path


def install(layout: Layout) -> int:
    """Write everything, the network configuration last: with it the runtime begins to call us.

    Raises ConflictError, before anything is written, for a file that is not ours; on any later error takes back what
    it has made.
    """
    from routed_cni.install import PLUGIN, chain, write_conflist, write_plugin

    configuration = layout.at(DEFAULT_PATH)
    config = load(configuration if configuration.exists() else None, {})
    texts = {PROTOCOLS: f"{config.route_protocol} routed\n", UNIT: unit(sys.executable)}
    if not configuration.exists():
        texts[DEFAULT_PATH] = template()
    for path in texts:
        if layout.at(path).exists() and not _is_unchanged(layout.at(path)):
            raise ConflictError(
                f"{layout.at(path)} is there and was not written by `routed node install`, or was changed since",
                hint="move it away (changes of the service belong into `systemctl edit routed`), then try again",
            )
    undo: list[Callable[[], object]] = []
    bin_dir, conf_dir = layout.at(layout.bin_dir), layout.at(layout.conf_dir)
    try:
        # what refuses has written nothing: only what was done is taken back, and a stranger's file is not touched
        restore = _restore(bin_dir / PLUGIN)
        written = [write_plugin(bin_dir, config.run_dir / "cni.sock")]
        undo.append(restore)
        for path, text in texts.items():
            target = layout.at(path)
            restore = _restore(target)
            write_whole(target, _stamped(text).encode(), 0o644)
            undo.append(restore)
            written.append(target)
        behind = chain(bin_dir)
        written.append(write_conflist(conf_dir, behind=behind))
    except BaseException as error:
        for step in reversed(undo):
            with suppress(OSError, RoutedError):  # the first error is the one to report
                step()
        if isinstance(error, OSError):
            raise _denied(error) from error
        raise
    for path in written:
        print(f"wrote {path}")
    if DEFAULT_PATH not in texts:
        print(f"kept {configuration}")
    for kind in behind.missing:
        print(f"left {kind} out of the list: {bin_dir} has none that answers; install it, then install again")
    print("next: systemctl daemon-reload && systemctl enable --now routed")
    return 0


def uninstall(layout: Layout) -> int:
    """Remove what `install` wrote, the network configuration first, and say what is left."""
    from routed_cni.install import remove_conflist, remove_plugin

    removed: list[str] = []
    left: list[str] = []
    bin_dir, conf_dir = layout.at(layout.bin_dir), layout.at(layout.conf_dir)
    try:
        for what, directory, remove in (("conflist", conf_dir, remove_conflist), ("plugin", bin_dir, remove_plugin)):
            try:
                if remove(directory):
                    removed.append(f"the CNI {what} in {directory}")
            except ConflictError as error:
                left.append(error.message)
        for path in (UNIT, PROTOCOLS, DEFAULT_PATH):
            target = layout.at(path)
            if not target.exists():
                continue
            if _is_unchanged(target):
                target.unlink()
                removed.append(str(target))
            else:
                left.append(f"{target}: changed since it was installed")
        with suppress(OSError):  # others' files are in it
            layout.at(DEFAULT_PATH).parent.rmdir()
    except OSError as error:
        raise _denied(error) from error
    for item in removed or ["nothing: nothing of ours was there"]:
        print(f"removed {item}")
    for item in left:
        print(f"left {item}")
    print("left the store, a running agent and the kernel's routes: `systemctl stop routed`, `routed node cleanup`")
    return 0


def unit(python: str) -> str:
    """The systemd unit that runs the agent under the interpreter `python`."""
    quoted = python.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f"""\
[Unit]
Description=routed, this node's agent: pods are routes
Wants=network-online.target
After=network-online.target

[Service]
# Ready when in sync with store and peers. However long that takes, a restart would not make it shorter.
Type=notify
NotifyAccess=main
TimeoutStartSec=infinity
ExecStart="{quoted}" -m routed agent --config {DEFAULT_PATH}
# SIGTERM goes to the agent alone: it closes BGP so that peers keep our routes, and leaves the kernel's in place.
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
RestartSec=1
RuntimeDirectory=routed
RuntimeDirectoryPreserve=yes
StateDirectory=routed
StateDirectoryMode=0700

[Install]
WantedBy=multi-user.target
"""


def _stamped(text: str) -> str:
    return f"{_STAMP}{_digest(text)}\n{text}"


def _is_unchanged(path: Path) -> bool:
    """Whether `path` is as an install, of this version or another, wrote it."""
    try:
        first, _, rest = path.read_text().partition("\n")
    except UnicodeDecodeError:
        return False
    return first == f"{_STAMP}{_digest(rest)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _restore(path: Path) -> Callable[[], object]:
    """What makes `path` again what it is now."""
    if not path.exists():
        return lambda: path.unlink(missing_ok=True)
    content, mode = path.read_bytes(), path.stat().st_mode & 0o777
    return lambda: write_whole(path, content, mode)


def _denied(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"{error.filename}: {error.strerror}", hint="run as root, or name another tree with --root")

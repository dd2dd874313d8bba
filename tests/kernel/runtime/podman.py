"""A podman of its own: storage, state and locks are private; its network is CNI, and it runs in a node's namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

_CONTAINERS = """
[containers]
log_driver = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin}"]
network_config_dir = "{conf}"
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "{directory}/root"
runroot = "{directory}/run"
"""


class Podman:
    """podman in the network namespace `namespace`, with the network `routed` of `conf_dir`; files in `directory`."""

    def __init__(self, directory: Path, namespace: str, bin_dir: Path, conf_dir: Path) -> None:
        self.directory = directory
        self._namespace = namespace
        directory.mkdir()
        for name, text in (("containers.conf", _CONTAINERS), ("storage.conf", _STORAGE)):
            (directory / name).write_text(text.format(directory=directory, bin=bin_dir, conf=conf_dir))
        self.root = directory / "rootfs"
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`podman WORDS`, to its end."""
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self._namespace}", "podman", "--log-level=error", *words],
            env={
                **os.environ,
                "CONTAINERS_CONF": str(self.directory / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
                "TMPDIR": str(self.directory),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ok(self, *words: str) -> str:
        """What `podman WORDS` prints; it is to succeed."""
        done = self.call(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def words(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> tuple[str, ...]:
        """What starts the container `name`, which executes a program of busybox."""
        where = ("--network", "routed", "--rootfs", str(self.root), "/bin/busybox")
        return ("run", "--detach", "--name", name, *options, *where, *command)

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> None:
        """Start it; that is to succeed."""
        self.ok(*self.words(name, *options, command=command))

    def network(self, name: str) -> Any:
        """What podman knows of the container's network, from the result of ADD."""
        whole = json.loads(self.ok("inspect", name))[0]["NetworkSettings"]
        return {**whole["Networks"]["routed"], "namespace": Path(whole["SandboxKey"]).name}

    def close(self) -> None:
        """Remove every container."""
        self.ok("rm", "--all", "--force", "--time", "0")

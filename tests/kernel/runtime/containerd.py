"""A containerd of its own: root, state, socket and runc's directory are private, and it runs in a node's namespace."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

from tests.kernel.runtime.cri import Cri, CriError

IMAGE = "localhost/busybox:1"
_CONFIG = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
oom_score = 0
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{conf}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{directory}/runc"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
"""


def image(path: Path) -> None:
    """Write the image `IMAGE`, busybox and nothing else, as an archive that `ctr images import` reads."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("bin", "tmp", "www", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        program = Path("/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in ("sh", "sleep", "httpd", "cat", "ip", "ping", "hostname", "nc"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    content = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }).encode()  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("layer.tar", content), ("config.json", config), ("manifest.json", json.dumps(manifest).encode()),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


class Containerd:
    """containerd in the network namespace `namespace`, its files in `directory`."""

    def __init__(self, directory: Path, namespace: str, bin_dir: Path, conf_dir: Path) -> None:
        self.directory = directory
        self.cri = Cri(directory / "containerd.sock")
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        config = _CONFIG.format(directory=directory, image=IMAGE, bin=bin_dir, conf=conf_dir)
        (directory / "config.toml").write_text(config)
        self.start()
        image(directory / "image.tar")
        self._ctr("images", "import", str(directory / "image.tar"))

    def start(self) -> None:
        """Start it, and return when its CRI answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "nsenter", f"--net=/run/netns/{self._namespace}",
                    "containerd", "--config", str(self.directory / "config.toml"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, self.log()[-3000:]
            assert self._process.poll() is None, self.log()[-3000:]
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.cri.sandboxes()
        except CriError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; pods go on."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        process.wait(30)

    def log(self) -> str:
        """What it has to say."""
        return (self.directory / "log").read_text()

    def shims(self) -> list[int]:
        """The processes that hold this containerd's pods."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"containerd-shim" in words and os.fsencode(self.directory) in words:
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Remove every pod, end everything, and leave no mount."""
        try:
            if self._process is None:
                self.start()
            for sandbox in self.cri.sandboxes():
                self.cri.stop_sandbox(sandbox)
                self.cri.remove_sandbox(sandbox)
        finally:
            if self._process is not None:
                self.stop()
            for pid in self.shims():
                os.kill(pid, signal.SIGKILL)
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for mount in sorted((each for each in mounts if each.startswith(str(self.directory))), reverse=True):
                subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)

    def _ctr(self, *words: str) -> None:
        address = str(self.directory / "containerd.sock")
        done = subprocess.run(
            ["ctr", "--address", address, "--namespace", "k8s.io", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

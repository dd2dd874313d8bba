"""What User-mode Linux lacks is said with the Debian package that brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.errors import EnvironmentFault
from routed_lab.uml import needs


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no programs and no modules, for root, who needs no user namespace."""
    monkeypatch.delenv("ROUTED_UML", raising=False)
    monkeypatch.setattr(needs, "PATH", str(tmp_path))
    monkeypatch.setattr(needs, "MODULES", str(tmp_path / "modules"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def install(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch(mode=0o755)


def test_a_missing_kernel_and_modprobe_are_named_with_their_packages(programs: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"linux\.uml is not installed; modprobe is not installed") as caught:
        needs.require()
    assert "apt-get install user-mode-linux" in str(caught.value)
    assert "apt-get install kmod" in str(caught.value)


def test_a_kernel_without_its_modules_is_refused(programs: Path) -> None:
    install(programs, "linux.uml", "modprobe")
    with pytest.raises(EnvironmentFault, match=r"the modules of linux\.uml, is missing"):
        needs.require()


def test_a_complete_machine_gives_the_kernels_path(programs: Path) -> None:
    install(programs, "linux.uml", "modprobe")
    (programs / "modules").mkdir()
    assert needs.require() == str(programs / "linux.uml")


def test_a_kernel_of_ones_own_needs_no_modules(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "own", "modprobe")
    monkeypatch.setenv("ROUTED_UML", str(programs / "own"))
    assert needs.require() == str(programs / "own")


def test_user_namespaces_that_are_refused_are_named_with_the_switch(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "linux.uml", "modprobe")
    (programs / "modules").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    def refuse(_flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("routed_lab.uml.system.unshare", refuse)
    with pytest.raises(EnvironmentFault, match="user namespaces are refused") as caught:
        needs.require()
    assert "kernel.unprivileged_userns_clone=1" in str(caught.value)

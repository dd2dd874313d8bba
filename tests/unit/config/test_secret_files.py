"""Passwords from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.errors import EnvironmentFault, OperatorError
from routed.model.bgp import SecretKeySelector
from routed.secret_files import SecretFiles

TOR = SecretKeySelector("bgp", "tor")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "bgp").mkdir()
    return tmp_path / "bgp" / "tor"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_is_the_file_without_the_line_end(file: Path, end: str) -> None:
    file.write_bytes(f"s3cr et{end}".encode())
    assert SecretFiles(file.parent.parent)(TOR) == "s3cr et"


def test_a_changed_password_is_read_anew(file: Path) -> None:
    secrets = SecretFiles(file.parent.parent)
    for password in ("one", "two"):
        file.write_text(password)
        assert secrets(TOR) == password


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(EnvironmentFault, match=rf"{file}: cannot read the password: No such file"):
        SecretFiles(file.parent.parent)(TOR)
    file.mkdir()
    with pytest.raises(EnvironmentFault, match=rf"{file}: cannot read the password: Is a directory"):
        SecretFiles(file.parent.parent)(TOR)


@pytest.mark.parametrize("data", [b"hidden\xff", b"hidden\nhidden", b"hidden\0", b"hidden\t"])
def test_what_is_no_line_of_text_is_refused_and_not_shown(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(OperatorError, match=rf"{file}: the password ") as caught:
        SecretFiles(file.parent.parent)(TOR)
    assert "hidden" not in str(caught.value)


def test_what_was_asked_for_has_changed_when_it_is_another_or_comes(tmp_path: Path) -> None:
    secrets, path = SecretFiles(tmp_path), tmp_path / "bgp" / "tor"
    path.parent.mkdir()
    with pytest.raises(EnvironmentFault):
        secrets(SecretKeySelector(name="bgp", key="tor"))
    assert not secrets.changed()
    path.write_text("")  # somebody is about to write it
    assert not secrets.changed()
    path.write_text("one")
    assert secrets.changed()
    secrets.forget()
    assert not secrets.changed()
    assert secrets(SecretKeySelector(name="bgp", key="tor")) == "one"
    path.unlink()
    assert not secrets.changed()
    path.write_text("two")
    assert secrets.changed()

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from tests.unit.cni.calls import run
from tests.unit.cni.forms import Maker

from routed.errors import ConflictError, OperatorError
from routed_cni import install
from routed_cni.install import Form, chain, remove_conflist, remove_plugin, write_conflist, write_plugin

SOCKET = Path("/run/routed/cni.sock")
SCRIPT = b"#!"
PROGRAM = b"\x7fELF"


@pytest.fixture
def prebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the compiled program is looked for; it is not there."""
    path = tmp_path / "prebuilt"
    monkeypatch.setattr(install, "PREBUILT", path)
    return path


def test_the_script_is_an_executable_of_this_interpreter_for_that_socket(tmp_path: Path):
    path = write_plugin(tmp_path / "bin", Path("/run/it's/cni.sock"), form="python")
    text = path.read_text()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("routed-cni", 0o755)
    assert text.startswith(f"#!{Path(sys.executable).resolve()} -ISE\n")
    assert 'SOCKET = "/run/it\'s/cni.sock"\n' in text
    assert "/run/routed" not in text


def test_writing_the_plugin_again_replaces_it_and_leaves_nothing_else(tmp_path: Path):
    write_plugin(tmp_path, Path("/run/old.sock"))
    path = write_plugin(tmp_path, SOCKET, Path("/usr/bin/python3"))
    assert list(tmp_path.iterdir()) == [path]
    assert b"old.sock" not in path.read_bytes()


def test_the_program_is_an_executable_for_that_socket_and_nothing_else_of_it_is_changed(c: Maker, tmp_path: Path):
    path = c.write(tmp_path, Path("/run/elsewhere.sock"))
    content, source = path.read_bytes(), c.source.read_bytes()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("routed-cni", 0o755)
    assert (content.count(b"/run/elsewhere.sock\0"), content.count(b"/run/routed/cni.sock")) == (1, 0)
    start = source.index(b"/run/routed/cni.sock")
    assert (content[:start], content[start + 112 :]) == (source[:start], source[start + 112 :])


@pytest.mark.parametrize("there", [False, True])
def test_auto_is_the_program_where_it_was_compiled_and_else_the_script(
    c: Maker, prebuilt: Path, tmp_path: Path, there: bool
):
    if there:
        prebuilt.symlink_to(c.source)
    path = write_plugin(tmp_path / "bin", tmp_path / "s", connect_seconds=0)
    assert path.read_bytes().startswith(PROGRAM if there else SCRIPT)
    assert f"not answering at {tmp_path}/s" in run(path)[1].decode()


OTHERS = {
    "of another architecture": PROGRAM + b"\2\1\1" + bytes(9) + b"\2\0\xf3\0" + bytes(100),
    "of another version": b"#!/bin/sh\nprintf '{}'\n",
    "that fails": b"#!/bin/sh\nprintf '%s' '%s'; exit 1\n",
    "that is killed": b"#!/bin/sh\nkill -SEGV $$\n",
    "that is empty": b"",
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_program_that_does_not_run_here_is_passed_over_unless_it_is_demanded(
    prebuilt: Path, tmp_path: Path, what: str
):
    prebuilt.write_bytes(OTHERS[what])
    prebuilt.chmod(0o755)
    assert write_plugin(tmp_path / "bin", SOCKET).read_bytes().startswith(SCRIPT)
    with pytest.raises(OperatorError, match=r"compiled plugin .*does not"):
        write_plugin(tmp_path / "c", SOCKET, form="c")
    assert not (tmp_path / "c").exists()


def test_a_program_that_may_not_be_executed_is_passed_over(c: Maker, prebuilt: Path, tmp_path: Path):
    prebuilt.write_bytes(c.source.read_bytes())
    prebuilt.chmod(0o644)
    assert write_plugin(tmp_path / "bin", SOCKET).read_bytes().startswith(SCRIPT)


def test_a_program_that_is_not_there_is_missed_only_if_it_is_demanded(prebuilt: Path, tmp_path: Path):
    with pytest.raises(OperatorError, match="is not there") as caught:
        write_plugin(tmp_path / "c", SOCKET, form="c")
    assert "./dev setup" in (caught.value.hint or "")


@pytest.mark.parametrize("form", ["auto", "c"])
@pytest.mark.parametrize("change", ["no place", "two places", "another size"])
def test_a_program_without_one_place_of_the_right_size_is_refused(
    c: Maker, prebuilt: Path, tmp_path: Path, change: str, form: Form
):
    program = c.source.read_bytes()
    place = program[program.index(b"# routed-cni: baked in") :][: 24 + 112 + 19]
    # behind the end of an ELF file anything may stand
    changed = {
        "no place": program.replace(b"baked in", b"BAKED IN"),
        "two places": program + place,
        "another size": program.replace(b"# routed-cni: end\n", b"#\n" + bytes(16)) + b"# routed-cni: end\n",
    }[change]
    prebuilt.write_bytes(changed)
    prebuilt.chmod(0o755)
    with pytest.raises(OperatorError, match="no single place"):
        write_plugin(tmp_path / "bin", SOCKET, form=form)
    assert not (tmp_path / "bin").exists()


@pytest.mark.parametrize("seconds", [-0.1, 60.1, float("inf"), float("nan")])
@pytest.mark.parametrize("form", ["auto", "python"])
def test_a_wait_that_no_runtime_would_sit_through_is_refused(tmp_path: Path, seconds: float, form: Form):
    with pytest.raises(OperatorError, match="cannot wait"):
        write_plugin(tmp_path / "bin", SOCKET, connect_seconds=seconds, form=form)


def test_each_form_replaces_and_removes_the_other(c: Maker, prebuilt: Path, tmp_path: Path):
    prebuilt.symlink_to(c.source)
    forms: tuple[tuple[Form, bytes], ...] = (("c", PROGRAM), ("python", SCRIPT), ("c", PROGRAM))
    for form, start in forms:
        assert write_plugin(tmp_path / "bin", SOCKET, form=form).read_bytes().startswith(start)
    assert remove_plugin(tmp_path / "bin")
    assert list((tmp_path / "bin").iterdir()) == []


@pytest.mark.parametrize("form", ["auto", "python"])
def test_removing_undoes_writing_and_may_be_repeated(tmp_path: Path, form: Form):
    write_plugin(tmp_path, SOCKET, form=form)
    write_conflist(tmp_path)
    assert (remove_plugin(tmp_path), remove_conflist(tmp_path)) == (True, True)
    assert list(tmp_path.iterdir()) == []
    assert (remove_plugin(tmp_path), remove_conflist(tmp_path)) == (False, False)


@pytest.mark.spec("CNI 1.1.0", "1 Configuration.6", "1 Configuration.10")
def test_the_network_configuration_is_one_that_old_and_new_runtimes_take(tmp_path: Path):
    path = write_conflist(tmp_path, "pods")
    configuration = json.loads(path.read_text())
    assert path.name == "10-pods.conflist"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert configuration == {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": "pods",
        "plugins": [OURS],
    }


OURS = {"type": "routed-cni", "capabilities": {"io.kubernetes.cri.pod-annotations": True, "ips": True, "mac": True}}
PORTMAP = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def speaking(directory: Path, name: str, answer: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("spoken", "listed", "version"),
    [
        (["0.4.0", "1.0.0", "1.1.0"], ["0.4.0", "1.0.0", "1.1.0"], "1.0.0"),
        (["0.1.0", "0.3.1", "0.4.0"], ["0.3.1", "0.4.0"], "0.4.0"),
    ],
)
def test_plugins_that_are_there_stand_behind_ours_in_versions_that_all_speak(
    tmp_path: Path, spoken: list[str], listed: list[str], version: str
):
    speaking(tmp_path, "portmap", json.dumps({"cniVersion": "1.0.0", "supportedVersions": spoken}))
    speaking(tmp_path, "bandwidth", json.dumps({"supportedVersions": ["0.3.0", *listed]}))
    path = write_conflist(tmp_path, behind=chain(tmp_path))
    configuration = json.loads(path.read_text())
    assert configuration["plugins"] == [OURS, PORTMAP, BANDWIDTH]
    assert (configuration["cniVersion"], configuration["cniVersions"]) == (version, listed)


@pytest.mark.parametrize("answer", ["", "{", "[]", '{"supportedVersions":["2.0"]}', '{"supportedVersions":["1.1.0"]}'])
def test_a_plugin_that_speaks_nothing_common_is_left_out(tmp_path: Path, answer: str):
    speaking(tmp_path, "portmap", answer)
    (tmp_path / "bandwidth").write_text("no program")
    found = chain(tmp_path)
    assert (found.plugins, found.missing) == ((), ("portmap", "bandwidth"))
    assert json.loads(write_conflist(tmp_path, behind=found).read_text())["plugins"] == [OURS]


@pytest.mark.parametrize("content", ["", "#!/bin/sh\n", '{"plugins": [{"type": "ptp"}]}', '{"plugins": 1}'])
def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path, content: str):
    for name in ("routed-cni", "10-routed.conflist"):
        (tmp_path / name).write_text(content)
    for attempt in (
        lambda: write_plugin(tmp_path, SOCKET),
        lambda: remove_plugin(tmp_path),
        lambda: write_conflist(tmp_path),
        lambda: remove_conflist(tmp_path),
    ):
        with pytest.raises(ConflictError, match="not routed's"):
            attempt()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "routed-cni": content,
        "10-routed.conflist": content,
    }


@pytest.mark.parametrize("python", ["/opt/with space/python", "/" + "a" * 250, "python3"])
def test_an_interpreter_that_no_first_line_can_name_is_refused(tmp_path: Path, python: str):
    with pytest.raises(OperatorError, match="interpreter"):
        write_plugin(tmp_path / "bin", SOCKET, Path(python), form="python")
    assert not (tmp_path / "bin").exists()


def test_a_socket_path_that_is_none_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(OperatorError, match="socket"):
        write_plugin(tmp_path / "bin", Path("/" + "a" * 200))
    assert not (tmp_path / "bin").exists()


def test_a_network_name_that_would_leave_the_directory_is_refused(tmp_path: Path):
    with pytest.raises(OperatorError, match="name"):
        write_conflist(tmp_path, "../x")


def test_a_directory_that_cannot_be_written_to_keeps_nothing_half_made(tmp_path: Path):
    (tmp_path / "bin").write_text("a file")
    with pytest.raises(OSError, match="bin"):
        write_plugin(tmp_path / "bin", SOCKET)
    assert (tmp_path / "bin").read_text() == "a file"

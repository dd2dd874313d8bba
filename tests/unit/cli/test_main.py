"""The command line's frame: help, exit status, no traceback ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from routed import __version__
from routed.cli import get, main
from routed.errors import EnvironmentFault


def routed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "routed", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command():
    result = routed("--help")
    assert result.returncode == 0
    for command in ("apply", "get", "delete", "node", "agent", "lab"):
        assert f"\n    {command} " in result.stdout


def test_version(run):
    assert run("--version").out == f"routed {__version__}\n"


@pytest.mark.parametrize("command", ["apply", "get", "delete", "node", "agent", "lab"])
def test_every_command_has_help(run, command):
    result = run(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"usage: routed {command}")


@pytest.mark.parametrize("verb", ["status", "cleanup", "install", "uninstall"])
def test_every_verb_of_node_has_help(run, verb):
    assert run("node", verb, "--help").out.startswith(f"usage: routed node {verb}")


@pytest.mark.parametrize("arguments", [[], ["zebra"], ["apply"], ["node"], ["get", "node", "-o", "xml"]])
def test_bad_usage_is_status_2(run, arguments):
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("usage: ")


HEAVY = {
    "asyncio",
    "msgspec",
    "yaml",
    "sqlite3",
    "tomllib",
    "routed_lab",
    "routed.agent.main",
    "routed_bgp",
    "routed_felix",
}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(["--help"], set()), (["get", "node", "--store", "sqlite:///none/x"], {"asyncio", "msgspec", "sqlite3"})],
)
def test_a_command_loads_nothing_that_it_does_not_need(arguments, needed):
    code = "import sys; from routed.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stderr
    assert HEAVY & set(loaded.split()) == needed


def failing(monkeypatch, error):
    def fail(args):
        raise error

    monkeypatch.setattr(get, "run", fail)


def test_an_error_of_ours_is_message_and_hint_on_stderr(run, monkeypatch):
    failing(monkeypatch, EnvironmentFault("one\ntwo", hint="do this"))
    result = run("get", "node")
    assert (result.status, result.out, result.err) == (1, "", "error: one\nerror: two\nhint: do this\n")


def test_an_interrupt_is_status_130_without_a_word(run, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    result = run("get", "node")
    assert (result.status, result.out, result.err) == (130, "", "")


def test_an_error_of_the_system_is_one_line(run, monkeypatch):
    failing(monkeypatch, PermissionError(13, "Permission denied", "/etc/shadow"))
    assert run("get", "node").err == "error: /etc/shadow: Permission denied\n"


def test_a_defect_is_a_sentence_and_its_traceback_only_on_request(run, monkeypatch):
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    result = run("get", "node")
    assert result.status == 1
    assert result.err.startswith("error: internal error: ZeroDivisionError: division by zero\nhint: ")
    monkeypatch.setenv("ROUTED_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main.main(["get", "node"])


def test_a_reader_that_goes_away_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "routed", "--version"], stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_the_agent_gets_its_configuration_file(run, tmp_path):
    result = run("agent", "--config", tmp_path / "absent.toml")
    assert result.status == 1
    assert f"{tmp_path}/absent.toml: cannot read the configuration" in result.err

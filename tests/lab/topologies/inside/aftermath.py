"""Run inside a kernel of its own: have labs fail on it, and tell what each left behind. Prints one JSON object.

For each CASE=FILE: what there was before, how `routed lab up FILE --kernel host` ended, what there was afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "routed", "lab"]
State = dict[str, list[str]]


def state() -> State:
    """Everything that a lab makes: namespaces, processes, links and routes here, files below /run."""
    netns = Path("/run/netns")
    return {
        "namespaces": sorted(entry.name for entry in netns.iterdir()) if netns.is_dir() else [],
        "processes": sorted(text for _, text in processes()),
        "links": output("ip", "-o", "link").splitlines(),
        "routes": output("ip", "route", "show", "table", "all").splitlines(),
        "mounts": [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()],
        "files": sorted(str(entry) for home in Path("/run").glob("routed*") for entry in home.rglob("*")),
    }


def processes() -> list[tuple[int, str]]:
    """Processes with a command line (kernel threads have none), without this one and what it asks with."""
    found: list[tuple[int, str]] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if text:
                found.append((int(entry.name), text))
    return found


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def lab(verb: str, file: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, verb, file, *words], capture_output=True, text=True, timeout=120, check=False)


def fail(file: str, before: State) -> dict[str, Any]:
    """A lab that cannot come up."""
    done = lab("up", file, "--kernel", "host")
    found = {"status": done.returncode, "said": done.stderr, "before": before, "after": settled(before)}
    if done.returncode == 0:  # which the test will tell; the next case shall have a clean kernel all the same
        lab("down", file)
        settled(before)
    return found


def interrupt(file: str, before: State) -> dict[str, Any]:
    """Ctrl-C while a lab comes up, once it has made its namespaces."""
    up = subprocess.Popen([*COMMAND, "up", file, "--kernel", "host"], stderr=subprocess.PIPE, text=True)
    wait(lambda: len(state()["namespaces"]) > len(before["namespaces"]))
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=60)
    return {"status": up.returncode, "said": said, "before": before, "after": settled(before)}


def kill(file: str, before: State) -> dict[str, Any]:
    """A lab whose keeper and runner are killed: its processes go at once, `down` removes the rest."""
    up = lab("up", file, "--kernel", "host")
    made = state()
    for number, text in processes():
        if "routed_lab.runner" in text or "routed_lab.keeper" in text:
            os.kill(number, signal.SIGKILL)
    left = settled(before | {key: value for key, value in state().items() if key != "processes"})
    down = lab("down", file)
    return {
        "status": down.returncode,
        "said": up.stderr + down.stderr,
        "before": before,
        "made": made,
        "left": left,
        "after": settled(before),
    }


def settled(before: State) -> State:
    """The state, once it is `before` or some seconds have passed: the last process may still be ending."""
    deadline = time.monotonic() + 5
    while (now := state()) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def wait(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def main() -> None:
    found: dict[str, Any] = {}
    before = state()
    for argument in sys.argv[1:]:
        case, _, file = argument.partition("=")
        found[case] = {"interrupted": interrupt, "killed": kill}.get(case, fail)(file, before)
    print(json.dumps(found))


main()

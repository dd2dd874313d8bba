"""A runner that makes nothing: enough of one to see what the keeper does with it. Run as a script.

The name of the topology file tells it what to do: `fail` in it fails Up, `slow` takes a minute for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from routed.errors import OperatorError
from routed_lab import wire

_lock = threading.Lock()
_programs: dict[int, subprocess.Popen[bytes]] = {}


def send(answer: wire.Answer) -> None:
    with _lock:
        os.write(1, wire.encode(answer))


def pump(request: int, fd: int, source: int) -> None:
    while data := os.read(source, wire.CHUNK):
        send(wire.Output(id=request, fd=1 if fd == 1 else 2, data=data))


def finish(request: int, program: subprocess.Popen[bytes]) -> None:
    assert program.stdout is not None
    assert program.stderr is not None
    pumps = [
        threading.Thread(target=pump, args=(request, fd, stream.fileno()))
        for fd, stream in ((1, program.stdout), (2, program.stderr))
    ]
    for thread in pumps:
        thread.start()
    for thread in pumps:
        thread.join()
    status = program.wait()
    send(wire.Result(id=request, value={"status": status if status >= 0 else 128 - status}))


def execute(request: wire.Exec) -> None:
    program = subprocess.Popen(
        request.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    _programs[request.id] = program
    threading.Thread(target=finish, args=(request.id, program), daemon=True).start()


def feed(request: wire.Stdin) -> None:
    program = _programs.get(request.id)
    if program is None or program.stdin is None:
        return
    program.stdin.write(request.data)
    program.stdin.flush()
    if request.eof:
        program.stdin.close()


def up(request: wire.Up) -> None:
    send(wire.Progress(id=request.id, text="building"))
    if "fail" in request.file:
        send(wire.failed(request.id, OperatorError("no such luck", hint="try another file")))
        return
    if "slow" in request.file:
        time.sleep(60)
    send(wire.Result(id=request.id))


def main() -> None:
    for line in sys.stdin.buffer:
        request = wire.decode_request(line)
        match request:
            case wire.Up():
                threading.Thread(target=up, args=(request,), daemon=True).start()
            case wire.Exec():
                execute(request)
            case wire.Stdin():
                feed(request)
            case wire.Signal(id=number, number=what):
                if program := _programs.get(number):
                    os.killpg(program.pid, what)
            case wire.Restart(node=node):
                print(f"{node} makes it die", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case wire.Inspect(id=number):
                send(wire.Result(id=number, value={"kernel": os.uname().release, "pid": os.getpid()}))
            case wire.Check(id=number):
                send(wire.Result(id=number, value=None))
            case wire.Down(id=number):
                send(wire.Result(id=number))


if __name__ == "__main__":
    main()
    os._exit(0)

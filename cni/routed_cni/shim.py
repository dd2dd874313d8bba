#!/usr/bin/python3 -ISE
"""routed's CNI plugin: carries a call to the agent and its answer back.

It decides nothing. Its cost is that of starting Python, so it uses built-in modules only: `socket` and `os` would
double it (12 ms more where an empty program takes 12), hence `_socket` and `posix`, which they wrap.

cni/shim/routed-cni.c is the same program for machines where it could be compiled. One suite of tests is the contract
of both; change them together.
"""

import _socket
import posix
from time import monotonic, sleep

# What stands between the two marks is written by routed_cni.install.
# routed-cni: baked in
SOCKET = "/run/routed/cni.sock"
CONNECT_SECONDS = 10.0
# routed-cni: end

# An agent that restarts is away for a few seconds: waiting saves the runtime a failed pod, which it would retry after
# about 13 s. An agent that is gone should be reported soon.
_RETRY_SECONDS = 0.02
_ANSWER_SECONDS = 60.0  # an answer takes milliseconds; half of the two minutes that runtimes give a plugin
_MAX_REQUEST = 1 << 20
_MAX_ANSWER = 1 + (1 << 20)
_CHUNK = 1 << 16
_VERSIONS = (b'"0.3.0"', b'"0.3.1"', b'"0.4.0"', b'"1.0.0"', b'"1.1.0"')
_IO_FAILURE = 5
_DECODE_FAILURE = 6
_TRY_AGAIN_LATER = 11
_BUG = 100


class Failure(Exception):  # noqa: N818  a private signal, printed as a CNI error
    """What to tell the runtime: code and message."""


def request() -> bytes:
    """The call as the agent reads it: CNI_* variables, two NULs, stdin."""
    variables = [name + b"=" + value for name, value in posix.environ.items() if name.startswith(b"CNI_")]
    payload = b"\0".join(variables) + b"\0\0"
    while len(payload) <= _MAX_REQUEST:
        try:
            chunk = posix.read(0, _CHUNK)
        except BlockingIOError:
            sleep(_RETRY_SECONDS)
            continue
        except OSError as error:
            raise Failure(_IO_FAILURE, f"cannot read the network configuration on stdin: {error.strerror}") from None
        if not chunk:
            return payload
        payload += chunk
    raise Failure(_DECODE_FAILURE, "the network configuration on stdin is larger than 1 MiB")


def connect() -> _socket.socket:
    """A connection to the agent, for which it waits a little if it is away."""
    deadline = monotonic() + CONNECT_SECONDS
    while True:
        try:
            client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            client.settimeout(_ANSWER_SECONDS)
            client.connect(SOCKET)
        # no socket, a stale one, or (EAGAIN) more calls waiting than its queue holds
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            if monotonic() >= deadline:
                raise Failure(
                    _TRY_AGAIN_LATER,
                    f"routed agent is not answering at {SOCKET}: {error.strerror}; is it running on this node?",
                ) from None
            sleep(_RETRY_SECONDS)
        except OSError as error:
            raise Failure(_TRY_AGAIN_LATER, f"routed agent cannot be reached at {SOCKET}: {error.strerror}") from None
        else:
            return client


def left(deadline: float) -> float:
    """Seconds until `deadline`; TimeoutError after it."""
    seconds = deadline - monotonic()
    if seconds > 0:
        return seconds
    raise TimeoutError


def call(payload: bytes) -> bytes:
    """The agent's answer: one byte exit status, then what to print."""
    client = connect()
    deadline = monotonic() + _ANSWER_SECONDS
    answer = b""
    lost: str | None = None
    try:
        try:
            client.sendall(len(payload).to_bytes(4, "big") + payload)
        except TimeoutError:
            raise
        except OSError as error:  # an agent that refuses a request unread resets the connection, behind its answer
            lost = error.strerror
        while len(answer) <= _MAX_ANSWER:
            client.settimeout(left(deadline))
            chunk = client.recv(_CHUNK)
            if not chunk:
                break
            answer += chunk
        else:
            raise Failure(_BUG, "the answer of routed agent is larger than 1 MiB")
    except TimeoutError:
        raise Failure(_TRY_AGAIN_LATER, f"routed agent did not answer within {_ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        lost = lost or error.strerror
    if answer:
        return answer
    if lost:
        raise Failure(_TRY_AGAIN_LATER, f"routed agent closed the connection: {lost}")
    raise Failure(_TRY_AGAIN_LATER, "routed agent closed the connection without an answer; it may be restarting")


def version(payload: bytes) -> bytes:
    """The answer to VERSION: with the version that its stdin has, if that is a supported one, else with the newest."""
    asked = payload.partition(b"\0\0")[2].partition(b'"cniVersion"')[2].lstrip(b" \t\r\n:")
    told = next((known for known in _VERSIONS if asked.startswith(known)), _VERSIONS[-1])
    return b'\0{"cniVersion":' + told + b',"supportedVersions":[' + b",".join(_VERSIONS) + b"]}"


def tell(output: bytes) -> bool:
    """Print `output`; False if nobody takes it."""
    while output:
        try:
            output = output[posix.write(1, output) :]
        except BlockingIOError:
            sleep(_RETRY_SECONDS)
        except OSError:
            return False
    return True


def main() -> int:
    """Print the answer; the exit status is the agent's, unless what it says could not be printed."""
    try:
        payload = request()
        # without the agent, as runtimes ask before there is one
        answer = version(payload) if posix.environ.get(b"CNI_COMMAND") == b"VERSION" else call(payload)
    except Failure as failure:
        code, message = failure.args
        text = message.replace("\\", "\\\\").replace('"', '\\"')
        answer = b"\1" + f'{{"cniVersion":"1.0.0","code":{code},"msg":"{text}"}}'.encode()
    return answer[0] if tell(answer[1:]) else 1


if __name__ == "__main__":
    # `_exit`, as nothing is open or buffered: taking the interpreter down in good order is a fifth of the whole. It is
    # os._exit, which is public; `os` itself costs more than it would save
    posix._exit(main())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

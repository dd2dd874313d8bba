"""Asking the agent of this machine, over HTTP on 127.0.0.1."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from routed.errors import EnvironmentFault, OperatorError

_PATIENCE = 7.0  # seconds; the agent's own is 5
_Answer = TypeVar("_Answer")


def fetch(port: int, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
    """The body of the answer to `path`, JSON as far as can be told.

    Raises EnvironmentFault when no agent answers as one, OperatorError for `parameters` that make no sense to it.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", f"{path}?{urlencode(parameters)}" if parameters else path)
        answer = connection.getresponse()
        body = answer.read()
    except ConnectionRefusedError as error:
        raise EnvironmentFault(
            f"no agent answers on 127.0.0.1:{port} (health_port)",
            hint="start it with `systemctl start routed`, and see `journalctl -u routed` for why it stopped",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(
            f"the agent on 127.0.0.1:{port} (health_port) does not answer: {error or type(error).__name__}",
            hint="see `journalctl -u routed`; `systemctl restart routed` keeps routes and sessions' routes in place",
        ) from error
    finally:
        connection.close()
    if answer.status != 200 and not body.lstrip().startswith(b"{"):
        said = body.decode(errors="replace").strip()
        if answer.status == 400:
            message, _, hint = said.partition("\n")
            raise OperatorError(message, hint=hint.strip() or None)
        raise EnvironmentFault(
            f"the agent on 127.0.0.1:{port} (health_port) answers {answer.status}: {said}",
            hint="see `journalctl -u routed`",
        )
    return body


def read(body: bytes, wanted: type[_Answer], *, port: int) -> _Answer:
    """The answer as a value. Raises EnvironmentFault when it is not one of an agent of this version."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"127.0.0.1:{port} (health_port) gave an answer that is no status of an agent: {error}",
            hint="another program has the port, or the agent is of another version",
        ) from error


def formatted(body: bytes) -> str:
    """The answer for programs, on lines that a person can read too."""
    return msgspec.json.format(body.strip(), indent=2).decode() + "\n"

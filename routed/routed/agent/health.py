"""HTTP on 127.0.0.1, served by threads of its own, so that a stuck agent is seen as stuck.

Every answer is made in the agent's event loop, from the parameters of the query; one that does not come within
`PATIENCE` is a 503, a query that makes no sense (OperatorError) is a 400. Nothing polls: an idle server costs nothing,
and `close` returns at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer  # not http.server's, which asks the DNS for its own name
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from routed.errors import EnvironmentFault, OperatorError

_log = logging.getLogger("routed.agent")
PATIENCE = 5.0  # seconds
_CLIENT_SECONDS = 10.0  # for a client to send its request

Answer = tuple[int, str, bytes]  # HTTP status, content type, body
Produce = Callable[[Mapping[str, str]], Answer]
"""Makes an answer from the parameters of a query; of one that is given twice, the last counts."""


class HealthServer:
    """Serves `routes` (path to a function run in the event loop) until closed."""

    def __init__(self, port: int, routes: Mapping[str, Produce], setting: str) -> None:
        """Listen on 127.0.0.1:`port`; EnvironmentFault, naming `setting`, when the port is taken."""
        loop = asyncio.get_running_loop()

        class Handler(BaseHTTPRequestHandler):
            timeout = _CLIENT_SECONDS

            def do_GET(self) -> None:
                path, query = urlsplit(self.path)[2:4]
                produce = routes.get(path.rstrip("/") or "/")
                if produce is None:
                    self._answer((404, "text/plain", f"there is: {', '.join(sorted(routes))}\n".encode()))
                    return
                try:
                    self._answer(_in_loop(loop, produce, dict(parse_qsl(query, keep_blank_values=True))))
                except (TimeoutError, RuntimeError):  # RuntimeError: the loop is closed
                    self._answer((503, "text/plain", b"the agent's event loop does not answer\n"))

            def _answer(self, answer: Answer) -> None:
                status, kind, body = answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
                """Probes come every few seconds: they are not worth a line each."""

        class Server(ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                _log.debug("%s: client %s of %s went away", setting, client_address, request, exc_info=True)

        try:
            self._server = Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on 127.0.0.1:{port} ({setting}): {error.strerror}",
                hint=f"another process has the port: stop it, or set {setting} to a free one",
            ) from None
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"http-{port}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()

    def close(self) -> None:
        """Stop listening."""
        self._closing = True
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a client
        self._thread.join()
        self._server.server_close()


def _in_loop(loop: asyncio.AbstractEventLoop, produce: Produce, query: Mapping[str, str]) -> Answer:
    """The result of `produce`, called in `loop`; a fault of ours in it is a 500, with its traceback in the log."""
    future: Future[Answer] = Future()

    def call() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            answer = produce(query)
        except OperatorError as error:
            answer = 400, "text/plain", f"{error}\n".encode()
        except Exception as error:  # noqa: BLE001  a bug in a status page must not end the agent
            _log.exception("an answer could not be made")
            answer = 500, "text/plain", f"routed failed: {error!r}; see the agent's log\n".encode()
        future.set_result(answer)

    loop.call_soon_threadsafe(call)
    try:
        return future.result(PATIENCE)
    finally:
        future.cancel()


def as_json(value: object, status: int = 200) -> Answer:
    """An answer that carries `value` as JSON."""
    return status, "application/json", json.dumps(value).encode() + b"\n"

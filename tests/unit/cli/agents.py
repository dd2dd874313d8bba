"""An agent's HTTP, as far as commands ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

Answers = Mapping[str, Callable[[dict[str, str]], tuple[int, bytes]]]


@contextmanager
def serving(answers: Answers) -> Iterator[int]:
    """Answer each path of `answers` from the query's parameters; the port is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            answer = answers.get(url.path, lambda _: (404, b"there is nothing here\n"))
            status, body = answer(dict(parse_qsl(url.query)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()

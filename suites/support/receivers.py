"""A web server on the loopback that stands for a chat: it keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

__all__ = ["Receiver", "running_receiver"]


@dataclass(frozen=True)
class Receiver:
    """The server.

    Attributes:
        address: Its host and port.
        posted: What was posted to it, except below /refusing, which it refuses.
    """

    address: str
    posted: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver for as long as it is needed."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/refusing"):
                self.send_response(503)
            else:
                posted.append(json.loads(body))
                self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Receiver(f"127.0.0.1:{server.server_port}", posted)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

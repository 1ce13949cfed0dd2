"""Completion servers on loopback: `transformers serve` in a process of its own, and one whose failures are scripted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx2

__all__ = ["Fault", "ScriptedServer", "free_port", "transformers_serve"]

_SECONDS_TO_START = 120.0
# It ends when its input does: however the tests end, even killed, no server is left.
_SERVE = (
    "import os, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
    "from transformers.cli.transformers import main\n"
    "main()\n"
)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def transformers_serve(cache: Path) -> Iterator[str]:
    """Runs `transformers serve` on the processor with a folder as its hub cache; yields its url."""
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = cache / "serve.log"
    with (
        log.open("wb") as told,
        subprocess.Popen(
            [sys.executable, "-c", _SERVE, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env={**kept, **own},
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_until_healthy(process, root, log)
            yield f"{root}/v1"
        finally:
            process.kill()


def _wait_until_healthy(process: subprocess.Popen[bytes], root: str, log: Path) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx2.get(f"{root}/health", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


@dataclass(frozen=True)
class Fault:
    """One wrong answer to a request.

    Attributes:
        status: Its HTTP status.
        body: Its body.
        headers: Its headers.
        missing: How many bytes of the body are promised and never sent.
        silent: Whether nothing is answered, and the connection left open.
    """

    status: int = 500
    body: bytes = b"out of order"
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    silent: bool = False


class ScriptedServer:
    """Completes prompts by a function, after the faults of a script; `with` starts and stops it.

    Attributes:
        bodies: What completions were asked for, in order.
        keys: The Authorization headers that came with them.
        paths: All paths that were asked for.
        at_once: The most completions that were under way together.
        faults: What is still to go wrong, first in front.
        answer: A completion's answer from its body; raises ValueError for what it refuses with status 400.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        models: Sequence[Mapping[str, Any]] = ({"id": "pocket", "owned_by": "tests", "max_model_len": 512},),
        told: Mapping[str, Any] | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.answer = answer
        self.faults = list(faults)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.at_once = 0
        self._listed = {"/v1/models": {"object": "list", "data": list(models)}, **(told or {})}
        self._under_way = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _completion(self, body: dict[str, Any], key: str | None) -> Fault:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
            fault = self.faults.pop(0) if self.faults else None
        try:
            return fault or _json(200, self.answer(body))
        except ValueError as error:
            return _json(400, {"error": {"message": str(error)}})
        finally:
            with self._lock:
                self._under_way -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.paths.append(self.path)
                known = server._listed.get(self.path)
                self._send(_json(404, {"detail": "Not Found"}) if known is None else _json(200, known))

            def do_POST(self) -> None:
                server.paths.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(server._completion(body, self.headers["Authorization"]))

            def _send(self, reply: Fault) -> None:
                if reply.silent:
                    server._closing.wait(30)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + reply.missing))
                self.end_headers()
                self.wfile.write(reply.body)
                self.close_connection = self.close_connection or reply.missing > 0

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _json(status: int, content: Mapping[str, Any]) -> Fault:
    return Fault(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

"""The console over HTTP: a page for people, /board.json behind it, /metrics for Prometheus, /healthz for supervisors.

Contract: /healthz answers 200 while the part is healthy and 503 with the reasons otherwise (the rules stand in
`health`). Nothing can be changed through the console, and nothing is loaded from anywhere else. It has no log-in: it
listens where `console.listen` says, by default to this machine only.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib import resources

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector.console.board import Board
from connector.console.metrics import CONTENT_TYPE, Metrics
from connector.errors import ConnectorError

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
}


class ConsoleServer:
    """Serves on `listen` (`host:port`, port 0 takes a free one) from a thread of its own."""

    def __init__(self, listen: str, board: Board, metrics: Metrics) -> None:
        self._listen = listen
        self._board = board
        self._metrics = metrics
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None
        self.url = ""

    def start(self) -> None:
        """Begin to serve. ConnectorError when the address cannot be had."""
        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            if int(port) > 65535:
                raise OSError(errno.EINVAL, "there is no such port")
            listening = socket.create_server((host, int(port)), family=family)
        except OSError as error:
            raise ConnectorError(
                "serve the console",
                self._listen,
                error.strerror or str(error),
                "set console.listen to a free address (port 0 takes a free one), or `console: null` for none",
            ) from None
        # asyncio sets it only on sockets it made itself; without it an answer waits 40 ms for the client's ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            self._app(), log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        server = self._server = _Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), name="console", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End in order; the port is free afterwards. Nothing happens when it never started."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5.0)

    def _app(self) -> Starlette:
        async def board(_: Request) -> Response:
            return JSONResponse(self._board.snapshot(), headers=_HEADERS)

        async def metrics(_: Request) -> Response:
            return Response(self._metrics.text(), headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

        async def health(_: Request) -> Response:
            reasons = [trouble.text for trouble in self._board.troubles()]
            answer = {"healthy": not reasons, "reasons": reasons}
            return JSONResponse(answer, 503 if reasons else 200, headers=_HEADERS)

        async def asset(request: Request) -> Response:
            name, kind = _ASSETS[request.url.path]
            body = resources.files("connector.console").joinpath(name).read_bytes()
            return Response(body, headers={**_HEADERS, "Content-Type": kind})

        return Starlette(
            routes=[
                Route("/board.json", board),
                Route("/metrics", metrics),
                Route("/healthz", health),
                *(Route(path, asset) for path in _ASSETS),
            ]
        )


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the command has them."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

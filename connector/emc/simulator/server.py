"""The simulator's HTTP side: TrackingMCDT, a page for people, JSON for programs, faults on demand.

Contract: requests are kept in the order of their arrival, each with its arrival time, its parameters and what was
answered; what is kept survives a restart when a file is given. Nothing is forgotten on purpose.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from connector.emc.simulator.faults import FAULTS, Fault, Script
from connector.emc.simulator.intake import read
from connector.emc.simulator.kept import Received
from connector.emc.simulator.page import render
from connector.errors import ConnectorError

SEVER = "emc-cdc.sever"
_MOST_BODY = 256 * 1024
_PAGE = 200


class Simulator:
    """Keeps requests and scripted faults; `app` is the ASGI application."""

    def __init__(self, path: str, keep: Path | None, seed: int, faults: list[Fault]) -> None:
        self.received: list[Received] = []
        self.script = Script(seed)
        self.script.replace(faults, time.monotonic())
        self._file: IO[str] | None = None
        if keep is not None:
            self._open(keep)
        self.app = Starlette(
            routes=[
                Route(path, self._tracking, methods=["POST"]),
                Route("/", self._page, methods=["GET"]),
                Route("/received", self._received, methods=["GET"]),
                Route("/faults", self._faults, methods=["POST"]),
                Route("/healthz", self._health, methods=["GET"]),
            ]
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def _tracking(self, request: Request) -> Response:
        at = time.time()
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY:
                return JSONResponse({"success": False, "faults": ["thân yêu cầu quá lớn"]}, 413)
        parsed = read(request.headers.get("content-type", ""), body)
        fault = self.script.next(str(parsed.parameters.get("CodeProfile", "")), time.monotonic())
        match fault:
            case Fault(kind="delay"):
                await asyncio.sleep(fault.seconds)
            case Fault(kind="drop_before"):
                return await self._sever(request)
            case Fault(kind="status"):
                headers = {"location": fault.location} if fault.status < 400 else {}
                if fault.retry_after is not None:
                    headers["retry-after"] = fault.retry_after
                return PlainTextResponse("scripted fault", fault.status, headers)
            case Fault(kind="garbage"):
                return HTMLResponse("<html><body><h1>Hệ thống đang bảo trì</h1></body></html>")
            case Fault(kind="failure_body"):
                return JSONResponse({"success": False, "message": "scripted fault"})
        lost = fault is not None and fault.kind == "drop_answer"
        self._keep(Received(len(self.received) + 1, at, not parsed.faults, not lost, parsed.parameters, parsed.faults))
        if lost:
            return await self._sever(request)
        if parsed.faults:
            return JSONResponse({"success": False, "faults": list(parsed.faults)}, 400)
        return JSONResponse({"success": True, "message": "OK"})

    async def _sever(self, request: Request) -> Response:
        request.scope[SEVER]()
        # The connection is gone; nobody reads this.
        return Response(status_code=500)

    def _keep(self, received: Received) -> None:
        self.received.append(received)
        if self._file is not None:
            self._file.write(json.dumps(asdict(received), ensure_ascii=False) + "\n")
            self._file.flush()

    def _open(self, keep: Path) -> None:
        try:
            if keep.exists():
                for line in keep.read_text(encoding="utf-8").splitlines():
                    stored = json.loads(line)
                    self.received.append(Received(**{**stored, "faults": tuple(stored["faults"])}))
            self._file = keep.open("a", encoding="utf-8")
        except (OSError, ValueError, TypeError) as error:
            raise ConnectorError(
                "start the simulator", str(keep), str(error), "name another file, or a writable directory"
            ) from None

    async def _received(self, request: Request) -> Response:
        try:
            after = int(request.query_params.get("after", "0"))
        except ValueError:
            return JSONResponse({"error": "after must be a number"}, 400)
        return JSONResponse([asdict(one) for one in self.received[max(after, 0) :]])

    async def _faults(self, request: Request) -> Response:
        try:
            faults = FAULTS.validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": error.errors(include_url=False, include_context=False)}, 400)
        self.script.replace(faults, time.monotonic())
        return JSONResponse({"set": len(faults)})

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"ok": True, "received": len(self.received)})

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(
            render(
                self.received, request.query_params.get("ho-so", ""), request.query_params.get("ket-qua", ""), _PAGE
            ),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class SeverableProtocol(H11Protocol):
    """Lets the application cut the TCP connection without an answer, as a dying server or network does."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SEVER] = self.transport.abort
            await inner(scope, receive, send)

        self.app = app


def bind(listen: str) -> socket.socket:
    """A listening socket for `host:port`; port 0 takes a free one. ConnectorError when it cannot be had."""
    host, _, port = listen.rpartition(":")
    try:
        return socket.create_server((host.strip("[]") or "127.0.0.1", int(port)), backlog=512)
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectorError(
            "start the simulator", listen, str(error), "choose another --listen HOST:PORT; port 0 takes a free one"
        ) from None


def serve(
    simulator: Simulator,
    listening: socket.socket,
    certificate: Path | None,
    key: Path | None,
    stop: threading.Event,
) -> None:
    """Serve until `stop` is set."""
    config = uvicorn.Config(
        simulator.app,
        http=SeverableProtocol,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(key) if key else None,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)

    async def run() -> None:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not task.done():
            if stop.is_set():
                server.should_exit = True
            await asyncio.wait([task], timeout=0.1)
        await task

    try:
        asyncio.run(run())
    finally:
        simulator.close()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the command has them."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

"""The simulator over HTTP: the API, what it got, the script of faults, the page.

POST <path>           the API; every request is examined, may meet a scripted fault, and is kept
GET  /received        what was kept, as JSON; `?after=N` only ids larger than N
POST /faults          sets the script of faults: a JSON list, empty for none
GET  /extract.csv     what EMC would hand out for a reconciliation: the accepted events; /extract.xlsx the same
GET  /                the page; `?dossier=` and `?verdict=` filter
GET  /healthz         200 while it works

A request that EMC takes is kept before it is answered, so that what was answered is what `/received` shows.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import asdict
from email.utils import formatdate
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from connector.emc.simulator.arrivals import Answer, Arrivals, Verdict
from connector.emc.simulator.examination import BODY_LIMIT, Examination, examine
from connector.emc.simulator.extract import XLSX, as_csv, as_xlsx
from connector.emc.simulator.faults import FAULTS, Fault, Script
from connector.emc.simulator.page import PAGE_HEADERS, page
from connector.emc.simulator.severing import TRANSPORT

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""Any other is no request to the API: OPTIONS, with which `check` asks who is there, is answered 405 and not kept."""
_MAINTENANCE = (
    "<!doctype html><html><head><title>Bảo trì</title></head><body><h1>Hệ thống đang bảo trì</h1></body></html>"
)


class Simulator:
    """A strict EMC as an ASGI application."""

    def __init__(self, path: str, arrivals: Arrivals, script: Script) -> None:
        self.arrivals = arrivals
        self.script = script
        self.path = path
        self.application = Starlette(
            routes=[
                Route(path, self._tracking, methods=METHODS),
                Route("/", self._page),
                Route("/received", self._received),
                Route("/extract.csv", self._extract_csv),
                Route("/extract.xlsx", self._extract_xlsx),
                Route("/faults", self._faults, methods=["POST"]),
                Route("/healthz", self._healthz),
            ]
        )
        # EMC's path has no slash at its end; a client that adds one must hear of it.
        self.application.router.redirect_slashes = False

    async def _tracking(self, request: Request) -> Response:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > BODY_LIMIT:
                    break
        except ClientDisconnect:
            return Severed(reset=False)
        examined = examine(request.method, request.headers.get("content-type", ""), bytes(body))
        code = str(examined.parameters.get("CodeProfile") or "")
        delay, fault = self.script.meet(code, time.monotonic())
        if delay and not await _held(request, delay):
            self._keep(Verdict.FAILED, examined, Answer(None), "delay")
            return Severed(reset=False)
        return self._answer(examined, fault)

    def _answer(self, examined: Examination, fault: Fault | None) -> Response:
        match fault:
            case Fault(kind="status", status=int(status)):
                self._keep(Verdict.FAILED, examined, Answer(status), fault.kind)
                body = {"success": False, "message": "Sự cố giả lập"}
                return JSONResponse(body, status, headers=_headers(fault, self.path))
            case Fault(kind="garbage"):
                self._keep(Verdict.FAILED, examined, Answer(200), fault.kind)
                return HTMLResponse(_MAINTENANCE)
            case Fault(kind="failure_body"):
                self._keep(Verdict.FAILED, examined, Answer(200), fault.kind)
                return JSONResponse({"success": False, "message": "Sự cố giả lập"})
            case Fault(kind="drop_before"):
                self._keep(Verdict.FAILED, examined, Answer(None), fault.kind)
                return Severed(reset=True)
        lost = fault is not None
        if examined.faults:
            status = 405 if examined.faults[0].rule == "REQ-01" else 400
            self._keep(Verdict.REFUSED, examined, Answer(None if lost else status), fault.kind if fault else None)
            refusal = {
                "success": False,
                "message": "Yêu cầu không hợp lệ",
                "faults": [asdict(each) for each in examined.faults],
            }
            return Severed(reset=False) if lost else JSONResponse(refusal, status)
        number = self._keep(
            Verdict.ACCEPTED, examined, Answer(None if lost else 200, lost), fault.kind if fault else None
        )
        success = {
            "success": True,
            "message": "Đã ghi nhận",
            "id": number,
            "warnings": [asdict(each) for each in examined.warnings],
        }
        return Severed(reset=False) if lost else JSONResponse(success)

    def _keep(self, verdict: Verdict, examined: Examination, answer: Answer, scripted: str | None) -> int:
        return self.arrivals.keep(time.time(), verdict, examined, answer, scripted)

    async def _received(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit()) or len(after) > 15:
            return JSONResponse({"message": "after must be a whole number, the last id you know"}, 400)
        return Response(self.arrivals.after(int(after)), media_type="application/json")

    async def _extract_csv(self, _: Request) -> Response:
        return Response(as_csv(self.arrivals), media_type="text/csv; charset=utf-8")

    async def _extract_xlsx(self, _: Request) -> Response:
        return Response(as_xlsx(self.arrivals), media_type=XLSX)

    async def _faults(self, request: Request) -> Response:
        try:
            faults = FAULTS.validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"success": False, "errors": wrong_faults(error)}, 400)
        self.script.set(faults, time.monotonic())
        return JSONResponse({"success": True, "set": len(faults)})

    async def _page(self, request: Request) -> Response:
        shown = page(
            self.arrivals,
            self.path,
            self.script.active(time.monotonic()),
            request.query_params.get("dossier", ""),
            request.query_params.get("verdict", ""),
        )
        return HTMLResponse(shown, headers=PAGE_HEADERS)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "received": len(self.arrivals)})


class Severed(Response):
    """No answer: the connection ends. `reset`: with a TCP reset instead of an orderly end."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]
        if self._reset:
            # Closing a socket that lingers for no time resets the connection.
            connection: Any = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        # The server must have seen the end before we return, or it takes the missing answer for a defect of ours.
        while (await receive())["type"] != "http.disconnect":
            pass


async def _held(request: Request, seconds: float) -> bool:
    """Hold a request that was read to its end; False when the client gave up meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            await request.receive()  # after the body only http.disconnect can come
    except TimeoutError:
        return True
    return False


def _headers(fault: Fault, path: str) -> dict[str, str]:
    headers = {}
    if fault.status is not None and 300 <= fault.status < 400:
        # To itself, so that a client that follows shows up here: its GET is refused and kept.
        headers["Location"] = path
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    elif fault.retry_after_date is not None:
        headers["Retry-After"] = formatdate(time.time() + fault.retry_after_date, usegmt=True)
    return headers


def wrong_faults(error: ValidationError) -> list[str]:
    """What is wrong with a script of faults, one line each: where, and why."""
    return [
        f"{'.'.join(map(str, each['loc'])) or 'the list'}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]

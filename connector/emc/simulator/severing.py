"""Lets the application end a connection without an answer, which ASGI has no word for.

Invariant: every request's scope carries the connection's transport in its extensions, under `TRANSPORT`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "emc_cdc.transport"


class SeverableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with the transport in the ASGI scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        application: Any = self.config.loaded_app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {TRANSPORT: transport}
            await application(scope, receive, send)

        self.app = with_transport

"""The simulator as a server: a socket, TLS, the end at SIGTERM.

Contract: `serve` returns after SIGTERM or SIGINT, when the requests under way have been answered (at most
`GRACE` seconds later), or raises ConnectorError before it has announced its address. The address announced is
the real one, also when port 0 was asked for, and requests are taken from then on.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from connector.emc.simulator.application import Simulator
from connector.emc.simulator.arrivals import Arrivals
from connector.emc.simulator.faults import Fault, Script
from connector.emc.simulator.severing import SeverableProtocol
from connector.errors import ConnectorError

GRACE = 5
"""Seconds for the requests under way when told to end."""

HANDLED = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `port` 0 takes a free one. TLS when there is a certificate; its key may stand in the same file."""

    host: str = "127.0.0.1"
    port: int = 8043
    path: str = "/TrackingMCDT"
    keep: Path | None = None
    faults: tuple[Fault, ...] = ()
    seed: int = 1
    tls_cert: Path | None = None
    tls_key: Path | None = None


def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until told to end; `announce` is called once, with the URL that answers (without a path).

    To be called on the main thread. Raises ConnectorError when the address, the certificate or the file to keep
    cannot be used.
    """
    tls = _tls(options)
    arrivals = Arrivals(options.keep)
    try:
        with listen(options) as listening:
            script = Script(options.seed)
            script.set(list(options.faults), time.monotonic())
            config = uvicorn.Config(
                Simulator(options.path, arrivals, script).application,
                http=SeverableProtocol,
                ws="none",
                lifespan="off",
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE,
            )
            config.load()
            config.ssl = tls
            server = _Server(config, lambda: announce(_url(listening, tls is not None)))
            asyncio.run(server.serve(sockets=[listening]))
    finally:
        arrivals.close()


class _Server(uvicorn.Server):
    """Announces when it is ready, and takes a signal as a wish to end, not as a way to die."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after the graceful end, and so die of it.
        self.should_exit = True


def listen(options: Options) -> socket.socket:
    """A listening socket, to be closed by the caller. ConnectorError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listening = socket.create_server((options.host, options.port), family=family, backlog=512)
    except OSError as error:
        raise ConnectorError(
            "start the simulator",
            f"{options.host}:{options.port}",
            error.strerror or str(error),
            "choose another address with --listen; port 0 takes a free one",
        ) from None
    # Connections inherit it. asyncio sets it only where the socket's protocol is spelled out, which create_server does
    # not do; without it a kept-alive client waits 40 ms for the second half of every answer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _tls(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty passphrase fails at once where none would ask at the terminal.
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        raise ConnectorError(
            "start the simulator",
            str(options.tls_cert),
            f"the certificate and its key cannot be used: {error.strerror or error}",
            "give a PEM certificate with --tls-cert and its private key, without a passphrase, with --tls-key",
        ) from None
    return context


def _url(listening: socket.socket, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

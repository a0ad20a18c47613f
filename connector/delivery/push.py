"""One HTTP push: an attempt in, an outcome out.

Contract: `push` never raises for what the network or EMC does, and ends by its deadline. TLS is always verified,
against the system's authorities or emc.ca_file; redirects are not followed; proxies of the environment are not used;
at most 64 KiB of an answer are read, undecoded. Order and pacing are the outbox's business.

Transport: httpx over aiohttp's connections, because httpx's own pool costs several times more at tens of requests in
flight (docs/decisions/0003). That transport names every connection fault ConnectTimeout, also a reset after the request
went out, so `_sent` looks at aiohttp's own error underneath: only what surely happened before sending is unambiguous.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from connector.delivery.outbox import Attempt
from connector.delivery.outcome import Outcome, of_answer, of_failure
from connector.emc.wire import encode
from connector.errors import DeliveryError
from connector.settings import DeliverySettings, EmcSettings

_MOST_READ = 64 * 1024


class Pusher:
    """Pushes events to one EMC. An asynchronous context manager."""

    def __init__(self, emc: EmcSettings, delivery: DeliverySettings) -> None:
        self._emc = emc
        self._delivery = delivery
        self._headers = {name: value.get_secret_value() for name, value in emc.headers.items()}
        transport = AiohttpTransport(
            verify=tls_context(emc),
            trust_env=False,
            limits=httpx.Limits(max_connections=delivery.max_in_flight, keepalive_expiry=30.0),
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(delivery.deadline, connect=delivery.connect_timeout),
            # No decoding of answers: a few compressed bytes must not become gigabytes.
            headers={"User-Agent": "emc-cdc", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def push(self, attempt: Attempt) -> Outcome:
        """One POST of the attempt's event."""
        body = encode(attempt.event, self._emc)
        headers = {**self._headers, "Content-Type": body.content_type}
        try:
            async with (
                asyncio.timeout(self._delivery.deadline),
                self._client.stream("POST", self._emc.url, content=body.content, headers=headers) as response,
            ):
                read = bytearray()
                async for chunk in response.aiter_raw():
                    read += chunk
                    if len(read) >= _MOST_READ:
                        break
                answer = {name.lower(): value for name, value in response.headers.items()}
                return of_answer(response.status_code, answer, bytes(read), self._emc, time.time())
        except TimeoutError:
            return of_failure("no answer within the deadline", sent=True)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            return of_failure(_reason(error), sent=_sent(error))


def tls_context(emc: EmcSettings) -> ssl.SSLContext:
    """The verifying TLS context. DeliveryError when emc.ca_file cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(emc.ca_file) if emc.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise DeliveryError(
            "read emc.ca_file", str(emc.ca_file), f"{error}", "name a file of PEM certificates"
        ) from None


def _cause(error: BaseException) -> BaseException:
    """aiohttp's own error, where httpx has wrapped one."""
    cause = error.__cause__
    return cause if isinstance(cause, aiohttp.ClientError) else error


def _sent(error: BaseException) -> bool:
    """Whether the request may have reached EMC. True in doubt."""
    cause = _cause(error)
    before = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
        httpx.UnsupportedProtocol,
    )
    return not isinstance(cause, before)


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    match cause:
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: the certificate is refused: {cause.certificate_error}"
        case aiohttp.ClientConnectorSSLError():
            return f"TLS: {cause.strerror or 'the handshake failed'}"
        case aiohttp.ClientConnectorDNSError():
            return "the host name is not known"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {cause.os_error.strerror or cause.os_error}"
        case aiohttp.ConnectionTimeoutError():
            return "cannot connect in time"
        case aiohttp.SocketTimeoutError() | httpx.TimeoutException():
            return "no answer in time"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed without an answer"
        case _:
            return f"the connection broke ({type(cause).__name__})"

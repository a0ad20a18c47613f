"""One HTTP push: an attempt in, an outcome out.

Contract: `push` never raises for what the network or EMC does, and ends by its deadline. TLS is always verified,
against the system's authorities or emc.ca_file; redirects are not followed; proxies of the environment are not used;
cookies are not kept; at most 64 KiB of an answer are read, undecoded. Order and pacing are the outbox's business.

Transport: httpx over aiohttp's connections, because httpx's own pool costs several times more at tens of requests in
flight (docs/decisions/0003-httpx-over-aiohttp.md). The transport is asked without a client around it: what a client
adds (redirects, cookies, proxies, passwords of .netrc) must not happen here. The body is given as a stream, whose first
read tells that the connection stands and the request goes out: what fails before that is surely not at EMC, what fails
after it may be.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from connector.delivery.outcome import Outcome, Retry, of_answer, of_failure
from connector.emc.event import EmcEvent
from connector.emc.wire import encode
from connector.errors import DeliveryError
from connector.settings import DeliverySettings, EmcSettings

_MOST_READ = 64 * 1024
_KEEPALIVE = 4.0
"""Seconds that an idle connection is used again. Common servers close theirs after 5 s or more: a request sent into a
connection that is being closed would have to count as ambiguous."""


class Pusher:
    """Pushes events to one EMC. An asynchronous context manager; `clock`: seconds since the epoch."""

    def __init__(self, emc: EmcSettings, delivery: DeliverySettings, clock: Callable[[], float]) -> None:
        self._emc = emc
        self._deadline = delivery.deadline
        self._clock = clock
        self._url = _url(emc.url)
        self._headers = httpx.Headers({"User-Agent": "emc-cdc"})
        self._headers.update({name: value.get_secret_value() for name, value in emc.headers.items()})
        # No decoding of answers: a few compressed bytes must not become gigabytes.
        self._headers["Accept-Encoding"] = "identity"
        context = tls_context(emc)

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(
                ssl=context, limit=delivery.max_in_flight, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=30
            )
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        self._transport = AiohttpTransport(verify=context, trust_env=False, client=session)
        self._timeout = httpx.Timeout(delivery.deadline, connect=delivery.connect_timeout).as_dict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def push(self, event: EmcEvent) -> Outcome:
        """One POST of the event."""
        encoded = encode(event, self._emc)
        body = _Body(encoded.content)
        headers = self._headers.copy()
        headers["Content-Type"] = encoded.content_type
        headers["Content-Length"] = str(len(encoded.content))
        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions={"timeout": self._timeout})
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._transport.handle_async_request(request)
                try:
                    read = await _beginning(response)
                finally:
                    await response.aclose()
            answer = {name.lower(): value for name, value in response.headers.items()}
            return of_answer(response.status_code, answer, read, self._emc, self._clock())
        except TimeoutError:
            return of_failure("no answer within the deadline", sent=body.begun)
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            return _failure(error, body.begun)


async def _beginning(response: httpx.Response) -> bytes:
    """As much of the body as anybody looks at, undecoded."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    read = bytearray()
    async for chunk in response.stream:
        read += chunk
        if len(read) >= _MOST_READ:
            break
    return bytes(read)


class _Body:
    """A request's body; `begun` when its sending has begun."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        yield self._content


def tls_context(emc: EmcSettings) -> ssl.SSLContext:
    """The verifying TLS context. DeliveryError when emc.ca_file cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(emc.ca_file) if emc.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        cause = error.strerror if isinstance(error, FileNotFoundError) else "no certificate can be read from it"
        raise DeliveryError(
            "read emc.ca_file", str(emc.ca_file), cause or str(error), "name a file of PEM certificates"
        ) from None


def _url(text: str) -> httpx.URL:
    """The address. DeliveryError for what the settings let through and httpx does not."""
    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise DeliveryError("use emc.url", "the configuration", str(error), "write it as https://HOST/PATH") from None


_MEND_TLS = "check the host in emc.url, this machine's clock, and emc.ca_file if EMC's authority is not a public one"


def _failure(error: BaseException, sent: bool) -> Retry:
    # httpx wraps aiohttp's errors coarsely (a reset is a ConnectTimeout); the cause underneath is exact.
    cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    match cause:
        case aiohttp.ClientConnectorCertificateError():
            refused = cause.certificate_error
            told = refused.verify_message if isinstance(refused, ssl.SSLCertVerificationError) else str(refused)
            return of_failure(f"TLS: the certificate is refused: {told}", sent, _MEND_TLS)
        case aiohttp.ClientConnectorSSLError():
            return of_failure(f"TLS: {cause.strerror or 'the handshake failed'}", sent, _MEND_TLS)
        case aiohttp.ClientConnectorDNSError():
            return of_failure("the host name is not known", sent)
        case aiohttp.ClientConnectorError():
            return of_failure(f"cannot connect: {cause.os_error.strerror or cause.os_error}", sent)
        case aiohttp.ConnectionTimeoutError():
            return of_failure("cannot connect in time", sent)
        case aiohttp.ServerTimeoutError() | httpx.TimeoutException():
            return of_failure("no answer in time", sent)
        case aiohttp.ServerDisconnectedError():
            return of_failure("the connection was closed without an answer", sent)
        case _:
            return of_failure(f"the connection broke ({type(cause).__name__})", sent)

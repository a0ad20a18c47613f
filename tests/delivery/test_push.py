"""One push against real peers: what each answer, cut and delay becomes, and that TLS is verified."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trustme
from http_peer import OK, Handler, Peer, answering, reset

from connector.delivery.outcome import Delivered, Outcome, Reject, Retry
from connector.delivery.push import Pusher, tls_context
from connector.emc.event import EmcEvent, EmcUser
from connector.errors import DeliveryError
from connector.settings import DeliverySettings, EmcSettings

EVENT = EmcEvent(
    "000.00.11.H56-191203-1508",
    327,
    "2.000082",
    "Cấp đổi",
    1,
    1,
    0,
    4,
    0,
    0,
    "",
    EmcUser(None, "QG", 2, "000.00.02.H10"),
)


def push(url: str, times: int = 1, deadline: float = 10.0, **emc: object) -> list[Outcome]:
    """Push one event so many times, one after the other."""
    settings = EmcSettings.model_validate({"url": url, "plain_http": True} | emc)

    async def run() -> list[Outcome]:
        async with Pusher(settings, DeliverySettings(deadline=deadline, connect_timeout=5.0), time.time) as pusher:
            return [await pusher.push(EVENT) for _ in range(times)]

    return asyncio.run(run())


def against(handler: Handler, deadline: float = 10.0, **emc: object) -> tuple[Outcome, int]:
    """The outcome of one push, and how many requests arrived whole."""
    with Peer(handler) as peer:
        [outcome] = push(peer.url(), deadline=deadline, **emc)
        return outcome, len(peer.requests)


def test_an_accepted_event_is_delivered() -> None:
    """The request is the guide's form, of a known length, with the configured headers; the connection is used again."""
    with Peer(answering(OK)) as peer:
        assert push(peer.url(), 3, headers={"Authorization": "Bearer t"}) == [Delivered()] * 3
        assert peer.connections == 1
        head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /TrackingMCDT HTTP/1.1\r\n")
    assert b"authorization: bearer t" in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert parse_qs(body.decode())["CodeProfile"] == [EVENT.CodeProfile]


def test_a_redirect_is_never_followed() -> None:
    """No GET, no second host: a failure that a person must see."""
    with Peer(answering(OK)) as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n".encode()
        outcome, _ = against(answering(moved))
        assert isinstance(outcome, Retry)
        assert outcome.operator
        assert elsewhere.connections == 0


def test_rejections_carry_emc_s_words() -> None:
    """What EMC says is kept for the operator."""
    outcome, _ = against(answering(b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nsai"))
    assert outcome == Reject("HTTP 400", "sai")


def test_a_200_that_says_failure() -> None:
    """By the configured field and values."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + b'{"success":false}'
    outcome, _ = against(answering(answer), failure_field="success", failure_values=("false",))
    assert isinstance(outcome, Reject)


def test_taken_and_then_cut_is_ambiguous() -> None:
    """EMC read the whole request and died before its answer."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        reset(connection)

    outcome, arrived = against(handle)
    assert isinstance(outcome, Retry)
    assert (outcome.ambiguous, arrived) == (True, 1)


def test_closed_in_order_without_an_answer_is_ambiguous() -> None:
    """A FIN instead of an answer says nothing either."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)

    outcome, _ = against(handle)
    assert isinstance(outcome, Retry)
    assert outcome.ambiguous


def test_half_an_answer_is_ambiguous() -> None:
    """The status was 200, but the body ended early."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        connection.sendall(OK[:-5])

    outcome, _ = against(handle)
    assert isinstance(outcome, Retry)
    assert outcome.ambiguous


@pytest.mark.parametrize(
    "garbage", [b"\0" * 100, b"HTTP/9.9 abc\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000]
)
def test_something_that_is_not_http_is_ambiguous(garbage: bytes) -> None:
    """Whoever answers so may have read the request."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        connection.sendall(garbage)

    outcome, _ = against(handle)
    assert isinstance(outcome, Retry)
    assert outcome.ambiguous


def test_nobody_there_is_not_ambiguous() -> None:
    """A refused connection has carried nothing."""
    with Peer(answering(OK)) as peer:
        url = peer.url()
    [outcome] = push(url)
    assert isinstance(outcome, Retry)
    assert not outcome.ambiguous
    assert "cannot connect" in outcome.reason


def test_an_unknown_host_is_not_ambiguous() -> None:
    """Its name is not resolved, so nothing went out."""
    [outcome] = push("http://emc.invalid/TrackingMCDT")
    assert isinstance(outcome, Retry)
    assert not outcome.ambiguous


def test_a_dns_that_hangs_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing went out, so it is not ambiguous."""
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "given up")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    timer = threading.Timer(1.0, over.set)  # the resolver's thread must end some time after the deadline
    timer.start()
    [outcome] = push("http://emc.example/TrackingMCDT", deadline=0.3)
    timer.join()
    assert outcome == Retry("no answer within the deadline")


def waits(peer: Peer, connection: socket.socket) -> None:
    peer.read_request(connection)
    peer.ended.wait()


def drips(peer: Peer, connection: socket.socket) -> None:
    peer.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not peer.ended.wait(0.02):
        connection.sendall(b" ")


@pytest.mark.parametrize("handler", [waits, drips], ids=["silence", "a slow body"])
def test_the_deadline_fires(handler: Callable[[Peer, socket.socket], None]) -> None:
    """However EMC dawdles after the request, the attempt ends, and is ambiguous."""
    with Peer(handler) as peer:
        [outcome] = push(peer.url(), deadline=0.5)
        assert isinstance(outcome, Retry)
        assert outcome.ambiguous


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """64 KiB are enough to know; the rest is left, and the connection with it."""

    def handle(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        connection.sendall(b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(b"no " * 10_000)

    outcome, _ = against(handle)
    assert isinstance(outcome, Reject)
    assert outcome.detail.startswith("no no")


def test_a_compressed_answer_is_not_expanded() -> None:
    """We ask for none, and would not unpack one."""
    bomb = b"\x1f\x8b" + b"\0" * 50
    answer = b"HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nContent-Length: 52\r\n\r\n" + bomb
    with Peer(answering(answer)) as peer:
        [outcome] = push(peer.url())
        assert b"accept-encoding: identity" in peer.requests[0].lower()
    assert isinstance(outcome, Reject)


def test_configured_headers_replace_ours_in_any_case() -> None:
    """But not what makes the request readable."""
    given = {"user-agent": "so-tttt", "content-type": "text/plain", "ACCEPT-ENCODING": "gzip", "X-Key": "k"}
    with Peer(answering(OK)) as peer:
        assert push(peer.url(), headers=given) == [Delivered()]
        head = peer.requests[0].partition(b"\r\n\r\n")[0].lower()
    lines = [
        line for line in head.split(b"\r\n") if line.startswith((b"user-agent", b"content-type", b"accept-e", b"x-"))
    ]
    assert sorted(lines) == [
        b"accept-encoding: identity",
        b"content-type: application/x-www-form-urlencoded; charset=utf-8",
        b"user-agent: so-tttt",
        b"x-key: k",
    ]


def test_cookies_are_not_kept() -> None:
    """Each event stands alone."""
    answer = b"HTTP/1.1 204 No Content\r\nSet-Cookie: s=1\r\n\r\n"
    with Peer(answering(answer)) as peer:
        push(peer.url(host="localhost"), 2)
        assert not any(b"cookie" in request.lower() for request in peer.requests)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is meant for browsers would see citizens' data."""
    with Peer(answering(OK)) as peer, Peer(answering(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert push(peer.url()) == [Delivered()]
        assert proxy.connections == 0


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def tls_push(authority: trustme.CA, certificate: trustme.LeafCert, ca_file: Path, host: str) -> tuple[Outcome, int]:
    authority.cert_pem.write_to_path(str(ca_file))
    with Peer(answering(OK), serving(certificate)) as peer:
        [outcome] = push(peer.url("https", host), ca_file=ca_file)
        return outcome, len(peer.requests)


def test_a_verified_certificate_is_accepted(authority: trustme.CA, tmp_path: Path) -> None:
    """The authority of emc.ca_file, the right host, in time."""
    certificate = authority.issue_cert("localhost")
    assert tls_push(authority, certificate, tmp_path / "ca.pem", "localhost") == (Delivered(), 1)


def test_a_certificate_of_another_host_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    """Nothing is sent, a person is told, nothing counts as ambiguous."""
    outcome, arrived = tls_push(authority, authority.issue_cert("emc.example"), tmp_path / "ca.pem", "localhost")
    assert isinstance(outcome, Retry)
    assert (arrived, outcome.ambiguous, bool(outcome.operator)) == (0, False, True)
    assert "localhost" in outcome.reason


def test_an_expired_certificate_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    """Nothing is sent, and the reason says that it has expired."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    outcome, arrived = tls_push(
        authority, authority.issue_cert("localhost", not_after=past), tmp_path / "ca.pem", "localhost"
    )
    assert isinstance(outcome, Retry)
    assert (arrived, outcome.ambiguous, bool(outcome.operator)) == (0, False, True)
    assert "expired" in outcome.reason


def test_an_unknown_authority_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    """Also with the system's authorities, which do not know it either."""
    certificate = trustme.CA().issue_cert("localhost")
    outcome, arrived = tls_push(authority, certificate, tmp_path / "ca.pem", "localhost")
    assert isinstance(outcome, Retry)
    assert (arrived, bool(outcome.operator)) == (0, True)
    with Peer(answering(OK), serving(certificate)) as peer:
        [outcome] = push(peer.url("https", "localhost"))
        assert isinstance(outcome, Retry)
        assert (outcome.ambiguous, bool(outcome.operator), peer.requests) == (False, True, [])


def test_a_server_without_tls_is_refused() -> None:
    """https to a plain port: nothing of the event is sent."""
    with Peer(answering(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")) as peer:
        [outcome] = push(peer.url("https"), deadline=1.0)
        assert isinstance(outcome, Retry)
        assert (outcome.ambiguous, peer.requests) == (False, [])


@pytest.mark.parametrize("url", ["https://256.256.1.1/T", "https://emc.example/\x7f"])
def test_an_unusable_address_is_told(url: str) -> None:
    """Before anything is pushed; the settings let some nonsense through."""
    with pytest.raises(DeliveryError) as caught:
        push(url)
    assert "https://HOST" in caught.value.mend


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "not PEM"])
def test_an_unusable_ca_file_is_told(tmp_path: Path, content: bytes | None) -> None:
    """Before anything is pushed."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DeliveryError) as caught:
        tls_context(EmcSettings(ca_file=file))
    assert "PEM" in caught.value.mend

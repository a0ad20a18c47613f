"""What answers at emc.url, with real sockets: an API, a redirect, a portal's page, something that is not HTTP."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from emc.simulator_process import simulator

from connector.finding import Finding, Severity
from connector.preflight.emc_answer import check_answer
from connector.settings import EmcSettings

HTML = "Content-Type: text/html; charset=utf-8"


class Answering:
    """Takes one connection on loopback, keeps what it is asked, answers with the same bytes whatever it was."""

    def __init__(self, answer: bytes, certificate: trustme.LeafCert | None = None, patient: bool = False) -> None:
        self.asked = b""
        self._answer = answer
        self._certificate = certificate
        self._patient = patient
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with self._listening, connection:
            connection.settimeout(20)
            try:
                if self._certificate is not None:
                    context = trustme_context(self._certificate)
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        self._serve_over(wrapped)
                else:
                    self._serve_over(connection)
            except OSError:
                pass

    def _serve_over(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in self.asked and (part := connection.recv(1000)):
            self.asked += part
        connection.sendall(self._answer)
        if self._patient:
            connection.recv(1000)


def trustme_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@contextmanager
def answering(answer: bytes, certificate: trustme.LeafCert | None = None, patient: bool = False) -> Iterator[Answering]:
    made = Answering(answer, certificate, patient)
    yield made
    made.thread.join(20)


def http(status: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", body)).encode()


def found(answer: bytes, path: str = "/TrackingMCDT") -> Finding:
    with answering(answer) as emc:
        return check_answer(EmcSettings(url=f"http://127.0.0.1:{emc.port}{path}"), 5.0)


@pytest.mark.parametrize(
    "status", ["200 OK", "204 No Content", "400 Bad Request", "401 Unauthorized", "405 Not", "501 No"]
)
def test_an_api_is_in_order(status: str) -> None:
    """Whatever it thinks of OPTIONS, an API is there; also where its web server explains itself in HTML."""
    told = found(http(status, "Allow: POST"))
    assert (told.check, told.severity) == ("EMC-C3", Severity.OK)
    assert status[:3] in told.what
    if status[0] == "4":
        assert found(http(status, HTML, body="<h1>no</h1>")).severity is Severity.OK


def test_nothing_is_sent_but_the_question() -> None:
    """No body, no event, none of emc.headers, no password of the address."""
    with answering(http("405 Method Not Allowed")) as emc:
        address = f"http://nguoi:mat-khau@127.0.0.1:{emc.port}/TrackingMCDT?v=1 2"
        check_answer(EmcSettings(url=address, headers={"Authorization": "Bearer bi-mat"}))
    head, _, body = emc.asked.partition(b"\r\n\r\n")
    assert body == b""
    assert head.split(b"\r\n") == [
        b"OPTIONS /TrackingMCDT?v=1%202 HTTP/1.1",
        f"Host: 127.0.0.1:{emc.port}".encode(),
        b"User-Agent: emc-cdc check",
        b"Connection: close",
    ]


@pytest.mark.parametrize(
    ("answer", "says", "mend"),
    [
        (
            http("301 Moved", "Location: https://u:p@emc.example/moi?token=x", body="x"),
            "it redirects to https://emc.example/moi (HTTP 301)",
            "emc.url: https://emc.example/moi",
        ),
        (http("302 Found", "location: /dang-nhap"), "it redirects to /dang-nhap", "EMC's real address"),
        (http("307 Temporary"), "it redirects to nowhere", "EMC's real address"),
        (http("200 OK", HTML, body="<html>Cổng"), "a page in HTML answers (HTTP 200)", "sign-in page"),
        (http("404 Not Found", HTML), "nothing is known there of /TrackingMCDT", "path of emc.url"),
        (http("407 Proxy"), "a proxy wants a password", "directly"),
        (http("503 Service Unavailable", HTML), "it fails now (HTTP 503)", "events wait in the outbox"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "is not HTTP", "emc.url names EMC itself"),
        (b"HTTP/1.1 abc\r\n\r\n", "is not HTTP", "emc.url names EMC itself"),
        (b"x" * 40_000, "is not HTTP", "emc.url names EMC itself"),
        (b"", "without an answer", "curl -v -X OPTIONS http://127.0.0.1"),
    ],
)
def test_what_is_no_api(answer: bytes, says: str, mend: str) -> None:
    """Each is warned of with what to look at; secrets of a redirect's address are not repeated."""
    told = found(answer)
    assert told.severity is Severity.WARNING
    assert says in told.what
    assert mend in told.mend[0]
    assert "token" not in str(told)


def test_who_never_answers_is_not_waited_for() -> None:
    """Silence, and half a head: after the timeout it is told."""
    for answer in (b"", b"HTTP/1.1 200 OK\r\nX: "):
        with answering(answer, patient=True) as emc:
            told = check_answer(EmcSettings(url=f"http://127.0.0.1:{emc.port}/TrackingMCDT"), 0.3)
        assert (told.severity, told.what) == (Severity.WARNING, "it does not answer OPTIONS in time")


def test_over_tls(tmp_path: Path) -> None:
    """The question goes over a verified connection only."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    for trusted in (True, False):
        with answering(http("405 Method"), authority.issue_cert("127.0.0.1")) as emc:
            url = f"https://127.0.0.1:{emc.port}/TrackingMCDT"
            told = check_answer(EmcSettings(url=url, ca_file=file if trusted else None))
        assert told.severity is (Severity.OK if trusted else Severity.WARNING)
        assert bool(emc.asked) is trusted


def test_the_simulator_is_an_api_and_keeps_nothing_of_it() -> None:
    """The strict EMC answers, and has received no event, not even a refused one."""
    with simulator() as emc, httpx.Client(trust_env=False) as client:
        assert check_answer(EmcSettings(url=emc.api)).severity is Severity.OK
        assert emc.received(client) == []

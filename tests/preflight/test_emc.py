"""EMC's address: every way of not getting there, with real sockets and certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from connector.finding import Finding, Severity
from connector.preflight.emc import check_emc
from connector.settings import EmcSettings

NOW = datetime.now(UTC)


class Peer:
    """Takes connections on loopback; with a certificate it makes the handshake, and keeps what comes after it."""

    def __init__(self, certificate: trustme.LeafCert | None, *, mute: bool = False) -> None:
        self.received = b""
        self._mute = mute
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(self._context)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            connection.settimeout(20)
            try:
                if self._context is not None:
                    with self._context.wrap_socket(connection, server_side=True) as wrapped:
                        self.received = wrapped.recv(1000)
                elif self._mute:
                    while connection.recv(1000):
                        pass
                else:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            except OSError:
                pass

    def end(self) -> None:
        self._thread.join(20)
        self._listening.close()


@contextmanager
def peer(certificate: trustme.LeafCert | None, *, mute: bool = False) -> Iterator[Peer]:
    made = Peer(certificate, mute=mute)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def looked_at(url: str, ca_file: Path | None = None, timeout: float = 5.0) -> Finding:
    """The finding that matters most."""
    findings = check_emc(EmcSettings(url=url, ca_file=ca_file), NOW, timeout)
    return max(findings, key=lambda one: list(Severity).index(one.severity))


def test_a_trusted_peer_is_in_order_and_hears_nothing(authority: trustme.CA, ca_file: Path) -> None:
    """With a certificate that is trusted all is well, and not a byte of a request was sent."""
    certificate = authority.issue_cert("127.0.0.1", not_after=NOW + timedelta(days=90))
    with peer(certificate) as emc:
        findings = check_emc(EmcSettings(url=f"https://127.0.0.1:{emc.port}/TrackingMCDT", ca_file=ca_file), NOW)
    assert [(one.check, one.severity) for one in findings] == [("EMC-C1", Severity.OK), ("EMC-C2", Severity.OK)]
    assert "days)" in findings[1].what
    assert emc.received == b""


def test_an_expiry_that_is_near_is_warned_of(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate with less than a month to live is a warning with its date."""
    until = NOW + timedelta(days=10, hours=1)
    with peer(authority.issue_cert("127.0.0.1", not_after=until)) as emc:
        found = looked_at(f"https://127.0.0.1:{emc.port}/", ca_file)
    assert found.severity is Severity.WARNING
    assert f"{until:%Y-%m-%d} (10 days)" in found.what


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "says", "mend"),
    [
        ("127.0.0.1", True, True, "expired", "EMC must renew it"),
        ("emc.example", False, True, "mismatch", "correct the host in emc.url"),
        ("127.0.0.1", False, False, "unable to get local issuer certificate", "emc.ca_file:"),
    ],
    ids=["expired", "wrong-host", "unknown-authority"],
)
def test_certificates_that_are_refused(
    authority: trustme.CA, ca_file: Path, name: str, expired: bool, trusted: bool, says: str, mend: str
) -> None:
    """Expired, another host's, an unknown authority's: each is an error with its own mend."""
    until = NOW + timedelta(days=-1 if expired else 90)
    certificate = authority.issue_cert(name, not_before=NOW - timedelta(days=100), not_after=until)
    with peer(certificate) as emc:
        found = looked_at(f"https://127.0.0.1:{emc.port}/", ca_file if trusted else None)
    assert (found.check, found.severity) == ("EMC-C2", Severity.ERROR)
    assert says in found.what
    assert mend in found.mend[0]


def test_a_port_without_tls_is_told() -> None:
    """Something that answers in plain HTTP on the TLS port is no EMC."""
    with peer(None) as emc:
        found = looked_at(f"https://127.0.0.1:{emc.port}/")
    assert (found.check, found.severity) == ("EMC-C2", Severity.ERROR)
    assert "no TLS connection" in found.what


def test_a_peer_that_never_answers_is_not_waited_for() -> None:
    """A handshake that hangs ends with the timeout."""
    with peer(None, mute=True) as emc:
        found = looked_at(f"https://127.0.0.1:{emc.port}/", timeout=0.2)
    assert "no TLS connection" in found.what


def test_nobody_there() -> None:
    """A port that nobody listens on, and a name without address: errors that say how to look."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = looked_at(f"https://127.0.0.1:{port}/TrackingMCDT")
    assert (found.check, found.severity) == ("EMC-C1", Severity.ERROR)
    assert f"127.0.0.1:{port} cannot be reached: Connection refused" in found.what
    assert "none is lost" in found.mend[0]
    found = looked_at("https://khong-co.invalid/TrackingMCDT")
    assert (found.check, found.severity) == ("EMC-C1", Severity.ERROR)
    assert "khong-co.invalid has no address" in found.what


def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver has no timeout: what hangs there is left behind, and told."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) and [])
    try:
        found = looked_at("https://emc.example/TrackingMCDT", timeout=0.1)
    finally:
        over.set()
    assert (found.check, found.severity) == ("EMC-C1", Severity.ERROR)
    assert "no answer from the name server" in found.what


def test_a_simulator_without_tls_is_noted() -> None:
    """Plain HTTP on loopback is allowed, and noted."""
    with peer(None) as emc:
        found = looked_at(f"http://127.0.0.1:{emc.port}/")
    assert found.severity is Severity.NOTE


def test_an_authority_file_that_is_none(tmp_path: Path) -> None:
    """emc.ca_file that is missing or no PEM is named."""
    empty = tmp_path / "rong.pem"
    empty.write_text("not a certificate", encoding="ascii")
    for path in (empty, tmp_path / "khong-co.pem"):
        with peer(None) as emc:
            found = looked_at(f"https://127.0.0.1:{emc.port}/", path)
        assert found.severity is Severity.ERROR
        assert str(path) in found.what

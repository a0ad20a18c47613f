"""Checks of EMC's address: name, connection, certificate.

Contract: nothing is sent to the API, so no event is ever made up: the connection ends after the TLS handshake. Every
wait is bounded, a slow name server's, too. The certificate is verified as the push verifies it; that cannot be
turned off.

| check | asks |
|---|---|
| EMC-C1 | the host has an address, and takes connections |
| EMC-C2 | its certificate is trusted, is this host's, and does not expire soon |
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import Future, TimeoutError
from datetime import UTC, datetime
from threading import Thread
from urllib.parse import urlsplit

from connector.finding import Finding, Severity, ok
from connector.settings import EmcSettings

_SOON_DAYS = 30
SUBJECT = "emc.url"

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_EXPIRED, _NOT_YET_VALID, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64


def check_emc(settings: EmcSettings, now: datetime, timeout: float = 5.0) -> list[Finding]:
    """Whether EMC can be reached, and its certificate be trusted. now: with time zone; timeout: seconds per step."""
    parts = urlsplit(settings.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    where = f"{host}:{port}"
    try:
        addresses = _resolve(host, port, timeout)
    except (OSError, UnicodeError, TimeoutError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else "no answer from the name server"
        mend = (f"correct the host in emc.url, or this machine's DNS (try: getent hosts {host})",)
        return [_error("EMC-C1", f"{host} has no address: {cause}", mend)]
    try:
        plain = _connect(addresses, timeout)
    except OSError as error:
        mend = (
            f"let this machine reach {where} (firewall, route; try: nc -vz {host} {port});"
            " until then events wait in the outbox, none is lost",
        )
        return [_error("EMC-C1", f"{where} cannot be reached: {error.strerror or error}", mend)]
    with plain:
        reached = ok("EMC-C1", SUBJECT, f"{where} takes connections")
        if not secure:
            what = "no TLS: for a simulator only"
            return [reached, Finding("EMC-C2", Severity.NOTE, SUBJECT, what)]
        return [reached, _certificate(settings, plain, host, now)]


class Unreachable(Exception):
    """EMC's address does not lead to a connection."""


def connect(settings: EmcSettings, timeout: float) -> socket.socket:
    """A connection to EMC, verified as the push verifies it. Unreachable or OSError when there is none."""
    parts = urlsplit(settings.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    try:
        plain = _connect(_resolve(host, parts.port or (443 if secure else 80), timeout), timeout)
    except (UnicodeError, TimeoutError) as error:
        raise Unreachable("no answer from the name server") from error
    if not secure:
        return plain
    try:
        return _trusting(settings).wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _resolve(host: str, port: int, timeout: float) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """The system's resolver has no timeout of its own; a thread that still waits for it ends with the program."""
    found: Future[list[tuple[socket.AddressFamily, tuple[object, ...]]]] = Future()

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result([(row[0], row[4]) for row in rows])
        except (OSError, UnicodeError) as error:
            found.set_exception(error)

    Thread(target=ask, name="resolve EMC", daemon=True).start()
    return found.result(timeout)


def _connect(addresses: list[tuple[socket.AddressFamily, tuple[object, ...]]], timeout: float) -> socket.socket:
    """The first address that takes the connection; the last one's error when none does."""
    failure: OSError | None = None
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError("no address")


def _certificate(settings: EmcSettings, plain: socket.socket, host: str, now: datetime) -> Finding:
    try:
        context = _trusting(settings)
    except OSError as error:
        what = f"{settings.ca_file} cannot be used: {error.strerror or 'no PEM certificates in it'}"
        return _error("EMC-C2", what, ("emc.ca_file: a file of PEM certificates",))
    try:
        with context.wrap_socket(plain, server_hostname=host) as wrapped:
            return _expiry(wrapped.getpeercert() or {}, now)
    except ssl.SSLCertVerificationError as error:
        return _error("EMC-C2", f"the certificate is refused: {error.verify_message}", (_mend(error, host),))
    except OSError as error:
        cause = error.reason if isinstance(error, ssl.SSLError) else error.strerror or "no answer in time"
        mend = ("see that emc.url names EMC itself, on its TLS port, and not a proxy in between",)
        return _error("EMC-C2", f"no TLS connection: {cause}", mend)


def _trusting(settings: EmcSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)


def _mend(error: ssl.SSLCertVerificationError, host: str) -> str:
    match error.verify_code:
        case code if code in (_EXPIRED, _NOT_YET_VALID):
            return "set this machine's clock if it is wrong (timedatectl); otherwise EMC must renew it: tell them"
        case code if code in (_WRONG_HOST, _WRONG_ADDRESS):
            return f"correct the host in emc.url, or find out who answers for {host}"
        case _:
            return "emc.ca_file: the PEM file of EMC's authority, got from EMC (this check is never turned off)"


def _expiry(certificate: Mapping[str, object], now: datetime) -> Finding:
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days = (until - now).days
    what = f"the certificate is trusted, and valid until {until:%Y-%m-%d} ({days} days)"
    if days < _SOON_DAYS:
        mend = ("EMC must renew it: tell them",)
        return Finding("EMC-C2", Severity.WARNING, SUBJECT, what, mend, "operator")
    return ok("EMC-C2", SUBJECT, what)


def _error(check: str, what: str, mend: tuple[str, ...]) -> Finding:
    return Finding(check, Severity.ERROR, SUBJECT, what, mend, "operator")

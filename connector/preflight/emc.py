"""Checks of EMC's address: name, connection, certificate. Nothing is sent to the API, so no event is ever made up."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from connector.errors import ConnectorError
from connector.preflight.finding import Finding, Severity, ok
from connector.settings import EmcSettings

_TIMEOUT = 5.0
_SOON_DAYS = 30


def check_emc(settings: EmcSettings, now: datetime) -> list[Finding]:
    """Whether EMC can be reached, and its certificate be trusted. `now`: with time zone."""
    parts = urlsplit(settings.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    subject = "emc.url"
    try:
        port = parts.port or (443 if secure else 80)
        with socket.create_connection((host, port), _TIMEOUT) as plain:
            if not secure:
                return [Finding("EMC-C2", Severity.NOTE, subject, "reached, without TLS (for a simulator only)")]
            context = _context(settings)
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                return [_expiry(wrapped.getpeercert() or {}, now)]
    except ConnectorError as error:
        return [Finding("EMC-C1", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")]
    except ssl.SSLCertVerificationError as error:
        what = f"the certificate is refused: {error.verify_message}"
        mend = "name the authority's file in emc.ca_file, or correct the host name; verification is never turned off"
        return [Finding("EMC-C2", Severity.ERROR, subject, what, (mend,), "operator")]
    except (OSError, ValueError) as error:
        mend = (
            f"check emc.url and that this machine may reach {host}; until then events wait in the outbox, none is lost"
        )
        return [Finding("EMC-C1", Severity.WARNING, subject, f"cannot be reached: {error}", (mend,), "operator")]


def _context(settings: EmcSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConnectorError(
            "read emc.ca_file", str(settings.ca_file), str(error), "name a file of PEM certificates"
        ) from None


def _expiry(certificate: Mapping[str, object], now: datetime) -> Finding:
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days = (until - now).days
    what = f"reached; the certificate is trusted, and valid for {days} more days"
    if days < _SOON_DAYS:
        return Finding("EMC-C2", Severity.WARNING, "emc.url", what, ("EMC must renew it; tell them",), "operator")
    return ok("EMC-C2", "emc.url", what)

"""Connections to the legacy database: one for replication, ordinary ones for questions.

Contract: every failure becomes a SourceError or SourceUnavailable with the mend; the connection string, which may hold
a password, is never part of a text. Settings that fix the text form of values (TimeZone, DateStyle, …) are made here,
so that nothing else depends on the server's.
"""

from __future__ import annotations

import select
import time

import psycopg
from psycopg import conninfo, pq, sql

from connector.errors import SourceError, SourceUnavailable
from connector.settings import SourceSettings

_CONNECT_SECONDS = 10.0
_TEXT_FORM = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex"

# SQLSTATE classes and codes after which the same attempt may work later (PostgreSQL Appendix A).
_TRANSIENT = ("08", "53", "57P", "55006", "25P02")


def ask(settings: SourceSettings, *, application: str = "emc-cdc") -> psycopg.Connection:
    """An ordinary, read-only, autocommitting connection with the configured timeouts."""
    options = (
        f"{_TEXT_FORM} -c default_transaction_read_only=on"
        f" -c statement_timeout={int(settings.statement_timeout * 1000)}"
        f" -c lock_timeout={int(settings.lock_timeout * 1000)}"
    )
    parameters = _parameters(settings, options, application)
    try:
        return psycopg.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise connect_error(str(error), error.sqlstate) from None


def untouched(settings: SourceSettings, *, application: str) -> psycopg.Connection:
    """An ordinary connection on which nothing is set, as an application's begins: to see what the server sets."""
    parameters = _parameters(settings, "", application)
    if not parameters["options"]:
        del parameters["options"]
    try:
        return psycopg.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise connect_error(str(error), error.sqlstate) from None


def replicate(settings: SourceSettings, server_version: int) -> pq.abc.PGconn:
    """A replication connection to the database, in psycopg's lowest form (PostgreSQL section 55.4).

    The server gives up on a lost host after 8 s (12 and later), so that the slot is free for the next.
    """
    options = _TEXT_FORM + (" -c wal_sender_timeout=8s" if server_version >= 120000 else "")
    parameters = _parameters(settings, options, "emc-cdc capture")
    line = conninfo.make_conninfo("", **parameters, replication="database")
    connection = pq.PGconn.connect_start(line.encode())
    seconds = float(parameters["connect_timeout"]) or _CONNECT_SECONDS
    if not _connected(connection, time.monotonic() + seconds * (1 + parameters.get("host", "").count(","))):
        message = connection.error_message.decode(errors="replace") or f"no answer within {seconds:.0f} s"
        connection.finish()
        raise connect_error(message, None, parameters.get("user", "<role>"))
    return connection


def _connected(connection: pq.abc.PGconn, deadline: float) -> bool:
    """Go through libpq's steps. Its own blocking connect would hold the interpreter's lock, and so every thread."""
    while connection.status != pq.ConnStatus.BAD:
        match connection.connect_poll():
            case pq.PollingStatus.OK:
                return True
            case pq.PollingStatus.READING:
                readers, writers = [connection.socket], []
            case pq.PollingStatus.WRITING:
                readers, writers = [], [connection.socket]
            case _:
                return False
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(readers, writers, [], left)):
            return False
    return False


def connect_error(message: str, sqlstate: str | None, role: str = "<role>") -> SourceError:
    """What a failed connection means, by SQLSTATE or by libpq's words, and what mends it. role: who connects."""
    cause = " ".join(message.split())
    lowered = cause.lower()
    operation, subject = "connect to PostgreSQL", "source.dsn"
    if 'missing "="' in lowered or "invalid connection option" in lowered or "invalid uri" in lowered:
        return SourceError(
            operation,
            subject,
            "it is not a connection string",
            "write `host=… port=5432 dbname=… user=… password=${env:NAME}` or postgresql://user@host:5432/database",
        )
    if "unsupported startup parameter" in lowered:
        return SourceError(
            operation,
            subject,
            f"a connection pooler (such as PgBouncer) answers, which cannot pass replication on: {cause}",
            "write the host and port of PostgreSQL itself into source.dsn, not those of the pooler",
        )
    if "permission denied to start wal sender" in lowered or "must be superuser or replication role" in lowered:
        quoted = role if role == "<role>" else sql.Identifier(role).as_string(None)
        mend = f"as a superuser: ALTER ROLE {quoted} WITH REPLICATION;"
        return SourceError(operation, subject, "the role may not replicate", mend)
    if "password authentication failed" in lowered or "no password supplied" in lowered:
        return SourceError(operation, subject, cause, "check user and password in source.dsn")
    if "no pg_hba.conf entry" in lowered:
        return SourceError(
            operation, subject, cause, "add the host to pg_hba.conf (replication uses the entry of the database itself)"
        )
    if "does not exist" in lowered:
        return SourceError(operation, subject, cause, "check dbname and user in source.dsn")
    if "could not translate host name" in lowered or "name or service not known" in lowered:
        return SourceUnavailable(operation, subject, cause, "check the host name in source.dsn")
    if sqlstate is not None and not sqlstate.startswith(_TRANSIENT):
        return SourceError(operation, subject, cause, "check source.dsn")
    return SourceUnavailable(operation, subject, cause, "check host and port in source.dsn, and that PostgreSQL runs")


def command_error(operation: str, subject: str, error: psycopg.Error, mend: str) -> SourceError:
    """What a failed statement means. `mend` is for errors that trying again cannot help."""
    state = error.sqlstate or "08"
    cause = error.diag.message_primary or " ".join(str(error).split())
    if state.startswith(_TRANSIENT):
        return SourceUnavailable(operation, subject, cause, "PostgreSQL is away or busy; the connector tries again")
    return SourceError(operation, subject, cause, mend)


def _parameters(settings: SourceSettings, options: str, application: str) -> dict[str, str]:
    try:
        parameters = conninfo.conninfo_to_dict(settings.dsn.get_secret_value())
    except psycopg.Error as error:
        raise connect_error(str(error).splitlines()[0], None) from None
    own = str(parameters.pop("options", "") or "")
    merged = {name: str(value) for name, value in parameters.items() if value is not None}
    merged.setdefault("connect_timeout", f"{_CONNECT_SECONDS:.0f}")
    # A host that vanished is noticed in about 25 s instead of hours (cases: connection black-holed).
    merged |= {
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }
    return merged | {"options": f"{own} {options}".strip(), "application_name": application, "client_encoding": "UTF8"}

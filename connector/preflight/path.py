"""The way to the server: that it is the server itself that answers, and what a session of the role begins with.

| check | asks |
|---|---|
| PG-40 | no connection pooler stands in between |
| PG-41 | a replication connection can be made: it is made |
| PG-43 | what zone times without zone are in |

Contract: `walk` connects once more for each question and leaves nothing behind. A pooler is known by what it cannot
hide: the process that answers is not the one that was named when the connection began, or what the connection asked
for at its beginning is not in force. Either is true of PgBouncer; a plain TCP proxy shows neither, and harms nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from connector.catalog.survey import Survey
from connector.errors import ConnectorError
from connector.finding import Finding, Severity, ok
from connector.settings import SourceSettings
from connector.source.connection import command_error, replicate, untouched
from connector.source.slot import identify_system

# Who answers, where it listens, and whether what `ask` wants at the beginning is in force.
_ANSWER = """
SELECT pg_backend_pid(), host(inet_server_addr()), coalesce(inet_server_port()::text, current_setting('port')),
       current_setting('default_transaction_read_only') = 'on'
"""

_VIETNAM = ("Asia/Ho_Chi_Minh", "Asia/Saigon", "Asia/Bangkok", "Etc/GMT-7")


@dataclass(frozen=True, slots=True)
class Answer:
    """`named`: the process that the beginning of the connection named; `pid`: the one that answers.

    `host`, `port`: where that server itself listens, host None on a unix socket. `kept`: settings made at the beginning
    are in force.
    """

    named: int
    pid: int
    host: str | None
    port: str
    kept: bool


def answer(connection: psycopg.Connection) -> Answer:
    """Who answers on a connection that `ask` made. SourceError when nobody does (in time)."""
    try:
        row = connection.execute(_ANSWER).fetchall()[0]
    except psycopg.Error as error:
        raise command_error("ask who answers", "source.dsn", error, "run it again") from None
    return Answer(connection.info.backend_pid, *row)


def check_pooler(found: Answer) -> Finding:
    """PG-40."""
    if found.named == found.pid and found.kept:
        return ok("PG-40", "source.dsn", "PostgreSQL itself answers, no connection pooler")
    evidence = []
    if found.named != found.pid:
        evidence.append(f"the connection was given to process {found.named}, and process {found.pid} answers")
    if not found.kept:
        evidence.append("settings that the connection made at its beginning are not in force")
    host = f"host={found.host} " if found.host else ""
    mend = (f"source.dsn: PostgreSQL's own address, which it says is {host}port={found.port}",)
    what = (
        f"a connection pooler (such as PgBouncer) stands in between: {'; '.join(evidence)}."
        " Capture needs a session and a replication connection of its own"
    )
    return Finding("PG-40", Severity.ERROR, "source.dsn", what, mend, "operator")


def check_replication(settings: SourceSettings, version: int) -> Finding:
    """PG-41. The connection is closed again; nothing is made with it."""
    try:
        replication = replicate(settings, version)
        try:
            system = identify_system(replication)
        finally:
            replication.finish()
    except ConnectorError as error:
        return Finding("PG-41", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")
    what = f"a replication connection was made (system {system.system_id}, timeline {system.timeline})"
    return ok("PG-41", "source.dsn", what)


def session_zone(settings: SourceSettings) -> str:
    """The zone that a session of the role has when nobody asks for another. SourceError when it cannot be read."""
    with untouched(settings, application="emc-cdc check") as connection:
        return str(connection.info.parameter_status("TimeZone"))


def check_zone(found: Survey, zone: str) -> Finding:
    """PG-43. Times with zone are the same whatever the server's zone is; those without are what was written."""
    subject = f"time zone {zone}"
    zoneless = [
        f"{table.selection.full_name}.{column.name}"
        for table in found.present
        for column in table.columns
        if column.name in table.wanted
        and column.type.startswith("timestamp")
        and column.type.endswith("without time zone")
    ]
    if not zoneless:
        return ok("PG-43", subject, "no mapped column depends on it: times with zone are read as UTC")
    what = f"mapped columns hold times without zone, kept as the application wrote them: {', '.join(zoneless)}"
    if zone in _VIETNAM:
        return ok("PG-43", subject, what)
    what += "; see that the application writes Vietnam's time into them, for a session that sets no zone writes another"
    return Finding("PG-43", Severity.NOTE, subject, what)

"""Checks of the source database: reading only, as the runtime role, with short timeouts.

Contract: `check_source` returns findings in the order in which a person would mend them: the way there, the server
(with what a restart or a reload mends), the role, the tables, the publication, what the role may do beyond, the slot
and the WAL, and at last what SQL does not show. It raises nothing for what a database can be.

| check | asks |
|---|---|
| PG-01 | the database can be reached; where it cannot, that is the only finding |
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg import conninfo

from connector.catalog.privileges import check_privileges
from connector.catalog.publication import check_publication, check_slot
from connector.catalog.server import check_ability, check_server
from connector.catalog.survey import Survey
from connector.catalog.tables import check_tables
from connector.change.selection import Selection
from connector.errors import ConnectorError, SourceError
from connector.finding import Finding, Severity, ok
from connector.preflight.hba import check_hba, read_hba
from connector.preflight.holders import check_holders
from connector.preflight.path import answer, check_pooler, check_replication, check_zone, session_zone
from connector.preflight.surroundings import look, spare, surroundings
from connector.preflight.updates import check_updates, published_tables
from connector.preflight.wal import check_disk, check_wal
from connector.settings import Settings
from connector.source import catalog as catalogs
from connector.source.connection import ask

WATCH_SECONDS = 1.0
"""Between the two looks that the WAL rate and lasting transactions are known from."""
_OLDEST = 100000
"""Of an older server only its age is told: it knows nothing of what the other questions ask."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """`columns`: table → column → type of the tables that are there, for the mapping's own checks."""

    findings: list[Finding]
    columns: dict[str, dict[str, str]]


def check_source(settings: Settings, selection: Selection, watch: float = WATCH_SECONDS) -> SourceReport:
    """Everything that is to be said of the source. watch: seconds between two looks at what the server is doing."""
    try:
        return _report(settings, selection, watch)
    except ConnectorError as error:
        unreachable = Finding("PG-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")
        return SourceReport([unreachable], {})


def _report(settings: Settings, selection: Selection, watch: float) -> SourceReport:
    source = settings.source
    with ask(source, application="emc-cdc check") as connection:
        if connection.info.server_version < _OLDEST:
            found = survey_over(connection, connection.info.user, settings, selection)
            return SourceReport([_connected(found), *check_ability(found)], {})
        spare(connection)
        before, began = look(connection), time.monotonic()
        pooler = check_pooler(answer(connection))
        found = survey_over(connection, connection.info.user, settings, selection)
        version = found.server.version
        hba = check_hba(*read_hba(connection))
        published = published_tables(connection, version, settings.publication)
        time.sleep(max(0.0, watch - (time.monotonic() - began)))
        around = surroundings(connection, before, settings.slot, version)
    server = check_server(found)
    findings = [
        _connected(found),
        pooler,
        *server,
        *_replication(settings, version, [pooler, *server]),
        *check_tables(found),
        *check_publication(found),
        *check_updates(published),
        *check_privileges(found),
        check_slot(found),
        *check_holders(around, settings.slot, exists=found.slot is not None),
        *check_wal(around.wal, settings.slot, found.server.other_slots, settings.source.wal_budget),
        check_zone(found, session_zone(source)),
        hba,
        check_disk(around.wal),
    ]
    columns = {
        table.selection.full_name: {column.name: column.type for column in table.columns} for table in found.present
    }
    return SourceReport(findings, columns)


def _connected(found: Survey) -> Finding:
    return ok("PG-01", "source.dsn", f"connected to {found.server.database} as {found.role.name}")


def _replication(settings: Settings, version: int, before: list[Finding]) -> list[Finding]:
    """PG-41, unless it is known already why it would fail."""
    causes = ("PG-02", "PG-04", "PG-06", "PG-40")
    if any(one.check in causes and one.severity is Severity.ERROR for one in before):
        return []
    return [check_replication(settings.source, version)]


def survey_source(settings: Settings, selection: Selection) -> Survey:
    """The facts, read as the runtime role. SourceError when they cannot be read."""
    with ask(settings.source, application="emc-cdc check") as connection:
        return survey_over(connection, connection.info.user, settings, selection)


def survey_over(connection: psycopg.Connection, role: str, settings: Settings, selection: Selection) -> Survey:
    """The facts about `role`, read over any connection. SourceError when they cannot be read."""
    mapped_only = settings.source.publish_columns == "mapped"
    return catalogs.survey_source(
        connection, role, selection, settings.publication, settings.slot, mapped_only=mapped_only
    )


def runtime_role(settings: Settings) -> str:
    """The role that source.dsn names. SourceError when it names none."""
    try:
        user = conninfo.conninfo_to_dict(settings.source.dsn.get_secret_value()).get("user")
    except psycopg.Error:
        user = None
    if not user:
        raise SourceError("set up PostgreSQL", "source.dsn", "it names no user", "write user=emc_cdc into source.dsn")
    return str(user)

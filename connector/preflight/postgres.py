"""Checks of the source database: reading only, as the runtime role, with short timeouts.

Contract: `check_source` returns findings in the order in which a person would mend them; it raises nothing for what a
database can be. PG-01 says whether it can be reached; where it cannot, that is the only finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import conninfo

from connector.catalog.publication import check_publication, check_slot
from connector.catalog.server import check_server
from connector.catalog.survey import Survey
from connector.catalog.tables import check_tables
from connector.change.selection import Selection
from connector.errors import ConnectorError, SourceError
from connector.finding import Finding, Severity, ok
from connector.settings import Settings
from connector.source import catalog as catalogs
from connector.source.connection import ask


@dataclass(frozen=True, slots=True)
class SourceReport:
    """`columns`: table → column → type of the tables that are there, for the mapping's own checks."""

    findings: list[Finding]
    columns: dict[str, dict[str, str]]


def check_source(settings: Settings, selection: Selection) -> SourceReport:
    """Everything that is to be said of the source."""
    try:
        found = survey_source(settings, selection)
    except ConnectorError as error:
        unreachable = Finding("PG-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")
        return SourceReport([unreachable], {})
    findings = [
        ok("PG-01", "source.dsn", f"connected to {found.server.database} as {found.role.name}"),
        *check_server(found),
        *check_tables(found),
        *check_publication(found),
        check_slot(found),
    ]
    columns = {
        table.selection.full_name: {column.name: column.type for column in table.columns} for table in found.present
    }
    return SourceReport(findings, columns)


def survey_source(settings: Settings, selection: Selection) -> Survey:
    """The facts, read as the runtime role. SourceError when they cannot be read."""
    with ask(settings.source, application="emc-cdc check") as connection:
        return survey_over(connection, connection.info.user, settings, selection)


def survey_over(connection: psycopg.Connection, role: str, settings: Settings, selection: Selection) -> Survey:
    """The facts about `role`, read over any connection. SourceError when they cannot be read."""
    return catalogs.survey_source(connection, role, selection, settings.publication, settings.slot)


def runtime_role(settings: Settings) -> str:
    """The role that source.dsn names. SourceError when it names none."""
    try:
        user = conninfo.conninfo_to_dict(settings.source.dsn.get_secret_value()).get("user")
    except psycopg.Error:
        user = None
    if not user:
        raise SourceError("set up PostgreSQL", "source.dsn", "it names no user", "write user=emc_cdc into source.dsn")
    return str(user)

"""`emc-cdc setup`: the SQL that attaches the connector or takes it back, for the people who may run it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import psycopg
import typer

from connector import configuration as configurations
from connector.catalog.identifier import quote
from connector.catalog.survey import Survey
from connector.change.selection import Selection
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.errors import SourceError
from connector.pipeline import require_capture
from connector.preflight.postgres import runtime_role, survey_over, survey_source
from connector.preflight.setup import Statement, setup_statements
from connector.preflight.undo import undo_statements
from connector.settings import Settings
from connector.source.connection import ask, command_error, connect_error

# An owner's statement waits this long for a lock, so that it never queues up the application behind itself.
_LOCK_TIMEOUT = "2s"
_OPTIONS = f"-c lock_timeout={_LOCK_TIMEOUT} -c statement_timeout=30s"


def setup(
    config: ConfigOption = DEFAULT_CONFIG,
    apply: Annotated[bool, typer.Option("--apply", help="Run the owner's statements, over --owner-dsn.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the set-up back: slot, publication, grants.")] = False,
    drop_role: Annotated[
        bool, typer.Option("--drop-role", help="With --undo: the connector's role goes, too (a superuser's part).")
    ] = False,
    owner_dsn: Annotated[
        str | None,
        typer.Option(
            help="Connection string of the tables' owner; the environment keeps its password out of sight.",
            envvar="EMC_CDC_OWNER_DSN",
            show_envvar=True,
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Print the SQL that attaches the connector with the least privileges, or apply the owner's part of it.

    What is done already is left out. Nothing is changed without --apply, and the superuser's part is only ever
    printed. The connector itself never needs more than LOGIN, REPLICATION and SELECT on mapped columns.

    Example: emc-cdc setup --config emc-cdc.yml > setup.sql

    --undo prints, or with --apply runs, what takes all of it back; the slot is dropped over source.dsn. It refuses
    while a capture streams. What the log, the index and the delivery state hold on this machine stays.

    Example: EMC_CDC_OWNER_DSN='host=… dbname=… user=…' emc-cdc setup --apply

    Example: emc-cdc setup --undo > undo.sql
    """
    if drop_role and not undo:
        raise SourceError("print the set-up", "--drop-role", "it goes with --undo only", "add --undo, or leave it out")
    if apply and owner_dsn is None:
        raise SourceError("apply the set-up", "--owner-dsn", "it is missing", "give it, or set EMC_CDC_OWNER_DSN")
    configuration = configurations.load(config)
    require_capture(configuration.settings, "setup")
    settings, selection = configuration.settings, configuration.plan.selection

    def wanted(found: Survey) -> list[Statement]:
        return undo_statements(found, drop_role=drop_role) if undo else setup_statements(found)

    if owner_dsn is None:
        statements = wanted(_as_runtime_role(settings, selection))
    else:
        with _owner(owner_dsn) as connection:
            statements = wanted(survey_over(connection, runtime_role(settings), settings, selection))
            if apply:
                _apply(connection, [statement for statement in statements if statement.who == "owner"])
                _apply_ours(settings, [statement for statement in statements if statement.who == "operator"])
    if json_output:
        sys.stdout.write(json.dumps([asdict(one) for one in statements], ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(_script(statements, applied=apply, undone=undo))


def _as_runtime_role(settings: Settings, selection: Selection) -> Survey:
    try:
        return survey_source(settings, selection)
    except SourceError as error:
        role = quote(runtime_role(settings))
        mend = (
            f"{error.mend}\nif the role is not there yet, as a superuser: CREATE ROLE {role} LOGIN REPLICATION;"
            "\nor look as the tables' owner: --owner-dsn"
        )
        raise SourceError(error.operation, error.subject, error.cause, mend) from None


def _owner(dsn: str) -> psycopg.Connection:
    try:
        connection = psycopg.connect(dsn, application_name="emc-cdc setup", options=_OPTIONS, connect_timeout=10)
        (timeout,) = connection.execute("SELECT current_setting('lock_timeout')").fetchall()[0]
        connection.rollback()
    except psycopg.Error as error:
        refused = connect_error(str(error), error.sqlstate)
        raise SourceError(
            refused.operation, "--owner-dsn", refused.cause, refused.mend.replace("source.dsn", "--owner-dsn")
        ) from None
    if timeout != _LOCK_TIMEOUT:
        connection.close()
        raise SourceError(
            "connect to PostgreSQL",
            "--owner-dsn",
            "a connection pooler (such as PgBouncer) answers, and drops the lock timeout that keeps the application"
            " from waiting for us",
            "write the host and port of PostgreSQL itself into --owner-dsn, not those of the pooler",
        )
    return connection


def _apply(connection: psycopg.Connection, statements: list[Statement]) -> None:
    """All of them or none."""
    for statement in statements:
        try:
            # The statements are ours, made of quoted identifiers (preflight.setup).
            connection.execute(statement.sql.encode())
        except psycopg.Error as error:
            mend = f"run it as {statement.role or 'a superuser'}; nothing was changed"
            raise command_error("apply the set-up", statement.sql, error, mend) from None


def _apply_ours(settings: Settings, statements: list[Statement]) -> None:
    """What the runtime role itself takes back, while the owner's part may still be taken back as well."""
    for statement in statements:
        with ask(settings.source, application="emc-cdc setup") as connection:
            try:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute(statement.sql.encode())
            except psycopg.Error as error:
                mend = "end the capture that uses it, then run this again; nothing was changed"
                raise command_error("apply the set-up", statement.sql, error, mend) from None


def _script(statements: list[Statement], *, applied: bool, undone: bool) -> str:
    """A script for psql, part by part with who runs it."""
    if not statements:
        return f"-- Nothing is left to be {'taken back' if undone else 'done'}; emc-cdc check tells more.\n"
    parts = []
    for (who, role), group in groupby(statements, key=lambda one: (one.who, one.role)):
        name = " ".join(role.split())
        runner = {
            "owner": f"the tables' owner ({name})",
            "operator": f"the connector's role ({name}) or a superuser",
        }.get(who, "a superuser (DBA)")
        verb = "Done by" if applied and who != "dba" else "To be run by"
        lines = [f"-- {verb} {runner}:"]
        # A name may hold a line end, which must not end the comment: what follows would be run.
        lines += [f"{statement.sql}  -- {' '.join(statement.why.split())}" for statement in group]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

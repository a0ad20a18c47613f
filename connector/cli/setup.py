"""`emc-cdc setup`: the SQL that attaches the connector, for the people who may run it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import psycopg
import typer

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.errors import SourceError
from connector.preflight.postgres import read_keys
from connector.preflight.setup import Statement, setup_statements
from connector.source.connection import command_error, connect_error

_WHO = {"dba": "Quản trị CSDL (superuser)", "owner": "Chủ sở hữu bảng"}


def setup(
    config: ConfigOption = DEFAULT_CONFIG,
    apply: Annotated[bool, typer.Option("--apply", help="Run the owner's statements, with --owner-dsn.")] = False,
    owner_dsn: Annotated[
        str | None, typer.Option(help="Connection string of the tables' owner.", envvar="EMC_CDC_OWNER_DSN")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Print the SQL that attaches the connector with the least privileges, or apply the owner's part of it.

    Nothing is changed without --apply. The connector itself never needs more than LOGIN, REPLICATION and SELECT.

    Example: emc-cdc setup --config emc-cdc.yml > setup.sql
    """
    configuration = configurations.load(config)
    settings, selection = configuration.settings, configuration.plan.selection
    keys, version, role = read_keys(settings, selection)
    absent = [table.full_name for table in selection.tables if table.full_name not in keys]
    if absent:
        raise SourceError(
            "print the set-up",
            ", ".join(absent),
            "there is no such table",
            "correct the mapping (emc-cdc check tells more)",
        )
    statements = setup_statements(settings.publication, role, selection, keys, version)
    if apply:
        if owner_dsn is None:
            raise SourceError("apply the set-up", "--owner-dsn", "it is missing", "give it, or EMC_CDC_OWNER_DSN")
        _apply(statements, owner_dsn)
    if json_output:
        sys.stdout.write(json.dumps([asdict(one) for one in statements], ensure_ascii=False, indent=2) + "\n")
        return
    who = ""
    for statement in statements:
        if statement.who != who:
            who = statement.who
            sys.stdout.write(f"\n-- {_WHO[who]}{' (đã chạy)' if apply and who == 'owner' else ''}:\n")
        sys.stdout.write(f"{statement.sql}  -- {statement.why}\n")


def _apply(statements: list[Statement], owner_dsn: str) -> None:
    try:
        connection = psycopg.connect(owner_dsn, application_name="emc-cdc setup")
    except psycopg.Error as error:
        raise connect_error(str(error), error.sqlstate) from None
    with connection:
        for statement in statements:
            if statement.who != "owner":
                continue
            try:
                # The statements are ours, made of quoted identifiers (preflight.setup).
                connection.execute(statement.sql.encode())
            except psycopg.errors.DuplicateObject as error:
                raise SourceError(
                    "apply the set-up",
                    statement.sql,
                    error.diag.message_primary or "it is there already",
                    "run `emc-cdc check`: it tells what is still missing",
                ) from None
            except psycopg.Error as error:
                raise command_error("apply the set-up", statement.sql, error, "run it as the tables' owner") from None

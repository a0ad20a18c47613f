"""What the catalog says of the captured tables.

Contract: `read_catalog` returns for every selected table its kept `Shape`, its identity and what must be known before
capture may start, or raises SourceError with the exact SQL that mends it. Only SELECT on the catalog is needed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import psycopg

from connector.change.selection import Role, Selection, TableSelection
from connector.change.shape import Column, Shape
from connector.errors import SourceError

_VERSION = "SELECT current_setting('server_version_num')::int, current_setting('wal_level'), current_database()"

# One row per column of one table, in table order; generated columns are left out, pgoutput does not send them.
_COLUMNS = """
SELECT a.attname, a.atttypid, a.atttypmod,
       coalesce(a.attnum = ANY (pk.indkey::int2[]), false) AS in_primary_key,
       coalesce(a.attnum = ANY (ri.indkey::int2[]), false) AS in_identity_index,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
  FROM pg_attribute a
  LEFT JOIN pg_index pk ON pk.indrelid = a.attrelid AND pk.indisprimary
  LEFT JOIN pg_index ri ON ri.indrelid = a.attrelid AND ri.indisreplident
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# The table itself. Active row level security would thin the snapshot.
_TABLE = """
SELECT c.oid, c.relreplident, c.relkind, row_security_active(c.oid),
       c.reltuples::bigint, has_schema_privilege(n.oid, 'USAGE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p')
"""

_NEIGHBOURS = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# What a partition (of a partition …) belongs to.
_ANCESTORS = """
WITH RECURSIVE above(oid) AS (
    SELECT inhparent FROM pg_inherits WHERE inhrelid = %(oid)s
    UNION
    SELECT i.inhparent FROM pg_inherits i JOIN above a ON i.inhrelid = a.oid)
SELECT n.nspname || '.' || c.relname
  FROM above a JOIN pg_class c ON c.oid = a.oid JOIN pg_namespace n ON n.oid = c.relnamespace
"""

_PUBLISHED = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %(publication)s"
_PUBLICATION = "SELECT 1 FROM pg_publication WHERE pubname = %(publication)s"


@dataclass(frozen=True, slots=True)
class Server:
    """The server and database the connector is attached to."""

    version: int
    wal_level: str
    database: str


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """One captured table as the catalog has it. `estimate`: the planner's row count, -1 when unknown."""

    selection: TableSelection
    shape: Shape
    oid: int
    identity: str
    estimate: int


def read_server(connection: psycopg.Connection) -> Server:
    """The server's version, wal_level and database."""
    row = connection.execute(_VERSION).fetchone()
    assert row is not None
    return Server(*row)


def require_logical(server: Server) -> None:
    """SourceError unless the server can decode."""
    if server.version < 100000:
        raise SourceError(
            "attach to PostgreSQL",
            "the server",
            f"version {server.version // 10000} is too old",
            "use PostgreSQL 10 to 18",
        )
    if server.wal_level != "logical":
        raise SourceError(
            "attach to PostgreSQL",
            "wal_level",
            f"it is {server.wal_level!r}",
            "as a superuser: ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL once",
        )


def require_publication(connection: psycopg.Connection, publication: str, selection: Selection) -> None:
    """SourceError unless the publication exists and has every captured table."""
    found = connection.execute(_PUBLICATION, {"publication": publication}).fetchone()
    names = [f"{_quote(table.schema)}.{_quote(table.name)}" for table in selection.tables]
    if found is None:
        raise SourceError(
            "attach to PostgreSQL",
            f"publication {publication}",
            "it does not exist",
            f"as the tables' owner: CREATE PUBLICATION {_quote(publication)} FOR TABLE {', '.join(names)};"
            " (`emc-cdc setup` prints all of it)",
        )
    published = set(connection.execute(_PUBLISHED, {"publication": publication}).fetchall())
    absent = [
        name for table, name in zip(selection.tables, names, strict=True) if (table.schema, table.name) not in published
    ]
    if absent:
        raise SourceError(
            "attach to PostgreSQL",
            f"publication {publication}",
            f"it does not publish {', '.join(absent)}",
            f"as the tables' owner: ALTER PUBLICATION {_quote(publication)} ADD TABLE {', '.join(absent)};",
        )


def read_catalog(connection: psycopg.Connection, selection: Selection) -> dict[str, CatalogTable]:
    """Every selected table by full name, in the selection's order."""
    return {table.full_name: _read_table(connection, table) for table in selection.tables}


def read_ancestors(connection: psycopg.Connection, oid: int) -> list[str]:
    """Full names of the tables that a relation is a partition of; empty when it is none."""
    return [row[0] for row in connection.execute(_ANCESTORS, {"oid": oid}).fetchall()]


def _read_table(connection: psycopg.Connection, table: TableSelection) -> CatalogTable:
    names = {"schema": table.schema, "table": table.name}
    found = connection.execute(_TABLE, names).fetchone()
    quoted = f"{_quote(table.schema)}.{_quote(table.name)}"
    if found is None:
        near = _nearest(table.full_name, [row[0] for row in connection.execute(_NEIGHBOURS).fetchall()])
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            "there is no such table",
            f"correct the mapping{near}, or create it",
        )
    oid, identity, _, thinned, estimate, usable = found
    if not usable:
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            f"the role may not use the schema {table.schema}",
            f"as the tables' owner: GRANT USAGE ON SCHEMA {_quote(table.schema)} TO "
            f"{_quote(str(connection.info.user))};",
        )
    if thinned:
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            "row level security would hide rows from the snapshot",
            f"as a superuser: ALTER ROLE {_quote(str(connection.info.user))} BYPASSRLS;",
        )
    rows = connection.execute(_COLUMNS, {"oid": oid}).fetchall()
    keys = {row[0] for row in rows if row[3 if identity in ("d", "f") else 4]}
    if identity == "n" and any(row[3] for row in rows):
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            "its REPLICA IDENTITY is NOTHING, so UPDATE and DELETE cannot be published (the application's would fail)",
            f"as the tables' owner: ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT;",
        )
    if identity == "n" or not keys:
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            "it has no replica identity, so UPDATE and DELETE cannot be published (the application's would fail)",
            f"as the tables' owner: ALTER TABLE {quoted} ADD PRIMARY KEY (…); or, with a unique index on NOT NULL"
            f" columns: ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX …;",
        )
    if table.role is Role.DOSSIER and len(keys) != 1:
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            f"its key has {len(keys)} columns; the dossier table needs a key of one column",
            "choose another dossier table in the mapping",
        )
    wanted = {*table.columns, *([table.link] if table.link else [])}
    present = {row[0] for row in rows}
    for column in sorted(wanted - present):
        raise SourceError(
            "attach to PostgreSQL",
            f"{table.full_name}.{column}",
            "there is no such column",
            f"correct the mapping{_nearest(column, sorted(present))}",
        )
    unreadable = [row[0] for row in rows if row[0] in wanted | keys and not row[5]]
    if unreadable:
        raise SourceError(
            "attach to PostgreSQL",
            table.full_name,
            f"the role may not read {', '.join(unreadable)}",
            f"as the tables' owner: GRANT SELECT ({', '.join(map(_quote, unreadable))}) ON {quoted} TO "
            f"{_quote(str(connection.info.user))};",
        )
    columns = tuple(Column(row[0], row[1], row[2], row[0] in keys) for row in rows if row[0] in wanted | keys)
    return CatalogTable(table, Shape(table.schema, table.name, columns), oid, identity, estimate)


def _nearest(name: str, candidates: list[str]) -> str:
    near = difflib.get_close_matches(name, candidates, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

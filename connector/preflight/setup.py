"""The SQL that attaches the connector with the least privileges: who runs what, in order.

Pure: statements as data. The tables' owner makes the publication and grants SELECT on mapped and key columns; only what
an owner may not do (REPLICATION, wal_level) is left to a superuser. Everything is taken back by dropping the
publication and revoking the grants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connector.change.selection import Selection


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. who: dba or owner; why: one line for the person who runs it."""

    sql: str
    who: str
    why: str


def setup_statements(
    publication: str, role: str, selection: Selection, keys: Mapping[str, Sequence[str]], server_version: int
) -> list[Statement]:
    """All statements. `keys`: identity columns of each table by full name, as far as they are known."""
    tables = [f"{quote(table.schema)}.{quote(table.name)}" for table in selection.tables]
    publish = "" if server_version < 130000 else " WITH (publish_via_partition_root = true)"
    statements = [
        Statement(
            f"ALTER ROLE {quote(role)} WITH LOGIN REPLICATION;", "dba", "the connector reads the replication stream"
        ),
        Statement(
            f"CREATE PUBLICATION {quote(publication)} FOR TABLE {', '.join(tables)}{publish};",
            "owner",
            "what the connector may decode: these tables and no others",
        ),
    ]
    statements += [
        Statement(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)};", "owner", "to see the tables")
        for schema in dict.fromkeys(table.schema for table in selection.tables)
    ]
    for table, name in zip(selection.tables, tables, strict=True):
        wanted = dict.fromkeys((*keys.get(table.full_name, ()), *([table.link] if table.link else []), *table.columns))
        columns = ", ".join(map(quote, wanted))
        statements.append(
            Statement(
                f"GRANT SELECT ({columns}) ON {name} TO {quote(role)};",
                "owner",
                "the first read; only the columns that the mapping uses",
            )
        )
    return statements


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'

"""Tables of any publication whose UPDATE or DELETE fails because they are published.

| check | asks |
|---|---|
| PG-26 | no publication of somebody else's makes the application's UPDATE or DELETE fail |

Contract: `published_tables` reads, `check_updates` judges (pure) as PostgreSQL does (CheckCmdReplicaIdentity): a table
whose changes are published needs an identity; the identity must be in its column list, and hold every column of its row
filter; with generated columns in it (18 and later) they must be published. Our own publication is PG-13's, PG-22's and
PG-23's to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg.rows import dict_row

from connector.catalog.identifier import listed, qualified, quote
from connector.finding import Finding, Severity, ok
from connector.source.connection import command_error

# Every table of every publication with what decides over its UPDATE; of one that is published as a partitioned table's
# root, its leaves, which are what is updated. Names of columns, because a leaf may number them otherwise.
_TABLES = """
SELECT p.pubname::text AS publication, p.puballtables OR pr.oid IS NULL AS whole,
       p.pubupdate AS updates, p.pubdelete AS deletes,
       n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
               ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
              WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS key,
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
               ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
              WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate) AS primary_key,
       {listed} AS listed, {filtered} AS filtered, {filter} AS filter, {unsent} AS unsent,
       {virtual} AS virtual
  FROM pg_publication p
  JOIN pg_publication_tables t ON t.pubname = p.pubname
  JOIN pg_namespace tn ON tn.nspname = t.schemaname
  JOIN pg_class root ON root.relnamespace = tn.oid AND root.relname = t.tablename
  JOIN LATERAL (SELECT root.oid WHERE root.relkind <> 'p' {leaves}) AS leaf(oid) ON true
  JOIN pg_class c ON c.oid = leaf.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = root.oid
 WHERE p.pubname <> %(ours)s AND (p.pubupdate OR p.pubdelete)
 ORDER BY 1, 5, 6
"""
_LEAVES = "UNION ALL SELECT relid FROM pg_partition_tree(root.oid) WHERE isleaf AND root.relkind = 'p'"
_LISTED = """
CASE WHEN pr.prattrs IS NOT NULL THEN
    ARRAY(SELECT a.attname::text FROM pg_attribute a
           WHERE a.attrelid = root.oid AND a.attnum = ANY (pr.prattrs::int2[]) ORDER BY a.attnum) END"""
# The columns of a row filter stand in its parse tree.
_FILTERED = """
ARRAY(SELECT a.attname::text FROM pg_attribute a
       WHERE a.attrelid = root.oid AND a.attnum IN (
           SELECT m[1]::int FROM regexp_matches(pr.prqual::text, ':varattno (\\d+)', 'g') AS m))"""
# Virtual generated columns are never published; stored ones where the publication says so or lists them.
_UNSENT = """
ARRAY(SELECT a.attname::text FROM pg_attribute a
       WHERE a.attrelid = c.oid AND NOT a.attisdropped AND pr.prattrs IS NULL
         AND (a.attgenerated = 'v' OR a.attgenerated = 's' AND p.pubgencols <> 's') ORDER BY a.attnum)"""


_VIRTUAL = "EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v')"


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of one publication; `whole`: published with all tables, a schema or its root, not by its own name.

    `key`: the columns of its identity, none for FULL; `listed`: None for all. `filtered`, `filter`: columns and text of
    its row filter. `unsent`: generated columns that are not published; `virtual`: there are some that never are. What a
    version does not know is empty or None.
    """

    publication: str
    whole: bool
    updates: bool
    deletes: bool
    schema: str
    name: str
    identity: str
    key: list[str]
    primary_key: list[str]
    listed: list[str] | None
    filtered: list[str]
    filter: str | None
    unsent: list[str]
    virtual: bool


def published_tables(connection: psycopg.Connection, version: int, ours: str) -> list[PublishedTable]:
    """Those of every publication but `ours`. SourceError when the server does not answer (in time)."""
    lists = version >= 150000
    query = _TABLES.format(
        leaves=_LEAVES if version >= 130000 else "",
        listed=_LISTED if lists else "NULL::text[]",
        filtered=_FILTERED if lists else "'{}'::text[]",
        filter="pg_get_expr(pr.prqual, pr.prrelid)" if lists else "NULL::text",
        unsent=_UNSENT if version >= 180000 else "'{}'::text[]",
        virtual=_VIRTUAL if version >= 180000 else "false",
    )
    try:
        rows = connection.cursor(row_factory=dict_row).execute(query.encode(), {"ours": ours}).fetchall()
    except psycopg.Error as error:
        raise command_error("read the publications", "source.dsn", error, "run it again") from None
    return [PublishedTable(**row) for row in rows]


def check_updates(tables: list[PublishedTable]) -> list[Finding]:
    """PG-26."""
    findings = [
        Finding(
            "PG-26",
            Severity.WARNING,
            f"{table.schema}.{table.name}",
            f"publication {table.publication}, which is not ours, makes the application's {_verbs(table)} fail: {what}",
            mend,
            "dba",
        )
        for table in tables
        for what, mend in _fault(table)
    ]
    others = len({table.publication for table in tables})
    fine = f"no UPDATE or DELETE fails because of the {others} other publications" if others else "there are no others"
    return findings or [ok("PG-26", "other publications", fine)]


def _verbs(table: PublishedTable) -> str:
    return " and ".join(["UPDATE"] * table.updates + ["DELETE"] * table.deletes)


def _fault(table: PublishedTable) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is wrong with it and what mends that: the first of what there is, as the server tells it."""
    full, key = table.identity == "f", set(table.key)
    if not full and not key:
        yield "the table has no replica identity", _by_key(table) or _by_all(table)
    elif full and table.listed is not None:
        yield "REPLICA IDENTITY FULL with a column list", _by_key(table) or _listing(table, None)
    elif table.listed is not None and (missing := [name for name in table.key if name not in table.listed]):
        what = f"its column list leaves out {', '.join(missing)} of the identity"
        yield what, _listing(table, [*table.listed, *missing])
    elif not full and (beyond := [name for name in table.filtered if name not in key]):
        what = f"its row filter asks for {', '.join(beyond)}, which is not in the identity"
        yield what, _by_all(table)
    elif unpublished := [name for name in table.unsent if full or name in key]:
        what = f"generated columns of the identity are not published: {', '.join(unpublished)}"
        stored = f"ALTER PUBLICATION {quote(table.publication)} SET (publish_generated_columns = stored);"
        yield what, (_by_key(table) if full else ()) or (_by_all(table) if table.virtual else (stored,))


def _by_key(table: PublishedTable) -> tuple[str, ...]:
    """The primary key as identity, where it is one that the publication takes."""
    key = set(table.primary_key)
    if not key or not key.issuperset(table.filtered) or key.intersection(table.unsent):
        return ()
    if table.listed is not None and not key.issubset(table.listed):
        return ()
    return (f"ALTER TABLE {qualified(table.schema, table.name)} REPLICA IDENTITY DEFAULT;",)


def _by_all(table: PublishedTable) -> tuple[str, ...]:
    """All columns as identity, where the publication takes that; else the table leaves it."""
    name = qualified(table.schema, table.name)
    if table.listed is None and not table.unsent:
        return (f"ALTER TABLE {name} REPLICA IDENTITY FULL;  -- or, better, a primary key",)
    if table.whole:
        return (f"-- give {name} a primary key",)
    return (f"ALTER PUBLICATION {quote(table.publication)} DROP TABLE {name};  -- and tell whoever reads it",)


def _listing(table: PublishedTable, columns: list[str] | None) -> tuple[str, ...]:
    """The same entry with another column list."""
    publication, name = quote(table.publication), qualified(table.schema, table.name)
    names = f" ({listed(columns)})" if columns else ""
    condition = f" WHERE {table.filter}" if table.filter else ""
    drop, add = f"ALTER PUBLICATION {publication} DROP TABLE {name};", f"ALTER PUBLICATION {publication} ADD TABLE"
    return ("BEGIN;", drop, f"{add} {name}{names}{condition};", "COMMIT;")

"""What a database holds that nobody has mapped yet: its catalog and small samples, for `emc-cdc init`.

Contract: only reads, over a connection that is read-only and has timeouts; the number of questions does not grow with
the number of tables. A sample is bounded: some thousand rows, of random pages where the table is large. Of codes only
counts leave the server, of status-like columns the words, when there are few of them. What may not be read, or takes
too long, is told in `unsampled`; nothing is raised for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from connector.catalog.identifier import qualified, quote
from connector.drafting.draft import FEW, SHORT
from connector.drafting.inventory import Column, ForeignKey, Inventory, Shapes, Table, Word, nameable
from connector.drafting.parts import Place
from connector.source.connection import command_error

ROWS = 5000
LARGE = 50_000

# Every table of the application's that can be published; partitions stand for their root.
_TABLES = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text,
       CASE c.relkind WHEN 'p' THEN (SELECT sum(greatest(p.reltuples, 0)) FROM pg_inherits i
                                       JOIN pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = c.oid)
                      ELSE c.reltuples END::bigint,
       has_schema_privilege(n.oid, 'USAGE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
 ORDER BY 2, 3
"""

# Their columns; a generated one is left out (the column attgenerated is there from 12 on), pgoutput does not send it.
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname::text, t.typcategory::text, a.attnotnull,
       has_table_privilege(a.attrelid, 'SELECT') OR has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       CASE t.typtype WHEN 'e' THEN ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
                                           ORDER BY e.enumsortorder LIMIT 50) END
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = ANY(%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
   AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
 ORDER BY a.attrelid, a.attnum
"""

# Primary keys, and columns that are unique alone.
_KEYS = """
SELECT i.indrelid::bigint, i.indisprimary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
  FROM pg_index i
 WHERE i.indrelid = ANY(%(tables)s::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
   AND i.indexprs IS NULL AND (i.indisprimary OR i.indnatts = 1)
"""

# Foreign keys of one column, and the definitions of CHECKs on one column.
_CONSTRAINTS = """
SELECT k.conrelid::bigint, k.contype::text, a.attname::text, n.nspname::text, c.relname::text, f.attname::text,
       CASE k.contype WHEN 'c' THEN pg_get_constraintdef(k.oid) END
  FROM pg_constraint k
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
  LEFT JOIN pg_class c ON c.oid = k.confrelid
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
 WHERE k.conrelid = ANY(%(tables)s::oid[]) AND k.contype IN ('f', 'c') AND cardinality(k.conkey) = 1
 ORDER BY k.conrelid, k.conname
"""

# Words that the planner's statistics know, of columns that we may read; a rare one may be in no sample.
_STATISTICS = """
SELECT s.schemaname::text, s.tablename::text, s.attname::text, s.most_common_vals::text::text[]
  FROM pg_stats s
  JOIN unnest(%(schemas)s::text[], %(tables)s::text[], %(columns)s::text[]) AS w(s, t, c)
    ON s.schemaname = w.s AND s.tablename = w.t AND s.attname = w.c
 WHERE s.most_common_vals IS NOT NULL AND cardinality(s.most_common_vals::text::text[]) <= %(few)s
"""

NUMBER = r"^(([0-9]{2,3}[.])*[A-Z][0-9]{2}|[0-9]{3})([.][0-9A-Z]{2,4})*-[0-9]{6}-[0-9]{1,8}$"
PROCEDURE = r"^[0-9][.][0-9]{6}([.][0-9A-Z.]+)?$"
UNIT = r"^([0-9]{2,3}[.])*[A-Z][0-9]{2}([.][0-9A-Z-]+)*$"

_ANY_OF = re.compile(r"CHECK \(+[^=]* = ANY \(+ARRAY\[(.*)\]", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^']|'')*)'|(?<![\w.])(-?\d+)(?![\w.])")


def read_inventory(connection: psycopg.Connection, schema: str | None) -> Inventory:
    """Every table that can be published, of one schema or of all. Raises SourceError."""
    try:
        database, role = connection.execute("SELECT current_database()::text, current_user::text").fetchall()[0]
        relations = connection.execute(_TABLES, {"schema": schema}).fetchall()
        oids = {"tables": [oid for oid, *_ in relations]}
        columns = _grouped(connection.execute(_COLUMNS, oids).fetchall())
        keys = _grouped(connection.execute(_KEYS, oids).fetchall())
        constraints = _grouped(connection.execute(_CONSTRAINTS, oids).fetchall())
    except psycopg.Error as error:
        raise command_error(
            "look at the database", "its catalog", error, "try again; a role sees its catalog"
        ) from None
    tables = [
        _table(schema_name, name, estimate, usable, columns[oid], keys[oid], constraints[oid])
        for oid, schema_name, name, estimate, usable in relations
        if nameable(schema_name) and nameable(name)
    ]
    return Inventory(database, role, tuple(tables))


def grant(table: Table, role: str) -> list[str]:
    """The statements with which the owner lets the role read a table."""
    usage = [] if table.usable else [f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(role)};"]
    return [*usage, f"GRANT SELECT ON {qualified(table.schema, table.name)} TO {quote(role)};"]


def _grouped(rows: Iterable[tuple[Any, ...]]) -> defaultdict[int, list[tuple[Any, ...]]]:
    groups: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *rest in rows:
        groups[oid].append(tuple(rest))
    return groups


def _table(
    schema: str,
    name: str,
    estimate: int | None,
    usable: bool,
    columns: Sequence[tuple[Any, ...]],
    keys: Sequence[tuple[Any, ...]],
    constraints: Sequence[tuple[Any, ...]],
) -> Table:
    checked = {one[1]: _listed(one[5]) for one in constraints if one[0] == "c"}
    return Table(
        schema,
        name,
        tuple(
            Column(column, category, not_null, readable, tuple(labels or checked.get(column, ())))
            for column, category, not_null, readable, labels in columns
            if nameable(column)
        ),
        next((tuple(names) for primary, names in keys if primary), ()),
        tuple(dict.fromkeys(names[0] for _, names in keys if len(names) == 1)),
        tuple(ForeignKey(one[1], one[2], one[3], one[4]) for one in constraints if one[0] == "f"),
        estimate if estimate is not None and estimate > 0 else None,
        usable,
    )


def _listed(definition: str) -> tuple[str, ...]:
    """The values that a CHECK (x IN (…)) lists."""
    found = _ANY_OF.match(definition)
    if found is None:
        return ()
    return tuple(
        text.replace("''", "'") if text or not number else number for text, number in _LITERAL.findall(found[1])
    )


class Sampler:
    """Asks for samples. `unsampled`: `schema.table` → why there is none."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.unsampled: dict[str, str] = {}

    def shapes(self, table: Table) -> Shapes:
        """How many values of the text columns look like codes: counts, no values."""
        names = [column.name for column in table.columns if column.readable and column.category == "S"]
        anything = names or [column.name for column in table.columns if column.readable][:1]
        if not anything:
            return Shapes()
        asked: list[sql.Composable] = [sql.SQL("count(*)")]
        for name in names:
            value = sql.SQL("btrim(left({}::text, 200))").format(sql.Identifier(name))
            asked.append(sql.SQL("count(nullif({}, ''))").format(value))
            asked += [
                sql.SQL("count(*) FILTER (WHERE {} ~ {})").format(value, sql.Literal(pattern))
                for pattern in (NUMBER, PROCEDURE, UNIT)
            ]
        rows = self._ask(
            table, sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(asked), _sample(table, anything))
        )
        if not rows:
            return Shapes()
        total, *counts = rows[0]
        return Shapes(total, *(dict(zip(names, counts[place::4], strict=True)) for place in range(4)))

    def words(self, places: Sequence[Place]) -> dict[tuple[str, str], list[Word]]:
        """The words of status-like columns, where they are few, and those that only the statistics know."""
        found: dict[tuple[str, str], list[Word]] = {}
        tables = {place.table.full_name: place.table for place in places}
        for name, table in tables.items():
            columns = [place.column.name for place in places if place.table.full_name == name]
            for number, text, count in self._ask(table, _words_of(table, columns)):
                found.setdefault((name, columns[number]), []).append(Word(text, count))
        self._add_statistics(places, found)
        return found

    def labels(self, table: Table, key: str, name: str) -> dict[str, str]:
        """What a catalogue calls its codes; nothing of one with many."""
        query = sql.SQL("SELECT {}::text, left(btrim({}::text), {}) FROM {}").format(
            sql.Identifier(key), sql.Identifier(name), sql.Literal(SHORT + 1), _sample(table, [key, name], FEW + 1)
        )
        rows = self._ask(table, query)
        return {} if len(rows) > FEW else {code: label for code, label in rows if code and label}

    def _add_statistics(self, places: Sequence[Place], found: dict[tuple[str, str], list[Word]]) -> None:
        asked = {
            "schemas": [place.table.schema for place in places],
            "tables": [place.table.name for place in places],
            "columns": [place.column.name for place in places],
            "few": FEW,
        }
        try:
            rows = self._connection.execute(_STATISTICS, asked).fetchall()
        except psycopg.Error:
            return  # a sample is there all the same
        for schema, table, column, words in rows:
            there = found.setdefault((f"{schema}.{table}", column), [])
            known = {word.text for word in there}
            there += [Word(_truth(text), None) for text in words if _truth(text) not in known]

    def _ask(self, table: Table, query: sql.Composed) -> list[tuple[Any, ...]]:
        if table.full_name in self.unsampled:
            return []
        try:
            return self._connection.execute(query).fetchall()
        except psycopg.Error as error:
            self.unsampled[table.full_name] = error.diag.message_primary or type(error).__name__
            return []


def _truth(text: str) -> str:
    return {"t": "true", "f": "false"}.get(text, text)


def _sample(table: Table, columns: Sequence[str], rows: int = ROWS) -> sql.Composed:
    """Some rows of a table: of random pages where it is known to be large."""
    large = table.estimate is not None and table.estimate > LARGE
    share = sql.SQL(" TABLESAMPLE SYSTEM ({})").format(sql.Literal(100 * ROWS / (table.estimate or 1)))
    return sql.SQL("(SELECT {} FROM {}{} LIMIT {}) AS s").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(table.schema, table.name),
        share if large else sql.SQL(""),
        sql.Literal(rows * 2 if large else rows),
    )


def _words_of(table: Table, columns: Sequence[str]) -> sql.Composed:
    """Number of the column, word, count; of columns with few words only."""
    values = sql.SQL(", ").join(
        sql.SQL("({}, btrim(left({}::text, {})))").format(sql.Literal(n), sql.Identifier(name), sql.Literal(SHORT + 1))
        for n, name in enumerate(columns)
    )
    return sql.SQL(
        "SELECT n, w, c FROM (SELECT v.n, v.w, count(*) AS c, count(*) OVER (PARTITION BY v.n) AS k FROM {}"
        " CROSS JOIN LATERAL (VALUES {}) AS v(n, w) WHERE v.w <> '' GROUP BY v.n, v.w) AS g WHERE k <= {}"
        " ORDER BY 1, 3 DESC, 2"
    ).format(_sample(table, columns), values, sql.Literal(FEW))

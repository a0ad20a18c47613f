"""What the catalog says of the captured tables, once nothing stands in the way of capturing them.

Contract: the facts and the rules are the room `catalog`'s, which `check` and `setup` use as well, so that capture
refuses what they refuse. `attach_refusal` makes one SourceError with every mend; `captured_tables` gives the kept
`Shape` of each table that is there. Only SELECT on the catalog is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import psycopg

from connector.catalog.publication import check_publication
from connector.catalog.server import check_ability
from connector.catalog.survey import Survey, survey
from connector.catalog.tables import check_tables
from connector.change.columntype import DEFAULTS, TypeOptions
from connector.change.selection import Selection, TableSelection
from connector.change.shape import Column, Shape
from connector.errors import SourceError
from connector.finding import Finding, Severity
from connector.source.basetypes import BaseTypes, read_base_types
from connector.source.connection import command_error

# One row per column of one table, in table order, with those that it once had.
_COLUMNS = """
SELECT a.attname, a.atttypid, a.atttypmod, a.attnum, a.attisdropped
  FROM pg_attribute a
 WHERE a.attrelid = %(oid)s AND a.attnum > 0
 ORDER BY a.attnum
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

_RUNNERS = {"owner": "as the tables' owner: ", "dba": "as a superuser: "}


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """One captured table as the catalog has it.

    estimate: the planner's row count, -1 when unknown; numbers: of all its columns now (pg_attribute.attnum);
    dropped: those of columns that it once had; known: of the mapped columns when the stream was last known to fit;
    key: the columns that identify a row, in the order of their index.
    """

    selection: TableSelection
    shape: Shape
    oid: int
    identity: str
    estimate: int
    numbers: Mapping[str, int]
    dropped: Collection[int]
    known: Mapping[str, int]
    key: tuple[str, ...]


def survey_source(
    connection: psycopg.Connection,
    role: str,
    selection: Selection,
    publication: str,
    slot: str,
    *,
    mapped_only: bool = False,
) -> Survey:
    """The facts about `role`, read over any connection. SourceError when they cannot be read."""
    try:
        return survey(connection, role, selection, publication, slot, mapped_only=mapped_only)
    except psycopg.Error as error:
        raise command_error(
            "read the catalog", "source.dsn", error, "run it again; a migration may be holding locks"
        ) from None


def attach_refusal(found: Survey) -> SourceError | None:
    """All that stands in the way. Free slots and senders are left to the server's own answer."""
    return refusal([*check_ability(found), *check_tables(found), *check_publication(found)])


def unpublished(found: Survey) -> list[str]:
    """Tables that are there, and of which the publication lacks rows, so that the stream lacks them, too."""
    publication = found.publication
    if publication is None:
        return [table.selection.full_name for table in found.present]
    if publication.all_tables:
        return []
    whole = {(entry.schema, entry.name) for entry in publication.tables if not entry.filtered}
    selections = [table.selection for table in found.present]
    return [
        selection.full_name
        for selection in selections
        if (selection.schema, selection.name) not in whole and selection.schema not in publication.schemas
    ]


def read_catalog(
    connection: psycopg.Connection, selection: Selection, publication: str, options: TypeOptions = DEFAULTS
) -> dict[str, CatalogTable]:
    """Every selected table by full name, whether or not it is published. SourceError when one cannot be captured."""
    found = survey_source(connection, connection.info.user, selection, publication, "")
    _require(check_tables(found))
    return captured_tables(connection, found, {}, options)


def captured_tables(
    connection: psycopg.Connection,
    found: Survey,
    known: Mapping[str, Mapping[str, int]],
    options: TypeOptions = DEFAULTS,
) -> dict[str, CatalogTable]:
    """The tables that are there by full name, in the selection's order. `known`: see CatalogTable, by full name."""
    tables = {}
    types = BaseTypes(lambda oids: read_base_types(connection, oids))
    for table in found.present:
        selection, wanted, key = table.selection, set(table.wanted), set(table.key)
        rows = connection.execute(_COLUMNS, {"oid": table.oid}).fetchall()
        types.learn([oid for name, oid, *_ in rows if name in wanted])
        columns = tuple(
            Column(name, *types.resolve(oid, typmod), name in key) for name, oid, typmod, *_ in rows if name in wanted
        )
        numbers = {name: number for name, _, _, number, dropped in rows if not dropped}
        dropped = {number for _, _, _, number, dropped in rows if dropped}
        shape = Shape(selection.schema, selection.name, columns, options)
        tables[selection.full_name] = CatalogTable(
            selection,
            shape,
            table.oid,
            table.identity,
            table.estimate,
            numbers,
            dropped,
            known.get(selection.full_name, {name: numbers[name] for name in wanted}),
            table.key,
        )
    return tables


def read_shape(connection: psycopg.Connection, table: CatalogTable) -> Shape:
    """The kept shape as it is now, for a table whose definition may have changed since the catalog was read."""
    rows = connection.execute(_COLUMNS, {"oid": table.oid}).fetchall()
    found = {name: (oid, typmod) for name, oid, typmod, _, dropped in rows if not dropped}
    types = BaseTypes(lambda oids: read_base_types(connection, oids))
    types.learn([found[column.name][0] for column in table.shape.columns if column.name in found])
    columns = []
    for column in table.shape.columns:
        if column.name in found:
            oid, typmod = types.resolve(*found[column.name])
            columns.append(replace(column, type_oid=oid, typmod=typmod))
    return replace(table.shape, columns=tuple(columns))


def read_ancestors(connection: psycopg.Connection, oid: int) -> list[str]:
    """Full names of the tables that a relation is a partition of; empty when it is none."""
    return [row[0] for row in connection.execute(_ANCESTORS, {"oid": oid}).fetchall()]


def refusal(findings: Iterable[Finding]) -> SourceError | None:
    """The errors among the findings as one, with all mends in the order in which they are to be run; None without."""
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not wrong:
        return None
    # One statement may mend several faults, and is then run once.
    mends = dict.fromkeys(_mend(finding) for finding in wrong)
    first, cause = wrong[0], wrong[0].what
    if len(wrong) > 1:
        cause = "\n".join(f"{finding.subject}: {finding.what}" for finding in wrong)
        cause = f"{len(wrong)} things stand in the way\n{cause}"
    return SourceError("attach to PostgreSQL", first.subject, cause, "\n".join(mends))


def _require(findings: Iterable[Finding]) -> None:
    error = refusal(findings)
    if error is not None:
        raise error


def _mend(finding: Finding) -> str:
    return _RUNNERS.get(finding.who, "") + "\n".join(finding.mend)

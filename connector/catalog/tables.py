"""Rules on the tables that the mapping names (pure).

| check | asks |
|---|---|
| PG-10 | the table is there, and of a kind that can be published |
| PG-11 | the role may use its schema |
| PG-12 | row level security hides nothing from the snapshot |
| PG-13 | a replica identity, so that the application's UPDATE and DELETE go on working once the table is published |
| PG-14 | the columns are there, and pgoutput sends them |
| PG-15 | the role may read them |
| PG-16 | the dossier table's key is one column |
| PG-17 | no child tables by inheritance, whose rows would arrive under another name |

What is amiss with several columns of one table is one finding with one statement.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from connector.catalog.identifier import listed, qualified, quote
from connector.catalog.survey import Absent, Index, Survey, Table
from connector.change.selection import Role
from connector.finding import Finding, Severity, ok

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def check_tables(found: Survey) -> list[Finding]:
    """PG-10 to PG-17, table by table."""
    findings: list[Finding] = _schemas(found)
    for table in found.tables:
        if isinstance(table, Absent):
            findings.append(_absent(table))
        elif table.kind in _KINDS:
            what = f"it is {_KINDS[table.kind]}: PostgreSQL can publish tables only"
            mend = ("mapping: name the table that the rows are stored in",)
            findings.append(Finding("PG-10", Severity.ERROR, table.selection.full_name, what, mend, "operator"))
        else:
            findings += _table(table, found) or [_fine(table)]
    return findings


def name_of(table: Table) -> str:
    """The table as SQL writes it."""
    return qualified(table.selection.schema, table.selection.name)


def _fine(table: Table) -> Finding:
    what = f"{len(table.wanted)} of {len(table.columns)} columns are captured, key {', '.join(table.key)}"
    return ok("PG-10", table.selection.full_name, what)


def _absent(table: Absent) -> Finding:
    selection = table.selection
    elsewhere = [f"{schema}.{name}" for schema, name in table.candidates if name == selection.name]
    near = elsewhere or difflib.get_close_matches(
        selection.full_name, [f"{schema}.{name}" for schema, name in table.candidates], 1
    )
    mend = f"mapping: write {near[0]}" if near else "mapping: write schema.table as the database has it"
    return Finding("PG-10", Severity.ERROR, selection.full_name, "there is no such table", (mend,), "operator")


def _table(table: Table, found: Survey) -> list[Finding]:
    subject, name, role = table.selection.full_name, name_of(table), quote(found.role.name)
    findings: list[Finding] = []
    if table.persistence != "p":
        what = "it is unlogged or temporary: its changes are in no WAL"
        mend = (f"ALTER TABLE {name} SET LOGGED;  -- locks and rewrites the table: choose a quiet hour",)
        findings.append(Finding("PG-10", Severity.ERROR, subject, what, mend, "owner"))
    if table.kind == "p" and found.server.major < 13:
        what = f"it is partitioned: PostgreSQL {found.server.major} cannot publish it as one table"
        findings.append(
            Finding("PG-10", Severity.ERROR, subject, what, ("-- upgrade to PostgreSQL 13 or later",), "dba")
        )
    if table.thinned:
        mend = (f"ALTER ROLE {role} BYPASSRLS;  -- it can still read the granted columns only",)
        what = "row level security would hide rows from the snapshot, though not from the stream"
        findings.append(Finding("PG-12", Severity.ERROR, subject, what, mend, "dba"))
    findings += _identity(table, found)
    findings += _heirs(table)
    findings += _columns(table, found)
    findings += _privileges(table, found.role.name)
    return findings


def _schemas(found: Survey) -> list[Finding]:
    closed = {table.selection.schema: schema_granter(table) for table in found.present if not table.usable}
    role = found.role.name
    return [
        Finding(
            "PG-11",
            Severity.ERROR,
            f"schema {schema}",
            f"{role} may not use it",
            (f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)};",),
            who,
        )
        for schema, who in closed.items()
    ]


def schema_granter(table: Table) -> str:
    """Who can grant the use of the schema: the tables' owner where the schema is theirs, too."""
    return "owner" if table.schema_owner in (table.owner, "pg_database_owner") else "dba"


def _identity(table: Table, found: Survey) -> list[Finding]:
    subject, selection = table.selection.full_name, table.selection
    primary = next((index for index in table.indexes if index.is_primary), None)
    identity = next((index for index in table.indexes if index.is_identity), None)
    match table.identity:
        case "d":
            identified = primary is not None and primary.fit
        case "i":
            identified = identity is not None and identity.fit
        case "f":
            identified = primary is not None
        case _:
            identified = False
    if identified and _uncovered(table, found):
        what = (
            "REPLICA IDENTITY FULL and generated columns that are not published: once published, the application's"
            " UPDATE and DELETE would fail"
        )
        return [Finding("PG-13", Severity.ERROR, subject, what, (_by_key(table),), "owner")]
    if not identified:
        what = "no usable replica identity: once published, the application's UPDATE and DELETE would fail"
        if table.identity == "f":
            what = "no primary key: a row has nothing to be known by"
        elif primary is not None and not primary.fit and table.identity == "d":
            what = f"its primary key is deferrable, and so {what}"
        return [Finding("PG-13", Severity.ERROR, subject, what, _identity_mend(table, primary), "owner")]
    if selection.role is Role.DOSSIER and len(table.key) != 1:
        what = f"its key has {len(table.key)} columns ({', '.join(table.key)}); a dossier needs a key of one column"
        mend = _one_column_mend(table)
        return [Finding("PG-16", Severity.ERROR, subject, what, mend, "owner" if _single(table) else "operator")]
    bare = [heir for heir in table.heirs if table.kind == "p" and heir.kind == "r" and not heir.identified]
    if bare:
        what = f"partitions without replica identity: {', '.join(heir.name for heir in bare)}"
        mend = tuple(f"ALTER TABLE {qualified(heir.schema, heir.name)} REPLICA IDENTITY DEFAULT;" for heir in bare)
        return [Finding("PG-13", Severity.ERROR, subject, what, mend, "owner")]
    return []


def _uncovered(table: Table, found: Survey) -> bool:
    """FULL takes in every column, and PostgreSQL 18 wants the whole identity published; virtual ones never are."""
    if found.server.major < 18 or table.identity != "f":
        return False
    stored = found.publication is not None and found.publication.generated == "s"
    return any(column.generated == "v" or (column.generated == "s" and not stored) for column in table.columns)


def _by_key(table: Table) -> str:
    return f"ALTER TABLE {name_of(table)} REPLICA IDENTITY DEFAULT;"


def _identity_mend(table: Table, primary: Index | None) -> tuple[str, ...]:
    name = name_of(table)
    if primary is not None and primary.fit:
        return (_by_key(table),)
    if primary is not None and table.kind == "r":
        index = quote(f"{table.selection.name}_emc_cdc")
        return (
            f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {name} ({listed(primary.columns)});",
            f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index};",
        )
    candidates = _unique(table)
    if candidates and table.identity != "f":
        return (f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {quote(candidates[0].name)};",)
    columns = candidates[0].columns if candidates else [column.name for column in table.columns[:1]]
    guess = listed(columns)
    return (f"ALTER TABLE {name} ADD PRIMARY KEY ({guess});  -- or the columns that identify a row, if not {guess}",)


def _unique(table: Table) -> list[Index]:
    """Indexes that can be a replica identity, those with the fewest columns first."""
    not_null = {column.name for column in table.columns if column.not_null}
    found = [index for index in table.indexes if index.fit and not_null.issuperset(index.columns)]
    return sorted(found, key=lambda index: len(index.columns))


def _single(table: Table) -> Index | None:
    return next((index for index in _unique(table) if len(index.columns) == 1), None)


def _one_column_mend(table: Table) -> tuple[str, ...]:
    single = _single(table)
    if single is None:
        return ("mapping: choose a dossier table that one column identifies (unique and NOT NULL)",)
    return (f"ALTER TABLE {name_of(table)} REPLICA IDENTITY USING INDEX {quote(single.name)};",)


def _heirs(table: Table) -> list[Finding]:
    if table.kind != "r" or not table.heirs:
        return []
    names = ", ".join(f"{heir.schema}.{heir.name}" for heir in table.heirs)
    what = f"other tables inherit from it ({names}): their rows arrive under their own names, and would be missed"
    mend = ("mapping: name tables that nothing inherits from",)
    return [Finding("PG-17", Severity.ERROR, table.selection.full_name, what, mend, "operator")]


def _columns(table: Table, found: Survey) -> list[Finding]:
    subject = table.selection.full_name
    present = {column.name: column for column in table.columns}
    findings = []
    for name in table.wanted:
        if name not in present:
            link = ", which links it to its dossier" if name == table.selection.link else ""
            what = f"there is no such column{link}"
            mend = (_nearest(name, present),)
            findings.append(Finding("PG-14", Severity.ERROR, f"{subject}.{name}", what, mend, "operator"))
    listed_too = _listed(table, found)
    unsent = [
        name
        for name in table.wanted
        if name in present and name not in listed_too and _unsent(present[name].generated, found)
    ]
    if unsent:
        what = f"generated columns are not in the replication stream: {', '.join(unsent)}"
        stored = all(present[name].generated == "s" for name in unsent)
        if found.server.major >= 18 and stored and found.publication is not None:
            publication = quote(found.publication_name)
            sql = f"ALTER PUBLICATION {publication} SET (publish_generated_columns = 'stored');"
            owned = found.publication.owner == table.owner
            findings.append(Finding("PG-14", Severity.ERROR, subject, what, (sql,), "owner" if owned else "dba"))
        else:
            mend = ("mapping: use the columns that they are computed from",)
            findings.append(Finding("PG-14", Severity.ERROR, subject, what, mend, "operator"))
    return findings


def _listed(table: Table, found: Survey) -> list[str]:
    """The publication's column list; a stored generated column in it is sent (18 and later)."""
    entries = found.publication.tables if found.publication is not None else ()
    selection = table.selection
    own = (entry.columns for entry in entries if (entry.schema, entry.name) == (selection.schema, selection.name))
    return next(own, None) or []


def _unsent(generated: str, found: Survey) -> bool:
    published = found.publication is not None and found.publication.generated == "s"
    return generated == "v" or (generated == "s" and not published)


def _nearest(name: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(candidates), 1)
    return f"mapping: write {near[0]}" if near else f"mapping: write one of {', '.join(candidates)}"


def _privileges(table: Table, role: str) -> list[Finding]:
    unreadable = [column.name for column in table.columns if column.name in table.wanted and not column.readable]
    if not unreadable:
        return []
    mend = (f"GRANT SELECT ({listed(unreadable)}) ON {name_of(table)} TO {quote(role)};",)
    what = f"{role} may not read {', '.join(unreadable)}"
    return [Finding("PG-15", Severity.ERROR, table.selection.full_name, what, mend, "owner")]

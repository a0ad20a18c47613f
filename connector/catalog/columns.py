"""Which columns are published: the lists that are to be, and what is said of those that are (pure).

| check | asks |
|---|---|
| PG-25 | nothing but mapped columns and the key is published, or what becomes of the others |
| PG-27 | no column list is in the way of a migration of the application's that nobody has been told of |

A list is opt-in (`source.publish_columns: mapped`, PostgreSQL 15 and later), because PostgreSQL then refuses the
application's DROP COLUMN and ALTER TYPE of a listed column, and refuses every UPDATE and DELETE of the table after
REPLICA IDENTITY FULL or a wider key. So a table whose identity is FULL is published whole, and said to be.
"""

from __future__ import annotations

from connector.catalog.identifier import listed, quote
from connector.catalog.privileges import readable_beyond
from connector.catalog.survey import Publication, Published, Survey, Table
from connector.catalog.tables import name_of
from connector.finding import Finding, Severity, ok

LISTS_SINCE = 15


def entry_of(table: Table, found: Survey, *, lists: bool = True) -> str:
    """The table as the publication is to name it; without its column list where `lists` is false."""
    columns = column_list(table, found) if lists else None
    return name_of(table) if columns is None else f"{name_of(table)} ({listed(columns)})"


def column_list(table: Table, found: Survey) -> list[str] | None:
    """The columns that the publication is to list, in table order; None for all."""
    if not found.mapped_only or found.server.major < LISTS_SINCE or _whole_identity(table):
        return None
    return [column.name for column in table.columns if column.name in table.wanted]


def set_tables(found: Survey, *, lists: bool = True) -> str:
    """Exactly the mapping's tables, with the column lists that are wanted and no others, without filters."""
    entries = ", ".join(entry_of(table, found, lists=lists) for table in found.present)
    return f"ALTER PUBLICATION {quote(found.publication_name)} SET TABLE {entries};"


def check_columns(found: Survey, who: str) -> list[Finding]:
    """PG-25 and PG-27 of a publication that is there. who: may alter it."""
    publication = found.publication
    if publication is None:
        return []
    subject = f"publication {found.publication_name}"
    if found.mapped_only and found.server.major < LISTS_SINCE:
        what = f"PostgreSQL {found.server.major} has no column lists, which publish_columns: mapped asks for"
        mend = ("source.publish_columns: all",)
        return [Finding("PG-25", Severity.WARNING, subject, what, mend, "operator"), *_evidence(found, publication)]
    if not found.mapped_only:
        return _evidence(found, publication)
    findings = [*_other_lists(found, publication, who), *_full(found)]
    if any(entry.columns is not None for _, entry in _entries(found, publication)):
        findings.append(_migrations(found, publication, who))
    return [*findings, *_evidence(found, publication)]


def _whole_identity(table: Table) -> bool:
    return table.identity == "f" or any(heir.identity == "f" for heir in table.heirs)


def _entries(found: Survey, publication: Publication) -> list[tuple[Table, Published]]:
    """Tables of the mapping that the publication names itself."""
    entries = {(entry.schema, entry.name): entry for entry in publication.tables}
    named = [(table, entries.get((table.selection.schema, table.selection.name))) for table in found.present]
    return [(table, entry) for table, entry in named if entry is not None]


def _other_lists(found: Survey, publication: Publication, who: str) -> list[Finding]:
    """Lists that are absent or too long; one that is too short is PG-22's to tell."""
    told = []
    for table, entry in _entries(found, publication):
        wanted = column_list(table, found)
        if wanted is None:
            continue
        if entry.columns is None:
            told.append(f"{table.selection.full_name} has none")
        elif more := [column for column in entry.columns if column not in wanted]:
            told.append(f"{table.selection.full_name} lists {', '.join(more)}, too")
    if not told:
        return []
    what = f"publish_columns: mapped asks for column lists, and {'; '.join(told)}"
    subject = f"publication {found.publication_name}"
    return [Finding("PG-25", Severity.WARNING, subject, what, (set_tables(found),), who)]


def _full(found: Survey) -> list[Finding]:
    whole = [table for table in found.present if _whole_identity(table)]
    return [
        Finding(
            "PG-27",
            Severity.WARNING,
            table.selection.full_name,
            "its REPLICA IDENTITY FULL and a column list together would make every UPDATE and DELETE fail: it is"
            " published whole, against publish_columns: mapped",
            (
                f"ALTER TABLE {name_of(table)} REPLICA IDENTITY DEFAULT;  -- unless somebody needs the old rows whole",
                "-- then: emc-cdc setup --apply",
            )
            if table.identity == "f"
            else ("-- REPLICA IDENTITY DEFAULT on its partitions, then: emc-cdc setup --apply",),
            "owner",
        )
        for table in whole
    ]


def _migrations(found: Survey, publication: Publication, who: str) -> Finding:
    columns = [
        f"{table.selection.full_name} ({', '.join(entry.columns)})"
        for table, entry in _entries(found, publication)
        if entry.columns is not None
    ]
    what = (
        "while it lists columns, these migrations of the application's fail: DROP COLUMN and ALTER TYPE of"
        f" {', '.join(columns)}; and after REPLICA IDENTITY FULL or a key with a column that is not listed, every"
        " UPDATE and DELETE"
    )
    mend = (set_tables(found, lists=False) + "  -- before such a migration", "-- after it: emc-cdc setup --apply")
    return Finding("PG-27", Severity.NOTE, f"publication {found.publication_name}", what, mend, who)


def _evidence(found: Survey, publication: Publication) -> list[Finding]:
    """What of the tables leaves the server, and what becomes of it; nothing where PG-23 tells of other tables."""
    wanted = {(table.selection.schema, table.selection.name) for table in found.tables}
    others = any((entry.schema, entry.name) not in wanted for entry in publication.tables)
    if publication.all_tables or publication.schemas or others:
        return []
    lists = {table.oid: entry.columns for table, entry in _entries(found, publication)}
    mapped = unmapped = 0
    for table in found.present:
        published = lists.get(table.oid)
        names = [column.name for column in table.columns if published is None or column.name in published]
        mapped += sum(name in table.wanted for name in names)
        unmapped += sum(name not in table.wanted for name in names)
    subject = f"publication {found.publication_name}"
    if not unmapped:
        return [ok("PG-25", subject, f"nothing but the {mapped} mapped and key columns leaves the server")]
    read = [name for table in found.present for name in readable_beyond(table)]
    granted = "the role may read some of them (PG-18)" if read else f"{found.role.name} may not read them"
    what = (
        f"{mapped} columns are captured; {unmapped} others of these tables are in the stream, dropped while decoding"
        f" and never kept; {granted}"
    )
    return [ok("PG-25", subject, what)]

"""Rules on the publication and the slot (pure).

| check | asks |
|---|---|
| PG-20 | the publication is there, and its tables' owner may make one |
| PG-21 | it publishes insert, update, delete and truncate |
| PG-22 | it has every table of the mapping, whole: no row filter, no column list that lacks one or was not asked for |
| PG-23 | it has no other table |
| PG-24 | partitioned tables are published as one (publish_via_partition_root) |
| PG-30 | the slot is absent, or ours and of use |

A wrong list of tables is mended by one statement, which PostgreSQL applies at once: there is no moment without. What
several findings say together is run as well: where one needs the list to be set whole, the others say the same.
"""

from __future__ import annotations

from connector.catalog.columns import check_columns, column_list, entry_of, set_tables
from connector.catalog.identifier import literal, qualified, quote
from connector.catalog.survey import Publication, Published, Slot, Survey, Table
from connector.catalog.tables import name_of
from connector.finding import Finding, Severity, ok

INVALIDATED = {
    "wal_removed": "PostgreSQL has removed WAL that it needs (max_slot_wal_keep_size)",
    "rows_removed": "PostgreSQL has removed catalog rows that it needs",
    "wal_level_insufficient": "wal_level was not logical for a time",
    "idle_timeout": "it was idle for too long (idle_replication_slot_timeout)",
}


def check_publication(found: Survey) -> list[Finding]:
    """PG-20 to PG-24, and what `columns` says of the columns (PG-25, PG-27)."""
    publication = found.publication
    if publication is None:
        return [*_may_publish(found), _absent(found)]
    findings = [*_kinds(found, publication), *_missing(found, publication), *_more(found, publication)]
    findings += _partitions(found, publication)
    subject = f"publication {found.publication_name}"
    fine = ok("PG-20", subject, f"{len(found.tables)} tables, and no row of theirs is kept back")
    return [*(findings or [fine]), *check_columns(found, alterer(found))]


def create_publication(found: Survey) -> str:
    """The statement that makes it, for the tables that are there."""
    tables = ", ".join(entry_of(table, found) for table in found.present)
    root = " WITH (publish_via_partition_root = true)" if found.server.major >= 13 else ""
    return f"CREATE PUBLICATION {quote(found.publication_name)} FOR TABLE {tables}{root};"


def publisher(found: Survey) -> str:
    """Who can make the publication: one owner of all tables, or else a superuser. PostgreSQL asks for both."""
    return "owner" if len({table.owner for table in found.present}) == 1 else "dba"


def alterer(found: Survey) -> str:
    """Who can alter the publication that is there: the tables' owner where it is theirs, or else a superuser."""
    publication = found.publication
    owners = {table.owner for table in found.present}
    return "owner" if publication is not None and owners == {publication.owner} else "dba"


def may_publish(found: Survey) -> str | None:
    """The grant that the owner lacks to make a publication, None when nothing is lacking."""
    lacking = [table.owner for table in found.present if not table.owner_may_publish]
    if not lacking or publisher(found) == "dba":
        return None
    return f"GRANT CREATE ON DATABASE {quote(found.server.database)} TO {quote(lacking[0])};"


def _subject(found: Survey) -> str:
    return f"publication {found.publication_name}"


def _may_publish(found: Survey) -> list[Finding]:
    grant = may_publish(found)
    if grant is None:
        return []
    what = f"the tables' owner {found.present[0].owner} may not make publications in this database"
    return [Finding("PG-20", Severity.ERROR, _subject(found), what, (grant,), "dba")]


def _absent(found: Survey) -> Finding:
    if not found.present:
        what = "it does not exist, and neither do the tables"
        mend = ("-- first mend what is said of the tables",)
        return Finding("PG-20", Severity.ERROR, _subject(found), what, mend, "operator")
    what, mend = "it does not exist", (create_publication(found),)
    return Finding("PG-20", Severity.ERROR, _subject(found), what, mend, publisher(found))


def _kinds(found: Survey, publication: Publication) -> list[Finding]:
    if not publication.leaves_out:
        return []
    all_kinds = "insert, update, delete" + (", truncate" if found.server.major >= 11 else "")
    what = f"it leaves out {', '.join(publication.leaves_out)}"
    mend = (f"ALTER PUBLICATION {quote(found.publication_name)} SET (publish = '{all_kinds}');",)
    return [Finding("PG-21", Severity.ERROR, _subject(found), what, mend, alterer(found))]


def _missing(found: Survey, publication: Publication) -> list[Finding]:
    if publication.all_tables:
        return []
    findings = []
    entries = {(entry.schema, entry.name): entry for entry in publication.tables}
    absent = []
    for table in found.present:
        schema, name = table.selection.schema, table.selection.name
        entry = entries.get((schema, name))
        if entry is None:
            if schema not in publication.schemas:
                absent.append(table)
            continue
        full_name = table.selection.full_name
        if entry.filtered:
            what = f"a row filter keeps rows of {full_name} back"
            findings.append(_entry("PG-22", Severity.ERROR, found, what))
        if entry.columns is not None:
            findings += _column_list(found, table, entry.columns)
    if absent:
        what = f"it lacks {', '.join(map(name_of, absent))}"
        added = ", ".join(entry_of(table, found) for table in absent)
        mend = f"ALTER PUBLICATION {quote(found.publication_name)} ADD TABLE {added};"
        sql = (set_tables(found),) if _reset(found, publication) else (mend,)
        findings.append(Finding("PG-22", Severity.ERROR, _subject(found), what, sql, alterer(found)))
    return findings


def _reset(found: Survey, publication: Publication) -> bool:
    """Whether an entry is to be replaced, which only setting the whole list does."""
    wanted = {(table.selection.schema, table.selection.name): column_list(table, found) for table in found.present}
    return any(
        entry.filtered or entry.columns != wanted[entry.schema, entry.name]
        for entry in publication.tables
        if (entry.schema, entry.name) in wanted
    )


def _column_list(found: Survey, table: Table, published: list[str]) -> list[Finding]:
    """What is wrong with a list; of one that is asked for, only what it lacks."""
    name = table.selection.full_name
    if table.identity == "f":
        what = (
            f"its column list of {name}, whose REPLICA IDENTITY is FULL: the application's UPDATE and DELETE fail now"
        )
        return [_entry("PG-22", Severity.ERROR, found, what)]
    lacking = [column for column in table.wanted if column not in published]
    if lacking:
        what = f"its column list of {name} leaves out {', '.join(lacking)}"
        if set(table.key).intersection(lacking):
            what += ": without the whole key in it, the application's UPDATE and DELETE fail now"
        return [_entry("PG-22", Severity.ERROR, found, what)]
    if found.mapped_only:
        return []
    what = (
        f"its column list of {name} stands in the way of the application's migrations: DROP COLUMN and ALTER TYPE of"
        f" {', '.join(published)} fail, and every UPDATE after REPLICA IDENTITY FULL or a wider key"
    )
    return [_entry("PG-22", Severity.WARNING, found, what)]


def _entry(check: str, severity: Severity, found: Survey, what: str) -> Finding:
    return Finding(check, severity, _subject(found), what, (set_tables(found),), alterer(found))


def _more(found: Survey, publication: Publication) -> list[Finding]:
    mend: tuple[str, ...]
    if publication.all_tables:
        what = (
            "it publishes all tables, also later ones: the application's UPDATE of any table without a primary key"
            " fails"
        )
        drop = f"DROP PUBLICATION {quote(found.publication_name)};"
        mend = ("BEGIN;", drop, create_publication(found), "COMMIT;")
        return [Finding("PG-23", Severity.ERROR, _subject(found), what, mend, "dba")]
    if publication.schemas:
        what = (
            f"it publishes whole schemas ({', '.join(publication.schemas)}), also their later tables: the application's"
            " UPDATE of any table without a primary key fails"
        )
        return [_entry("PG-23", Severity.ERROR, found, what)]
    wanted = {(table.selection.schema, table.selection.name) for table in found.tables}
    more = [entry for entry in publication.tables if (entry.schema, entry.name) not in wanted]
    if not more:
        return []
    broken = [entry for entry in more if not entry.identified]
    what = f"it publishes tables that the mapping does not name: {_names(more)}"
    if broken:
        what += f"; the application's UPDATE fails now on {_names(broken)}"
    tables = ", ".join(qualified(entry.schema, entry.name) for entry in more)
    drop = f"ALTER PUBLICATION {quote(found.publication_name)} DROP TABLE {tables};"
    mend = (set_tables(found),) if _reset(found, publication) else (drop,)
    severity = Severity.ERROR if broken else Severity.WARNING
    return [Finding("PG-23", severity, _subject(found), what, mend, alterer(found))]


def _names(entries: list[Published]) -> str:
    return ", ".join(f"{entry.schema}.{entry.name}" for entry in entries)


def _partitions(found: Survey, publication: Publication) -> list[Finding]:
    partitioned = [table.selection.full_name for table in found.present if table.kind == "p"]
    if not partitioned or publication.via_root is not False:
        return []
    what = f"changes of {', '.join(partitioned)} arrive under the names of its partitions, and would be missed"
    mend = (f"ALTER PUBLICATION {quote(found.publication_name)} SET (publish_via_partition_root = true);",)
    return [Finding("PG-24", Severity.ERROR, _subject(found), what, mend, alterer(found))]


def ours(slot: Slot, found: Survey) -> bool:
    """Whether a slot of our name is one that we could have made: on this database, for pgoutput."""
    return slot.plugin == "pgoutput" and slot.database == found.server.database


def check_slot(found: Survey) -> Finding:
    """PG-30."""
    subject, slot = f"slot {found.slot_name}", found.slot
    if slot is None:
        return ok("PG-30", subject, "it will be made at the first start")
    if not ours(slot, found):
        of = "a physical slot" if slot.plugin is None else f"of {slot.plugin} on database {slot.database}"
        mend = ("source.slot: another name, for this slot is somebody else's",)
        return Finding("PG-30", Severity.ERROR, subject, f"it is {of}", mend, "operator")
    drop = f"SELECT pg_drop_replication_slot({literal(found.slot_name)});  -- and go on as the runbook says"
    if slot.invalidation is not None:
        reason = INVALIDATED.get(slot.invalidation, slot.invalidation)
        return Finding("PG-30", Severity.ERROR, subject, f"it is of no use any more: {reason}", (drop,), "operator")
    if found.publication is None:
        what = "it is older than the publication, which does not exist: changes up to now cannot be decoded"
        return Finding("PG-30", Severity.ERROR, subject, what, (drop,), "operator")
    if slot.wal_status == "unreserved":
        what = "it is about to lose WAL that it needs (max_slot_wal_keep_size)"
        mend = ("emc-cdc capture  -- start it now, or raise max_slot_wal_keep_size",)
        return Finding("PG-30", Severity.WARNING, subject, what, mend, "operator")
    if slot.active_pid is not None:
        return ok("PG-30", subject, f"in use by the server process {slot.active_pid}; another capture would wait")
    return ok("PG-30", subject, "it keeps the place; nobody uses it now")

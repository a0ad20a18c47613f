"""The SQL that attaches the connector with the least privileges: who runs what, in order (pure).

Statements leave out what is done already, so they can be printed and applied again at any time. The tables' owner
makes the publication and grants SELECT on mapped and key columns; only what an owner may not do is left to a
superuser. `undo` takes all of it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.catalog.identifier import listed, quote
from connector.catalog.publication import check_publication, create_publication, may_publish, publisher
from connector.catalog.server import RESTART
from connector.catalog.survey import Survey, Table
from connector.catalog.tables import check_tables, name_of, schema_granter
from connector.errors import SourceError
from connector.finding import Finding, Severity


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. why: for who runs it.

    who: dba, owner or operator (the runtime role itself); role: the owner's or runtime role's name, empty for a
    superuser. A statement that begins with `--` is a remark.
    """

    sql: str
    who: str
    role: str
    why: str


def setup_statements(found: Survey) -> list[Statement]:
    """All that is still to be run, the superuser's part first. SourceError when the mapping does not fit."""
    require_tables(found)
    return [*_dba(found), *_publication(found), *_grants(found)]


def require_tables(found: Survey) -> None:
    """SourceError with the first thing that no statement of ours may mend: a table, a column, an identity."""
    ours = ("PG-11", "PG-12", "PG-15")
    for finding in check_tables(found):
        if finding.severity is Severity.ERROR and finding.check not in ours and not _generated(finding):
            raise SourceError("print the set-up", finding.subject, finding.what, "\n".join(finding.mend))


def _generated(finding: Finding) -> bool:
    """Published generated columns are a statement of ours (18 and later)."""
    return finding.check == "PG-14" and finding.who != "operator"


def _dba(found: Survey) -> list[Statement]:
    role, statements = found.role, []
    if found.server.wal_level != "logical":
        why = f"so that changes can be decoded; {RESTART.removeprefix('-- ')}"
        statements.append(("ALTER SYSTEM SET wal_level = 'logical';", why))
    if not role.exists:
        sql = f"CREATE ROLE {quote(role.name)} LOGIN REPLICATION;"
        statements.append((sql, f"the connector's role; give it a password: \\password {role.name}"))
    elif not (role.superuser or (role.replication and role.login)):
        sql = f"ALTER ROLE {quote(role.name)} WITH LOGIN REPLICATION;"
        statements.append((sql, "the connector reads the replication stream"))
    if any(table.thinned for table in found.present):
        sql = f"ALTER ROLE {quote(role.name)} BYPASSRLS;"
        statements.append((sql, "row level security would hide rows from the first read"))
    grant = may_publish(found) if found.publication is None else None
    if grant is not None:
        statements.append((grant, "an owner needs it to make a publication"))
    return [Statement(sql, "dba", "", why) for sql, why in statements]


def _publication(found: Survey) -> list[Statement]:
    owner = found.present[0].owner if publisher(found) == "owner" else ""
    why = "what the connector may decode: these tables and no others"
    if found.publication is None:
        return [Statement(create_publication(found), publisher(found), owner, why)]
    # Several faults may be mended by one statement, which is then run once.
    wrong = {finding.mend: finding for finding in check_publication(found) if _ours_to_mend(finding)}
    return [
        Statement(sql, finding.who, found.publication.owner if finding.who == "owner" else "", finding.what)
        for finding in wrong.values()
        for sql in finding.mend
    ]


def _ours_to_mend(finding: Finding) -> bool:
    """What stands in the way, and column lists that the settings ask for."""
    return finding.severity is Severity.ERROR or (
        finding.check == "PG-25" and finding.severity is Severity.WARNING and finding.who != "operator"
    )


def _grants(found: Survey) -> list[Statement]:
    role, statements = quote(found.role.name), []
    for table in found.present:
        schema = table.selection.schema
        if not table.usable and all(schema != other.selection.schema for other in _before(found, table)):
            who = schema_granter(table)
            sql = f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role};"
            statements.append(Statement(sql, who, table.owner if who == "owner" else "", "to see the tables"))
    for table in found.present:
        readable = {column.name for column in table.columns if column.readable}
        if not readable.issuperset(table.wanted):
            sql = f"GRANT SELECT ({listed(table.wanted)}) ON {name_of(table)} TO {role};"
            why = "the first read; only the key and the columns that the mapping uses"
            statements.append(Statement(sql, "owner", table.owner, why))
    return statements


def _before(found: Survey, table: Table) -> tuple[Table, ...]:
    return found.present[: found.present.index(table)]

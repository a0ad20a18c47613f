"""Rules on what the runtime role may do beyond what it needs (pure).

| check | asks |
|---|---|
| PG-18 | the role may read the mapped columns and the key of each table, and do nothing else with it |

What was granted to the role itself is mended; what it has through PUBLIC or a role that it is in is only told, for
taking that away would take it from the application as well.
"""

from __future__ import annotations

from connector.catalog.identifier import listed, quote
from connector.catalog.survey import Survey, Table
from connector.catalog.tables import name_of
from connector.finding import Finding, Severity, ok


def check_privileges(found: Survey) -> list[Finding]:
    """PG-18, one finding for each table with more than the least. Nothing of a superuser: PG-04 tells of that."""
    if not found.role.exists or found.role.superuser:
        return []
    findings = [finding for table in found.present if (finding := _table(table, found)) is not None]
    what = "it may read the mapped columns and the keys, no others, and change nothing"
    return findings or [ok("PG-18", f"role {found.role.name}", what)]


def readable_beyond(table: Table) -> list[str]:
    """Columns that the role may read although no mapping needs them."""
    return [column.name for column in table.columns if column.readable and column.name not in table.wanted]


def _table(table: Table, found: Survey) -> Finding | None:
    role, subject = found.role, table.selection.full_name
    if table.owner == role.name:
        what = f"{role.name} owns it, and so may do everything with it"
        mend: tuple[str, ...] = (
            "CREATE ROLE emc_cdc LOGIN REPLICATION;  -- and a password: \\password emc_cdc",
            "-- then name it in source.dsn, and grant what `emc-cdc setup` prints",
        )
        return Finding("PG-18", Severity.WARNING, subject, what, mend, "dba")
    more, changes = readable_beyond(table), [one for one in table.privileges if one != "SELECT"]
    if not (more or changes):
        return None
    told = [f"read {', '.join(more)}"] if more else []
    told += [f"{', '.join(changes)} rows"] if changes else []
    what = f"{role.name} may also {' and '.join(told)}, which it never needs"
    mend = _mend(table, found, more)
    if not mend:
        what += "; it has this through PUBLIC or a role that it is in"
        return Finding("PG-18", Severity.NOTE, subject, what)
    return Finding("PG-18", Severity.WARNING, subject, what, mend, "owner")


def _mend(table: Table, found: Survey, more: list[str]) -> tuple[str, ...]:
    """Statements on the role's own grants. Taking SELECT on the table takes that on its columns as well."""
    name, role = name_of(table), quote(found.role.name)
    changes = [privilege for privilege in table.granted if privilege != "SELECT"]
    statements = [f"REVOKE {', '.join(changes)} ON {name} FROM {role};"] if changes else []
    if "SELECT" in table.granted:
        wanted = listed([column.name for column in table.columns if column.name in table.wanted])
        whole = f"REVOKE SELECT ON {name} FROM {role};"  # noqa: S608 - quoted identifiers
        return ("BEGIN;", *statements, whole, f"GRANT SELECT ({wanted}) ON {name} TO {role};", "COMMIT;")
    own = {
        column
        for granted in found.role.columns
        if (granted.schema, granted.name) == (table.selection.schema, table.selection.name)
        for column in granted.columns
    }
    if revoked := [column for column in more if column in own]:
        sql = f"REVOKE SELECT ({listed(revoked)}) ON {name} FROM {role};"  # noqa: S608 - quoted identifiers
        statements.append(sql)
    return tuple(statements)

"""Checks of the source database: reading only, as the runtime role, with short timeouts.

Contract: `check_source` returns findings in the order in which a person would mend them; it raises nothing for what a
database can be. A check that cannot be made because an earlier one failed is left out.
"""

from __future__ import annotations

import difflib

import psycopg
from psycopg import conninfo

from connector.change.selection import Role, Selection, TableSelection
from connector.errors import ConnectorError
from connector.preflight.finding import Finding, Severity, ok
from connector.preflight.setup import quote
from connector.settings import Settings
from connector.source.connection import ask

# Everything about server and role in one row.
_SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('wal_level'), current_database(), current_user,
       r.rolreplication OR r.rolsuper, r.rolsuper, current_setting('max_replication_slots')::int,
       current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_replication_slots),
       (SELECT count(*) FROM pg_stat_replication), current_setting('server_encoding'),
       coalesce((SELECT pending_restart FROM pg_settings WHERE name = 'wal_level'), false),
       current_setting('max_slot_wal_keep_size', true)
  FROM pg_roles r WHERE r.rolname = current_user
"""

_TABLE = """
SELECT c.oid, c.relreplident, row_security_active(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p')
"""

# Usage of the schema is asked of the catalog, which everybody may read.
_USAGE = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %(schema)s"

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       coalesce(a.attnum = ANY (pk.indkey::int2[]), false), coalesce(a.attnum = ANY (ri.indkey::int2[]), false),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
  FROM pg_attribute a
  LEFT JOIN pg_index pk ON pk.indrelid = a.attrelid AND pk.indisprimary
  LEFT JOIN pg_index ri ON ri.indrelid = a.attrelid AND ri.indisreplident
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_NEIGHBOURS = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

_PUBLICATION = """
SELECT puballtables, pubinsert AND pubupdate AND pubdelete FROM pg_publication WHERE pubname = %(publication)s
"""
_PUBLISHED = "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %(publication)s"

_SLOT = "SELECT plugin, database, active_pid, {status} FROM pg_replication_slots WHERE slot_name = %(slot)s"

Columns = dict[str, dict[str, str]]
"""Table → column → type, of what was found."""


def check_source(settings: Settings, selection: Selection) -> tuple[list[Finding], Columns]:
    """Every finding, and the columns of the tables that exist."""
    columns: Columns = {}
    try:
        connection = ask(settings.source, application="emc-cdc check")
    except ConnectorError as error:
        return [Finding("PG-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")], columns
    with connection:
        try:
            return _check(connection, settings, selection, columns), columns
        except psycopg.Error as error:
            cause = error.diag.message_primary or type(error).__name__
            return [
                Finding("PG-01", Severity.ERROR, "source.dsn", cause, ("run the check again",), "operator")
            ], columns


def read_keys(settings: Settings, selection: Selection) -> tuple[dict[str, list[str]], int, str]:
    """Identity columns of the tables that exist, the server's version, and the runtime role."""
    with ask(settings.source, application="emc-cdc setup") as connection:
        keys: dict[str, list[str]] = {}
        for table in selection.tables:
            found = connection.execute(_TABLE, {"schema": table.schema, "table": table.name}).fetchone()
            if found is not None:
                rows = connection.execute(_COLUMNS, {"oid": found[0]}).fetchall()
                keys[table.full_name] = [row[0] for row in rows if row[3 if found[1] == "i" else 2]]
        return keys, connection.info.server_version, _role(settings)


def _role(settings: Settings) -> str:
    found = conninfo.conninfo_to_dict(settings.source.dsn.get_secret_value()).get("user")
    return str(found or "emc_cdc")


def _check(connection: psycopg.Connection, settings: Settings, selection: Selection, columns: Columns) -> list[Finding]:
    row = connection.execute(_SERVER).fetchone()
    assert row is not None
    version = row[0]
    findings = _server(row)
    for table in selection.tables:
        findings += _table(connection, table, str(row[3]), columns)
    findings += _publication(connection, settings.publication, selection)
    status = "wal_status" if version >= 130000 else "NULL"
    slot = connection.execute(_SLOT.format(status=status), {"slot": settings.slot}).fetchone()
    findings.append(_slot(settings.slot, slot, str(row[2])))
    return findings


def _server(row: tuple[object, ...]) -> list[Finding]:
    (
        version,
        wal_level,
        database,
        role,
        replicates,
        superuser,
        slots,
        senders,
        used,
        sending,
        encoding,
        pending,
        keep,
    ) = row
    assert isinstance(version, int)
    findings = [ok("PG-01", "source.dsn", f"connected to {database} as {role}, encoding {encoding}")]
    major = version // 10000
    if not 10 <= major <= 18:
        findings.append(
            Finding("PG-02", Severity.ERROR if major < 10 else Severity.WARNING, "server version",
                    f"PostgreSQL {major}; 10 to 18 are known", (), "dba")
        )  # fmt: skip
    else:
        findings.append(ok("PG-02", "server version", f"PostgreSQL {major}"))
    if wal_level == "logical":
        findings.append(ok("PG-03", "wal_level", "logical"))
    elif pending:
        findings.append(Finding("PG-03", Severity.ERROR, "wal_level", "set, but PostgreSQL was not restarted since",
                                ("-- restart PostgreSQL once",), "dba"))  # fmt: skip
    else:
        mend = ("ALTER SYSTEM SET wal_level = 'logical';", "-- then restart PostgreSQL once")
        findings.append(Finding("PG-03", Severity.ERROR, "wal_level", f"it is {wal_level}", mend, "dba"))
    if not replicates:
        findings.append(
            Finding("PG-04", Severity.ERROR, f"role {role}", "it may not replicate",
                    (f"ALTER ROLE {quote(str(role))} WITH REPLICATION;",), "dba")
        )  # fmt: skip
    elif superuser:
        findings.append(
            Finding("PG-04", Severity.WARNING, f"role {role}", "it is a superuser; LOGIN and REPLICATION are enough",
                    ("CREATE ROLE emc_cdc LOGIN REPLICATION PASSWORD '…';",), "dba")
        )  # fmt: skip
    else:
        findings.append(ok("PG-04", f"role {role}", "LOGIN and REPLICATION, no superuser"))
    for check, name, most, taken in (
        ("PG-05", "max_replication_slots", slots, used),
        ("PG-06", "max_wal_senders", senders, sending),
    ):
        assert isinstance(most, int)
        assert isinstance(taken, int)
        if taken >= most:
            mend = (f"ALTER SYSTEM SET {name} = {most + 5};", "-- then restart PostgreSQL once")
            findings.append(Finding(check, Severity.WARNING, name, f"all {most} are in use", mend, "dba"))
        else:
            findings.append(ok(check, name, f"{most - taken} of {most} free"))
    if keep in (None, "-1"):
        bound = ("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';", "SELECT pg_reload_conf();")
        what = "this server has no bound" if keep is None else "not bounded: a slot that waits could fill the disk"
        findings.append(
            Finding("PG-07", Severity.WARNING, "max_slot_wal_keep_size", what, () if keep is None else bound, "dba")
        )
    else:
        findings.append(ok("PG-07", "max_slot_wal_keep_size", str(keep)))
    return findings


def _table(connection: psycopg.Connection, table: TableSelection, role: str, columns: Columns) -> list[Finding]:
    subject = table.full_name
    name = f"{quote(table.schema)}.{quote(table.name)}"
    found = connection.execute(_TABLE, {"schema": table.schema, "table": table.name}).fetchone()
    if found is None:
        near = _nearest(subject, [row[0] for row in connection.execute(_NEIGHBOURS).fetchall()])
        return [
            Finding(
                "PG-10",
                Severity.ERROR,
                subject,
                "there is no such table",
                (f"-- correct the mapping{near}",),
                "operator",
            )
        ]
    oid, identity, thinned = found
    rows = connection.execute(_COLUMNS, {"oid": oid}).fetchall()
    columns[subject] = {row[0]: row[1] for row in rows}
    findings: list[Finding] = []
    usage = connection.execute(_USAGE, {"schema": table.schema}).fetchone()
    if usage is not None and not usage[0]:
        mend = (f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {quote(role)};",)
        findings.append(
            Finding("PG-11", Severity.ERROR, f"schema {table.schema}", f"{role} may not use it", mend, "owner")
        )
    if thinned:
        mend = (f"ALTER ROLE {quote(role)} BYPASSRLS;",)
        findings.append(Finding("PG-12", Severity.ERROR, subject, "row level security would hide rows", mend, "dba"))
    keys = [row[0] for row in rows if row[3 if identity == "i" else 2]]
    if identity == "n" or not keys:
        has_key = any(row[2] for row in rows)
        mend = (
            f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT;"
            if has_key
            else f"ALTER TABLE {name} ADD PRIMARY KEY (…);  -- or REPLICA IDENTITY USING INDEX with a unique index",
        )
        findings.append(
            Finding("PG-13", Severity.ERROR, subject,
                    "no primary key or replica identity: once published, UPDATE and DELETE would fail", mend, "owner")
        )  # fmt: skip
    elif table.role is Role.DOSSIER and len(keys) != 1:
        what = "the dossier table's key must be one column"
        findings.append(
            Finding("PG-13", Severity.ERROR, subject, what, ("-- choose another dossier table",), "operator")
        )
    wanted = list(dict.fromkeys((*keys, *([table.link] if table.link else []), *table.columns)))
    present = {row[0] for row in rows}
    for column in wanted:
        if column not in present:
            mend = (f"-- correct the mapping{_nearest(column, sorted(present))}",)
            findings.append(
                Finding("PG-14", Severity.ERROR, f"{subject}.{column}", "there is no such column", mend, "operator")
            )
    unreadable = [row[0] for row in rows if row[0] in wanted and not row[4]]
    if unreadable:
        mend = (f"GRANT SELECT ({', '.join(map(quote, unreadable))}) ON {name} TO {quote(role)};",)
        what = f"{role} may not read {', '.join(unreadable)}"
        findings.append(Finding("PG-15", Severity.ERROR, subject, what, mend, "owner"))
    return findings or [
        ok("PG-10", subject, f"{len(wanted)} of {len(rows)} columns are captured, key {', '.join(keys)}")
    ]


def _publication(connection: psycopg.Connection, publication: str, selection: Selection) -> list[Finding]:
    subject = f"publication {publication}"
    names = {table.full_name: f"{quote(table.schema)}.{quote(table.name)}" for table in selection.tables}
    found = connection.execute(_PUBLICATION, {"publication": publication}).fetchone()
    if found is None:
        mend = (f"CREATE PUBLICATION {quote(publication)} FOR TABLE {', '.join(names.values())};",)
        return [Finding("PG-20", Severity.ERROR, subject, "it does not exist", mend, "owner")]
    findings: list[Finding] = []
    every_table, complete = found
    if not complete:
        mend = (f"ALTER PUBLICATION {quote(publication)} SET (publish = 'insert, update, delete, truncate');",)
        findings.append(
            Finding("PG-21", Severity.ERROR, subject, "it leaves out inserts, updates or deletes", mend, "owner")
        )
    published = {row[0] for row in connection.execute(_PUBLISHED, {"publication": publication}).fetchall()}
    absent = [quoted for name, quoted in names.items() if name not in published]
    if absent:
        mend = (f"ALTER PUBLICATION {quote(publication)} ADD TABLE {', '.join(absent)};",)
        findings.append(Finding("PG-22", Severity.ERROR, subject, f"it lacks {', '.join(absent)}", mend, "owner"))
    more = sorted(published - set(names))
    if more or every_table:
        what = f"it publishes more than is mapped: {', '.join(more[:5])}" if more else "it publishes all tables"
        findings.append(Finding("PG-23", Severity.WARNING, subject, what, (), "owner"))
    return findings or [ok("PG-20", subject, f"{len(names)} tables")]


def _slot(slot: str, found: tuple[object, ...] | None, database: str) -> Finding:
    subject = f"slot {slot}"
    if found is None:
        return ok("PG-30", subject, "it will be made at the first start")
    plugin, in_database, pid, status = found
    mend = (f"SELECT pg_drop_replication_slot('{slot}');  -- only if nobody else uses it",)
    if plugin != "pgoutput" or in_database != database:
        return Finding("PG-30", Severity.ERROR, subject, f"it belongs to {plugin} on {in_database}", mend, "operator")
    if status == "lost":
        return Finding("PG-30", Severity.ERROR, subject, "PostgreSQL has removed WAL that it needs", mend, "operator")
    return ok("PG-30", subject, f"in use by pid {pid}" if pid else "it waits for us")


def _nearest(name: str, candidates: list[str]) -> str:
    near = difflib.get_close_matches(name, candidates, 1)
    return f": did you mean {near[0]}?" if near else ""

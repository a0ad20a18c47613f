"""Rules on the server and the runtime role (pure).

| check | asks |
|---|---|
| PG-02 | version that is known, no standby that cannot decode |
| PG-03 | wal_level = logical, also after the next restart |
| PG-04 | the role may replicate, and no more than that |
| PG-05 | a replication slot is free, also after the next restart |
| PG-06 | a WAL sender is free, also after the next restart |
| PG-07 | the WAL that slots hold back is bounded |
| PG-08 | text can be converted to UTF-8 |
"""

from __future__ import annotations

from connector.catalog.identifier import quote
from connector.catalog.survey import RuntimeRole, Server, Survey
from connector.finding import Finding, Severity, ok

RESTART = "-- then restart PostgreSQL once"
"""The mend that is not SQL: only the database's administrator knows how the server is started."""
_RELOAD = "SELECT pg_reload_conf();"
_OLDEST, _NEWEST = 10, 18


def check_ability(found: Survey) -> list[Finding]:
    """PG-02 to PG-04: whether this server can ever be captured by this role."""
    return [_version(found.server), _wal_level(found.server), *_role(found.role)]


def check_server(found: Survey) -> list[Finding]:
    """PG-02 to PG-08."""
    server = found.server
    active = found.slot is not None and found.slot.active_pid is not None
    return [
        *check_ability(found),
        *_free("PG-05", "max_replication_slots", server, server.slots, server.slots_used, needed=found.slot is None),
        *_free("PG-06", "max_wal_senders", server, server.senders, server.senders_used, needed=not active),
        _keep_size(server),
        _encoding(server),
    ]


def _version(server: Server) -> Finding:
    subject, what = "server", f"PostgreSQL {server.major}"
    if server.major < _OLDEST:
        mend = (f"-- logical replication by pgoutput needs PostgreSQL {_OLDEST} or later: upgrade the server",)
        return Finding("PG-02", Severity.ERROR, subject, f"{what} is too old", mend, "dba")
    if server.standby and server.major < 16:
        mend = ("source.dsn: name the primary server (a standby can be decoded from PostgreSQL 16 on)",)
        return Finding("PG-02", Severity.ERROR, subject, f"{what} is a standby", mend, "operator")
    if server.major > _NEWEST:
        return Finding("PG-02", Severity.WARNING, subject, f"{what}, newer than those known: not tested")
    return ok("PG-02", subject, f"{what}, a standby (docs/runbook.md)" if server.standby else what)


def _wal_level(server: Server) -> Finding:
    subject, set_logical = "wal_level", "ALTER SYSTEM SET wal_level = 'logical';"
    match server.wal_level == "logical", subject in server.pending:
        case True, False:
            return ok("PG-03", subject, "logical")
        case True, True:
            what = "it is logical, but will be another one after the next restart of PostgreSQL"
            return Finding("PG-03", Severity.WARNING, subject, what, (set_logical, _RELOAD), "dba")
        case False, True:
            what = f"it is {server.wal_level}; a new value is set and waits for the restart"
            return Finding("PG-03", Severity.ERROR, subject, what, (RESTART,), "dba")
        case _:
            what = f"it is {server.wal_level}, so changes cannot be decoded"
            return Finding("PG-03", Severity.ERROR, subject, what, (set_logical, RESTART), "dba")


def _role(role: RuntimeRole) -> list[Finding]:
    subject = f"role {role.name}"
    mend: tuple[str, ...]
    if not role.exists:
        mend = (f"CREATE ROLE {quote(role.name)} LOGIN REPLICATION;",)
        return [Finding("PG-04", Severity.ERROR, subject, "it does not exist", mend, "dba")]
    if role.superuser:
        mend = (
            "CREATE ROLE emc_cdc LOGIN REPLICATION;  -- and a password: \\password emc_cdc",
            "-- then name it in source.dsn, and grant what `emc-cdc setup` prints",
        )
        what = "it is a superuser; LOGIN and REPLICATION are enough"
        return [Finding("PG-04", Severity.WARNING, subject, what, mend, "dba")]
    findings = []
    if not role.replication:
        mend = (f"ALTER ROLE {quote(role.name)} WITH REPLICATION;",)
        findings.append(Finding("PG-04", Severity.ERROR, subject, "it may not replicate", mend, "dba"))
    more = {"CREATEROLE": role.makes_roles, "CREATEDB": role.makes_databases}
    held = [attribute for attribute, has in more.items() if has]
    if held:
        mend = (f"ALTER ROLE {quote(role.name)} WITH {' '.join(f'NO{attribute}' for attribute in held)};",)
        what = f"it has {' and '.join(held)}; LOGIN and REPLICATION are enough"
        findings.append(Finding("PG-04", Severity.WARNING, subject, what, mend, "dba"))
    return findings or [ok("PG-04", subject, "LOGIN and REPLICATION, no superuser")]


def _free(check: str, name: str, server: Server, most: int, used: int, *, needed: bool) -> list[Finding]:
    if used >= most and needed:
        mend: tuple[str, ...] = (f"ALTER SYSTEM SET {name} = {most + 5};", RESTART)
        what = f"all {most} are in use"
        if name in server.pending:
            what, mend = f"{what}; another number is set and waits for the restart", (RESTART,)
        return [Finding(check, Severity.ERROR, name, what, mend, "dba")]
    if name in server.pending:
        what = f"it will be another number than {most} after the next restart of PostgreSQL"
        mend = (f"ALTER SYSTEM SET {name} = {most};  -- unless the new number is greater", _RELOAD)
        return [Finding(check, Severity.WARNING, name, what, mend, "dba")]
    free = f"{most - used} of {most} free" if used < most else f"all {most} in use, one of them by this connector"
    return [ok(check, name, free)]


def _keep_size(server: Server) -> Finding:
    subject = "max_slot_wal_keep_size"
    mend: tuple[str, ...]
    if server.keep_size is None:
        what = f"PostgreSQL {server.major} cannot bound the WAL that a waiting slot holds back"
        mend = ("-- watch the disk of pg_wal; an upgrade to 13 or later gives the bound",)
        return Finding("PG-07", Severity.WARNING, subject, what, mend, "dba")
    if server.keep_size != "-1":
        others = (
            f"; the bound holds for these slots, too: {', '.join(server.other_slots)}" if server.other_slots else ""
        )
        return ok("PG-07", subject, f"{server.keep_size}, and no more, is kept for our slot while we are away{others}")
    others = f"; the bound would hold for these slots, too: {', '.join(server.other_slots)}"
    what = "not bounded: a slot that waits could fill the disk" + (others if server.other_slots else "")
    mend = (
        f"ALTER SYSTEM SET {subject} = '50GB';  -- less than what is free where pg_wal is",
        _RELOAD,
    )
    return Finding("PG-07", Severity.WARNING, subject, what, mend, "dba")


def _encoding(server: Server) -> Finding:
    subject = f"database {server.database}"
    if server.encoding != "SQL_ASCII":
        converted = "" if server.encoding == "UTF8" else ": PostgreSQL converts it to UTF-8 for us"
        return ok("PG-08", subject, f"encoding {server.encoding}{converted}")
    what = "its encoding is SQL_ASCII: PostgreSQL converts nothing, and text that is not UTF-8 would stop the capture"
    mend = ("-- see that the application writes UTF-8, or move the data into a database WITH (ENCODING 'UTF8')",)
    return Finding("PG-08", Severity.WARNING, subject, what, mend, "dba")

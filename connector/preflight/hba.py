"""Rules on pg_hba.conf: whether the server will still let the connector in after its next reload.

| check | asks |
|---|---|
| PG-42 | pg_hba.conf, as it stands in the file now, has an entry for the connector |

Contract: `read_hba` reads the file through the server, where the role may (a superuser, or whom one has granted it);
`check_hba` is pure. Connected as we are, there was an entry when the server last read the file. The first entry that
fits decides (PostgreSQL section 20.1); one that cannot be judged from here ends the search without a complaint.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import psycopg
from psycopg.rows import dict_row

from connector.finding import Finding, Severity, ok
from connector.source.connection import command_error

_READABLE = """
SELECT has_table_privilege('pg_hba_file_rules', 'SELECT')
   AND has_function_privilege('pg_hba_file_rules()', 'EXECUTE') AS readable
"""
_RULES = """
SELECT line_number AS line, type, database AS databases, user_name AS users, address, netmask, auth_method AS method,
       error
  FROM pg_hba_file_rules ORDER BY line_number
"""
# Where the server sees us coming from: nothing over a unix socket.
_CALLER = """
SELECT current_database()::text AS database, current_user::text AS role, host(inet_client_addr()) AS address,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file. Words stand as in the file; `error`: why the server could not read it."""

    line: int
    type: str | None
    databases: list[str] | None
    users: list[str] | None
    address: str | None
    netmask: str | None
    method: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who connects, and from where; `address` is None over a unix socket."""

    database: str
    role: str
    address: str | None
    encrypted: bool


def read_hba(connection: psycopg.Connection) -> tuple[Caller, list[Rule] | None]:
    """The file's rules, None where they may not be seen. SourceError when the server does not answer (in time)."""
    try:
        cursor: psycopg.Cursor[dict[str, Any]] = connection.cursor(row_factory=dict_row)
        caller = Caller(**cursor.execute(_CALLER).fetchall()[0])
        if not cursor.execute(_READABLE).fetchall()[0]["readable"]:
            return caller, None
        return caller, [Rule(**row) for row in cursor.execute(_RULES).fetchall()]
    except psycopg.Error as error:
        raise command_error("read pg_hba.conf", "source.dsn", error, "run it again") from None


def check_hba(caller: Caller, rules: list[Rule] | None) -> Finding:
    """PG-42."""
    subject = "pg_hba.conf"
    if rules is None:
        what = "its entry for us cannot be seen by this role; there was one when the server last read the file"
        mend: tuple[str, ...] = (
            "SELECT line_number, type, database, user_name, address, auth_method, error FROM pg_hba_file_rules;",
        )
        return Finding("PG-42", Severity.UNKNOWN, subject, what, mend, "dba")
    broken = [rule for rule in rules if rule.error is not None]
    if broken:
        bad = broken[0]
        what = f"line {bad.line} cannot be read ({bad.error}): the next reload changes nothing, a restart fails"
        mend = (f"-- correct line {bad.line} of the file", "SELECT pg_reload_conf();")
        return Finding("PG-42", Severity.WARNING, subject, what, mend, "dba")
    for rule in rules:
        fits = _fits(rule, caller)
        if fits is None:
            return ok("PG-42", subject, f"line {rule.line} may be the entry for us")
        if fits and rule.method != "reject":
            return ok("PG-42", subject, f"line {rule.line} lets {caller.role} in ({rule.method})")
        if fits:
            return _missing(caller, f"line {rule.line} will reject {caller.role} after the next reload", first=True)
    return _missing(
        caller, f"no entry will let {caller.role} into {caller.database} after the next reload", first=False
    )


def _missing(caller: Caller, what: str, *, first: bool) -> Finding:
    names = f'"{caller.database}" "{caller.role}"'
    if caller.address is None:
        line = f"local {names} peer"
    else:
        width = 32 if ip_address(caller.address).version == 4 else 128
        kind = "hostssl" if caller.encrypted else "host"
        line = f"{kind} {names} {caller.address}/{width} scram-sha-256"
    place = "above that line" if first else "at its end"
    mend = (f"-- add to pg_hba.conf, {place}: {line}", "SELECT pg_reload_conf();")
    return Finding("PG-42", Severity.WARNING, "pg_hba.conf", what, mend, "dba")


def _fits(rule: Rule, caller: Caller) -> bool | None:
    """Whether the rule is for the caller; None when that cannot be judged from here.

    A replication connection of ours names a database, and so goes by that database's entries, not by `replication`.
    """
    parts = (
        _type(rule, caller),
        _database(rule.databases or [], caller),
        _user(rule.users or [], caller),
        _address(rule, caller),
    )
    if False in parts:
        return False
    return None if None in parts else True


def _type(rule: Rule, caller: Caller) -> bool | None:
    if rule.type in ("hostgssenc", "hostnogssenc"):
        return None
    if caller.address is None:
        return rule.type == "local"
    return rule.type in ("host", "hostssl" if caller.encrypted else "hostnossl")


def _database(names: list[str], caller: Caller) -> bool | None:
    if "all" in names or caller.database in names or ("sameuser" in names and caller.database == caller.role):
        return True
    return None if any(name in ("samerole", "samegroup") or name.startswith("/") for name in names) else False


def _user(names: list[str], caller: Caller) -> bool | None:
    if "all" in names or caller.role in names:
        return True
    return None if any(name.startswith(("+", "/")) for name in names) else False


def _address(rule: Rule, caller: Caller) -> bool | None:
    if caller.address is None or rule.address == "all":
        return True
    if rule.address is None or rule.netmask is None:
        return None  # samehost, samenet, or a host name
    try:
        network = ip_network(f"{rule.address}/{_prefix(rule.netmask)}", strict=False)
    except ValueError:
        return None
    address = ip_address(caller.address)
    return address in network if address.version == network.version else False


def _prefix(netmask: str) -> int:
    mask = ip_address(netmask)
    return bin(int(mask)).count("1")

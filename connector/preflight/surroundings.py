"""What goes on around the connector: facts that only `check` asks for, read in two looks a short time apart.

Contract: `look` and `surroundings` only read, ask nothing that needs more than LOGIN, and judge nothing. What a role
may not see is told as None, never as an error; `sees_all` and the other flags say why. Works on PostgreSQL 10 to 18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from connector.source.connection import command_error

# Compiling our questions would cost the server more than answering them: a second each, for a few rows (11 and later).
_NO_JIT = "SELECT set_config('jit', 'off', false)"

# One look: the server's clock, the WAL position as a number of bytes, and who has written something in a transaction
# that is open (of any database: a slot's creation waits for all of them). Everybody may see pid and transaction id.
_LOOK = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS at,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_insert_lsn() END, '0/0')::bigint AS wal,
       ARRAY(SELECT pid || ' ' || backend_xid FROM pg_stat_activity
              WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()) AS open
"""

# The same transactions with what may be seen of them: xact_start is hidden without pg_read_all_stats.
_OPEN = """
SELECT pid, coalesce(application_name, '') AS name, coalesce(datname::text, '') AS database,
       coalesce(usename::text, '') AS role, pid || ' ' || backend_xid AS mark,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age
  FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY age DESC NULLS LAST, pid
"""

# Transactions that were prepared for two-phase commit; they stay over restarts, and everybody may see them.
_PREPARED = """
SELECT gid AS name, database::text AS database, owner::text AS role,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS age
  FROM pg_prepared_xacts ORDER BY prepared
"""

# What bounds and measures WAL. pg_stat_wal counts since stats_reset (14 and later); sizes of settings in bytes.
_WAL = """
SELECT (SELECT setting::bigint * 1024 * 1024 FROM pg_settings
         WHERE name = 'max_slot_wal_keep_size' AND setting <> '-1') AS bound,
       {written} AS written, {counted} AS counted,
       (SELECT setting::int FROM pg_settings
         WHERE name = 'idle_replication_slot_timeout' AND setting <> '0') AS idle_timeout,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS directory,
       has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS lists_wal,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
"""
_WRITTEN = "(SELECT wal_bytes::float8 FROM pg_stat_wal)"
_COUNTED = "(SELECT extract(epoch FROM clock_timestamp() - stats_reset)::float8 FROM pg_stat_wal)"
_WAL_SIZE = "SELECT sum(size)::bigint AS size FROM pg_ls_waldir()"

# What our slot holds back, and how much more there may be (13 and later).
_RETAINED = """
SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_insert_lsn() END, restart_lsn)::bigint AS retained,
       {safe} AS safe
  FROM pg_replication_slots WHERE slot_name = %(slot)s AND restart_lsn IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One look. `at`: seconds of the server's clock; `wal`: bytes since the beginning; `open`: marks of those open."""

    at: float
    wal: int
    open: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holder:
    """An open transaction that has written (`pid`), or a prepared one (no pid; `name` is its identifier).

    `role` is empty for a process of the server's own (autovacuum).

    `age`: seconds, None where the role may not see it.
    """

    pid: int | None
    name: str
    database: str
    role: str
    age: float | None


@dataclass(frozen=True, slots=True)
class Wal:
    """Rates are bytes a second. `mean` goes over `counted` seconds and is None before 14; `now` over `watched`.

    `bound`: max_slot_wal_keep_size in bytes, None without one. `retained`, `safe`: what our slot holds back and how
    much more it may, None without a slot or a bound. `idle_timeout`: seconds after which an idle slot is invalidated.
    `directory`, `size`: the server's data directory and the bytes of its pg_wal, None where they are hidden.
    """

    now: float
    watched: float
    mean: float | None
    counted: float | None
    bound: int | None
    retained: int | None
    safe: int | None
    idle_timeout: int | None
    directory: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`holders`: transactions that were open in both looks. `sees_all`: their ages are not hidden."""

    holders: tuple[Holder, ...]
    sees_all: bool
    wal: Wal


def spare(connection: psycopg.Connection) -> None:
    """Spare the server on this connection. SourceError when it does not answer (in time)."""
    if connection.info.server_version >= 110000:
        _ask(connection, _NO_JIT)


def look(connection: psycopg.Connection) -> Look:
    """Look once. SourceError when the server does not answer (in time)."""
    row = _ask(connection, _LOOK)[0]
    return Look(row["at"], row["wal"], frozenset(row["open"]))


def surroundings(connection: psycopg.Connection, first: Look, slot: str, version: int) -> Surroundings:
    """What there is between `first` and now. SourceError when the server does not answer (in time)."""
    second = look(connection)
    lasting = first.open & second.open
    rows = _ask(connection, _OPEN)
    holders = [
        Holder(row["pid"], row["name"], row["database"], row["role"], row["age"])
        for row in rows
        if row["mark"] in lasting
    ]
    holders += [Holder(pid=None, **row) for row in _ask(connection, _PREPARED)]
    knows = version >= 140000
    query = _WAL.format(written=_WRITTEN if knows else "NULL::float8", counted=_COUNTED if knows else "NULL::float8")
    row = _ask(connection, query)[0]
    size = _ask(connection, _WAL_SIZE)[0]["size"] if row["lists_wal"] else None
    safe = "safe_wal_size" if version >= 130000 else "NULL::bigint"
    held = _ask(connection, _RETAINED.format(safe=safe), {"slot": slot})
    watched = max(second.at - first.at, 0.001)
    return Surroundings(
        tuple(holders),
        row["sees_all"],
        Wal(
            (second.wal - first.wal) / watched,
            watched,
            row["written"] / row["counted"] if row["written"] is not None and row["counted"] else None,
            row["counted"],
            row["bound"],
            held[0]["retained"] if held else None,
            held[0]["safe"] if held else None,
            row["idle_timeout"],
            row["directory"],
            size,
        ),
    )


def _ask(connection: psycopg.Connection, query: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    try:
        return connection.cursor(row_factory=dict_row).execute(query.encode(), values).fetchall()
    except psycopg.Error as error:
        mend = "run it again; the server may be busy"
        raise command_error("look at what the server is doing", "source.dsn", error, mend) from None

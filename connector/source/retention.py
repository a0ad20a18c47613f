"""What our slot holds back on the server: measured, and the slot dropped where the operator wants it (DESIGN 4).

Contract: measuring needs no more than the runtime role. A slot is dropped only when nobody streams from it, it is one
that we could have made (pgoutput, this database), and `budget.judge` says so of what was measured the moment before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from connector.catalog.publication import INVALIDATED
from connector.settings import SourceSettings
from connector.source.budget import Holder, Verdict, judge

# The slot beside the server's end. What it was invalidated for: 17 and later; that it was: 13 and later.
_SLOT = """
SELECT s.active_pid, pg_wal_lsn_diff(w.lsn, s.restart_lsn)::bigint,
       pg_wal_lsn_diff(w.lsn, s.confirmed_flush_lsn)::bigint, coalesce(age(s.catalog_xmin), 0),
       to_jsonb(s) ->> 'wal_status', to_jsonb(s) ->> 'invalidation_reason'
  FROM pg_replication_slots s, (
       SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) w
 WHERE s.slot_name = %(slot)s AND s.plugin = 'pgoutput' AND s.database = current_database()
"""

# Who may hold restart_lsn: open transactions with an id, of any database, at least half as old as the slot's
# catalog_xmin. That one is the oldest which decoding had to know of at its restart point, so younger ones cannot hold
# it; an innocent transaction must not be named beside the SQL that would end it. Our role sees no other's xact_start.
_HOLDERS = """
SELECT prepared, name, database, transactions, seconds, state, application
  FROM (SELECT false AS prepared, pid::text AS name, coalesce(datname, '')::text AS database,
               age(backend_xid) AS transactions,
               extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds,
               state, coalesce(application_name, '') AS application
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
        UNION ALL
        SELECT true, gid, database::text, age(transaction), extract(epoch FROM clock_timestamp() - prepared)::bigint,
               NULL, ''
          FROM pg_prepared_xacts) t
 WHERE 2 * transactions >= %(age)s ORDER BY transactions DESC LIMIT 3
"""

_DROP = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
 WHERE slot_name = %(slot)s AND plugin = 'pgoutput' AND database = current_database() AND active_pid IS NULL
"""

# Ends the connection that streams from the slot; a role may end its own.
_END_STREAM = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %(slot)s AND active_pid IS NOT NULL
"""

_RELEASE_SECONDS = 10.0
"""How long the server may take to notice that a connection has ended, and to free its slot."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Our slot at one moment. lost: why it is of no use any more, empty when it is; active_pid: who streams from it."""

    active_pid: int | None
    retained: int
    own_distance: int
    lost: str
    age: int

    def judge(self, connection: psycopg.Connection, settings: SourceSettings) -> Verdict:
        """What is to be said of it; a slot that is lost holds nothing back. Holders are asked for when it matters."""
        budget = settings.wal_budget
        if budget is None or self.lost or self.retained <= budget:
            return Verdict()
        holders = [] if self.own_distance > budget else read_holders(connection, self.age)
        return judge(self.retained, self.own_distance, budget, settings.on_wal_budget, holders)


def measure(connection: psycopg.Connection, slot: str) -> Measured | None:
    """The slot now; None when there is none of ours, or it is just being made."""
    row = connection.execute(_SLOT, {"slot": slot}).fetchone()
    if row is None:
        return None
    pid, retained, own, age, status, reason = row
    if status == "lost" or reason is not None:
        return Measured(pid, 0, 0, INVALIDATED.get(reason or "wal_removed", str(reason)), age)
    if retained is None or own is None:
        return None
    return Measured(pid, max(0, retained), max(0, own), "", age)


def read_holders(connection: psycopg.Connection, age: int) -> list[Holder]:
    """Transactions that may hold the slot's restart_lsn, the oldest first. age: of its catalog_xmin."""
    return [Holder(*row) for row in connection.execute(_HOLDERS, {"age": age}).fetchall()]


def end_stream(connection: psycopg.Connection, slot: str) -> None:
    """End whoever streams from the slot, as the same role."""
    connection.execute(_END_STREAM, {"slot": slot})


def drop_over_budget(
    connection: psycopg.Connection,
    settings: SourceSettings,
    slot: str,
    pause: Callable[[float], object] = time.sleep,
    end_stream_first: bool = False,
) -> Verdict | None:
    """Drop the slot if it is over the budget on our own account, now; the verdict if it was dropped.

    A connection that has just ended is waited for; a slot that stays in use is left alone. psycopg.Error.
    """
    deadline = time.monotonic() + _RELEASE_SECONDS
    connection.execute("SET default_transaction_read_only = off")
    while time.monotonic() < deadline:
        found = measure(connection, slot)
        verdict = Verdict() if found is None else found.judge(connection, settings)
        if not verdict.drop or found is None:
            return None
        if found.active_pid is None:
            try:
                if connection.execute(_DROP, {"slot": slot}).rowcount == 1:
                    return verdict
            except psycopg.errors.ObjectInUse:
                pass  # somebody was faster
        elif end_stream_first:
            end_stream(connection, slot)
        pause(0.1)
    return None

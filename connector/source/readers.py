"""The readers of a snapshot: threads with a connection each, which read chunks of tables by COPY.

Contract: at most `count` connections; each chunk is read in a transaction of its own, which lasts no longer than
`statement_timeout` allows, waits for locks no longer than `lock_timeout`, and writes nothing. What stands in `ready` is
what a chunk's own snapshot sees: never what a table looked like in the middle of being rewritten. While the exported
snapshot of the slot may be used all chunks are read under it, in one transaction per reader, for at most as long as the
caller lets it (`release`), and until somebody waits for a table's lock that such a transaction has: a migration waits
for no more than a chunk, and the application, which would queue up behind it, neither. At most `count + 2` chunks of
about 4 MiB wait to be told.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from connector.change.shape import Shape
from connector.errors import ConnectorError
from connector.settings import SourceSettings
from connector.source.catalog import CatalogTable, read_shape
from connector.source.chunks import Key, Span, TablePlan, boundary_query, copy_query, lock_query
from connector.source.connection import ask, command_error
from connector.source.copytext import copy_row
from connector.source.fitting import held_back
from connector.source.meanwhile import Visible

ROWS = 10_000
"""Rows of a chunk, at first."""
_BYTES = 4 * 1024 * 1024
"""A chunk is cut at this size."""
_FEWEST = 10
"""Rows of a chunk that are tried in the end, where statement_timeout strikes."""
_LOCKED = 1.0
"""Seconds before a table that was locked is tried again."""
_CANCEL = 5.0
"""Seconds that the end of all readers may take."""
_LEAST = 0.1
_LOOK = 1.0
"""Seconds between two looks whether the exported snapshot is in somebody's way, when there is nothing to read."""
_AGAIN = 0.2
"""Seconds before a chunk that had to be put back is read again."""

# The transaction's snapshot; the end of WAL, before which all that it sees has committed; its time; and whether a
# table was rewritten or emptied since the snapshot was taken, which would show it empty (PostgreSQL section 13.6).
_SNAPSHOT = """
WITH RECURSIVE parts(oid) AS (
    SELECT %(oid)s::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.oid)
SELECT {snapshot}::text,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       EXISTS (SELECT FROM pg_class c JOIN parts p ON p.oid = c.oid
                WHERE c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid))
"""
# What is visible, and the next transaction id: age() counts back from it. Nothing is assigned by asking.
_NEXT = "SELECT {snapshot}::text, age('3'::xid)::bigint + 3"
# Whether somebody waits for a lock of a table that this transaction has read.
_IN_THE_WAY = """
SELECT EXISTS (SELECT FROM pg_locks ours JOIN pg_locks theirs USING (database, relation)
                WHERE ours.pid = pg_backend_pid() AND NOT theirs.granted)
"""
_FIRST_PAGE_BYTES = 40
"""The longest header of a WAL page (PostgreSQL, access/xlog_internal.h); behind it WAL has nothing yet."""
_PAGE = 8192


# By SQLSTATE (PostgreSQL, Appendix A).
_MENDS = {
    "42501": "grant SELECT as `emc-cdc setup` prints it",
    "42P01": "bring the table back, under its name, or correct the mapping",
    "57014": "raise source.statement_timeout: it strikes even where few rows are read",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one span, as COPY gave them. It may be told when the stream is at `lsn`; 0: from the slot's beginning."""

    plan: TablePlan
    span: Span
    shape: Shape
    rows: int
    data: bytes
    snapshot: Visible
    lsn: int
    time_us: int


class Readers:
    """See the module's contract. exported: the slot's snapshot; wake: called when there is something to see."""

    def __init__(
        self, settings: SourceSettings, plans: Sequence[TablePlan], exported: str | None, wake: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._plans = plans
        self._wake = wake
        self._exported = exported
        self._rows = {plan.table.oid: ROWS for plan in plans}
        self._condition = threading.Condition()
        self._boundary = threading.Lock()
        self._stopping = False
        self._later = 0.0
        self._reading: dict[int, Visible | None] = {}
        self._began: dict[int, float] = {}
        self._connections: dict[int, psycopg.Connection] = {}
        self._seen: tuple[Visible, int] | None = None
        self.ready: deque[Chunk] = deque()
        """Chunks that wait to be told, in the order in which they were read."""
        self.held_up: list[int] = []
        """Transactions that are waited for: see `_await_earlier`."""
        self.failure: ConnectorError | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"snapshot {number}", daemon=True)
            for number in range(settings.snapshot_readers)
        ]
        for thread in self._threads:
            thread.start()

    # -- the capture thread ------------------------------------------------------------------------------------------

    @property
    def snapshots(self) -> list[Visible] | None:
        """Those of all chunks that are read or wait to be told; None while one is about to be taken."""
        with self._condition:
            if None in self._reading.values():
                return None
            reading = [snapshot for snapshot in self._reading.values() if snapshot is not None]
            return reading + [chunk.snapshot for chunk in self.ready]

    @property
    def age(self) -> float:
        """Seconds that the oldest snapshot is held now, 0 without."""
        began = list(self._began.values())
        return time.monotonic() - min(began) if began else 0.0

    def release(self) -> None:
        """The exported snapshot is to be used no more."""
        with self._condition:
            self._exported = None
            self._condition.notify_all()

    def told(self, chunk: Chunk) -> None:
        """A chunk's rows are on their way to the log."""
        with self._condition:
            self.ready.remove(chunk)
            chunk.plan.told(chunk.span, chunk.rows)
            self._condition.notify_all()

    def put_back(self, chunk: Chunk) -> None:
        """A chunk cannot be told as it was read: it is read again, a little later."""
        with self._condition:
            self.ready.remove(chunk)
            chunk.plan.put_back(chunk.span)
            self._later = time.monotonic() + _AGAIN
            self._condition.notify_all()

    def read_again(self, tables: Collection[str]) -> None:
        """Read tables once more from their beginning."""
        with self._condition:
            for plan in self._plans:
                if plan.table.selection.full_name in tables:
                    plan.begin_again()
            self._condition.notify_all()

    def stop(self) -> None:
        """End the threads, and what they read now."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        deadline = time.monotonic() + _CANCEL  # a server that does not answer is not waited for
        for connection in list(self._connections.values()):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=max(_LEAST, deadline - time.monotonic()))
        for thread in self._threads:
            thread.join(max(_LEAST, deadline - time.monotonic()))

    # -- the readers -------------------------------------------------------------------------------------------------

    def _run(self, number: int) -> None:
        try:
            self._wait()  # no connection is made for nothing
            with ask(self._settings, application="emc-cdc capture (snapshot)") as connection:
                self._connections[number] = connection
                while not self._stopping and self._read_under_exported(connection, number):
                    pass
                self._await_earlier(connection)
                while not self._stopping and self._read_one(connection, number, exported=False):
                    pass
        except ConnectorError as error:
            self.failure = self.failure or error
        except psycopg.Error as error:
            self.failure = self.failure or _failed("the tables", error)
        finally:
            self._connections.pop(number, None)
            self._reading.pop(number, None)
            self._began.pop(number, None)
            self._wake()

    def _await_earlier(self, connection: psycopg.Connection) -> None:
        """Until every transaction has ended that was open when the reading began.

        One of them may have been streamed before, or lie before the slot's beginning, and still not be visible: it has
        committed, and waits for a synchronous standby.
        """
        visible, first_later = _visible(connection)
        while visible.xmin < first_later and self._wait():
            self.held_up = sorted({visible.xmin, *(xid for xid in visible.running if xid < first_later)})
            with self._condition:
                self._condition.wait(_AGAIN)
            visible, _ = _visible(connection)
        self.held_up = []

    def _read_under_exported(self, connection: psycopg.Connection, number: int) -> bool:
        """One transaction under the exported snapshot, if there is one. False when there is none any more."""
        exported = self._exported
        if exported is None:
            return False
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(exported)))
        except (errors.InvalidParameterValue, errors.UndefinedObject, errors.ObjectNotInPrerequisiteState):
            connection.rollback()  # the connection that exported it went on to other things
            return False
        self._began[number] = time.monotonic()
        self._reading[number] = None
        try:
            while not self._stopping and self._exported and self._read_one(connection, number, exported=True):
                pass
        except (_Rewritten, _InTheWay):
            return False
        finally:
            connection.rollback()
            self._reading.pop(number, None)
            self._began.pop(number, None)
        return False

    def _read_one(self, connection: psycopg.Connection, number: int, exported: bool) -> bool:
        """Read one chunk, or fail to in a way that time mends. False when there is nothing left to read."""
        ready = self._wait(_LOOK if exported else None)
        if ready is None:
            return False
        if exported and connection.execute(_IN_THE_WAY).fetchone() == (True,):
            raise _InTheWay
        if not ready:
            return True
        with self._condition:
            plan = next((plan for plan in self._plans if plan.waiting), None)
            if plan is None:
                return True  # another reader took it
            span = plan.take()
            if not exported:
                self._began[number] = time.monotonic()
                self._reading[number] = None
        try:
            if not exported:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            chunk = self._chunk(connection, number, plan, span, exported)
        except BaseException as error:
            with self._condition:
                plan.put_back(span)
            if not isinstance(error, errors.LockNotAvailable | errors.QueryCanceled | _Rewritten):
                raise
            if exported and not self._stopping:
                raise _Rewritten from None  # the transaction is spent
            self._later = time.monotonic() + _LOCKED
            self._shrink(plan, error)
        else:
            if not exported:
                # WAL of hint bits is flushed soon then: the stream must come past it, and a rollback has none flushed.
                connection.commit()
            with self._condition:
                if self._stopping:
                    plan.put_back(chunk.span)  # nobody tells it any more
                else:
                    self.ready.append(chunk)
        finally:
            if not exported:
                connection.rollback()
                self._reading.pop(number, None)
                self._began.pop(number, None)
        self._wake()
        return not self._stopping

    def _shrink(self, plan: TablePlan, error: Exception) -> None:
        """Fewer rows the next time, where statement_timeout has struck."""
        if not isinstance(error, errors.QueryCanceled) or self._stopping:
            return
        rows = self._rows[plan.table.oid]
        if rows <= _FEWEST:
            raise _failed(plan.table.shape.full_name, error)
        self._rows[plan.table.oid] = max(_FEWEST, rows // 4)

    def _chunk(self, connection: psycopg.Connection, number: int, plan: TablePlan, span: Span, exported: bool) -> Chunk:
        """The rows of a span, or of its beginning; the rest is left to be taken."""
        table = plan.table
        connection.execute(lock_query(table))
        visible, lsn, time_us, rewritten = self._look(connection, table)
        if rewritten:
            raise _Rewritten
        self._reading[number] = visible
        shape = read_shape(connection, table)
        there = {column.name for column in shape.columns}
        if absent := [column.name for column in table.shape.columns if column.name not in there]:
            raise held_back(table.selection, absent)  # as the stream does: rows without it would take it back
        with self._boundary:  # the others wait for the rest of this span
            key = connection.execute(boundary_query(table, span, self._rows[table.oid])).fetchone()
            if key is not None and key != span.high:
                with self._condition:
                    span = plan.cut(span, key)
                    self._condition.notify_all()
        lines: list[bytes] = []
        size = 0
        with connection.cursor() as cursor, cursor.copy(copy_query(table, shape, span)) as copy:
            for block in copy:
                if size < _BYTES:  # the rest is read again: fewer rows fit
                    lines.append(bytes(block))
                    size += len(block)
        data = b"".join(lines)
        if size >= _BYTES:
            self._rows[table.oid] = max(1, min(self._rows[table.oid], len(lines)))
            last = _key(table, shape, lines[-1][:-1])
            if last != span.high:
                with self._condition:
                    span = plan.cut(span, last)
        return Chunk(plan, span, shape, len(lines), data, visible, 0 if exported else lsn, time_us)

    def _wait(self, seconds: float | None = None) -> bool | None:
        """Until there is a span to read and room for it. None when it is time to stop, False after so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                wait = self._later - now
                if wait <= 0:
                    if len(self.ready) < self._settings.snapshot_readers + 2 and any(p.waiting for p in self._plans):
                        return True
                    wait = 1.0
                if until is not None and now >= until:
                    return False
                self._condition.wait(wait if until is None else min(wait, until - now))
        return None

    def _look(self, connection: psycopg.Connection, table: CatalogTable) -> tuple[Visible, int, int, bool]:
        query = _SNAPSHOT.format(snapshot=_current_snapshot(connection))
        row = connection.execute(query.encode(), {"oid": table.oid}).fetchone()
        assert row is not None
        text, lsn, time_us, rewritten = row
        return *self._since(Visible.parse(text), _reached_by_a_keepalive(int(lsn))), int(time_us), rewritten

    def _since(self, visible: Visible, lsn: int) -> tuple[Visible, int]:
        """The earliest end of WAL at which just this was visible.

        Reading writes WAL, too (hint bits), which an idle server flushes every 15 seconds only. As long as nobody
        commits, nothing of it has to be waited for.
        """
        with self._condition:
            if self._seen is None or self._seen[0] != visible:
                self._seen = visible, lsn
            return self._seen


def _current_snapshot(connection: psycopg.Connection) -> str:
    return "pg_current_snapshot()" if connection.info.server_version >= 130000 else "txid_current_snapshot()"


def _visible(connection: psycopg.Connection) -> tuple[Visible, int]:
    """What is visible now, and the next transaction id to be assigned (64 bits)."""
    query = _NEXT.format(snapshot=_current_snapshot(connection))
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    visible = Visible.parse(row[0])
    return visible, visible.whole(row[1] % (1 << 32))


class _Rewritten(Exception):
    """A table was rewritten since the snapshot was taken, which would show it empty."""


class _InTheWay(Exception):
    """Somebody waits for a lock that a long transaction has."""


def _reached_by_a_keepalive(lsn: int) -> int:
    """The same moment, as an idle server tells it: it does not count the header of a page that is empty still."""
    return lsn - lsn % _PAGE if lsn % _PAGE <= _FIRST_PAGE_BYTES else lsn


def _key(table: CatalogTable, shape: Shape, line: bytes) -> Key:
    texts = dict(zip((column.name for column in shape.columns), copy_row(line), strict=True))
    return tuple((texts[name] or b"").decode() for name in table.key)


def _failed(subject: str, error: psycopg.Error) -> ConnectorError:
    mend = _MENDS.get(error.sqlstate or "", "see PostgreSQL's log, and run `emc-cdc check`")
    return command_error("read the snapshot", subject, error, f"{mend}; what was read stays, and reading goes on")

"""A snapshot: tables read in chunks and told between the transactions of the stream.

Contract: in every partition its reads stand between a begin and an end marker, never inside a transaction. A chunk is
told when the stream has come past the moment of its own snapshot, without the rows that transactions changed which it
does not see (`meanwhile`): so per row, log and stream never contradict each other, at any moment. What was told is
durable together with how far the reading is (the index's meta `snapshot`), so a process that is killed goes on where
it was; what it had read but not told is read again, a harmless upsert.

Three kinds: the first read; the read after a gap (marker `gap`: why); and the reading again of some tables while their
stream is whole (marker `reread`). Only the first two can begin with the slot's exported snapshot (see `initial`).
Used from the capture thread; `close` may be called at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END
from connector.change.selection import Role
from connector.errors import ConnectorError, SourceGap, SourceUnavailable
from connector.observe import Fault, SnapshotProgress
from connector.source.assembler import Assembler
from connector.source.attachment import (
    COLUMNS,
    PUBLICATION,
    READ_UNTIL,
    RUN,
    SNAPSHOT,
    STATE_SNAPSHOT,
    STATE_STREAMING,
    Attachment,
    snapshot_progress,
)
from connector.source.chunks import load_plan
from connector.source.gap import GAP, REQUEST, asked_tables
from connector.source.meanwhile import UNREAD, Meanwhile
from connector.source.readers import Chunk, Readers
from connector.source.reads import SnapshotReads

_KEPT = ("system", "timeline", "selection", "keys", "epoch", "confirmed", "created", COLUMNS, PUBLICATION, RUN)
_AFTER_FAILURE = 10.0
"""Seconds until reading goes on after it failed while the stream did not."""
_TOLD_EVERY = 1.0
_MOST_AGAIN = 3
"""How often a table is read once more for rows that no chunk has told."""
_HELD_UP = 10.0
"""Seconds after which transactions that hold up the reading are told of."""


@dataclass(frozen=True, slots=True)
class SnapshotOrder:
    """What is to be read. tables: full names, in the order in which they are read; gap: why, empty when nothing is."""

    tables: tuple[str, ...]
    gap: str
    reread: bool


def order_all(ground: Attachment, gap: str) -> SnapshotOrder:
    """Every captured table; reference tables first, because they are small and dossiers need them."""
    tables = sorted(ground.tables.values(), key=lambda table: table.selection.role is not Role.REFERENCE)
    return SnapshotOrder(tuple(table.selection.full_name for table in tables), gap, reread=False)


def read_again(ground: Attachment, assembler: Assembler, meta: Mapping[str, str]) -> Snapshot | None:
    """The snapshot of the tables that a person has asked for, if one has; the stream goes on meanwhile."""
    every = order_all(ground, "").tables
    tables = asked_tables(meta, every)
    return Snapshot(ground, assembler, SnapshotOrder(tables, "", reread=True)) if tables else None


def resumed(ground: Attachment, assembler: Assembler, meta: Mapping[str, str]) -> Snapshot | None:
    """The snapshot that an earlier process did not finish, if there is one."""
    progress = snapshot_progress(meta)
    if progress is None and meta["state"] == STATE_STREAMING:
        return None
    if progress is None:  # it had not begun, or the index was lost
        return Snapshot(ground, assembler, order_all(ground, meta.get(GAP, "")))
    order = SnapshotOrder(tuple(progress["tables"]), progress["gap"], progress["reread"])
    return Snapshot(ground, assembler, order, progress=progress)


class Snapshot:
    """See the module's contract. exported: the slot's snapshot while it can be used."""

    def __init__(
        self,
        ground: Attachment,
        assembler: Assembler,
        order: SnapshotOrder,
        exported: str | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = ground.session
        self._assembler = assembler
        self._order = order
        # A table of which a session left something unread behind what it had told is read from its beginning.
        unread = json.loads(self._session.index.meta().get(UNREAD) or "[]") if progress else []
        known = {name: each for name, each in progress["tables"].items() if name not in unread} if progress else {}
        self._plans = [load_plan(ground.tables[name], known.get(name)) for name in order.tables]
        self._meanwhile = assembler.meanwhile = Meanwhile(order.tables)
        self._reads = SnapshotReads(assembler, self._session.index)
        self._begun = progress["begun"] if progress else datetime.now(UTC).isoformat(timespec="seconds")
        self._read_from = [plan.rows for plan in self._plans]
        self._since = time.monotonic()
        self._told_at = 0.0
        self._fault = ""
        self._again_at = 0.0
        self._again = 0
        self.finished = False
        if progress is None:
            self._marker(SNAPSHOT_BEGIN, json.dumps(self._begin(), ensure_ascii=False).encode())
            self._hand_over({REQUEST: ""})
        self._readers = self._read(exported)

    @property
    def failure(self) -> ConnectorError | None:
        """Why reading has ended before its end."""
        return self._readers.failure

    @property
    def due(self) -> bool:
        """Whether `step` would find something to do now."""
        ready = bool(self._readers.ready) and not self.waiting
        return ready or all(plan.finished for plan in self._plans)

    @property
    def waiting(self) -> bool:
        """Whether the next chunk waits for the stream to come past its snapshot."""
        ready = self._readers.ready
        return bool(ready) and self._session.progress.received < ready[0].lsn

    def step(self) -> None:
        """Tell a chunk, if one can be told. Between two transactions of the stream only."""
        if self.failure is not None:
            self._failed(self.failure)
        readers = self._readers
        if readers.ready and not self.waiting:
            self._tell(readers.ready[0])
        if all(plan.finished for plan in self._plans):
            self._end()
        elif time.monotonic() > self._told_at + _TOLD_EVERY:
            self._show(finished=False)
            if (held_up := readers.held_up) and time.monotonic() > self._since + _HELD_UP:
                self._tell_fault(_held_up(held_up))

    def release(self) -> None:
        """The stream is about to begin: chunks are read under snapshots of their own from now on."""
        self._readers.release()

    def close(self) -> None:
        """End the readers. What was told stays told."""
        self._assembler.stop_watching()
        self._readers.stop()

    # -- telling -----------------------------------------------------------------------------------------------------

    def _tell(self, chunk: Chunk) -> None:
        overtaken = self._meanwhile.overtaken(chunk.snapshot)
        if overtaken.unclear:
            self._readers.put_back(chunk)
            return
        self._reads.tell(chunk, overtaken, self._meanwhile.overlays)
        self._readers.told(chunk)
        snapshots = self._readers.snapshots
        if snapshots is not None:
            self._meanwhile.forget([*snapshots, chunk.snapshot])
        self._hand_over({})
        self._session.make_room()

    def _end(self) -> None:
        if tables := self._meanwhile.unread():
            # A row that got another key in the middle may have slipped from an unread span into one that was read.
            if self._again == _MOST_AGAIN:
                raise _unread(tables)
            self._again += 1
            self._readers.read_again(tables)
            return
        self._marker(SNAPSHOT_END, b"{}")
        self._assembler.stop_watching()
        self.finished = True
        self._hand_over({"state": STATE_STREAMING, GAP: "", SNAPSHOT: "", UNREAD: ""})
        self._show(finished=True)

    def _hand_over(self, meta: dict[str, str]) -> None:
        """To the log, and with it how far the reading is."""
        self._assembler.note({SNAPSHOT: self._dump(), READ_UNTIL: str(self._session.progress.received)} | meta)
        self._session.hand_over(self._assembler)

    def _dump(self) -> str:
        order = self._order
        dumped = {
            "begun": self._begun,
            "gap": order.gap,
            "reread": order.reread,
            "tables": {plan.table.selection.full_name: plan.dump() for plan in self._plans},
        }
        return json.dumps(dumped, ensure_ascii=False)

    def _begin(self) -> dict[str, Any]:
        """What the begin marker tells: the index's meta, from which a lost index is rebuilt, and what is read."""
        order, meta = self._order, self._session.index.meta()
        kept = {name: meta[name] for name in _KEPT if name in meta}
        state = STATE_STREAMING if order.reread else STATE_SNAPSHOT
        kept |= {"state": state, GAP: order.gap, "slot": self._session.slot}
        return kept | {"tables": list(order.tables), "reread": order.reread}

    def _marker(self, prefix: str, content: bytes) -> None:
        self._reads.marker(prefix, content, time.time_ns() // 1000)

    def _show(self, finished: bool) -> None:
        self._told_at = time.monotonic()
        seconds = self._told_at - self._since
        for plan, before in zip(self._plans, self._read_from, strict=True):
            rate = (plan.rows - before) / seconds if seconds > 0 else 0.0
            name, age = plan.table.selection.full_name, self._readers.age
            done = finished or plan.finished
            self._session.hub.emit(SnapshotProgress(name, plan.rows, plan.table.estimate, done, rate, age))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, exported: str | None) -> Readers:
        return Readers(self._session.source, self._plans, exported, self._session.wake)

    def _failed(self, error: ConnectorError) -> None:
        """The stream is whole and goes on; the reading is tried again."""
        now = time.monotonic()
        if not self._again_at:
            self._again_at = now + _AFTER_FAILURE
            self._tell_fault(error)
        elif now >= self._again_at:
            self._again_at = 0.0
            self._readers.stop()
            for chunk in self._readers.ready:
                chunk.plan.put_back(chunk.span)
            self._readers = self._read(None)

    def _tell_fault(self, error: ConnectorError) -> None:
        """Once, as long as it stays the same."""
        if str(error) != self._fault:
            fault = Fault("capture", error.operation, error.subject, error.cause, error.mend, fatal=False)
            self._session.hub.emit(fault)
        self._fault = str(error)


def _held_up(xids: Sequence[int]) -> SourceUnavailable:
    listed = ", ".join(map(str, xids))
    return SourceUnavailable(
        "read the snapshot",
        f"transactions {listed}",
        "they were open when the reading began, and hold it up",
        "wait until they end; who they are: SELECT pid, usename, state, xact_start FROM pg_stat_activity"
        " WHERE backend_xid IS NOT NULL; SELECT gid FROM pg_prepared_xacts; end one: SELECT pg_terminate_backend(pid)",
    )


def _unread(tables: Collection[str]) -> SourceGap:
    return SourceGap(
        "read the snapshot",
        ", ".join(sorted(tables)),
        "rows were changed while they were read, and no chunk showed them",
        "what is in the log is safe; if this comes again, report it as a defect",
    )

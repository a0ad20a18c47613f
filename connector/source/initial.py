"""The tables read whole: a new slot, a new epoch, and everything that was committed before it, into the log.

It is the first read, or one that closes a gap of the stream; the begin marker tells which (`gap`), for the fold reports
what it finds changed after a gap, and is quiet at the first read.

Contract: the slot is made first and exports its snapshot. As long as that may be held (`source.snapshot_age`) chunks
are read under it and nothing is streamed: most databases are read within that time, and what commits meanwhile follows
whole. What is left is read in chunks with snapshots of their own while the stream goes on (`snapshot`). A slot whose
tables cannot be read at all is dropped again, because it would hold WAL for nobody; else it stays, and the reading goes
on after whatever ended it.
"""

from __future__ import annotations

import time

import psycopg

from connector.errors import ConnectorError, SourceUnavailable, retryable
from connector.observe import SourceConnected
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.attachment import (
    COLUMNS,
    PUBLICATION,
    RUN,
    SNAPSHOT,
    STATE_SNAPSHOT,
    Attachment,
    columns_text,
    keys_text,
    selection_text,
)
from connector.source.gap import GAP, REQUEST
from connector.source.progress import Progress
from connector.source.snapshot import Snapshot, order_all


def read_tables(ground: Attachment, last_epoch: int, slot_timeout: float, gap: str) -> Assembler:
    """Make the slot, read the tables or begin to, start to stream.

    last_epoch: of what is in the log, 0 when there was none; gap: why the stream cannot be resumed, empty at first.
    """
    session, identity = ground.session, ground.identity
    meta = {
        "state": STATE_SNAPSHOT,
        "system": identity.system_id,
        "timeline": str(identity.timeline),
        "selection": selection_text(session.selection),
        "keys": keys_text(ground.tables),
        COLUMNS: columns_text(ground.tables),
        RUN: ground.run,
        PUBLICATION: ground.publication,
        GAP: gap,
        REQUEST: session.index.meta().get(REQUEST, ""),
        SNAPSHOT: "",
        "confirmed": "0",
    }
    session.index.clear()
    session.index.save([], meta | {"epoch": str(last_epoch + 1)})
    created = slots.create_slot(
        session.replication, ground.connection, session.slot, slot_timeout, ground.keeps_failover_slots
    )
    try:
        assembler, snapshot = _begin(ground, last_epoch, created, gap)
        _read_before_streaming(ground, snapshot)
    except ConnectorError as error:
        if not retryable(error):
            _give_up(ground)
        raise
    session.start_streaming(ground.server.version)
    session.hub.emit(SourceConnected(ground.server.version, session.slot, created.consistent_point, assembler.compiled))
    return assembler


def _begin(ground: Attachment, last_epoch: int, created: slots.CreatedSlot, gap: str) -> tuple[Assembler, Snapshot]:
    session = ground.session
    session.progress = Progress(created.consistent_point)
    tails = session.open_log()
    session.feeder.index_from = created.consistent_point
    epoch = max([last_epoch, *(tail.epoch for tail in tails.values())]) + 1
    point = str(created.consistent_point)
    session.index.save([], {"epoch": str(epoch), "confirmed": point, "created": point})
    assembler = ground.assembler(epoch, tails)
    snapshot = Snapshot(ground, assembler, order_all(ground, gap), exported=created.snapshot)
    session.snapshot = snapshot
    return assembler, snapshot


def _read_before_streaming(ground: Attachment, snapshot: Snapshot) -> None:
    """As much as the exported snapshot may be held for; all of it, for most databases."""
    session = ground.session
    until = time.monotonic() + session.source.snapshot_age

    def something_to_do() -> bool:
        if snapshot.due or snapshot.waiting or snapshot.failure is not None:
            return True
        return session.stop.is_set() or time.monotonic() > until

    while not (snapshot.finished or snapshot.waiting) and time.monotonic() <= until:
        session.wait_for(something_to_do, "write the snapshot to the log")
        if snapshot.failure is not None:
            raise snapshot.failure
        if session.stop.is_set():
            raise SourceUnavailable("read the snapshot", session.slot, "stopped", "start again: it is read on")
        snapshot.step()
    if snapshot.finished:
        snapshot.close()
        session.snapshot = None
    snapshot.release()
    session.wait_for(lambda: session.feeder.idle, "write the snapshot to the log")


def _give_up(ground: Attachment) -> None:
    """Drop the slot of a snapshot that failed: it would hold WAL until somebody starts again."""
    try:
        slots.drop_slot(ground.connection, ground.session.slot)
    except (psycopg.Error, ConnectorError):
        return  # the next start does it

"""The tables read whole: a new slot, a new epoch, and everything that was committed before it, into the log.

It is the first read, or one that closes a gap of the stream; the begin marker tells which (`gap`), for the fold reports
what it finds changed after a gap, and is quiet at the first read.

Contract: the slot is made first and exports the snapshot that is read, so rows and stream meet without gap or overlap.
Until the rows are durable the index says so, and a slot whose snapshot did not finish is dropped again.
"""

from __future__ import annotations

import json

import psycopg

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END
from connector.change.selection import Role
from connector.errors import ConnectorError, SourceUnavailable
from connector.observe import SnapshotProgress, SourceConnected
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.attachment import (
    COLUMNS,
    STATE_SNAPSHOT,
    STATE_STREAMING,
    Attachment,
    columns_text,
    keys_text,
    selection_text,
)
from connector.source.catalog import CatalogTable
from connector.source.decode.accelerator import native
from connector.source.gap import GAP, REQUEST
from connector.source.progress import Progress
from connector.source.reads import Read, SnapshotReads
from connector.source.snapshot import copy_table, use_snapshot
from connector.source.stream import BATCH


def read_tables(ground: Attachment, last_epoch: int, slot_timeout: float, gap: str) -> Assembler:
    """Make the slot, read the tables, start to stream.

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
        GAP: gap,
        "confirmed": "0",
    }
    session.index.clear()
    session.index.save([], meta | {"epoch": str(last_epoch + 1)})
    created = slots.create_slot(session.replication, ground.connection, session.slot, slot_timeout)
    try:
        assembler = _read_all(ground, meta, last_epoch, created)
    except ConnectorError:
        _give_up(ground)
        raise
    session.progress = Progress(created.consistent_point)
    slots.start_streaming(session.replication, session.slot, session.settings.publication, ground.server.version)
    session.hub.emit(SourceConnected(ground.server.version, session.slot, created.consistent_point, native is not None))
    return assembler


def _read_all(ground: Attachment, meta: dict[str, str], last_epoch: int, created: slots.CreatedSlot) -> Assembler:
    """The snapshot into the log; afterwards it is durable, and so is that it is."""
    session, connection = ground.session, ground.connection
    time_us = use_snapshot(connection, created.snapshot)
    tails = session.open_log(pumping=False)
    epoch = max([last_epoch, *(tail.epoch for tail in tails.values())]) + 1
    meta |= {"epoch": str(epoch), "confirmed": str(created.consistent_point)}
    session.index.save([], meta)
    assembler = ground.assembler(epoch, tails)
    reads = SnapshotReads(assembler, session.index, created.consistent_point, time_us)
    reads.marker(SNAPSHOT_BEGIN, json.dumps(meta | {"slot": session.slot}, ensure_ascii=False).encode())
    order = sorted(ground.tables.values(), key=lambda table: table.selection.role is not Role.REFERENCE)
    for table in order:
        _read_table(ground, assembler, table, reads.table(table))
    reads.marker(SNAPSHOT_END, b"{}")
    connection.execute("COMMIT")
    session.hand_over(assembler)
    done = session.call(lambda: session.index.save([], {"state": STATE_STREAMING, GAP: "", REQUEST: ""}))
    session.wait_for(lambda: done.done, "write the snapshot to the log")
    return assembler


def _give_up(ground: Attachment) -> None:
    """Drop the slot of a snapshot that failed: it would hold WAL until somebody starts again."""
    try:
        ground.connection.execute("ROLLBACK")
        slots.drop_slot(ground.connection, ground.session.slot)
    except (psycopg.Error, ConnectorError):
        return  # the next start does it


def _read_table(ground: Attachment, assembler: Assembler, table: CatalogTable, read: Read) -> None:
    session = ground.session
    rows = 0
    for texts in copy_table(ground.connection, table):
        read(texts)
        rows += 1
        if assembler.size > BATCH:
            session.make_room()
            session.hand_over(assembler)
            session.hub.emit(SnapshotProgress(table.shape.full_name, rows, table.estimate, finished=False))
            if session.stop.is_set():
                raise SourceUnavailable(
                    "read the snapshot", table.shape.full_name, "stopped", "start again: the snapshot begins anew"
                )
    session.hub.emit(SnapshotProgress(table.shape.full_name, rows, table.estimate, finished=True))

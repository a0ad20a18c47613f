"""The stream: from the replication connection through the assembler to the log thread, until told to stop.

Contract: data, keepalives and feedback are handled in order, also in the middle of a huge transaction. A single commit
goes to the log at once; a backlog makes full batches. When the log has no room nothing more is read.
"""

from __future__ import annotations

import time

from connector.source.assembler import Assembler
from connector.source.decode.transcoder import PADDING
from connector.source.protocol import KEEPALIVE, XLOG_DATA, parse_keepalive
from connector.source.session import Session

BATCH = 512 * 1024
"""A batch is handed over at this size even when the log is busy."""
_PROMPT = 0.1
"""Seconds between two feedbacks while something becomes durable."""


def stream(session: Session, assembler: Assembler) -> None:
    """Until `stop` is set, between two transactions where that is near. Raises ConnectorError."""
    connection, feeder = session.replication, session.feeder
    feed, read, progress = assembler.feed, connection.get_copy_data, session.progress
    feedback_at = 0.0
    messages = 0
    dry = False
    while True:
        size, data = read(1)
        if size > 0:
            dry = False
            if data[0] == XLOG_DATA:
                if end_lsn := feed(b"".join((data, PADDING))):
                    progress.committed(end_lsn)
                progress.in_transaction = assembler.in_transaction
                messages += 1
                if messages & 0x3F:
                    continue
            elif data[0] == KEEPALIVE:
                _keepalive(session, assembler, bytes(data))
                continue
        elif size == 0:
            if not dry:
                # What libpq has read is used up. Only when the socket has nothing either is it time to hand over:
                # a backlog makes full batches, a single commit goes at once.
                dry = True
                session.consume()
                continue
            if feeder.idle:
                session.hand_over(assembler)
            if session.stop.is_set() and not assembler.in_transaction:
                session.hand_over(assembler)
                return
            session.wait_readable(_PROMPT if session.progress.pending else session.source.feedback_interval)
        else:
            session.ended()
        now = time.monotonic()
        if now >= feedback_at or (session.progress.pending and now >= session.told_at + _PROMPT):
            feedback_at = now + session.source.feedback_interval
            session.feedback()
        if assembler.size >= BATCH:
            session.make_room()
            session.hand_over(assembler)
        if session.stop.is_set():
            # A transaction that is not whole yet comes again: the slot keeps the place.
            return


def _keepalive(session: Session, assembler: Assembler, data: bytes) -> None:
    keepalive = parse_keepalive(data)
    if assembler.size == 0 or session.feeder.idle:
        session.hand_over(assembler)
    session.progress.server_at(keepalive.server_end)
    if keepalive.reply:
        session.feedback()

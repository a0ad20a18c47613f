"""The stream: from the replication connection through the assembler to the log thread, until told to stop.

Contract: data, keepalives and feedback are handled in order, also in the middle of a huge transaction. A single commit
goes to the log at once; a backlog makes full batches. When the log has no room nothing more is read. What has gathered
is looked at with every large message: a batch is no larger than `BATCH` and one change of every partition.
Between two transactions the reads of a snapshot that is under way are told (`snapshot`).
A transaction that the server streams while it is open is spooled, and read when it has committed; until then it is no
open transaction of ours, and what was durable before may be confirmed: its commit will stand later in WAL, and the
server itself keeps what is needed to send it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg

from connector.errors import RecordTooLarge, SourceHeld, SourceUnavailable
from connector.source.assembler import Assembler
from connector.source.attachment import Attachment
from connector.source.decode.messages import violation
from connector.source.decode.transcoder import PADDING
from connector.source.protocol import KEEPALIVE, PAYLOAD, XLOG_DATA, parse_keepalive
from connector.source.session import Session
from connector.source.snapshot import read_again
from connector.source.spool import STREAM_MESSAGES

BATCH = 512 * 1024
"""A batch is handed over at this size even when the log is busy. A transaction that takes less is appended whole,
unless the connection breaks in it."""
_PROMPT = 0.1
"""Seconds between two feedbacks while something becomes durable."""
_LOOK = 1.0
"""Seconds between two looks for a snapshot that somebody asks for."""
_EVERY = 0x3F
"""Messages between two looks at the clock, less one."""


class _Pace:
    """What has to happen every few messages, also in the middle of a transaction that takes minutes."""

    def __init__(self, session: Session, assembler: Assembler) -> None:
        self._session = session
        self._assembler = assembler
        self._feedback_at = 0.0

    def keep(self) -> bool:
        """Answer the server in time, keep the batches small. False when it is time to stop."""
        session = self._session
        now = time.monotonic()
        if now >= self._feedback_at or (session.progress.pending and now >= session.told_at + _PROMPT):
            self._feedback_at = now + session.source.feedback_interval
            session.feedback()
            if self._assembler.meanwhile is not None:
                self._assembler.meanwhile.trim()
        if self._assembler.size >= BATCH:
            session.make_room()
            session.hand_over(self._assembler)
            if self._assembler.size >= BATCH:
                session.hand_over(self._assembler, open_too=True)
        # A transaction that is not whole yet comes again: the slot keeps the place.
        return not session.stop.is_set()


class _Reading:
    """The snapshot that is under way, if there is one, and those that a person asks for."""

    def __init__(self, ground: Attachment, assembler: Assembler) -> None:
        self._session = ground.session
        self._ground = ground
        self._assembler = assembler
        self._look_at = 0.0

    def step(self) -> None:
        """Tell what can be told; between two transactions, and not before the stream is where the log ends.

        What stands there may be a part of a transaction, of which some partitions have yet to get theirs.
        """
        if self._assembler.proof is not None:
            return
        session = self._session
        snapshot = session.snapshot
        if snapshot is not None:
            snapshot.step()
            if snapshot.waiting:
                session.ask_position()
            if snapshot.finished:
                snapshot.close()
                session.snapshot = None
        elif (now := time.monotonic()) >= self._look_at:
            self._look_at = now + _LOOK
            session.snapshot = read_again(self._ground, self._assembler, session.index.meta())

    def patience(self, in_transaction: bool) -> float:
        """Seconds that the server may be waited for."""
        snapshot = self._session.snapshot
        if snapshot is not None and not in_transaction:
            return 0.0 if snapshot.due else _PROMPT
        return _PROMPT if self._session.progress.pending else self._session.source.feedback_interval


def stream(ground: Attachment, assembler: Assembler) -> None:
    """Until `stop` is set, between two transactions where that is near. Raises ConnectorError.

    What had come before a connection broke goes to the log all the same: else a network that cuts every connection
    after less than a batch would let nothing through.
    """
    session = ground.session
    try:
        _stream(ground, assembler)
    except (SourceUnavailable, psycopg.OperationalError):
        session.hand_over(assembler, open_too=True)
        raise
    except SourceHeld as error:
        session.hand_over(assembler, open_too=True)
        session.hold(error, assembler.commit_lsn)
        raise
    except RecordTooLarge as error:
        # What was before it goes to the log; of its own transaction nothing more.
        streamed = assembler.in_transaction
        assembler.abandon()
        session.hand_over(assembler)
        if streamed:
            session.hold(error, assembler.commit_lsn)
        raise


def _stream(ground: Attachment, assembler: Assembler) -> None:
    session = ground.session
    connection, feeder, spool = session.replication, session.feeder, session.spool
    feed, read, progress = assembler.feed, connection.get_copy_data, session.progress
    pace, reading = _Pace(session, assembler), _Reading(ground, assembler)
    messages = 0
    dry = False
    while True:
        size, data = read(1)
        if size > 0:
            dry = False
            if data[0] == XLOG_DATA:
                if spool.within or (size > PAYLOAD and data[PAYLOAD] in STREAM_MESSAGES):
                    transaction = spool.take(bytes(data))
                    if transaction is not None and not _replay(session, assembler, transaction, pace):
                        return
                elif end_lsn := feed(b"".join((data, PADDING))):
                    progress.committed(end_lsn)
                    reading.step()
                progress.in_transaction = assembler.in_transaction
                messages += 1
                if messages & _EVERY and assembler.size < BATCH:
                    continue
            elif data[0] == KEEPALIVE:
                _keepalive(session, assembler, bytes(data))
                continue
            else:
                raise violation(f"a stream message of unknown type {chr(data[0])!r}")
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
            session.wait_readable(reading.patience(assembler.in_transaction))
            if not assembler.in_transaction:
                reading.step()
        else:
            session.ended()
        if not pace.keep():
            return


def _replay(session: Session, assembler: Assembler, transaction: Iterator[bytes], pace: _Pace) -> bool:
    """A streamed transaction, now that it has committed. False when it was left because of `stop`."""
    progress = session.progress
    for count, message in enumerate(transaction):
        if end_lsn := assembler.feed(message + PADDING):
            progress.committed(end_lsn)
        progress.in_transaction = assembler.in_transaction
        if (assembler.size >= BATCH or not count & _EVERY) and not pace.keep():
            return False
    return True


def _keepalive(session: Session, assembler: Assembler, data: bytes) -> None:
    keepalive = parse_keepalive(data)
    if assembler.size == 0 or session.feeder.idle:
        session.hand_over(assembler)
    if assembler.proof is not None and not assembler.in_transaction:
        assembler.proof = assembler.proof.passed(keepalive.server_end)
    session.progress.server_at(keepalive.server_end)
    if keepalive.reply:
        session.feedback()

"""Transactions that the server streams while they are open (protocol 2 and later), kept until their end is known.

Contract: `take` is given every message of a streamed block and every Stream Commit and Abort, in the order received.
It gives back a transaction at its Stream Commit: the messages that survive the aborts of subtransactions, in order,
between a Begin and a Commit, exactly as protocol version 1 would have sent them after the commit. So what reads them
need not know that streaming exists, and records are the same whether a server streams or not (test_streamed.py).

All open transactions together take at most `memory` bytes; past that the largest goes to a file, which has no name: it
is gone with the process, whatever ends it. Nothing of it is ever needed again: the server keeps WAL from the oldest
open transaction on, and sends it anew to the next session.

Pure but for those files. A file that cannot be written raises SourceUnavailable.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Final

from connector.errors import SourceUnavailable
from connector.source.decode.messages import (
    PG_EPOCH_US,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    parse,
    violation,
)
from connector.source.protocol import PAYLOAD

MEMORY = 16 * 1024 * 1024
"""Bytes of open transactions kept in memory."""
STREAM_MESSAGES: Final = frozenset(b"SEcA")
"""First bytes of the messages that are for the spool also outside a block."""

_BODY: Final = PAYLOAD + 5  # after the type byte and the id of the (sub)transaction
_ORIGIN: Final = ord("O")
_FRAME = struct.Struct(">II")
_XID = struct.Struct(">I")
_BEGIN = struct.Struct(">cQqI")
_COMMIT = struct.Struct(">cBQQq")
_BLOCK = 1024 * 1024
_OVERHEAD = 120  # of one message in memory, beside its bytes


class Streamed:
    """One streamed transaction: its messages, each with its (sub)transaction, the oldest of them in a file."""

    __slots__ = ("_directory", "_file", "_kept", "_rolled_back", "size", "xid")

    def __init__(self, xid: int, directory: Path) -> None:
        self.xid = xid
        self.size = 0
        """Bytes in memory."""
        self._directory = directory
        self._kept: list[tuple[int, bytes]] = []
        self._file: IO[bytes] | None = None
        self._rolled_back: set[int] = set()

    def add(self, subxid: int, message: bytes) -> int:
        """Keep a message (an XLogData, without the id). Returns the bytes it takes."""
        self._kept.append((subxid, message))
        size = len(message) + _OVERHEAD
        self.size += size
        return size

    def roll_back(self, subxid: int) -> None:
        """Forget a subtransaction; its own ones are rolled back by messages of their own."""
        self._rolled_back.add(subxid)

    def to_disk(self) -> None:
        """Move what is in memory to the file."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=_BLOCK)  # noqa: SIM115
            # One by one: joined before they are written, they would take the memory a second and a third time.
            write, frame = self._file.write, _FRAME.pack
            for subxid, message in self._kept:
                write(frame(subxid, len(message)))
                write(message)
        except OSError as error:
            raise _unspooled(self._directory, error) from None
        self._kept.clear()
        self.size = 0

    def messages(self, header: bytes, end: StreamCommit) -> Iterator[bytes]:
        """All of it, from Begin to Commit. header: of the XLogData that brought the commit."""
        commit_time = end.commit_time_us - PG_EPOCH_US
        yield header + _BEGIN.pack(b"B", end.commit_lsn, commit_time, self.xid)
        rolled_back = self._rolled_back
        for subxid, message in chain(self._from_disk(), self._kept):
            if subxid not in rolled_back:
                yield message
        yield header + _COMMIT.pack(b"C", 0, end.commit_lsn, end.end_lsn, commit_time)

    def close(self) -> None:
        """Let go of memory and disk."""
        self._kept.clear()
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take is not needed any more
                self._file.close()

    def _from_disk(self) -> Iterator[tuple[int, bytes]]:
        if self._file is None:
            return
        try:
            self._file.seek(0)
            while frame := self._file.read(_FRAME.size):
                subxid, size = _FRAME.unpack(frame)
                yield subxid, self._file.read(size)
        except OSError as error:
            raise _unspooled(self._directory, error) from None


class Spool:
    """See the module's contract. directory: for the files, on a disk with room for the largest transactions."""

    def __init__(self, directory: Path, memory: int = MEMORY) -> None:
        self._directory = directory
        self._memory = memory
        self._open: dict[int, Streamed] = {}
        self._size = 0
        self._current: Streamed | None = None

    @property
    def within(self) -> bool:
        """Whether a block is open: the next message is for the spool, whatever it is."""
        return self._current is not None

    def take(self, data: bytes) -> Iterator[bytes] | None:
        """One XLogData message. Returns the transaction's messages when it was a Stream Commit.

        They are to be read before the next call. Raises ProtocolViolation, SourceUnavailable.
        """
        if len(data) <= PAYLOAD:
            raise violation(f"an XLogData message of {len(data)} bytes")
        kind = data[PAYLOAD]
        current = self._current
        if kind not in STREAM_MESSAGES:
            if current is None:
                raise violation(f"a message of type {chr(kind)!r} was taken for a part of a streamed block")
            self._keep(current, kind, data)
            return None
        match parse(data[PAYLOAD:]):
            case StreamStop():
                if current is None:
                    raise violation("a streamed block ends that never began")
                self._current = None
            case message if current is not None:
                raise violation(f"a {type(message).__name__} inside a streamed block")
            case StreamStart(xid, first):
                if first == (xid in self._open):
                    raise violation("a streamed block begins in the middle, or a second time")
                self._current = self._open.setdefault(xid, Streamed(xid, self._directory))
            case StreamAbort(xid, subxid) if xid == subxid:
                self._end(xid)
            case StreamAbort(xid, subxid):
                if xid in self._open:
                    self._open[xid].roll_back(subxid)
            case StreamCommit(xid) as commit:
                if xid not in self._open:
                    raise violation("a streamed transaction commits that never began")
                return self._committed(data[:PAYLOAD], commit)
        return None

    def close(self) -> None:
        """Let go of everything."""
        for xid in list(self._open):
            self._end(xid)

    def _keep(self, current: Streamed, kind: int, data: bytes) -> None:
        if kind == _ORIGIN:  # the one message of a block that carries no id
            self._size += current.add(current.xid, data)
        elif len(data) < _BODY:
            raise violation(f"a message of type {chr(kind)!r} is cut short or garbled")
        else:
            self._size += current.add(_XID.unpack_from(data, PAYLOAD + 1)[0], data[: PAYLOAD + 1] + data[_BODY:])
        if self._size > self._memory:
            largest = max(self._open.values(), key=lambda streamed: streamed.size)
            self._size -= largest.size
            largest.to_disk()

    def _committed(self, header: bytes, commit: StreamCommit) -> Iterator[bytes]:
        try:
            yield from self._open[commit.xid].messages(header, commit)
        finally:
            self._end(commit.xid)

    def _end(self, xid: int) -> None:
        streamed = self._open.pop(xid, None)
        if streamed is not None:
            self._size -= streamed.size
            streamed.close()


def _unspooled(directory: Path, error: OSError) -> SourceUnavailable:
    return SourceUnavailable(
        "keep a transaction that is still open",
        str(directory),
        os.strerror(error.errno or 0),
        "make room in source.data; nothing of the transaction was confirmed, and it is read again by itself",
    )

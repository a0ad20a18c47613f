"""pgoutput messages, protocol versions 1 to 4 (PostgreSQL section 55.9, Logical Replication Message Formats).

Contract: `parse` turns the bytes of one message into one frozen value, or raises `ProtocolViolation`; never anything
else, at whatever byte the message is cut. Column values stay text as bytes; None is NULL, `UNCHANGED` is a TOASTed
value that the statement did not touch. The ids that messages of a streamed block carry are taken out before they come
here (`source.spool`). What is never asked for (binary columns, two-phase, parallel streaming) is a violation. The hot
path (`transcoder`) skips these objects for row messages and is held equal to them by a property test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from connector.errors import ProtocolViolation

PG_EPOCH_US = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01; everything of ours counts from 1970-01-01."""


class Unchanged(Enum):
    """The type of UNCHANGED, so that it is neither NULL nor a value."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
Field = bytes | None | Unchanged
Tuple = tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """`commit_lsn`: LSN of the commit record; `commit_time_us`: microseconds since the Unix epoch."""

    commit_lsn: int
    commit_time_us: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`end_lsn`: where WAL goes on after the transaction; what may be confirmed."""

    commit_lsn: int
    end_lsn: int
    commit_time_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction came from another server."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """`key`: part of the replica identity."""

    name: str
    type_oid: int
    typmod: int
    key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """The shape that row messages with this `oid` have from here on. `identity`: d, f, i or n."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """A type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    oid: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """`old` is the old key (`full` False), the whole old row (`full` True), or None when the key did not change."""

    oid: int
    old: Tuple | None
    full: bool
    new: Tuple


@dataclass(frozen=True, slots=True)
class Delete:
    oid: int
    old: Tuple
    full: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """pg_logical_emit_message. `transactional` ones stand inside Begin and Commit."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StreamStart:
    """A block of changes of a transaction that is still open begins. `first`: nothing of it was sent before."""

    xid: int
    first: bool


@dataclass(frozen=True, slots=True)
class StreamStop:
    """The block ends."""


@dataclass(frozen=True, slots=True)
class StreamCommit:
    """A streamed transaction has committed."""

    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time_us: int


@dataclass(frozen=True, slots=True)
class StreamAbort:
    """A streamed transaction (`subxid` equal to `xid`) or one of its subtransactions was rolled back."""

    xid: int
    subxid: int


Streaming = StreamStart | StreamStop | StreamCommit | StreamAbort
PgOutput = Streaming | Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | Message


def parse(data: bytes) -> PgOutput:
    """One message. Raises ProtocolViolation when the bytes are not one whole message."""
    cursor = _Cursor(data)
    try:
        message = _message(cursor)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise violation(f"a message of type {_kind(data)} is cut short or garbled") from error
    if cursor.at != len(data):
        raise violation(f"a message of type {_kind(data)} has {len(data) - cursor.at} bytes too many")
    return message


def violation(cause: str) -> ProtocolViolation:
    """The one error of decoding; `cause` must not hold a row's value."""
    return ProtocolViolation(
        "decode the replication stream",
        "pgoutput",
        cause,
        "nothing was confirmed, so nothing is lost; start again, and report this with the server's version if it stays",
    )


def read_tuple(data: bytes, at: int) -> tuple[Tuple, int]:
    """TupleData at offset `at`, and the offset after it. Raises ProtocolViolation when it is cut short."""
    cursor = _Cursor(data, at)
    try:
        return cursor.tuple(), cursor.at
    except (struct.error, IndexError) as error:
        raise violation("a row is cut short") from error


def _kind(data: bytes) -> str:
    return repr(chr(data[0])) if data else "(empty)"


class _Cursor:
    """Reads from left to right; every read past the end raises."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def int2(self) -> int:
        return self.unpack(_INT2)[0]

    def uint4(self) -> int:
        return self.unpack(_UINT4)[0]

    def uint8(self) -> int:
        return self.unpack(_UINT8)[0]

    def time_us(self) -> int:
        return self.unpack(_INT8)[0] + PG_EPOCH_US

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise IndexError
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def tuple(self) -> Tuple:
        fields: list[Field] = []
        for _ in range(self.int2()):
            match self.byte():
                case 0x74:
                    fields.append(self.take(self.uint4()))
                case 0x6E:
                    fields.append(None)
                case 0x75:
                    fields.append(UNCHANGED)
                case other:
                    # 'b' is binary, which is never asked for.
                    raise violation(f"a column of unknown kind {other:#x}")
        return tuple(fields)

    def tag(self, allowed: bytes) -> int:
        found = self.byte()
        if found not in allowed:
            raise violation(f"a row marker {found:#x} where one of {allowed!r} belongs")
        return found


_INT2 = struct.Struct(">h")
_UINT4 = struct.Struct(">I")
_INT4 = struct.Struct(">i")
_UINT8 = struct.Struct(">Q")
_INT8 = struct.Struct(">q")


def _message(cursor: _Cursor) -> PgOutput:
    match chr(cursor.byte()):
        case "B":
            return Begin(cursor.uint8(), cursor.time_us(), cursor.uint4())
        case "C":
            cursor.byte()  # flags, unused
            return Commit(cursor.uint8(), cursor.uint8(), cursor.time_us())
        case "O":
            return Origin(cursor.uint8(), cursor.text())
        case "R":
            return _relation(cursor)
        case "Y":
            return Type(cursor.uint4(), cursor.text(), cursor.text())
        case "I":
            oid = cursor.uint4()
            cursor.tag(b"N")
            return Insert(oid, cursor.tuple())
        case "U":
            oid = cursor.uint4()
            tag = cursor.tag(b"KON")
            old = None
            if tag != ord("N"):
                old = cursor.tuple()
                cursor.tag(b"N")
            return Update(oid, old, tag == ord("O"), cursor.tuple())
        case "D":
            oid = cursor.uint4()
            tag = cursor.tag(b"KO")
            return Delete(oid, cursor.tuple(), tag == ord("O"))
        case "T":
            count, options = cursor.uint4(), cursor.byte()
            if count * 4 > len(cursor.data):
                raise IndexError
            return Truncate(tuple(cursor.uint4() for _ in range(count)), bool(options & 1), bool(options & 2))
        case "M":
            flags, lsn, prefix = cursor.byte(), cursor.uint8(), cursor.text()
            return Message(bool(flags & 1), lsn, prefix, cursor.take(cursor.uint4()))
        case "S":
            return StreamStart(cursor.uint4(), bool(cursor.byte() & 1))
        case "E":
            return StreamStop()
        case "c":
            xid = cursor.uint4()
            cursor.byte()  # flags, unused
            return StreamCommit(xid, cursor.uint8(), cursor.uint8(), cursor.time_us())
        case "A":
            return StreamAbort(cursor.uint4(), cursor.uint4())
        case other:
            raise violation(f"a message of unknown type {other!r}")


def _relation(cursor: _Cursor) -> Relation:
    oid, schema, table, identity = cursor.uint4(), cursor.text(), cursor.text(), chr(cursor.byte())
    columns = []
    for _ in range(cursor.int2()):
        flags, name = cursor.byte(), cursor.text()
        columns.append(RelationColumn(name, cursor.uint4(), cursor.unpack(_INT4)[0], bool(flags & 1)))
    return Relation(oid, schema or "pg_catalog", table, identity, tuple(columns))

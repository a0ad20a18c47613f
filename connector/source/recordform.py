"""How records are written: the parts in which Avro and JSON differ, for the stream and for what is read beside it.

Contract: a `RecordForm` gives the constant bytes of a table's records (`of_table`), of a transaction (`context`,
`identity`) and of an operation, and joins them with a row; the two forms are `AVRO` here and `json_records.JSON`. It
has no state. What is rare (markers, TRUNCATE, messages) is made in Avro by `change.encoding` and put into the form by
`rare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from connector.change.envelope import CONNECTOR, ENVELOPE_VERSION
from connector.change.position import Position
from connector.change.shape import Shape
from connector.source.decode.converters import text_bytes, zigzag
from connector.source.decode.cutting import mark
from connector.source.decode.records import record
from connector.source.decode.rowform import AVRO_ROWS, RowForm

Join = Callable[[bytes, bytes, bytes, bytes, bytes, int, bytes, bytes, int], bytes]

Rare = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""Key and value of a record in Avro → those of the form."""


@dataclass(frozen=True, slots=True)
class TableForm:
    """The constant bytes of a table's records.

    created: up to a row that has none before it; changed: up to the row before; source: from there to what a
    transaction has in common. entry_key: the key in the log by the record key (`envelope.row_key`), None where they are
    the same; then `source` has that key, too.
    """

    created: bytes
    changed: bytes
    source: bytes
    entry_key: Callable[[bytes], bytes] | None


class RecordForm(Protocol):
    """See the module's contract."""

    rows: RowForm
    create: bytes
    update: bytes
    delete: bytes
    arrival: bytes
    """Of each operation: from `sub` to the time of capture. Of an `entry_key` form: a template for the record key."""
    second: bytes
    """Before the row after, where there was one before."""
    no_second: bytes
    """In its place, where there is none."""
    join: Join
    """See `decode.records.join_record`."""
    unmarked: int
    """How much of a record stays when it is marked as its transaction's last, as the end of a slice."""
    last: bytes
    """What then follows."""

    def of_table(self, schema_id: int, name: str, database: str, shape: Shape) -> TableForm:
        """For a table's records under this schema id."""

    def rare(self, schema_id: int, schema: str, name: str) -> Rare:
        """For records of this schema that are made in Avro."""

    def context(self, time_us: int, xid: int, epoch: int, commit_lsn: int) -> bytes:
        """A streamed transaction in `source`, up to the LSN."""

    def identity(self, now_ms: int, xid: int, commit_lsn: int) -> bytes:
        """The time of capture and the transaction, up to the number of the record in it."""

    def marked(self, op: bytes, truncated: Sequence[str]) -> bytes:
        """An operation's bytes with the names of the columns that were cut (`source.truncated`)."""

    def read(
        self, table: TableForm, position: Position, time_us: int, now_ms: int, truncated: Sequence[str] = ()
    ) -> Callable[[bytes, bytes], bytes]:
        """Row and record key → a record of what was read (`r`)."""


class _AvroRecords:
    rows: RowForm = AVRO_ROWS
    # The second byte is `truncated`, null.
    create = b"\0\0\2c\2"
    update = b"\0\0\2u\2"
    delete = b"\0\0\2d\2"
    arrival = b"\2\0\2c\2"
    second = b"\2"
    no_second = b"\0"
    join: Join = staticmethod(record)
    unmarked = -1
    last = b"\1"

    def of_table(self, schema_id: int, name: str, database: str, shape: Shape) -> TableForm:
        header = b"\0" + schema_id.to_bytes(4, "big")
        texts = (ENVELOPE_VERSION, CONNECTOR, name, database, shape.schema, shape.table)
        source = b"".join(text_bytes(text.encode()) for text in texts)
        return TableForm(header + b"\0\2", header + b"\2", source, None)

    def rare(self, schema_id: int, schema: str, name: str) -> Rare:
        return lambda key, value: (key, value)

    def context(self, time_us: int, xid: int, epoch: int, commit_lsn: int) -> bytes:
        times = _zigzag_of_now(time_us // 1000) + zigzag(time_us)
        return b"".join((b"\x0afalse", times, b"\2", zigzag(xid), zigzag(epoch), zigzag(commit_lsn)))

    def identity(self, now_ms: int, xid: int, commit_lsn: int) -> bytes:
        return b"".join((_zigzag_of_now(now_ms), b"\2", text_bytes(b"%d:%d" % (xid, commit_lsn))))

    def marked(self, op: bytes, truncated: Sequence[str]) -> bytes:
        return op[:1] + mark(truncated) + op[2:]

    def read(
        self, table: TableForm, position: Position, time_us: int, now_ms: int, truncated: Sequence[str] = ()
    ) -> Callable[[bytes, bytes], bytes]:
        epoch, point, ordinal, sub = position
        numbers = map(zigzag, (epoch, point, point, ordinal, sub))
        after = b"".join(
            (
                table.source,
                b"\x08true",
                zigzag(time_us // 1000),
                zigzag(time_us),
                b"\0",  # no txId
                *numbers,
                mark(truncated),
                b"\2r\2",
                zigzag(now_ms),
                b"\0",  # no transaction
            )
        )
        return lambda row, _: b"".join((table.created, row, after))


_zigzag_of_now = lru_cache(16)(zigzag)  # transactions of the same millisecond come one after the other

AVRO: RecordForm = _AvroRecords()

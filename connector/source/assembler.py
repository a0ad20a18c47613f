"""pgoutput messages and snapshot rows → log entries.

Contract: `feed` takes the bytes of one XLogData message (padded with `decode.transcoder.PADDING`); entries gather until
`take` hands them over. Within a partition, entries stand in commit order; each carries `(epoch, commit_lsn, ordinal,
sub)`; the last of a transaction in each partition is marked. What a partition already has (position at or below its
tail) is not made again. A transaction that the index is past (`indexed_below`) is passed over whole, for the index has
no longer what it was made with. Pure but for what it is given: the keyed index, `register`, `ancestors`, the time.

This is the hot path: one row is one pass of generated code and one join, without objects. The readable equal is
`decode.messages.parse` with `change.encoding.Encoder`; test_transcoder.py (rows) and test_changes.py hold them to it.
What is otherwise in a log of JSON records is in `recordform`.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from connector.change.encoding import Context, Encoder
from connector.change.envelope import (
    message_key,
    message_schema,
    truncate_key,
)
from connector.change.partitioner import murmur2, partitioner
from connector.change.position import Position, lsn_text
from connector.change.record import Op
from connector.change.shape import Column
from connector.errors import ProtocolViolation, SourceGap
from connector.log.contract import Entry
from connector.source.basetypes import BaseTypes
from connector.source.catalog import CatalogTable
from connector.source.decode.accelerator import native
from connector.source.decode.messages import (
    PG_EPOCH_US,
    UNCHANGED,
    Field,
    Message,
    Relation,
    Truncate,
    parse,
    read_tuple,
    violation,
)
from connector.source.decode.transcoder import PADDING
from connector.source.fitting import fit, renamed
from connector.source.index import NO_DOSSIER, IndexChanges, KeyedIndex, Texts
from connector.source.meanwhile import UNREAD, Meanwhile
from connector.source.oversize import CUT, TRUNCATED, RecordBound
from connector.source.proof import Proof
from connector.source.protocol import PAYLOAD, payload_lsn
from connector.source.recordform import AVRO, Rare, RecordForm
from connector.source.relation import CapturedRelation

OWN_PREFIX = "emc-cdc."
"""Logical messages of other prefixes are somebody else's business and are not kept (promise 5)."""

# Offsets in an XLogData message of a row: type byte, relation oid, row marker, tuple.
_OID: Final = PAYLOAD + 1
_MARKER: Final = PAYLOAD + 5
_TUPLE: Final = PAYLOAD + 6
_EMPTY: Final = PAYLOAD + len(PADDING)
_SHORTEST: Final = _TUPLE + len(PADDING)
_NEW: Final = 0x4E
_KEY: Final = 0x4B
_OLD: Final = 0x4F

# Begin and Commit come with every transaction, so they are read without an object (messages.Begin, messages.Commit).
_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")

_CHANGES: Final = b"IUDTM"
_new = tuple.__new__  # half the cost of calling a NamedTuple


@dataclass(frozen=True, slots=True)
class Batch:
    """What is handed over to the log at once.

    end_lsn: end of the last whole transaction in it (0 when it ends inside the first); commit_* of the same.
    """

    entries: Sequence[Entry]
    index: IndexChanges
    transactions: int
    changes: int
    end_lsn: int
    commit_lsn: int
    commit_time_us: int
    size: int
    note: Mapping[str, str]
    """What the index's meta remembers as soon as this is durable."""
    truncated: int = 0
    """Records of which values were cut."""


class Assembler:
    """See the module's contract. Used from the capture thread only.

    catalog: the captured tables; register: Avro schema text → id; tails: last position of each non-empty partition;
    ancestors: pg_class.oid of a relation that is not in the catalog → full names of the tables that it is a part of;
    known_at: LSN at which the catalog was read; fits: told of a table whose relation fits although it is newer;
    begins_at: LSN before which every transaction was streamed earlier, or is in the snapshot;
    types: what the types of the database come down to; bound: what a record may take; form: how records are written.
    """

    def __init__(
        self,
        name: str,
        database: str,
        epoch: int,
        catalog: Mapping[str, CatalogTable],
        partitions: int,
        tails: Mapping[int, Position],
        index: KeyedIndex,
        register: Callable[[str], int],
        now_ms: Callable[[], int],
        ancestors: Callable[[int], Sequence[str]],
        known_at: int,
        fits: Callable[[CatalogTable], None],
        begins_at: int,
        types: BaseTypes,
        bound: RecordBound,
        form: RecordForm = AVRO,
    ) -> None:
        self.name = name
        self.database = database
        self.epoch = epoch
        self._catalog = catalog
        self.everywhere = range(partitions)
        self._tails = dict(tails)
        self._highest = max(tails.values(), default=Position(0, 0, 0))
        self._index = index
        self.register = register
        self._ancestors = ancestors
        self._known_at = known_at
        self._fits = fits
        self._begins_at = begins_at
        self.meanwhile: Meanwhile | None = None
        """What streamed transactions change, remembered while a snapshot is read."""
        self._touched: set[bytes] | None = None
        self._types = types
        self.bound = bound
        self._largest = bound.largest
        self.form = form
        self._create, self._update_op, self._delete_op, self._arrival = (
            form.create,
            form.update,
            form.delete,
            form.arrival,
        )
        self._second, self._no_second, self._join = form.second, form.no_second, form.join
        self.now_ms = now_ms
        self._partition_of = partitioner(partitions, murmur2 if native is None else native.murmur2)
        self._tables: dict[bytes, CapturedRelation | None] = {}
        self._messages: tuple[Encoder, Rare] | None = None
        # The batch
        self._entries: list[Entry] = []
        self._last: dict[int, int] = {}
        self.size = 0
        self._transactions = 0
        self._changes = 0
        self._end_lsn = 0
        self._done_lsn = 0
        self._done_time_us = 0
        self._note: dict[str, str] = {}
        self._truncated = 0
        self._cut: Counter[str] | None = None
        # The transaction
        self._begun = (0, 0, 0)
        """What had gathered when it began: entries, bytes, changes."""
        self.in_transaction = False
        self._serial = 0
        self.commit_lsn = 0
        """Of the transaction that is being read, or was last."""
        self._commit_time_us = 0
        self._xid = 0
        self._ordinal = 0
        self._replaying = False
        self._logged = False
        """The transaction is one that the whole of the log has: it may be looked at again, but adds nothing."""
        self.indexed_below = 0
        """LSN below which every commit that comes is wholly in log and index, if the server's WAL is the log's."""
        self._passed = False
        """The transaction is one of those: it is not looked at again, for the index says of rows what they became."""
        self.proof: Proof | None = None
        """What the server still has to send again to show that its WAL is the one of the log."""
        self._opened = False
        self._context = b""
        self._identity = b""

    @property
    def compiled(self) -> bool:
        """Whether rows are read by code in C."""
        return native is not None and self.form.rows.compiled

    # -- the stream --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> int:
        """One padded XLogData message. Returns the end LSN when it was the commit of what was not known, else 0."""
        if len(data) <= _EMPTY:
            raise violation(f"an XLogData message of {len(data) - len(PADDING)} bytes")
        kind = data[PAYLOAD]
        if self._passed and kind in _CHANGES:
            return 0
        if kind == 0x49:  # I
            self._insert(data)
        elif kind == 0x55:  # U
            self._update(data)
        elif kind == 0x42:  # B
            self._begin(data)
        elif kind == 0x43:  # C
            return self._commit(data)
        elif kind == 0x44:  # D
            self._delete(data)
        elif kind == 0x52:  # R
            self._relation(data)
        elif kind == 0x54:  # T
            self._truncate(data)
        elif kind == 0x4D:  # M
            self._message(data)
        elif kind in (0x59, 0x4F):  # Y, O: nothing depends on them
            parse(data[PAYLOAD : -len(PADDING)])
        else:
            raise violation(f"a message of unknown type {chr(kind)!r}")
        return 0

    def take(self, open_too: bool = False) -> Batch | None:
        """Hand over the transactions that are whole; None when there are none.

        open_too: what has gathered of the transaction that is open as well; then the last entry of each partition stays
        here, because it may turn out to be the last.
        """
        entries, size, changes = self._entries, self.size, self._changes
        left_size = left_changes = 0
        if not self.in_transaction:
            if not self._end_lsn and not entries and not self._note:
                return None
            self._entries = []
        elif open_too:
            held = sorted(self._last.values())
            kept = [entries[at] for at in held]
            if len(held) == len(entries) and not self._end_lsn:
                return None
            for at in reversed(held):
                del entries[at]
            self._last = {entry.partition: at for at, entry in enumerate(kept)}
            self._entries = kept
        else:
            whole, size, changes = self._begun
            if not self._end_lsn and not whole:
                return None
            self._entries, entries = entries[whole:], entries[:whole]
            self._last = {partition: at - whole for partition, at in self._last.items()}
            left_size, left_changes = self.size - size, self._changes - changes
        batch = Batch(
            entries,
            self._index.take(),
            self._transactions,
            changes,
            self._end_lsn,
            self._done_lsn,
            self._done_time_us,
            size,
            self._note,
            self._truncated,
        )
        self._note = {}
        self._begun = (0, 0, 0)
        self.size, self._changes = left_size, left_changes
        self._transactions = self._end_lsn = self._truncated = 0
        return batch

    def abandon(self) -> None:
        """Forget what has gathered of the transaction that is open; the slot has it still."""
        if self.in_transaction:
            entries, self.size, self._changes = self._begun
            del self._entries[entries:]
            self._last.clear()
            self._passed = self.in_transaction = False

    def _begin(self, data: bytes) -> None:
        if len(data) != PAYLOAD + 1 + _BEGIN.size + len(PADDING):
            raise violation("a begin message of another length")
        commit_lsn, commit_time, xid = _BEGIN.unpack_from(data, PAYLOAD + 1)
        if self.in_transaction:
            raise violation("a transaction begins inside another")
        self.in_transaction = True
        self._serial += 1
        self.commit_lsn = commit_lsn
        self._commit_time_us = commit_time + PG_EPOCH_US
        self._xid = xid
        self._ordinal = 0
        self._opened = False
        self._begun = (len(self._entries), self.size, self._changes)
        self._last.clear()
        self._replaying = (self.epoch, commit_lsn) <= self._highest[:2]
        # An append begins when the one before it is durable, and is there as a whole or not at all: so what was
        # committed before the last logged transaction is in the log, in every partition that it belongs to.
        self._logged = (self.epoch, commit_lsn) < self._highest[:2]
        self._passed = commit_lsn < self.indexed_below
        if self.meanwhile is not None:
            self._touched = self.meanwhile.begin(xid)
        if self.proof is not None:
            self.proof = self.proof.begun(commit_lsn, self._commit_time_us)

    def _commit(self, data: bytes) -> int:
        if len(data) != PAYLOAD + 1 + _COMMIT.size + len(PADDING):
            raise violation("a commit message of another length")
        _, commit_lsn, end_lsn = _COMMIT.unpack_from(data, PAYLOAD + 1)[:3]
        if not self.in_transaction or commit_lsn != self.commit_lsn:
            raise violation("a commit does not belong to the transaction that is open")
        if self._passed:
            # Not told as an end: the index is past it, and what it remembers of that must not fall.
            self._passed = self.in_transaction = False
            return 0
        entries = self._entries
        unmarked, last = self.form.unmarked, self.form.last
        for at in self._last.values():
            partition, key, value = entries[at]
            entries[at] = _new(Entry, (partition, key, value[:unmarked] + last))
        self._last.clear()
        self._index.committed()
        self.in_transaction = False
        self._transactions += 1
        self._end_lsn = end_lsn
        self._done_lsn = commit_lsn
        self._done_time_us = self._commit_time_us
        return int(end_lsn)

    def _insert(self, data: bytes) -> None:
        if len(data) < _SHORTEST:
            raise violation("a row's message that is cut short")
        self._ordinal += 1
        try:
            table = self._tables[data[_OID:_MARKER]]
        except KeyError:
            raise _undescribed() from None
        if table is None:
            return
        if data[_MARKER] != _NEW:
            raise violation("an insert without a new row")
        made = table.tuple_row(data, _TUPLE) if len(data) < table.toast_at else None
        if made is None:
            row, key, link, _ = self._big_row(table, data, _TUPLE, None, None, True)
        else:
            row, key, link, _ = made
        record_key = table.key_prefix + key + b"]"
        if table.is_child:
            self._index.put_child(record_key, link if link is not None else NO_DOSSIER, True)
        self._emit(table, data, link, record_key, None, row, self._create)

    def _update(self, data: bytes) -> None:
        if len(data) < _SHORTEST:
            raise violation("a row's message that is cut short")
        self._ordinal += 1
        try:
            table = self._tables[data[_OID:_MARKER]]
        except KeyError:
            raise _undescribed() from None
        if table is None:
            return
        marker = data[_MARKER]
        at = _TUPLE
        old_row = old_key = old_link = None
        old_fields: tuple[Field, ...] | None = None
        if marker != _NEW:
            if marker not in (_KEY, _OLD):
                raise violation("an update without a new row")
            old = table.tuple_row(data, at)
            if old is None:
                raise violation("an old row with an unchanged value")
            old_row, old_key, old_link, end = old
            if marker == _OLD:
                old_fields, _ = read_tuple(data, at)
            if data[end] != _NEW:
                raise violation("an update without a new row")
            at = end + 1
        made = table.tuple_row(data, at) if len(data) < table.toast_at else None
        cut: Sequence[str] = ()
        if made is None:
            try:
                row, key, link, cut = self._big_row(table, data, at, old_key, old_fields, False)
            except _NotReadYet as unread:
                self._lay_over(table, data, unread, old_row, old_key, old_link if marker == _OLD else None)
                return
        else:
            row, key, link, _ = made
        record_key = table.key_prefix + key + b"]"
        if old_key is not None and old_key != key:
            # The primary key changed: another row, as Debezium tells it.
            assert old_row is not None
            known_link = old_link if marker == _OLD or table.is_dossier else None
            self._remove(table, data, old_row, old_key, known_link)
            self._arrive(table, data, row, key, link, cut)
            return
        if table.is_child:
            known = self._index.dossier_of(record_key)
            dossier = link if link is not None else NO_DOSSIER
            if known is None and self._being_read(table):
                self._index.put_child(record_key, dossier, False)
            elif known != dossier:
                # The child moved to another dossier: gone there, new here (DESIGN section 3).
                gone = old_row if old_row is not None else table.key_row(key)
                self._remove(table, data, gone, key, old_link if marker == _OLD else None)
                self._arrive(table, data, row, key, link, cut)
                return
        before = old_row if marker == _OLD else None
        self._emit(table, data, link, record_key, before, row, self._update_op, 0, cut)

    def _delete(self, data: bytes) -> None:
        if len(data) < _SHORTEST:
            raise violation("a row's message that is cut short")
        self._ordinal += 1
        try:
            table = self._tables[data[_OID:_MARKER]]
        except KeyError:
            raise _undescribed() from None
        if table is None:
            return
        marker = data[_MARKER]
        old = table.tuple_row(data, _TUPLE) if marker in (_KEY, _OLD) else None
        if old is None:
            raise violation("a delete without an old row")
        row, key, link, _ = old
        self._remove(table, data, row, key, link if marker == _OLD or table.is_dossier else None)

    def _arrive(
        self, table: CapturedRelation, data: bytes, row: bytes, key: bytes, link: bytes | None, cut: Sequence[str]
    ) -> None:
        """The second half of an update that is told as a delete and a create."""
        record_key = table.key_prefix + key + b"]"
        if table.is_child:
            self._index.put_child(record_key, link if link is not None else NO_DOSSIER, False)
        self._emit(table, data, link, record_key, None, row, self._arrival, 1, cut)

    def _remove(self, table: CapturedRelation, data: bytes, row: bytes, key: bytes, link: bytes | None) -> None:
        record_key = table.key_prefix + key + b"]"
        if table.is_child:
            if link is None:
                known = self._index.dossier_of(record_key)
                link = known or None  # unknown and NO_DOSSIER alike go to every partition
            self._index.forget_child(record_key)
        if table.toastable:
            self._index.forget_texts(record_key)
        self._emit(table, data, link, record_key, row, None, self._delete_op)

    def targets(self, table: CapturedRelation, record_key: bytes, link: bytes | None) -> Sequence[int]:
        """The partitions of a record: its dossier's, or every one when it belongs to no known dossier."""
        if link is not None:
            return (self._partition_of(link),)
        if table.is_dossier:  # a key of several columns: `envelope.dossier_key`
            return (self._partition_of(b"[" + record_key.removeprefix(table.key_prefix)),)
        return self.everywhere

    def _emit(
        self,
        table: CapturedRelation,
        data: bytes,
        link: bytes | None,
        record_key: bytes,
        before: bytes | None,
        after: bytes | None,
        op: bytes,
        sub: int = 0,
        cut: Sequence[str] = (),
    ) -> None:
        """cut: columns of `after` whose values were cut earlier."""
        if table.serial != self._serial:
            self._enter(table)
        if self._touched is not None:
            self._touched.add(record_key)
            assert self.meanwhile is not None
            self.meanwhile.overlays.pop(record_key, None)
        table.order = order = table.order + 1
        ordinal = self._ordinal
        key = record_key
        if table.entry_key is not None:
            key = table.entry_key(record_key)
            op %= record_key
        join, context, identity = self._join, table.context, self._identity
        if after is None:
            assert before is not None
            value = join(table.delete_head, before, self._no_second, context, data, ordinal, op, identity, order)
        elif before is None:
            value = join(table.create_head, after, b"", context, data, ordinal, op, identity, order)
        else:
            value = join(table.update_head, before, self._second + after, context, data, ordinal, op, identity, order)
        entries = self._entries
        size = len(value) + len(key)
        if size > self._largest or cut:
            value = self._cut_record(table, data, link, record_key, before, after, value, size, op, sub, cut)
            size = len(value) + len(key)
        if link is not None and not self._replaying:
            # Nearly every record: one partition, nothing to compare it with.
            partition = self._partition_of(link)
            self._last[partition] = len(entries)
            entries.append(_new(Entry, (partition, key, value)))
            self.size += size
        else:
            for partition in self.targets(table, record_key, link):
                if self._replaying and self._has(partition, sub):
                    continue
                self._last[partition] = len(entries)
                entries.append(_new(Entry, (partition, key, value)))
                self.size += size
        self._changes += 1

    def _cut_record(
        self,
        table: CapturedRelation,
        data: bytes,
        link: bytes | None,
        record_key: bytes,
        before: bytes | None,
        after: bytes | None,
        value: bytes,
        size: int,
        op: bytes,
        sub: int,
        cut: Sequence[str],
    ) -> bytes:
        """The record of a change that is too large, or of which values were cut earlier, with the mark that says so."""
        if self._replaying and all(self._has(partition, sub) for partition in self.targets(table, record_key, link)):
            return value  # the log has it, maybe under another bound
        names = cut
        marked = self.form.marked(op, names)
        if size + len(marked) - len(op) > self._largest:
            fitted = self.bound.fit(table, before, after, size, cut, self._where(data))
            before, after, names = fitted.before, fitted.after, fitted.names
            marked = self.form.marked(op, names)
            if fitted.texts:
                lost = json.dumps(sorted({*fitted.texts, *cut}), ensure_ascii=False).encode()
                texts = {**self._index.texts_of(record_key), **fitted.texts, CUT: lost}
                self._index.put_texts(record_key, texts, op is self._create)
        self.count_cut(table, names)
        head = table.create_head if before is None else table.update_head
        first = before if before is not None else after
        assert first is not None
        second = b"" if before is None else self._no_second if after is None else self._second + after
        return self._join(head, first, second, table.context, data, self._ordinal, marked, self._identity, table.order)

    def count_cut(self, table: CapturedRelation, names: Sequence[str]) -> None:
        """One more record of which the values of these columns were cut."""
        if self._cut is None:
            self._cut = Counter(json.loads(self._index.meta().get(TRUNCATED) or "{}"))
        self._cut.update(f"{table.name}.{name}" for name in names)
        self._truncated += 1
        self._note[TRUNCATED] = json.dumps(self._cut, ensure_ascii=False)

    def _where(self, data: bytes) -> str:
        return (
            f"LSN {lsn_text(payload_lsn(data))}, transaction {self._xid}, which commits at {lsn_text(self.commit_lsn)}"
        )

    def _has(self, partition: int, sub: int) -> bool:
        if self._logged:
            return True
        tail = self._tails.get(partition)
        return tail is not None and (self.epoch, self.commit_lsn, self._ordinal, sub) <= tail

    def _enter(self, table: CapturedRelation) -> None:
        """The table's first record in this transaction: the bytes that all of them share."""
        if not self._opened:
            self._opened = True
            self._context = self.form.context(self._commit_time_us, self._xid, self.epoch, self.commit_lsn)
            self._identity = self.form.identity(self.now_ms(), self._xid, self.commit_lsn)
        table.serial = self._serial
        table.order = 0
        table.context = table.source + self._context

    # -- what is rare ------------------------------------------------------------------------------------------------

    def _big_row(
        self,
        table: CapturedRelation,
        data: bytes,
        at: int,
        old_key: bytes | None,
        old_fields: tuple[Field, ...] | None,
        inserted: bool,
    ) -> tuple[bytes, bytes, bytes | None, Sequence[str]]:
        """A row that has, or may have next time, values that PostgreSQL leaves out: fill them in, remember them.

        The last of the result: columns that were filled in with what was left of them when they were cut.
        """
        fields, end = read_tuple(data[: -len(PADDING)], at)
        if end != len(data) - len(PADDING):
            raise violation(f"a row of {table.name} has another length than its message")
        columns = table.shape.columns
        texts: list[Field] = [fields[place] for place in table.kept]
        key = new_key = _key_of(texts, columns)
        if old_key is not None:
            key = old_key
        known: Texts | None = None
        restored: set[str] = set()
        filled: list[bytes | None] = []
        for place, column, text in zip(table.kept, columns, texts, strict=True):
            if text is UNCHANGED:
                if old_fields is not None and not isinstance(old_fields[place], type(UNCHANGED)):
                    text = old_fields[place]
                else:
                    known = self._index.texts_of(table.key_prefix + key + b"]") if known is None else known
                    text = known.get(column.name, UNCHANGED)
                    restored.add(column.name)
                if text is UNCHANGED:
                    if self._being_read(table):
                        raise _NotReadYet(new_key, dict(zip((each.name for each in columns), texts, strict=True)))
                    raise _hole(table.name, column.name)
            assert text is None or isinstance(text, bytes)
            filled.append(text)
        row, key, link = table.transcoder.fields_row(filled)
        big = table.big_texts(filled)
        lost = restored.intersection(json.loads(known[CUT])) if known and CUT in known else ()
        cut = [column.name for column in columns if column.name in lost]
        if cut:
            assert known is not None
            big |= {name: known[name] for name in cut} | {CUT: json.dumps(cut, ensure_ascii=False).encode()}
        if big:
            self._index.put_texts(table.key_prefix + key + b"]", big, inserted)
        return row, key, link, cut

    def _being_read(self, table: CapturedRelation) -> bool:
        return self.meanwhile is not None and table.name in self.meanwhile.tables

    def _lay_over(
        self,
        table: CapturedRelation,
        data: bytes,
        unread: _NotReadYet,
        old_row: bytes | None,
        old_key: bytes | None,
        old_link: bytes | None,
    ) -> None:
        """An update of a row that was not read yet, of which the stream leaves values out: the read will tell it."""
        moved = old_key is not None and old_key != unread.key
        if moved:
            assert old_row is not None
            assert old_key is not None
            self._remove(table, data, old_row, old_key, old_link)
        assert self.meanwhile is not None
        texts = {name: text for name, text in unread.texts.items() if text is None or isinstance(text, bytes)}
        self.meanwhile.lay_over(table.key_prefix + unread.key + b"]", texts, moved)
        if moved:
            self._note[UNREAD] = json.dumps(sorted(self.meanwhile.moved), ensure_ascii=False)

    def _relation(self, data: bytes) -> None:
        relation = parse(data[PAYLOAD : -len(PADDING)])
        assert isinstance(relation, Relation)
        oid = relation.oid.to_bytes(4, "big")
        # Every DDL of this transaction is in a catalog that was read after its commit.
        younger = self.commit_lsn <= self._known_at
        name = f"{relation.schema}.{relation.table}"
        catalog = self._catalog.get(name)
        is_partition = False
        if catalog is None:
            catalog = next((table for table in self._catalog.values() if table.oid == relation.oid), None)
            if catalog is not None and not younger:
                raise renamed(catalog.selection, name)
        if catalog is None:
            # Of a publication without publish_via_partition_root, or somebody else's.
            catalog = next(
                (self._catalog[name] for name in self._ancestors(relation.oid) if name in self._catalog), None
            )
            if catalog is None:
                self._tables[oid] = None
                return
            is_partition = True
        relation, shape = fit(self._with_base_types(relation), catalog, younger)
        self._tables[oid] = CapturedRelation(
            self.name, self.database, catalog.selection, shape, relation.columns, self.register, is_partition, self.form
        )
        if not younger:
            self._fits(catalog)

    def _with_base_types(self, relation: Relation) -> Relation:
        self._types.learn([column.type_oid for column in relation.columns])
        columns = []
        for column in relation.columns:
            oid, typmod = self._types.resolve(column.type_oid, column.typmod)
            columns.append(replace(column, type_oid=oid, typmod=typmod))
        return replace(relation, columns=tuple(columns))

    def _truncate(self, data: bytes) -> None:
        self._ordinal += 1
        truncate = parse(data[PAYLOAD : -len(PADDING)])
        assert isinstance(truncate, Truncate)
        for sub, oid in enumerate(truncate.oids):
            try:
                table = self._tables[oid.to_bytes(4, "big")]
            except KeyError:
                raise _undescribed() from None
            if table is not None:
                if table.is_partition:
                    raise _partition_emptied(table.name)
                if self.meanwhile is not None:
                    self.meanwhile.empty(table.name)
                position = Position(self.epoch, self.commit_lsn, self._ordinal, sub)
                lsn = payload_lsn(data)
                value = table.encoder.row(self._slow_context(), Op.TRUNCATE, None, None, position, lsn, 1, False)
                key, value = table.rare(truncate_key(table.name, position), value)
                self._broadcast(key, value, sub)

    def _message(self, data: bytes) -> None:
        message = parse(data[PAYLOAD : -len(PADDING)])
        assert isinstance(message, Message)
        if not message.transactional:
            return
        self._ordinal += 1
        if not message.prefix.startswith(OWN_PREFIX):
            return
        position = Position(self.epoch, self.commit_lsn, self._ordinal)
        key, value = self.message_entry(
            self._slow_context(), message.prefix, message.content, position, payload_lsn(data)
        )
        self.bound.require(message.prefix, len(key) + len(value), self._where(data))
        self._broadcast(key, value, 0)

    def _broadcast(self, key: bytes, value: bytes, sub: int) -> None:
        for partition in self.everywhere:
            if not (self._replaying and self._has(partition, sub)):
                self._last[partition] = len(self._entries)
                self.add((partition,), key, value)

    # -- what is read beside the stream ------------------------------------------------------------------------------

    @property
    def read_position(self) -> Position:
        """Right after the last transaction, for what stands between two: no partition has anything beyond."""
        if self._done_lsn:
            return max(Position(self.epoch, self._done_lsn, self._ordinal + 1), self._highest)
        return max(Position(self.epoch, self._begins_at, 0), self._highest)

    def add_read(self, table: CapturedRelation, record_key: bytes, link: bytes | None, value: bytes) -> None:
        """A row that was read from its table."""
        key = record_key if table.entry_key is None else table.entry_key(record_key)
        for partition in self.targets(table, record_key, link):
            self._entries.append(_new(Entry, (partition, key, value)))
            self.size += len(value) + len(key)
        self._changes += 1

    def note(self, meta: Mapping[str, str]) -> None:
        """Have the index remember something as soon as what has gathered is durable. Outside a transaction only."""
        self._note |= meta

    def stop_watching(self) -> None:
        """No snapshot is read any more."""
        self.meanwhile = self._touched = None

    def add(self, targets: Sequence[int], key: bytes, value: bytes) -> None:
        """One finished record for these partitions."""
        for partition in targets:
            self._entries.append(Entry(partition, key, value))
            self.size += len(value) + len(key)
        self._changes += 1

    def _slow_context(self) -> Context:
        return Context(
            self.name,
            self.database,
            self.epoch,
            self.commit_lsn,
            self._commit_time_us,
            self._xid,
            self.now_ms(),
        )

    def message_entry(
        self, context: Context, prefix: str, content: bytes, position: Position, lsn: int
    ) -> tuple[bytes, bytes]:
        """Key and value of a marker or message that is not marked as its transaction's last."""
        if self._messages is None:
            schema = message_schema(self.name)
            schema_id = self.register(schema)
            self._messages = Encoder(schema_id, schema), self.form.rare(schema_id, schema, self.name)
        encoder, rare = self._messages
        value = encoder.message(context, prefix, content, position, lsn, last=False)
        return rare(message_key(prefix, position), value)


class _NotReadYet(Exception):
    """A row has values that only the snapshot can tell. `key`: as the transcoder gives it."""

    def __init__(self, key: bytes, texts: Mapping[str, Field]) -> None:
        super().__init__()
        self.key = key
        self.texts = texts


def _key_of(texts: Sequence[Field], columns: Sequence[Column]) -> bytes:
    """The key of a row as the transcoder gives it."""
    keys = [b"x" if text is UNCHANGED else text for text, column in zip(texts, columns, strict=True) if column.key]
    return b",".join(json.dumps((text or b"").decode(), ensure_ascii=False).encode() for text in keys)


def _undescribed() -> ProtocolViolation:
    return violation("a change of a relation that was never described")


def _partition_emptied(table: str) -> SourceGap:
    return SourceGap(
        "decode the replication stream",
        table,
        "one of its partitions was emptied by TRUNCATE, and the log does not know which rows were in it",
        "what is in the log is safe; lest it comes again let the publication tell of the whole table:"
        " ALTER PUBLICATION … SET (publish_via_partition_root = true), as `emc-cdc setup` prints it",
    )


def _hole(table: str, column: str) -> SourceGap:
    return SourceGap(
        "decode the replication stream",
        f"{table}.{column}",
        "PostgreSQL left out an unchanged large value that the keyed index does not know",
        "what is in the log is safe; if it comes again, as the tables' owner: ALTER TABLE"
        f" {table} REPLICA IDENTITY FULL;",
    )

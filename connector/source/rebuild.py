"""The keyed index made again from the log, after its file was lost or another capture was at work.

Contract: reads every partition once from its beginning; afterwards the index holds what capture had saved of all logged
changes but those of the last transaction, if the server sends that again: a part of it may be missing in the log, and
is told with the index as it was before. Its meta values come from the last snapshot's begin marker and the last
epoch's. What the slot has confirmed since is taken from the slot itself. Partitions come in no order among each other,
and a child may have moved between them: of a row's records the one with the highest position counts.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from base64 import b64decode
from collections.abc import Callable, Mapping

from connector.change.decoding import ChangeDecoder
from connector.change.envelope import dossier_key, row_key
from connector.change.position import Position
from connector.change.record import EPOCH, SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.change.selection import Role, Selection
from connector.change.shape import Shape
from connector.log.contract import LogReader
from connector.source.gap import GAP, REQUEST, request_text
from connector.source.index import NO_DOSSIER, REBUILT, KeyedIndex
from connector.source.oversize import CUT

_CHUNK = 5000
_BYTEA = 17
_OF_THE_MARKER = ("slot", "tables", "reread")
"""What a begin marker tells beside the index's meta."""
_POSITION = struct.Struct(">IQQI")  # compares as bytes the way positions do
_NEWER = """
INSERT INTO latest VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET position = excluded.position WHERE excluded.position >= position
RETURNING 1
"""


class _Latest:
    """The highest position seen of each key, in a file of SQLite's own that is gone when it is closed."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("CREATE TABLE latest (key BLOB PRIMARY KEY, position BLOB NOT NULL) WITHOUT ROWID")
        self._file.execute("BEGIN")

    def takes(self, key: bytes, position: Position) -> bool:
        """Whether nothing later has been seen of the key."""
        return self._file.execute(_NEWER, (key, _POSITION.pack(*position))).fetchone() is not None

    def close(self) -> None:
        self._file.close()


def rebuild_index(
    index: KeyedIndex, reader: LogReader, selection: Selection, shapes: Mapping[str, Shape], confirmed: int
) -> dict[str, str]:
    """Fill an empty index. Returns its meta values, empty when the log is empty.

    shapes: of the tables that are there, by full name; confirmed: where the slot stands, 0 without one.
    """
    roles = {table.full_name: table for table in selection.tables}
    decoder = ChangeDecoder(reader.schema)
    again = _sent_again(decoder, reader, confirmed)
    ends = reader.ends()
    meta: dict[str, str] = {}
    known = Position(0, 0, 0)
    latest = _Latest()
    reader.assign(dict.fromkeys(range(reader.partitions), 0))
    while any(reader.positions()[partition] < end for partition, end in ends.items()):
        for record in reader.poll(1.0, _CHUNK):
            change = decoder.decode(record.key, record.value)
            # Markers stand in every partition; those of an older epoch say nothing any more.
            if change.marker in (SNAPSHOT_BEGIN, SNAPSHOT_END, EPOCH) and change.position.epoch >= known.epoch:
                known = change.position
                if change.marker == SNAPSHOT_END:
                    meta |= {"state": "streaming", GAP: "", REQUEST: ""}
                else:
                    content = json.loads(change.content)
                    told = {name: str(value) for name, value in content.items() if name not in _OF_THE_MARKER}
                    meta = told if change.marker == SNAPSHOT_BEGIN else meta | told
                    if content.get("reread"):  # whoever asked for it has not got it before it has ended
                        meta[REQUEST] = request_text(content["tables"])
            table = roles.get(change.table)
            # Reads stand between transactions: the one before them is whole.
            if change.position.commit_lsn == again and change.op is not Op.READ:
                continue
            if table is not None and change.op is not Op.TRUNCATE:
                key = row_key(change.table, change.key)  # whatever form the log's own key has
                if table.role is not Role.DOSSIER and not latest.takes(key, change.position):
                    continue
                encoded = _encoded(shapes[change.table]) if change.table in shapes else {}
                _row(index, key, change, table.role is Role.CHILD, table.link, encoded)
        index.committed()
        index.save([index.take()], {})
        index.saved(1)
    latest.close()
    if meta:
        meta |= {"confirmed": str(again or confirmed), REBUILT: "yes"}
        index.save([], meta)
    return meta


def _sent_again(decoder: ChangeDecoder, reader: LogReader, confirmed: int) -> int:
    """The log's last commit when a slot that stands at `confirmed` makes the server send it again, else 0."""
    tails = [decoder.decode(b'["tail"]', value).position for value in reader.tails().values()]
    last = max(tails, default=Position(0, 0, 0))
    return last.commit_lsn if confirmed and last.ordinal and last.commit_lsn >= confirmed else 0


def _encoded(shape: Shape) -> dict[str, Callable[[str], bytes]]:
    """Columns of bytes that the log has as text (Debezium's binary.handling.mode), and what makes bytes of it."""
    if shape.options.binary == "bytes":
        return {}
    decoded = b64decode if shape.options.binary == "base64" else bytes.fromhex
    return {column.name: decoded for column in shape.columns if column.type_oid == _BYTEA}


def _row(
    index: KeyedIndex,
    key: bytes,
    change: Change,
    child: bool,
    link: str | None,
    encoded: Mapping[str, Callable[[str], bytes]],
) -> None:
    if change.after is None:
        if child:
            index.forget_child(key)
        index.forget_texts(key)
        return
    if child and link is not None:
        value = change.after.get(link)
        index.put_child(key, NO_DOSSIER if value is None else dossier_key((str(value),)), inserted=False)
    texts = {
        name: _text(encoded[name](value) if name in encoded and isinstance(value, str) else value)
        for name, value in change.after.items()
        if isinstance(value, str | bytes) and (len(value) >= 16 or name in change.truncated)
    }
    if cut := sorted(texts.keys() & set(change.truncated)):
        texts[CUT] = json.dumps(cut, ensure_ascii=False).encode()
    if texts:
        index.put_texts(key, texts, inserted=False)


def _text(value: str | bytes) -> bytes:
    """A value as PostgreSQL writes it."""
    return ("\\x" + value.hex() if isinstance(value, bytes) else value).encode()

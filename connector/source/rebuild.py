"""The keyed index made again from the log, after its file was lost.

Contract: reads every partition once from its beginning; afterwards the index holds what capture had saved of all logged
changes, and its meta values come from the last snapshot's begin marker. What the slot has confirmed since is taken
from the slot itself.
"""

from __future__ import annotations

import json

from connector.change.decoding import ChangeDecoder
from connector.change.envelope import dossier_key
from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.change.selection import Role, Selection
from connector.log.contract import LogReader
from connector.source.index import NO_DOSSIER, KeyedIndex

_CHUNK = 5000


def rebuild_index(index: KeyedIndex, reader: LogReader, selection: Selection, confirmed: int) -> dict[str, str]:
    """Fill an empty index. Returns its meta values, empty when the log is empty."""
    roles = {table.full_name: table for table in selection.tables}
    decoder = ChangeDecoder(reader.schema)
    ends = reader.ends()
    meta: dict[str, str] = {}
    reader.assign(dict.fromkeys(range(reader.partitions), 0))
    while any(reader.positions()[partition] < end for partition, end in ends.items()):
        for record in reader.poll(1.0, _CHUNK):
            change = decoder.decode(record.key, record.value)
            if change.marker == SNAPSHOT_BEGIN:
                told = json.loads(change.content)
                meta = {name: str(value) for name, value in told.items() if name not in ("slot", "tables", "reread")}
            elif change.marker == SNAPSHOT_END:
                meta |= {"state": "streaming", "gap": ""}
            table = roles.get(change.table)
            if table is not None and change.op is not Op.TRUNCATE:
                _row(index, record.key, change, table.role is Role.CHILD, table.link)
        index.committed()
        index.save([index.take()], {})
        index.saved(1)
    if meta:
        meta["confirmed"] = str(confirmed)
        index.save([], meta)
    return meta


def _row(index: KeyedIndex, key: bytes, change: Change, child: bool, link: str | None) -> None:
    if change.after is None:
        if child:
            index.forget_child(key)
        index.forget_texts(key)
        return
    if child and link is not None:
        value = change.after.get(link)
        index.put_child(key, NO_DOSSIER if value is None else dossier_key((str(value),)), inserted=False)
    texts = {
        name: ("\\x" + value.hex() if isinstance(value, bytes) else str(value)).encode()
        for name, value in change.after.items()
        if isinstance(value, str | bytes) and len(value) >= 16
    }
    if texts:
        index.put_texts(key, texts, inserted=False)

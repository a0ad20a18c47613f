"""Snapshot rows and markers → log entries.

A snapshot stands between a begin and an end marker in every partition; its rows (op `r`) and markers all carry the
position `(epoch, consistent point, 0)`, which every streamed change passes. The rows fill the keyed index as they go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connector.change.encoding import Context
from connector.change.envelope import message_key
from connector.change.position import Position
from connector.source.assembler import Assembler
from connector.source.catalog import CatalogTable
from connector.source.decode.transcoder import zigzag
from connector.source.index import NO_DOSSIER, KeyedIndex
from connector.source.relation import CapturedRelation

Read = Callable[[Sequence[bytes | None]], None]


class SnapshotReads:
    """One snapshot: what was committed before LSN `point`, seen at `time_us` (microseconds since the Unix epoch)."""

    def __init__(self, assembler: Assembler, index: KeyedIndex, point: int, time_us: int) -> None:
        self._assembler = assembler
        self._index = index
        self._position = Position(assembler.epoch, point, 0)
        self._time_us = time_us

    def marker(self, prefix: str, content: bytes) -> None:
        """A marker in every partition."""
        assembler, position = self._assembler, self._position
        context = Context(
            assembler.name,
            assembler.database,
            position.epoch,
            position.commit_lsn,
            self._time_us,
            None,
            assembler.now_ms(),
            snapshot=True,
        )
        encoder = assembler.message_encoder()
        value = encoder.message(context, prefix, content, position, position.commit_lsn, last=False)
        assembler.add(assembler.everywhere, message_key(prefix, position), value)

    def table(self, table: CatalogTable) -> Read:
        """A function that adds one row of a table: the kept columns' texts, in shape order."""
        assembler, index = self._assembler, self._index
        relation = CapturedRelation(
            assembler.name,
            assembler.database,
            table.selection,
            table.shape,
            table.shape.columns,
            assembler.register,
        )
        fields_row = relation.transcoder.fields_row
        after = self._after(relation)

        def read(texts: Sequence[bytes | None]) -> None:
            row, key, link = fields_row(texts)
            record_key = relation.key_prefix + key + b"]"
            if relation.is_child:
                index.put_child(record_key, link if link is not None else NO_DOSSIER, inserted=True)
            # Only kept columns are read, so the row's real size is unknown: remember whatever could be moved out.
            if relation.toastable and (big := relation.big_texts(texts)):
                index.put_texts(record_key, big, inserted=True)
            value = b"".join((relation.create_head, row, after))
            assembler.add(assembler.targets(relation, record_key, link), record_key, value)

        return read

    def _after(self, relation: CapturedRelation) -> bytes:
        """What follows the row in every record of a table: source, op `r`, no transaction."""
        epoch, point, _, _ = self._position
        return b"".join(
            (
                relation.source,
                b"\x08true",
                zigzag(self._time_us // 1000),
                zigzag(self._time_us),
                b"\0",  # no txId
                zigzag(epoch),
                zigzag(point),
                zigzag(point),
                b"\0\0",  # ordinal, sub
                b"\2r\2",
                zigzag(self._assembler.now_ms()),
                b"\0",  # no transaction
            )
        )

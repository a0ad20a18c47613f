"""Snapshot rows and markers → log entries.

Reads (op `r`) and markers carry the position right after the last streamed transaction (`Assembler.read_position`),
which every later change passes and which no partition's tail is beyond. The rows fill the keyed index as they go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from connector.change.encoding import Context
from connector.change.shape import Shape
from connector.source.assembler import Assembler
from connector.source.copytext import copy_row
from connector.source.index import NO_DOSSIER, KeyedIndex
from connector.source.meanwhile import Overlay, Overtaken
from connector.source.oversize import CUT
from connector.source.readers import Chunk
from connector.source.relation import CapturedRelation


class SnapshotReads:
    """What was read, for one assembler and its index."""

    def __init__(self, assembler: Assembler, index: KeyedIndex) -> None:
        self._assembler = assembler
        self._index = index
        self._relations: dict[Shape, CapturedRelation] = {}

    def marker(self, prefix: str, content: bytes, time_us: int) -> None:
        """A marker in every partition. time_us: microseconds since the Unix epoch."""
        assembler, position = self._assembler, self._assembler.read_position
        context = Context(
            assembler.name,
            assembler.database,
            position.epoch,
            position.commit_lsn,
            time_us,
            None,
            assembler.now_ms(),
            snapshot=True,
        )
        key, value = assembler.message_entry(context, prefix, content, position, position.commit_lsn)
        assembler.add(assembler.everywhere, key, value)

    def tell(self, chunk: Chunk, overtaken: Overtaken, overlays: dict[bytes, Overlay]) -> None:
        """The chunk's rows, without those that were overtaken, and with what is laid over them."""
        assembler, index, bound = self._assembler, self._index, self._assembler.bound
        if chunk.shape.full_name in overtaken.emptied:
            return
        relation = self._relation(chunk)
        keys, prefix = overtaken.keys, relation.key_prefix
        position = assembler.read_position
        written = assembler.form.read(relation.form, position, chunk.time_us, assembler.now_ms())
        for line in chunk.data.split(b"\n")[:-1]:
            texts: Sequence[bytes | None] = copy_row(line)
            row, key, link = relation.transcoder.fields_row(texts)
            record_key = prefix + key + b"]"
            if record_key in keys:
                continue
            if overlays and (overlay := overlays.pop(record_key, None)) and not chunk.snapshot.sees(overlay.xid):
                texts = _laid_over(chunk.shape, texts, overlay)
                row, key, link = relation.transcoder.fields_row(texts)
            if relation.is_child:
                index.put_child(record_key, link if link is not None else NO_DOSSIER, inserted=True)
            # Only kept columns are read, so the row's real size is unknown: remember whatever could be moved out.
            big = relation.big_texts(texts) if relation.toastable else {}
            value = written(row, record_key)
            size = len(value) + len(record_key)
            if size > bound.largest:
                fitted = bound.fit(relation, None, row, size, (), "")
                assert fitted.after is not None
                big |= fitted.texts
                big[CUT] = json.dumps(sorted(fitted.texts), ensure_ascii=False).encode()
                marked = assembler.form.read(relation.form, position, chunk.time_us, assembler.now_ms(), fitted.names)
                value = marked(fitted.after, record_key)
                assembler.count_cut(relation, fitted.names)
            if big:
                index.put_texts(record_key, big, inserted=True)
            assembler.add_read(relation, record_key, link, value)

    def _relation(self, chunk: Chunk) -> CapturedRelation:
        shape = chunk.shape
        relation = self._relations.get(shape)
        if relation is None:
            assembler = self._assembler
            relation = self._relations[shape] = CapturedRelation(
                assembler.name,
                assembler.database,
                chunk.plan.table.selection,
                shape,
                shape.columns,
                assembler.register,
                form=assembler.form,
            )
        return relation


def _laid_over(shape: Shape, texts: Sequence[bytes | None], overlay: Overlay) -> list[bytes | None]:
    """A row as it was read, with what later updates said of it."""
    return [overlay.texts.get(column.name, text) for column, text in zip(shape.columns, texts, strict=True)]

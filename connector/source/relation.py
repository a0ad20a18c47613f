"""One captured relation, compiled: everything a row needs on its way to a log entry.

Made when the stream describes a relation and when the snapshot reads a table; immutable but for the counter of rows in
the present transaction. Which values may be TOASTed is decided here (PostgreSQL section 65.2).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from connector.change.columntype import ENUM
from connector.change.encoding import Encoder
from connector.change.envelope import table_schema
from connector.change.selection import Role, TableSelection
from connector.change.shape import Column, Shape
from connector.source.decode.messages import RelationColumn
from connector.source.decode.transcoder import compile_transcoder
from connector.source.index import Texts
from connector.source.protocol import PAYLOAD
from connector.source.recordform import AVRO, RecordForm

# Types of a fixed length, which are never TOASTed.
_FIXED_LENGTH = frozenset(
    (16, 18, 19, 20, 21, 23, 26, 600, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 2950, ENUM)
)
# Types whose stored form is never more than eight bytes longer than their text.
_SIMPLE = frozenset(
    (16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 700, 701, 790, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950, ENUM)
)
_TOAST_TEXT = 17
"""Only what is stored in more than 24 bytes (an aligned TOAST pointer) is moved out: of a simple type, so much text."""
_TOAST_ROW = 1900
"""PostgreSQL moves values out of rows above about 2 kB; a margin below it."""
_NEVER = 1 << 62


class CapturedRelation:
    """A relation's columns as the stream has them, its kept shape, and the constant bytes of its records."""

    __slots__ = (
        "context",
        "create_head",
        "delete_head",
        "encoder",
        "entry_key",
        "form",
        "is_child",
        "is_dossier",
        "is_partition",
        "kept",
        "key_prefix",
        "name",
        "order",
        "rare",
        "serial",
        "shape",
        "source",
        "toast_at",
        "toastable",
        "transcoder",
        "tuple_row",
        "update_head",
    )

    def __init__(
        self,
        name: str,
        database: str,
        selection: TableSelection,
        shape: Shape,
        columns: Sequence[RelationColumn | Column],
        register: Callable[[str], int],
        is_partition: bool = False,
        form: RecordForm = AVRO,
    ) -> None:
        schema = table_schema(name, database, shape)
        schema_id = register(schema)
        self.name = shape.full_name
        self.shape = shape
        self.is_child = selection.role is Role.CHILD
        self.is_partition = is_partition
        """Whether it is only a part of the captured table, which the stream tells under its own name."""
        self.is_dossier = selection.role is Role.DOSSIER
        self.encoder = Encoder(schema_id, schema)
        self.rare = form.rare(schema_id, schema, name)
        """What `encoder` makes, as the log has it."""
        # The dossier's key is in the column that links to it; in the dossier's own row it is the primary key.
        link = selection.link
        if self.is_dossier and len(shape.key) == 1:
            link = shape.key[0].name
        self.transcoder = compile_transcoder([column.name for column in columns], shape, link, form=form.rows)
        self.tuple_row = self.transcoder.tuple_row
        self.form = form.of_table(schema_id, name, database, shape)
        self.create_head = self.form.created
        self.update_head = self.delete_head = self.form.changed
        self.source = self.form.source
        self.entry_key = self.form.entry_key
        self.key_prefix = b"[" + json.dumps(shape.full_name, ensure_ascii=False).encode() + b","
        names = [column.name for column in columns]
        self.kept = [names.index(column.name) for column in shape.columns]
        self.toastable = {
            column.name: _TOAST_TEXT if column.type_oid in _SIMPLE else 0
            for column in shape.columns
            if not column.key and column.type_oid not in _FIXED_LENGTH
        }
        """Columns whose values may be moved out of the row, with the least length of the text of such a value."""
        margin = _TOAST_ROW - 5 * len(columns)
        if any(column.type_oid not in _SIMPLE for column in columns):
            margin //= 8  # arrays, jsonb and the like can be stored several times larger than they print
        self.toast_at = PAYLOAD + max(margin, 64) if self.toastable else _NEVER
        """Length of a message from which on a kept value may have been moved out of the row."""
        # Of the transaction that is being read (`serial`): the record's bytes between row and LSN, records so far.
        self.context = b""
        self.order = 0
        self.serial = -1

    def big_texts(self, texts: Sequence[bytes | None]) -> Texts:
        """Of a row's kept texts, those that PostgreSQL may leave out of a later UPDATE."""
        return {
            column.name: text
            for column, text in zip(self.shape.columns, texts, strict=True)
            if text is not None and column.name in self.toastable and len(text) >= self.toastable[column.name]
        }

    def key_row(self, key: bytes) -> bytes:
        """A row of which only the key is known; `key` as the transcoder gives it."""
        values = iter(json.loads(b"[" + key + b"]"))
        row, _, _ = self.transcoder.fields_row(
            [next(values).encode() if column.key else None for column in self.shape.columns]
        )
        return row

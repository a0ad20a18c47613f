"""Records in JSON, on the hot path.

Contract: as `recordform`; the bytes are those of `change.json_encoding`, held by tests/source/test_json_transcoder.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from connector.change.columntype import Kind
from connector.change.envelope import CONNECTOR, ENVELOPE_VERSION, row_key
from connector.change.json_encoding import TABLE_IDENTIFIER, JsonEncoding, compact
from connector.change.position import Position
from connector.change.shape import Shape
from connector.source.decode.json_converters import json_converter
from connector.source.decode.rowform import JSON_ROWS, RowForm
from connector.source.recordform import Join, Rare, RecordForm, TableForm

_UNCUT = b'"truncated":null'
_NUMBERS = frozenset((Kind.INTEGER, Kind.LONG))


def join_json(
    head: bytes,
    row: bytes,
    second: bytes,
    context: bytes,
    data: bytes,
    ordinal: int,
    op: bytes,
    identity: bytes,
    order: int,
) -> bytes:
    """`decode.records.join_record` in JSON."""
    return b'%b%b%b%b%d,"ordinal":%d%b%b%d,"data_collection_order":%d,"last":false}}' % (
        head,
        row,
        second,
        context,
        int.from_bytes(data[1:9]),
        ordinal,
        op,
        identity,
        ordinal,
        order,
    )


class _JsonRecords:
    rows: RowForm = JSON_ROWS
    create = b',"sub":0,"truncated":null,"key":%b},"op":"c","ts_ms":'
    update = b',"sub":0,"truncated":null,"key":%b},"op":"u","ts_ms":'
    delete = b',"sub":0,"truncated":null,"key":%b},"op":"d","ts_ms":'
    arrival = b',"sub":1,"truncated":null,"key":%b},"op":"c","ts_ms":'
    second = b',"after":'
    no_second = b',"after":null'
    join: Join = staticmethod(join_json)
    unmarked = -len(b"false}}")
    last = b"true}}"

    def of_table(self, schema_id: int, name: str, database: str, shape: Shape) -> TableForm:
        source = {
            "schema_id": schema_id,
            "version": ENVELOPE_VERSION,
            "connector": CONNECTOR,
            "name": name,
            "db": database,
            "schema": shape.schema,
            "table": shape.table,
        }
        constant = b',"source":%b,' % compact(source)[:-1].encode()
        return TableForm(b'{"before":null,"after":', b'{"before":', constant, _entry_key(shape, name))

    def rare(self, schema_id: int, schema: str, name: str) -> Rare:
        return JsonEncoding(schema_id, schema, name).entry

    def context(self, time_us: int, xid: int, epoch: int, commit_lsn: int) -> bytes:
        return b'"snapshot":"false","ts_ms":%d,"ts_us":%d,"txId":%d,"epoch":%d,"commit_lsn":%d,"lsn":' % (
            time_us // 1000,
            time_us,
            xid,
            epoch,
            commit_lsn,
        )

    def identity(self, now_ms: int, xid: int, commit_lsn: int) -> bytes:
        return b'%d,"transaction":{"id":"%d:%d","total_order":' % (now_ms, xid, commit_lsn)

    def marked(self, op: bytes, truncated: Sequence[str]) -> bytes:
        return op.replace(_UNCUT, b'"truncated":%b' % compact(list(truncated)).encode(), 1) if truncated else op

    def read(
        self, table: TableForm, position: Position, time_us: int, now_ms: int, truncated: Sequence[str] = ()
    ) -> Callable[[bytes, bytes], bytes]:
        epoch, point, ordinal, sub = position
        after = b'%b"snapshot":"true","ts_ms":%d,"ts_us":%d,"txId":null,"epoch":%d,"commit_lsn":%d,"lsn":%d' % (
            table.source,
            time_us // 1000,
            time_us,
            epoch,
            point,
            point,
        )
        after += b',"ordinal":%d,"sub":%d,' % (ordinal, sub) + self.marked(_UNCUT, truncated) + b',"key":'
        end = b'},"op":"r","ts_ms":%d,"transaction":null}' % now_ms
        return lambda row, key: b"".join((table.created, row, after, key, end))


def _entry_key(shape: Shape, name: str) -> Callable[[bytes], bytes]:
    """The record key, `["schema.table","7"]` → the log's, `{"id":7,"__dbz__physicalTableIdentifier":"…"}`."""
    fields = b"".join(b"%b:%%b," % compact(column.name).encode().replace(b"%", b"%%") for column in shape.key)
    identifier = compact({TABLE_IDENTIFIER: f"{name}.{shape.full_name}"})[1:].encode()
    template = b"{" + fields + identifier.replace(b"%", b"%%")
    before_key = len(row_key(shape.full_name, ())[:-1]) + 1
    if len(shape.key) == 1:
        kind = shape.type_of(shape.key[0]).kind
        if kind in _NUMBERS:
            return lambda key: template % key[before_key + 1 : -2]
        if kind is Kind.TEXT:
            return lambda key: template % key[before_key:-1]
    converters = [json_converter(shape.type_of(column)) for column in shape.key]

    def entry_key(key: bytes) -> bytes:
        texts = json.loads(key)[1:]
        return template % tuple(convert(text.encode()) for convert, text in zip(converters, texts, strict=True))

    return entry_key


JSON: RecordForm = _JsonRecords()

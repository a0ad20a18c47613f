"""The Avro form of a record: Debezium's envelope, with our position in `source` and `last` in `transaction`.

Contract: the schema of a table is a function of the log's name, the database's name and the table's `Shape` alone, as
canonical JSON, so that the same shape always finds the same schema id. Field order is chosen for the writer: what is
constant for a table comes first, then what is constant for a transaction, then what changes with every record; `last`
is the very last byte, so that the writer can set it when it learns that the transaction has ended.
A field whose column Avro cannot name says so in `column`; one that holds a decimal as text, in `numeral`.
`source.truncated` names the columns whose values in this record (`before`, `after` or both) were cut because it would
have been too large; null in every other record.
Keys are JSON: `["schema.table","pk",…]` for rows, `["!truncate",…]` and `["!message",…]` with the position for the
rest, so that compaction never drops those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from connector.change.columntype import Kind
from connector.change.position import Position
from connector.change.shape import Shape

CONNECTOR = "postgresql"
ENVELOPE_VERSION = "1"
"""Value of source.version: the version of this envelope, not of the program (an upgrade must not change schemas)."""

TRUNCATE_KEY = "!truncate"
MESSAGE_KEY = "!message"


def field_name(name: str) -> str:
    """A column's name as an Avro field name; what Avro does not allow becomes `_uXXXX_`, one to one."""
    escaped = re.sub(r"[^A-Za-z0-9_]", lambda found: f"_u{ord(found[0]):04x}_", name)
    return f"_{escaped}" if escaped[0].isdigit() else escaped


def table_schema(name: str, database: str, shape: Shape) -> str:
    """The Avro schema of a table's records. `name` is the connector's name, Debezium's topic prefix."""
    namespace = ".".join(field_name(part) for part in (name, shape.schema, shape.table))
    fields: list[object] = []
    defined: set[str] = set()
    for column in shape.columns:
        kind = shape.type_of(column)
        branches = [_defined_once(branch, defined) for branch in kind.avro]
        field: dict[str, object] = {"name": field_name(column.name)}
        if column.key and len(branches) == 1:
            field["type"] = branches[0]
        else:
            field["type"] = ["null", *branches]
            field["default"] = None
        if field["name"] != column.name:
            field["column"] = column.name
        if (kind.element or kind).kind is Kind.DECIMAL_TEXT:
            field["numeral"] = True
        fields.append(field)
    row = {"type": "record", "name": "Value", "fields": fields}
    return _canonical(
        {
            "type": "record",
            "name": "Envelope",
            "namespace": namespace,
            "fields": [
                {"name": "before", "type": ["null", row], "default": None},
                {"name": "after", "type": ["null", "Value"], "default": None},
                *_tail(),
            ],
            "database": database,
            "table": shape.full_name,
            "key": [column.name for column in shape.key],
            "connect.name": f"{namespace}.Envelope",
        }
    )


def _defined_once(schema: object, defined: set[str]) -> object:
    """A named type is defined once and referred to after that (Avro specification, Names)."""
    if isinstance(schema, list):
        return [_defined_once(branch, defined) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema["type"] == "record":
        name = f"{schema['namespace']}.{schema['name']}"
        if name in defined:
            return name
        defined.add(name)
    if "items" in schema:
        return {**schema, "items": _defined_once(schema["items"], defined)}
    return schema


def message_schema(name: str) -> str:
    """The Avro schema of markers and logical messages."""
    namespace = f"{field_name(name)}.message"
    message = {
        "type": "record",
        "name": "Message",
        "fields": [{"name": "prefix", "type": "string"}, {"name": "content", "type": "bytes"}],
    }
    return _canonical(
        {
            "type": "record",
            "name": "Envelope",
            "namespace": namespace,
            "fields": [{"name": "message", "type": message}, *_tail()],
            "connect.name": f"{namespace}.Envelope",
        }
    )


def row_key(table: str, key: tuple[str, ...]) -> bytes:
    """The record key of a row: table and primary key, as PostgreSQL text."""
    return json.dumps([table, *key], ensure_ascii=False, separators=(",", ":")).encode()


def truncate_key(table: str, position: Position) -> bytes:
    """The record key of a TRUNCATE, its own for ever."""
    return row_key(TRUNCATE_KEY, (table, str(position)))


def message_key(prefix: str, position: Position) -> bytes:
    """The record key of a marker or message, its own for ever."""
    return row_key(MESSAGE_KEY, (prefix, str(position)))


def dossier_key(values: tuple[str, ...]) -> bytes:
    """What decides the partition: the dossier's primary key as text; a JSON list when it has several columns."""
    if len(values) == 1:
        return values[0].encode()
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).encode()


def _tail() -> list[object]:
    source = {
        "type": "record",
        "name": "Source",
        "namespace": "io.debezium.connector.postgresql",
        "fields": [
            {"name": "version", "type": "string"},
            {"name": "connector", "type": "string"},
            {"name": "name", "type": "string"},
            {"name": "db", "type": "string"},
            {"name": "schema", "type": "string"},
            {"name": "table", "type": "string"},
            {"name": "snapshot", "type": "string"},
            {"name": "ts_ms", "type": "long"},
            {"name": "ts_us", "type": "long"},
            {"name": "txId", "type": ["null", "long"], "default": None},
            {"name": "epoch", "type": "int"},
            {"name": "commit_lsn", "type": "long"},
            {"name": "lsn", "type": "long"},
            {"name": "ordinal", "type": "long"},
            {"name": "sub", "type": "int"},
            {"name": "truncated", "type": ["null", {"type": "array", "items": "string"}], "default": None},
        ],
        "connect.name": "io.debezium.connector.postgresql.Source",
    }
    transaction = {
        "type": "record",
        "name": "block",
        "namespace": "event",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "total_order", "type": "long"},
            {"name": "data_collection_order", "type": "long"},
            {"name": "last", "type": "boolean"},
        ],
        "connect.name": "event.block",
    }
    return [
        {"name": "source", "type": source},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
        {"name": "transaction", "type": ["null", transaction], "default": None},
    ]


def _canonical(schema: dict[str, object]) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))

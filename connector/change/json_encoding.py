"""A logged record in JSON: the readable reference, from the same record in Avro.

Contract: pure. `JsonEncoding.entry` takes a record's key and value as `envelope` and `encoding` make them, and gives
those that a log with `log.format: json` holds: the value as Debezium's JsonConverter writes it without schemas, with
`schema_id` and `key` in `source`, which a reader needs to have all types again (docs/decisions/0014); the key as
Debezium writes the key of a table that shares its topic with others. `"last":false}}` ends a streamed record.
The hot path is `connector.source.json_records`; a property test holds it equal to this. Markers, TRUNCATE and messages
are written with this one in production too, they are rare.
"""

from __future__ import annotations

import json
from typing import Any

from connector.change.envelope import MESSAGE_KEY, TRUNCATE_KEY
from connector.change.json_form import JsonForm

TABLE_IDENTIFIER = "__dbz__physicalTableIdentifier"
"""Debezium's field (ByLogicalTableRouter) that tells the tables of one topic apart: `name.schema.table`."""

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class JsonEncoding:
    """For records of one schema (`envelope.table_schema` or `message_schema`); `name` is the connector's."""

    def __init__(self, schema_id: int, schema: str, name: str) -> None:
        parsed = json.loads(schema)
        self._form = JsonForm(schema)
        self._schema_id = schema_id
        self._name = name
        self._key: list[str] = parsed.get("key", [])

    def entry(self, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        """Key and value in JSON of a record in Avro."""
        envelope = self._form.record(value)
        parts = json.loads(key)
        envelope["source"] = {"schema_id": self._schema_id, **envelope["source"], "key": parts}
        return compact(self._entry_key(parts, envelope)).encode(), compact(envelope).encode()

    def _entry_key(self, parts: list[str], envelope: dict[str, Any]) -> dict[str, Any]:
        kind, *rest = parts
        if kind == MESSAGE_KEY:
            return {"prefix": rest[0], "position": rest[1]}
        if kind == TRUNCATE_KEY:
            return {"position": rest[1], TABLE_IDENTIFIER: f"{self._name}.{rest[0]}"}
        row = envelope["after"] or envelope["before"]
        return {column: row[column] for column in self._key} | {TABLE_IDENTIFIER: f"{self._name}.{kind}"}

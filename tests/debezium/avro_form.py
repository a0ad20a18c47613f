"""Our small table's events in Avro, as Connect's Avro converters write what Debezium gives them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
from debezium.envelopes import FIELDS, POSTGRESQL

_TYPES = {"int64": "long", "string": "string", "boolean": "boolean"}


def _column(field: dict[str, Any]) -> dict[str, Any]:
    told: Any = _TYPES.get(field["type"])
    if field["type"] == "bytes":
        told = {"type": "bytes", "logicalType": "decimal", "scale": 2, "precision": 12, "connect.name": field["name"]}
    elif field.get("name"):
        # Some converters add a logical type of Avro's own.
        told = {"type": told, "connect.name": field["name"], "logicalType": "timestamp-micros"}
    return {"name": field["field"], "type": ["null", told], "default": None}


KEY_SCHEMA = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
ENVELOPE_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Envelope",
    "namespace": "p.motcua.ho_so",
    "fields": [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": list(map(_column, FIELDS))}]},
        {"name": "after", "type": ["null", "Value"], "default": None},
        {
            "name": "source",
            "type": {
                "type": "record",
                "name": "Source",
                "fields": [
                    {"name": name, "type": ["null", "long" if isinstance(value, int) else "string"]}
                    for name, value in POSTGRESQL.items()
                ],
            },
        },
        {"name": "op", "type": "string"},
    ],
}
SCHEMAS = {1: KEY_SCHEMA, 2: ENVELOPE_SCHEMA}


def wire(number: int, record: dict[str, Any]) -> bytes:
    """A record in Confluent's wire format."""
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(SCHEMAS[number]))), record)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()

"""A logged record as Debezium writes it in JSON (Connect's JsonConverter without schemas).

Contract: pure; the Avro bytes of a record (`encoding`, the transcoder) and its schema's text in, plain JSON values out:
bytes and decimals as base64, columns under their own names, floats that are no numbers as text. Text in the place of
base64 (NaN of a decimal, a bit string) stands between apostrophes (`quoted`). Fields stand in the order of the
schema. Raises LogError for bytes that the schema does not describe.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import fastavro

from connector.change.decoding import HEADER
from connector.change.pgtext import single
from connector.change.quoted import is_base64, quoted
from connector.errors import LogError

Form = Callable[[Any], Any]


class JsonForm:
    """Writes records of one schema (`envelope.table_schema` or `message_schema`)."""

    def __init__(self, schema: str) -> None:
        plain = _without_logic(json.loads(schema))
        self._form = _form(plain, {})
        self._schema = fastavro.parse_schema(plain)

    def record(self, value: bytes) -> dict[str, Any]:
        """The envelope of a record in the Confluent wire format."""
        try:
            found = fastavro.schemaless_reader(BytesIO(value[HEADER:]), self._schema, None)
            made: dict[str, Any] = self._form(found)
        # fastavro raises whatever its parsing stumbles on.
        except Exception as error:
            raise LogError(
                "write a record as JSON",
                "a record",
                f"it does not match its schema ({type(error).__name__})",
                "this log was not written by emc-cdc, or is damaged: check `log` and `name` in the configuration",
            ) from error
        return made


def _without_logic(schema: Any) -> Any:
    """The schema without logical types: JsonConverter writes a decimal's bytes."""
    if isinstance(schema, list):
        return [_without_logic(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: _without_logic(part) for name, part in schema.items() if name != "logicalType"}
    return schema


def _form(schema: Any, named: dict[str, Form], namespace: str = "") -> Form:
    """How the values of a schema are written."""
    if isinstance(schema, list):
        return _union([(branch, _form(branch, named, namespace)) for branch in schema if branch != "null"])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, dict | list):
        return _form(kind, named, namespace)
    match kind:
        case "bytes":
            return lambda value: b64encode(value).decode()
        case "float":
            return lambda value: number(single(value))
        case "double":
            return number
        case "array":
            item = _form(schema["items"], named, namespace)
            return lambda value: [item(each) for each in value]
        case "map":
            entry = _form(schema["values"], named, namespace)
            return lambda value: {key: entry(each) for key, each in value.items()}
        case "record":
            return _record(schema, named, namespace)
    # A name that was defined before, or a simple type.
    return named.get(kind) or named.get(f"{namespace}.{kind}") or _same


def _record(schema: Mapping[str, Any], named: dict[str, Form], namespace: str) -> Form:
    namespace = schema.get("namespace", namespace)
    fields: list[tuple[str, str, Form]] = []

    def form(value: Any) -> Any:
        return {column: write(value[name]) for name, column, write in fields}

    named[f"{namespace}.{schema['name']}"] = form
    for field in schema["fields"]:
        write = _form(field["type"], named, namespace)
        fields.append((field["name"], field.get("column", field["name"]), write))
    return form


def _union(branches: list[tuple[Any, Form]]) -> Form:
    """Null, one form, and perhaps text for what that cannot hold."""
    [(schema, form), *rest] = branches
    if not rest or schema == "string":
        return lambda value: None if value is None else form(value)
    if is_base64(schema):
        return lambda value: None if value is None else quoted(value) if isinstance(value, str) else form(value)
    return lambda value: value if value is None or isinstance(value, str) else form(value)


def number(value: float) -> Any:
    """A floating point number, or the text of what is none."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _same(value: Any) -> Any:
    return value

"""Change → bytes of the log: the readable reference, by fastavro.

The hot path is `connector.source.decode.transcoder`; a property test holds it equal to this. Markers, TRUNCATE and
messages are written with this one in production too, they are rare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from io import BytesIO
from typing import Any

import fastavro

from connector.change.envelope import CONNECTOR, ENVELOPE_VERSION, field_name
from connector.change.position import Position
from connector.change.record import Op, Row, Value


@dataclass(frozen=True, slots=True)
class Context:
    """What every record of one source transaction shares.

    transaction: None for snapshot reads and markers. `now_ms`: when the connector handled it, ms since the epoch.
    """

    name: str
    database: str
    epoch: int
    commit_lsn: int
    commit_time_us: int
    xid: int | None
    now_ms: int
    snapshot: bool = False

    @property
    def transaction(self) -> str | None:
        return None if self.xid is None else f"{self.xid}:{self.commit_lsn}"


class Encoder:
    """Encodes records of one schema; `schema` is the text of `table_schema` or `message_schema`."""

    def __init__(self, schema_id: int, schema: str) -> None:
        self._header = b"\0" + schema_id.to_bytes(4, "big")
        parsed = json.loads(schema)
        self._table: str = parsed.get("table", "")
        self._schema = fastavro.parse_schema(json.loads(schema))
        self._avro_forms: dict[str, Callable[[Value], Value]] = {}
        for field in parsed["fields"]:
            if field["name"] == "before":
                for column in field["type"][1]["fields"]:
                    if "VariableScaleDecimal" in json.dumps(column["type"]):
                        self._avro_forms[column["name"]] = variable_scale
                    elif "numeral" in column:
                        self._avro_forms[column["name"]] = decimal_text
                    elif (scale := _decimal_scale(column["type"])) is not None:
                        self._avro_forms[column["name"]] = partial(decimal_bytes, scale)

    def row(
        self,
        context: Context,
        op: Op,
        before: Row | None,
        after: Row | None,
        position: Position,
        lsn: int,
        table_order: int,
        last: bool,
        truncated: Sequence[str] = (),
    ) -> bytes:
        """A row's record, or a TRUNCATE's (both rows None). Rows need the table's key columns at least."""
        body = {"before": self._values(before), "after": self._values(after)}
        return self._write(context, op, body, position, lsn, table_order, last, truncated)

    def message(self, context: Context, prefix: str, content: bytes, position: Position, lsn: int, last: bool) -> bytes:
        """A marker's or logical message's record."""
        body = {"message": {"prefix": prefix, "content": content}}
        return self._write(context, Op.MESSAGE, body, position, lsn, 1, last)

    def _values(self, row: Row | None) -> dict[str, Any] | None:
        if row is None:
            return None
        values: dict[str, Any] = {field_name(name): value for name, value in row.items()}
        for name, form in self._avro_forms.items():
            if name in values:
                values[name] = form(values[name])
        return values

    def _write(
        self,
        context: Context,
        op: Op,
        body: dict[str, Any],
        position: Position,
        lsn: int,
        table_order: int,
        last: bool,
        truncated: Sequence[str] = (),
    ) -> bytes:
        schema, _, table = self._table.partition(".")
        transaction = context.transaction
        envelope = {
            **body,
            "source": {
                "version": ENVELOPE_VERSION,
                "connector": CONNECTOR,
                "name": context.name,
                "db": context.database,
                "schema": schema,
                "table": table,
                "snapshot": "true" if context.snapshot else "false",
                "ts_ms": context.commit_time_us // 1000,
                "ts_us": context.commit_time_us,
                "txId": context.xid,
                "epoch": position.epoch,
                "commit_lsn": position.commit_lsn,
                "lsn": lsn,
                "ordinal": position.ordinal,
                "sub": position.sub,
                "truncated": list(truncated) or None,
            },
            "op": op.value,
            "ts_ms": context.now_ms,
            "transaction": None
            if transaction is None
            else {
                "id": transaction,
                "total_order": position.ordinal,
                "data_collection_order": table_order,
                "last": last,
            },
        }
        out = BytesIO()
        out.write(self._header)
        fastavro.schemaless_writer(out, self._schema, envelope)
        return out.getvalue()


def _decimal_scale(schema: Any) -> int | None:
    """The scale of the decimal that a column's schema has in it, itself or as an array's element."""
    if isinstance(schema, list):
        return next((scale for branch in schema if (scale := _decimal_scale(branch)) is not None), None)
    if not isinstance(schema, dict):
        return None
    return schema["scale"] if schema.get("logicalType") == "decimal" else _decimal_scale(schema.get("items"))


def decimal_bytes(scale: int, value: Value) -> Value:
    """A decimal (or a list of them) as its unscaled number, in no more bytes than it needs (fastavro may take more)."""
    if isinstance(value, list):
        return [decimal_bytes(scale, item) for item in value]
    if not isinstance(value, Decimal):
        return value
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if exponent + scale < 0:
        raise ValueError("more decimals than the column has")
    unscaled = int("".join(map(str, digits))) * 10 ** (exponent + scale)
    return twos_complement(-unscaled if sign else unscaled)


def variable_scale(value: Value) -> Value:
    """A decimal (or a list of them) as VariableScaleDecimal; anything else as it is."""
    if isinstance(value, list):
        return [variable_scale(item) for item in value]
    if not isinstance(value, Decimal):
        return value
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    unscaled = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    return {"scale": max(-exponent, 0), "value": twos_complement(-unscaled if sign else unscaled)}


def decimal_text(value: Value) -> Value:
    """A decimal (or a list of them) as its text; what is no number, by Debezium's names."""
    if isinstance(value, list):
        return [decimal_text(item) for item in value]
    return f"{value:f}" if isinstance(value, Decimal) else SPECIAL_DECIMALS.get(value, value)


SPECIAL_DECIMALS: dict[Value, str] = {"NaN": "NAN", "Infinity": "POSITIVE_INFINITY", "-Infinity": "NEGATIVE_INFINITY"}


def twos_complement(number: int) -> bytes:
    """The shortest big-endian two's complement form, as Java's BigInteger.toByteArray gives it."""
    return number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)

"""A column's value as Debezium writes it → the value that a change holds.

Contract: decoded by the field's Connect type and logical name, whatever the database; a field without a schema
(`schemas.enable=false`) by the type that the settings declare for it, else as its JSON stands. What stands for an
unchanged value that the database left out is `HOLE`. Dates and times stay the numbers or texts that they are, but
nanoseconds, which become microseconds: the mapping's `timestamp` is one of these.
Raises ValueError (and what base64 and Decimal raise, which are ValueErrors) for a value that is not of its type. Pure.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from connector.change.pgtext import single
from connector.change.record import Value

PLACEHOLDER: Final = "__debezium_unavailable_value"
"""Debezium's unavailable.value.placeholder, at its default."""
HOLE: Final = object()
"""The value did not change, and is not in the event."""

_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
_VARIABLE: Final = "io.debezium.data.VariableScaleDecimal"
_NANOSECONDS: Final = ("io.debezium.time.NanoTimestamp", "io.debezium.time.NanoTime")
_HOLES: Final = (PLACEHOLDER, PLACEHOLDER.encode(), [PLACEHOLDER], {PLACEHOLDER: PLACEHOLDER})
DECLARED: Final = re.compile(r"bytes|nanoseconds|decimal\((\d{1,3})\)")
"""What `types` may say of a column of JSON without schemas."""


def value_of(schema: Mapping[str, Any], raw: Any) -> Value:
    """A value of JSON with schemas, by the schema of its field."""
    if raw is None:
        return None
    name, kind = schema.get("name"), schema["type"]
    if name == _DECIMAL:
        return _decimal(raw, int(schema["parameters"]["scale"]))
    if name == _VARIABLE:
        return _variable(raw)
    if name in _NANOSECONDS:
        return int(_of(int, raw)) // 1000
    match kind:
        case "bytes":
            return _hole_or(b64decode(raw, validate=True))
        case "float" | "double":
            number = float(raw)
            return single(number) if kind == "float" else number
        case "array":
            return _hole_or([value_of(schema["items"], item) for item in _of(list, raw)])
        case "map":
            return _hole_or({key: value_of(schema["values"], item) for key, item in _of(dict, raw).items()})
        case "struct":
            fields = {field["field"]: field for field in schema["fields"]}
            return {key: value_of(fields[key], item) for key, item in _of(dict, raw).items()}
        case "string":
            return _hole_or(_of(str, raw))
        case "boolean":
            return bool(_of(bool, raw))
    return int(_of(int, raw))


def bare_value(declared: str | None, raw: Any) -> Value:
    """A value of JSON without schemas."""
    if raw is None:
        return None
    if isinstance(raw, str) and declared is not None and raw != PLACEHOLDER:
        scale = DECLARED.fullmatch(declared)
        if scale is not None and scale[1]:
            return _decimal(raw, int(scale[1]))
        if declared == "bytes":
            return _hole_or(b64decode(raw, validate=True))
    if declared == "nanoseconds":
        return int(_of(int, raw)) // 1000
    if isinstance(raw, dict) and raw.keys() == {"scale", "value"}:
        return _variable(raw)
    return _hole_or(raw)


def avro_value(raw: Any) -> Value:
    """A value that fastavro has read."""
    if isinstance(raw, dict) and raw.keys() == {"scale", "value"} and isinstance(raw["value"], bytes):
        return _scaled(raw["value"], raw["scale"])
    return _hole_or(raw)


def _of(kind: type, raw: Any) -> Any:
    if not isinstance(raw, kind):
        raise ValueError(f"{kind.__name__} expected")  # noqa: TRY004 - the documented error
    return raw


def _hole_or(value: Value) -> Value:
    return HOLE if value in _HOLES else value


def _decimal(raw: Any, scale: int) -> Decimal:
    return _scaled(b64decode(_of(str, raw), validate=True), scale)


def _variable(raw: Any) -> Decimal:
    return _decimal(_of(dict, raw)["value"], int(raw["scale"]))


def _scaled(unscaled: bytes, scale: int) -> Decimal:
    digits = Decimal(int.from_bytes(unscaled, "big", signed=True)).as_tuple()
    return Decimal((digits.sign, digits.digits, -scale))

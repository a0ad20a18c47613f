"""A record of one of Debezium's topics: bytes → event.

Contract: JSON with or without schemas, or Avro in the Confluent wire format, becomes an `Event`, a `Boundary` of the
transaction topic, or None for what says nothing (a tombstone, a logical message). Anything else raises LogError naming
what is wrong with it and what in Debezium's configuration mends it, never another exception, never a row's value.
Only columns that the mapping names are kept. Pure, but for what `schema_of` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro

from connector.change.record import Op, Row
from connector.change.selection import TableSelection
from connector.debezium.places import Place, Unplaced, fingerprint, place_of, transaction_of
from connector.debezium.values import HOLE, avro_value, bare_value, value_of
from connector.errors import LogError

_OPERATION = "read Debezium's topics"
_READ = ("true", "first", "first_in_data_collection", "last_in_data_collection", "last")


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one row (or a TRUNCATE, whose key is empty).

    unchanged: columns that the event leaves out because they did not change; missing: that it does not have at all,
    NULL in `after`. snapshot: Debezium's word, empty for what was streamed. place: of what was streamed. transaction:
    as `places.transaction_of`, with the event's numbers in it and in its table, None without Debezium's transaction
    metadata; text: as it is told to people.
    """

    op: Op
    table: str
    key: tuple[str, ...]
    after: Row | None
    unchanged: tuple[str, ...]
    missing: tuple[str, ...]
    snapshot: str
    place: Place | None
    identity: str
    transaction: str | None
    total_order: int
    table_order: int
    text: str
    time_us: int

    @property
    def read(self) -> bool:
        """Of a snapshot with a beginning and an end."""
        return self.snapshot in _READ


@dataclass(frozen=True, slots=True)
class Boundary:
    """BEGIN or END of a transaction; counts: events by Debezium's name of the table, of an END."""

    end: bool
    transaction: str
    counts: Mapping[str, int]


class Decoder:
    """Decodes records. schema_of: Avro schema (JSON) by id, None for JSON; types: table → column → declared type."""

    def __init__(self, schema_of: Callable[[int], str] | None, types: Mapping[str, Mapping[str, str]]) -> None:
        self._schema_of = schema_of
        self._types = types
        self._schemas: dict[int, Any] = {}

    def event(self, topic: str, table: TableSelection, key: bytes | None, value: bytes | None) -> Event | None:
        """A record of a table's topic."""
        with _told(topic):
            payload, schema = self._read(value)
            if payload is None:
                return None
            source, word = payload.get("source"), payload.get("op")
            if not isinstance(source, dict) or not isinstance(word, str):
                raise _Wrong(
                    "it is no change event of Debezium: it has no op and source",
                    "let the topic hold whole envelopes: remove the transform that unwraps them"
                    " (ExtractNewRecordState)",
                )
            if word == Op.MESSAGE.value:
                return None
            op = Op(word)
            name = table.full_name
            snapshot = _snapshot_of(source)
            identity: tuple[str, ...] = () if op is Op.TRUNCATE else self._key(key)
            after: Row | None = None
            unchanged: tuple[str, ...] = ()
            missing: tuple[str, ...] = ()
            if op not in (Op.DELETE, Op.TRUNCATE):
                after, unchanged, missing = self._row(table, payload.get("after"), schema)
            place = None if snapshot else place_of(source)
            block = None if snapshot else payload.get("transaction")
            transaction = None if block is None else transaction_of(block["id"])
            return Event(
                op=op,
                table=name,
                key=identity,
                after=after,
                unchanged=unchanged,
                missing=missing,
                snapshot=snapshot,
                place=place,
                identity=fingerprint(op.value, name, identity, "" if place is None else place.detail),
                transaction=transaction,
                total_order=0 if block is None else int(block["total_order"]),
                table_order=0 if block is None else int(block["data_collection_order"]),
                text=block["id"] if block is not None else "" if place is None else place.group,
                time_us=int(source.get("ts_us") or int(source["ts_ms"]) * 1000),
            )

    def boundary(self, topic: str, value: bytes | None) -> Boundary | None:
        """A record of the transaction topic."""
        with _told(topic):
            payload, _ = self._read(value)
            if payload is None:
                return None
            if payload.get("status") not in ("BEGIN", "END") or not isinstance(payload.get("id"), str):
                raise _Wrong(
                    "it is no transaction event of Debezium: it has no status and id",
                    "name Debezium's transaction topic in log.debezium.transactions",
                )
            counts: dict[str, int] = {}
            for one in payload.get("data_collections") or ():
                counts[str(one["data_collection"])] = int(one["event_count"])
            return Boundary(payload["status"] == "END", transaction_of(payload["id"]), counts)

    def _read(self, data: bytes | None) -> tuple[dict[str, Any] | None, Mapping[str, Any] | None]:
        """The payload, and its Connect schema if JSON brings one."""
        if not data:
            return None, None
        if self._schema_of is not None:
            return self._avro(data), None
        if data[:1] == b"\0":
            raise _Wrong("it is Avro (Confluent's wire format), not JSON", "set log.debezium.format: avro")
        document = json.loads(data)
        schema = None
        if isinstance(document, dict) and document.keys() == {"schema", "payload"}:
            document, schema = document["payload"], document["schema"]
        if document is None:
            return None, None
        if not isinstance(document, dict):
            raise _Wrong("it is no JSON object", "use Connect's JsonConverter for keys and values")
        return document, schema

    def _avro(self, data: bytes) -> dict[str, Any]:
        if data[0] != 0 or len(data) < 5:
            raise _Wrong("it is not Avro in Confluent's wire format", "set log.debezium.format to what Debezium writes")
        number = int.from_bytes(data[1:5], "big")
        if number not in self._schemas:
            assert self._schema_of is not None
            self._schemas[number] = fastavro.parse_schema(_without_dates(json.loads(self._schema_of(number))))
        found = fastavro.schemaless_reader(BytesIO(data[5:]), self._schemas[number], None)
        if not isinstance(found, dict):
            raise _Wrong("it is no Avro record", "use Confluent's or Apicurio's Avro converter for keys and values")
        return found

    def _key(self, data: bytes | None) -> tuple[str, ...]:
        payload, schema = self._read(data)
        if not payload:
            raise _Wrong(
                "it has no key: the table has no primary key, or the key is not Connect's",
                "give the table a primary key, or set Debezium's message.key.columns for it",
            )
        # As text, the way that a child row's link to its dossier is made text.
        return tuple(str(value) for value in self._columns("", payload, schema).values())

    def _row(
        self, table: TableSelection, row: Any, envelope: Mapping[str, Any] | None
    ) -> tuple[Row, tuple[str, ...], tuple[str, ...]]:
        if not isinstance(row, dict):
            raise _Wrong("it has no row in 'after'", "let Debezium write whole change events")
        schema = None
        if envelope is not None:
            schema = next(field for field in envelope["fields"] if field.get("field") == "after")
        wanted = (*table.columns, table.link) if table.link is not None else table.columns
        there = {column: row[column] for column in wanted if column in row}
        found = self._columns(table.full_name, there, schema)
        holes = tuple(column for column, value in found.items() if value is HOLE)
        for column in holes:
            del found[column]
        missing = tuple(column for column in wanted if column not in row)
        return found | dict.fromkeys(missing), holes, missing

    def _columns(self, table: str, row: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Row:
        if self._schema_of is not None:
            return {column: avro_value(raw) for column, raw in row.items()}
        if schema is None:
            declared = self._types.get(table, {})
            return {column: bare_value(declared.get(column), raw) for column, raw in row.items()}
        fields = {field["field"]: field for field in schema["fields"]}
        return {column: value_of(fields[column], raw) for column, raw in row.items()}


def _snapshot_of(source: Mapping[str, Any]) -> str:
    word = source.get("snapshot")
    return "" if word in (None, False, "false") else "true" if word is True else str(word)


def _without_dates(schema: Any) -> Any:
    """The schema without logical types but decimals: dates and times stay numbers, as in JSON."""
    if isinstance(schema, list):
        return [_without_dates(branch) for branch in schema]
    if isinstance(schema, dict):
        plain = {name: _without_dates(part) for name, part in schema.items() if name != "logicalType"}
        if schema.get("logicalType") == "decimal":
            plain["logicalType"] = "decimal"
        return plain
    return schema


def missing_column(topic: str, event: Event) -> LogError:
    """An event of now lacks a column that the mapping needs. (Events of long ago may be older than the column.)"""
    return LogError(
        _OPERATION,
        topic,
        f"column {event.missing[0]} of {event.table} is not in an event, but the mapping needs it",
        "let Debezium capture the column (column.include.list, column.exclude.list), or mend the mapping",
    )


class _Wrong(Exception):
    """Cause and mend."""


@contextmanager
def _told(topic: str) -> Iterator[None]:
    """Turns whatever a foreign record makes us stumble on into LogError."""
    try:
        yield
    except LogError:
        raise
    except _Wrong as wrong:
        cause, mend = wrong.args
        raise LogError(_OPERATION, topic, cause, mend) from None
    except Unplaced as unplaced:
        raise LogError(
            _OPERATION, topic, str(unplaced), "use one of these connectors of Debezium 2.0 or later, unchanged"
        ) from None
    except RecursionError:
        raise LogError(_OPERATION, topic, "a record is nested too deeply", "see which program writes to it") from None
    except Exception as error:
        raise LogError(
            _OPERATION,
            topic,
            f"a record is not what Debezium writes ({type(error).__name__})",
            "compare log.debezium.format with Debezium's converters, and see that nothing else writes to the topic",
        ) from error

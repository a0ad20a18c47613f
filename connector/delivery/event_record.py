"""The record of `<name>.emc-events`: an event of the ledger as bytes, and the place that a record says it has (pure).

Key: the dossier's key, which also makes the partition (docs/log.md). Value: Confluent wire format, `emc.avsc`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final, NamedTuple

import fastavro

from connector.change.decoding import HEADER, MAGIC
from connector.change.position import Position, parse_position
from connector.emc.avsc import schema
from connector.errors import LogError

SCHEMA: Final = schema()
_PARSED: Final = fastavro.parse_schema(json.loads(SCHEMA))


class Place(NamedTuple):
    """Where an event stands among those of its partition; rises with every judgement. It survives a state's loss."""

    position: Position
    ordinal: int


class Judged(NamedTuple):
    """An event as the ledger has it. event: JSON (`outbox.dump_event`)."""

    id: int
    dossier: str
    event: str
    position: str
    ordinal: int
    transaction: str | None
    commit_time_us: int
    mapping: str
    recovered: int

    @property
    def place(self) -> Place:
        return place(self.position, self.ordinal)


def place(position: str, ordinal: int) -> Place:
    """A place as the ledger has it."""
    return Place(parse_position(position), ordinal)


def event_id(name: str, partition: int, position: str, ordinal: int) -> str:
    """Names an event for good, for consumers."""
    return f"{name}/{partition}/{position}/{ordinal}"


def encode(name: str, partition: int, schema_id: int, judged: Judged) -> bytes:
    """A record's value."""
    record: dict[str, Any] = json.loads(judged.event)
    record["judgement"] = {
        "id": event_id(name, partition, judged.position, judged.ordinal),
        "position": judged.position,
        "ordinal": judged.ordinal,
        "transaction": judged.transaction,
        "commit_time": judged.commit_time_us,
        "mapping": judged.mapping,
        "recovered": bool(judged.recovered),
    }
    out = BytesIO()
    out.write(bytes((MAGIC,)) + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, _PARSED, record)
    return out.getvalue()


def place_of(value: bytes, schema_of: Callable[[int], str], subject: str) -> Place:
    """The place that a record of an earlier process says; LogError when it is not a record of ours."""
    try:
        if value[0] != MAGIC:
            raise ValueError
        written = fastavro.parse_schema(json.loads(schema_of(int.from_bytes(value[1:HEADER], "big"))))
        record: Any = fastavro.schemaless_reader(BytesIO(value[HEADER:]), written, None)
        return place(record["judgement"]["position"], record["judgement"]["ordinal"])
    except LogError:
        raise
    # fastavro raises whatever its parsing stumbles on; a foreign record may hold anything.
    except Exception as error:
        raise LogError(
            "publish events",
            subject,
            f"its last record is not one of emc-cdc's ({type(error).__name__}), so where publishing stands is unknown",
            "let only emc-cdc write to this topic. Delete it and start: it is made anew with all that the ledger holds",
        ) from error

"""The Avro schema of the records of `<name>.emc-events`: the event that EMC is told, and why it was due.

Contract: the event's fields are made from `event.EmcEvent` alone, one by one in its order; `judgement` follows them.
`schema` is the text that is registered; `schemas/EmcEvent.avsc` is the same, indented (tests/test_schemas.py).

    python -m connector.emc.avsc schemas
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

from connector.emc.event import EmcEvent, EmcUser

FILE: Final = "EmcEvent.avsc"
_TYPES: Final[dict[object, object]] = {"str": "string", "int": "int", "str | None": ["null", "string"]}
"""By the annotation's text, which is what a dataclass keeps; another type is a KeyError in the test."""
_JUDGEMENT: Final = {
    "type": "record",
    "name": "Judgement",
    "fields": [
        {"name": "id", "type": "string", "doc": "Names this event for good: what was done for it once is done."},
        {"name": "position", "type": "string", "doc": "Last change of the source transaction: epoch/LSN/ordinal.sub."},
        {"name": "ordinal", "type": "int", "doc": "Number among the events of the position, from 1."},
        {"name": "transaction", "type": ["null", "string"], "doc": "Source transaction; null where a snapshot told."},
        {
            "name": "commit_time",
            "type": {"type": "long", "logicalType": "timestamp-micros"},
            "doc": "When the source committed it; of what is recovered, when the snapshot had ended.",
        },
        {"name": "mapping", "type": "string", "doc": "Version of the mapping that judged."},
        {"name": "recovered", "type": "boolean", "doc": "A snapshot found it due, after a gap of the stream."},
    ],
}


def schema() -> str:
    """The text that is registered."""
    return json.dumps(_schema(), ensure_ascii=False, separators=(",", ":"))


def text() -> str:
    """The file's text."""
    return json.dumps(_schema(), ensure_ascii=False, indent=2) + "\n"


def _schema() -> dict[str, object]:
    return {**_record(EmcEvent, {"name": "judgement", "type": _JUDGEMENT}), "namespace": "emc"}


def _record(kind: type[EmcEvent] | type[EmcUser], *more: dict[str, object]) -> dict[str, object]:
    return {
        "type": "record",
        "name": kind.__name__,
        "fields": [
            *(
                {"name": each.name, "type": _record(EmcUser) if each.type == "EmcUser" else _TYPES[each.type]}
                for each in fields(kind)
            ),
            *more,
        ],
    }


def main() -> None:
    """Write the file into the directory that is named."""
    Path(sys.argv[1], FILE).write_text(text(), "utf-8")


if __name__ == "__main__":
    main()

"""The Avro schema of the event that EMC is told, for the consumers of a topic of events.

Contract: made from `event.EmcEvent` alone, field by field in its order; `schemas/EmcEvent.avsc` is compared with it by
tests/test_schemas.py. No topic carries it yet.

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


def text() -> str:
    """The file's text."""
    schema = {**_record(EmcEvent), "namespace": "emc"}
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def _record(kind: type[EmcEvent] | type[EmcUser]) -> dict[str, object]:
    return {
        "type": "record",
        "name": kind.__name__,
        "fields": [
            {"name": each.name, "type": _record(EmcUser) if each.type == "EmcUser" else _TYPES[each.type]}
            for each in fields(kind)
        ],
    }


def main() -> None:
    """Write the file into the directory that is named."""
    Path(sys.argv[1], FILE).write_text(text(), "utf-8")


if __name__ == "__main__":
    main()

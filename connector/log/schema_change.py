"""What differs between two schemas of one table, in the words of the DDL that made them differ (pure).

Contract: `differences` compares the rows (`Value`) of two envelopes as `change.envelope.table_schema` makes them.
It says what changed, whatever the registry's compatibility level is; names are the columns', not Avro's escaped ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One column that is not what it was. `ddl` is the kind of statement that did it."""

    column: str
    cause: str
    ddl: str


def table_of(schema: str) -> str | None:
    """`schema.table`, or None for the schema of messages."""
    table = json.loads(schema).get("table")
    return table if isinstance(table, str) else None


def record_name(schema: str) -> str:
    """The full name of the record, which RecordName and TopicRecordName make subjects of."""
    record = json.loads(schema)
    namespace = record.get("namespace")
    return f"{namespace}.{record['name']}" if namespace else str(record["name"])


def differences(old: str, new: str) -> list[Difference]:
    """The columns that differ, in the order of the new table, then those that are gone."""
    before, after = _columns(old), _columns(new)
    found = []
    for column, field in after.items():
        if column not in before:
            found.append(Difference(column, "was added", "ADD COLUMN or RENAME COLUMN"))
        elif (was := _words(before[column]["type"])) != (now := _words(field["type"])):
            nullable = "null" in was.split("|") and "null" not in now.split("|")
            ddl = "ADD PRIMARY KEY" if nullable else "ALTER COLUMN … TYPE, or another primary key"
            found.append(Difference(column, f"was {was} and is {now}", ddl))
    found += [Difference(c, "is gone", "DROP COLUMN or RENAME COLUMN") for c in before if c not in after]
    return found


def _columns(schema: str) -> dict[str, dict[str, Any]]:
    for field in json.loads(schema).get("fields", ()):
        if field["name"] == "before" and isinstance(field["type"], list):
            row = next((branch for branch in field["type"] if isinstance(branch, dict)), {})
            return {each.get("column", each["name"]): each for each in row.get("fields", ())}
    return {}


def _words(kind: object) -> str:
    """A type in few words; all that Avro compares is in them, so that equal words are equal types."""
    if isinstance(kind, list):
        return "|".join(_words(branch) for branch in kind)
    if not isinstance(kind, dict):
        return str(kind)
    name = kind.get("connect.name") or kind.get("logicalType") or kind.get("name")
    inner = _words(kind["items"]) if "items" in kind else str(kind["type"])
    scale = f"({kind['precision']},{kind.get('scale', 0)})" if "precision" in kind else ""
    return f"{inner}[{name}{scale}]" if name else (f"array of {inner}" if "items" in kind else inner)

"""The real Debezium beside us: the same table on the same server, every field of every event compared.

What differs is a line of `DIFFERENCES`, naming the row of docs/types.md that tells why. A difference without a line
fails, and so does a line without its difference.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attached_source import Attached, until
from plugins.debezium import WITHOUT_SCHEMAS, Debezium
from plugins.kafka import KafkaBroker
from plugins.postgres import Database
from torture import CASES, COLUMNS, insert_sql, literal, make_types, table_sql, update_sql

from connector.change.decoding import HEADER
from connector.change.json_decoding import FIRST_BYTE
from connector.change.json_form import JsonForm
from connector.change.selection import Role, Selection, TableSelection
from connector.log.opening import open_reader
from connector.settings import Settings

ROOT = Path(__file__).parents[2]
PUBLICATION = "emc_cdc_thu"
TABLES = {"mac_dinh": "kieu.mac_dinh", "day_du": "kieu.day_du"}
"""The same table with the default replica identity, and with FULL."""
SELECTION = Selection(
    tuple(
        TableSelection("kieu", table, role, ("hang", *COLUMNS))
        for table, role in zip(TABLES, (Role.DOSSIER, Role.REFERENCE), strict=True)
    )
)
UNCHANGED = 3 * CASES
"""Number of the event (reads, inserts, updates) of an UPDATE that touches one column only."""
STREAMED = 1000
"""What is streamed has keys from here on."""

MODES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "thu": ({}, {}),
    "thu_chu": (
        {"decimal": "string", "interval": "string", "binary": "base64", "hstore": "map"},
        {
            "decimal.handling.mode": "string",
            "interval.handling.mode": "string",
            "binary.handling.mode": "base64",
            "hstore.handling.mode": "map",
        },
    ),
    "thu_so": (
        {"decimal": "double", "binary": "hex"},
        {"decimal.handling.mode": "double", "binary.handling.mode": "hex"},
    ),
    "thu_json": ({}, WITHOUT_SCHEMAS),
}
"""Connector → our settings, and Debezium's for the same."""
AS_JSON = "thu_json"
"""The connector that writes plain JSON, in the first one's modes: what holds of that one's values holds of its."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of differences. row: of docs/types.md; columns: names, or paths of the envelope; literals: of the values
    that differ, all (but NULL) when empty. phase, mode: where it is seen, everywhere when empty.
    """

    row: str
    columns: tuple[str, ...]
    literals: tuple[str, ...] = ()
    phase: str = ""
    modes: tuple[str, ...] = ()

    def covers(self, found: Difference) -> bool:
        return (
            (found.column in self.columns or self.columns == ANY)
            and (not self.literals or found.literal in self.literals)
            and self.phase in ("", found.phase)
            and (not self.modes or found.mode in self.modes or (found.mode == AS_JSON and "thu" in self.modes))
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one event. phase: snapshot, stream, unchanged (a value that PostgreSQL left out) or schema."""

    mode: str
    phase: str
    column: str
    literal: str
    ours: str
    theirs: str


ANY = ("any",)

DIFFERENCES = (
    Listed(
        "left out",
        (
            "a_box", "a_composite", "a_domain", "a_interval", "a_money", "a_name", "a_point", "a_xml", "c_composite",
            "c_int4multirange", "c_line", "c_own_range", "c_pg_lsn", "c_polygon", "c_tsquery", "c_tsvector",
        ),
    ),
    Listed("no number", ("c_numeric_14_2",), ("'NaN'",), modes=("thu",)),
    Listed("no number", ("c_numeric",), ("'NaN'", "'Infinity'", "'-Infinity'"), modes=("thu",)),
    Listed("no number", ("a_numeric",), ("'{NaN,1}'",)),
    Listed("trailing zeros", ("c_numeric",), ("1.2340", "-0.10"), modes=("thu",)),
    Listed("trailing zeros", ("a_numeric",), ("'{1.50,NULL,2}'",), modes=("thu",)),
    Listed("unusual scales", ("c_numeric_5_m2",), ("12300",), modes=("thu", "thu_chu")),
    Listed("unusual scales", ("c_numeric_3_5",), ("0.00123",), modes=("thu",)),
    Listed("unusual scales", ("c_numeric_5_m2", "c_numeric_3_5"), phase="schema", modes=("thu",)),
    Listed("money", ("c_money",), ("-92233720368547758.08",), "snapshot", ("thu", "thu_chu")),
    Listed("money", ("c_money",), ("0",), "snapshot", ("thu_chu",)),
    Listed("infinite dates", ("c_date",), ("'infinity'", "'-infinity'")),
    Listed("old dates", ("c_date",), ("'0044-03-15 BC'",), "snapshot"),
    Listed("old dates", ("c_timestamp", "c_timestamp_3"), ("'0044-03-15 10:00:00.5 BC'",), "snapshot"),
    Listed(
        "old dates",
        ("c_timestamptz",),
        ("'0044-03-15 10:00:00.5+00 BC'", "'0001-01-01 00:00:00.1+00'", "'0001-01-01 00:00:00+00 BC'"),
        "snapshot",
    ),
    Listed("end of day", ("c_timetz",), ("'24:00:00+07'",)),
    Listed("long intervals", ("c_interval",), ("'178000000 years'",), modes=("thu", "thu_so")),
    Listed("leading zeros of bits", ("c_varbit", "c_varbit_5"), ("B'00101'",)),
    Listed("leading zeros of bits", ("c_varbit",), ("B''",)),
    Listed("one varying bit", ("c_varbit_1",), ("B'1'", "B'0'"), "snapshot"),
    Listed("one varying bit", ("c_varbit_1",), ("B''",)),
    Listed("name", ("c_name",), ("'ten'",), "stream"),
    Listed("enum labels", ("c_enum",), phase="schema"),
    Listed("arrays of enums", ("a_enum",)),
    Listed("arrays of bits", ("a_bit",)),
    Listed("times in arrays", ("a_time",), ("'{12:34:56.789123}'",)),
    Listed("times in arrays", ("a_timetz",), ("'{12:34:56.5+07}'",)),
    Listed("times in arrays", ("a_time_3",)),
    Listed("more than a list", ("a_int4",), ("'[0:2]={1,2,3}'", "'{{1,2},{3,4}}'")),
    Listed("more than a list", ("a_text",), ("'[-1:0]={x,y}'", "'{{a,b},{c,NULL}}'")),
    Listed("unchanged values", ANY, phase="unchanged"),
    Listed("times of reading", ("ts_ms", "ts_us", "ts_ns")),
    Listed("position", ("source.commit_lsn", "source.epoch", "source.ordinal", "source.sub", "transaction.last")),
    Listed("position", ("source.lsn", "source.ts_ms", "source.ts_us", "source.txId"), phase="snapshot"),
    Listed("schema and key", ("source.schema_id", "source.key"), modes=(AS_JSON,)),
    Listed("position", ("source.sequence", "source.xmin", "source.ts_ns")),
    Listed("position", ("source.snapshot",), phase="snapshot"),
    Listed("values that were cut", ("source.truncated",)),
    Listed("position", ("transaction.id", "transaction.total_order"), phase="stream"),
    Listed("version", ("source.version",)),
)  # fmt: skip


@pytest.mark.every_server
def test_every_field_is_debeziums_or_listed(
    database: Database, kafka: KafkaBroker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Snapshot, INSERT, UPDATE, DELETE, a new key and an unchanged value, in three modes and in JSON, by both."""
    make_types(database)
    attached = Attached(database, tmp_path, "".join(map(table_sql, TABLES)))
    request.addfinalizer(attached.close)
    attached.selection = SELECTION
    attached.owner.execute(b"ALTER TABLE kieu.day_du REPLICA IDENTITY FULL")
    attached.set_up()
    for table in TABLES:
        for case in range(CASES):
            attached.owner.execute(insert_sql(table, case, case).encode())

    # Kafka outlives the server: each version's topics have names of their own.
    names = {mode: f"{mode}_{database.version}" for mode in MODES}
    settings = {mode: settings_of(attached, mode, name) for mode, name in names.items()}
    topics = [f"{name}.{table}" for name in names.values() for table in TABLES.values()]
    with ExitStack() as stack:
        debezium = stack.enter_context(
            Debezium(
                tmp_path / "connect",
                kafka,
                database.dsn("postgres"),
                PUBLICATION,
                tuple(TABLES.values()),
                {names[mode]: theirs for mode, (_, theirs) in MODES.items()},
            )
        )
        for each in settings.values():
            beside = copy(attached)
            beside.settings = each
            stack.enter_context(beside.capturing(settings=each, selection=SELECTION))
        debezium.events(dict.fromkeys(topics, CASES))
        until(lambda: streaming(attached) == len(MODES), "Debezium streams")
        events = 0
        for table in TABLES:
            events = change(attached, table)
        theirs = debezium.events(dict.fromkeys(topics, CASES + events))
    found: list[Difference] = []
    for mode in MODES:
        forms = our_events(settings[mode])
        for table in TABLES.values():
            ours, others = forms[table], theirs[f"{names[mode]}.{table}"]
            assert len(ours) == len(others)
            found += compare(mode, ours, others)
    assert {one.row for one in DIFFERENCES} == documented()
    unlisted = sorted({repr(each) for each in found if not any(one.covers(each) for one in DIFFERENCES)})
    assert not unlisted, "\n".join(unlisted)
    gone = [repr(one) for one in missing(found)]
    assert not gone, "\n".join(gone)


def settings_of(attached: Attached, mode: str, name: str) -> Settings:
    """A capture of its own for a mode."""
    written = attached.written(data=str(attached.directory / mode), types=MODES[mode][0], publication=PUBLICATION)
    written["name"] = name
    written["log"]["embedded"]["path"] = str(attached.directory / f"{mode}.sqlite")
    written["log"]["format"] = "json" if mode == AS_JSON else "avro"
    return Settings.model_validate(written)


def streaming(attached: Attached) -> int:
    """How many of Debezium's slots are being read."""
    return int(
        attached.ask(
            """SELECT count(*) FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid
                WHERE slot_name LIKE '%%debezium' AND state = 'streaming'"""
        )[0][0]
    )


def change(attached: Attached, table: str) -> int:
    """Everything that can happen to rows. Returns the number of events."""
    run = attached.owner.execute
    for case in range(CASES):
        run(insert_sql(table, STREAMED + case, case).encode())
    for case in range(CASES):
        run(update_sql(table, STREAMED + case, (case + 1) % CASES).encode())
    # Only one column: the big text of case 0, which the last row has now, is left out of the stream.
    run(f"UPDATE kieu.{table} SET c_bool = c_bool WHERE id = {STREAMED + CASES - 1}".encode())
    run(f"UPDATE kieu.{table} SET id = id + 1000 WHERE id = {STREAMED}".encode())
    with attached.owner.transaction():
        run(f"DELETE FROM kieu.{table} WHERE id >= {STREAMED}".encode())
    return 3 * CASES + 3


def our_events(settings: Settings) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Table → (JSON form, Avro schema) of each of its records, in order."""
    reader = open_reader(settings)
    try:
        ends = reader.ends()
        reader.assign(dict.fromkeys(ends, 0))
        forms: dict[int, tuple[JsonForm, dict[str, Any]]] = {}
        found: dict[tuple[str, tuple[int, ...]], tuple[dict[str, Any], dict[str, Any]]] = {}
        while any(reader.positions()[partition] < end for partition, end in ends.items()):
            for record in reader.poll(1.0, 1000):
                plain: dict[str, Any] | None = None
                if record.value[0] == FIRST_BYTE:
                    plain = json.loads(record.value)
                    schema_id = plain["source"]["schema_id"]
                else:
                    schema_id = int.from_bytes(record.value[1:HEADER], "big")
                if schema_id not in forms:
                    text = reader.schema(schema_id)
                    forms[schema_id] = JsonForm(text), json.loads(text)
                form, schema = forms[schema_id]
                event = form.record(record.value) if plain is None else plain
                if "table" in schema:
                    source = event["source"]
                    place = (source["epoch"], source["commit_lsn"], source["ordinal"], source["sub"])
                    # Reads share their position.
                    read = event["after"]["id"] if event["op"] == "r" else -1
                    found[schema["table"], (*place, read)] = event, schema
    finally:
        reader.close()
    tables: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for table, place in sorted(found):
        tables[table].append(found[table, place])
    return tables


def compare(
    mode: str, ours: Sequence[tuple[dict[str, Any], dict[str, Any]]], theirs: Sequence[dict[str, Any]]
) -> Iterator[Difference]:
    """Everything in which one list of events differs from the other."""
    known: dict[str, Any] = {}
    for number, ((mine, _), other) in enumerate(zip(ours, theirs, strict=True)):
        payload = other.get("payload", other)
        phase = "snapshot" if mine["op"] == "r" else "stream"
        for image in ("before", "after"):
            mine_row, other_row = mine.pop(image), payload.pop(image)
            if mine_row is None or other_row is None:
                if mine_row is not other_row:
                    yield Difference(mode, phase, image, mine["op"], text(mine_row), text(other_row))
                continue
            case = mine_row["hang"]
            for column in mine_row.keys() | other_row.keys():
                value, other_value = mine_row.get(column, "(absent)"), other_row.get(column, "(absent)")
                if text(value) != text(other_value):
                    what = literal(column, case) if column in COLUMNS and case is not None else ""
                    left_out = number == UNCHANGED and image == "after" and other_value != known.get(column)
                    seen = "unchanged" if left_out else phase
                    yield Difference(mode, seen, column, what, text(value), text(other_value))
            known = other_row
        for path in (mine_paths := dict(paths(mine))).keys() | (their_paths := dict(paths(payload))).keys():
            value, other_value = mine_paths.get(path, "(absent)"), their_paths.get(path, "(absent)")
            if text(value) != text(other_value):
                yield Difference(mode, phase, path, "", text(value), text(other_value))
    if "schema" not in theirs[0]:
        return
    fields = {field["field"]: field for field in theirs[0]["schema"]["fields"]}
    others = {column["field"]: theirs_type(column) for column in fields["after"]["fields"]}
    for column in ours[0][1]["fields"][0]["type"][1]["fields"]:
        mine_type = text(ours_type(column["type"]))
        other_type = text(others.get(column["name"], "(absent)"))
        if mine_type != other_type:
            yield Difference(mode, "schema", column["name"], "", mine_type, other_type)


def paths(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of an object by their paths."""
    if not isinstance(value, dict):
        yield prefix, value
        return
    for name, each in value.items():
        yield from paths(each, f"{prefix}.{name}" if prefix else name)


def text(value: Any) -> str:
    """JSON, by which values are equal: 1 and true and 1.0 are three."""
    written = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return re.sub(r"\[Ljava\.lang\.String;@[0-9a-f]+", "[Ljava.lang.String;@…", written)


_TYPES = {"int16": "int16", "int": "int32", "long": "int64", "float": "float", "double": "double"}


def ours_type(avro: Any) -> Any:
    """An Avro type as Connect's schema: what it is, its name and parameters, without the text beside it."""
    if isinstance(avro, list):
        return ours_type(next(branch for branch in avro if branch != "null"))
    if isinstance(avro, str):
        last = avro.rpartition(".")[2]
        return {"type": "struct", "name": avro} if last != avro else {"type": _TYPES.get(avro, avro)}
    kind = avro.get("connect.type", avro["type"])
    found: dict[str, Any] = {"type": {"record": "struct"}.get(kind, _TYPES.get(kind, kind))}
    if "connect.name" in avro:
        found["name"] = avro["connect.name"]
    if "connect.parameters" in avro:
        found["parameters"] = avro["connect.parameters"]
    if kind == "array":
        found["items"] = ours_type(avro["items"])
    return found


def theirs_type(schema: dict[str, Any]) -> Any:
    """The same of Debezium's schema."""
    found = {name: schema[name] for name in ("type", "name", "parameters") if name in schema}
    if schema["type"] == "array":
        found["items"] = theirs_type(schema["items"])
    return found


def documented() -> set[str]:
    """The names of the differences in docs/types.md that can be seen here."""
    table = (ROOT / "docs/types.md").read_text(encoding="utf-8").partition("## Where it differs")[2]
    return {name for name in re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE) if name != "name of the row"}


def missing(found: Sequence[Difference]) -> Iterator[tuple[Listed, str, str]]:
    """What is listed and does not occur."""
    for one in DIFFERENCES:
        seen = {(each.column, each.literal) for each in found if one.covers(each)}
        for column in one.columns:
            for what in one.literals or ("",):
                if not any(column in (c, *ANY) and what in ("", w) for c, w in seen):
                    yield one, column, what

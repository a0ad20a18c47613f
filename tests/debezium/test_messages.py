"""Records of Debezium's topics: every connector's, in every format; nothing foreign does more than LogError."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from debezium.avro_form import SCHEMAS, wire
from debezium.envelopes import (
    KEY,
    MYSQL,
    POSTGRESQL,
    ROW,
    SOURCES,
    TRANSACTIONS,
    amount,
    bare,
    envelope,
    key_with_schema,
    table,
    with_schema,
)
from hypothesis import given
from hypothesis import strategies as st

from connector.change.record import Op
from connector.debezium.message import Boundary, Decoder, Event
from connector.debezium.values import PLACEHOLDER, value_of
from connector.errors import LogError

JSON = Decoder(None, {"motcua.ho_so": {"le_phi": "decimal(2)"}})
DECODED = {
    "id": 7,
    "ma": "000.00.11.H56-261127-0007",
    "le_phi": Decimal("12345.50"),
    "ngay": 1764201600000000,
    "xong": True,
}


def event(payload: dict[str, Any], decoder: Decoder = JSON) -> Event:
    found = decoder.event("p.motcua.ho_so", table(), key_with_schema(), with_schema(payload))
    assert found is not None
    return found


@pytest.mark.parametrize("connector", SOURCES)
def test_every_connectors_events(connector: str) -> None:
    """Row, key, transaction and place come out of JSON with schemas and without alike."""
    identity, known = TRANSACTIONS[connector]
    block = {"id": identity, "total_order": 3, "data_collection_order": 2}
    payload = envelope(SOURCES[connector], transaction=block)
    found = event(payload)
    assert (found.op, found.table, found.key, found.after) == (Op.UPDATE, "motcua.ho_so", ("7",), DECODED)
    assert (found.transaction, found.total_order, found.table_order) == (known, 3, 2)
    assert found.place is not None
    assert not found.snapshot
    assert JSON.event("p.motcua.ho_so", table(), bare(KEY), bare(payload)) == found


@pytest.mark.parametrize(
    ("connector", "later"),
    [
        ("postgresql", {"sequence": '["25694240","25694999"]', "lsn": 25694999}),
        ("postgresql", {"sequence": '["25700000","25694000"]', "lsn": 25694000}),  # a later commit of earlier work
        ("mysql", {"row": 1}),
        ("mysql", {"pos": 4000}),
        ("mysql", {"file": "mysql-bin.000010", "pos": 4}),
        ("sqlserver", {"event_serial_no": 3}),
        ("sqlserver", {"change_lsn": "00000027:00000758:000a"}),
        ("sqlserver", {"commit_lsn": "00000027:00001000:0001", "change_lsn": "00000027:00000001:0001"}),
        ("oracle", {"scn": "2122186"}),
        ("oracle", {"commit_scn": "10000000", "scn": "2122000"}),
    ],
)
def test_places_rise(connector: str, later: dict[str, Any]) -> None:
    """By commit, then by the change; numbers by their value, not by their text."""
    first = event(envelope(SOURCES[connector])).place
    second = event(envelope({**SOURCES[connector], **later})).place
    assert first is not None
    assert second is not None
    assert first.line == second.line
    assert (first.commit, first.fine) < (second.commit, second.fine)


def test_what_says_nothing() -> None:
    """Tombstones and logical messages."""
    assert JSON.event("p.motcua.ho_so", table(), key_with_schema(), None) is None
    assert JSON.event("p.motcua.ho_so", table(), key_with_schema(), with_schema(envelope(POSTGRESQL, "m"))) is None


@pytest.mark.parametrize("word", ["true", "first", "first_in_data_collection", "last_in_data_collection", "last"])
def test_reads_of_a_snapshot(word: str) -> None:
    """They have no place in the stream."""
    found = event(envelope({**POSTGRESQL, "snapshot": word}, "r"))
    assert (found.op, found.place, found.read) == (Op.READ, None, True)
    assert not event(envelope({**POSTGRESQL, "snapshot": "incremental"}, "r")).read


def test_deletes_and_truncates_have_no_row() -> None:
    """A delete has its key alone; a TRUNCATE not even that."""
    assert event(envelope(POSTGRESQL, "d", before={"id": 7})).after is None
    truncated = JSON.event("p.motcua.ho_so", table(), None, with_schema(envelope(POSTGRESQL, "t")))
    assert truncated is not None
    assert (truncated.op, truncated.key) == (Op.TRUNCATE, ())


def test_an_unchanged_value_is_no_value() -> None:
    """The placeholder is a hole, a column that is not there at all is told as missing."""
    found = event(envelope(POSTGRESQL, after={**ROW, "ma": PLACEHOLDER}))
    assert found.unchanged == ("ma",)
    assert "ma" not in (found.after or {})
    short = {name: value for name, value in ROW.items() if name != "ma"}
    assert event(envelope(POSTGRESQL, after=short)).missing == ("ma",)


@pytest.mark.parametrize(
    ("schema", "raw", "value"),
    [
        ({"type": "int16", "name": None}, 1, 1),  # MySQL's tinyint(1) at Debezium's defaults
        ({"type": "int64"}, 2**63 - 1, 2**63 - 1),
        ({"type": "float"}, 0.1, 0.1),
        ({"type": "double"}, "NaN", "nan"),
        ({"type": "string", "name": "io.debezium.time.ZonedTimestamp"}, "2026-11-27T00:00:00Z", "2026-11-27T00:00:00Z"),
        ({"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, 1764201600000000123, 1764201600000000),
        ({"type": "int32", "name": "io.debezium.time.Date"}, 20419, 20419),
        ({"type": "string", "name": "io.debezium.data.EnumSet"}, "a,b", "a,b"),
        ({"type": "bytes", "name": "io.debezium.data.Bits"}, "Aw==", b"\x03"),
        (
            {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal", "fields": []},
            {"scale": 3, "value": amount(-1500)},
            Decimal("-1.500"),
        ),
        ({"type": "array", "items": {"type": "string"}}, ["a", None], ["a", None]),
        ({"type": "string"}, None, None),
    ],
)
def test_values_by_their_logical_type(schema: dict[str, Any], raw: Any, value: Any) -> None:
    """Whatever the database, the type's name decides."""
    found = value_of(schema, raw)
    assert found == value or str(found) == value


def test_avro() -> None:
    """Confluent's wire format, with the schema by its id; decimals are decimals, dates stay numbers."""
    decoder = Decoder(lambda number: json.dumps(SCHEMAS[number]), {})
    value = wire(2, {"before": None, "after": DECODED, "source": POSTGRESQL, "op": "c"})
    found = decoder.event("p.motcua.ho_so", table(), wire(1, KEY), value)
    assert found is not None
    assert (found.key, found.after) == (("7",), DECODED)
    for end in range(1, len(value)):
        with pytest.raises(LogError):
            decoder.event("p.motcua.ho_so", table(), wire(1, KEY), value[:end])


def test_boundaries() -> None:
    """BEGIN, and END with its counts."""
    end = {"status": "END", "id": "742:25694696", "event_count": 2, "data_collections": [
        {"data_collection": "motcua.ho_so", "event_count": 2}], "ts_ms": 1}  # fmt: skip
    assert JSON.boundary("p.transaction", bare(end)) == Boundary(True, "742", {"motcua.ho_so": 2})
    begin = {"status": "BEGIN", "id": "742:25694240", "event_count": None, "data_collections": None, "ts_ms": 1}
    assert JSON.boundary("p.transaction", bare(begin)) == Boundary(False, "742", {})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (bare(KEY), bare(ROW), "ExtractNewRecordState"),
        (None, bare(envelope(POSTGRESQL)), "message.key.columns"),
        (bare(KEY), b"\0\0\0\0\1abc", "log.debezium.format: avro"),
        (bare(KEY), bare(envelope({**POSTGRESQL, "connector": "mongodb"})), "known are postgresql"),
        (bare(KEY), bare(envelope({**MYSQL, "file": None})), "connector mysql"),
    ],
)
def test_what_an_operator_has_set_otherwise(key: bytes | None, value: bytes, told: str) -> None:
    """The error names what is wrong and the setting of Debezium that mends it, and no value."""
    with pytest.raises(LogError) as caught:
        JSON.event("p.motcua.ho_so", table(), key, value)
    text = f"{caught.value} {caught.value.mend}"
    assert told in text
    assert "H56" not in text


@pytest.mark.parametrize("connector", SOURCES)
def test_truncated_anywhere(connector: str) -> None:
    """Every beginning of a record is refused by the documented error."""
    payload = envelope(SOURCES[connector], transaction={"id": "1:2", "total_order": 1, "data_collection_order": 1})
    for value in (with_schema(payload), bare(payload)):
        for end in range(1, len(value)):
            with pytest.raises(LogError):
                JSON.event("p.motcua.ho_so", table(), bare(KEY), value[:end])


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), connector=st.sampled_from(sorted(SOURCES)), schemas=st.booleans(), value=ANY)
def test_any_part_replaced_by_anything(data: Any, connector: str, schemas: bool, value: Any) -> None:
    """It is read, or refused by LogError."""
    payload = envelope(SOURCES[connector], transaction={"id": "1:2", "total_order": 1, "data_collection_order": 1})
    document: Any = json.loads(with_schema(payload) if schemas else bare(payload))
    at, name = document, None
    while isinstance(at, dict | list) and at:
        parent = at
        name = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        at = at[name]
        if data.draw(st.booleans()):
            break
    parent[name] = value
    for read in (
        lambda: JSON.event("p.motcua.ho_so", table(), bare(KEY), json.dumps(document).encode()),
        lambda: JSON.boundary("p.transaction", json.dumps(document).encode()),
    ):
        with suppress(LogError):
            read()

"""The reference encoder and the decoder are each other's inverse."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import message_key, message_schema, row_key, table_schema
from connector.change.pgtext import parse_date, parse_timestamp_us
from connector.change.position import Position, lsn_text, parse_lsn
from connector.change.record import Op
from connector.change.shape import Column, Shape
from connector.errors import LogError

SHAPE = Shape(
    "motcua",
    "hồ sơ",
    (
        Column("id", 20, -1, True),
        Column("Mã số", 25, -1, False),
        Column("phi", 1700, (14 << 16 | 2) + 4, False),
        Column("he_so", 1700, -1, False),
        Column("luc", 1114, -1, False),
        Column("du_lieu", 17, -1, False),
    ),
)
CONTEXT = Context("mot-cua", "tthc", 2, 0x16B374D848, 1_732_000_000_123_456, 771, 1_732_000_000_200)


def decoder(schema: str) -> ChangeDecoder:
    """A decoder that knows one schema under the id 7."""
    return ChangeDecoder({7: schema}.__getitem__)


rows = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "Mã số": st.none() | st.text(),
        "phi": st.none() | st.decimals(-(10**11), 10**11, places=2) | st.just("NaN"),
        "he_so": st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=5) | st.just("Infinity"),
        "luc": st.none() | st.integers(-(2**63), 2**63 - 1),
        "du_lieu": st.none() | st.binary(),
    }
)


@given(rows, st.booleans(), st.integers(0, 2**40), st.integers(0, 5))
def test_what_is_encoded_is_decoded(row: dict[str, object], last: bool, ordinal: int, sub: int) -> None:
    """Every field of a record survives, under the columns' own names."""
    schema = table_schema("mot-cua", "tthc", SHAPE)
    position = Position(2, CONTEXT.commit_lsn, ordinal, sub)
    value = Encoder(7, schema).row(CONTEXT, Op.UPDATE, None, row, position, 99, 3, last)
    change = decoder(schema).decode(row_key(SHAPE.full_name, (str(row["id"]),)), value)
    assert change.after == row
    assert change.before is None
    assert (change.position, change.lsn, change.last) == (position, 99, last)
    assert (change.table, change.key) == ("motcua.hồ sơ", (str(row["id"]),))
    assert change.commit_time_us == CONTEXT.commit_time_us
    assert change.transaction == f"771:{CONTEXT.commit_lsn}"


def test_last_is_the_last_byte() -> None:
    """The writer sets the mark by replacing one byte."""
    schema = table_schema("mot-cua", "tthc", SHAPE)
    row = {"id": 1, "Mã số": None, "phi": None, "he_so": Decimal("1.5"), "luc": None, "du_lieu": None}
    one, two = (
        Encoder(7, schema).row(CONTEXT, Op.CREATE, None, row, Position(1, 2, 3), 4, 5, last) for last in (False, True)
    )
    assert one[:-1] == two[:-1]
    assert (one[-1], two[-1]) == (0, 1)


def test_the_mark_of_cut_values_is_optional() -> None:
    """It survives; a record of the schema without the field, as logs of before have it, is read by either schema."""
    schema = table_schema("mot-cua", "tthc", SHAPE)
    row = {"id": 1, "Mã số": None, "phi": None, "he_so": Decimal("1.5"), "luc": None, "du_lieu": None}

    def written(text: str, *names: str) -> bytes:
        return Encoder(7, text).row(CONTEXT, Op.CREATE, None, row, Position(1, 2, 3), 4, 5, True, names)

    key = row_key("motcua.hồ sơ", ("1",))
    assert decoder(schema).decode(key, written(schema, "Mã số", "du_lieu")).truncated == ("Mã số", "du_lieu")
    assert decoder(schema).decode(key, written(schema)).truncated == ()
    parsed = json.loads(schema)
    source = next(field for field in parsed["fields"] if field["name"] == "source")
    source["type"]["fields"] = [field for field in source["type"]["fields"] if field["name"] != "truncated"]
    before = json.dumps(parsed)
    assert decoder(before).decode(key, written(before)).truncated == ()
    for writer, reader in ((before, schema), (schema, before)):
        found: Any = fastavro.schemaless_reader(
            BytesIO(written(writer)[5:]), fastavro.parse_schema(json.loads(writer)), json.loads(reader)
        )
        assert found["source"].get("truncated") is None


def test_a_marker_is_a_message() -> None:
    """Markers have a position and a key of their own."""
    schema = message_schema("mot-cua")
    position = Position(1, 2, 0)
    value = Encoder(7, schema).message(CONTEXT, "emc-cdc.snapshot.begin", b"", position, 2, True)
    change = decoder(schema).decode(message_key("emc-cdc.snapshot.begin", position), value)
    assert (change.op, change.marker, change.key) == (Op.MESSAGE, "emc-cdc.snapshot.begin", ())


@given(st.binary(max_size=80))
def test_foreign_bytes_raise_only_the_documented_error(foreign: bytes) -> None:
    """Whatever stands in a topic, the reader says LogError."""
    schema = table_schema("mot-cua", "tthc", SHAPE)
    with pytest.raises(LogError):
        decoder(schema).decode(b'["motcua.x","1"]', b"\0\0\0\0\7" + foreign)


@pytest.mark.parametrize(
    ("text", "days"),
    [("1970-01-01", 0), ("2024-03-25", 19807), ("0001-01-01 BC", -719_528), ("0044-03-15 BC", -735_160)],
)
def test_dates_before_christ(text: str, days: int) -> None:
    """1 BC is followed by AD 1."""
    assert parse_date(text) == days


def test_timestamps_reach_beyond_datetime() -> None:
    """PostgreSQL's years do not end with 9999."""
    assert parse_timestamp_us("1970-01-01 00:00:01.5") == 1_500_000
    assert parse_timestamp_us("10000-01-01 00:00:00") == 253_402_300_800_000_000


@given(st.integers(0, 2**64 - 1))
def test_lsn_text_is_postgresql_s(lsn: int) -> None:
    """An LSN survives its printed form."""
    assert parse_lsn(lsn_text(lsn)) == lsn

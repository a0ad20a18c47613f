"""Rows cut to a size: they fit, only named columns change, what is left is valid, and the same row is cut alike."""

from __future__ import annotations

import json
from base64 import b64decode
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.columntype import HSTORE, TypeOptions
from connector.change.envelope import table_schema
from connector.change.shape import Column, Shape
from connector.source.decode.cutting import LEAST, RowParts, mark
from connector.source.decode.transcoder import compile_transcoder

_COLUMNS = (
    Column("id", 20, -1, True),
    Column("ghi_chu", 25, -1, False),
    Column("le_phi", 1700, -1, False),
    Column("tep", 17, -1, False),
    Column("chi_tiet", 3802, -1, False),
    Column("toa_do", 600, -1, False),
    Column("nhan", 1009, -1, False),
    Column("them", HSTORE, -1, False),
    Column("cua_ho", 1043, -1, False),
    Column("ty_le", 701, -1, False),
    Column("gan_dung", 700, -1, False),
    Column("xong", 16, -1, False),
    Column("tieu_de", 1042, -1, False),
)
_NAMES = ("ghi_chu", "tep", "chi_tiet", "tieu_de")
_MODES = [TypeOptions(), TypeOptions(binary="base64", hstore="map"), TypeOptions(binary="hex")]

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
long_texts = st.builds(lambda word, times: word * times, words, st.integers(0, 3000))
long_bytes = st.builds(
    lambda some, times: "\\x" + (some * times).hex(), st.binary(min_size=1, max_size=20), st.integers(0, 2000)
)
documents = long_texts.map(lambda text: json.dumps({"a": text}, ensure_ascii=False))
rows = st.fixed_dictionaries(
    {
        "id": st.integers(0, 2**62).map(str),
        "ghi_chu": st.none() | long_texts,
        "le_phi": st.none() | st.sampled_from(["1.50", "NaN", "123456789012345678901234567890"]),
        "tep": st.none() | long_bytes,
        "chi_tiet": st.none() | documents,
        "toa_do": st.none() | st.just("(1.5,-2)"),
        "nhan": st.none() | st.sampled_from(["{}", "{a,NULL,b}", "{{a},{b}}"]),
        "them": st.none() | st.sampled_from(["", '"a"=>"1", "b"=>NULL']),
        "cua_ho": st.none() | long_texts,
        "ty_le": st.none() | st.just("0.5"),
        "gan_dung": st.none() | st.just("0.25"),
        "xong": st.none() | st.just("t"),
        "tieu_de": st.none() | long_texts,
    }
)
Texts = dict[str, str | None]


def encoded(shape: Shape, row: Texts) -> bytes:
    """A row as the transcoder gives it."""
    transcoder = compile_transcoder([column.name for column in shape.columns], shape, None)
    return transcoder.fields_row(
        [None if (text := row[column.name]) is None else text.encode() for column in shape.columns]
    )[0]


def decoded(shape: Shape, row: bytes) -> dict[str, Any]:
    """A row as fastavro reads it, to its end."""
    fields = json.loads(table_schema("n", "d", shape))["fields"][0]["type"][1]
    stream = BytesIO(row)
    found: Any = fastavro.schemaless_reader(stream, fastavro.parse_schema(fields | {"namespace": "x"}), None)
    assert not stream.read()
    return dict(found)


@pytest.mark.parametrize("options", _MODES, ids=["bytes", "base64", "hex"])
@settings(max_examples=50)
@given(before=st.none() | rows, after=rows, share=st.floats(0, 1))
def test_rows_are_cut_to_fit(options: TypeOptions, before: Texts | None, after: Texts, share: float) -> None:
    """Whatever the room: the rows fit it, or nothing is cut; what is kept is the beginning, the rest is untouched."""
    shape = Shape("public", "ho_so", _COLUMNS, options)
    images = [None if row is None else encoded(shape, row) for row in (before, after)]
    size = sum(len(image or b"") for image in images)
    room = int(size * share)
    fitted = RowParts(shape, _NAMES).fit(*images, room)
    assert fitted == RowParts(shape, _NAMES).fit(*images, room)
    if fitted is None:
        return  # nothing to cut, or not enough
    assert fitted.names or size <= room
    cut = [fitted.before, fitted.after]
    assert sum(len(image or b"") for image in cut) <= room
    changed: set[str] = set()
    for whole, left in zip(images, cut, strict=True):
        assert (whole is None) == (left is None)
        if whole is None or left is None:
            continue
        was, now = decoded(shape, whole), decoded(shape, left)
        for name, value in now.items():
            if value == was[name]:
                continue
            changed.add(name)
            if name == "chi_tiet":
                assert value == "null"
                continue
            assert was[name].startswith(value)
            assert len(value if isinstance(value, bytes) else value.encode()) > LEAST - 4
            if name == "tep" and options.binary == "base64":
                b64decode(value, validate=True)
            if name == "tep" and options.binary == "hex":
                bytes.fromhex(value)
    assert changed == set(fitted.names)
    assert changed <= set(_NAMES)
    # What the index remembers makes the same row again.
    assert fitted.after is not None
    again = encoded(shape, after | {name: text.decode() for name, text in fitted.texts.items()})
    assert again == fitted.after


def test_all_values_are_cut_to_one_length() -> None:
    """To a power of two; a value that is shorter stays whole, and what was cut fits as it is beside a longer one."""
    shape = Shape("public", "ho_so", _COLUMNS)
    texts: Texts = dict.fromkeys(column.name for column in _COLUMNS)
    row = encoded(
        shape, texts | {"id": "1", "ghi_chu": "a" * 90_000, "tep": "\\x" + "00" * 60_000, "tieu_de": "ngắn" * 500}
    )
    fitted = RowParts(shape, _NAMES).fit(None, row, 50_000)
    assert fitted is not None
    assert fitted.after is not None
    found = decoded(shape, fitted.after)
    assert fitted.names == ("ghi_chu", "tep")
    assert found["tieu_de"] == "ngắn" * 500
    assert len(found["ghi_chu"]) == len(found["tep"]) == 16384
    again = texts | {"id": "1", "ghi_chu": "a" * 16384, "tep": "\\x" + "00" * 16384, "tieu_de": "ngắn" * 900}
    assert len(encoded(shape, again)) < 50_000


def test_keys_and_other_types_are_never_cut() -> None:
    """Naming them does nothing: the row then does not fit."""
    shape = Shape("public", "ho_so", (Column("ma", 25, -1, True), Column("nhan", 1009, -1, False)))
    row = encoded(shape, {"ma": "k" * 90_000, "nhan": "{" + ",".join(["a"] * 9000) + "}"})
    parts = RowParts(shape, ("ma", "nhan"))
    assert parts.fit(None, row, 50_000) is None
    assert [name for name, _ in parts.sizes(row)] == ["ma", "nhan"]
    assert sum(size for _, size in parts.sizes(row, row)) == 2 * len(row)


def test_the_mark_is_avro_s() -> None:
    """`source.truncated` is a union of null and an array of strings."""
    schema = fastavro.parse_schema(["null", {"type": "array", "items": "string"}])
    for names in ([], ["ghi chú"], ["a", "b" * 200]):
        assert fastavro.schemaless_reader(BytesIO(mark(names)), schema, None) == (names or None)

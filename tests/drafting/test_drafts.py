"""Whatever a catalog holds, the draft is YAML that loads, or there is none; and what it must never say."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import configuration
from connector.drafting import candidates
from connector.drafting.draft import Draft, from_parts, from_preset, known_words
from connector.drafting.inventory import Column, ForeignKey, Inventory, Shapes, Table, Word, nameable
from connector.drafting.page import quoted, scalar, shown
from connector.drafting.parts import assign, catalogue
from connector.drafting.recognition import recognise
from connector.drafting.vocabulary import RECEPTION, STATUS, folded, looks_personal, meant
from connector.mapping.document import MapNode, ScalarNode, read

NAMES = st.one_of(
    st.sampled_from(["ho_so", "HoSo", "Hồ sơ", "ma_ho_so", "MaHoSo", "trang_thai", "TrangThaiID", "ngay_tiep_nhan"]),
    st.sampled_from(
        ["thu_tuc", "thu_tuc_id", "DM_ThuTuc", "don_vi", "don_vi_id", "thanh_toan", "ho_so_id", "hinh_thuc"]
    ),
    st.sampled_from(["loai", "id", "ma", "ten", "muc_do", "kenh_nop", "hinh_thuc_tra", "tu_dvcqg", "ma_dinh_danh"]),
    st.sampled_from(["online", "null", "true", "count", "exists", "42", "${env:HOME}", "$${x", "- a: b", "tai_khoan"]),
    st.sampled_from(["#", "{", '"', "'", "\x7f", "a\nb", "\u2028"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20),
).filter(nameable)
TEXTS = st.one_of(
    st.sampled_from(["da_xu_ly", "Đã trả", "1", "007", "null", "true", "${env:HOME}", "a: b", "~", "", " ", "x\ny"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=45),
)
WORDS = st.lists(st.builds(Word, TEXTS, st.none() | st.integers(0, 9), TEXTS), max_size=8)
COLUMNS = st.lists(
    st.builds(
        Column,
        NAMES,
        st.sampled_from("SSNNBDEU"),
        st.booleans(),
        st.sampled_from([True, True, True, False]),
        st.lists(TEXTS, max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda column: column.name,
)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Some tables that point at each other."""
    names = draw(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4, unique=True))
    bare = [Table(schema, name, tuple(draw(COLUMNS))) for schema, name in names]
    tables = []
    for table in bare:
        own = st.sampled_from([column.name for column in table.columns])
        foreign = []
        for _ in range(draw(st.integers(0, 3))):
            other = draw(st.sampled_from(bare))
            target = draw(st.sampled_from([column.name for column in other.columns]))
            foreign.append(ForeignKey(draw(own), other.schema, other.name, target))
        key = tuple(draw(st.lists(own, max_size=2, unique=True)))
        estimate = draw(st.none() | st.integers(1, 10**9))
        tables.append(
            Table(table.schema, table.name, table.columns, key, key[:1], tuple(foreign), estimate, draw(st.booleans()))
        )
    return Inventory(draw(TEXTS) or "db", "emc_cdc", tuple(tables))


def loads(draft: Draft) -> configuration.Configuration:
    """The configuration that a draft's text is."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "emc-cdc.yml"
        path.write_text(draft.text, encoding="utf-8")
        return configuration.load(path)


@settings(max_examples=150)
@given(inventories(), st.data())
def test_whatever_the_catalog_holds_the_draft_loads(inventory: Inventory, data: st.DataObject) -> None:
    """Any table of a made-up catalog, taken for the dossiers', gives YAML that loads, with questions at their lines."""
    for dossier in inventory.tables:
        if dossier.anchor is None:
            continue
        names = [column.name for column in dossier.columns]
        counts = st.dictionaries(st.sampled_from(names), st.integers(0, 9))
        filled = dict.fromkeys(names, 9)  # as the sampler tells it: for every column of which it tells anything
        shapes = {dossier.full_name: data.draw(st.builds(Shapes, st.just(9), st.just(filled), counts, counts, counts))}
        candidates.rank(inventory, shapes)
        parts = assign(inventory, dossier, shapes)
        words = {(place.table.full_name, place.column.name): data.draw(WORDS) for place in parts.worded()}
        for place in parts.worded():
            catalogue(inventory, place)
        draft = from_parts(inventory, parts, shapes, words, "dbname=x", data.draw(st.none() | st.just(327)))
        loaded = loads(draft)
        assert loaded.plan.selection.dossier.full_name == dossier.full_name
        lines = draft.text.split("\n")
        for question in draft.questions:
            assert lines[question.line - 1].lstrip().startswith(f"# CÂU HỎI {question.number}:")


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_any_text_comes_back_from_yaml(text: str) -> None:
    """Text that was quoted is read as it was, and what is shown stays on one line."""
    root = read(f"a: {quoted(text)}\n".encode(), "x")
    assert isinstance(root, MapNode)
    node = root.get("a")
    assert isinstance(node, ScalarNode)
    assert node.text == text
    assert len(shown(text).splitlines()) <= 1


@given(st.text(alphabet="$" + "{}envHOME:x", max_size=12))
def test_no_name_is_taken_for_a_call(text: str) -> None:
    """What looks like a reference to the environment in a name is the name itself when the file is read."""
    assert configuration.fill(text.replace("${", "$${"), "x") == text
    root = read(f"a: {scalar(text)}\n".encode(), "x")
    assert isinstance(root, MapNode)
    node = root.get("a")
    assert isinstance(node, ScalarNode)
    assert configuration.fill(node.text, "x") == text


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("da_tra_ket_qua", "result"),
        ("Đã trả kết quả", "result"),
        ("DaTraKetQua", "result"),
        ("cho_tra", "processing"),
        ("Chờ trả kết quả", "processing"),
        ("Chờ tiếp nhận", "before"),
        ("da_tiep_nhan", "received"),
        ("Yêu cầu bổ sung hồ sơ", "waiting"),
        ("Chuyển", None),
        ("Đã hủy", "other"),
        ("3", None),
    ],
)
def test_what_words_usually_mean(word: str, meaning: str | None) -> None:
    """Words of a status with and without diacritics and separators; what is not known stays so."""
    assert meant(word, STATUS) == meaning


def test_names_are_compared_without_what_differs_between_vendors() -> None:
    """Case, diacritics and separators make no other name."""
    assert {folded(name) for name in ("MaHoSo", "ma_ho_so", "Mã hồ sơ", "MÃ-HỒ-SƠ")} == {"ma ho so"}
    assert meant("trực tuyến", RECEPTION) == "online"


@pytest.mark.parametrize("value", ["Nguyễn Văn An", "0912345678", "a@b.vn", "TRẦN THỊ B"])
def test_a_column_with_a_persons_data_shows_nothing(value: str) -> None:
    """One such value, or one as a catalogue's name, and none of the column's words is listed."""
    column = Column("trang_thai", "S")
    assert looks_personal(value)
    assert known_words(column, [Word("moi", 3), Word(value, 1)]) is None
    assert known_words(column, [Word("1", 3, value)]) is None
    assert known_words(column, [Word("Đã Trả", 3)]) is not None


def test_many_words_are_not_listed() -> None:
    """A column with more than thirty words is no status."""
    assert known_words(Column("x", "S"), [Word(letter * 2) for letter in string.ascii_letters[:31]]) is None


@given(inventories())
def test_no_made_up_catalog_breaks_the_recognition(inventory: Inventory) -> None:
    """The presets are compared with any catalog; one that is recognised gives a draft that loads."""
    found = recognise(inventory, configuration.preset_texts())
    if found is not None and found.dossier.anchor is not None:
        loads(from_preset(inventory, found, "dbname=x", None))

"""EMC's extract as a file: every form of it reads alike, and every fault is told with its place and mend."""

from __future__ import annotations

import unicodedata
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from ledger_file import HEADINGS, as_csv, event, row
from openpyxl import Workbook

from connector.reconcile import extract as extract_module
from connector.reconcile.columns import COMPARED, of_event
from connector.reconcile.extract import Extract, ExtractError, Row, opened

AT = "05/01/2026 08:30:00"
SECONDS = 1767576600.0
ROW = row(event(1), AT)
VALUES = tuple(of_event({name: getattr(event(1), name) for name in HEADINGS[:-2]} | {"User": {
    "ID_local": None, "ID_QG": "QG-1", "TYPE": 2, "LOCATION": "000.00.02.H10"}}))  # fmt: skip


def read(path: Path, columns: dict[str, tuple[str, ...]] | None = None) -> tuple[Extract, list[Row]]:
    with opened(path, columns or {}) as extract:
        return extract, list(extract.rows)


def refused(path: Path) -> ExtractError:
    with pytest.raises(ExtractError) as raised:
        read(path)
    return raised.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1258"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, delimiter: str) -> None:
    """The same row, however it is written, with a title above the heading."""
    text = "BÁO CÁO\n\n" + as_csv([ROW], delimiter=delimiter)
    if encoding == "cp1258":  # it has some letters only as base and tone
        text = "".join(_in_1258(letter) for letter in text)
    path = tmp_path / "e.csv"
    path.write_bytes(text.encode(encoding))
    extract, rows = read(path)
    assert extract.compared == COMPARED
    assert [(each.number, each.values, each.at) for each in rows] == [(4, VALUES, SECONDS)]


def _in_1258(letter: str) -> str:
    try:
        letter.encode("cp1258")
    except UnicodeEncodeError:
        decomposed = unicodedata.normalize("NFD", letter)
        tone = next(each for each in decomposed if each in "\u0300\u0301\u0303\u0309\u0323")
        return unicodedata.normalize("NFC", decomposed.replace(tone, "")) + tone
    return letter


def test_other_headings_and_parts_of_the_user(tmp_path: Path) -> None:
    """Vietnamese headings, one from the configuration, LOCATION in a column of its own; what is not there is told."""
    path = tmp_path / "e.csv"
    path.write_text("STT;Mã số HS;TRẠNG THÁI;Đơn vị;CreatedAt\n1;A-1;2;U-1;2026-01-05T01:30:00Z\n", encoding="utf-8")
    extract, rows = read(path, {"CodeProfile": ("mã số hs",)})
    assert extract.compared == ("CodeProfile", "Status", "LOCATION")
    assert rows == [Row(2, ("A-1", "2", "U-1"), SECONDS)]


def _book(path: Path, *rows: list[object], title: str = "Dữ liệu") -> Path:
    book = Workbook()
    book.create_sheet(title)
    for each in rows:
        book[title].append(each)
    book.save(path)
    return path


def test_a_workbook(tmp_path: Path) -> None:
    """The sheet that has the heading is found; numbers, dates and texts of a spreadsheet read like those of a CSV."""
    typed: list[object] = [float(each) if each in ("327", "4") else each for each in ROW[:-1]]
    path = _book(tmp_path / "e.xlsx", ["TRÍCH XUẤT"], list(HEADINGS), [*typed, datetime(2026, 1, 5, 8, 30)])
    _, rows = read(path)
    assert rows == [Row(3, VALUES, SECONDS)]


def test_faults_of_cells_are_told_with_their_place(tmp_path: Path) -> None:
    """A formula, an empty number of a dossier, a word for a number, no time: all at once, and no value in the text."""
    heading: list[object] = ["CodeProfile", "Status", "Thời gian"]
    path = _book(
        tmp_path / "e.xlsx", heading, ["=A9", 1, AT], [None, 1, AT], ["A-1", "đã nhận", AT], ["A-2", 1, "hôm qua"]
    )
    error = refused(path)
    assert error.cause.splitlines() == [
        "sheet 'Dữ liệu', row 2, column 1 (CodeProfile): it is a formula or an error, not a value",
        "sheet 'Dữ liệu', row 3, column 1 (CodeProfile): it is empty (merged cells hold their value once only)",
        "sheet 'Dữ liệu', row 4, column 2 (Status): it is not a whole number",
        "sheet 'Dữ liệu', row 5, column 3 (Time): it is no time such as 31/12/2026 08:30:00 or 2026-12-31T08:30:00",
    ]
    assert "unmerge" in error.mend


def _mixed(path: Path) -> None:
    path.write_bytes("CodeProfile,Status\nHồ sơ,1\n".encode() + "Hô sơ,1\n".encode("cp1258"))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.txt", "x")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no row with the headings CodeProfile and Status"),
        (lambda path: path.write_text("CodeProfile,Status,Mã hồ sơ\n", "utf-8"), "two columns are CodeProfile"),
        (_mixed, "mixed encodings: line 2 is UTF-8, line 3 is not"),
        (lambda path: path.write_text('CodeProfile,Status\n"A,1\n' + "B,1\n" * 50_000), "line 2: this is no row"),
        (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "the old form"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "damaged"),
        (_zip, "no workbook"),
        (lambda path: _book(path, ["a", "b"]), "in no sheet ('Sheet', 'Dữ liệu')"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_files_that_are_no_extract(tmp_path: Path, make: Callable[[Path], object], cause: str) -> None:
    """Each is refused in words, with a mend."""
    path = tmp_path / "e"
    make(path)
    error = refused(path)
    assert cause in error.cause
    assert error.mend


def test_a_workbook_that_would_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by what its directory says, before anything is unpacked."""
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/sharedStrings.xml", b"\0" * 2_000_000)
    monkeypatch.setattr(extract_module, "MOST_STRINGS", 1_000_000)
    assert "unpack" in refused(path).cause

"""XLSX files, read back with openpyxl: what a person sees, and what a spreadsheet would calculate (nothing)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from reported_database import Reported

from connector import workbook
from connector.errors import ConnectorError
from connector.workbook import Column, Sheet, write

DANGEROUS = ["=1+1", "+84 24", "-1", "@SUM(A1)", "\t=1", " =cmd|' /C calc'!A0", '=HYPERLINK("http://x")']


def read(path: Path) -> dict[str, list[list[Any]]]:
    book = openpyxl.load_workbook(path)
    return {page.title: [[cell.value for cell in row] for row in page.iter_rows()] for page in book.worksheets}


def test_no_text_is_a_formula(tmp_path: Path) -> None:
    """What begins as a formula does is text, marked to stay so; what XML cannot hold is left out."""
    path = tmp_path / "x.xlsx"
    rows = [(text, 0.25) for text in [*DANGEROUS, "hồ sơ\x00\x1b số 1", "một\ndòng"]]
    write(path, [Sheet("Tổng hợp", (Column("=Tên", 30), Column("Tỷ lệ", 12, "0.0%")), rows, notes=("+ghi chú",))])
    page = openpyxl.load_workbook(path).worksheets[0]
    cells = [row[0] for row in page.iter_rows(min_row=3)]
    assert [cell.value for cell in cells] == [*DANGEROUS, "hồ sơ số 1", "một\ndòng"]
    assert {cell.data_type for cell in page["A"]} == {"s"}
    assert [cell.quotePrefix for cell in cells] == [True] * len(DANGEROUS) + [False, False]
    assert page.freeze_panes == "A3"
    assert page.column_dimensions["A"].width == 30
    assert {row[1].number_format for row in page.iter_rows(min_row=3)} == {"0.0%"}


def test_a_sheet_that_is_too_long_goes_on_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same heading, and no row lost."""
    monkeypatch.setattr(workbook, "MOST_ROWS", 10)
    write(tmp_path / "x.xlsx", [Sheet("Lỗi", (Column("Số"),), ((number,) for number in range(25)))])
    found = read(tmp_path / "x.xlsx")
    assert list(found) == ["Lỗi", "Lỗi (2)", "Lỗi (3)"]
    assert {rows[0][0] for rows in found.values()} == {"Số"}
    assert [row[0] for rows in found.values() for row in rows[1:]] == list(range(25))


def test_a_failure_leaves_the_old_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Half a workbook is never seen, nor anything left beside it."""
    path = tmp_path / "x.xlsx"
    write(path, [Sheet("Cũ", (Column("a"),), [("còn",)])])

    def rows() -> Any:
        yield ("một",)
        raise ConnectorError("read", "x", "gone", "again")

    with pytest.raises(ConnectorError, match="gone"):
        write(path, [Sheet("Mới", (Column("a"),), rows())])
    assert read(path) == {"Cũ": [["a"], ["còn"]]}
    assert [each.name for each in tmp_path.iterdir()] == ["x.xlsx"]
    with pytest.raises(ConnectorError, match="Is a directory"):
        write(tmp_path, [])
    assert capfd.readouterr().err == ""


def test_the_report_as_a_workbook(reported: Reported, tmp_path: Path) -> None:
    """Every sheet, with its heading fixed, and the same numbers and faults as the JSON of the same rows."""
    for statement in (
        "UPDATE motcua.ho_so SET ma_ho_so = '=1+1' WHERE id = 1",
        "UPDATE motcua.ho_so SET don_vi_id = 999, kenh_nop = 'zalo' WHERE id = 2",
    ):
        reported.owner.execute(statement.encode())
    path = tmp_path / "bao-cao.xlsx"
    report = reported.report("--output", str(path), "--from", "2026-01-01", code=1)
    found = read(path)
    pages = "Tổng hợp, Theo đơn vị, Theo thủ tục, Theo tháng, Tỷ lệ trực tuyến, Lỗi dữ liệu, Hồ sơ chưa gửi được"
    assert ", ".join(found) == pages
    book = openpyxl.load_workbook(path)
    assert {page.freeze_panes for page in book.worksheets} == {"A4"}
    assert all(page.column_dimensions["A"].width > 8 for page in book.worksheets)
    today = f"{date.fromisoformat(report['made'][:10]):%d/%m/%Y}"
    assert today in found["Tổng hợp"][0][0]
    assert "từ 01/01/2026 đến …" in found["Tổng hợp"][1][0]
    summary = {str(row[0]).strip(): row[1] for row in found["Tổng hợp"][3:]}
    assert summary["Hồ sơ thuộc diện báo EMC"] == report["summary"]["told"]
    assert summary["Lỗi: Mã hồ sơ sai mẫu"] == report["summary"]["faults"]["number"] == 1
    groups = found["Tỷ lệ trực tuyến"][3:]
    names = ("dossiers", "received_online", "full", "returned", "online")
    assert [tuple(row[4:9]) for row in groups] == [tuple(one[name] for name in names) for one in report["online"]]
    assert [row[9] for row in groups] == [one["share"] for one in report["online"]]
    shares = [row[9] for row in book["Tỷ lệ trực tuyến"].iter_rows(min_row=4) if row[9].value is not None]
    assert {cell.number_format for cell in shares} == {"0.0%"}
    assert [(row[1], row[6], row[9]) for row in found["Lỗi dữ liệu"][3:]] == [
        (one["code"], one["parameter"], "x" if one["holds"] else None) for one in report["faults"]
    ]
    assert [row[4].count(";") for row in found["Hồ sơ chưa gửi được"][3:]] == [1]
    assert not [cell for page in book.worksheets for row in page.iter_rows() for cell in row if cell.data_type == "f"]

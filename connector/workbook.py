"""XLSX files for people: sheets with a heading line that stays, widths, number formats.

Contract: rows are streamed to the file, so memory does not grow with them; a sheet that would be too long goes on in a
next one of the same heading. No text ever becomes a formula: what begins with = + - @ or a tab is written as text, and
marked (quotePrefix), so that it stays one when somebody edits it. A character that XML cannot hold is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EISDIR
from pathlib import Path
from typing import Any, Final

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from connector.errors import ConnectorError

Value = str | int | float | bool | None

MOST_ROWS: Final = 1_000_000
"""Of one sheet; the format holds 1,048,576."""
_LONGEST: Final = 32_767
"""Characters of one cell."""
_FORMULA = re.compile(r"[\t\r ]*[=+\-@]")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_BOLD = Font(bold=True, color="FFFFFF")
_FILL = PatternFill("solid", fgColor="1F4E78")
_WRAP = Alignment(wrap_text=True, vertical="center", horizontal="center")


@dataclass(frozen=True, slots=True)
class Column:
    """heading; width in characters; format: the spreadsheet's number format, e.g. `#,##0`, `0.0%`."""

    heading: str
    width: int = 14
    format: str = "General"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet. notes: lines above the heading."""

    title: str
    columns: Sequence[Column]
    rows: Iterable[Sequence[Value]]
    notes: Sequence[str] = ()


def require_writable(path: Path) -> None:
    """Before the work that the file is for. ConnectorError when it could not be made."""
    unfinished = _beside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        unfinished.touch()
        unfinished.unlink()
    except OSError as error:
        raise _failed(path, error) from None


def write(path: Path, sheets: Iterable[Sheet]) -> None:
    """Make the file, or replace it. ConnectorError when that cannot be done: then what was there is as it was."""
    require_writable(path)
    book, unfinished = Workbook(write_only=True), _beside(path)
    try:
        for sheet in sheets:
            _fill(book, sheet)
        book.save(unfinished)
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        for page in book.worksheets:  # or their unfinished parts would complain when they are taken away
            with suppress(Exception):
                page.close()
        if isinstance(error, OSError):
            raise _failed(path, error) from None
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _failed(path: Path, error: OSError) -> ConnectorError:
    mend = "name a file in a directory that can be written to, on a disk with room, that no other program has open"
    return ConnectorError("write the workbook", str(path), error.strerror or "it failed", mend)


def _fill(book: Workbook, sheet: Sheet) -> None:
    page, number, rows = _begin(book, sheet, 1), 1, 0
    for row in sheet.rows:
        if rows == MOST_ROWS:
            number += 1
            page, rows = _begin(book, sheet, number), 0
        page.append([_cell(page, value, column) for value, column in zip(row, sheet.columns, strict=True)])
        rows += 1


def _begin(book: Workbook, sheet: Sheet, number: int) -> Any:
    # openpyxl tells no types of its sheets that are only written.
    page: Any = book.create_sheet(sheet.title if number == 1 else f"{sheet.title} ({number})")
    heading = len(sheet.notes) + 1
    page.freeze_panes = f"A{heading + 1}"
    page.print_title_rows = f"{heading}:{heading}"
    page.page_setup.orientation = "landscape"
    page.page_setup.fitToHeight = 0
    page.sheet_properties.pageSetUpPr.fitToPage = True
    for index, column in enumerate(sheet.columns, 1):
        page.column_dimensions[get_column_letter(index)].width = column.width
    for note in sheet.notes:
        page.append([_cell(page, note, Column(""))])
    page.append([_heading(page, column.heading) for column in sheet.columns])
    return page


def _heading(page: Any, text: str) -> Any:
    cell = WriteOnlyCell(page, text)
    cell.data_type = "s"
    cell.font, cell.fill, cell.alignment = _BOLD, _FILL, _WRAP
    return cell


def _cell(page: Any, value: Value, column: Column) -> Any:
    if not isinstance(value, str):
        if value is None or column.format == "General":
            return value
        cell = WriteOnlyCell(page, value)
        cell.number_format = column.format
        return cell
    text = _NOT_XML.sub("", value)[:_LONGEST]
    if not _FORMULA.match(text):
        return text
    cell = WriteOnlyCell(page, text)
    cell.data_type = "s"
    cell.quotePrefix = True
    return cell

"""EMC's extract as a file: CSV or XLSX → rows of values, one after the other, in bounded memory.

Contract: `opened` finds the heading among the first rows (titles may stand above it) and yields rows lazily. Whatever
is wrong with the file raises ExtractError with the place (sheet, row, column) and the mend; never with a value. An XLSX
is looked at before it is unpacked: what would grow past the bounds below is refused.
"""

from __future__ import annotations

import codecs
import csv
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from openpyxl import load_workbook

from connector.errors import ConnectorError
from connector.reconcile.columns import COMPARED, NEEDED, READ, TIME, USER, WHOLE_USER, folded, moment, spellings

HEADING_WITHIN: Final = 50
"""Rows in which the heading is looked for."""
MOST_FAULTS: Final = 10
MOST_UNPACKED: Final = 4 * 1024**3
MOST_STRINGS: Final = 256 * 1024**2
"""Of one part of an XLSX file that is read as a whole (shared texts, styles)."""
_OPERATION = "read EMC's extract"
_DELIMITERS = (",", ";", "\t")
_CHUNK = 1024 * 1024


class ExtractError(ConnectorError):
    """The file is no extract that can be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """number: as the program that shows the file counts; values: of `Extract.compared`."""

    number: int
    values: tuple[str, ...]
    at: float | None


@dataclass(frozen=True, slots=True)
class Extract:
    """compared: the parameters that the extract has, in the order of `COMPARED`."""

    compared: tuple[str, ...]
    timed: bool
    form: str
    rows: Iterator[Row]


class _Formula:
    """Stands for a cell that holds no value of its own."""


_FORMULA = _Formula()
Cells = Sequence[object]


@contextmanager
def opened(path: Path, columns: Mapping[str, Sequence[str]]) -> Iterator[Extract]:
    """The extract. columns: headings beside those that are known, by parameter."""
    known = spellings(columns)
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(b"PK"):
            with _workbook(path, known) as extract:
                yield extract
        elif start.startswith(b"\xd0\xcf\x11\xe0"):
            raise _wrong(path, "this is a workbook of the old form (.xls)", "save it as .xlsx or as CSV UTF-8")
        else:
            encoding = _encoding(path)
            with path.open(encoding=encoding, newline="") as lines:
                yield _delimited(path, lines, encoding, known)
    except OSError as error:
        raise _wrong(path, error.strerror or "it cannot be read", "give the file that EMC sent") from None
    except UnicodeError:
        raise _wrong(path, "a character is broken", "save the file again as CSV UTF-8") from None


def _wrong(path: Path, cause: str, mend: str) -> ExtractError:
    return ExtractError(_OPERATION, str(path), cause, mend)


# -- CSV -----------------------------------------------------------------------------------------------------------


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if not start.strip():
            raise _wrong(path, "the file is empty", "ask EMC for it again")
        if b"\0" in start:
            odd = sum(byte == 0 for byte in start[1::2])
            return "utf-16-le" if odd > len(start) // 8 else "utf-16-be"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            file.seek(0)
            return _not_utf8(path, file)
    return "utf-8-sig"


def _not_utf8(path: Path, lines: Iterable[bytes]) -> str:
    """WINDOWS-1258, when every line that is not ASCII may be it and none is UTF-8."""
    utf8 = other = 0
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8-sig")
            utf8 = utf8 or number
        except UnicodeDecodeError:
            other = other or number
            try:
                line.decode("cp1258")
            except UnicodeDecodeError:
                cause = f"line {number} is neither UTF-8 nor WINDOWS-1258"
                raise _wrong(path, cause, "save the file again as CSV UTF-8") from None
        if utf8 and other:
            cause = f"mixed encodings: line {utf8} is UTF-8, line {other} is not"
            raise _wrong(path, cause, "save the file again as CSV UTF-8, all of it in one encoding")
    return "cp1258"


def _delimited(path: Path, lines: Any, encoding: str, known: Mapping[str, str]) -> Extract:
    best: tuple[int, str] = (-1, ",")
    for delimiter in _DELIMITERS:
        lines.seek(0)
        try:
            head = list(islice(csv.reader(lines, delimiter=delimiter), HEADING_WITHIN))
        except csv.Error:
            continue
        best = max(best, (_score(head, known), delimiter), key=lambda each: each[0])
    lines.seek(0)
    reader = csv.reader(lines, delimiter=best[1])

    def rows() -> Iterator[tuple[int, Cells]]:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                mend = "look for a quotation mark that is opened there and not closed"
                raise _wrong(path, f"line {number}: this is no row of a CSV file", mend) from None
            yield number, cells

    shown = {",": "dấu phẩy", ";": "dấu chấm phẩy", "\t": "tab"}[best[1]]
    return _extract(path, "", rows(), known, f"CSV, {encoding.removesuffix('-sig').upper()}, {shown}")


# -- XLSX ----------------------------------------------------------------------------------------------------------


@contextmanager
def _workbook(path: Path, known: Mapping[str, str]) -> Iterator[Extract]:
    _require_small(path)
    file = path.open("rb")  # by its path openpyxl would judge it by its name
    try:
        # Without `data_only` a formula shows itself instead of what some program has computed last.
        book = load_workbook(file, read_only=True, data_only=False)
    except Exception as error:  # openpyxl lets out whatever a broken part raises
        file.close()
        raise _wrong(path, f"this is no workbook ({type(error).__name__})", "save it again as .xlsx") from None
    try:
        sheets = [sheet for sheet in book.worksheets if hasattr(sheet, "reset_dimensions")]
        for sheet in sheets:
            sheet.reset_dimensions()  # what a file says of its size may be wrong
            head = [list(cells) for _, cells in islice(_cells(path, sheet), HEADING_WITHIN)]
            if _score(head, known) >= len(NEEDED):
                title = str(sheet.title)
                yield _extract(path, title, _cells(path, sheet), known, f"XLSX, {title}")
                return
        names = ", ".join(f"'{sheet.title}'" for sheet in sheets)
        raise _no_heading(path, f"in no sheet ({names})")
    finally:
        book.close()
        file.close()


def _require_small(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
    except (zipfile.BadZipFile, NotImplementedError):
        raise _wrong(path, "the file is damaged: it is no whole .xlsx", "copy or ask for it again") from None
    whole = [part.file_size for part in parts if not part.filename.startswith("xl/worksheets/")]
    if sum(part.file_size for part in parts) > MOST_UNPACKED or max(whole, default=0) > MOST_STRINGS:
        cause = "it would unpack to more than an extract can be"
        raise _wrong(path, cause, "ask EMC for the extract as CSV, or for a shorter period")


def _cells(path: Path, sheet: Any) -> Iterator[tuple[int, Cells]]:
    rows = iter(sheet.iter_rows())
    for number in range(1, 2**21):
        try:
            cells = next(rows)
        except StopIteration:
            return
        except Exception as error:
            cause = f"sheet '{sheet.title}', row {number}: it cannot be read ({type(error).__name__})"
            raise _wrong(path, cause, "open the file in a spreadsheet program and save it again as .xlsx") from None
        yield (
            number,
            [_FORMULA if cell.data_type in ("f", "e") else "" if cell.value is None else cell.value for cell in cells],
        )


# -- both ----------------------------------------------------------------------------------------------------------


def _headings(cells: Cells, known: Mapping[str, str]) -> dict[int, str]:
    named = {place: known.get(folded(cell)) for place, cell in enumerate(cells) if isinstance(cell, str)}
    return {place: name for place, name in named.items() if name is not None}


def _score(head: Sequence[Cells], known: Mapping[str, str]) -> int:
    """How many parameters the best row names that has all that are needed."""
    scores = (set(_headings(cells, known).values()) for cells in head)
    return max((len(names) for names in scores if names.issuperset(NEEDED)), default=0)


def _no_heading(path: Path, where: str) -> ExtractError:
    cause = f"no row with the headings {' and '.join(NEEDED)} {where}, within the first {HEADING_WITHIN} rows"
    mend = "name the headings of this file in the configuration, e.g. reconcile: {columns: {CodeProfile: [Mã số HS]}}"
    return _wrong(path, cause, mend)


def _extract(path: Path, sheet: str, rows: Iterator[tuple[int, Cells]], known: Mapping[str, str], form: str) -> Extract:
    for _, cells in islice(rows, HEADING_WITHIN):
        places = _headings(cells, known)
        if set(places.values()).issuperset(NEEDED):
            break
    else:
        raise _no_heading(path, f"in sheet '{sheet}'" if sheet else "in it")
    twice = sorted({name for name in places.values() if list(places.values()).count(name) > 1})
    if twice:
        raise _wrong(path, f"two columns are {twice[0]}", "take one of them out, or give it another heading")
    names = set(places.values())
    if WHOLE_USER in names:
        names |= set(USER)
    compared = tuple(name for name in COMPARED if name in names)
    reading = _Reading(path, sheet, {name: place for place, name in places.items()}, compared)
    return Extract(compared, TIME in names, form, reading.rows(rows))


class _Reading:
    """Makes rows of cells, and gathers what is wrong with them until it is enough."""

    def __init__(self, path: Path, sheet: str, places: dict[str, int], compared: tuple[str, ...]) -> None:
        self._path = path
        self._sheet = sheet
        self._user = places.get(WHOLE_USER)
        self._time = places.get(TIME)
        # A part of User that has a column of its own is read there.
        self._plan = [(name, places.get(name), READ[name]) for name in compared]
        self._width = max(places.values()) + 1
        self._used = sorted(places.items(), key=lambda each: each[1])
        self._faults: list[str] = []

    def rows(self, rows: Iterator[tuple[int, Cells]]) -> Iterator[Row]:
        for number, cells in rows:
            if not any(cell is _FORMULA or str(cell).strip() for cell in cells):
                continue
            row = self._row(number, cells)
            if row is not None and not self._faults:
                yield row
            if len(self._faults) >= MOST_FAULTS:
                break
        if self._faults:
            raise _wrong(
                self._path,
                "\n".join(self._faults),
                "correct these cells (formulas: copy, paste as values; merged cells: unmerge and fill each)"
                " or ask EMC for the file again",
            )

    def _row(self, number: int, cells: Cells) -> Row | None:
        if len(cells) < self._width:
            cells = [*cells, *("" for _ in range(self._width - len(cells)))]
        before = len(self._faults)
        if _FORMULA in cells:
            for used, at_place in self._used:
                if cells[at_place] is _FORMULA:
                    self._fault(number, at_place, used, "it is a formula or an error, not a value")
            if len(self._faults) > before:
                return None
        user: Mapping[str, Any] = {}
        if self._user is not None:
            try:
                user = _user(cells[self._user])
            except ValueError:
                self._fault(number, self._user, WHOLE_USER, "it is no JSON object")
        values = []
        for name, place, read in self._plan:
            cell = user.get(name) if place is None else cells[place]
            try:
                value = read(cell if type(cell) is str else _plain(cell))
            except ValueError as error:
                self._fault(number, self._user or 0 if place is None else place, name, f"it is {error}")
                continue
            if not value and name in NEEDED:
                self._fault(number, place or 0, name, "it is empty (merged cells hold their value once only)")
            values.append(value)
        at = None
        if self._time is not None:
            try:
                at = moment(cells[self._time])
            except (ValueError, OverflowError):
                mend = "it is no time such as 31/12/2026 08:30:00 or 2026-12-31T08:30:00"
                self._fault(number, self._time, TIME, mend)
        return Row(number, tuple(values), at) if len(self._faults) == before else None

    def _fault(self, number: int, place: int, name: str, what: str) -> None:
        where = f"sheet '{self._sheet}', row {number}" if self._sheet else f"line {number}"
        self._faults.append(f"{where}, column {place + 1} ({name}): {what}")


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _user(cell: object) -> Mapping[str, Any]:
    written = str(cell).strip()
    if not written:
        return {}
    try:
        found = json.loads(written)
    except RecursionError:
        found = None
    if isinstance(found, dict):
        return found
    raise ValueError("not a JSON object")

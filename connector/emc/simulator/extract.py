"""What EMC hands out for a reconciliation: one row for each event it took, in order.

The guide names no form for it. Here: the parameters' names as headings, User as the JSON text it came as, and the time
of reception in Vietnam's time as dd/mm/yyyy hh:mm:ss.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO, StringIO

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

from connector.emc.simulator.arrivals import Arrivals
from connector.emc.wire import PARAMETERS
from connector.mapping.moments import VIETNAM

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEADINGS = (*PARAMETERS, "Thời gian tiếp nhận")


def as_csv(arrivals: Arrivals) -> bytes:
    """In UTF-8 with a byte order mark, as spreadsheet programs want it."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADINGS)
    writer.writerows(_rows(arrivals))
    return text.getvalue().encode("utf-8-sig")


def as_xlsx(arrivals: Arrivals) -> bytes:
    """One sheet; texts stay texts, also those that begin like a formula."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("EMC")
    sheet.append(HEADINGS)
    for row in _rows(arrivals):
        cells = []
        for value in row:
            cell = WriteOnlyCell(sheet, value)
            if isinstance(value, str):
                cell.data_type = "s"
            cells.append(cell)
        sheet.append(cells)
    file = BytesIO()
    book.save(file)
    return file.getvalue()


def _rows(arrivals: Arrivals) -> Iterator[list[str | int]]:
    for record in arrivals.accepted():
        said = record["parameters"]
        at = datetime.fromtimestamp(record["at"], UTC).astimezone(VIETNAM)
        user = json.dumps(said["User"], ensure_ascii=False)
        values = [user if name == "User" else said.get(name, 0) for name in PARAMETERS]
        yield [*values, f"{at:%d/%m/%Y %H:%M:%S}"]

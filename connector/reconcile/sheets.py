"""What a reconciliation found, as sheets in Vietnamese for an official letter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from connector.mapping.moments import VIETNAM
from connector.reconcile.comparison import Kind
from connector.reconcile.reckoning import TOLD, Reckoning, Told
from connector.workbook import Column, Sheet, Value

TITLES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.MISSING: "Thiếu tại EMC",
        Kind.UNKNOWN: "EMC có, đơn vị không có",
        Kind.DIFFERENT: "Sai khác",
        Kind.DUPLICATE: "Trùng lặp",
        Kind.WAITING: "Đang chờ gửi",
        Kind.PARKED: "Bị từ chối",
    }
)
_COUNT = "#,##0"
_COMMON = (
    Column("Mã hồ sơ", 30),
    Column("Trạng thái", 10),
    Column("Đơn vị", 20),
    Column("Mã thủ tục", 18),
)
_ROW = (Column("Dòng trong tệp EMC", 12), Column("EMC tiếp nhận lúc", 20))
_OWN = (Column("Vị trí trong nhật ký", 30),)
_NOTE = (Column("Ghi chú", 50),)


@dataclass(frozen=True, slots=True)
class Heading:
    """made, since, until: as text, until is the last day; form: of the extract."""

    name: str
    made: str
    since: str
    until: str
    extract: str
    form: str
    not_compared: tuple[str, ...]

    def lines(self) -> list[str]:
        """For the top of each page."""
        lines = [
            f"Đối soát số liệu với Hệ thống EMC – {self.name} – lập lúc {self.made}",
            f"Thời gian: từ 00:00 {self.since} đến hết {self.until} (giờ Việt Nam, theo thời điểm EMC tiếp nhận);"
            f" tệp trích xuất: {self.extract} ({self.form})",
        ]
        if self.not_compared:
            lines.append(f"Tệp trích xuất không có, nên không đối chiếu: {', '.join(self.not_compared)}")
        return lines


def summary(reckoning: Reckoning) -> list[tuple[str, int]]:
    """Lines of the summary."""
    told = reckoning.summary
    return [
        ("Sự kiện của đơn vị trong kỳ", told.ours),
        ("Dòng trong tệp trích xuất của EMC", told.theirs),
        ("Khớp hoàn toàn", told.kinds[Kind.EQUAL]),
        *((TITLES[kind], told.kinds[kind]) for kind in TOLD),
        ("Đã bỏ, không gửi (theo quyết định của người vận hành)", told.kinds[Kind.DISCARDED]),
        ("Ở sát mép kỳ đối soát, chưa kết luận", told.kinds[Kind.EDGE]),
        ("Dòng của EMC ngoài kỳ đối soát, không xét", told.outside),
        ("Sự kiện từng mất câu trả lời: EMC có", told.settled[True]),
        ("Sự kiện từng mất câu trả lời: EMC không có", told.settled[False]),
    ]


def sheets(reckoning: Reckoning, heading: Heading) -> Iterator[Sheet]:
    """The whole report."""
    notes = heading.lines()
    yield Sheet("Tổng hợp", (Column("Nội dung", 60), Column("Số lượng", 16, _COUNT)), summary(reckoning), notes)
    kinds = (Kind.EQUAL, *TOLD)
    counts = tuple(Column(TITLES.get(kind, "Khớp"), 12, _COUNT) for kind in kinds)
    yield Sheet(
        "Theo đơn vị, thủ tục",
        (Column("Đơn vị", 20), Column("Mã thủ tục", 18), *counts),
        ((*key, *(group[kind] for kind in kinds)) for key, group in groups(reckoning)),
        notes,
    )
    for kind in TOLD:
        rows = reckoning.told(kind)
        match kind:
            case Kind.DIFFERENT:
                columns = (*_COMMON, Column("Tham số", 16), Column("Đơn vị có", 40), Column("EMC có", 40), *_ROW, *_OWN)
                yield Sheet(TITLES[kind], columns, _differences(rows), notes)
            case Kind.UNKNOWN | Kind.DUPLICATE:
                yield Sheet(TITLES[kind], (*_COMMON, *_ROW), ((*_common(one), *_row(one)) for one in rows), notes)
            case _:
                lines = ((*_common(one), one.position, note(one)) for one in rows)
                yield Sheet(TITLES[kind], (*_COMMON, *_OWN, *_NOTE), lines, notes)


def groups(reckoning: Reckoning) -> list[tuple[tuple[str, str], Counter[Kind]]]:
    """Counts by unit and service, in order."""
    return sorted(reckoning.summary.groups.items())


def note(one: Told) -> str:
    """What an event that is not delivered, or not there, has behind it."""
    parts = [one.reason] if one.reason else []
    if one.at_emc:
        parts.append("EMC đã có sự kiện này")
    elif one.ambiguous:
        parts.append("từng mất câu trả lời; EMC không có sự kiện này")
    return "; ".join(parts)


def _differences(rows: Iterator[Told]) -> Iterator[tuple[Value, ...]]:
    for one in rows:
        for parameter, ours, theirs in one.differing:
            yield (*_common(one), parameter, ours, theirs, *_row(one), one.position)


def _common(one: Told) -> tuple[Value, ...]:
    return one.code, one.status, one.unit, one.service


def _row(one: Told) -> tuple[Value, ...]:
    at = "" if one.at is None else f"{datetime.fromtimestamp(one.at, VIETNAM):%d/%m/%Y %H:%M:%S}"
    return one.number, at

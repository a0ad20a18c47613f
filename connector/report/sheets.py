"""A tally as sheets in Vietnamese, for an official letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from connector.quality.faults import Kind
from connector.report.gathering import Wanted
from connector.report.tally import Group, Tally
from connector.workbook import Column, Sheet, Value

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Kind.NUMBER.value: "Mã hồ sơ sai mẫu",
        Kind.PROCEDURE.value: "Không xác định được thủ tục",
        Kind.UNIT.value: "Thiếu hoặc sai mã đơn vị",
        Kind.VALUE.value: "Thiếu giá trị, hoặc giá trị ngoài hướng dẫn",
        Kind.TWICE.value: "Nhiều hồ sơ cùng một mã",
        Kind.HISTORY.value: "Diễn biến không thể có",
    }
)
UNKNOWN: Final = "(chưa rõ)"
_COUNT = "#,##0"
_COUNTS = (
    Column("Hồ sơ", 10, _COUNT),
    Column("Nộp trực tuyến", 10, _COUNT),
    Column("Toàn trình", 10, _COUNT),
    Column("Toàn trình đã trả kết quả", 14, _COUNT),
    Column("Tính là trực tuyến", 12, _COUNT),
    Column("Tỷ lệ trực tuyến", 11, "0.0%"),
    Column("Không do tiếp nhận", 12, _COUNT),
    Column("Không do trả kết quả", 12, _COUNT),
    Column("Không do thanh toán", 12, _COUNT),
    Column("Chưa đủ dữ kiện", 12, _COUNT),
)
_UNIT, _SERVICE = Column("Đơn vị", 20), Column("Mã thủ tục", 18)
_NAME, _MONTH = Column("Tên thủ tục", 50), Column("Tháng", 10)


@dataclass(frozen=True, slots=True)
class Heading:
    """What the report is of. made: when, as text; dated: the column by which dossiers are dated."""

    name: str
    made: str
    dated: str
    wanted: Wanted
    history: str

    def lines(self) -> list[str]:
        """For the top of each page."""
        period = "toàn bộ"
        if self.wanted.since or self.wanted.until:
            since, until = (f"{day:%d/%m/%Y}" if day else "…" for day in (self.wanted.since, self.wanted.until))
            period = f"từ {since} đến {until}"
        parts = [f"Thời gian: {period} (theo cột {self.dated})"]
        parts += [f"đơn vị: {self.wanted.unit}"] if self.wanted.unit else []
        parts += [f"thủ tục: {self.wanted.service}"] if self.wanted.service else []
        return [f"Báo cáo dữ liệu hồ sơ và tỷ lệ trực tuyến – {self.name} – lập lúc {self.made}", "; ".join(parts)]


def summary(tally: Tally, heading: Heading) -> list[tuple[str, Value, str]]:
    """Lines of the summary: what, value, number format."""
    counts, (total,) = tally.summary, tally.totals("")
    return [
        ("Hồ sơ đã đọc", counts.read, _COUNT),
        ("Hồ sơ thuộc diện báo EMC", counts.told, _COUNT),
        ("Hồ sơ chưa đến lúc báo (chưa tiếp nhận hoặc chưa có mã)", counts.silent, _COUNT),
        ("   trong đó: có bước xử lý mà không có mã hồ sơ", counts.unnumbered, _COUNT),
        ("Hồ sơ nộp trực tuyến", total.received_online, _COUNT),
        ("Hồ sơ dịch vụ công toàn trình (Level 4)", total.full, _COUNT),
        ("   trong đó: đã trả kết quả", total.returned, _COUNT),
        ("   trong đó: tính là trực tuyến", total.online, _COUNT),
        ("Tỷ lệ hồ sơ toàn trình thực hiện trực tuyến", total.share, "0.0%"),
        ("Hồ sơ có lỗi dữ liệu", counts.faulty, _COUNT),
        ("Hồ sơ chưa gửi được vì thiếu dữ kiện", counts.held, _COUNT),
        *((f"Lỗi: {KINDS[kind]}", count, _COUNT) for kind, count in tally.kinds().items()),
        ("Diễn biến hồ sơ", heading.history, "General"),
    ]


def sheets(tally: Tally, heading: Heading) -> Iterator[Sheet]:
    """The whole report."""
    notes = heading.lines()
    yield Sheet("Tổng hợp", (Column("Nội dung", 60), Column("Giá trị", 24)), _summary(tally, heading), notes)
    for title, by, columns in (
        ("Theo đơn vị", "unit", (_UNIT,)),
        ("Theo thủ tục", "service", (_SERVICE, _NAME)),
        ("Theo tháng", "month", (_MONTH,)),
    ):
        yield Sheet(title, (*columns, *_COUNTS), (_of(by, group) for group in tally.totals(by)), notes)
    yield Sheet(
        "Tỷ lệ trực tuyến",
        (_UNIT, _SERVICE, _NAME, _MONTH, *_COUNTS),
        ((*_named(one.unit, one.service), one.name, one.month or UNKNOWN, *counts(one)) for one in tally.groups()),
        notes,
    )
    yield Sheet(
        "Lỗi dữ liệu",
        (
            Column("Loại lỗi", 38),
            Column("Mã hồ sơ", 30),
            Column("Khóa trong CSDL", 16),
            _UNIT,
            _SERVICE,
            _MONTH,
            Column("Tham số", 18),
            Column("Nội dung", 70),
            Column("Quy tắc", 10),
            Column("Chưa gửi được", 10),
        ),
        (
            (
                KINDS[one.kind],
                one.code,
                one.key,
                *_named(one.unit, one.service),
                one.month or UNKNOWN,
                one.parameter,
                one.vi,
                one.rule,
                "x" if one.holds else "",
            )
            for one in tally.faults()
        ),
        notes,
    )
    yield Sheet(
        "Hồ sơ chưa gửi được",
        (Column("Mã hồ sơ", 30), Column("Khóa trong CSDL", 16), _UNIT, _SERVICE, Column("Lý do", 90)),
        ((one.code, one.key, *_named(one.unit, one.service), one.vi) for one in tally.held()),
        notes,
    )


def counts(group: Group) -> tuple[Value, ...]:
    """In the order of the report's columns."""
    return (
        group.dossiers,
        group.received_online,
        group.full,
        group.returned,
        group.online,
        group.share,
        group.by_reception,
        group.by_result,
        group.by_payment,
        group.unsure,
    )


COUNTS: Final = tuple(column.heading for column in _COUNTS)


def _summary(tally: Tally, heading: Heading) -> Iterator[tuple[Value, ...]]:
    for what, value, form in summary(tally, heading):
        yield what, f"{value:.1%}".replace(".", ",") if form == "0.0%" and isinstance(value, float) else value


def _of(by: str, group: Group) -> tuple[Value, ...]:
    first = getattr(group, by) or UNKNOWN
    return (first, *((group.name,) if by == "service" else ()), *counts(group))


def _named(unit: str, service: str) -> tuple[str, str]:
    return unit or UNKNOWN, service or UNKNOWN

"""The columns of EMC's extract: which heading is which parameter, and each value in the one form that is compared.

Pure. The guide names no headings for the extract; the parameters' own names are taken, the Vietnamese ones that
officers use, and those of `reconcile.columns`. Case, signs, spaces and diacritics of a heading do not matter.
Invariant: an event of ours and a row of EMC's that say the same have the same values, whatever wrote them down.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from connector.mapping.moments import VIETNAM

NUMBERS: Final = ("SiteId", "Status", "FormsReception", "FormsPayments", "Level", "IsFromDVCQG", "IsDVCBC", "TYPE")
USER: Final = ("ID_local", "ID_QG", "TYPE", "LOCATION")
COMPARED: Final = (
    *("CodeProfile", "SiteId", "CodeTTHC", "NameTTHC", "Status", "FormsReception", "FormsPayments", "Level"),
    *("IsFromDVCQG", "IsDVCBC", "Data", *USER),
)
"""In the order of the values of an event or a row."""
NEEDED: Final = ("CodeProfile", "Status")
TIME: Final = "Time"
"""EMC's reception time, where the extract tells it."""
WHOLE_USER: Final = "User"

_SPELLINGS: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "CodeProfile": ("Mã hồ sơ", "Số hồ sơ", "MaHoSo"),
        "SiteId": ("Mã website", "Mã cơ quan"),
        "CodeTTHC": ("Mã TTHC", "Mã thủ tục", "Mã thủ tục hành chính"),
        "NameTTHC": ("Tên TTHC", "Tên thủ tục", "Tên thủ tục hành chính"),
        "Status": ("Trạng thái", "Trạng thái hồ sơ"),
        "FormsReception": ("Hình thức tiếp nhận", "Hình thức nhận"),
        "FormsPayments": ("Hình thức thanh toán",),
        "Level": ("Mức độ", "Mức độ DVC"),
        "IsFromDVCQG": ("Từ DVCQG", "Từ Cổng DVCQG"),
        "IsDVCBC": ("Bưu chính", "Bưu chính công ích"),
        "Data": ("Dữ liệu", "Dữ liệu khác"),
        WHOLE_USER: ("Người dùng",),
        "LOCATION": ("Đơn vị", "Mã đơn vị", "Mã định danh đơn vị"),
        TIME: ("Thời gian", "Thời gian tiếp nhận", "Thời gian nhận", "Thời điểm tiếp nhận", "CreatedAt", "ReceivedAt"),
    }
)
KNOWN: Final = (*COMPARED, WHOLE_USER, TIME)
SEPARATOR: Final = "\x1f"
"""In no value."""
_SIGNS = re.compile(r"[^0-9a-z]+")
_NUMBER = re.compile(r"([+-]?[0-9]{1,18})(?:\.0+)?\Z")
_LOCAL = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})(?:[ T,]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?)?\Z")


def folded(heading: str) -> str:
    """A heading without what does not matter."""
    plain = unicodedata.normalize("NFD", heading.casefold().replace("đ", "d"))
    return _SIGNS.sub("", "".join(each for each in plain if not unicodedata.combining(each)))


def spellings(more: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parameter by folded heading; `more` goes first."""
    found: dict[str, str] = {}
    for names in (more, {name: (name, *_SPELLINGS.get(name, ())) for name in KNOWN}):
        for name, headings in names.items():
            for heading in headings:
                found.setdefault(folded(heading), name)
    return found


def text(value: object) -> str:
    """A text without what writing it down may change: composition, line ends, space around it."""
    plain = str(value)
    if not plain.isprintable():
        plain = plain.replace("\r\n", "\n").replace(SEPARATOR, "")
    plain = plain.strip()
    return plain if plain.isascii() else unicodedata.normalize("NFC", plain)


def number(value: object) -> str:
    """A whole number; ValueError when it is none. Empty stays empty."""
    plain = str(value).strip()
    if plain.isdigit() and (len(plain) == 1 or plain[0] != "0") and len(plain) < 19:
        return plain
    told = _NUMBER.match(plain)
    if told is None:
        if plain:
            raise ValueError("not a whole number")
        return ""
    return str(int(told[1]))


def payment(value: object) -> str:
    """The guide's Null is no payment: 0."""
    return "0" if str(value).strip().casefold() in ("", "null") else number(value)


READ: Final[Mapping[str, Callable[[object], str]]] = MappingProxyType(
    {name: payment if name == "FormsPayments" else number if name in NUMBERS else text for name in COMPARED}
)


def moment(value: object) -> float:
    """Seconds since the epoch; what has no zone is Vietnam's time. ValueError when it is no time."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or VIETNAM).timestamp()
    plain = str(value).strip()
    told = _LOCAL.match(plain)
    if told is not None:
        day, month, year, hour, minute, second = (int(part or 0) for part in told.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=VIETNAM).timestamp()
    found = datetime.fromisoformat(plain)
    return found.replace(tzinfo=found.tzinfo or VIETNAM).timestamp()


def of_event(stored: Mapping[str, Any]) -> list[str]:
    """The values of an event of the ledger (its JSON object), all of `COMPARED`."""
    user = stored[WHOLE_USER]
    values = []
    for name in COMPARED:
        value = user[name] if name in USER else stored[name]
        values.append("" if value is None else text(value) if isinstance(value, str) else str(value))
    return values

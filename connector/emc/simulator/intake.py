"""Checks one request to TrackingMCDT against the guide, independently of how emc-cdc writes it. Pure.

Contract: `read` returns the parameters, in the guide's names and as the guide's types, or every fault it found. Form
and JSON bodies are read; names in the guide's case or camel case; numbers may be text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

NUMBERS: dict[str, frozenset[int] | None] = {
    "SiteId": None,
    "Status": frozenset((0, 1, 2, 3)),
    "FormsReception": frozenset((1, 2)),
    "FormsPayments": frozenset((0, 1, 2)),
    "Level": frozenset((0, 3, 4)),
    "IsFromDVCQG": frozenset((0, 1)),
    "IsDVCBC": frozenset((0, 1, 2)),
}
TEXTS = ("CodeProfile", "CodeTTHC", "NameTTHC", "Data")
_NAMES = {name.lower(): name for name in (*NUMBERS, *TEXTS, "User")}
_USER_KEYS = frozenset(("ID_local", "ID_QG", "TYPE", "LOCATION"))
_CODE = re.compile(r"[0-9A-Z]{3}(?:\.[0-9A-Z]{2,3}){3}-[0-9]{6}-[0-9]+")


@dataclass(frozen=True, slots=True)
class Request:
    """What was read. `faults` is empty for a request that the guide allows."""

    parameters: dict[str, object]
    faults: tuple[str, ...]


def read(content_type: str, body: bytes) -> Request:
    """One request body."""
    faults: list[str] = []
    pairs = _pairs(content_type, body, faults)
    values: dict[str, object] = {}
    for key, value in pairs:
        name = _NAMES.get(key.lower())
        if name is None or key not in (name, name[0].lower() + name[1:]):
            faults.append(f"tham số lạ: {key[:40]}")
        elif name in values:
            faults.append(f"{name}: gửi hai lần")
        else:
            values[name] = value
    values.setdefault("FormsPayments", 0)
    if values["FormsPayments"] in ("", None):
        values["FormsPayments"] = 0
    for name in _NAMES.values():
        if name not in values:
            faults.append(f"{name}: thiếu")
    parameters: dict[str, object] = {}
    for name, value in values.items():
        if name in NUMBERS:
            parameters[name] = _number(name, value, faults)
        elif name == "User":
            parameters[name] = _user(value, faults)
        elif not isinstance(value, str):
            faults.append(f"{name}: không phải chuỗi")
        else:
            parameters[name] = value
            if not value.strip() and name != "Data":
                faults.append(f"{name}: rỗng")
    if not faults:
        faults.extend(_together(parameters))
    return Request(parameters, tuple(faults))


def _pairs(content_type: str, body: bytes, faults: list[str]) -> list[tuple[str, object]]:
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        faults.append("thân yêu cầu không phải UTF-8")
        return []
    if kind == "application/json":
        try:
            found = json.loads(text, object_pairs_hook=list)
        except ValueError:
            faults.append("thân yêu cầu không phải JSON")
            return []
        if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
            faults.append("thân yêu cầu không phải một đối tượng JSON")
            return []
        return found
    if kind == "application/x-www-form-urlencoded":
        try:
            return [(key, value) for key, value in parse_qsl(text, keep_blank_values=True, errors="strict")]
        except ValueError:
            faults.append("thân yêu cầu không phải dạng biểu mẫu")
            return []
    faults.append(f"Content-Type lạ: {kind[:60] or 'không có'}")
    return []


def _number(name: str, value: object, faults: list[str]) -> object:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        faults.append(f"{name}: không phải số nguyên")
        return value
    allowed = NUMBERS[name]
    if allowed is not None and value not in allowed:
        faults.append(f"{name}: {value} không thuộc {sorted(allowed)}")
    if name == "SiteId" and value < 1:
        faults.append("SiteId: phải là số dương")
    return value


def _user(value: object, faults: list[str]) -> object:
    if not isinstance(value, str):
        faults.append("User: không phải chuỗi JSON")
        return value
    try:
        user = json.loads(value)
    except ValueError:
        user = None
    if not isinstance(user, dict):
        faults.append("User: không phải chuỗi JSON của một đối tượng")
        return value
    for key in user.keys() - _USER_KEYS:
        faults.append(f"User: khóa lạ {key[:40]}")
    kind = user.get("TYPE")
    if kind not in (1, 2, 3) or isinstance(kind, bool):
        faults.append("User: TYPE phải là 1, 2 hoặc 3")
    wanted = {1: ("ID_local",), 2: ("ID_QG",), 3: ("ID_local", "ID_QG")}.get(kind, ()) if isinstance(kind, int) else ()
    given = [key for key in ("ID_local", "ID_QG") if user.get(key)]
    if len(given) != 1 or given[0] not in wanted:
        faults.append("User: phải có đúng một định danh hợp với TYPE")
    location = user.get("LOCATION")
    if not isinstance(location, str) or not location.strip():
        faults.append("User: thiếu LOCATION")
    return user


def _together(parameters: dict[str, object]) -> list[str]:
    """The guide's notes on parameters that depend on each other."""
    faults = []
    status, reception = parameters["Status"], parameters["FormsReception"]
    if parameters["Level"] == 0 and status != 3 and reception != 2:
        faults.append("Level = 0 thì FormsReception phải là 2")
    if parameters["IsDVCBC"] != 0 and (status != 3 or reception != 1):
        faults.append("IsDVCBC 1, 2 chỉ đi với Status = 3 và FormsReception = 1")
    if parameters["FormsPayments"] != 0 and status != 3:
        faults.append("FormsPayments 1, 2 chỉ đi với Status = 3")
    if not _CODE.fullmatch(str(parameters["CodeProfile"])):
        faults.append("CodeProfile: không đúng dạng mã hồ sơ")
    return faults

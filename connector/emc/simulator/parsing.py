"""A request's body → the guide's parameters, strictly. Pure; shares no code with `connector.emc.wire`.

Contract: `parse` takes any bytes and never fails: what is wrong comes back as objections. It allows exactly what the
guide leaves open: a form or JSON, names in the guide's case or in camel case (not mixed), `User` or `user`, numbers as
text, and the Null of FormsPayments as nothing, as null or left out. Everything else is required, once, and of the
guide's type. Whether the values make sense together is not its business (`examination`).

Objections have ids of their own (REQ-…, docs/emc.md) and never hold a value.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from connector.emc.event import EmcEvent, EmcUser

TEXTS = ("CodeProfile", "CodeTTHC", "NameTTHC", "Data")
NUMBERS = ("SiteId", "Status", "FormsReception", "FormsPayments", "Level", "IsFromDVCQG", "IsDVCBC")
USER = "User"
GUIDE = (
    "CodeProfile",
    "SiteId",
    "CodeTTHC",
    "NameTTHC",
    "Status",
    "FormsReception",
    "FormsPayments",
    "Level",
    "IsFromDVCQG",
    "IsDVCBC",
    "Data",
    USER,
)
CAMEL = {
    "codeProfile": "CodeProfile",
    "siteId": "SiteId",
    "codeTTHC": "CodeTTHC",
    "nameTTHC": "NameTTHC",
    "status": "Status",
    "formsReception": "FormsReception",
    "formsPayments": "FormsPayments",
    "level": "Level",
    "isFromDVCQG": "IsFromDVCQG",
    "isDVCBC": "IsDVCBC",
    "data": "Data",
    "user": USER,
}
_USER_KEYS = ("ID_local", "ID_QG", "TYPE", "LOCATION")

_WHOLE_NUMBER = re.compile(r"(?:0|-?[1-9][0-9]{0,17})\Z")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNESCAPED_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing that is wrong with a request: a rule's id, the parameter (empty: the body as a whole), both texts."""

    rule: str
    parameter: str
    vi: str
    en: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a request says. `parameters` are by the guide's names, as far as they could be read.

    event: all of them, typed; None exactly when there are objections.
    """

    parameters: dict[str, Any]
    event: EmcEvent | None
    objections: tuple[Objection, ...]


class _Wrong(Exception):
    """Why the body as a whole cannot be read."""

    def __init__(self, rule: str, vi: str, en: str) -> None:
        super().__init__(en)
        self.objection = Objection(rule, "", vi, en)


def parse(content_type: str, body: bytes) -> Parsed:
    """Read a request. `content_type` is the header's value, empty when there is none."""
    try:
        pairs = _pairs(content_type, body)
    except _Wrong as wrong:
        return Parsed({}, None, (wrong.objection,))
    objections: list[Objection] = []
    values = _named(pairs, objections)
    for name in GUIDE:
        if name not in values and name != "FormsPayments":
            objections.append(Objection("REQ-05", name, f"Thiếu tham số {name}", f"the parameter {name} is missing"))
    parameters: dict[str, Any] = {}
    for name, value in values.items():
        if name == USER:
            parameters[name] = _user(value, objections)
        elif name in TEXTS:
            parameters[name] = _text(name, value, objections)
        else:
            parameters[name] = _number(name, value, objections)
    if objections:
        return Parsed(parameters, None, tuple(objections))
    parameters.setdefault("FormsPayments", 0)
    user = parameters[USER]
    typed = EmcUser(user.get("ID_local"), user.get("ID_QG"), user["TYPE"], user["LOCATION"])
    return Parsed(parameters, EmcEvent(**{**parameters, USER: typed}), ())


def _pairs(content_type: str, body: bytes) -> list[tuple[str, Any]]:
    media, _, rest = content_type.partition(";")
    charset = rest.partition("charset=")[2].partition(";")[0].strip().strip('"')
    if charset.lower() not in ("", "utf-8", "utf8"):
        raise _Wrong("REQ-03", "Bảng mã phải là UTF-8", "the charset must be UTF-8")
    match media.strip().lower():
        case "application/x-www-form-urlencoded":
            return _form(body)
        case "application/json":
            return _json(body)
    raise _Wrong(
        "REQ-02",
        "Content-Type phải là application/x-www-form-urlencoded hoặc application/json",
        "the Content-Type must be application/x-www-form-urlencoded or application/json",
    )


def _form(body: bytes) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for part in body.split(b"&"):
        key, equals, value = part.partition(b"=")
        if not equals:
            raise _Wrong("REQ-04", "Thân yêu cầu không phải là biểu mẫu", "the body is not a form")
        pairs.append((_unescaped(key), _unescaped(value)))
    return pairs


def _unescaped(part: bytes) -> str:
    if _UNESCAPED_PERCENT.search(part) or not part.isascii():
        raise _Wrong("REQ-04", "Biểu mẫu mã hóa phần trăm không đúng", "the form's percent encoding is wrong")
    plain = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), part.replace(b"+", b" "))
    return _utf8(plain)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _Wrong("REQ-03", "Dữ liệu không phải là UTF-8", "the data is not UTF-8") from None


def _json(body: bytes) -> list[tuple[str, Any]]:
    found = _object(_utf8(body))
    if found is None:
        raise _Wrong("REQ-04", "Thân yêu cầu không phải là một đối tượng JSON", "the body is not a JSON object")
    return found


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands in the text, repeated keys and all."""


def _object(text: str) -> _Pairs | None:
    """The outermost JSON object of a text; None when it is not one. NaN and Infinity are not JSON."""

    def no_constant(_: str) -> Any:
        raise ValueError

    try:
        found = json.loads(text, object_pairs_hook=_Pairs, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, _Pairs) else None


def _named(pairs: list[tuple[str, Any]], objections: list[Objection]) -> dict[str, Any]:
    """The values by the guide's names; each name once, all in one case."""
    values: dict[str, Any] = {}
    in_guide = in_camel = False
    for key, value in pairs:
        name = key if key in GUIDE else CAMEL.get(key)
        if name is None:
            objections.append(
                Objection("REQ-06", "", "Có tham số không có trong hướng dẫn", "a parameter is not in the guide")
            )
            continue
        # The guide itself writes both User and user, so `user` goes with either case.
        in_guide |= key in GUIDE
        in_camel |= key not in GUIDE and name != USER
        if name in values:
            objections.append(
                Objection("REQ-07", name, f"Tham số {name} bị lặp lại", f"the parameter {name} is repeated")
            )
            continue
        values[name] = value
    if in_guide and in_camel:
        objections.append(
            Objection("REQ-09", "", "Tên tham số lẫn hai kiểu chữ hoa, thường", "parameter names mix two cases")
        )
    return values


def _text(name: str, value: Any, objections: list[Objection]) -> str | None:
    if not isinstance(value, str):
        objections.append(Objection("REQ-08", name, f"{name} phải là chuỗi", f"{name} must be a string"))
        return None
    if not all(map(_sayable, value)):
        objections.append(
            Objection(
                "REQ-10",
                name,
                f"{name} có ký tự điều khiển hoặc ký tự hỏng",
                f"{name} holds control characters or broken ones",
            )
        )
    return "".join(character if _sayable(character) else "\ufffd" for character in value)


def _sayable(character: str) -> bool:
    return character != "\ufffd" and unicodedata.category(character) not in ("Cc", "Cs")


def _number(name: str, value: Any, objections: list[Objection]) -> int | None:
    if name == "FormsPayments" and (value is None or value == ""):
        return 0
    if isinstance(value, str) and _WHOLE_NUMBER.match(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return value
    objections.append(Objection("REQ-08", name, f"{name} phải là số nguyên", f"{name} must be a whole number"))
    return None


def _user(value: Any, objections: list[Objection]) -> dict[str, Any] | None:
    pairs = _object(value) if isinstance(value, str) else None
    if pairs is None:
        objections.append(
            Objection(
                "REQ-11",
                USER,
                "User phải là chuỗi chứa một đối tượng JSON",
                "User must be a string that holds a JSON object",
            )
        )
        return None
    user: dict[str, Any] = {}
    for key, part in pairs:
        if key not in _USER_KEYS or key in user:
            objections.append(
                Objection(
                    "REQ-12",
                    USER,
                    "User chỉ gồm ID_local hoặc ID_QG, TYPE, LOCATION, mỗi khóa một lần",
                    "User has only ID_local or ID_QG, TYPE and LOCATION, each once",
                )
            )
        elif key == "TYPE":
            user[key] = part if isinstance(part, int) and not isinstance(part, bool) else None
            if user[key] is None:
                objections.append(Objection("REQ-08", USER, "TYPE phải là số nguyên", "TYPE must be a whole number"))
        else:
            user[key] = _text(f"User.{key}", part, objections)
    for key in ("TYPE", "LOCATION"):
        if key not in user:
            objections.append(Objection("REQ-05", USER, f"User thiếu {key}", f"{key} is missing in User"))
    return user

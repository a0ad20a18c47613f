"""An event as the body of a request: a form (default) or JSON, in the variants that the guide leaves open.

Pure. What varies is a setting (docs/emc.md, "Open points"); what does not is the guide's: the twelve parameters, text
in UTF-8, and User as a JSON text of its own, also inside a JSON body.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from connector.emc.event import EmcEvent, EmcUser
from connector.settings import EmcSettings


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body and its Content-Type."""

    content_type: str
    content: bytes


# Made once: json.dumps makes an encoder at every call.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

PARAMETERS = (
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
    "User",
)
"""In the guide's order."""


def encode(event: EmcEvent, settings: EmcSettings) -> Body:
    """The body of the POST that tells EMC of this event."""
    values: dict[str, str | int | None] = {}
    for name in PARAMETERS:
        value: str | int | None = user_json(event.User) if name == "User" else getattr(event, name)
        if name == "FormsPayments" and value == 0 and settings.null_payment != "zero":
            if settings.null_payment == "omit":
                continue
            value = None
        values[_key(name, settings)] = value
    if settings.encoding == "form":
        text = urlencode({key: "" if value is None else value for key, value in values.items()})
        return Body("application/x-www-form-urlencoded; charset=utf-8", text.encode("ascii"))
    if settings.numbers == "string":
        values = {key: None if value is None else str(value) for key, value in values.items()}
    return Body("application/json; charset=utf-8", _json(values).encode())


def user_json(user: EmcUser) -> str:
    """The User parameter: a JSON text with the identifier its TYPE asks for, written as in the guide's samples."""
    parts: dict[str, str | int | None] = {}
    if user.ID_local is not None:
        parts["ID_local"] = user.ID_local
    if user.ID_QG is not None:
        parts["ID_QG"] = user.ID_QG
    parts |= {"TYPE": user.TYPE, "LOCATION": user.LOCATION}
    return _json(parts)


def _key(name: str, settings: EmcSettings) -> str:
    if settings.key_case == "camel":
        return name[0].lower() + name[1:]
    return settings.user_key if name == "User" else name

"""An event as the body of a request: form (default) or JSON, in the variants the guide leaves open (docs/emc.md).

Pure. What varies is a setting; what does not is the guide's.
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
    values: dict[str, str | int] = {}
    for name in PARAMETERS:
        value = user_json(event.User) if name == "User" else getattr(event, name)
        key = settings.user_key if name == "User" else name
        if settings.key_case == "camel":
            key = key[0].lower() + key[1:]
        if name == "FormsPayments" and value == 0:
            if settings.null_payment == "omit":
                continue
            if settings.null_payment == "empty":
                value = ""
        values[key] = value
    if settings.encoding == "form":
        return Body("application/x-www-form-urlencoded; charset=utf-8", urlencode(values).encode())
    if settings.numbers == "string":
        values = {key: str(value) for key, value in values.items()}
    body: dict[str, str | int | None] = {
        key: None if value == "" and key.lower() == "formspayments" else value for key, value in values.items()
    }
    return Body("application/json; charset=utf-8", json.dumps(body, ensure_ascii=False).encode())


def user_json(user: EmcUser) -> str:
    """The User parameter: a JSON text with the one identifier its TYPE asks for."""
    parts: dict[str, str | int] = {}
    if user.ID_local is not None:
        parts["ID_local"] = user.ID_local
    if user.ID_QG is not None:
        parts["ID_QG"] = user.ID_QG
    parts |= {"TYPE": user.TYPE, "LOCATION": user.LOCATION}
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))

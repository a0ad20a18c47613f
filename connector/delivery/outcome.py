"""What an answer of EMC, or the lack of one, means: one pure function for each.

An outcome is `ambiguous` when EMC may have taken the event although we do not know it: only then may a push be repeated
that had been accepted (promise 3). What the configuration gets wrong (address, credentials, a redirect) is a Retry that
asks for a person, never a rejection of dossiers.

| answer                                             | outcome                                              |
|----------------------------------------------------|------------------------------------------------------|
| 2xx                                                | Delivered, unless `emc.failure_field` says otherwise |
| 2xx whose body says failure (failure_field, values)| Reject                                               |
| 2xx with an HTML page, or without the JSON promised| Retry, ambiguous, for a person: whose page is it?    |
| 3xx                                                | Retry, for a person; never followed                  |
| 401, 403, 404, 405, 407                            | Retry, for a person: the configuration is wrong      |
| 408, 425, 500, 501, 503, 505 and above             | Retry                                                |
| 429, and 503 with Retry-After                      | Retry, and all pushes pause                          |
| 502, 504                                           | Retry, ambiguous: a gateway lost EMC's answer        |
| other 4xx                                          | Reject                                               |
| no connection, TLS refused                         | Retry                                                |
| no answer after the request was begun              | Retry, ambiguous                                     |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from connector.settings import EmcSettings

LONGEST_RETRY_AFTER = 3600.0
"""Seconds; a server that asks for more is asked again after this."""
_LONGEST_DETAIL = 300

# Answers that speak of our configuration, not of the dossier.
_CONFIGURATION = {
    401: "not authorised",
    403: "forbidden",
    404: "no such address",
    405: "method refused",
    407: "a proxy wants a password",
}
_MAYBE_TAKEN = frozenset((502, 504))
_TRY_LATER = frozenset((408, 425, 429))


@dataclass(frozen=True, slots=True)
class Delivered:
    """EMC has it."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again. after: seconds EMC asked to wait (None: our own backoff); everyone: pause all pushes, not only this.

    operator: set when only a person can mend it; says what to do.
    """

    reason: str
    ambiguous: bool = False
    after: float | None = None
    everyone: bool = False
    operator: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """EMC will never take this event as it is: its dossier is parked.

    detail: EMC's own words, which may repeat what we sent: for the state file, not for log lines.
    """

    reason: str
    detail: str = ""


Outcome = Delivered | Retry | Reject


def of_answer(status: int, headers: Mapping[str, str], body: bytes, settings: EmcSettings, now: float) -> Outcome:
    """The meaning of an HTTP answer. `headers` by lower-case name; `now`: seconds since the epoch."""
    if 200 <= status < 300:
        return _success(headers, body, settings)
    if 300 <= status < 400:
        return Retry(
            f"HTTP {status}: a redirect, which is never followed", operator="set emc.url to EMC's real address"
        )
    if status in _CONFIGURATION:
        return Retry(f"HTTP {status}: {_CONFIGURATION[status]}", operator="check emc.url and emc.headers")
    if status in _TRY_LATER or status >= 500 or status < 200:
        after = _retry_after(headers.get("retry-after"), now)
        everyone = status == 429 or (status == 503 and after is not None)
        return Retry(f"HTTP {status}", ambiguous=status in _MAYBE_TAKEN, after=after, everyone=everyone)
    return Reject(f"HTTP {status}", _one_line(body))


def of_failure(reason: str, sent: bool, operator: str = "") -> Retry:
    """The meaning of an attempt without an answer. `sent`: the request may have reached EMC."""
    return Retry(reason, ambiguous=sent, operator=operator)


def _success(headers: Mapping[str, str], body: bytes, settings: EmcSettings) -> Outcome:
    if headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
        # A proxy's or portal's page says nothing about the event.
        return Retry(
            "HTTP 2xx with an HTML page instead of EMC's answer",
            ambiguous=True,
            operator="check emc.url: a portal's or proxy's page answers there",
        )
    field = settings.failure_field
    if field is None or not body.strip():
        return Delivered()
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Retry(
            "HTTP 2xx with a body that is not the JSON that emc.failure_field promises",
            ambiguous=True,
            operator="check emc.url, and emc.failure_field against EMC's answers",
        )
    value = answer.get(field) if isinstance(answer, dict) else None
    told = value if isinstance(value, str) else json.dumps(value)
    if told in settings.failure_values:
        return Reject(f"EMC answered that {field} is {told}", _one_line(body))
    return Delivered()


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait (RFC 9110, section 10.2.3): a number of seconds, or a date."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def _one_line(body: bytes) -> str:
    """The beginning of EMC's explanation, on one line."""
    return " ".join(body[: _LONGEST_DETAIL * 4].decode(errors="replace").split())[:_LONGEST_DETAIL]

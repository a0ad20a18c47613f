"""What an answer of EMC, or the lack of one, means: one pure function for each.

An outcome is `ambiguous` when EMC may have taken the event although we do not know it: only then may a push be repeated
that had been accepted (promise 3). What the configuration gets wrong (address, credentials, a redirect) is a Retry that
asks for a person, never a rejection of dossiers.
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

# Answers that speak of our configuration, not of the dossier.
_CONFIGURATION = {
    401: "not authorised",
    403: "forbidden",
    404: "no such address",
    405: "method refused",
    407: "a proxy",
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
    """EMC will never take this event as it is: its dossier is parked."""

    reason: str


Outcome = Delivered | Retry | Reject


def of_answer(status: int, headers: Mapping[str, str], body: bytes, settings: EmcSettings, now: float) -> Outcome:
    """The meaning of an HTTP answer. `headers` by lower-case name; `now`: seconds since the epoch."""
    if 200 <= status < 300:
        return _success(headers, body, settings)
    if 300 <= status < 400:
        return Retry(
            f"HTTP {status}: a redirect, which is never followed",
            everyone=True,
            operator="set emc.url to EMC's real address",
        )
    if status in _CONFIGURATION:
        return Retry(
            f"HTTP {status}: {_CONFIGURATION[status]}", everyone=True, operator="check emc.url and emc.headers"
        )
    if status in _TRY_LATER or status >= 500:
        after = _retry_after(headers.get("retry-after"), now)
        return Retry(
            f"HTTP {status}", ambiguous=status in _MAYBE_TAKEN, after=after, everyone=after is not None or status == 429
        )
    return Reject(f"HTTP {status}: {_excerpt(body)}".rstrip(": "))


def of_failure(kind: str, sent: bool) -> Retry:
    """The meaning of an attempt without an answer. `sent`: the request may have reached EMC."""
    return Retry(kind, ambiguous=sent)


def _success(headers: Mapping[str, str], body: bytes, settings: EmcSettings) -> Outcome:
    if settings.failure_field is None:
        if headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
            # A proxy's or portal's page says nothing about the event.
            return Retry("HTTP 2xx with an HTML page instead of EMC's answer", ambiguous=True)
        return Delivered()
    try:
        answer = json.loads(body)
        value = answer.get(settings.failure_field) if isinstance(answer, dict) else None
    except ValueError:
        return Retry("HTTP 2xx with a body that is not JSON", ambiguous=True)
    told = json.dumps(value) if isinstance(value, bool) or value is None else str(value)
    if told in settings.failure_values:
        return Reject(f"EMC answered {settings.failure_field} = {told}")
    return Delivered()


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    text = value.strip()
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0), LONGEST_RETRY_AFTER)


def _excerpt(body: bytes) -> str:
    """The beginning of EMC's explanation, on one line."""
    return " ".join(body[:300].decode(errors="replace").split())

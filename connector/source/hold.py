"""What keeps capture at its place (the mapping does not fit, a record is too large), kept in its index for `status`.

Contract: a hold stands at an LSN; it is over as soon as something after that is confirmed, so nobody has to end it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from connector.errors import ConnectorError

HELD = "held"
"""The index's memory of the last hold."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why, how it ends, since when (RFC 3339, UTC), and the LSN that waits."""

    subject: str
    cause: str
    mend: str
    since: str
    lsn: int


def hold_text(error: ConnectorError, lsn: int, meta: Mapping[str, str]) -> dict[str, str]:
    """What is to be remembered; one that goes on for another reason has begun when it began."""
    before = read_hold(meta)
    since = datetime.now(UTC).isoformat(timespec="seconds") if before is None else before.since
    hold = Hold(error.subject, error.cause, error.mend, since, lsn)
    return {HELD: json.dumps(asdict(hold), ensure_ascii=False)}


def read_hold(meta: Mapping[str, str]) -> Hold | None:
    """The hold that there is now, if any, from what the index remembers."""
    if HELD not in meta:
        return None
    hold = Hold(**json.loads(meta[HELD]))
    return hold if int(meta["confirmed"]) <= hold.lsn else None

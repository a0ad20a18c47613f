"""The ledger as a whole, for who compares it with somebody else's records.

Contract: files are opened read-only, also while a deliver process uses them; each is seen as of one moment.
DeliveryError when a file cannot be read, or when there is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from connector.delivery.directory import partition_files
from connector.delivery.state import broken, read_only
from connector.errors import DeliveryError
from connector.settings import Settings

_EVENTS = (
    "SELECT event, state, attempts, ambiguous, position || '#' || ordinal, commit_time_us / 1e6, sent_at, ended_at,"
    " reason FROM events WHERE commit_time_us < ?1 AND (ended_at IS NULL OR ended_at >= ?2) ORDER BY id"
)
_MADE = "SELECT 1 FROM sqlite_master WHERE name = 'events_recovered'"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event. event: its JSON; position: with the ordinal, its name; the times are seconds since the epoch."""

    event: str
    state: str
    attempts: int
    ambiguous: int
    position: str
    committed: float
    sent: float | None
    ended: float | None
    reason: str


def events(settings: Settings, since: float, until: float) -> Iterator[Recorded]:
    """Events that were owed before `until` and not ended before `since`; those of a dossier in order."""
    files = partition_files(settings.delivery.state, settings.name)
    if not files:
        raise DeliveryError(
            "read the ledger",
            str(settings.delivery.state),
            "no deliver process has kept a ledger here",
            "run this where emc-cdc deliver runs, or set delivery.state to its directory",
        )
    for _, path in files:
        try:
            with closing(read_only(path)) as db:
                if db.execute(_MADE).fetchone() is not None:
                    for row in db.execute(_EVENTS, (int(until * 1e6), since)):
                        yield Recorded(*row)
        except sqlite3.Error as error:
            raise broken(path, error) from error

"""What the state files say, read from the outside, also while a deliver process works.

Contract: opens the files read-only and changes nothing; a file that cannot be read raises DeliveryError.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from connector.delivery.directory import partition_path
from connector.delivery.state import broken
from connector.errors import DeliveryError
from connector.settings import Settings

_MOST_LISTED = 100

# Counts by state, and what is not known of attempts.
_COUNTS = "SELECT state, count(*), sum(ambiguous), min(commit_time_us) FROM events GROUP BY state"
# The first parked event of each dossier is the one that was rejected.
_PARKED = "SELECT code, reason, min(id) FROM events WHERE state = 'parked' GROUP BY dossier ORDER BY 3 LIMIT ?"
_HELD = "SELECT code, reason FROM held ORDER BY since LIMIT ?"
_OFFSET = "SELECT value FROM meta WHERE name = 'offset'"


def status(settings: Settings) -> dict[str, Any]:
    """Offsets, what waits and how long, what is parked or held, per partition. DeliveryError when there is no state."""
    partitions = [_partition(path, number) for number, path in _files(settings)]
    return {
        "partitions": partitions,
        **{name: sum(one[name] for one in partitions) for name in ("waiting", "delivered", "ambiguous")},
    }


def ambiguous_attempts(settings: Settings) -> int:
    """Attempts on record that EMC may have taken without our hearing of it."""
    return int(status(settings)["ambiguous"])


def _files(settings: Settings) -> list[tuple[int, Path]]:
    directory, name = settings.delivery.state, settings.name
    found: list[tuple[int, Path]] = []
    while (path := partition_path(directory, name, len(found))).exists():
        found.append((len(found), path))
    if not found:
        raise DeliveryError(
            "read the delivery state", str(directory), "there is none", "start `emc-cdc run` or `emc-cdc deliver`"
        )
    return found


def _partition(path: Path, number: int) -> dict[str, Any]:
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0) as db:
            offset = db.execute(_OFFSET).fetchone()
            counts = {state: (count, ambiguous, oldest) for state, count, ambiguous, oldest in db.execute(_COUNTS)}
            parked = [{"code": code, "reason": reason} for code, reason, _ in db.execute(_PARKED, (_MOST_LISTED,))]
            held = [{"code": code, "reason": reason} for code, reason in db.execute(_HELD, (_MOST_LISTED,))]
        db.close()
    except sqlite3.Error as error:
        raise broken(path, error) from error
    waiting = [counts[state] for state in ("waiting", "sent") if state in counts]
    oldest = min((one[2] for one in waiting), default=None)
    return {
        "partition": number,
        "offset": int(offset[0]) if offset else 0,
        "waiting": sum(one[0] for one in waiting),
        "oldest_waiting_seconds": None if oldest is None else round(time.time() - oldest / 1e6, 1),
        "delivered": counts.get("delivered", (0,))[0],
        "ambiguous": sum(one[1] for one in counts.values()),
        "parked": parked,
        "held": held,
    }

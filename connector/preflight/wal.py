"""Rules on the WAL that a slot holds back while the connector is away (pure).

| check | asks |
|---|---|
| PG-09 | how many hours of our absence the WAL bound lasts, at the rate that was measured |
| PG-31 | what our slot holds back now, and how many hours are left of the bound |
| PG-32 | a slot that waits is not invalidated for being idle (18 and later) |
| PG-44 | the disk has space for what may be held back: SQL does not tell, the command does |

`lasting` is for any bound: the server's max_slot_wal_keep_size, and a budget of the connector's own, which acts
earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from connector.finding import Finding, Severity, ok
from connector.preflight.surroundings import Wal

_ENOUGH_HOURS = 24.0
"""Less is not a night and the morning in which somebody comes to mend it."""
_WISHED_HOURS = 72.0
"""A weekend."""
_GIB = 1 << 30
_HOUR = 3600.0


def check_wal(wal: Wal, slot: str, others: Sequence[str], budget: int | None) -> list[Finding]:
    """PG-09, PG-31 and PG-32. others: other slots, which the same settings hold for; budget: source.wal_budget."""
    return [*_bound(wal), *_budget(wal, budget), *_retained(wal, slot), _idle(wal, slot, others)]


def lasting(name: str, bound: int, wal: Wal) -> tuple[float, str]:
    """How many hours `bound` bytes last from nothing, and the sentence that says so with its basis."""
    rate, basis = _rate(wal)
    hours = bound / rate / _HOUR if rate else float("inf")
    return hours, f"{name} of {_bytes(bound)} lasts for {_hours(hours)} of our absence ({basis})"


def _rate(wal: Wal) -> tuple[float, str]:
    """The faster of what is written on the average and what is written now; the basis in words."""
    now = f"{_bytes(wal.now)}/s in the {wal.watched:.1f} s of this check"
    if wal.mean is None or not wal.counted:
        return wal.now, f"WAL grew by {now}; a busier hour would be shorter"
    mean = f"{_bytes(wal.mean)}/s on the average of {_duration(wal.counted)} (pg_stat_wal)"
    return max(wal.now, wal.mean), f"WAL grew by {mean}, {now}; the faster counts"


def _bound(wal: Wal) -> list[Finding]:
    """PG-07 tells of a server without a bound."""
    subject = "max_slot_wal_keep_size"
    if wal.bound is None:
        return []
    hours, what = lasting(subject, wal.bound, wal)
    if hours >= _ENOUGH_HOURS:
        return [ok("PG-09", "WAL", what)]
    mend = (
        f"ALTER SYSTEM SET {subject} = '{_wished(wal)}';"
        f"  -- {_WISHED_HOURS:.0f} hours; less than what is free on the disk",
        "SELECT pg_reload_conf();",
    )
    what += "; a longer one costs the slot, and the tables must be read anew"
    return [Finding("PG-09", Severity.WARNING, "WAL", what, mend, "dba")]


def _budget(wal: Wal, budget: int | None) -> list[Finding]:
    if budget is None:
        return []
    hours, what = lasting("source.wal_budget", budget, wal)
    if wal.bound is not None and budget >= wal.bound:
        mend = ("source.wal_budget: less than max_slot_wal_keep_size, so that it acts before the slot is lost",)
        return [Finding("PG-09", Severity.WARNING, "source.wal_budget", what, mend, "operator")]
    if hours >= _ENOUGH_HOURS:
        return [ok("PG-09", "source.wal_budget", what)]
    mend = (f"source.wal_budget: {_wished(wal)}  # {_WISHED_HOURS:.0f} hours; less than what is free on the disk",)
    return [Finding("PG-09", Severity.WARNING, "source.wal_budget", what, mend, "operator")]


def _wished(wal: Wal) -> str:
    """What lasts for a weekend, as PostgreSQL and our settings write sizes."""
    return f"{max(ceil(_rate(wal)[0] * _WISHED_HOURS * _HOUR / _GIB), 1)}GB"


def _retained(wal: Wal, slot: str) -> list[Finding]:
    if wal.retained is None:
        return []
    subject, held = f"slot {slot}", f"it holds back {_bytes(wal.retained)} of WAL"
    if wal.safe is None:
        return [ok("PG-31", subject, f"{held}, without a bound")]
    rate, _ = _rate(wal)
    hours = max(wal.safe, 0) / rate / _HOUR if rate else float("inf")
    what = f"{held}; {_bytes(max(wal.safe, 0))} are left, which last for {_hours(hours)}"
    if hours >= 1.0:
        return [ok("PG-31", subject, what)]
    mend = ("emc-cdc capture  -- start it now, or raise max_slot_wal_keep_size",)
    return [Finding("PG-31", Severity.WARNING, subject, what, mend, "operator")]


def _idle(wal: Wal, slot: str, others: Sequence[str]) -> Finding:
    subject = "idle_replication_slot_timeout"
    if wal.idle_timeout is None:
        return ok("PG-32", subject, "a slot that waits is not invalidated for being idle")
    also = f"; it holds for these slots, too: {', '.join(others)}" if others else ""
    what = f"an absence of {_duration(wal.idle_timeout)} would invalidate {slot}{also}"
    mend = (f"ALTER SYSTEM SET {subject} = 0;", "SELECT pg_reload_conf();")
    return Finding("PG-32", Severity.WARNING, subject, what, mend, "dba")


def check_disk(wal: Wal) -> Finding:
    """PG-44."""
    directory = wal.directory or "<data_directory>"
    what = "free space cannot be seen through SQL"
    if wal.size is not None:
        what += f"; pg_wal has {_bytes(wal.size)} now"
    if wal.bound is not None:
        what += f"; while we are away it may grow by {_bytes(wal.bound)}"
    mend: tuple[str, ...] = (f"df -h {directory}/pg_wal  -- on the database's host",)
    if wal.directory is None:
        mend = ("SHOW data_directory;", *mend)
    return Finding("PG-44", Severity.UNKNOWN, "disk", what, mend, "dba")


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1 << 40), ("GB", _GIB), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _hours(hours: float) -> str:
    if hours >= 24 * 365:
        return "more than a year"
    if hours >= 72:
        return f"{hours / 24:.0f} days"
    return f"{hours:.1f} hours"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

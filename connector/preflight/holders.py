"""Rules on transactions that hold up a slot (pure).

| check | asks |
|---|---|
| PG-33 | no open or prepared transaction keeps the slot from being made, or WAL from being removed |

A slot can be made only when every transaction that has written, in any database of the server, and was open at that
moment has ended (PostgreSQL section 49.2.1); capture gives up after a bounded wait, and leaves no slot. Once the slot
is there, such a transaction only holds WAL back.
"""

from __future__ import annotations

from connector.catalog.identifier import literal
from connector.finding import Finding, Severity, ok
from connector.preflight.surroundings import Holder, Surroundings

_OLD_SECONDS = 30.0
"""How long capture waits with the making of a slot."""


def check_holders(around: Surroundings, slot: str, *, exists: bool) -> list[Finding]:
    """PG-33, one finding for each that lasted through the look."""
    subject = f"slot {slot}"
    findings = [_holder(holder, exists=exists) for holder in around.holders]
    hidden = "" if around.sees_all else ", as far as can be seen without pg_read_all_stats"
    return findings or [ok("PG-33", subject, f"no transaction holds it up{hidden}")]


def _holder(holder: Holder, *, exists: bool) -> Finding:
    harm = "WAL cannot be removed before it ends" if exists else "the slot cannot be made before it ends"
    where = f"database {holder.database}, role {holder.role}"
    if holder.pid is None:
        what = f"prepared {_age(holder.age)} ago and not committed ({where}): {harm}"
        mend: tuple[str, ...] = (
            f"\\connect {holder.database}",
            f"COMMIT PREPARED {literal(holder.name)};  -- or ROLLBACK PREPARED, as its application says",
        )
        return Finding("PG-33", Severity.WARNING, f"prepared transaction {holder.name}", what, mend, "dba")
    subject = f"server process {holder.pid}"
    named = f"{where}, {holder.name}" if holder.name else where
    if holder.age is None:
        what = f"an open transaction that has written ({named}): {harm}; its age is hidden without pg_read_all_stats"
    else:
        what = f"a transaction that has written is open for {_age(holder.age)} ({named}): {harm}"
    young = holder.age is not None and holder.age < _OLD_SECONDS
    if young or not holder.role:  # autovacuum has no role, and ends by itself
        return Finding("PG-33", Severity.NOTE, subject, what)
    asked = f"SELECT xact_start, state, query FROM pg_stat_activity WHERE pid = {holder.pid};"  # noqa: S608 - a number
    mend = (asked, f"SELECT pg_terminate_backend({holder.pid});  -- if it was forgotten: its work is rolled back")
    return Finding("PG-33", Severity.WARNING, subject, what, mend, "dba")


def _age(seconds: float | None) -> str:
    minutes = (seconds or 0.0) / 60
    if minutes >= 120:
        return f"{minutes / 60:.0f} hours"
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds or 0.0:.0f} s"

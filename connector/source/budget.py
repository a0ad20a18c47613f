"""Whether our slot holds back too much WAL, on whose account, and what is to be done about it (pure).

Contract: `judge` decides, from what was measured; nothing here asks, waits or drops. Sizes are bytes.

| retained          | our own distance  | `on_wal_budget` | verdict                                                    |
|-------------------|-------------------|-----------------|------------------------------------------------------------|
| within the budget | any               | any             | fine                                                       |
| over              | within the budget | any             | told, with the transaction that holds it; the slot is kept |
| over              | over              | alert           | told; the slot is kept                                     |
| over              | over              | drop_slot       | told; the slot is to go                                    |

*Retained* is what lies between the slot's restart_lsn and the server's end: decoding begins anew at the oldest
transaction that is still open, so an application's forgotten one holds WAL back however quick we are (PostgreSQL
section 49.2.2). *Our own distance* begins at confirmed_flush_lsn: what we have not made durable yet. Dropping the slot
mends only the second, and the first would return with the next slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from connector.catalog.identifier import literal

Policy = Literal["alert", "drop_slot"]

OPERATION = "keep within source.wal_budget"
_ASK = "ask the application's people whether it may be ended; then, as a superuser:"
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Holder:
    """An open transaction that has written, so old that the slot's restart_lsn cannot pass it.

    name: its server process id, or what a prepared one was called; transactions: how many have begun since;
    seconds, state: None where our role may not see them; application: what it calls itself, often nothing.
    """

    prepared: bool
    name: str
    database: str
    transactions: int
    seconds: int | None
    state: str | None
    application: str

    @property
    def words(self) -> str:
        """Who it is and how old."""
        who = f"prepared transaction {self.name}" if self.prepared else f"server process {self.name}"
        told = [f"in database {self.database}", f"open while {self.transactions} others began"]
        if self.application:
            told.insert(0, f"of {self.application}")
        if self.seconds is not None:
            told.append(f"for {self.seconds} s")
        if self.state:
            told.append(self.state)
        return f"{who} ({', '.join(told)})"

    @property
    def end_sql(self) -> str:
        """What ends it: a question for whoever runs the application, never done by us."""
        if self.prepared:
            return f"ROLLBACK PREPARED {literal(self.name)};  -- or COMMIT PREPARED, in database {self.database}"
        return f"SELECT pg_terminate_backend({self.name});"


@dataclass(frozen=True, slots=True)
class Verdict:
    """passed: over the budget; drop: on our own account, and the slot is to go. The rest is empty when all is fine."""

    passed: bool = False
    drop: bool = False
    cause: str = ""
    mend: str = ""
    holders: tuple[Holder, ...] = ()

    @property
    def told_as(self) -> tuple[object, ...]:
        """What makes a verdict worth telling again: not the bytes, which change with every look."""
        return (self.passed, self.drop, *((holder.prepared, holder.name) for holder in self.holders))


def judge(retained: int, own_distance: int, budget: int, policy: Policy, holders: Sequence[Holder]) -> Verdict:
    """See the module's table. holders: the oldest first; looked at only when the distance is not our own."""
    if retained <= budget:
        return Verdict()
    cause = f"the slot holds back {size_text(retained)} of WAL, more than source.wal_budget ({size_text(budget)})"
    if own_distance > budget:
        cause += f"; {size_text(own_distance)} of it is not in the log yet"
        if policy == "drop_slot":
            mend = "the slot is dropped, and the tables are read anew when the log takes again: nothing is to be done"
            return Verdict(True, True, cause, mend)
        mend = (
            "see why the log does not keep up (`emc-cdc status`); if the disk of pg_wal is at risk, `emc-cdc guard"
            " --drop` gives the WAL free, and the tables are read anew later"
        )
        return Verdict(True, False, cause, mend)
    if not holders:
        cause += "; no open transaction is seen that holds it, so decoding itself is about to let it go"
        return Verdict(True, False, cause, "nothing is to be done at first; as a superuser: CHECKPOINT; hastens it")
    cause += f"; not we hold it, but {', '.join(holder.words for holder in holders)}; the slot is kept"
    mend = "\n".join([_ASK, *(holder.end_sql for holder in holders)])
    return Verdict(True, False, cause, mend, tuple(holders))


def size_text(size: int) -> str:
    """A size in the units in which PostgreSQL writes settings."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


class Pace:
    """Whether our own distance shrinks: a log that is back after an outage frees the WAL by itself, and sooner.

    now: seconds of any clock that does not go back.
    """

    def __init__(self) -> None:
        self._least: int | None = None
        self._since = 0.0

    def standing_for(self, own_distance: int, now: float) -> float:
        """Seconds for which it has not been less than before."""
        if self._least is None or own_distance < self._least:
            self._least, self._since = own_distance, now
        return now - self._since

    def forget(self) -> None:
        """What was seen is of another slot, or of another capture's work."""
        self._least = None

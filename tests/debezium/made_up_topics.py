"""What Debezium would write for made-up transactions: kills, restarts and partitions included, without any Debezium."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from connector.change.record import Op
from connector.change.selection import Role, TableSelection
from connector.debezium.merge import Lane
from connector.debezium.message import Boundary, Event
from connector.debezium.places import Place, fingerprint

A, B = "m.a", "m.b"
TABLES = {
    "p.m.a": TableSelection("m", "a", Role.DOSSIER, ("id",)),
    "p.m.b": TableSelection("m", "b", Role.CHILD, ("id",), "a"),
}
UNMAPPED = "m.c"
LANES: tuple[Lane, ...] = (("p.m.a", 0), ("p.m.a", 1), ("p.m.b", 0))
TRANSACTIONS: Lane = ("p.transaction", 0)

Row = tuple[str, int]
"""Table and key."""


@dataclass
class Topics:
    """Every lane's records so far. whole: with transaction metadata; keeps_counters: as Debezium after 3.0 restarts."""

    whole: bool
    keeps_counters: bool = False
    lanes: dict[Lane, list[Event]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    boundaries: list[Boundary] = field(default_factory=list)

    def write(self, lane: Lane, record: Event | Boundary) -> None:
        if isinstance(record, Boundary):
            self.boundaries.append(record)
        else:
            self.lanes[lane].append(record)

    def length(self, lane: Lane) -> int:
        return len(self.boundaries) if lane == TRANSACTIONS else len(self.lanes[lane])


Written = list[tuple[Lane, Event | Boundary]]


def written(topics: Topics, transactions: Sequence[Sequence[Row]], kills: Sequence[tuple[int, int]]) -> Written:
    """What Debezium writes, in its order. kills: after how many records, and how many of those are delivered again."""
    once: list[tuple[int, int]] = []
    for number, rows in enumerate(transactions):
        once += [(number, at) for at in range(-1, len(rows) + 1)]
    found: Written = []
    at, started = 0, 0
    plan = sorted(kills)
    reset: dict[int, int] = {}
    while at < len(once):
        if plan and at - started >= plan[0][0]:
            _, again = plan.pop(0)
            at = max(0, at - again)
            started = at
            number, row = once[at]
            if row >= 0 and not topics.keeps_counters:
                reset[number] = row
                found += _records(topics, transactions, number, -1, row)
        number, row = once[at]
        found += _records(topics, transactions, number, row, reset.get(number, 0))
        at += 1
    return found


def _records(topics: Topics, transactions: Sequence[Sequence[Row]], number: int, at: int, before: int) -> Written:
    """BEGIN (-1), a row, or END of a transaction; before: rows that Debezium does not count, after a restart."""
    rows, identity = transactions[number], str(700 + number)
    counted = rows[before:]
    if not 0 <= at < len(rows):
        if not topics.whole:
            return []
        counts = Counter(table for table, _ in counted) if at >= 0 else Counter()
        return [(TRANSACTIONS, Boundary(at >= 0, identity, dict(counts)))]
    table, key = rows[at]
    if table == UNMAPPED:
        return []
    lane = (f"p.{table}", key % 2 if table == A else 0)
    # As with PostgreSQL: the transaction by its commit, the row by an LSN that may be before other transactions' ones.
    place = Place("", (1000 * number,), identity, (100 * at + 7 * (number % 3),), identity)
    return [
        (
            lane,
            Event(
                op=Op.UPDATE,
                table=table,
                key=(str(key),),
                after={"id": f"{number}.{at}"},
                unchanged=(),
                missing=(),
                snapshot="",
                place=place,
                identity=fingerprint(table, key),
                transaction=identity if topics.whole else None,
                total_order=at - before + 1,
                table_order=[table for table, _ in rows[before : at + 1]].count(table),
                text=identity,
                time_us=number,
            ),
        )
    ]

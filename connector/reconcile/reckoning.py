"""The whole ledger beside the whole extract: both sorted by dossier number in a temporary file, then walked together.

Contract: memory is bounded by one dossier and by the number of units and services; the temporary file is SQLite's own,
without a name, gone with the process whatever ends it. It holds what the extract holds. Used from one thread.

The period is in EMC's reception time. Our own record of that moment lies between the beginning of the attempt and its
answer, and two clocks differ: what lies within `MARGIN` of an edge is compared, and
never counted as missing or unknown.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from connector.delivery.ledger import Recorded
from connector.reconcile.columns import COMPARED, SEPARATOR, of_event
from connector.reconcile.comparison import Finding, Kind, Ours, Theirs, compare
from connector.reconcile.extract import Extract

MARGIN: Final = 300.0
"""Seconds."""
TOLD: Final = (Kind.MISSING, Kind.UNKNOWN, Kind.DIFFERENT, Kind.DUPLICATE, Kind.WAITING, Kind.PARKED)
"""The kinds that are told one by one."""
FOUND: Final = (Kind.MISSING, Kind.UNKNOWN, Kind.DIFFERENT, Kind.DUPLICATE, Kind.PARKED)
"""Those that somebody must look at; what waits is on its way."""
_SCHEMA = """
CREATE TABLE ours (code TEXT NOT NULL, vals TEXT NOT NULL, status TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, ambiguous INTEGER NOT NULL, inside INTEGER NOT NULL, position TEXT NOT NULL,
    reason TEXT NOT NULL, unit TEXT NOT NULL, service TEXT NOT NULL);
CREATE TABLE theirs (code TEXT NOT NULL, vals TEXT NOT NULL, status TEXT NOT NULL, number INTEGER NOT NULL,
    inside INTEGER NOT NULL, at REAL, unit TEXT NOT NULL, service TEXT NOT NULL);
CREATE TABLE found (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, code TEXT NOT NULL, status TEXT NOT NULL,
    unit TEXT NOT NULL, service TEXT NOT NULL, number INTEGER, at REAL, position TEXT NOT NULL, at_emc INTEGER NOT NULL,
    ambiguous INTEGER NOT NULL, reason TEXT NOT NULL, differing TEXT NOT NULL);
"""
_OURS = "SELECT * FROM ours ORDER BY code, rowid"
_THEIRS = "SELECT * FROM theirs ORDER BY code, number"
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Period:
    """since up to, and without, until: seconds since the epoch."""

    since: float
    until: float

    def holds(self, first: float, last: float) -> bool:
        """Whether what happened between the two was within the period for certain."""
        return self.since + MARGIN <= first and last < self.until - MARGIN

    def touches(self, first: float, last: float) -> bool:
        """Whether it may have been."""
        return first < self.until + MARGIN and last >= self.since - MARGIN


@dataclass(slots=True)
class Summary:
    """ours, theirs: events and rows that were compared; outside: rows of another period, left out.

    settled: events with an attempt of unknown outcome, by whether EMC has them.
    """

    ours: int = 0
    theirs: int = 0
    outside: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    settled: Counter[bool] = field(default_factory=Counter)
    groups: dict[tuple[str, str], Counter[Kind]] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        return any(self.kinds[kind] for kind in FOUND)


@dataclass(frozen=True, slots=True)
class Told:
    """One finding. number: row of the extract; ambiguous: attempts without an answer.

    differing: parameter, our value, EMC's.
    """

    kind: Kind
    code: str
    status: str
    unit: str
    service: str
    number: int | None
    at: float | None
    position: str
    at_emc: bool
    ambiguous: int
    reason: str
    differing: tuple[tuple[str, str, str], ...]


class Reckoning:
    """`take_ledger` and `take_extract`, then `settle`; then what was found can be read as often as wanted."""

    def __init__(self, period: Period) -> None:
        self.summary = Summary()
        self.compared: tuple[str, ...] = ()
        self._period = period
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA cache_size = -65536")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def take_extract(self, extract: Extract, tell: Callable[[int, int], None]) -> None:
        """Before the ledger: it says which parameters are compared."""
        self.compared = extract.compared
        self._insert("theirs", 8, self._rows(extract), tell)

    def take_ledger(self, events: Iterable[Recorded], now: float, tell: Callable[[int, int], None]) -> None:
        """now: seconds since the epoch; the end of what is still open."""
        self._insert("ours", 11, self._events(events, now), tell)

    def settle(self, tell: Callable[[int, int], None]) -> None:
        """Compare. Everything is in `summary` and `told` afterwards."""
        whole, done = self.summary.ours + self.summary.theirs, 0
        pending: list[tuple[Any, ...]] = []
        for ours, theirs in _merged(self._db.execute(_OURS), self._db.execute(_THEIRS)):
            done += len(ours) + len(theirs)
            self._dossier(ours, theirs, pending)
            if len(pending) >= _BATCH:
                self._save(pending)
                tell(done, whole)
        self._save(pending)

    def told(self, *kinds: Kind) -> Iterator[Told]:
        """What was found, by dossier number."""
        query = f"SELECT * FROM found WHERE kind IN ({', '.join('?' * len(kinds))}) ORDER BY id"  # noqa: S608
        for _, kind, *rest, at_emc, ambiguous, reason, differing in self._db.execute(query, kinds):
            code, status, unit, service, number, at, position = rest
            pairs = tuple((name, one, other) for name, one, other in json.loads(differing))
            yield Told(
                Kind(kind), code, status, unit, service, number, at, position, bool(at_emc), ambiguous, reason, pairs
            )

    def _rows(self, extract: Extract) -> Iterator[tuple[Any, ...]]:
        place = {name: number for number, name in enumerate(extract.compared)}
        code, status = place["CodeProfile"], place["Status"]
        unit, service = place.get("LOCATION"), place.get("CodeTTHC")
        period, summary = self._period, self.summary
        for row in extract.rows:
            at, values, inside = row.at, row.values, True
            if at is not None:
                if not period.touches(at, at):
                    summary.outside += 1
                    continue
                inside = period.holds(at, at)
            summary.theirs += 1
            yield (
                values[code],
                SEPARATOR.join(values),
                values[status],
                row.number,
                inside,
                at,
                "" if unit is None else values[unit],
                "" if service is None else values[service],
            )

    def _events(self, events: Iterable[Recorded], now: float) -> Iterator[tuple[Any, ...]]:
        places = [COMPARED.index(name) for name in self.compared]
        status, unit, service = (COMPARED.index(name) for name in ("Status", "LOCATION", "CodeTTHC"))
        pick = itemgetter(*places)
        period, summary = self._period, self.summary
        for event in events:
            # An attempt whose answer was lost may have reached EMC at any time since the commit.
            first = event.committed if event.ambiguous or event.sent is None else event.sent
            last = now if event.ended is None else event.ended
            if not period.touches(first, last):
                continue
            summary.ours += 1
            values = of_event(json.loads(event.event))
            yield (
                values[0],
                SEPARATOR.join(pick(values)),
                values[status],
                event.state,
                event.attempts,
                event.ambiguous,
                period.holds(first, last),
                event.position,
                event.reason,
                values[unit],
                values[service],
            )

    def _insert(
        self, table: str, width: int, rows: Iterator[tuple[Any, ...]], tell: Callable[[int, int], None]
    ) -> None:
        done = 0

        def counted() -> Iterator[tuple[Any, ...]]:
            nonlocal done
            for row in rows:
                done += 1
                if not done % _BATCH:
                    tell(done, 0)
                yield row

        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", counted())  # noqa: S608
        self._db.execute("COMMIT")

    def _dossier(self, ours: Sequence[Any], theirs: Sequence[Any], pending: list[tuple[Any, ...]]) -> None:
        kinds = self.summary.kinds
        if _plainly_equal(ours, theirs):
            kinds[Kind.EQUAL] += len(ours)
            for row in ours:
                self._group(row[-2], row[-1])[Kind.EQUAL] += 1
            return
        events = [_ours(row) for row in ours]
        rows = [_theirs(row) for row in theirs]
        named = {id(event): row for event, row in zip(events, ours, strict=True)}
        named |= {id(row): raw for row, raw in zip(rows, theirs, strict=True)}
        for found in compare(events, rows):
            kinds[found.kind] += 1
            self._settled(found)
            raw = named[id(found.ours or found.theirs)]
            self._group(raw[-2], raw[-1])[found.kind] += 1
            if found.kind in TOLD:
                pending.append(self._line(found, raw))

    def _settled(self, found: Finding) -> None:
        if found.ours is not None and found.ours.ambiguous:
            self.summary.settled[found.theirs is not None] += 1

    def _group(self, unit: str, service: str) -> Counter[Kind]:
        group = self.summary.groups.get((unit, service))
        if group is None:
            group = self.summary.groups[unit, service] = Counter()
        return group

    def _line(self, found: Finding, raw: Sequence[Any]) -> tuple[Any, ...]:
        ours, theirs = found.ours, found.theirs
        differing = []
        if ours is not None and theirs is not None:
            differing = [(self.compared[at], ours.values[at], theirs.values[at]) for at in found.differing]
        return (
            found.kind.value,
            raw[0],
            raw[2],
            raw[-2],
            raw[-1],
            None if theirs is None else theirs.row,
            None if theirs is None else theirs.at,
            "" if ours is None else ours.position,
            found.at_emc,
            0 if ours is None else ours.ambiguous,
            "" if ours is None else ours.reason,
            json.dumps(differing, ensure_ascii=False),
        )

    def _save(self, pending: list[tuple[Any, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT INTO found VALUES (NULL{', ?' * 12})", pending)  # noqa: S608
        self._db.execute("COMMIT")
        pending.clear()


def _plainly_equal(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """As nearly all dossiers are; `compare` would say the same, at four times the cost."""
    return (
        len(ours) == len(theirs)
        and all(row[3] == "delivered" and not row[5] for row in ours)
        and sorted(row[1] for row in ours) == sorted(row[1] for row in theirs)
    )


def _ours(row: Sequence[Any]) -> Ours:
    _, values, status, state, attempts, ambiguous, inside, position, reason, *_ = row
    return Ours(tuple(values.split(SEPARATOR)), status, state, attempts, ambiguous, bool(inside), position, reason)


def _theirs(row: Sequence[Any]) -> Theirs:
    _, values, status, number, inside, at, *_ = row
    return Theirs(tuple(values.split(SEPARATOR)), status, number, bool(inside), at)


def _merged(
    ours: Iterable[Sequence[Any]], theirs: Iterable[Sequence[Any]]
) -> Iterator[tuple[list[Sequence[Any]], list[Sequence[Any]]]]:
    """The two of each dossier number; SQLite orders text as Python does, by code points."""
    left, right = (groupby(rows, itemgetter(0)) for rows in (ours, theirs))
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield list(one[1]), []
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield [], list(other[1])
            other = next(right, None)
        else:
            yield list(one[1]), list(other[1])
            one, other = next(left, None), next(right, None)

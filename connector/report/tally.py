"""What was gathered of dossiers, in a temporary file that has no name: memory is bounded however many there are.

Contract: SQLite's private temporary database, gone with the process whatever ends it. It holds dossier numbers, units,
services, months and faults, and no name or account of a person. Used from one thread.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

from connector.errors import ConnectorError
from connector.mapping.facts import Facts
from connector.quality.faults import TWICE, Fault, Kind
from connector.quality.online import Standing

_SCHEMA = """
CREATE TABLE groups (
    unit TEXT NOT NULL, service TEXT NOT NULL, month TEXT NOT NULL, name TEXT NOT NULL, dossiers INTEGER NOT NULL,
    received_online INTEGER NOT NULL, full INTEGER NOT NULL, returned INTEGER NOT NULL, online INTEGER NOT NULL,
    by_reception INTEGER NOT NULL, by_result INTEGER NOT NULL, by_payment INTEGER NOT NULL, unsure INTEGER NOT NULL,
    PRIMARY KEY (unit, service, month)
) WITHOUT ROWID;
CREATE TABLE faults (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, code TEXT NOT NULL, key TEXT NOT NULL, unit TEXT NOT NULL,
    service TEXT NOT NULL, month TEXT NOT NULL, parameter TEXT NOT NULL, vi TEXT NOT NULL, en TEXT NOT NULL,
    holds INTEGER NOT NULL, rule TEXT NOT NULL
);
CREATE UNIQUE INDEX history ON faults (key, rule) WHERE kind = 'history';
CREATE TABLE dossiers (code TEXT NOT NULL, key TEXT NOT NULL, unit TEXT NOT NULL, service TEXT NOT NULL,
    month TEXT NOT NULL);
"""
_COUNTS = tuple(field.name for field in fields(Standing))
_NONE = (0,) * (1 + len(_COUNTS))
_ADD_GROUP = (
    f"INSERT INTO groups (unit, service, month, name, dossiers, {', '.join(_COUNTS)})"  # noqa: S608 - no value in it
    f" VALUES (?, ?, ?, ?, ?{', ?' * len(_COUNTS)}) ON CONFLICT DO UPDATE SET"
    f" name = max(name, excluded.name), {', '.join(f'{n} = {n} + excluded.{n}' for n in ('dossiers', *_COUNTS))}"
)
_ADD_FAULT = (
    "INSERT OR IGNORE INTO faults (kind, code, key, unit, service, month, parameter, vi, en, holds, rule)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TWICE = (
    "SELECT code, key, unit, service, month FROM dossiers"
    " WHERE code IN (SELECT code FROM dossiers GROUP BY code HAVING count(*) > 1) ORDER BY code, key"
)
_GROUPS = f"SELECT unit, service, name, month, dossiers, {', '.join(_COUNTS)} FROM groups"  # noqa: S608
_PLACE_HISTORY = (
    "UPDATE faults SET unit = d.unit, service = d.service, month = d.month FROM dossiers d"
    " WHERE faults.kind = 'history' AND d.key = faults.key"
)
_DROP_HISTORY = "DELETE FROM faults WHERE kind = 'history' AND key NOT IN (SELECT key FROM dossiers)"
_CACHE_KIB = 8 * 1024
_MOST_UNSAVED = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """The dossiers of one unit, service and month. Counts: see `quality.online.Standing`. Empty text: not known."""

    unit: str
    service: str
    name: str
    month: str
    dossiers: int
    received_online: int
    full: int
    returned: int
    online: int
    by_reception: int
    by_result: int
    by_payment: int
    unsure: int

    @property
    def share(self) -> float | None:
        """Of the returned dossiers of fully online services those that count as online; None without any."""
        return self.online / self.returned if self.returned else None


@dataclass(frozen=True, slots=True)
class DossierFault:
    """One fault of one dossier, named by its number, or by its key where it has none."""

    kind: str
    code: str
    key: str
    unit: str
    service: str
    month: str
    parameter: str
    vi: str
    en: str
    holds: bool
    rule: str


@dataclass(slots=True)
class Summary:
    """read: rows of the dossier table that were wanted; told: those that EMC is told of; silent: those of which nothing
    is due (no number, or not received); unnumbered: those among them that have reached a milestone without a number.
    """

    read: int = 0
    told: int = 0
    unnumbered: int = 0
    held: int = 0
    faulty: int = 0

    @property
    def silent(self) -> int:
        return self.read - self.told


class Tally:
    """See the module's contract. Add everything, `finish`, then read."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self.summary = Summary()
        self._groups: dict[tuple[str, str, str], tuple[str, tuple[int, ...]]] = {}
        self._rows: list[tuple[object, ...]] = []
        self._faults: list[tuple[object, ...]] = []

    def close(self) -> None:
        """Give the temporary file back."""
        self._db.close()

    def add(self, key: str, month: str | None, facts: Facts, standing: Standing, faults: Iterable[Fault]) -> None:
        """One dossier that EMC is told of."""
        unit, service, when = facts.user.location or "", facts.code_tthc or "", month or ""
        place = (unit, service, when)
        name, counts = self._groups.get(place, ("", _NONE))
        self._groups[place] = (
            max(name, facts.name_tthc or ""),
            tuple(map(int.__add__, counts, (1, *astuple(standing)))),
        )
        code = facts.code_profile or ""
        self._rows.append((code, key, unit, service, when))
        found = list(faults)
        for fault in found:
            self._fault(fault, code, key, unit, service, when)
        self.summary.told += 1
        self.summary.held += any(fault.holds for fault in found)

    def add_history(self, key: str, facts: Facts, fault: Fault) -> None:
        """A fault of a dossier's history, once for each rule. The dossier may not be among those that were added."""
        unit, service = facts.user.location or "", facts.code_tthc or ""
        self._fault(fault, facts.code_profile or "", key, unit, service, "")
        if len(self._faults) >= _MOST_UNSAVED:
            self.save()

    def save(self) -> None:
        """Put what is in memory into the file: after each batch."""
        self._write(_ADD_GROUP, [(*place, name, *counts) for place, (name, counts) in self._groups.items()])
        self._write("INSERT INTO dossiers VALUES (?, ?, ?, ?, ?)", self._rows)
        self._write(_ADD_FAULT, self._faults)
        self._groups.clear()
        self._rows.clear()
        self._faults.clear()

    def finish(self, only_added: bool) -> None:
        """Everything was added: find the numbers that several dossiers have, and place the faults of histories.

        only_added: faults of histories of other dossiers are of no interest.
        """
        self.save()
        self._execute("CREATE INDEX by_code ON dossiers (code)")
        for code, key, unit, service, month in self._query(_TWICE):
            self._fault(TWICE, code, key, unit, service, month)
            if len(self._faults) >= _MOST_UNSAVED:
                self.save()
        self.save()
        self._execute("CREATE INDEX by_key ON dossiers (key)")
        self._execute(_PLACE_HISTORY)
        if only_added:
            self._execute(_DROP_HISTORY)
        ((self.summary.faulty,),) = self._query("SELECT count(DISTINCT key) FROM faults")

    # -- reading -----------------------------------------------------------------------------------------------------

    def groups(self) -> Iterator[Group]:
        """By unit, service and month."""
        yield from (Group(*row) for row in self._query(f"{_GROUPS} ORDER BY unit, service, month"))

    def totals(self, by: str) -> Iterator[Group]:
        """The same by one of unit, service and month, or of all (`''`)."""
        sums = ", ".join(f"total({name})" for name in ("dossiers", *_COUNTS))
        kept = [name if name == by else "''" for name in ("unit", "service")]
        name = "max(name)" if by == "service" else "''"
        month = "month" if by == "month" else "''"
        query = f"SELECT {', '.join(kept)}, {name}, {month}, {sums} FROM groups"  # noqa: S608 - our own words
        for row in self._query(f"{query} GROUP BY {by} ORDER BY {by}" if by else query):
            yield Group(*row[:4], *map(int, row[4:]))

    def kinds(self) -> dict[str, int]:
        """How many faults there are of each kind; every kind is there."""
        found = Counter(dict(self._query("SELECT kind, count(*) FROM faults GROUP BY kind")))
        return {kind.value: found[kind.value] for kind in Kind}

    def faults(self, limit: int = -1) -> Iterator[DossierFault]:
        """By kind, and in the order of the dossiers."""
        order = " ".join(f"WHEN '{kind.value}' THEN {number}" for number, kind in enumerate(Kind))
        query = (
            "SELECT kind, code, key, unit, service, month, parameter, vi, en, holds, rule FROM faults"  # noqa: S608
            f" ORDER BY CASE kind {order} END, id LIMIT {limit}"
        )
        for row in self._query(query):
            yield _fault_of(row)

    def held(self) -> Iterator[DossierFault]:
        """One line for each dossier that owes an event which cannot be made: all of its reasons."""
        query = (
            "SELECT '', code, key, unit, service, month, '', group_concat(parameter || ': ' || vi, '; '), '', 1, ''"
            " FROM faults WHERE holds GROUP BY key ORDER BY min(id)"
        )
        for row in self._query(query):
            yield _fault_of(row)

    # -- SQLite ------------------------------------------------------------------------------------------------------

    def _fault(self, fault: Fault, code: str, key: str, unit: str, service: str, month: str) -> None:
        place = (code, key, unit, service, month)
        about = (fault.parameter, fault.vi, fault.en, fault.holds, fault.rule)
        self._faults.append((fault.kind.value, *place, *about))

    def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        try:
            self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise _failed(error) from None

    def _execute(self, statement: str) -> None:
        try:
            self._db.execute(statement)
        except sqlite3.Error as error:
            raise _failed(error) from None

    def _query(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query)
        except sqlite3.Error as error:
            raise _failed(error) from None


def _fault_of(row: tuple[Any, ...]) -> DossierFault:
    found = DossierFault(*row)
    return replace(found, holds=bool(found.holds))


def _failed(error: sqlite3.Error) -> ConnectorError:
    mend = "free space on the disk of temporary files, or name another by the environment variable SQLITE_TMPDIR"
    return ConnectorError("make the report", "temporary file", str(error), mend)

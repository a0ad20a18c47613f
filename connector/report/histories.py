"""Impossible histories of dossiers, from the change log.

Contract: the log is folded again beside the real delivery (`replay`), each judgement is a step of the dossier's history
(`emc.history`), and what a step shows for the first time goes to the tally. What was before the log's first record of a
dossier is not known, and nothing is said of it. Memory is bounded: what is remembered of dossiers is in a temporary
file, the last `_CACHED` of them in memory, too.
"""

from __future__ import annotations

import json
import sqlite3

from connector.change.record import Change
from connector.emc.history import NO_PAST, Past, step
from connector.errors import LogUnavailable
from connector.log.contract import LogReader
from connector.log.opening import open_reader
from connector.mapping.facts import Facts, Milestone
from connector.mapping.plan import Plan
from connector.quality.faults import of_history
from connector.report.gathering import Tell, Wanted
from connector.report.replay import Replay, history
from connector.report.tally import Tally
from connector.settings import Settings

_CACHED = 20_000


def add_histories(settings: Settings, plan: Plan, wanted: Wanted, tally: Tally, tell: Tell) -> str:
    """Add what the log shows. Returns in words what was looked at."""
    try:
        reader = open_reader(settings)
    except LogUnavailable as error:
        return f"không xem được nhật ký: {error.cause}"
    try:
        return f"đã xem {_read(reader, settings, plan, wanted, tally, tell):,} bản ghi nhật ký".replace(",", ".")
    finally:
        reader.close()


def _read(reader: LogReader, settings: Settings, plan: Plan, wanted: Wanted, tally: Tally, tell: Tell) -> int:
    pasts = Pasts()

    def heard(dossier: str, facts: Facts | None, last: Change | None) -> None:
        if facts is None:  # another one may come under its key
            pasts.remember(dossier, NO_PAST)
            return
        past, found = step(pasts.of(dossier), facts)
        pasts.remember(dossier, past)
        for finding in found if wanted.takes(facts) else ():
            tally.add_history(dossier, facts, of_history(finding))

    replay = Replay(reader.partitions, plan, settings.emc, heard=heard)
    count = 0
    try:
        for record in history(reader, tell):
            replay.apply(record)
            count += 1
    finally:
        replay.close()
        pasts.close()
    tally.save()
    return count


class Pasts:
    """What is remembered of each dossier."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE pasts (dossier TEXT PRIMARY KEY, past TEXT NOT NULL) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._cached: dict[str, Past] = {}

    def of(self, dossier: str) -> Past:
        if dossier in self._cached:
            return self._cached[dossier]
        found = self._db.execute("SELECT past FROM pasts WHERE dossier = ?", (dossier,)).fetchone()
        return NO_PAST if found is None else _load(found[0])

    def remember(self, dossier: str, past: Past) -> None:
        self._cached[dossier] = past
        if len(self._cached) >= _CACHED:
            rows = ((dossier, _dump(past)) for dossier, past in self._cached.items())
            self._db.executemany("INSERT OR REPLACE INTO pasts VALUES (?, ?)", rows)
            self._cached.clear()

    def close(self) -> None:
        self._db.close()


def _dump(past: Past) -> str:
    reached, ever = ([milestone.value for milestone in some] for some in (past.reached, past.ever))
    return json.dumps([reached, ever, past.level, past.code, list(past.found)])


def _load(stored: str) -> Past:
    reached, ever, level, code, found = json.loads(stored)
    return Past(frozenset(map(Milestone, reached)), frozenset(map(Milestone, ever)), level, code, frozenset(found))

"""Keeps our slot within `source.wal_budget` while our process lives, also while the log is away and nothing streams.

Contract: a thread measures over its own connection every few seconds and tells (`SlotRetained`; `WalBudget` when the
verdict changes). It changes nothing: it ends the session that there is (`interruption`), and the capture thread then
drops the slot between two sessions (`act`), so no session of ours ever loses its slot under way. Only where it is this
capture's turn: not when another one streams or was the last to be met at the slot, and not as long as our own distance
shrinks, because a log that is back frees the WAL sooner and without a gap.
A slot that PostgreSQL has invalidated ends a session that only waits for the log, and any pause between two.
"""

from __future__ import annotations

import threading
import time

import psycopg

from connector.errors import ConnectorError, SlotBusy, SourceError, SourceGap, SourceUnavailable
from connector.observe import Fault, Hub, SlotRetained, WalBudget
from connector.settings import Settings
from connector.source.attachment import STATE_STREAMING
from connector.source.budget import OPERATION, Pace, Verdict
from connector.source.connection import ask
from connector.source.gap import GAP, over_budget
from connector.source.index import KeyedIndex
from connector.source.retention import Measured, drop_over_budget, measure
from connector.source.session import Session

INTERVAL = 3.0
"""Seconds between two looks: what is amiss is known within five."""


class BudgetPassed(SourceUnavailable):
    """The session ends in order, so that the slot can be dropped."""


class Overseer:
    """See the module's contract."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._settings = settings
        self._source = settings.source
        self._hub = hub
        self._stop = threading.Event()
        self._news = threading.Event()
        """Set when a pause of the capture thread is to end."""
        self._session: Session | None = None
        self._ours = False
        """Whether it is this capture's turn at the slot."""
        self._usable = False
        """Whether the slot was seen in order during this session, or this pause."""
        self._due: Verdict | None = None
        self._lost = ""
        self._pace = Pace()
        self._verdict = Verdict()
        self._refused = ""
        self._thread = threading.Thread(target=self._run, name="overseer", daemon=True)
        self._thread.start()

    # -- the capture thread ------------------------------------------------------------------------------------------

    def enter(self, session: Session) -> None:
        """A session begins."""
        self._usable, self._lost = False, ""
        self._session = session
        session.interruption = self.interruption

    def took_slot(self) -> None:
        """The session streams: it is our turn."""
        self._ours = True

    def leave(self, error: ConnectorError | None) -> None:
        """The session has ended."""
        self._session = None
        if error is not None:
            # Whoever failed otherwise got as far as the slot, or found that nobody has it.
            self._ours = not isinstance(error, SlotBusy)

    def interruption(self) -> ConnectorError | None:
        """Why the session must end now, if it must."""
        slot = self._settings.slot
        if self._lost:
            return SourceGap("stream", slot, self._lost, "the next start says how to go on")
        due = self._due
        return None if due is None else BudgetPassed(OPERATION, slot, due.cause, due.mend)

    def pause(self, stop: threading.Event, seconds: float) -> None:
        """Wait before the next attempt; shorter when there is something to do at once."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and not self._news.is_set() and (left := deadline - time.monotonic()) > 0:
            stop.wait(min(left, 0.5))
        self._news.clear()

    def act(self, stop: threading.Event) -> None:
        """Drop the slot if that is due, and still so; remember the gap. Between two sessions only."""
        if self._due is None:
            return
        self._due = None
        slot = self._settings.slot
        try:
            with ask(self._source, application="emc-cdc capture (budget)") as connection:
                dropped = drop_over_budget(connection, self._source, slot, stop.wait)
        except (psycopg.Error, SourceError) as error:
            cause = " ".join(str(error).split())
            if cause != self._refused:
                mend = f"SELECT pg_drop_replication_slot('{slot}');"
                self._hub.emit(Fault("capture", OPERATION, slot, cause, mend, fatal=False))
            self._refused = cause
            return
        if dropped is not None:
            self._hub.emit(Fault("capture", OPERATION, slot, dropped.cause, dropped.mend, fatal=False))
            self._remember(over_budget(dropped.cause))

    def close(self) -> None:
        """Look no more. Does not wait for a question that is under way: a lost server would hold it up."""
        self._stop.set()

    def _remember(self, gap: str) -> None:
        try:
            index = KeyedIndex(self._settings.index)
        except SourceError:
            return  # the next session says so; a slot that is gone is a gap by itself
        try:
            meta = index.meta()
            # A gap that is remembered already may need a person's word, which this one does not.
            if meta.get("state") == STATE_STREAMING and not meta.get(GAP):
                index.save([], {GAP: gap})
        except SourceError:
            return
        finally:
            index.close()

    # -- the overseer's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with ask(self._source, application="emc-cdc capture (budget)") as connection:
                    while not self._stop.is_set():
                        self._look(connection)
                        self._stop.wait(INTERVAL)
            except (psycopg.Error, SourceError):
                self._stop.wait(INTERVAL)

    def _look(self, connection: psycopg.Connection) -> None:
        session = self._session
        found = measure(connection, self._settings.slot)
        if session is not self._session:
            return  # what was measured may be of a slot that is not there any more
        self._hub.emit(SlotRetained(found.retained if found else 0, found.own_distance if found else 0))
        if found is None:
            self._pace.forget()
            self._tell(Verdict())
            return
        if found.lost:
            # One that is lost from the beginning is found by the attaching, which may be replacing it just now.
            if self._usable and not self._lost:
                self._lost = found.lost
                self._news.set()
            self._tell(Verdict())
            return
        self._usable = True
        verdict = found.judge(connection, self._source)
        if not self._acts(found, session):
            self._pace.forget()
            if not self._ours:
                self._tell(Verdict())  # it is the other's to tell
            return
        self._tell(verdict)
        standing = self._pace.standing_for(found.own_distance, time.monotonic())
        if verdict.drop and standing >= self._source.stall_timeout:
            self._due = verdict
            self._news.set()

    def _acts(self, found: Measured, session: Session | None) -> bool:
        own = None if session is None else session.server_process
        if found.active_pid is not None:
            return found.active_pid == own
        return self._ours

    def _tell(self, verdict: Verdict) -> None:
        if verdict.told_as != self._verdict.told_as:
            self._hub.emit(WalBudget(verdict.passed, self._settings.slot, verdict.cause, verdict.mend))
        self._verdict = verdict

"""Capture: one source database into one change log, for as long as it is told to.

Contract: `Capture.run` returns when `stop` is set, or raises the ConnectorError that needs a person. Faults that pass
by themselves end a session, not the capture: it waits with backoff, and the slot keeps the place. One session = one
replication connection + one log writer.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing

import psycopg

from connector.change.selection import Selection
from connector.errors import ConnectorError, LogError, SourceGap, SourceHeld, SourceWaits, retryable
from connector.log.contract import Concern, LogReader, LogWriter
from connector.observe import Fault, Hub, SourceDisconnected
from connector.settings import Settings
from connector.source.attach import attach
from connector.source.connection import ask, command_error
from connector.source.gap import GAP
from connector.source.lock import DirectoryLock
from connector.source.overseer import BudgetPassed, Overseer
from connector.source.session import PATIENCE, Session, SilentConnection
from connector.source.stream import stream

_LONGEST_WAIT = 30.0
_SOURCE_WAIT = 4.0
"""Longest pause while the database is away, another captures, or nothing fits: what it then is, is known within 5 s."""
_LONGEST_PATIENCE = 3600.0


class Capture:
    """See the module's contract. Opened log parts are asked for anew in each session.

    slot_timeout: seconds that the making of the slot may wait for transactions that are open.
    """

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        open_writer: Callable[[], LogWriter],
        open_reader: Callable[[], LogReader],
        hub: Hub,
        *,
        slot_timeout: float = 30.0,
    ) -> None:
        self._settings = settings
        self._slot_timeout = slot_timeout
        self._selection = selection
        self._open_writer = open_writer
        self._open_reader = open_reader
        self._hub = hub
        self._concerns: set[Concern] = set()
        """What was told of the log already."""
        self.streamed = False
        """Whether it has ever been connected."""
        self._waited = False
        """Whether it has ever waited for its turn at a database that was there."""
        self._recovering = False
        self._patience = PATIENCE
        self._advanced = False
        """Whether the last session made something durable."""

    def run(self, stop: threading.Event) -> None:
        """Capture until `stop` is set. Raises ConnectorError when trying again cannot help.

        Until it has streamed once, a database or log that cannot be reached is such an error, too: an address that
        never worked is a mistake to be told at once. A slot that another capture holds is waited for, and from then on
        this one is a standby that waits for everything: what is away when its turn comes comes back.
        """
        waited = 0
        told = ""
        with DirectoryLock(self._settings), closing(Overseer(self._settings, self._hub)) as overseer:
            while not stop.is_set():
                overseer.act(stop)
                began = time.monotonic()
                try:
                    self._session(stop, overseer)
                except ConnectorError as error:
                    overseer.leave(error)
                    # A server that is busy for long may only look lost: it gets more time with every attempt.
                    silent = isinstance(error, SilentConnection)
                    self._patience = min(2 * self._patience, _LONGEST_PATIENCE) if silent else PATIENCE
                    self._waited = self._waited or isinstance(error, SourceWaits | SourceHeld)
                    known = self.streamed or self._waited or self._recovering or isinstance(error, SourceGap)
                    fatal = not retryable(error) or not (known or stop.is_set())
                    self._hub.emit(SourceDisconnected(error.cause))
                    if time.monotonic() - began > _LONGEST_WAIT:
                        told = ""
                    if isinstance(error, BudgetPassed):
                        continue  # it is told when the slot is dropped
                    if fatal or str(error) != told:  # the same fault is told once, not with every attempt
                        self._hub.emit(
                            Fault("capture", error.operation, error.subject, error.cause, error.mend, fatal=fatal)
                        )
                    told = str(error)
                    if fatal:
                        raise
                    # A session that brought the log further was no failed attempt, however short it was.
                    waited = 0 if self._advanced or time.monotonic() - began > _LONGEST_WAIT else waited + 1
                    # Full jitter, so that two captures do not knock in step.
                    longest = _LONGEST_WAIT if isinstance(error, LogError) else _SOURCE_WAIT
                    overseer.pause(stop, random.uniform(0.1, min(longest, 0.5 * 2**waited)))  # noqa: S311
                else:
                    overseer.leave(None)
                    self._hub.emit(SourceDisconnected("stopped"))

    def _tell(self, concerns: Collection[Concern]) -> None:
        """What weakens the log's promises, each once."""
        for one in concerns:
            if one not in self._concerns:
                self._hub.emit(
                    Fault("capture", "open the log", one.subject, one.cause, "\n".join(one.mend), fatal=False)
                )
        self._concerns.update(concerns)

    def _session(self, stop: threading.Event, overseer: Overseer) -> None:
        session = Session(
            self._settings, self._selection, self._open_writer, self._open_reader, self._hub, stop, self._patience
        )
        overseer.enter(session)
        try:
            with ask(session.source, application="emc-cdc capture (questions)") as connection:
                ground, assembler = attach(session, connection, self._slot_timeout)
            self.streamed = True
            overseer.took_slot()
            session.watch()
            self._tell(session.feeder.concerns)
            stream(ground, assembler)
        except psycopg.Error as error:
            if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
                raise  # a mistake of ours, not the server's or the network's
            # A connection may be cut at any byte of any answer; what a step could say better it has said itself.
            raise command_error("ask PostgreSQL", "source.dsn", error, "see PostgreSQL's log") from None
        except SourceGap as error:
            session.remember({GAP: error.cause})
            raise
        finally:
            session.close()
            self._recovering = session.recovering
            self._advanced = session.progress.durable > session.progress.began
            session.require_log()

"""Records one partition's state where it outlives this machine, on a thread of its own.

Contract: after every `wake` what the state file holds is recorded, in one append with the offset it has folded to;
`take` hears of it (`Recorded`). While the store is away `take` hears of it once, and it is tried again; what is not
recorded waits in the file. Memory is bounded: an append is read from the file as it is written. When another has taken
the partition over, the thread ends with `Fenced`; when a person is needed, with `Failed`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from connector.delivery import journal
from connector.delivery.intake import Failed, defect
from connector.delivery.state import broken, read_only
from connector.errors import ConnectorError, LogFenced, retryable
from connector.log.deliveries import Deliveries

_PAUSE: Final = 1.0
"""Seconds after which a store that is away is tried again."""
_IDLE: Final = 1.0
"""Seconds between two appends that say of nothing but how far the fold is."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Everything up to a number of the journal is durable elsewhere, and the partition was ours then.

    turn: of the recorder; at: when, by the steady clock.
    """

    partition: int
    turn: int
    seq: int
    at: float


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """The store takes nothing; it is tried again."""

    partition: int
    error: ConnectorError


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another process has taken the partition; the recorder has ended."""

    partition: int
    turn: int
    error: ConnectorError


class Recorder:
    """See the module's contract. store: opened, and the recorder's from now on; turn: tells it from earlier ones."""

    def __init__(
        self,
        partition: int,
        turn: int,
        path: Path,
        store: Deliveries,
        take: Callable[[Recorded | Unrecorded | Fenced | Failed], None],
    ) -> None:
        self.shared = store.shared
        self._partition = partition
        self._turn = turn
        self._path = path
        self._store = store
        self._take = take
        self._told = False
        self._open = True
        self._abandoned = False
        self._proof_wanted = False
        self._recorded: tuple[int, str] = (-1, "")
        """Number and offset of the last append."""
        self._idle_until = 0.0
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"recorder {partition}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was made durable in the state file."""
        self._work.set()

    def prove(self) -> None:
        """Append, also where there is nothing new: the answer tells whether the partition is ours."""
        self._proof_wanted = True
        self._work.set()

    def stop(self) -> None:
        """Record what there is, if the store takes it, and end the thread. Waits for it."""
        self._stopping.set()
        self._work.set()
        self._thread.join()

    def abandon(self) -> None:
        """End the thread; nothing more is recorded. Waits for what it is about."""
        self._abandoned = True
        self.stop()

    def _run(self) -> None:
        try:
            with closing(read_only(self._path)) as db:
                while not self._stopping.is_set():
                    self._work.wait(_IDLE)
                    self._work.clear()
                    self._round(db)
                self._idle_until = 0.0
                if not self._abandoned:
                    self._round(db)
        except LogFenced as error:
            self._take(Fenced(self._partition, self._turn, error))
        except ConnectorError as error:
            self._take(Failed(error))
        except sqlite3.Error as error:
            self._take(Failed(broken(self._path, error)))
        except Exception as error:  # a defect of ours must end the process, not only this thread
            self._take(Failed(defect("record deliveries", error)))
        finally:
            self._store.close()

    def _round(self, db: sqlite3.Connection) -> None:
        try:
            if not self._open:
                self._reopen(db)
            self._record(db)
            self._told = False
        except ConnectorError as error:
            if not retryable(error):
                raise
            self._open = False
            if not self._told:
                self._told = True
                self._take(Unrecorded(self._partition, error))
            self._store.close()
            if not self._stopping.wait(_PAUSE):
                self._work.set()

    def _record(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        try:
            head = journal.head_of(db)
            place = head.meta.get("offset", "0")
            if not self._proof_wanted:
                if (head.seq, place) == self._recorded:
                    return
                if head.seq == self._recorded[0] and monotonic() < self._idle_until:
                    # Only the fold has gone on: often, in a backlog.
                    return
            self._proof_wanted = False
            self._store.append(journal.noted(db, self._recorded[0], head), head.offset)
        finally:
            db.execute("ROLLBACK")
        now = monotonic()
        self._recorded = head.seq, place
        self._idle_until = now + _IDLE
        self._take(Recorded(self._partition, self._turn, head.seq, now))

    def _reopen(self, db: sqlite3.Connection) -> None:
        """Whatever became of the append that failed: it is repeated, if the partition is still ours."""
        head = journal.head_in(self._store.open(), str(self._path))
        if head is not None and head.owner != journal.head_of(db).owner:
            raise LogFenced(
                "record deliveries",
                f"partition {self._partition}",
                "a later process has taken over this partition",
                "nothing to do: the later one goes on where the records end",
            )
        self._open = True

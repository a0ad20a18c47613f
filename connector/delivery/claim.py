"""Taking a partition: fence who had it, and have its state as it was last recorded, from wherever it is.

| this file                 | what is recorded is       | what is done                                  |
|---------------------------|---------------------------|-----------------------------------------------|
| is there                  | its own, of now or before | it is used; what is missing will be recorded  |
| is there                  | nothing                   | it is used, and recorded as a whole           |
| is there, behind          | another's, or of later    | it is brought to what is recorded (`rebuild`) |
| is there, past the record | another's, or of later    | it is put aside, and made anew                |
| is damaged                | something                 | it is put aside, and made anew                |
| is gone, or never was     | something                 | it is made anew                               |
| is gone, or is damaged    | nothing                   | DeliveryError: what is owed to EMC is lost    |
| never was                 | nothing                   | a new one                                     |

Invariants: nobody else records anything of this partition once `claim` has returned; nothing is judged or pushed here.
A file that is put aside keeps all that it held, as `<file>.aside-<time>`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connector.delivery import journal
from connector.delivery.intake import Failed, defect
from connector.delivery.rebuild import bring_up
from connector.delivery.state import PartitionState, StateDamaged, damage_mark
from connector.errors import ConnectorError, DeliveryError, retryable
from connector.log.contract import LogReader
from connector.log.deliveries import Deliveries, deliveries_of
from connector.mapping.plan import Plan
from connector.observe import Fault, Hub, StateRebuilt
from connector.settings import Settings

_TOLD_EVERY = 1.0
_PAUSE = 1.0
"""Seconds after which a claim that could not be made is tried again."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A partition that is ours. store: where it is recorded, opened; None where there is none."""

    state: PartitionState
    store: Deliveries | None

    def let_go(self) -> None:
        """Close both. Never raises."""
        self.state.close()
        if self.store is not None:
            self.store.close()


class Claims:
    """Takes partitions of one log. open_reader: makes a reader for those that are made anew."""

    def __init__(self, settings: Settings, plan: Plan, hub: Hub, open_reader: Callable[[], LogReader]) -> None:
        self._settings = settings
        self._plan = plan
        self._hub = hub
        self._open_reader = open_reader

    def claim(self, partition: int, path: Path, expected: bool) -> Claimed:
        """Take one. expected: its file was there before. Raises ConnectorError; nothing is open then."""
        if self._settings.log.debezium is not None:
            return Claimed(self._without_store(partition, path, expected), None)
        store = deliveries_of(self._settings, partition)
        try:
            head = journal.head_in(store.open(), f"{self._settings.name}, partition {partition}")
            state = self._claim(partition, path, expected, store, head)
        except BaseException:
            store.close()
            raise
        return Claimed(state, store)

    def _without_store(self, partition: int, path: Path, expected: bool) -> PartitionState:
        if expected and not path.exists():
            raise _gone(path)
        state = PartitionState(path, self._settings.name, partition)
        state.record(on=False)
        return state

    def _claim(
        self, partition: int, path: Path, expected: bool, store: Deliveries, head: journal.Head | None
    ) -> PartitionState:
        if head is None and expected and not path.exists():
            raise _gone(path)
        state = self._whole(partition, path, head)
        try:
            if head is not None and not _is_recorded_as(state, head):
                if int(state.meta.get("offset", "0")) > head.offset:
                    state.close()
                    state = self._anew(partition, path, "another machine has gone on from less than it holds")
                self._bring_up(state, store, head)
            state.record(on=True)
            state.save_meta({journal.RELEASED: ""})
            state.commit()
        except BaseException:
            state.close()
            raise
        return state

    def _whole(self, partition: int, path: Path, head: journal.Head | None) -> PartitionState:
        """The file, or a new one in its place where it is damaged and something is recorded."""
        marked = damage_mark(path).exists()
        if not marked or head is None:
            try:
                return PartitionState(path, self._settings.name, partition)
            except StateDamaged as error:
                if head is None:
                    raise _lost(error) from error
        return self._anew(partition, path, "it is damaged")

    def _anew(self, partition: int, path: Path, cause: str) -> PartitionState:
        aside = f"aside-{datetime.now():%Y%m%d-%H%M%S}"
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(f"{path.name}{suffix}").rename(path.with_name(f"{path.name}.{aside}{suffix}"))
        damage_mark(path).unlink(missing_ok=True)
        mend = (
            f"nothing to do: it is made anew from the log, and kept as {path.name}.{aside}; delete that if all is well"
        )
        self._hub.emit(Fault("deliver", "open the delivery state", str(path), cause, mend, fatal=False))
        return PartitionState(path, self._settings.name, partition)

    def _bring_up(self, state: PartitionState, store: Deliveries, head: journal.Head) -> None:
        told_at = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal told_at
            if done >= total or time.monotonic() - told_at >= _TOLD_EVERY:
                told_at = time.monotonic()
                self._hub.emit(StateRebuilt(state.partition, done, total))

        reader = self._open_reader()
        try:
            bring_up(state, self._plan, self._settings.emc, reader, store, head, tell)
        finally:
            reader.close()


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim has ended: with the partition, or with `error`, or with neither when it was withdrawn."""

    partition: int
    turn: int
    claimed: Claimed | None = None
    error: ConnectorError | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """A claim cannot be made now; it is tried again."""

    error: ConnectorError


class Claimer:
    """Claims partitions one after the other on a thread of its own: one that is made anew may take minutes.

    Every `claim` is answered by exactly one `Taken`, also when it is withdrawn, unless `stop` comes first.
    """

    def __init__(self, claims: Claims, take: Callable[[Taken | Postponed | Failed], None]) -> None:
        self._claims = claims
        self._take = take
        self._wanted: queue.SimpleQueue[tuple[int, int, Path, bool, float] | None] = queue.SimpleQueue()
        self._withdrawn: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claims", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def claim(self, partition: int, turn: int, path: Path, expected: bool, after: float = 0.0) -> None:
        """Claim a partition; turn: tells this claim from earlier ones; after: seconds to wait before."""
        self._wanted.put((partition, turn, path, expected, after))

    def withdraw(self, turn: int) -> None:
        """It is not wanted any more."""
        self._withdrawn.add(turn)

    def stop(self) -> None:
        """End the thread; what it has claimed and nobody heard of is let go. Waits for it."""
        self._stopping.set()
        self._wanted.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        try:
            while (wanted := self._wanted.get()) is not None and not self._stopping.is_set():
                self._take(self._claim(*wanted))
        except Exception as error:  # a defect of ours must end the process, not only this thread
            self._take(Failed(defect("take a partition", error)))

    def _claim(self, partition: int, turn: int, path: Path, expected: bool, after: float) -> Taken:
        told = ""
        self._stopping.wait(after)
        while turn not in self._withdrawn and not self._stopping.is_set():
            try:
                claimed = self._claims.claim(partition, path, expected)
            except ConnectorError as error:
                if not retryable(error):
                    return Taken(partition, turn, error=error)
                if told != error.cause:
                    told = error.cause
                    self._take(Postponed(error))
                self._stopping.wait(_PAUSE)
            else:
                if turn not in self._withdrawn and not self._stopping.is_set():
                    return Taken(partition, turn, claimed)
                claimed.let_go()
        return Taken(partition, turn)


def _is_recorded_as(state: PartitionState, head: journal.Head) -> bool:
    """What is recorded is this file's, of now or of before; not of a later time, as with a file from a backup."""
    return state.meta.get(journal.OWNER) == head.owner and head.seq <= journal.last_noted(state.db)


def _gone(path: Path) -> DeliveryError:
    return DeliveryError(
        "open the delivery state",
        str(path),
        "it is gone, nothing is recorded of it, and with it is gone what is still owed to EMC",
        "restore it from a backup, or attach anew: move the whole directory away and start; the log's changes are"
        " judged again then, so EMC hears them again",
    )


def _lost(error: DeliveryError) -> DeliveryError:
    return DeliveryError(
        error.operation,
        error.subject,
        f"{error.cause}, and nothing is recorded of it",
        "restore the directory of the file from a backup; without one, move that directory away and start: what the log"
        " holds is judged again, so EMC may hear some events twice",
    )

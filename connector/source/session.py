"""A session: one replication connection and one log writer, and how far both are.

Contract: everything here is called from the capture thread, which never waits for the log without answering the server
(`wait_for`), so the connection lives even when the log is stuck; a log that takes nothing for `stall_timeout` ends the
session, and the slot keeps the place. Only what the log and the keyed index have on disk is told as flushed. How a
session begins stands in `attach`, what it then does in `stream`.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import psycopg
from psycopg import pq

from connector.change.decoding import ChangeDecoder
from connector.change.position import Position
from connector.change.record import Change
from connector.change.selection import Selection
from connector.errors import ConnectorError, LogUnavailable, SourceUnavailable, retryable
from connector.log.contract import LogReader, LogWriter
from connector.log.opening import begun_with
from connector.observe import Hub, SlotProgress
from connector.settings import Settings
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.connection import connect_error, replicate
from connector.source.feeder import Feeder, Job
from connector.source.hold import hold_text
from connector.source.index import KeyedIndex
from connector.source.progress import Progress
from connector.source.protocol import status_update
from connector.source.spool import Spool
from connector.source.watch import Watch

_PROMPT = 0.05
"""Seconds between two questions where the server is."""
_QUIET = 5.0
"""Seconds without a word of the server's after which it is asked for one."""
PATIENCE = 10.0
"""Seconds that its answer may take at first."""


class SnapshotUnderWay(Protocol):
    """What the session and the stream know of `snapshot.Snapshot`."""

    finished: bool

    @property
    def waiting(self) -> bool: ...

    @property
    def due(self) -> bool: ...

    def step(self) -> None: ...

    def close(self) -> None: ...


class SilentConnection(SourceUnavailable):
    """The connection is there, but the server does not answer on it: a lost host, a broken path, or very long work."""


class Session:
    """See the module's contract. `patience`: seconds that the server may be silent after it was asked for a word."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        open_writer: Callable[[], LogWriter],
        open_reader: Callable[[], LogReader],
        hub: Hub,
        stop: threading.Event,
        patience: float = PATIENCE,
    ) -> None:
        self.settings = settings
        self.source = settings.source
        self.selection = selection
        self.hub = hub
        self.stop = stop
        self.patience = patience
        self.open_reader = open_reader
        self._open_writer = open_writer
        self.slot = settings.slot
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.index = KeyedIndex(settings.index)
        self.spool = Spool(self.source.data)
        self.progress = Progress(0)
        self.tails: Mapping[int, Change] = {}
        """The last record of each partition when the log was opened."""
        self.standby = False
        """Whether the server was a standby when the session began."""
        self._feeder: Feeder | None = None
        self._watch: Watch | None = None
        self._replication: pq.abc.PGconn | None = None
        self._told = 0
        self._streaming = False
        self._looked_at = self._awake_since = time.monotonic()
        """When the log's stall was last asked for, and when this process last began to run without a break."""
        self.told_at = 0.0
        """When the server last heard from us (time.monotonic())."""
        self._heard_at = self._asked_at = time.monotonic()
        self.interruption: Callable[[], ConnectorError | None] = lambda: None
        """Asked, whenever something is waited for, whether the session is to end."""
        self.recovering = False
        """Whether the tables are read anew because the stream has a gap."""
        self.snapshot: SnapshotUnderWay | None = None
        """What is read beside the stream."""
        self._adopting: Job | None = None
        self._seen_batches = 0

    @property
    def feeder(self) -> Feeder:
        """The log thread, once the log is open."""
        assert self._feeder is not None
        return self._feeder

    @property
    def replication(self) -> pq.abc.PGconn:
        """The replication connection, once there is one."""
        assert self._replication is not None
        return self._replication

    def connect(self, server_version: int) -> pq.abc.PGconn:
        """Make the replication connection."""
        self._replication = replicate(self.source, server_version)
        return self._replication

    def require_log(self) -> None:
        """After `close`: raise what ended the log if that needs a person; it outweighs what ended the session."""
        failure = None if self._feeder is None else self._feeder.failure
        if failure is not None and not retryable(failure):
            raise failure

    @property
    def server_process(self) -> int | None:
        """The server's process behind the replication connection; None without. For any thread."""
        connection = self._replication
        return None if connection is None or connection.status != pq.ConnStatus.OK else connection.backend_pid

    def watch(self) -> None:
        """Look at the publication from now on, until the session ends."""
        self._watch = Watch(self.source, self.settings.publication, self.selection, self.wake, self.standby)

    def close(self) -> None:
        """End it all: what was handed over becomes durable if the log still takes it, and the server is told."""
        if self._watch is not None:
            self._watch.stop()
        if self.snapshot is not None:
            self.snapshot.close()
        if self._feeder is not None:
            # What it was already waited for counts: a server that is stopping waits for us.
            self._feeder.stop(max(0.1, self.source.stall_timeout - self._stalled_for()))
            self._last_feedback()
        if self._replication is not None:
            self._replication.finish()
        self.spool.close()
        self.index.close()
        self._wake_read.close()
        self._wake_write.close()

    # -- the log -----------------------------------------------------------------------------------------------------

    def start_streaming(self, server_version: int) -> None:
        """Have the server stream from the slot; from now on it is answered whatever is waited for."""
        slots.start_streaming(self.replication, self.slot, self.settings.publication, server_version)
        self._streaming = True

    def open_log(self) -> dict[int, Position]:
        """The last position of each partition of the log, which is opened on its own thread unless it is open."""
        feeder = self._feeder
        if feeder is None:
            feeder = Feeder(self._open_writer, self.index, self.hub, self.settings.log.memory, self.wake)
            feeder.index_from = int(self.index.meta().get("confirmed", 0))
            self._feeder = feeder
        self.wait_for(lambda: feeder.tails is not None, "open the change log", patience=60.0)
        begun_with(feeder.partitions, feeder.tails or {})
        reader = self.open_reader()
        try:
            decoder = ChangeDecoder(reader.schema)
            assert feeder.tails is not None
            self.tails = {p: decoder.decode(b'["tail"]', value) for p, value in feeder.tails.items()}
            return {partition: change.position for partition, change in self.tails.items()}
        finally:
            reader.close()

    def call(self, action: Callable[[], Any]) -> Job:
        """Have something done on the log thread, in order with the batches."""
        return self.feeder.submit(action)

    def remember(self, meta: dict[str, str]) -> None:
        """Have the index remember something, in order with the batches."""
        if self._feeder is None:
            self.index.save([], meta)
        else:
            self.call(lambda: self.index.save([], meta))

    def hold(self, error: ConnectorError, lsn: int) -> None:
        """Remember why nothing after `lsn` is read now."""
        self.remember(hold_text(error, lsn, self.index.meta()))

    def register(self, schema: str) -> int:
        """The id of a schema, registered in the log."""
        job = self.feeder.register(schema)
        self.wait_for(lambda: job.done, "register a schema in the log")
        return int(job.result)

    def hand_over(self, assembler: Assembler, open_too: bool = False) -> None:
        """Offer what has gathered to the log: of a transaction that is open nothing, unless `open_too`."""
        batch = assembler.take(open_too)
        if batch is not None:
            self.feeder.offer(batch)

    def make_room(self) -> None:
        """Read no more until the log has taken something; the server goes on being answered."""
        feeder = self.feeder
        self.wait_for(lambda: feeder.room, "write to the change log")

    def _stalled_for(self) -> float:
        """Seconds since the log has taken anything, 0 when it has nothing to take.

        Time in which this process stood still itself (SIGSTOP, a virtual machine that was paused) is not the log's: an
        append that was under way then has yet to hear what became of it, maybe that another capture has taken over.
        """
        now = time.monotonic()
        if now - self._looked_at > max(1.0, self.source.stall_timeout / 2):
            self._awake_since = now
        self._looked_at = now
        return min(self.feeder.stalled_for(now), now - self._awake_since)

    def wait_for(self, condition: Callable[[], bool], operation: str, patience: float | None = None) -> None:
        """Wait for the log thread. LogUnavailable when it makes no progress for `patience` seconds."""
        patience = self.source.stall_timeout if patience is None else patience
        while not condition():
            self._raise_failure()
            if self._stalled_for() > patience:
                raise LogUnavailable(
                    operation,
                    "the change log",
                    f"it has taken nothing for {patience:.0f} s",
                    "bring the log back; the slot keeps the place and nothing is lost",
                )
            select.select([self._wake_read], [], [], 0.5)
            self._drain_wake()
            if self._streaming:
                self.feedback()

    # -- the server --------------------------------------------------------------------------------------------------

    def consume(self) -> None:
        """Take what the socket has."""
        self._heard_at = time.monotonic()
        try:
            self.replication.consume_input()
        except psycopg.OperationalError as error:
            raise connect_error(str(error), None) from None

    def wait_readable(self, timeout: float) -> None:
        """Wait for the server, at most `timeout` seconds, and take what it has sent."""
        postgres, wake = self.replication.socket, self._wake_read.fileno()
        ready = select.select([postgres, wake], [], [], min(timeout, 0.5))[0]
        if wake in ready:
            self._drain_wake()
        self._raise_failure()
        if postgres in ready:
            self.consume()
        elif self._asked_at > self._heard_at and time.monotonic() - self._asked_at > self.patience:
            raise SilentConnection(
                "stream",
                self.slot,
                f"the server has said nothing for {self.patience:.0f} s, although it was asked",
                "nothing is to be done: it is connected to anew; see to the network if this comes again and again",
            )
        if self._stalled_for() > self.source.stall_timeout:
            raise LogUnavailable(
                "write to the change log",
                "the change log",
                f"it has taken nothing for {self.source.stall_timeout:.0f} s",
                "bring the log back; the slot keeps the place and nothing is lost",
            )

    def ended(self) -> NoReturn:
        """Raise what it means that the server ended the stream."""
        result = self.replication.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise slots.replication_error("stream", self.slot, result)
        raise SourceUnavailable("stream", self.slot, "the server ended the stream", "waiting for it to come back")

    def feedback(self) -> None:
        """Tell the server how far we are: only what the log and the index have on disk."""
        feeder, progress = self.feeder, self.progress
        self._raise_failure()
        self._note_durable(feeder)
        adopting = self._adopting is not None and not self._adopting.done
        if progress.confirmed > feeder.saved_lsn and not progress.pending and not adopting:
            self._adopting = feeder.save_confirmed(progress.confirmed)
        told = min(progress.confirmed, feeder.saved_lsn) if feeder.saved_lsn else 0
        self._send(told)

    def _note_durable(self, feeder: Feeder) -> None:
        saved = feeder.saved_batches
        if saved > self._seen_batches:
            self.index.saved(saved - self._seen_batches)
            self._seen_batches = saved
        if feeder.durable_lsn:
            self.progress.made_durable(feeder.durable_lsn)

    def ask_position(self) -> None:
        """Have the server say how far it has come, which it does at once; not more often than it is told anything."""
        now = time.monotonic()
        if now - self.told_at > _PROMPT:
            self._send(self._told, asks=True)

    def _send(self, told: int, asks: bool = False) -> None:
        connection = self.replication
        progress = self.progress
        now = time.monotonic()
        # Asked once, at most; the answer to it is a keepalive, if not something better.
        asks = asks or (self._asked_at <= self._heard_at and now - self._heard_at > _QUIET)
        try:
            connection.put_copy_data(status_update(progress.received, told, time.time_ns() // 1000, asks))
            connection.flush()
        except psycopg.OperationalError as error:
            raise connect_error(str(error), None) from None
        if asks:
            self._asked_at = now
        self._told = told
        self.told_at = time.monotonic()
        waiting = 0 if self._feeder is None else self._feeder.waiting
        self.hub.emit(SlotProgress(progress.received, progress.durable, told, progress.server_end, waiting))

    def _last_feedback(self) -> None:
        """After the log thread has ended: tell what became durable, if the server still listens."""
        feeder = self._feeder
        if feeder is None or feeder.failure is not None or not feeder.saved_lsn:
            return
        self._note_durable(feeder)
        try:
            if self._streaming:
                self._send(feeder.saved_lsn)
        except ConnectorError:
            return

    # -- waking ------------------------------------------------------------------------------------------------------

    def _raise_failure(self) -> None:
        if self._feeder is not None and self._feeder.failure is not None:
            raise self._feeder.failure
        if self._watch is not None and self._watch.failure is not None:
            raise self._watch.failure
        if (reason := self.interruption()) is not None:
            raise reason

    def wake(self) -> None:
        """Let the capture thread look about. From any thread."""
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, OSError):
            return  # it is awake, or gone

    def _drain_wake(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            return

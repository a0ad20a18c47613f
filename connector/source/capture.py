"""Capture: one source database into one change log, for as long as it is told to.

Contract: `Capture.run` returns when `stop` is set, or raises the ConnectorError that needs a person. Faults that pass
by themselves end a session, not the capture: it waits with backoff, and the slot keeps the place. One session = one
replication connection + one log writer; the slot is taken before the log is opened, so of two captures the second
waits at the slot and fences nobody.

The capture thread owns the replication connection: data, keepalives and feedback are handled in order, also in the
middle of a huge transaction; it never waits for the log, so the server is answered in time even when the log is stuck.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import psycopg
from psycopg import pq

from connector.change.decoding import ChangeDecoder
from connector.change.position import Position
from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END
from connector.change.selection import Role, Selection
from connector.errors import ConnectorError, LogUnavailable, SlotBusy, SourceError, SourceUnavailable, retryable
from connector.log.contract import LogReader, LogWriter
from connector.observe import Fault, Hub, SlotProgress, SnapshotProgress, SourceConnected, SourceDisconnected
from connector.settings import Settings
from connector.source import catalog as catalogs
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.connection import ask, connect_error, replicate
from connector.source.decode.accelerator import native
from connector.source.decode.transcoder import PADDING
from connector.source.feeder import Feeder, Job
from connector.source.index import KeyedIndex
from connector.source.progress import Progress
from connector.source.protocol import KEEPALIVE, XLOG_DATA, parse_keepalive, status_update
from connector.source.reads import Read, SnapshotReads
from connector.source.rebuild import rebuild_index
from connector.source.snapshot import copy_table, use_snapshot

_BATCH = 512 * 1024
"""A batch is handed over at this size even when the log is busy."""
_PROMPT = 0.1
"""Seconds between two feedbacks while something becomes durable."""
_LONGEST_WAIT = 30.0

STATE_SNAPSHOT = "snapshot"
STATE_STREAMING = "streaming"


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
        self.streamed = False
        """Whether it has ever been connected."""

    def run(self, stop: threading.Event) -> None:
        """Capture until `stop` is set. Raises ConnectorError when trying again cannot help.

        Until it has streamed once, a database or log that cannot be reached is such an error, too: an address that
        never worked is a mistake to be told at once. Only a slot that another capture holds is waited for.
        """
        waited = 0
        told = ""
        with _only_one(self._settings):
            while not stop.is_set():
                began = time.monotonic()
                try:
                    _Session(self, stop).run()
                except ConnectorError as error:
                    waits = isinstance(error, SlotBusy) or stop.is_set()
                    fatal = not retryable(error) or not (self.streamed or waits)
                    self._hub.emit(SourceDisconnected(error.cause))
                    if time.monotonic() - began > _LONGEST_WAIT:
                        told = ""
                    if fatal or str(error) != told:  # the same fault is told once, not with every attempt
                        self._hub.emit(
                            Fault("capture", error.operation, error.subject, error.cause, error.mend, fatal=fatal)
                        )
                    told = str(error)
                    if fatal:
                        raise
                    waited = 0 if time.monotonic() - began > _LONGEST_WAIT else waited + 1
                    # Full jitter, so that two captures do not knock in step.
                    stop.wait(random.uniform(0.1, min(_LONGEST_WAIT, 0.5 * 2**waited)))  # noqa: S311
                else:
                    self._hub.emit(SourceDisconnected("stopped"))


class _Session:
    """One replication connection and one log writer."""

    def __init__(self, capture: Capture, stop: threading.Event) -> None:
        self.capture = capture
        self.settings = capture._settings
        self.source = capture._settings.source
        self.selection = capture._selection
        self.hub = capture._hub
        self.slot_timeout = capture._slot_timeout
        self.stop = stop
        self.open_writer = capture._open_writer
        self.open_reader = capture._open_reader
        self.slot = capture._settings.slot
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.wake_write.setblocking(False)
        self.index = KeyedIndex(self.source.data / f"{capture._settings.name}.index.sqlite")
        self.feeder: Feeder | None = None
        self.replication: pq.abc.PGconn | None = None
        self.progress = Progress(0)
        self._told = -1
        self._told_at = 0.0
        self._adopting: Job | None = None
        self._seen_batches = 0

    def run(self) -> None:
        try:
            with ask(self.source, application="emc-cdc capture (questions)") as connection:
                assembler = self._attach(connection)
            self.capture.streamed = True
            self._stream(assembler)
        finally:
            if self.feeder is not None:
                self.feeder.stop(self.source.stall_timeout)
                self._last_feedback()
            if self.replication is not None:
                self.replication.finish()
            self.index.close()
            self.wake_read.close()
            self.wake_write.close()

    # -- attaching ---------------------------------------------------------------------------------------------------

    def _attach(self, connection: psycopg.Connection) -> Assembler:
        server = catalogs.read_server(connection)
        catalogs.require_logical(server)
        tables = catalogs.read_catalog(connection, self.selection)
        catalogs.require_publication(connection, self.settings.publication, self.selection)
        replication = self.replication = replicate(self.source, server.version)
        identity = slots.identify_system(replication)
        state = slots.read_slot(connection, self.slot, server.version)
        if state is not None and state.active_pid is not None:
            # Before the index is rebuilt: what the other one writes meanwhile would be missing in it.
            raise slots.held(self.slot, state.active_pid)
        meta = self.index.meta()
        rebuilt = not meta
        if rebuilt:
            meta = self._rebuild(state.confirmed if state else 0)
        if meta:
            # First of all, because a slot of this name on another cluster is not ours.
            known = slots.SystemIdentity(meta["system"], int(meta["timeline"]))
            if known != identity:
                raise slots.foreign_cluster(self.slot, known, identity)
        if state is not None and meta.get("state") == STATE_SNAPSHOT:
            # Our own slot, whose snapshot did not finish: its rows are harmless upserts, a new one is made.
            slots.drop_slot(connection, self.slot)
            state = None
        if state is None:
            if meta.get("state") == STATE_STREAMING:
                raise slots.missing_slot(self.slot)
            return self._first_attach(connection, server, tables, identity, int(meta.get("epoch", 0)))
        if not meta:
            raise SourceError(
                "attach to PostgreSQL",
                f"slot {self.slot}",
                "it exists, but neither this connector's index nor its log knows of it",
                f"if nobody else uses it: SELECT pg_drop_replication_slot('{self.slot}');"
                " else choose another source.slot",
            )
        self._require_same_selection(meta)
        confirmed = int(meta["confirmed"])
        slots.require_usable(state, self.slot, server.database, confirmed)
        try:
            slots.start_streaming(replication, self.slot, self.settings.publication, server.version)
        except SourceUnavailable:
            if rebuilt:
                self.index.clear()  # it is out of date by the time the slot is free
            raise
        self.progress = Progress(state.confirmed)
        tails = self._open_log()
        self.hub.emit(SourceConnected(server.version, self.slot, state.confirmed, native is not None))
        return self._assembler(server, tables, int(meta["epoch"]), tails)

    def _first_attach(
        self,
        connection: psycopg.Connection,
        server: catalogs.Server,
        tables: Mapping[str, catalogs.CatalogTable],
        identity: slots.SystemIdentity,
        last_epoch: int,
    ) -> Assembler:
        assert self.replication is not None
        meta = {
            "state": STATE_SNAPSHOT,
            "system": identity.system_id,
            "timeline": str(identity.timeline),
            "selection": _selection_text(self.selection),
            "confirmed": "0",
        }
        self.index.clear()
        self.index.save([], meta | {"epoch": str(last_epoch + 1)})
        created = slots.create_slot(self.replication, connection, self.slot, self.slot_timeout)
        try:
            assembler = self._read_all(connection, server, tables, meta, last_epoch, created)
        except ConnectorError:
            self._give_up(connection)
            raise
        self.progress = Progress(created.consistent_point)
        slots.start_streaming(self.replication, self.slot, self.settings.publication, server.version)
        self.hub.emit(SourceConnected(server.version, self.slot, created.consistent_point, native is not None))
        return assembler

    def _read_all(
        self,
        connection: psycopg.Connection,
        server: catalogs.Server,
        tables: Mapping[str, catalogs.CatalogTable],
        meta: dict[str, str],
        last_epoch: int,
        created: slots.CreatedSlot,
    ) -> Assembler:
        """The snapshot into the log; afterwards it is durable, and so is that it is."""
        time_us = use_snapshot(connection, created.snapshot)
        tails = self._open_log(pumping=False)
        epoch = max([last_epoch, *(tail.epoch for tail in tails.values())]) + 1
        meta |= {"epoch": str(epoch), "confirmed": str(created.consistent_point)}
        self.index.save([], meta)
        assembler = self._assembler(server, tables, epoch, tails)
        reads = SnapshotReads(assembler, self.index, created.consistent_point, time_us)
        reads.marker(SNAPSHOT_BEGIN, json.dumps(meta | {"slot": self.slot}, ensure_ascii=False).encode())
        order = sorted(tables.values(), key=lambda table: table.selection.role is not Role.REFERENCE)
        for table in order:
            self._read_table(connection, assembler, table, reads.table(table))
        reads.marker(SNAPSHOT_END, b"{}")
        connection.execute("COMMIT")
        self._hand_over(assembler)
        done = self._call(lambda: self.index.save([], {"state": STATE_STREAMING}))
        self._wait_for(lambda: done.done, "write the snapshot to the log")
        return assembler

    def _give_up(self, connection: psycopg.Connection) -> None:
        """Drop the slot of a snapshot that failed: it would hold WAL until somebody starts again."""
        try:
            connection.execute("ROLLBACK")
            slots.drop_slot(connection, self.slot)
        except (psycopg.Error, ConnectorError):
            return  # the next start does it

    def _read_table(
        self, connection: psycopg.Connection, assembler: Assembler, table: catalogs.CatalogTable, read: Read
    ) -> None:
        feeder = self.feeder
        assert feeder is not None
        rows = 0
        for texts in copy_table(connection, table):
            read(texts)
            rows += 1
            if assembler.size > _BATCH:
                self._make_room(feeder)
                self._hand_over(assembler)
                self.hub.emit(SnapshotProgress(table.shape.full_name, rows, table.estimate, finished=False))
                if self.stop.is_set():
                    raise SourceUnavailable(
                        "read the snapshot", table.shape.full_name, "stopped", "start again: the snapshot begins anew"
                    )
        self.hub.emit(SnapshotProgress(table.shape.full_name, rows, table.estimate, finished=True))

    def _assembler(
        self,
        server: catalogs.Server,
        tables: Mapping[str, catalogs.CatalogTable],
        epoch: int,
        tails: Mapping[int, Position],
    ) -> Assembler:
        assert self.feeder is not None
        return Assembler(
            self.settings.name,
            server.database,
            epoch,
            tables,
            self.feeder.partitions,
            tails,
            self.index,
            self._register,
            lambda: time.time_ns() // 1_000_000,
        )

    def _open_log(self, pumping: bool = True) -> dict[int, Position]:
        """Open the log on its own thread, answering the server meanwhile; the last position of each partition."""
        feeder = self.feeder = Feeder(self.open_writer, self.index, self.hub, self.settings.log.memory, self._wake)
        self._wait_for(lambda: feeder.tails is not None, "open the change log", patience=60.0, pumping=pumping)
        reader = self.open_reader()
        try:
            decoder = ChangeDecoder(reader.schema)
            assert feeder.tails is not None
            return {partition: decoder.decode(b'["tail"]', value).position for partition, value in feeder.tails.items()}
        finally:
            reader.close()

    def _rebuild(self, confirmed: int) -> dict[str, str]:
        try:
            reader = self.open_reader()
        except LogUnavailable:
            return {}  # there is no log yet
        try:
            return rebuild_index(self.index, reader, self.selection, confirmed)
        finally:
            reader.close()

    def _require_same_selection(self, meta: Mapping[str, str]) -> None:
        known: dict[str, list[str]] = json.loads(meta["selection"])
        now: dict[str, list[str]] = json.loads(_selection_text(self.selection))
        more = sorted(
            f"{table}.{column}" for table, columns in now.items() for column in set(columns) - set(known.get(table, []))
        )
        if more:
            raise SourceError(
                "resume from the replication slot",
                self.slot,
                f"the mapping now needs {', '.join(more)}, which the log does not hold of rows already read",
                "take them out of the mapping, or attach anew: choose a new `name` (a new log, slot and state)",
            )

    # -- streaming ---------------------------------------------------------------------------------------------------

    def _stream(self, assembler: Assembler) -> None:
        connection, feeder = self.replication, self.feeder
        assert connection is not None
        assert feeder is not None
        feed, read, progress = assembler.feed, connection.get_copy_data, self.progress
        feedback_at = 0.0
        messages = 0
        dry = False
        while True:
            size, data = read(1)
            if size > 0:
                dry = False
                if data[0] == XLOG_DATA:
                    if end_lsn := feed(b"".join((data, PADDING))):
                        progress.committed(end_lsn)
                    progress.in_transaction = assembler.in_transaction
                    messages += 1
                    if messages & 0x3F:
                        continue
                elif data[0] == KEEPALIVE:
                    self._keepalive(assembler, bytes(data))
                    continue
            elif size == 0:
                if not dry:
                    # What libpq has read is used up. Only when the socket has nothing either is it time to hand over:
                    # a backlog makes full batches, a single commit goes at once.
                    dry = True
                    self._consume(connection)
                    continue
                if feeder.idle:
                    self._hand_over(assembler)
                if self.stop.is_set() and not assembler.in_transaction:
                    self._hand_over(assembler)
                    return
                self._wait_readable(_PROMPT if self.progress.pending else self.source.feedback_interval)
            else:
                self._ended(connection)
            now = time.monotonic()
            if now >= feedback_at or (self.progress.pending and now >= self._told_at + _PROMPT):
                feedback_at = now + self.source.feedback_interval
                self._feedback()
            if assembler.size >= _BATCH:
                self._make_room(feeder)
                self._hand_over(assembler)
            if self.stop.is_set():
                # A transaction that is not whole yet comes again: the slot keeps the place.
                return

    def _keepalive(self, assembler: Assembler, data: bytes) -> None:
        keepalive = parse_keepalive(data)
        if assembler.size == 0 or self.feeder is None or self.feeder.idle:
            self._hand_over(assembler)
        self.progress.server_at(keepalive.server_end)
        if keepalive.reply:
            self._feedback()

    def _hand_over(self, assembler: Assembler) -> None:
        batch = assembler.take()
        if batch is not None:
            assert self.feeder is not None
            self.feeder.offer(batch)

    def _make_room(self, feeder: Feeder) -> None:
        """Read no more until the log has taken something; the server goes on being answered."""
        self._wait_for(lambda: feeder.room, "write to the change log")

    def _wait_for(
        self, condition: Callable[[], bool], operation: str, patience: float | None = None, pumping: bool = True
    ) -> None:
        """Wait for the log thread. LogUnavailable when it makes no progress for `patience` seconds."""
        feeder = self.feeder
        assert feeder is not None
        patience = self.source.stall_timeout if patience is None else patience
        while not condition():
            self._raise_failure()
            if feeder.stalled_for(time.monotonic()) > patience:
                raise LogUnavailable(
                    operation,
                    "the change log",
                    f"it has taken nothing for {patience:.0f} s",
                    "bring the log back; the slot keeps the place and nothing is lost",
                )
            select.select([self.wake_read], [], [], 0.5)
            self._drain_wake()
            if pumping and self._told >= 0:
                self._feedback()

    def _wait_readable(self, timeout: float) -> None:
        connection = self.replication
        assert connection is not None
        postgres, wake = connection.socket, self.wake_read.fileno()
        ready = select.select([postgres, wake], [], [], min(timeout, 0.5))[0]
        if wake in ready:
            self._drain_wake()
        self._raise_failure()
        if postgres in ready:
            self._consume(connection)
        feeder = self.feeder
        assert feeder is not None
        if feeder.stalled_for(time.monotonic()) > self.source.stall_timeout:
            raise LogUnavailable(
                "write to the change log",
                "the change log",
                f"it has taken nothing for {self.source.stall_timeout:.0f} s",
                "bring the log back; the slot keeps the place and nothing is lost",
            )

    def _consume(self, connection: pq.abc.PGconn) -> None:
        try:
            connection.consume_input()
        except psycopg.OperationalError as error:
            raise connect_error(str(error), None) from None

    def _feedback(self) -> None:
        """Tell the server how far we are: only what the log and the index have on disk."""
        feeder, progress = self.feeder, self.progress
        assert feeder is not None
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

    def _send(self, told: int) -> None:
        connection = self.replication
        assert connection is not None
        progress = self.progress
        try:
            connection.put_copy_data(status_update(progress.received, told, time.time_ns() // 1000))
            connection.flush()
        except psycopg.OperationalError as error:
            raise connect_error(str(error), None) from None
        self._told = told
        self._told_at = time.monotonic()
        self.hub.emit(SlotProgress(progress.received, progress.durable, told, progress.server_end))

    def _last_feedback(self) -> None:
        """After the log thread has ended: tell what became durable, if the server still listens."""
        feeder = self.feeder
        if feeder is None or self._told < 0 or feeder.failure is not None or not feeder.saved_lsn:
            return
        try:
            self._note_durable(feeder)
            self._send(feeder.saved_lsn)
        except ConnectorError:
            return

    def _ended(self, connection: pq.abc.PGconn) -> None:
        result = connection.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise slots.replication_error("stream", self.slot, result)
        raise SourceUnavailable("stream", self.slot, "the server ended the stream", "waiting for it to come back")

    # -- the log thread ----------------------------------------------------------------------------------------------

    def _call(self, action: Callable[[], Any]) -> Job:
        assert self.feeder is not None
        return self.feeder.submit(action)

    def _register(self, schema: str) -> int:
        assert self.feeder is not None
        job = self.feeder.register(schema)
        self._wait_for(lambda: job.done, "register a schema in the log")
        return int(job.result)

    def _raise_failure(self) -> None:
        if self.feeder is not None and self.feeder.failure is not None:
            raise self.feeder.failure

    def _wake(self) -> None:
        try:
            self.wake_write.send(b"\0")
        except (BlockingIOError, OSError):
            return  # it is awake, or gone

    def _drain_wake(self) -> None:
        try:
            while self.wake_read.recv(4096):
                pass
        except BlockingIOError:
            return


class _only_one:  # noqa: N801 - reads as a statement at its one use
    """Holds the data directory of a connector against a second capture on the same machine."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.source.data / f"{settings.name}.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._file is not None:
                self._file.close()
            raise SourceError(
                "start capture", str(self._path), "another capture uses this directory", "stop it, or set source.data"
            ) from None
        except OSError as error:
            raise SourceError(
                "start capture", str(self._path), os.strerror(error.errno or 0), "make source.data writable"
            ) from None

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _selection_text(selection: Selection) -> str:
    tables = {
        table.full_name: sorted({*table.columns, *([table.link] if table.link else [])}) for table in selection.tables
    }
    return json.dumps(tables, ensure_ascii=False, sort_keys=True)

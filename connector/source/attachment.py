"""What is known of a database once it has been asked: the ground on which a session attaches."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from connector.catalog.survey import Server
from connector.change.position import Position
from connector.change.selection import Selection
from connector.source import catalog as catalogs
from connector.source.assembler import Assembler
from connector.source.basetypes import BaseType, BaseTypes, read_base_types
from connector.source.connection import ask, command_error
from connector.source.json_records import JSON
from connector.source.oversize import RecordBound
from connector.source.recordform import AVRO
from connector.source.session import Session
from connector.source.slot import SystemIdentity

STATE_SNAPSHOT = "snapshot"
"""The index's `state` until the first snapshot is durable."""
STATE_STREAMING = "streaming"
"""The index's `state` from then on."""

SNAPSHOT = "snapshot"
"""The index's memory of how far a snapshot is (see `Snapshot`); empty, or absent, when none is under way."""
READ_UNTIL = "read_until"
"""The index's memory of how far into WAL a snapshot's chunks have looked, maybe further than the stream is durable."""
RUN = "run"
"""The index's memory of `Attachment.run`."""
PUBLICATION = "publication"
"""The index's memory of `Attachment.publication`."""

COLUMNS = "columns"
"""The index's memory of column numbers: see `columns_text`."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A server, the captured tables on it, and an ordinary connection for questions."""

    session: Session
    connection: psycopg.Connection
    server: Server
    tables: Mapping[str, catalogs.CatalogTable]
    identity: SystemIdentity
    history: str
    """Of the timeline that the server is on (`timeline.switch_point`)."""
    run: str
    """Which run of which server it is (`slot.run_of`)."""
    publication: str
    """The publication's oid."""
    known_at: int
    """LSN before which every DDL is in `tables`."""

    @property
    def keeps_failover_slots(self) -> bool:
        """Whether a new slot is one that standbys copy; a standby itself can make none of that kind."""
        return self.session.source.failover_slots and self.server.version >= 170000 and not self.server.standby

    def assembler(self, epoch: int, tails: Mapping[int, Position]) -> Assembler:
        """For the open log, whose partitions end at `tails`."""
        session = self.session
        return Assembler(
            session.settings.name,
            self.server.database,
            epoch,
            self.tables,
            session.feeder.partitions,
            tails,
            session.index,
            session.register,
            lambda: time.time_ns() // 1_000_000,
            self._ancestors,
            self.known_at,
            self._fits,
            session.progress.began,
            BaseTypes(self._base_types),
            RecordBound(session.settings),
            JSON if session.settings.log.format == "json" else AVRO,
        )

    def _fits(self, table: catalogs.CatalogTable) -> None:
        """Remember the numbers of its columns, if they are others than those that were known."""
        name, numbers = table.selection.full_name, {column: table.numbers[column] for column in table.known}
        if numbers != table.known:
            known = json.loads(self.session.index.meta()[COLUMNS]) | {name: numbers}
            self.session.remember({COLUMNS: json.dumps(known, ensure_ascii=False)})

    def _base_types(self, oids: Collection[int]) -> Mapping[int, BaseType]:
        try:
            with ask(self.session.source, application="emc-cdc capture (questions)") as connection:
                return read_base_types(connection, oids)
        except psycopg.Error as error:
            raise command_error("ask what a column's type is", "source.dsn", error, "start again") from None

    def _ancestors(self, oid: int) -> list[str]:
        """Asked over a connection of its own: the one for questions is closed by the time that the stream runs."""
        try:
            with ask(self.session.source, application="emc-cdc capture (questions)") as connection:
                return catalogs.read_ancestors(connection, oid)
        except psycopg.Error as error:
            raise command_error("ask what a relation is a part of", "source.dsn", error, "start again") from None


def snapshot_progress(meta: Mapping[str, str]) -> dict[str, Any] | None:
    """How far the snapshot under way is, as `snapshot.Snapshot` keeps it; None when none is."""
    dumped = meta.get(SNAPSHOT, "")
    progress: dict[str, Any] | None = json.loads(dumped) if dumped else None
    return progress


def keys_text(tables: Mapping[str, catalogs.CatalogTable]) -> str:
    """The columns by which the log knows each table's rows, as the index remembers them."""
    keys = {name: [column.name for column in table.shape.key] for name, table in tables.items()}
    return json.dumps(keys, ensure_ascii=False, sort_keys=True)


def columns_text(tables: Mapping[str, catalogs.CatalogTable]) -> str:
    """The numbers of the mapped columns (`CatalogTable.known`), as the index remembers them."""
    return json.dumps({name: dict(table.known) for name, table in tables.items()}, ensure_ascii=False)


def selection_text(selection: Selection) -> str:
    """What the log holds of which table, as the index remembers it."""
    tables = {
        table.full_name: sorted({*table.columns, *([table.link] if table.link else [])}) for table in selection.tables
    }
    return json.dumps(tables, ensure_ascii=False, sort_keys=True)

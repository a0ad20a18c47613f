"""What is known of a database once it has been asked: the ground on which a session attaches."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from connector.catalog.survey import Server
from connector.change.position import Position
from connector.change.selection import Selection
from connector.source import catalog as catalogs
from connector.source.assembler import Assembler
from connector.source.session import Session
from connector.source.slot import SystemIdentity

STATE_SNAPSHOT = "snapshot"
"""The index's `state` until the first snapshot is durable."""
STATE_STREAMING = "streaming"
"""The index's `state` from then on."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A server, the captured tables on it, and an ordinary connection for questions."""

    session: Session
    connection: psycopg.Connection
    server: Server
    tables: Mapping[str, catalogs.CatalogTable]
    identity: SystemIdentity

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
        )


def selection_text(selection: Selection) -> str:
    """What the log holds of which table, as the index remembers it."""
    tables = {
        table.full_name: sorted({*table.columns, *([table.link] if table.link else [])}) for table in selection.tables
    }
    return json.dumps(tables, ensure_ascii=False, sort_keys=True)

"""How a session begins: it resumes from the slot, or reads the first snapshot, or says why it can do neither.

Contract: the slot is taken before the log is opened, so of two captures the second waits at the slot and fences nobody.
Whatever could mean a gap (a slot that is gone, foreign, recreated or invalidated; a mapping that needs what the log
does not hold) raises SourceError; nothing is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import psycopg

from connector.catalog.survey import Survey
from connector.errors import LogUnavailable, SourceError, SourceHeld, SourceUnavailable
from connector.observe import SourceConnected
from connector.source import catalog as catalogs
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.attachment import (
    COLUMNS,
    STATE_SNAPSHOT,
    STATE_STREAMING,
    Attachment,
    columns_text,
    selection_text,
)
from connector.source.decode.accelerator import native
from connector.source.fitting import other_key
from connector.source.initial import read_first
from connector.source.progress import Progress
from connector.source.rebuild import rebuild_index
from connector.source.session import UNPUBLISHED, Session


def attach(session: Session, connection: psycopg.Connection, slot_timeout: float) -> Assembler:
    """An assembler that goes on where the log ends, and a replication connection that streams into it.

    connection: for questions; slot_timeout: seconds that the making of a slot may wait for open transactions.
    """
    role, publication = connection.info.user, session.settings.publication
    known_at = slots.wal_position(connection)
    found = catalogs.survey_source(connection, role, session.selection, publication, session.slot)
    meta = session.index.meta()
    _require_attachable(session, found, meta)
    server, tables = found.server, catalogs.captured_tables(connection, found, json.loads(meta.get(COLUMNS, "{}")))
    replication = session.connect(server.version)
    identity = slots.identify_system(replication)
    ground = Attachment(session, connection, server, tables, identity, known_at)
    state = slots.read_slot(connection, session.slot, server.version)
    if state is not None and state.active_pid is not None:
        # Before the index is rebuilt: what the other one writes meanwhile would be missing in it.
        raise slots.held(session.slot, state.active_pid)
    rebuilt = not meta
    if rebuilt:
        meta = _rebuild(session, state.confirmed if state else 0)
    if meta:
        # First of all, because a slot of this name on another cluster is not ours.
        known = slots.SystemIdentity(meta["system"], int(meta["timeline"]))
        if known != identity:
            raise slots.foreign_cluster(session.slot, known, identity)
    if state is not None and meta.get("state") == STATE_SNAPSHOT:
        # Our own slot, whose snapshot did not finish: its rows are harmless upserts, a new one is made.
        slots.drop_slot(connection, session.slot)
        state = None
    if state is None:
        if meta.get("state") == STATE_STREAMING:
            raise slots.missing_slot(session.slot)
        return read_first(ground, int(meta.get("epoch", 0)), slot_timeout)
    if not meta:
        raise SourceError(
            "attach to PostgreSQL",
            f"slot {session.slot}",
            "it exists, but neither this connector's index nor its log knows of it",
            f"if nobody else uses it: SELECT pg_drop_replication_slot('{session.slot}');"
            " else choose another source.slot",
        )
    _require_same_selection(session, meta)
    _require_same_keys(ground, meta)
    confirmed = int(meta["confirmed"])
    slots.require_usable(state, session.slot, server.database, confirmed)
    try:
        slots.start_streaming(replication, session.slot, session.settings.publication, server.version)
    except SourceUnavailable:
        if rebuilt:
            session.index.clear()  # it is out of date by the time the slot is free
        raise
    if COLUMNS not in meta:
        session.index.save([], {COLUMNS: columns_text(tables)})
    session.progress = Progress(state.confirmed)
    tails = session.open_log()
    session.hub.emit(SourceConnected(server.version, session.slot, state.confirmed, native is not None))
    return ground.assembler(int(meta["epoch"]), tails)


def _require_attachable(session: Session, found: Survey, meta: Mapping[str, str]) -> None:
    """SourceError with all that stands in the way; SourceHeld when it once fitted, and may again without a gap."""
    error = catalogs.attach_refusal(found)
    if error is None:
        if UNPUBLISHED in meta:
            raise _unpublished(session, json.loads(meta[UNPUBLISHED]))
        return
    if meta.get("state") != STATE_STREAMING or meta["selection"] != selection_text(session.selection):
        raise error  # it has never fitted: a mistake to be told at once
    if found.publication is None:
        raise error
    if absent := catalogs.unpublished(found):
        session.index.save([], {UNPUBLISHED: json.dumps(absent)})
        raise error
    held = SourceHeld(error.operation, error.subject, error.cause, error.mend)
    session.hold(held, int(meta["confirmed"]))
    raise held


def _unpublished(session: Session, tables: list[str]) -> SourceError:
    return SourceError(
        "resume from the replication slot",
        session.slot,
        f"the publication was without {', '.join(tables)} for a time; what was changed there meanwhile is missing in"
        " the stream",
        "attach anew: choose a new `name` (a new log, slot and state); what is in the log and the ledger stays safe",
    )


def _rebuild(session: Session, confirmed: int) -> dict[str, str]:
    try:
        reader = session.open_reader()
    except LogUnavailable:
        return {}  # there is no log yet
    try:
        return rebuild_index(session.index, reader, session.selection, confirmed)
    finally:
        reader.close()


def _require_same_selection(session: Session, meta: Mapping[str, str]) -> None:
    known: dict[str, list[str]] = json.loads(meta["selection"])
    now: dict[str, list[str]] = json.loads(selection_text(session.selection))
    more = sorted(
        f"{table}.{column}" for table, columns in now.items() for column in set(columns) - set(known.get(table, []))
    )
    if more:
        raise SourceError(
            "resume from the replication slot",
            session.slot,
            f"the mapping now needs {', '.join(more)}, which the log does not hold of rows already read",
            "take them out of the mapping, or attach anew: choose a new `name` (a new log, slot and state)",
        )


def _require_same_keys(ground: Attachment, meta: Mapping[str, str]) -> None:
    known: dict[str, list[str]] = json.loads(meta.get("keys", "{}"))
    for name, table in ground.tables.items():
        keys = [column.name for column in table.shape.key]
        if sorted(known.get(name, keys)) != sorted(keys):
            raise other_key(table.selection, known[name], keys)

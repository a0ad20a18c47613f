"""How a session begins: it resumes from the slot, or reads the tables, or says why it can do neither.

Contract: the slot is taken before the log is opened, so of two captures the second waits at the slot and fences nobody;
where there is no slot to take, or none in use, an advisory lock on the server lets one of them attach (`take_turn`).
Whatever means a gap (a slot that is gone, recreated or invalidated; a timeline or WAL that went another way; a
publication that was without a table) stops the start until a person asks for a new read (`emc-cdc snapshot --all`), or
is closed by itself where the settings permit it (`gap`), once the log takes again: a new slot, a new epoch, and the
tables read anew. A gap is remembered until that read is durable, so it cannot be forgotten by dying. Nothing is
skipped. A promoted standby that has all that the log has, and a copy of the slot, is gone on with: see `takeover`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import psycopg

from connector.catalog.survey import Survey
from connector.change.position import lsn_text
from connector.change.shape import Shape
from connector.errors import LogUnavailable, SourceError, SourceHeld, SourceWaits
from connector.observe import SourceConnected
from connector.source import catalog as catalogs
from connector.source import slot as slots
from connector.source.assembler import Assembler
from connector.source.attachment import (
    COLUMNS,
    PUBLICATION,
    STATE_SNAPSHOT,
    STATE_STREAMING,
    Attachment,
    columns_text,
    selection_text,
)
from connector.source.basetypes import type_options
from connector.source.fitting import other_key
from connector.source.gap import GAP, REQUEST, asks_for_all, told, unpermitted
from connector.source.initial import read_tables
from connector.source.oversize import require_cuttable
from connector.source.progress import Progress
from connector.source.rebuild import rebuild_index
from connector.source.session import Session
from connector.source.snapshot import resumed
from connector.source.takeover import branch_gap, outdated, resume

_RESUME = "resume from the replication slot"


def attach(session: Session, connection: psycopg.Connection, slot_timeout: float) -> tuple[Attachment, Assembler]:
    """An assembler that goes on where the log ends, and a replication connection that streams into it.

    connection: for questions; slot_timeout: seconds that the making of a slot may wait for open transactions.
    """
    role, publication = connection.info.user, session.settings.publication
    known_at = slots.wal_position(connection)
    session.standby = slots.in_recovery(connection)
    meta = session.index.meta()
    # First of all, when it was attached before: another cluster's tables and slot are none of ours.
    _require_same_cluster(session, slots.system_of(connection), meta)
    found = catalogs.survey_source(connection, role, session.selection, publication, session.slot)
    _require_attachable(session, found, meta)
    server, known = found.server, json.loads(meta.get(COLUMNS, "{}"))
    tables = catalogs.captured_tables(connection, found, known, type_options(session.source.types))
    require_cuttable(session.settings, tables)
    state = slots.read_slot(connection, session.slot, server.version)
    if state is not None and state.active_pid is not None:
        # Before the index is rebuilt: what the other one writes meanwhile would be missing in it.
        raise slots.held(session.slot, state.active_pid)
    slots.take_turn(connection, session.slot)
    identity = slots.identify_system(session.connect(server.version))
    history = slots.timeline_history(session.replication, identity.timeline)
    run = slots.run_of(connection)
    oid = slots.publication_of(connection, publication)
    ground = Attachment(session, connection, server, tables, identity, history, run, oid, known_at)
    asked = {}
    if meta and outdated(session, meta):
        asked = {REQUEST: meta[REQUEST]} if meta.get(REQUEST) else {}
        session.index.clear()
        meta = {}
    if not meta:
        shapes = {name: table.shape for name, table in tables.items()}
        meta = _rebuild(session, shapes, state.confirmed if state else 0, asked)
    _require_same_cluster(session, identity.system_id, meta)
    if state is not None:
        slots.require_own(state, session.slot, server.database)
        if not meta:
            raise _unknown_slot(session.slot)
    gap = _gap(ground, state, meta)
    reading = meta.get("state") == STATE_SNAPSHOT
    if state is not None and (_found_gap(ground, state, meta) if reading else gap):
        # Our own slot, whose stream has a gap, also while tables were read: what it holds is read from the tables.
        slots.drop_slot(connection, session.slot)
        state = None
    if state is None:
        # While the log takes nothing there is no use in a new slot, which would hold WAL back, nor in reading tables.
        session.open_log()
        if gap and meta["state"] == STATE_STREAMING:
            session.hub.emit(told(session.slot, gap))
        return ground, read_tables(ground, int(meta.get("epoch", 0)), slot_timeout, gap)
    _require_same_selection(session, meta)
    _require_same_keys(ground, meta)
    session.start_streaming(server.version)
    if COLUMNS not in meta:
        session.index.save([], {COLUMNS: columns_text(tables)})
    session.progress = Progress(state.confirmed)
    assembler = resume(ground, state, meta)
    session.hub.emit(SourceConnected(server.version, session.slot, state.confirmed, assembler.compiled))
    session.snapshot = resumed(ground, assembler, meta)
    return ground, assembler


def _require_same_cluster(session: Session, system: str, meta: Mapping[str, str]) -> None:
    if meta and system and meta["system"] != system and not asks_for_all(meta):
        raise slots.foreign_cluster(session.slot, meta["system"], system)


def _gap(ground: Attachment, state: slots.SlotState | None, meta: Mapping[str, str]) -> str:
    """Why the tables are read anew, remembered; empty when they need not. SourceError unless it is permitted."""
    session = ground.session
    gap = meta.get(GAP, "")
    if not gap and meta.get("state") == STATE_STREAMING:
        _require_same_selection(session, meta)
        gap = _found_gap(ground, state, meta)
        if gap:
            session.index.save([], {GAP: gap})
    session.recovering = bool(gap)
    if gap and meta["state"] == STATE_STREAMING:
        error = unpermitted(session.settings, meta, gap, slot_is_gone=state is None)
        if error is not None:
            raise error
    return gap


def _found_gap(ground: Attachment, state: slots.SlotState | None, meta: Mapping[str, str]) -> str:
    confirmed, identity = int(meta["confirmed"]), ground.identity
    if meta["system"] != identity.system_id:
        return f"the server is system {identity.system_id}, the one attached was system {meta['system']}"
    if gap := branch_gap(ground, meta):
        return gap
    if ground.known_at < confirmed and ground.server.standby:
        raise _behind(ground.known_at, confirmed)
    if ground.known_at < confirmed:
        return (
            f"the server's WAL ends at {lsn_text(ground.known_at)}, and had reached {lsn_text(confirmed)}:"
            " it was restored"
        )
    if int(meta["timeline"]) != identity.timeline:
        meta = {**meta, "restart": "0"}  # a standby's copy of the slot may be some moments older than the slot was
    if gap := slots.gap_at(state, meta):
        return gap
    if meta.get(PUBLICATION, ground.publication) != ground.publication:
        return (
            f"publication {ground.session.settings.publication} was made anew and is younger than the slot, so changes"
            " of the time without it are not in the stream"
        )
    return ""


def _behind(known_at: int, confirmed: int) -> SourceWaits:
    return SourceWaits(
        _RESUME,
        "source.dsn",
        f"this standby has applied WAL up to {lsn_text(known_at)} only, and {lsn_text(confirmed)} was read before",
        "nothing is to be done: it is waited for; see to its replication if this lasts",
    )


def _require_attachable(session: Session, found: Survey, meta: Mapping[str, str]) -> None:
    """SourceError with all that stands in the way; SourceHeld when it once fitted, and may again."""
    error = catalogs.attach_refusal(found)
    if error is None:
        return
    if meta.get("state") != STATE_STREAMING and not meta.get(GAP):
        raise error
    if meta["selection"] != selection_text(session.selection):
        raise error  # it has never fitted: a mistake to be told at once
    if absent := catalogs.unpublished(found):
        gap = f"the publication was without {', '.join(absent)} for a time; changes of then are not in the stream"
        session.index.save([], {GAP: gap})
    held = SourceHeld(error.operation, error.subject, error.cause, error.mend)
    session.hold(held, int(meta["confirmed"]))
    raise held


def _unknown_slot(slot: str) -> SourceError:
    return SourceError(
        "attach to PostgreSQL",
        f"slot {slot}",
        "it exists, but neither this connector's index nor its log knows of it",
        f"if nobody else uses it: SELECT pg_drop_replication_slot('{slot}'); else choose another source.slot",
    )


def _rebuild(session: Session, shapes: Mapping[str, Shape], confirmed: int, asked: Mapping[str, str]) -> dict[str, str]:
    try:
        reader = session.open_reader()
    except LogUnavailable:
        return {}  # there is no log yet
    try:
        meta = rebuild_index(session.index, reader, session.selection, shapes, confirmed)
    finally:
        reader.close()
    if meta:
        session.index.save([], dict(asked))
        meta |= asked
    return meta


def _require_same_selection(session: Session, meta: Mapping[str, str]) -> None:
    known: dict[str, list[str]] = json.loads(meta["selection"])
    now: dict[str, list[str]] = json.loads(selection_text(session.selection))
    more = sorted(
        f"{table}.{column}" for table, columns in now.items() for column in set(columns) - set(known.get(table, []))
    )
    if more:
        raise SourceError(
            _RESUME,
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

"""The replication slot: its state, its making, the start of streaming.

Contract: a slot is made once, without two_phase, with an exported snapshot; the only one that is ever dropped is this
connector's own, when its snapshot did not finish or the stream has a gap. Everything that means a gap (slot gone,
invalidated, moved on by somebody else) is told as such, and nothing is skipped (PostgreSQL sections 49.2 and 54.19).
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import psycopg
from psycopg import pq

from connector.catalog.publication import INVALIDATED
from connector.change.position import lsn_text, parse_lsn
from connector.errors import SlotBusy, SourceError, SourceGap, SourceUnavailable
from connector.source.connection import command_error, connect_error

_SLOT = """
SELECT plugin, database, active_pid, confirmed_flush_lsn::text, restart_lsn::text, {wal_status}, {reason}
  FROM pg_replication_slots s WHERE slot_name = %(slot)s
"""
GONE = "it does not exist any more, so changes since it was dropped are missing"
"""The gap of a slot that is not there, and whose timeline and cluster are as they were."""
_START_SECONDS = 30.0
_RESUME = "resume from the replication slot"
_DROP = "SELECT pg_drop_replication_slot(%(slot)s)"

# So that the server notices within half a minute when the one whose turn it is has vanished with its host.
_NOTICE_LOSS = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"

# Let go with the connection; it keeps nobody else from anything.
_TURN = "SELECT pg_try_advisory_lock(%(key)s)"

# The end of WAL; on a standby, of what it has applied.
_POSITION = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
"""

# Which cluster it is, over an ordinary connection: a waiting capture need not use up a walsender to know.
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"

_STANDBY = "SELECT pg_is_in_recovery()"

# Tells a server that has been running all the time from every other one, its own restart included.
_RUN = "SELECT extract(epoch FROM pg_postmaster_start_time())::text"

# Transactions that slot creation would wait for (PostgreSQL section 49.2.1: it needs a consistent point).
_OLD_TRANSACTIONS = """
SELECT pid, coalesce(extract(epoch FROM now() - xact_start), 0)::int
  FROM pg_stat_activity
 WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY 2 DESC LIMIT 3
"""


# Which publication goes by our name: one that was dropped and made again has another oid.
_PUBLICATION = "SELECT oid::text FROM pg_publication WHERE pubname = %(publication)s"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A row of pg_replication_slots. `lost`: why it is of no use any more, empty when it is."""

    plugin: str
    database: str
    active_pid: int | None
    confirmed: int
    restart: int
    lost: str


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """IDENTIFY_SYSTEM: which cluster, and which branch of its history."""

    system_id: str
    timeline: int


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    """A new slot: streaming starts at `consistent_point`, the snapshot shows exactly what was committed before it."""

    consistent_point: int
    snapshot: str


def read_slot(connection: psycopg.Connection, slot: str, server_version: int) -> SlotState | None:
    """The slot's state, None when there is no such slot."""
    reason = "NULL"
    if server_version >= 170000:
        reason = "invalidation_reason"
    elif server_version >= 160000:
        # Of a slot whose WAL was removed 16 says `conflicting`, too; but only that one has no place left.
        words = "rows_removed or wal_level_insufficient on the primary"
        reason = f"CASE WHEN conflicting AND restart_lsn IS NOT NULL THEN '{words}' END"
    query = _SLOT.format(wal_status="wal_status" if server_version >= 130000 else "NULL", reason=reason)
    row = connection.execute(query, {"slot": slot}).fetchone()
    if row is None:
        return None
    plugin, database, pid, confirmed, restart, wal_status, reason = row
    lost = ""
    if wal_status == "lost" or restart is None or reason is not None:
        lost = INVALIDATED.get(reason or "wal_removed", str(reason))
    return SlotState(plugin, database, pid, parse_lsn(confirmed or "0/0"), parse_lsn(restart or "0/0"), lost)


def system_of(connection: psycopg.Connection) -> str:
    """The system identifier; empty where a DBA keeps it from this role."""
    try:
        row = connection.execute(_SYSTEM).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return ""
    assert row is not None
    return str(row[0])


def wal_position(connection: psycopg.Connection) -> int:
    """Where the server is now: whatever it has decoded by now was committed before."""
    row = connection.execute(_POSITION).fetchone()
    assert row is not None
    return parse_lsn(row[0])


def in_recovery(connection: psycopg.Connection) -> bool:
    """Whether the server is a standby now."""
    return connection.execute(_STANDBY).fetchone() == (True,)


def require_own(state: SlotState, slot: str, database: str) -> None:
    """SourceError when it can be no slot of ours."""
    if state.plugin != "pgoutput" or state.database != database:
        cause = f"it belongs to {state.plugin} on database {state.database}"
        raise SourceError(_RESUME, slot, cause, "choose another source.slot")


def gap_at(state: SlotState | None, meta: Mapping[str, str]) -> str:
    """Why streaming cannot go on from what `meta` remembers of the slot; empty when it can.

    confirmed: the last LSN that the server was told; created: where the slot was made to begin; restart: where its WAL
    began when it was last seen, and that never goes back, not even in a crash of the server.
    """
    confirmed, created, restart = int(meta["confirmed"]), int(meta.get("created", 0)), int(meta.get("restart", 0))
    if state is None:
        return GONE
    if state.lost:
        return f"{state.lost}, so changes are missing"
    if state.confirmed > confirmed:
        return (
            f"it stands at {lsn_text(state.confirmed)}, but this connector confirmed only {lsn_text(confirmed)}:"
            " it was recreated or moved on by somebody else, so changes are missing"
        )
    if state.confirmed < created or state.restart < restart:
        return (
            f"it stands at {lsn_text(state.confirmed)} and reads WAL from {lsn_text(state.restart)} on, but the slot of"
            f" this connector began at {lsn_text(created)} and last read from {lsn_text(restart)} on: it is another"
            " slot, or an older copy of it on a server that was restored"
        )
    return ""


def take_turn(connection: psycopg.Connection, slot: str) -> None:
    """Of two captures that find the slot free, or gone, let one make and fill it; until the connection is closed.

    A slot is not in use while its snapshot is read, so that it alone does not keep the second out.
    """
    key = int.from_bytes(sha256(f"emc-cdc {slot}".encode()).digest()[:8], signed=True)
    connection.execute(_NOTICE_LOSS)
    row = connection.execute(_TURN, {"key": key}).fetchone()
    if row is None or not row[0]:
        mend = "nothing is to be done: this one waits, and takes over when the other ends"
        raise SlotBusy(_RESUME, slot, "another capture is attaching to it", mend)


def held(slot: str, pid: int) -> SlotBusy:
    """Another connection streams from the slot."""
    return SlotBusy(
        _RESUME,
        slot,
        f"another capture is at work with it (server process {pid})",
        "nothing is to be done: this one waits, and takes over when the other ends",
    )


def foreign_cluster(slot: str, known: str, found: str) -> SourceError:
    """The DSN leads to another cluster than the one that was attached."""
    return SourceError(
        _RESUME,
        slot,
        f"the server is system {found}, the one attached was system {known} (an upgrade, a copy or another server)",
        "point source.dsn to the server that was attached; or, if this one has taken its place: emc-cdc snapshot --all",
    )


def drop_slot(connection: psycopg.Connection, slot: str) -> None:
    """Drop a slot of our own making whose snapshot did not finish."""
    try:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(_DROP, {"slot": slot})
    except psycopg.Error as error:
        raise command_error(
            "drop the unfinished slot", slot, error, f"SELECT pg_drop_replication_slot('{slot}');"
        ) from None


def identify_system(replication: pq.abc.PGconn) -> SystemIdentity:
    """Which cluster and timeline the replication connection talks to."""
    try:
        row = _command(replication, "IDENTIFY_SYSTEM", "ask the server who it is", 10.0)
    except TimeoutError:
        raise SourceUnavailable(
            "ask the server who it is", "source.dsn", "no answer within 10 s", "waiting for the server to come back"
        ) from None
    return SystemIdentity(row[0], int(row[1]))


def run_of(connection: psycopg.Connection) -> str:
    """Which run of which server this is."""
    row = connection.execute(_RUN).fetchone()
    assert row is not None
    return str(row[0])


def publication_of(connection: psycopg.Connection, publication: str) -> str:
    """The oid of the publication; empty without one."""
    row = connection.execute(_PUBLICATION, {"publication": publication}).fetchone()
    return "" if row is None else str(row[0])


def timeline_history(replication: pq.abc.PGconn, timeline: int) -> str:
    """The history file of a timeline: from which one it branched, and where. Empty when the server has none."""
    if timeline == 1:
        return ""
    try:
        return _command(replication, f"TIMELINE_HISTORY {timeline}", "ask for the timeline's history", 10.0)[1]
    except SourceUnavailable:
        raise
    except SourceError:
        return ""
    except TimeoutError:
        raise SourceUnavailable(
            "ask for the timeline's history", "source.dsn", "no answer within 10 s", "waiting for the server"
        ) from None


def create_slot(
    replication: pq.abc.PGconn, connection: psycopg.Connection, slot: str, timeout: float, failover: bool = False
) -> CreatedSlot:
    """Make the slot; it waits for transactions that are open now, at most `timeout` seconds, then leaves no slot.

    failover: standbys may keep a copy of it (17 and later), by which streaming goes on after a promotion.
    """
    options = "(SNAPSHOT 'export', FAILOVER true)" if failover else "EXPORT_SNAPSHOT"
    command = f'CREATE_REPLICATION_SLOT "{slot}" LOGICAL pgoutput {options}'
    try:
        row = _command(replication, command, "create the replication slot", timeout)
    except TimeoutError:
        # The server notices a lost connection only after the wait, and would leave a finished slot; a cancelled
        # command takes its unfinished slot with it.
        _cancel(replication)
        replication.finish()
        if in_recovery(connection):
            raise SourceUnavailable(
                "create the replication slot",
                slot,
                f"this standby has heard nothing of the primary's running transactions for {timeout:.0f} s",
                "on the primary, as a superuser: SELECT pg_log_standby_snapshot(); (or GRANT EXECUTE ON FUNCTION"
                " pg_log_standby_snapshot() TO somebody who may); a busy primary does it by itself every 15 s",
            ) from None
        waiting = [f"pid {pid} for {age} s" for pid, age in connection.execute(_OLD_TRANSACTIONS).fetchall()]
        raise SourceUnavailable(
            "create the replication slot",
            slot,
            f"open transactions hold it up: {', '.join(waiting) or 'none seen any more'}",
            "wait until they end, or end them with SELECT pg_terminate_backend(<pid>); no slot was left behind",
        ) from None
    return CreatedSlot(parse_lsn(row[1]), row[2])


def start_streaming(replication: pq.abc.PGconn, slot: str, publication: str, server_version: int) -> None:
    """START_REPLICATION from where the slot stands. SourceUnavailable while another process holds it."""
    quoted = publication.replace('"', '""').replace("'", "''")
    options = protocol_options(server_version) | {"publication_names": f'"{quoted}"'}
    listed = ", ".join(f"{name} '{value}'" for name, value in options.items())
    try:
        result = _result(replication, f'START_REPLICATION SLOT "{slot}" LOGICAL 0/0 ({listed})', _START_SECONDS)
    except TimeoutError:
        raise SourceUnavailable(
            "start streaming", slot, f"no answer within {_START_SECONDS:.0f} s", "waiting for the server to come back"
        ) from None
    if result.status != pq.ExecStatus.COPY_BOTH:
        raise replication_error("start streaming", slot, result)


def protocol_options(server_version: int) -> dict[str, str]:
    """The newest protocol of this server (PostgreSQL section 55.5.1).

    Large transactions are streamed while they are open, so the server need not write them to its disk. Streaming stays
    'on' where 'parallel' is known (16): that adds positions to aborts, for subscribers that apply while it is open, and
    nothing of ours is applied before the commit. Changes of any origin are wanted, the default. two_phase is never
    asked for: a prepared transaction comes at COMMIT PREPARED.
    """
    major = server_version // 10000
    if major < 14:
        return {"proto_version": "1"}
    version = {14: "2", 15: "3"}.get(major, "4")
    return {"proto_version": version, "streaming": "on", "messages": "true"}


def replication_error(operation: str, subject: str, result: pq.abc.PGresult) -> SourceError:
    """What a failed replication command means."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(errors="replace")
    match state:
        case "55006":  # object_in_use
            return SlotBusy(operation, subject, message, "another capture is at work; this one waits")
        case "42501":
            return SourceError(operation, subject, message, "as a superuser: ALTER ROLE <role> WITH REPLICATION;")
        case "53400":
            return SourceError(
                operation,
                subject,
                message,
                "drop an unused slot, or raise max_replication_slots and restart PostgreSQL",
            )
        case "42704":
            if "publication" in message:
                cause = f"{message}: the slot is older than the publication, so WAL before it cannot be decoded"
                return _gap(subject, cause)
            return _gap(subject, gap_at(None, {"confirmed": "0"}))
        case "55000" if "wal_level" in message:
            mend = "set wal_level = 'logical' there, restart that server once, and start again"
            return SourceError(operation, subject, message, mend)
        case "40001":  # a standby's recovery was in the way, and may have invalidated the slot
            return SourceUnavailable(operation, subject, message, "nothing is to be done: the next session looks again")
        case "55000" | "58P01":  # the slot was invalidated; WAL that it needs is gone
            return _gap(subject, message)
        case "":
            return connect_error(message, None)
        case _ if state.startswith(("57P", "08")):
            return SourceUnavailable(operation, subject, message, "PostgreSQL is stopping or starting; waiting for it")
        case _:
            return SourceError(operation, subject, message, "see PostgreSQL's log")


def _result(replication: pq.abc.PGconn, command: str, timeout: float) -> pq.abc.PGresult:
    """A replication command's first result. TimeoutError when there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    try:
        replication.send_query(command.encode())
        while replication.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([replication.socket], [], [], left)[0]:
                raise TimeoutError
            replication.consume_input()
    except psycopg.OperationalError as error:
        raise connect_error(str(error), None) from None
    result = replication.get_result()
    if result is None:
        raise SourceUnavailable("ask the server", "source.dsn", "it gave no answer", "waiting for it to come back")
    return result


def _command(replication: pq.abc.PGconn, command: str, operation: str, timeout: float) -> list[str]:
    result = _result(replication, command, timeout)
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise replication_error(operation, command.split('"')[1] if '"' in command else "the server", result)
    row = [(result.get_value(0, index) or b"").decode() for index in range(result.nfields)]
    while replication.get_result() is not None:
        pass
    return row


def _cancel(replication: pq.abc.PGconn) -> None:
    """Cancel the running command, and wait until the server has done so."""
    try:
        replication.get_cancel().cancel()
    except psycopg.OperationalError:
        return  # the server is gone, and with it the command
    # The answer to a cancelled command comes at once; it may also have succeeded just before.
    while select.select([replication.socket], [], [], 5.0)[0]:
        try:
            replication.consume_input()
        except psycopg.OperationalError:
            return
        if not replication.is_busy():
            return


def _gap(slot: str, cause: str) -> SourceGap:
    return SourceGap(_RESUME, slot, cause, "what is in the log is safe; the next start says how to go on")

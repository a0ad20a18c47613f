"""The SQL that takes the set-up back: who runs what, in order (pure).

Contract: nothing is taken back while a capture streams. What is taken back is what set-up makes, whatever the mapping
says now: the slot, the publication, every column and schema that was granted to the runtime role itself, BYPASSRLS,
and, where it is wanted, the role. A slot of that name that is not ours is left alone. What others may use by now
(wal_level, the owner's CREATE on the database) is told in comments, never run.
"""

from __future__ import annotations

from connector.catalog.identifier import listed, literal, qualified, quote
from connector.catalog.publication import ours
from connector.catalog.survey import Survey
from connector.errors import SourceError
from connector.preflight.setup import Statement


def undo_statements(found: Survey, *, drop_role: bool) -> list[Statement]:
    """All that is to be run; empty when nothing is left. SourceError while a capture streams from the slot."""
    require_idle(found)
    statements = [*_slot(found), *_publication(found), *_grants(found), *_role(found, drop_role=drop_role)]
    return [*statements, *_left(found)] if statements else []


def require_idle(found: Survey) -> None:
    """SourceError while the slot is in use."""
    slot = found.slot
    if slot is not None and slot.active_pid is not None and ours(slot, found):
        raise SourceError(
            "take the set-up back",
            f"slot {found.slot_name}",
            f"a capture is streaming from it (server process {slot.active_pid}); nothing was changed",
            "end `emc-cdc run` or `emc-cdc capture` first, then run this again",
        )


def _slot(found: Survey) -> list[Statement]:
    if found.slot is None or not ours(found.slot, found):
        return []
    sql = f"SELECT pg_drop_replication_slot({literal(found.slot_name)});"
    return [Statement(sql, "operator", found.role.name, "from here on the server holds no WAL back for us")]


def _publication(found: Survey) -> list[Statement]:
    if found.publication is None:
        return []
    sql = f"DROP PUBLICATION {quote(found.publication_name)};"
    return [_by(found, found.publication.owner, sql, "nothing is published for us any more")]


def _grants(found: Survey) -> list[Statement]:
    role = quote(found.role.name)
    statements = []
    for granted in found.role.columns:
        sql = f"REVOKE SELECT ({listed(granted.columns)}) ON {qualified(granted.schema, granted.name)}"
        statements.append(_by(found, granted.owner, f"{sql} FROM {role};", "what the first read needed"))
    for schema in found.role.schemas:
        if not schema.used_otherwise:
            sql = f"REVOKE USAGE ON SCHEMA {quote(schema.schema)} FROM {role};"
            statements.append(_by(found, schema.owner, sql, "nothing in it is ours"))
    return statements


def _by(found: Survey, owner: str, sql: str, why: str) -> Statement:
    """For the owner where that is an owner of captured tables, or else for a superuser."""
    if any(table.owner == owner for table in found.present):
        return Statement(sql, "owner", owner, why)
    return Statement(sql, "dba", "", why)


def _role(found: Survey, *, drop_role: bool) -> list[Statement]:
    role = found.role
    if not role.exists or role.superuser:
        return []
    if drop_role:
        why = "it fails, and changes nothing, while the role has rights in another database"
        return [Statement(f"DROP ROLE {quote(role.name)};", "dba", "", why)]
    if role.bypasses_rls:
        return [Statement(f"ALTER ROLE {quote(role.name)} NOBYPASSRLS;", "dba", "", "the first read needed it")]
    return []


def _left(found: Survey) -> list[Statement]:
    """Comments: what somebody else may count on by now."""
    left = []
    if found.server.wal_level == "logical" and not found.server.other_slots:
        sql = "-- ALTER SYSTEM RESET wal_level;"
        left.append(Statement(sql, "dba", "", "only where no other logical replication is wanted; at the next restart"))
    owners = dict.fromkeys(table.owner for table in found.present if table.owner_was_granted_create)
    for owner in owners:
        sql = f"-- REVOKE CREATE ON DATABASE {quote(found.server.database)} FROM {quote(owner)};"
        left.append(Statement(sql, "dba", "", "only if it was granted for the publication"))
    return left

"""What the source database is like: facts for checks and set-up, read once from the catalog.

Contract: `survey` only reads, asks nothing that an ordinary role may not ask, and judges nothing; the rules stand in
`server`, `tables` and `publication`. It tells of `role`, which need not be the role that is connected and need not
exist yet. Works on PostgreSQL 10 to 18; what a version does not know is told as its absence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from connector.change.selection import Selection, TableSelection

# Server and database; a setting that waits for a restart shows only after a reload of the configuration.
_SERVER = """
SELECT current_setting('server_version_num')::int AS version,
       current_database() AS database,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS standby,
       current_setting('wal_level') AS wal_level,
       ARRAY(SELECT name FROM pg_settings WHERE pending_restart
              AND name IN ('wal_level', 'max_replication_slots', 'max_wal_senders') ORDER BY 1) AS pending,
       current_setting('max_replication_slots')::int AS slots,
       (SELECT count(*)::int FROM pg_replication_slots) AS slots_used,
       current_setting('max_wal_senders')::int AS senders,
       (SELECT count(*)::int FROM pg_stat_replication) AS senders_used,
       current_setting('max_slot_wal_keep_size', true) AS keep_size,
       ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE slot_name <> %(slot)s ORDER BY 1) AS other_slots
"""

# The runtime role; no row when there is none of that name.
_ROLE = """
SELECT oid::bigint, rolsuper, rolreplication, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb
  FROM pg_roles WHERE rolname = %(role)s
"""

# One relation of the mapping, whatever kind it is. A role without the right (or a role that is not there: NULL) gets
# false. Row level security as the server decides it for a reader: not for bypassers, nor for owners unless forced.
_RELATION = """
SELECT c.oid::bigint AS oid, c.reltuples::bigint AS estimate,
       c.relkind::text AS kind, c.relpersistence::text AS persistence, c.relreplident::text AS identity,
       pg_get_userbyid(c.relowner)::text AS owner, pg_get_userbyid(n.nspowner)::text AS schema_owner,
       coalesce(has_schema_privilege(%(role)s::oid, n.oid, 'USAGE'), false) AS usable,
       has_database_privilege(c.relowner, current_database(), 'CREATE') AS owner_may_publish,
       EXISTS (SELECT FROM pg_database d, aclexplode(d.datacl) x
                WHERE d.datname = current_database() AND x.grantee = c.relowner AND x.grantee <> d.datdba
                  AND x.privilege_type = 'CREATE') AS owner_was_granted_create,
       c.relrowsecurity AND NOT %(sees_all)s
           AND (c.relforcerowsecurity OR NOT coalesce(pg_has_role(%(role)s::oid, c.relowner, 'USAGE'), false))
           AS thinned,
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
              WHERE has_table_privilege(%(role)s::oid, c.oid, p)) AS privileges,
       ARRAY(SELECT x.privilege_type FROM aclexplode(c.relacl) x WHERE x.grantee = %(role)s::oid) AS granted
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

# Its columns in table order; a domain is told as what it is based on, because so its values are logged.
_COLUMNS = """
SELECT a.attname::text AS name,
       (WITH RECURSIVE base(oid, typmod) AS (
            SELECT a.atttypid, a.atttypmod
            UNION ALL
            SELECT t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')
        SELECT format_type(b.oid, b.typmod) FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype <> 'd') AS type,
       a.attnotnull AS not_null,
       coalesce(has_column_privilege(%(role)s::oid, a.attrelid, a.attnum, 'SELECT'), false) AS readable,
       {generated} AS generated
  FROM pg_attribute a
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# Its unique indexes with what makes them fit (or not) to identify a row; columns in index order, INCLUDE left out.
_INDEXES = """
SELECT c.relname::text AS name, i.indisprimary AS is_primary, i.indisreplident AS is_identity,
       i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS fit,
       ARRAY(SELECT a.attname::text
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.place <= i.{key_columns} ORDER BY k.place) AS columns
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %(oid)s AND i.indisunique
 ORDER BY i.indisprimary DESC, c.relname
"""

# Everything below it: partitions, or child tables of old-style inheritance; `identified`: the application's UPDATE
# and DELETE go on working when the relation is published.
_HEIRS = """
WITH RECURSIVE heirs(oid) AS (
    SELECT inhrelid FROM pg_inherits WHERE inhparent = %(oid)s
    UNION ALL
    SELECT i.inhrelid FROM pg_inherits i JOIN heirs h ON i.inhparent = h.oid)
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, c.relreplident::text AS identity,
       {identified} AS identified
  FROM heirs h JOIN pg_class c ON c.oid = h.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2
"""
_IDENTIFIED = """
(c.relreplident = 'f' OR EXISTS (
    SELECT FROM pg_index i
     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))"""

# What was granted to the role itself in this database, column by column and schema by schema: all that set-up grants.
_GRANTED_COLUMNS = """
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner,
       array_agg(a.attname::text ORDER BY a.attnum) AS columns
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped
   AND EXISTS (SELECT FROM aclexplode(a.attacl) x WHERE x.grantee = %(role)s AND x.privilege_type = 'SELECT')
 GROUP BY 1, 2, 3 ORDER BY 1, 2
"""
_GRANTED_SCHEMAS = """
SELECT n.nspname::text AS schema, pg_get_userbyid(n.nspowner)::text AS owner,
       EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) r
                WHERE c.relnamespace = n.oid AND r.grantee = %(role)s AND c.relowner <> r.grantee) AS used_otherwise
  FROM pg_namespace n, aclexplode(n.nspacl) x
 WHERE x.grantee = %(role)s AND x.privilege_type = 'USAGE' AND n.nspowner <> x.grantee
 ORDER BY 1
"""

# Names to offer in the place of one that is not there.
_NEIGHBOURS = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

_PUBLICATION = """
SELECT oid, pg_get_userbyid(pubowner)::text AS owner, puballtables AS all_tables,
       pubinsert, pubupdate, pubdelete, {truncate} AS pubtruncate, {via_root} AS via_root, {generated} AS generated
  FROM pg_publication WHERE pubname = %(publication)s
"""

# What it lists by name (row filters and column lists: 15 and later).
_PUBLISHED = """
SELECT n.nspname::text AS schema, c.relname::text AS name, {identified} OR c.relkind = 'p' AS identified,
       {filtered} AS filtered, {columns} AS columns
  FROM pg_publication_rel pr JOIN pg_class c ON c.oid = pr.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE pr.prpubid = %(oid)s ORDER BY 1, 2
"""
_LISTED_COLUMNS = """
CASE WHEN pr.prattrs IS NOT NULL THEN
    ARRAY(SELECT a.attname::text FROM pg_attribute a
           WHERE a.attrelid = pr.prrelid AND a.attnum = ANY (pr.prattrs::int2[]) ORDER BY a.attnum) END"""

# Whole schemas that it publishes (15 and later).
_SCHEMAS = """
SELECT n.nspname::text FROM pg_publication_namespace pn JOIN pg_namespace n ON n.oid = pn.pnnspid
 WHERE pn.pnpubid = %(oid)s ORDER BY 1
"""

_SLOT = """
SELECT plugin::text, database::text, active_pid, {wal_status} AS wal_status, {invalidation} AS invalidation,
       restart_lsn IS NULL AS without_wal
  FROM pg_replication_slots WHERE slot_name = %(slot)s
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server. `keep_size`: max_slot_wal_keep_size as SHOW prints it, None before 13.

    `pending`: settings of ours that a restart will change, to what is not shown.
    """

    version: int
    database: str
    encoding: str
    standby: bool
    wal_level: str
    pending: list[str]
    slots: int
    slots_used: int
    senders: int
    senders_used: int
    keep_size: str | None
    other_slots: list[str]

    @property
    def major(self) -> int:
        return self.version // 10000


@dataclass(frozen=True, slots=True)
class GrantedColumns:
    """Columns of one table that the role was granted SELECT on, by name."""

    schema: str
    name: str
    owner: str
    columns: list[str]


@dataclass(frozen=True, slots=True)
class GrantedSchema:
    """A schema that the role was granted USAGE on. `used_otherwise`: it has rights on whole relations in there, too."""

    schema: str
    owner: str
    used_otherwise: bool


@dataclass(frozen=True, slots=True)
class RuntimeRole:
    """The role the connector runs as, and what was granted to itself (not to PUBLIC or to roles that it is in)."""

    name: str
    exists: bool
    superuser: bool = False
    replication: bool = False
    login: bool = False
    bypasses_rls: bool = False
    makes_roles: bool = False
    makes_databases: bool = False
    columns: tuple[GrantedColumns, ...] = ()
    schemas: tuple[GrantedSchema, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `generated`: `s` stored, `v` virtual, empty otherwise."""

    name: str
    type: str
    not_null: bool
    readable: bool
    generated: str


@dataclass(frozen=True, slots=True)
class Index:
    """A unique index. `fit`: valid, immediate, neither partial nor on expressions."""

    name: str
    is_primary: bool
    is_identity: bool
    fit: bool
    columns: list[str]


@dataclass(frozen=True, slots=True)
class Heir:
    """A partition or inheriting table."""

    schema: str
    name: str
    kind: str
    identity: str
    identified: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A relation that the mapping names. `kind` and `persistence`, `identity`: letters of pg_class.

    `estimate`: the planner's row count, -1 (0 before PostgreSQL 14) when unknown. `privileges`: what the role may do
    with the whole table, from wherever; `granted`: what was granted to itself.
    """

    selection: TableSelection
    oid: int
    estimate: int
    kind: str
    persistence: str
    identity: str
    owner: str
    schema_owner: str
    usable: bool
    owner_may_publish: bool
    owner_was_granted_create: bool
    thinned: bool
    privileges: list[str]
    granted: list[str]
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    heirs: tuple[Heir, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row for capture; empty when there are none."""
        for index in self.indexes:
            if index.is_identity if self.identity == "i" else index.is_primary:
                return tuple(index.columns)
        return ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every column that is captured: key, link, mapped."""
        link = (self.selection.link,) if self.selection.link else ()
        return tuple(dict.fromkeys((*self.key, *link, *self.selection.columns)))


@dataclass(frozen=True, slots=True)
class Absent:
    """A table of the mapping that is not there; `candidates` are (schema, name) of those that are."""

    selection: TableSelection
    candidates: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A table that the publication lists. `columns`: its column list, None for all."""

    schema: str
    name: str
    identified: bool
    filtered: bool
    columns: list[str] | None


@dataclass(frozen=True, slots=True)
class Publication:
    """`leaves_out`: kinds of changes it does not publish. `via_root`, `generated` (`n`, `s`): None where unknown."""

    owner: str
    all_tables: bool
    schemas: tuple[str, ...]
    leaves_out: tuple[str, ...]
    via_root: bool | None
    generated: str | None
    tables: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """`invalidation`: why it is of no use any more (17 and later tell), None while it is of use."""

    plugin: str | None
    database: str | None
    active_pid: int | None
    wal_status: str | None
    invalidation: str | None


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything; `publication` and `slot` are None when they are not there.

    `mapped_only`: the publication is to list mapped columns only (the operator's wish, `source.publish_columns`).
    """

    server: Server
    role: RuntimeRole
    tables: tuple[Table | Absent, ...]
    publication_name: str
    publication: Publication | None
    slot_name: str
    slot: Slot | None
    mapped_only: bool = False

    @property
    def present(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if isinstance(table, Table))


def survey(
    connection: psycopg.Connection,
    role: str,
    selection: Selection,
    publication: str,
    slot: str,
    *,
    mapped_only: bool = False,
) -> Survey:
    """Read it all. psycopg.Error when a question is not answered (in time).

    Of a server that is older than publications, only the server itself.
    """
    cursor = connection.cursor(row_factory=dict_row)
    server = Server(**cursor.execute(_SERVER, {"slot": slot}).fetchall()[0])
    if server.version < 100000:
        return Survey(server, RuntimeRole(role, exists=True), (), publication, None, slot, None)
    oid, runtime = _role(cursor, role)
    known = {"role": oid, "sees_all": runtime.superuser or runtime.bypasses_rls}
    tables = tuple(_table(cursor, table, known, server.version) for table in selection.tables)
    return Survey(
        server,
        runtime,
        tables,
        publication,
        _publication(cursor, publication, server.version),
        slot,
        _slot(cursor, slot, server.version),
        mapped_only,
    )


def _role(cursor: psycopg.Cursor[dict[str, Any]], name: str) -> tuple[int | None, RuntimeRole]:
    found = cursor.execute(_ROLE, {"role": name}).fetchone()
    if found is None:
        return None, RuntimeRole(name, exists=False)
    granted = {"role": found["oid"]}
    return found["oid"], RuntimeRole(
        name,
        True,
        found["rolsuper"],
        found["rolreplication"],
        found["rolcanlogin"],
        found["rolbypassrls"],
        found["rolcreaterole"],
        found["rolcreatedb"],
        tuple(GrantedColumns(**row) for row in cursor.execute(_GRANTED_COLUMNS, granted).fetchall()),
        tuple(GrantedSchema(**row) for row in cursor.execute(_GRANTED_SCHEMAS, granted).fetchall()),
    )


def _table(
    cursor: psycopg.Cursor[dict[str, Any]], table: TableSelection, known: dict[str, Any], version: int
) -> Table | Absent:
    relation = cursor.execute(_RELATION, {**known, "schema": table.schema, "table": table.name}).fetchone()
    if relation is None:
        rows = cursor.execute(_NEIGHBOURS).fetchall()
        return Absent(table, tuple((row["nspname"], row["relname"]) for row in rows))
    names = {**known, "oid": relation["oid"]}
    columns = _COLUMNS.format(generated="a.attgenerated::text" if version >= 120000 else "''")
    indexes = _INDEXES.format(key_columns="indnkeyatts" if version >= 110000 else "indnatts")
    return Table(
        table,
        **relation,
        columns=tuple(Column(**row) for row in cursor.execute(columns, names).fetchall()),
        indexes=tuple(Index(**row) for row in cursor.execute(indexes, names).fetchall()),
        heirs=tuple(Heir(**row) for row in cursor.execute(_HEIRS.format(identified=_IDENTIFIED), names).fetchall()),
    )


def _publication(cursor: psycopg.Cursor[dict[str, Any]], name: str, version: int) -> Publication | None:
    query = _PUBLICATION.format(
        truncate="pubtruncate" if version >= 110000 else "true",
        via_root="pubviaroot" if version >= 130000 else "NULL::bool",
        generated="pubgencols::text" if version >= 180000 else "NULL::text",
    )
    found = cursor.execute(query, {"publication": name}).fetchone()
    if found is None:
        return None
    listed = _PUBLISHED.format(
        identified=_IDENTIFIED,
        filtered="pr.prqual IS NOT NULL" if version >= 150000 else "false",
        columns=_LISTED_COLUMNS if version >= 150000 else "NULL::text[]",
    )
    oid = {"oid": found["oid"]}
    schemas = cursor.execute(_SCHEMAS, oid).fetchall() if version >= 150000 else []
    return Publication(
        found["owner"],
        found["all_tables"],
        tuple(row["nspname"] for row in schemas),
        tuple(kind for kind in ("insert", "update", "delete", "truncate") if not found[f"pub{kind}"]),
        found["via_root"],
        found["generated"],
        tuple(Published(**row) for row in cursor.execute(listed, oid).fetchall()),
    )


def _slot(cursor: psycopg.Cursor[dict[str, Any]], name: str, version: int) -> Slot | None:
    query = _SLOT.format(
        wal_status="wal_status" if version >= 130000 else "NULL::text",
        invalidation="invalidation_reason" if version >= 170000 else "NULL::text",
    )
    found = cursor.execute(query, {"slot": name}).fetchone()
    if found is None:
        return None
    lost = found.pop("without_wal") or found["wal_status"] == "lost"
    found["invalidation"] = found["invalidation"] or ("wal_removed" if lost else None)
    return Slot(**found)

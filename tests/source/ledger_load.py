"""The load: several writers, and a ledger that each of their transactions writes with what it does.

Contract: what stands in `ledger.changes` is what was committed, in the order in which it was made, by construction: it
is written in the same transaction, and where a subtransaction is rolled back its lines are, too. `ledger.commits`
numbers the transactions in the order of their commits: the number is the last that a transaction takes, under a lock
that is let go after the commit. None of it is published. Nothing here is of `connector`.

Each row has a version (`ban`) that rises with every change. Writers pace themselves, so that minutes of faults do not
make millions of changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import psycopg

DOSSIERS, PAYMENTS, SERVICES = "m.ho_so", "m.thanh_toan", "m.thu_tuc"

TABLES = """
CREATE SCHEMA m;
CREATE TABLE m.ho_so (id bigint PRIMARY KEY, ban int NOT NULL, noi_dung text);
CREATE TABLE m.thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint, ban int NOT NULL, so_tien numeric(12,2));
CREATE TABLE m.thu_tuc (id bigint PRIMARY KEY, ban int NOT NULL, ten text);
CREATE SCHEMA ledger;
CREATE TABLE ledger.columns (relation text, name text);
INSERT INTO ledger.columns VALUES
    ('m.ho_so', 'id'), ('m.ho_so', 'ban'), ('m.ho_so', 'noi_dung'),
    ('m.thanh_toan', 'id'), ('m.thanh_toan', 'ho_so_id'), ('m.thanh_toan', 'ban'), ('m.thanh_toan', 'so_tien'),
    ('m.thu_tuc', 'id'), ('m.thu_tuc', 'ban'), ('m.thu_tuc', 'ten');
CREATE TABLE ledger.changes (
    seq bigserial PRIMARY KEY, tx bigint NOT NULL DEFAULT txid_current() % 4294967296,
    relation text, key text, dossier text, former text, op text, row text
);
CREATE TABLE ledger.commits (
    tx bigint PRIMARY KEY DEFAULT txid_current() % 4294967296, number bigserial UNIQUE
);
CREATE SEQUENCE ledger.keys START 1000;
INSERT INTO m.ho_so SELECT g, 0, 'hồ sơ ' || g FROM generate_series(1, 200) g;
INSERT INTO m.thanh_toan SELECT g, g, 0, g * 1.25 FROM generate_series(1, 200) g;
INSERT INTO m.thu_tuc SELECT g, 0, 'thủ tục ' || g FROM generate_series(1, 5) g;
"""
MAPPING = """\
mapping:
  dossier: {table: m.ho_so}
  children:
    payments: {table: m.thanh_toan, belongs_to: ho_so_id, order_by: ban}
  references:
    service: {table: m.thu_tuc, match: {id: ban}}
  milestones:
    received: {ban: 1}
    processing: {ban: 2}
    result: {ban: 3}
    other: {ban: 4}
  CodeProfile: noi_dung
  SiteId: 327
  CodeTTHC: service.ban
  NameTTHC: service.ten
  Level: 4
  FormsReception: {constant: online}
  Result: {constant: desk}
  FormsPayments:
    of: {last: payments, where: {ban: 1}, column: so_tien}
    is: {mang: online, quay: in_person}
  IsFromDVCQG: false
  User: {type: {constant: citizen}, account: noi_dung, location: {constant: 000.00.02.H10}}
"""
"""Names every column, so that capture keeps them all; nothing is delivered by it."""

# Each makes changes and writes them down: `c` is what was changed. RETURNING tells rows in the order of their changes.
_WRITE_DOWN = {
    DOSSIERS: "INSERT INTO ledger.changes (relation, key, dossier, op, row)"
    " SELECT 'm.ho_so', id::text, id::text, %(op)s, row_to_json(c)::text FROM c",
    PAYMENTS: "INSERT INTO ledger.changes (relation, key, dossier, op, row)"
    " SELECT 'm.thanh_toan', id::text, ho_so_id::text, %(op)s, row_to_json(c)::text FROM c",
    SERVICES: "INSERT INTO ledger.changes (relation, key, dossier, op, row)"
    " SELECT 'm.thu_tuc', id::text, NULL, %(op)s, row_to_json(c)::text FROM c",
}
_NEW_DOSSIERS = """
INSERT INTO m.ho_so SELECT nextval('ledger.keys'), 1, %(text)s FROM generate_series(1, %(count)s) RETURNING *"""
_NEW_PAYMENTS = """
INSERT INTO m.thanh_toan
SELECT nextval('ledger.keys'), id, 1, %(amount)s::numeric FROM m.ho_so WHERE id = ANY(%(keys)s) RETURNING *"""
_NEW_VERSIONS = "UPDATE m.ho_so SET ban = ban + 1 WHERE id = ANY(%(keys)s) RETURNING *"
_NEW_TEXT = "UPDATE m.ho_so SET ban = ban + 1, noi_dung = %(text)s WHERE id = ANY(%(keys)s) RETURNING *"
_PAID = """
UPDATE m.thanh_toan SET ban = ban + 1, so_tien = so_tien + 0.25 WHERE ho_so_id = ANY(%(keys)s) RETURNING *"""
_GONE_DOSSIERS = "DELETE FROM m.ho_so WHERE id = ANY(%(keys)s) AND id > 200 RETURNING *"
_GONE_PAYMENTS = "DELETE FROM m.thanh_toan WHERE ho_so_id = ANY(%(keys)s) RETURNING *"
_RENAMED = "UPDATE m.thu_tuc SET ban = ban + 1, ten = %(text)s WHERE id = %(service)s RETURNING *"
_MOVED = """
WITH was AS (SELECT id, ho_so_id FROM m.thanh_toan WHERE ho_so_id = ANY(%(keys)s) ORDER BY id LIMIT 2 FOR UPDATE),
c AS (
    UPDATE m.thanh_toan p SET ho_so_id = %(to)s, ban = ban + 1 FROM was WHERE p.id = was.id
    RETURNING p.*, was.ho_so_id AS former
)
INSERT INTO ledger.changes (relation, key, dossier, former, op, row)
SELECT 'm.thanh_toan', id::text, ho_so_id::text, former::text, 'u', (row_to_json(c)::jsonb - 'former')::text FROM c
"""
_COMMIT_LOCK = "SELECT pg_advisory_xact_lock(5550123)"
_NUMBER = "INSERT INTO ledger.commits DEFAULT VALUES"
_SOME = "SELECT id FROM m.ho_so WHERE id >= %s ORDER BY id LIMIT %s"

PAUSE = 0.02
"""Seconds between two transactions of a writer."""
HUGE = 3000
"""Rows of a transaction that takes several appends."""


class Load:
    """`writers` threads that write until `stop`. As a context manager: while the block runs; raises what one met."""

    def __init__(self, dsn: str, writers: int = 3, seed: int = 1) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._done = [0] * writers
        self._threads = [
            threading.Thread(target=self._run, args=(number, Random(seed + number))) for number in range(writers)
        ]

    @property
    def transactions(self) -> int:
        """How many transactions were committed so far."""
        return sum(self._done)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End after the transactions that are open."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self, number: int, random: Random) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                writer = Writer(connection, random)
                while not self._stop.wait(PAUSE):
                    self._done[number] += writer.transaction()
        except BaseException as error:
            self._failures.append(error)


class Writer:
    """One connection that makes transactions. `connection`: in autocommit mode."""

    def __init__(self, connection: psycopg.Connection, random: Random) -> None:
        self._connection = connection
        self._random = random

    def transaction(self) -> bool:
        """A transaction of a few changes, whether it was committed: some are rolled back, or meet a deadlock."""
        random = self._random
        try:
            with self._connection.transaction() as outer:
                for _ in range(random.randint(1, 6)):
                    if random.random() < 0.2:
                        with self._connection.transaction() as inner:
                            self._change()
                            self._change()
                            if random.random() < 0.6:
                                raise psycopg.Rollback(inner)
                    else:
                        self._change()
                if random.random() < 0.05:
                    raise psycopg.Rollback(outer)
                self._number()
                return True
        except psycopg.errors.DeadlockDetected:
            pass
        return False

    def huge(self, rows: int = HUGE) -> None:
        """A transaction of many rows."""
        with self._connection.transaction():
            self._make(DOSSIERS, _NEW_DOSSIERS, "c", text=self._text(200), count=rows)
            self._number()

    def _change(self) -> None:
        random = self._random
        # Old dossiers are changed again and again, and some of the new ones.
        first = random.choice((random.randint(1, 200), random.randint(1, 3000)))
        keys = [key for (key,) in self._connection.execute(_SOME, (first, random.randint(1, 3))).fetchall()]
        changes: list[Callable[[], None]] = [
            lambda: self._make(DOSSIERS, _NEW_DOSSIERS, "c", text=self._text(40), count=random.randint(1, 3)),
            lambda: self._make(PAYMENTS, _NEW_PAYMENTS, "c", keys=keys, amount=f"{random.randint(1, 99999)}.5"),
            lambda: self._make(DOSSIERS, _NEW_VERSIONS, "u", keys=keys),
            lambda: self._make(DOSSIERS, _NEW_VERSIONS, "u", keys=keys),
            lambda: self._make(PAYMENTS, _PAID, "u", keys=keys),
            lambda: self._make(DOSSIERS, _NEW_TEXT, "u", keys=keys, text=self._text(random.choice((30, 30, 4000)))),
            lambda: self._make(DOSSIERS, _GONE_DOSSIERS, "d", keys=keys),
            lambda: self._make(PAYMENTS, _GONE_PAYMENTS, "d", keys=keys),
            lambda: self._make(SERVICES, _RENAMED, "u", service=random.randint(1, 5), text=self._text(20)),
            lambda: self._execute(_MOVED, keys=keys, to=random.randint(1, 200)),
        ]
        random.choice(changes)()

    def _make(self, table: str, change: str, op: str, **values: object) -> None:
        self._execute(f"WITH c AS ({change}) {_WRITE_DOWN[table]}", op=op, **values)

    def _execute(self, query: str, **values: object) -> None:
        self._connection.execute(query.encode(), values)

    def _number(self) -> None:
        self._connection.execute(_COMMIT_LOCK)
        self._connection.execute(_NUMBER)

    def _text(self, length: int) -> str:
        """Random, so that PostgreSQL moves long ones out of the row."""
        return "".join(self._random.choices("aăâbcdđeêghiklmnoôơpqrstuưvxy0123456789", k=length))

"""The work whose backlog is drained: two tables of a one-stop system, one big insert, many small transactions.

Contract: of n changes, two fifths are dossiers inserted in one transaction (an import), and three fifths are
transactions of three changes each (a payment comes, its dossier goes on, the payment is confirmed). The dossier has 17
columns and the payment 6; `expected` says what a reader of everything must have seen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import psycopg

PUBLICATION = "bench"
CONNECTOR = "emc_cdc"
TABLES = ("mot_cua.ho_so", "mot_cua.thanh_toan")

Seen = Counter[tuple[str, str]]
"""Number of changes by table and Debezium operation (c, u)."""

_SCHEMA = f"""
CREATE ROLE {CONNECTOR} LOGIN REPLICATION;
CREATE SCHEMA mot_cua;
CREATE TABLE mot_cua.ho_so (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ma_ho_so        text NOT NULL,
    ma_thu_tuc      text NOT NULL,
    ten_thu_tuc     text NOT NULL,
    trang_thai      text NOT NULL,
    muc_do          integer NOT NULL,
    can_bo_id       integer NOT NULL,
    tai_khoan_id    bigint NOT NULL,
    truc_tuyen      boolean NOT NULL,
    tu_dvcqg        boolean NOT NULL,
    ngay_nop        timestamp NOT NULL,
    ngay_tiep_nhan  timestamp NOT NULL,
    ngay_tra        timestamp,
    ngay_hen_tra    date NOT NULL,
    le_phi          numeric(14, 2) NOT NULL,
    don_vi          text NOT NULL,
    ghi_chu         text
);
CREATE TABLE mot_cua.thanh_toan (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ho_so_id    bigint NOT NULL,
    so_tien     numeric(14, 2) NOT NULL,
    trang_thai  text NOT NULL,
    hinh_thuc   text NOT NULL,
    thoi_diem   timestamp NOT NULL
);
CREATE PUBLICATION {PUBLICATION} FOR TABLE {", ".join(TABLES)};
GRANT USAGE ON SCHEMA mot_cua TO {CONNECTOR};
GRANT SELECT ON ALL TABLES IN SCHEMA mot_cua TO {CONNECTOR};
"""
_IMPORT = """
INSERT INTO mot_cua.ho_so (ma_ho_so, ma_thu_tuc, ten_thu_tuc, trang_thai, muc_do, can_bo_id, tai_khoan_id, truc_tuyen,
                           tu_dvcqg, ngay_nop, ngay_tiep_nhan, ngay_hen_tra, le_phi, don_vi)
SELECT '000.00.11.H56-191203-' || g, '2.000082', 'Cấp giấy phép bưu chính, lần thứ ' || g % 50, 'dang_xu_ly',
       3 + g % 2, g % 100, g, g % 2 = 0, g % 3 = 0, now(), now() + g * interval '1 s', current_date + g % 30,
       g * 1.5, '000.00.' || g % 20 || '.H10'
  FROM generate_series(1, {dossiers}) g
"""
_TRANSACTIONS = """
DO $$
DECLARE payment bigint;
BEGIN
    FOR i IN 1..{transactions} LOOP
        INSERT INTO mot_cua.thanh_toan (ho_so_id, so_tien, trang_thai, hinh_thuc, thoi_diem)
        VALUES (i, 135000, 'cho', 'dvcqg', clock_timestamp()) RETURNING id INTO payment;
        UPDATE mot_cua.ho_so SET trang_thai = 'da_tra_ket_qua', ngay_tra = clock_timestamp() WHERE id = i;
        UPDATE mot_cua.thanh_toan SET trang_thai = 'da_thanh_toan' WHERE id = payment;
        COMMIT;
    END LOOP;
END $$
"""


@dataclass(frozen=True, slots=True)
class Work:
    """How much is written. `changes` is a multiple of 5."""

    changes: int

    def __post_init__(self) -> None:
        if self.changes < 5 or self.changes % 5:
            raise ValueError("the number of changes is a multiple of 5")

    @property
    def dossiers(self) -> int:
        return self.changes * 2 // 5

    @property
    def transactions(self) -> int:
        return self.changes // 5

    @property
    def expected(self) -> Seen:
        """What a reader of everything has seen, each change once."""
        dossier, payment = TABLES
        small = self.transactions
        return Counter(
            {(dossier, "c"): self.dossiers, (dossier, "u"): small, (payment, "c"): small, (payment, "u"): small}
        )


def prepare(connection: psycopg.Connection) -> None:
    """Make the connector's role, the tables and the publication, as a superuser (autocommit)."""
    connection.execute(_SCHEMA.encode())


def write(connection: psycopg.Connection, work: Work) -> int:
    """Write it all (autocommit); return the WAL position after it."""
    connection.execute(_IMPORT.format(dossiers=work.dossiers).encode())
    connection.execute(_TRANSACTIONS.format(transactions=work.transactions).encode())
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])

"""Installing the application: schema, catalogue, accounts, and the dossiers of its earlier years.

Contract: `prepare` on an empty database creates everything; on an installed one it only adds old dossiers. Nine of
ten old dossiers are finished and one is in process. It is one transaction.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from importlib.resources import files
from random import Random
from typing import NamedTuple

import psycopg

from connector.demo.legacy import people
from connector.demo.legacy.actions import Connection, account_row, local_time
from connector.demo.legacy.catalogue import SERVICES, UNITS
from connector.demo.legacy.lives import ACCOUNTS, account_kind

_COPY_DOSSIERS = """
COPY motcua.ho_so (id, ma_ho_so, thu_tuc_id, don_vi_id, tai_khoan_id, trang_thai, kenh_nop, tu_dvcqg, hinh_thuc_tra,
                   ngay_nop, ngay_tiep_nhan, ngay_tra, ho_ten, so_giay_to, ngay_sinh, dia_chi, so_dien_thoai, noi_dung,
                   cap_nhat)
FROM STDIN"""
_COPY_PAYMENTS = "COPY motcua.thanh_toan (id, ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem) FROM STDIN"
_COPY_JOURNAL = """
COPY motcua.hanh_dong (ho_so_id, hanh_dong, can_bo, thoi_diem, trang_thai_sau, da_tiep_nhan, don_vi_sau,
                       hinh_thuc_tra_sau, thanh_toan_id, thanh_toan_sau, thanh_toan_hinh_thuc)
FROM STDIN"""
_NEXT_IDS = """
SELECT coalesce((SELECT max(id) FROM motcua.ho_so), 0) + 1, coalesce((SELECT max(id) FROM motcua.thanh_toan), 0) + 1"""
_SET_SEQUENCES = """
SELECT setval(pg_get_serial_sequence('motcua.ho_so', 'id'), %s, false),
       setval(pg_get_serial_sequence('motcua.thanh_toan', 'id'), %s, false)"""


_COUNTERS = """
INSERT INTO motcua.bo_dem (don_vi_id, ngay, so) VALUES (%s, %s, %s)
ON CONFLICT (don_vi_id, ngay) DO UPDATE SET so = excluded.so"""

Numbers = dict[tuple[int, date], int]
"""The last dossier number of a unit and day."""


class _Old(NamedTuple):
    """What one old dossier adds to the three tables."""

    dossier: tuple[object, ...]
    payment: tuple[object, ...] | None
    journal: list[tuple[object, ...]]


def prepare(dsn: str, load: int, seed: int) -> None:
    """Install, and add `load` old dossiers. psycopg.Error when the database refuses."""
    random = Random(f"{seed}:installation")  # noqa: S311 - nothing secret
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT to_regclass('motcua.ho_so') IS NULL").fetchone()
        if row is not None and row[0]:
            connection.execute(files(__package__ or "").joinpath("schema.sql").read_bytes())
            _fill_catalogue(connection, random)
        if load:
            _load(connection, random, load)


def _fill_catalogue(connection: Connection, random: Random) -> None:
    now = local_time()
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO motcua.thu_tuc (id, ma, ten, linh_vuc, muc_do, le_phi) VALUES (%s, %s, %s, %s, %s, %s)",
            SERVICES,
        )
        cursor.executemany(
            "INSERT INTO motcua.don_vi (id, ma_dinh_danh, ten, dien_thoai) VALUES (%s, %s, %s, %s)", UNITS
        )
        cursor.executemany(
            "INSERT INTO motcua.tai_khoan (loai, id_dvcqg, id_dia_phuong, ho_ten, so_giay_to, so_dien_thoai, tao_luc)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [account_row(random, account_kind(account), now) for account in range(1, ACCOUNTS + 1)],
        )


def _load(connection: Connection, random: Random, load: int) -> None:
    first, payment_id = (int(str(value)) for value in connection.execute(_NEXT_IDS).fetchall()[0])
    counters = connection.execute("SELECT don_vi_id, ngay, so FROM motcua.bo_dem").fetchall()
    numbers: Numbers = {(unit, day): number for unit, day, number in counters}  # type: ignore[misc]
    payments: list[tuple[object, ...]] = []
    journal: list[tuple[object, ...]] = []
    yesterday = local_time().date() - timedelta(days=1)
    with connection.cursor() as cursor:
        with cursor.copy(_COPY_DOSSIERS) as copy:
            for dossier_id in range(first, first + load):
                day = yesterday - timedelta(days=random.randrange(365))
                old = _old(random, dossier_id, payment_id, datetime.combine(day, time(8)), numbers)
                copy.write_row(old.dossier)
                journal += old.journal
                if old.payment is not None:
                    payments.append(old.payment)
                    payment_id += 1
        with cursor.copy(_COPY_PAYMENTS) as copy:
            for payment in payments:
                copy.write_row(payment)
        with cursor.copy(_COPY_JOURNAL) as copy:
            for entry in journal:
                copy.write_row(entry)
        cursor.executemany(_COUNTERS, [(unit, day, number) for (unit, day), number in numbers.items()])
    connection.execute(_SET_SEQUENCES, (first + load, payment_id))


def _old(random: Random, dossier: int, payment: int, day: datetime, numbers: Numbers) -> _Old:
    service, unit, who = random.choice(SERVICES), random.choice(UNITS), people.person(random)
    online = random.random() < 0.5
    finished = random.random() < 0.9
    counter = numbers[unit.id, day.date()] = numbers.get((unit.id, day.date()), 0) + 1
    number = f"{unit.identifier}-{day:%y%m%d}-{counter:04d}"
    received = day + timedelta(minutes=random.randrange(480))
    returned = received + timedelta(hours=random.randrange(1, 16)) if finished else None
    way = random.choice(("mot_cua", "dien_tu", "vnpost")) if finished else "mot_cua"
    status = "da_tra_ket_qua" if finished else "dang_xu_ly"
    channel = "truc_tuyen" if online else "truc_tiep"
    last = returned or received
    row: tuple[object, ...] = (
        dossier,
        number,
        service.id,
        unit.id,
        random.randrange(1, ACCOUNTS + 1),
        status,
        channel,
        online and random.random() < 0.4,
        way,
        received,
        received,
        returned,
        *who,
        people.content(random),
        last,
    )
    method = "dvcqg" if online else "tien_mat"
    officer = random.choice(people.OFFICERS)
    act = "tra_ket_qua" if finished else "chuyen_buoc"
    if not (service.fee and finished):
        return _Old(row, None, [(dossier, act, officer, last, status, True, unit.id, way, None, None, None)])
    paid = (payment, dossier, service.fee, method, "da_thanh_toan", last)
    entry = (dossier, act, officer, last, status, True, unit.id, way, payment, "da_thanh_toan", method)
    return _Old(row, paid, [entry])

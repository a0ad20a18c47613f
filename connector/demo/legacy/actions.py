"""What officers and citizens do to a dossier, as SQL.

Contract: `Desk.perform` does one step inside the transaction that the caller has begun, on a dossier that the caller
has locked, and journals it. Nothing is remembered outside of `Case`, which the caller copies before a transaction
that may be rolled back. Times are local time of Việt Nam (UTC+7), without zone, as the application has always stored
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random

import psycopg

from connector.demo.legacy import people
from connector.demo.legacy.lives import Act, Life, Step

Connection = psycopg.Connection[tuple[object, ...]]

VIETNAM = timezone(timedelta(hours=7))

LOCK = "SELECT id FROM motcua.ho_so WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_INSERT_DOSSIER = """
INSERT INTO motcua.ho_so (thu_tuc_id, don_vi_id, tai_khoan_id, trang_thai, kenh_nop, tu_dvcqg, ho_ten, so_giay_to,
                          ngay_sinh, dia_chi, so_dien_thoai, noi_dung, ma_ho_so, ngay_nop, ngay_tiep_nhan, cap_nhat)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"""

_INSERT_ACCOUNT = """
INSERT INTO motcua.tai_khoan (loai, id_dvcqg, id_dia_phuong, ho_ten, so_giay_to, so_dien_thoai, tao_luc)
VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id"""

_NEXT_NUMBER = """
INSERT INTO motcua.bo_dem AS d (don_vi_id, ngay, so) VALUES (%s, %s, 1)
ON CONFLICT (don_vi_id, ngay) DO UPDATE SET so = d.so + 1
RETURNING so, (SELECT ma_dinh_danh FROM motcua.don_vi WHERE id = d.don_vi_id)"""

_INSERT_PAYMENT = """
INSERT INTO motcua.thanh_toan (ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem)
VALUES (%s, %s, %s, %s, %s) RETURNING id"""

_JOURNAL = """
INSERT INTO motcua.hanh_dong (ho_so_id, hanh_dong, can_bo, thoi_diem, ghi_chu, trang_thai_sau, da_tiep_nhan, don_vi_sau,
                              hinh_thuc_tra_sau, thanh_toan_id, thanh_toan_sau, thanh_toan_hinh_thuc)
SELECT h.id, %s, %s, %s, %s, h.trang_thai, h.ngay_tiep_nhan IS NOT NULL AND h.ma_ho_so IS NOT NULL, h.don_vi_id,
       h.hinh_thuc_tra, p.id, p.trang_thai, p.hinh_thuc
FROM motcua.ho_so h LEFT JOIN motcua.thanh_toan p ON p.id = %s AND p.ho_so_id = h.id
WHERE h.id = %s"""

_JOURNAL_GONE = """
INSERT INTO motcua.hanh_dong (ho_so_id, hanh_dong, can_bo, thoi_diem, trang_thai_sau, da_tiep_nhan, don_vi_sau,
                              hinh_thuc_tra_sau, thanh_toan_id, thanh_toan_sau)
SELECT h.id, %s, %s, %s, h.trang_thai, h.ngay_tiep_nhan IS NOT NULL AND h.ma_ho_so IS NOT NULL, h.don_vi_id,
       h.hinh_thuc_tra, %s, 'khong_con'
FROM motcua.ho_so h WHERE h.id = %s"""


@dataclass(slots=True)
class Case:
    """One dossier as its life goes on: its id once it has a row, its payments, and whose it was paid for by mistake."""

    life: Life
    dossier: int | None = None
    payments: list[int] = field(default_factory=list)
    mistaken: tuple[int, int] | None = None
    """A payment of this dossier that stands at another one: (payment, that dossier)."""

    def copy(self) -> Case:
        return Case(self.life, self.dossier, list(self.payments), self.mistaken)


def local_time() -> datetime:
    return datetime.now(VIETNAM).replace(tzinfo=None)


def account_row(random: Random, kind: str, now: datetime) -> tuple[object, ...]:
    """The parameters of a new account of this kind."""
    who = people.person(random)
    token = f"{random.getrandbits(64):016x}"
    match kind:
        case "ca_nhan":
            return (kind, f"QG-{token}", None, who.name, who.paper, who.phone, now)
        case "doanh_nghiep":
            return (
                kind,
                None,
                f"dn.{token}",
                people.business(random),
                f"28{random.randrange(10**8):08d}",
                who.phone,
                now,
            )
        case _:
            return (kind, None, f"cb.{token[:8]}", who.name, None, who.phone, now)


class Desk:
    """Performs steps on one connection. `random` only dresses the data; what happens is in the life."""

    def __init__(self, connection: Connection, random: Random) -> None:
        self._connection = connection
        self._random = random

    def lock(self, dossiers: Sequence[int]) -> None:
        """Lock dossiers, in the order of their ids, so that two transactions never wait for each other."""
        self._connection.execute(LOCK, (sorted(dossiers),))

    def perform(self, case: Case, step: Step, other: int | None) -> None:
        """Do and journal `step`. `other` is a locked dossier of somebody else, for a payment that goes astray."""
        now = local_time()
        match step.act:
            case Act.DRAFT:
                self._create(case, "moi", now, received=False)
            case Act.RECEIVE:
                self._create(case, "da_tiep_nhan", now, received=True)
            case Act.ACCEPT:
                number = self._next_number(case.life.unit, now)
                self._set(case, now, trang_thai="dang_xu_ly", ma_ho_so=number, ngay_tiep_nhan=now)
            case Act.SUBMIT:
                self._set(case, now, trang_thai="cho_tiep_nhan", ngay_nop=now)
            case Act.STAGE:
                self._set(case, now, trang_thai=step.detail)
            case Act.RESULT:
                self._set(case, now, trang_thai="da_tra_ket_qua", hinh_thuc_tra=step.detail, ngay_tra=now)
            case Act.CHANGE_RETURN:
                self._set(case, now, hinh_thuc_tra=step.detail)
            case Act.HAND_OVER:
                self._set(case, now, don_vi_id=case.life.next_unit)
            case Act.EDIT_DRAFT:
                self._set(case, now, noi_dung=people.content(self._random), dia_chi=people.person(self._random).address)
            case Act.NOTE:
                self._set(case, now, ghi_chu=f"Đã gọi điện cho công dân lúc {now:%H:%M}", ngay_hen_tra=now.date())
            case Act.DELETE_DRAFT:
                self._journal(case.dossier, step.act, now)
                self._connection.execute("DELETE FROM motcua.ho_so WHERE id = %s", (case.dossier,))
                return
            case _:
                self._pay(case, step, other, now)
                return
        self._journal(case.dossier, step.act, now)

    def err(self, case: Case) -> None:
        """A wrong action, which the caller undoes with a savepoint."""
        now = local_time()
        self._set(case, now, trang_thai="tra_lai", hinh_thuc_tra="buu_chinh_khac")
        payment = self._insert_payment(case.dossier, case.life.fee + 1000, "tien_mat", "da_thanh_toan", now)
        self._journal(case.dossier, Act.PAY, now, payment)

    def note_on_old(self, dossier: int) -> None:
        """A remark on a dossier that was finished long ago."""
        now = local_time()
        self._connection.execute(
            "UPDATE motcua.ho_so SET ghi_chu = %s, cap_nhat = %s WHERE id = %s", ("Đã lưu kho", now, dossier)
        )
        self._journal(dossier, Act.NOTE, now)

    def _create(self, case: Case, status: str, now: datetime, received: bool) -> None:
        life, random = case.life, self._random
        if life.late is not None:
            late = life.late
            self._connection.execute(
                "INSERT INTO motcua.thu_tuc (id, ma, ten, linh_vuc, muc_do, le_phi) VALUES (%s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (id) DO NOTHING",
                (late.id, late.code, late.name, late.field, late.level, late.fee),
            )
        account: object = life.account
        if isinstance(account, str):
            account = self._one(_INSERT_ACCOUNT, account_row(random, account, now))[0]
        who = people.person(random)
        channel = "truc_tuyen" if life.online else "truc_tiep"
        number = self._next_number(life.unit, now) if received else None
        at = now if received else None
        origin = (life.service_id, life.unit, account, status, channel, life.national)
        private = (who.name, who.paper, who.born, who.address, who.phone, people.content(random))
        row = self._one(_INSERT_DOSSIER, (*origin, *private, number, at, at, now))
        case.dossier = _integer(row[0])

    def _next_number(self, unit: int, now: datetime) -> str:
        number, identifier = self._one(_NEXT_NUMBER, (unit, now.date()))
        return f"{identifier}-{now:%y%m%d}-{number:04d}"

    def _pay(self, case: Case, step: Step, other: int | None, now: datetime) -> None:
        fee = case.life.fee or 10_000
        match step.act:
            case Act.INVOICE | Act.PAY:
                status = "cho" if step.act is Act.INVOICE else "da_thanh_toan"
                case.payments.append(self._insert_payment(case.dossier, fee, step.detail, status, now))
            case Act.CONFIRM:
                self._set_payment(case.payments[-1], "da_thanh_toan", now)
            case Act.REFUND:
                self._set_payment(case.payments[-1], "hoan_tien", now)
            case Act.DELETE_PAYMENT:
                payment = case.payments.pop()
                self._connection.execute("DELETE FROM motcua.thanh_toan WHERE id = %s", (payment,))
                self._journal_gone(case.dossier, step.act, now, payment)
                return
            case Act.PAY_FOR_ANOTHER:
                if other is None:  # nobody else is there: the mistake does not happen
                    self._journal(case.dossier, Act.NOTE, now)
                    return
                payment = self._insert_payment(other, fee, step.detail, "da_thanh_toan", now)
                case.mistaken = (payment, other)
                self._journal(other, step.act, now, payment)
                return
            case _:
                if case.mistaken is None:
                    self._journal(case.dossier, Act.NOTE, now)
                    return
                payment, wrong = case.mistaken
                self._connection.execute(
                    "UPDATE motcua.thanh_toan SET ho_so_id = %s WHERE id = %s", (case.dossier, payment)
                )
                self._journal_gone(wrong, step.act, now, payment)
                case.payments.append(payment)
                case.mistaken = None
        self._journal(case.dossier, step.act, now, case.payments[-1])

    def _insert_payment(self, dossier: int | None, fee: int, method: str, status: str, now: datetime) -> int:
        return _integer(self._one(_INSERT_PAYMENT, (dossier, fee, method, status, now))[0])

    def _set_payment(self, payment: int, status: str, now: datetime) -> None:
        self._connection.execute(
            "UPDATE motcua.thanh_toan SET trang_thai = %s, thoi_diem = %s WHERE id = %s", (status, now, payment)
        )

    def _set(self, case: Case, now: datetime, **columns: object) -> None:
        assignments = ", ".join(f"{name} = %s" for name in columns)
        self._connection.execute(
            f"UPDATE motcua.ho_so SET {assignments}, cap_nhat = %s WHERE id = %s".encode(),  # noqa: S608 - names are ours
            (*columns.values(), now, case.dossier),
        )

    def _journal(self, dossier: int | None, act: Act, now: datetime, payment: int | None = None) -> None:
        officer = self._random.choice(people.OFFICERS)
        self._connection.execute(_JOURNAL, (act.value, officer, now, None, payment, dossier))

    def _journal_gone(self, dossier: int | None, act: Act, now: datetime, payment: int) -> None:
        officer = self._random.choice(people.OFFICERS)
        self._connection.execute(_JOURNAL_GONE, (act.value, officer, now, payment, dossier))

    def _one(self, query: str, parameters: Sequence[object]) -> tuple[object, ...]:
        row = self._connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value

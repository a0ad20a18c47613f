"""Lives of OpenCPS dossiers, as SQL that writes what the application writes, transaction by transaction.

Contract: `transactions` is deterministic by its arguments; each text is one transaction (or a rolled back one), to be
run in this order. Every transaction's last statement notes how the dossiers that it touched stand (oracle.sql). Lives
are interleaved; now and then one transaction serves two dossiers, takes a part of itself back, or is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

CATALOGUE = {"1.000101": 4, "1.000102": 3, "1.000103": 2, "1.000104": 4, "1.000105": None, "2.000201": 4}
"""Procedures and their levels at the beginning. 1.000105 has none yet; 2.000201 has its row late."""
LATE = "2.000201"
NEVER = "2.000999"
"""A procedure whose row never comes."""

AT_ONCE = 40
"""Dossiers that live at the same time."""

Act = list[str]
"""The statements of one transaction for one dossier."""

_STAGES = ("pausing", "interoperating", "correcting", "waiting", "receiving", "cancelling")
_METHODS = ("KeyPayDVCQG", "ViettelPay", "Keypay", "KEYPAY", "Chuyển khoản", "Tiền mặt", None)
_ORIGINALITY = {1: 40, 3: 36, 2: 6, 0: 4, 4: 4, 9: 4, -2: 2, -1: 2, -3: 2}


def catalogue() -> str:
    """The catalogue before the first dossier."""
    known = [(code, level) for code, level in CATALOGUE.items() if code != LATE]
    return "; ".join(_service(number, code, level) for number, (code, level) in enumerate(known, 1))


def transactions(seed: int, count: int) -> Iterator[str]:
    """The lives of `count` dossiers."""
    rng = Random(seed)
    waiting = [_Life(Random(rng.random()), number) for number in range(1, count + 1)]
    living = {life.id: (life, life.acts()) for life in waiting[:AT_ONCE]}
    del waiting[:AT_ONCE]
    changes = _catalogue_changes()
    made = 0
    while living:
        made += 1
        if made % max(1, count // 4) == 0 and (change := next(changes, None)) is not None:
            yield change
        touched: list[int] = []
        statements: Act = []
        for chosen in rng.sample(sorted(living), k=min(len(living), 2 if rng.random() < 0.05 else 1)):
            life, acts = living[chosen]
            act = next(acts, None)
            if act is None:
                del living[chosen]
                if waiting:
                    living[waiting[0].id] = (waiting[0], waiting[0].acts())
                    del waiting[0]
                continue
            if rng.random() < 0.04:
                yield f"BEGIN; {'; '.join(life.never())}; ROLLBACK"
            if rng.random() < 0.08:
                statements += ["SAVEPOINT part", *life.never(), "ROLLBACK TO SAVEPOINT part"]
            statements += act
            touched.append(chosen)
        if touched:
            yield f"BEGIN; {'; '.join(statements)}; SELECT told.note('{{{','.join(map(str, touched))}}}'); COMMIT"
    for change in changes:
        yield change


def _catalogue_changes() -> Iterator[str]:
    """Rows of the catalogue that change, come late, go and come back, each in a transaction of its own."""

    def noted(statement: str, code: str) -> str:
        return f"BEGIN; {statement}; SELECT told.note_catalogue('{code}'); COMMIT"

    def level(code: str, value: int) -> str:
        return noted(f"UPDATE opencps_serviceinfo SET maxlevel = {value} WHERE servicecode = '{code}'", code)

    yield level("1.000101", 3)
    yield level("1.000105", 3)
    yield noted(_service(50, LATE, 4), LATE)
    yield noted("UPDATE opencps_serviceinfo SET servicename = 'Tên mới' WHERE servicecode = '1.000102'", "1.000102")
    yield noted("DELETE FROM opencps_serviceinfo WHERE servicecode = '1.000104'", "1.000104")
    yield level("1.000103", 4)
    yield level("1.000101", 4)
    yield noted(_service(51, "1.000104", 2), "1.000104")
    # A second row of the same code: the older one counts.
    yield noted(_service(52, "1.000102", 4), "1.000102")
    yield level("1.000103", 1)


class _Life:
    """One dossier. Its statements name it by its id."""

    def __init__(self, rng: Random, number: int) -> None:
        self._rng = rng
        self._number = number
        self._payments = 0
        self.id = 10_000 + number
        self.originality = rng.choices(list(_ORIGINALITY), list(_ORIGINALITY.values()))[0]
        self.at_desk = (self.originality == 3 and rng.random() < 0.85) or self.originality == -3
        # An inter-agency copy carries the number of the dossier that it copies.
        of = number - 1 if self.originality == 2 else number
        self.code = f"000.00.{of % 30 + 1:02}.H{of % 60 + 1:02}-26{of % 12 + 1:02}{of % 28 + 1:02}-{of:04}"

    def acts(self) -> Iterator[Act]:
        """The transactions of this life."""
        rng = self._rng
        if self.at_desk:
            act = [self._made(received=True), *self._maybe_fee()]
            if rng.random() < 0.15:
                yield act + self._to("processing", "processdate = now()")
            else:
                yield act
                yield self._to("processing", "processdate = now()")
        else:
            yield [self._made(received=False)]
            if rng.random() < 0.08:
                yield [f"DELETE FROM opencps_dossier WHERE dossierid = {self.id}"]
                return
            yield self._to("receiving", "submitdate = now(), submitting = true") + self._maybe_fee()
            if rng.random() < 0.15:
                yield self._to("waiting")
                yield self._to("receiving")
            if rng.random() < 0.12:
                yield self._to(rng.choice(("denied", "cancelled", "unresolved")), "finishdate = now()")
                return
            # The application saves the dossier more than once while it acts.
            accepted = f"receivedate = now(), dossierno = {_q(self.code)}, duedate = now() + interval '5 days'"
            yield [*self._to("processing", "processdate = now()"), self._set(accepted)]
        yield from self._worked_on()
        chance = rng.random()
        if chance < 0.62:
            yield from self._done()
        elif chance < 0.85:
            yield self._to(rng.choice(("denied", "unresolved", "cancelled")), "finishdate = now()")
            if rng.random() < 0.2:
                yield self._to("processing", "finishdate = NULL")
                yield from self._done()

    def never(self) -> Act:
        """What is rolled back: a result, and a payment."""
        how = "paymentstatus = 5, paymentmethod = 'ViettelPay'"
        paid = f"UPDATE opencps_paymentfile SET {how} WHERE dossierid = {self.id}"
        return [*self._to("done", "receivedate = now(), dossierno = 'không bao giờ'"), paid]

    def _worked_on(self) -> Iterator[Act]:
        rng = self._rng
        for _ in range(rng.randint(0, 5)):
            match rng.randrange(8):
                case 0 | 1:
                    yield self._to(rng.choice(_STAGES), "correcttingdate = now()")
                    if rng.random() < 0.15:
                        yield self._to(rng.choice(_STAGES))
                    yield self._to("processing")
                case 2:
                    yield [self._set(f"dossiernote = 'ghi chú', metadata = {_q('x' * rng.randint(1, 4000))}")]
                case 3:
                    yield self._to("waiting")
                    yield self._to("receiving")
                    yield self._to("processing")
                case 4 | 5:
                    yield from self._paid()
                case 6:
                    change = rng.choice(
                        (
                            "servicename = servicename || ' (sửa)'",
                            f"applicantidno = '0790{self._number:08}'",
                            "govagencycode = '000.00.19.H26'",
                            "applicantidtype = 'business'",
                            "applicantname = 'Người khác', contacttelno = '0900000000'",
                            "viapostal = 2, postalservicecode = NULL",
                            "viapostal = 2, postalservicecode = 'VIETTELPOST'",
                            "systemid = 5",
                        )
                    )
                    yield [self._set(change)]
                case 7:
                    yield self._to(rng.choice(_STAGES[:3])) + self._to("processing")

    def _done(self) -> Iterator[Act]:
        rng = self._rng
        released = self._to("releasing", "releasedate = now()")
        if rng.random() < 0.2:
            yield released + self._to("done", "finishdate = now()")
        else:
            yield released
            if rng.random() < 0.3:
                yield self._to("posting", "viapostal = CASE WHEN viapostal = 2 THEN 3 ELSE viapostal END")
            if rng.random() < 0.3:
                yield from self._paid()
            yield self._to("done", "finishdate = now()")
        if rng.random() < 0.2:
            yield [self._set("viapostal = 4"), self._set("modifieddate = now()")]
        if rng.random() < 0.3:
            yield from self._paid()
        if rng.random() < 0.1:
            yield self._to("correcting", "finishdate = NULL")
            yield self._to("done", "finishdate = now()")

    # -- statements --------------------------------------------------------------------------------------------------

    def _made(self, *, received: bool) -> str:
        rng = self._rng
        service = rng.choices([*CATALOGUE, NEVER], [*[10] * len(CATALOGUE), 2])[0]
        business = rng.random() < 0.3
        values = {
            "dossierid": self.id,
            "userid": 20_000 + self._number,
            "username": "Cán bộ một cửa",
            "servicecode": service,
            "servicename": f"Thủ tục {service}",
            "govagencycode": f"000.00.{self._number % 20 + 1:02}.H10",
            "applicantname": "Nguyễn Văn Kín",
            "applicantidtype": rng.choices([("citizen", "business")[business], "", None], [96, 2, 2])[0],
            "applicantidno": f"01{self._number:08}" if business else f"0010{self._number:08}",
            "address": "Số 1, phố Kín",
            "contacttelno": "0912345678",
            "contactemail": "kin@vi.du",
            "dossierno": self.code if received else rng.choice(("", None)),
            "dossierstatus": "new",
            "viapostal": rng.choice((0, 1, 2, 2, 2, 3, None)),
            "postalservicecode": rng.choice((None, "", "VNPOST", "VIETTELPOST")),
            "password_": "bí mật",
            "online_": not self.at_desk if self.originality != 2 else rng.random() < 0.5,
            "originality": self.originality,
            "systemid": rng.choices((0, 5, 3, None), (60, 25, 10, 5))[0],
            "vnpostalstatus": rng.choice((0, 1, 2)),
        }
        columns = ", ".join(
            (*values, "createdate", "modifieddate", *(("receivedate", "submitdate") if received else ()))
        )
        dates = ", now(), now()" * (2 if received else 1)
        return f"INSERT INTO opencps_dossier ({columns}) VALUES ({', '.join(map(_q, values.values()))}{dates})"

    def _set(self, what: str) -> str:
        return f"UPDATE opencps_dossier SET {what} WHERE dossierid = {self.id}"

    def _to(self, status: str, more: str = "modifieddate = now()") -> Act:
        """A step: the action's row, and the dossier's new status."""
        action = (
            "INSERT INTO opencps_dossieraction (dossieractionid, dossierid, actioncode, stepcode, createdate)"
            f" SELECT coalesce(max(dossieractionid), 0) + 1, {self.id}, '1100', '{status}', now()"
            " FROM opencps_dossieraction"
        )
        return [action, self._set(f"dossierstatus = '{status}', {more}")]

    def _fee(self, status: int, method: str | None) -> str:
        self._payments += 1
        return (
            "INSERT INTO opencps_paymentfile (paymentfileid, dossierid, createdate, paymentamount, paymentstatus,"
            f" paymentmethod, bankinfo) VALUES ({self.id * 10 + self._payments}, {self.id}, now(), 50000, {status},"
            f" {_q(method)}, 'số tài khoản')"
        )

    def _maybe_fee(self) -> Act:
        return [self._fee(1, None)] if self._rng.random() < 0.3 else []

    def _paid(self) -> Iterator[Act]:
        """A payment: asked for and paid, in one transaction or more; sometimes asked for again, or taken away."""
        rng = self._rng
        status, method = rng.choice((2, 3, 5)), rng.choice(_METHODS)
        if rng.random() < 0.4:
            yield [self._fee(status, method)]
        else:
            yield [self._fee(rng.choice((0, 1, 4)), rng.choice((None, "KeyPayDVCQG")))]
            payment = f"WHERE paymentfileid = {self.id * 10 + self._payments}"
            if rng.random() < 0.3:
                yield [f"UPDATE opencps_paymentfile SET paymentstatus = 4 {payment}"]
            how = f"paymentstatus = {status}, paymentmethod = {_q(method)}, confirmdatetime = now()"
            yield [f"UPDATE opencps_paymentfile SET {how} {payment}"]
        if rng.random() < 0.12:
            yield [f"DELETE FROM opencps_paymentfile WHERE paymentfileid = {self.id * 10 + self._payments}"]


def _service(number: int, code: str, level: int | None) -> str:
    values = ", ".join(map(_q, (number, code, f"Thủ tục {code}", level)))
    return f"INSERT INTO opencps_serviceinfo (serviceinfoid, servicecode, servicename, maxlevel) VALUES ({values})"


def _q(value: object) -> str:
    """A literal."""
    if value is None:
        return "NULL"
    return str(value).lower() if isinstance(value, bool | int) else "'" + str(value).replace("'", "''") + "'"

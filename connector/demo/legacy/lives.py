"""The lives of dossiers: what happens to one from its first row to its last, drawn from a seed.

Pure: `plan` of the same seed and number is the same life. A life is a tuple of transactions; a transaction is one or
more steps that commit together. The weights are such that a few hundred lives hold every kind of life and trouble.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from random import Random
from typing import NamedTuple

from connector.demo.legacy.catalogue import LATE_SERVICES, SERVICES, UNITS, Service

ACCOUNTS = 200
"""Accounts that exist from the beginning, with ids from 1."""


class Act(Enum):
    """What a step does; the value is the word the journal (hanh_dong) has for it."""

    DRAFT = "tao_nhap"
    EDIT_DRAFT = "sua_nhap"
    DELETE_DRAFT = "xoa_nhap"
    SUBMIT = "nop"
    ACCEPT = "tiep_nhan_truc_tuyen"
    RECEIVE = "tiep_nhan_tai_quay"
    STAGE = "chuyen_buoc"
    NOTE = "ghi_chu"
    HAND_OVER = "chuyen_don_vi"
    RESULT = "tra_ket_qua"
    CHANGE_RETURN = "doi_hinh_thuc_tra"
    INVOICE = "lap_thanh_toan"
    CONFIRM = "xac_nhan_thanh_toan"
    PAY = "thu_tien"
    REFUND = "hoan_tien"
    DELETE_PAYMENT = "xoa_thanh_toan"
    PAY_FOR_ANOTHER = "thu_nham_ho_so"
    MOVE_PAYMENT = "chuyen_thanh_toan"


class Step(NamedTuple):
    """One act. `detail` is the status of STAGE, the way of RESULT and CHANGE_RETURN, the method of payments."""

    act: Act
    detail: str = ""


class Trouble(Enum):
    """What goes wrong inside a transaction, without leaving a trace in the data."""

    NONE = "none"
    ROLLED_BACK = "everything is done, rolled back, and done again"
    SAVEPOINT_LOST = "a wrong action is undone with a savepoint"
    SAVEPOINT_KEPT = "the steps are done inside a savepoint"


class Transaction(NamedTuple):
    steps: tuple[Step, ...]
    trouble: Trouble


class Life(NamedTuple):
    """One dossier. `account` is an existing account's id, or the kind of an account to be created with the dossier.

    `number` is unique in a run. `late` is set when the service is added with the dossier. Ids of units are those of
    the catalogue; `next_unit` is where HAND_OVER goes.
    """

    number: int
    online: bool
    national: bool
    service_id: int
    late: Service | None
    unit: int
    next_unit: int
    account: int | str
    fee: int
    transactions: tuple[Transaction, ...]


def account_kind(account: int) -> str:
    """The kind of the account with this id, from 1 to ACCOUNTS."""
    match account % 10:
        case 0:
            return "can_bo"
        case 1 | 2 | 3:
            return "doanh_nghiep"
        case _:
            return "ca_nhan"


def plan(seed: int, number: int) -> Life:
    """The life of dossier `number` of a run."""
    random = Random(f"{seed}:{number}")  # noqa: S311 - nothing secret
    online = random.random() < 0.6
    late = random.choice(LATE_SERVICES) if random.random() < 0.03 else None
    service = late or random.choice(SERVICES)
    unit, next_unit = random.sample(UNITS, 2)
    kind = random.choices(("ca_nhan", "doanh_nghiep", "can_bo"), (70, 30, 0) if online else (35, 15, 50))[0]
    account: int | str = kind
    if kind == "can_bo" or random.random() < 0.85:
        account = random.choice([known for known in range(1, ACCOUNTS + 1) if account_kind(known) == kind])
    steps = _online(random, service.fee) if online else _at_desk(random, service.fee)
    return Life(
        number,
        online,
        online and random.random() < 0.4,
        service.id,
        late,
        unit.id,
        next_unit.id,
        account,
        service.fee,
        tuple(Transaction(tuple(together), _trouble(random)) for together in steps),
    )


def go_on(seed: int, number: int, online: bool, fee: int) -> tuple[Transaction, ...]:
    """What still happens to a dossier that was in process before the run."""
    random = Random(f"{seed}:old:{number}")  # noqa: S311
    steps = [*_noise(random), [Step(Act.STAGE, "cho_ky")], *_noise(random), [Step(Act.RESULT, _way(random, online))]]
    if fee and random.random() < 0.5:
        steps.append([Step(Act.PAY, _method(random, online))])
    return tuple(Transaction(tuple(together), _trouble(random)) for together in steps)


def _online(random: Random, fee: int) -> Iterator[list[Step]]:
    fate = random.choices(("accepted", "deleted", "withdrawn", "declined"), (86, 5, 5, 4))[0]
    if fate != "deleted" and random.random() < 0.3:
        yield [Step(Act.DRAFT), Step(Act.SUBMIT)]
    else:
        yield [Step(Act.DRAFT)]
        if random.random() < 0.3:
            yield [Step(Act.EDIT_DRAFT)]
        if fate == "deleted":
            yield [Step(Act.DELETE_DRAFT)]
            return
        yield [Step(Act.SUBMIT)]
    if fate == "withdrawn":
        yield [Step(Act.STAGE, "huy")]
        return
    if fate == "declined":
        yield [Step(Act.STAGE, "tra_lai")]
        return
    paid_early = bool(fee) and random.random() < 0.15
    if paid_early:
        yield [Step(Act.PAY, _method(random, online=True))]
    yield [Step(Act.ACCEPT)]
    yield from _received(random, 0 if paid_early else fee, online=True)


def _at_desk(random: Random, fee: int) -> Iterator[list[Step]]:
    first = [Step(Act.RECEIVE)]
    pays_at_once = bool(fee) and random.random() < 0.3
    if pays_at_once:
        first.append(Step(Act.PAY, _method(random, online=False)))
    pace = random.random()
    if pace < 0.08:  # done while the citizen waits
        yield [*first, Step(Act.RESULT, "mot_cua")]
        yield from _noise(random)
        return
    if pace < 0.2:
        yield [*first, Step(Act.STAGE, "dang_xu_ly")]
    else:
        yield first
        yield from _noise(random)
        yield [Step(Act.STAGE, "dang_xu_ly")]
    yield from _received(random, 0 if pays_at_once else fee, online=False)


def _received(random: Random, fee: int, online: bool) -> Iterator[list[Step]]:
    """From the first `dang_xu_ly` on. `fee` is what is still to be paid."""
    when = random.choices(("before", "with", "after", "never"), (35, 20, 30, 15))[0] if fee else "never"
    method = _method(random, online)
    yield from _noise(random)
    while random.random() < 0.2:
        yield [Step(Act.STAGE, "cho_bo_sung")]
        yield from _noise(random)
        yield [Step(Act.STAGE, "dang_xu_ly")]
    if random.random() < 0.05:
        yield [Step(Act.STAGE, "cho_bo_sung"), Step(Act.STAGE, "dang_xu_ly")]
    if random.random() < 0.12:
        yield [Step(Act.HAND_OVER)]
    if when == "before":
        yield from _payment(random, method)
    if random.random() < 0.05:
        yield [Step(Act.PAY_FOR_ANOTHER, method)]
        yield from _noise(random)
        yield [Step(Act.MOVE_PAYMENT)]
    if random.random() < 0.12:
        yield from _end_without_result(random, paid=when == "before")
        return
    if random.random() < 0.8:
        signing = [Step(Act.STAGE, "cho_ky")]
        yield [Step(Act.HAND_OVER), *signing] if random.random() < 0.1 else signing
    if random.random() < 0.5:
        yield [Step(Act.STAGE, "cho_tra")]
    result = Step(Act.RESULT, _way(random, online))
    yield [Step(Act.PAY, method), result] if when == "with" else [result]
    yield from _after_result(random, when, method, online)


def _end_without_result(random: Random, paid: bool) -> Iterator[list[Step]]:
    end = Step(Act.STAGE, random.choice(("tra_lai", "tra_lai", "huy")))
    if paid and random.random() < 0.5:
        yield [end, Step(Act.REFUND)]
    else:
        yield [end]
        if paid:
            yield [Step(Act.REFUND)]
    if end.detail == "tra_lai" and random.random() < 0.2:  # taken up again after a complaint
        yield [Step(Act.STAGE, "dang_xu_ly")]
        yield [Step(Act.RESULT, "mot_cua")]


def _after_result(random: Random, when: str, method: str, online: bool) -> Iterator[list[Step]]:
    yield from _noise(random)
    if when == "after":
        yield from _payment(random, method)
    paid = when in ("before", "with", "after")
    if random.random() < 0.08:
        yield [Step(Act.CHANGE_RETURN, _way(random, online))]
    if random.random() < 0.04:
        yield [Step(Act.STAGE, "dang_xu_ly")]
        yield [Step(Act.RESULT, _way(random, online))]
    if paid and random.random() < 0.1:  # something was missing in the first payment
        yield [Step(Act.PAY, _method(random, online))]
    if paid and random.random() < 0.15:
        both = [Step(Act.REFUND), Step(Act.CHANGE_RETURN, "mot_cua")]
        yield both if random.random() < 0.3 else [Step(Act.REFUND)]
    elif paid and random.random() < 0.05:
        yield [Step(Act.DELETE_PAYMENT)]
    yield from _noise(random)


def _payment(random: Random, method: str) -> Iterator[list[Step]]:
    if method == "tien_mat" or random.random() < 0.3:
        yield [Step(Act.PAY, method)]
        return
    yield [Step(Act.INVOICE, method)]
    yield from _noise(random)
    if random.random() < 0.15:  # the citizen gave up at the bank's page, and began again
        yield [Step(Act.DELETE_PAYMENT)]
        yield [Step(Act.INVOICE, method)]
    yield [Step(Act.CONFIRM, method)]


def _noise(random: Random) -> Iterator[list[Step]]:
    """Changes of columns that nobody outside looks at."""
    if random.random() < 0.25:
        yield [Step(Act.NOTE)] * random.choice((1, 1, 2))


def _way(random: Random, online: bool) -> str:
    weights = (20, 50, 20, 10) if online else (65, 10, 15, 10)
    return random.choices(("mot_cua", "dien_tu", "vnpost", "buu_chinh_khac"), weights)[0]


def _method(random: Random, online: bool) -> str:
    return random.choices(("dvcqg", "vi_dien_tu", "tien_mat"), (55, 35, 10) if online else (0, 20, 80))[0]


def _trouble(random: Random) -> Trouble:
    return random.choices(tuple(Trouble), (90, 4, 3, 3))[0]

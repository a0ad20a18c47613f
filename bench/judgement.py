"""How fast dossiers are judged with the OpenCPS v2 preset, on one core, and what the state keeps beyond the rows.

Contract: no server. The records are made in memory as the decoder gives them: lives of OpenCPS dossiers, online and at
the desk, interleaved, one transaction after the other, the catalogue first. Measured by this process's own processor
time, the best of `ROUNDS`:

- judgement: `Plan.facts`, `judge` and `dump_told` at the end of every transaction, the rows at hand (connector/mapping,
  connector/emc);
- the whole fold into a state file: the same, with rows and judgements read and written (connector/delivery).

Every life owes a known number of events, and the run fails if others come out. Exit code 1 when a goal is missed.

    python -m bench.judgement
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from bench.drain import _machine as machine
from bench.drain import _show as show
from bench.results import store
from bench.sampling import BenchFailed
from connector.change.position import Position
from connector.change.record import Change, Op, Row
from connector.delivery.fold import Due, Fold
from connector.delivery.state import PartitionState
from connector.emc.judgement import Told, dump_told, judge
from connector.mapping.compile import compile_text
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

DOSSIERS = int(os.environ.get("BENCH_DOSSIERS", "10000"))
ROUNDS = 3
AT_ONCE = 200
"""Dossiers that live at the same time."""
POLL = 1000
RATE = 30_000
"""Changes a second, at least."""
BYTES = 300
"""Of state a dossier, beyond its mapped columns, at most."""

DOSSIER, PAYMENT, SERVICE = "public.opencps_dossier", "public.opencps_paymentfile", "public.opencps_serviceinfo"
# As long as such names are.
NAME = "Thủ tục cấp đổi Giấy chứng nhận quyền sử dụng đất, quyền sở hữu nhà ở và tài sản khác gắn liền với đất"
EVENTS = 3
"""Of every life here: received, in process, result."""

Written = tuple[str, str, Op, Row]
"""Table, key, operation, row after it."""


def plan() -> Plan:
    """The preset."""
    preset = resources.files("connector.mapping") / "presets" / "opencps-v2.yml"
    return compile_text(preset.read_text(encoding="utf-8") + "  SiteId: 327\n")


def _life(number: int) -> Iterator[list[Written]]:
    """The transactions of one dossier: 12 changes online, 11 at the desk."""
    key, desk = str(number), number % 2 == 0
    row: Row = {
        "dossierid": number,
        "receivedate": None,
        "dossierno": "",
        "dossierstatus": "new",
        "originality": 3 if desk else 1,
        "servicecode": f"1.{number % 500:06}",
        "servicename": NAME,
        "online_": not desk,
        "viapostal": number % 3,
        "postalservicecode": "VNPOST" if number % 5 else None,
        "systemid": 5 if number % 4 == 1 else 0,
        "applicantidtype": "business" if number % 7 == 0 else "citizen",
        "applicantidno": f"0010{number:08}",
        "govagencycode": f"000.00.{number % 30:02}.H10",
    }
    received: Row = {"receivedate": 1_700_000_000_000_000 + number, "dossierno": f"000.00.11.H56-191203-{number:06}"}
    payment: Row = {"paymentfileid": number, "dossierid": number, "paymentstatus": 1, "paymentmethod": None}
    paid: Row = {**payment, "paymentstatus": 2, "paymentmethod": "KeyPayDVCQG"}

    def written(op: Op = Op.UPDATE, **changed: object) -> Written:
        row.update(changed)
        return DOSSIER, key, op, dict(row)

    yield [written(Op.CREATE, **(received if desk else {})), (PAYMENT, key, Op.CREATE, payment)]
    if not desk:
        yield [written(dossierstatus="receiving")]
    # The application saves a dossier more than once while it acts.
    yield [written(dossierstatus="processing"), written(**received)]
    yield [written()]
    yield [(PAYMENT, key, Op.UPDATE, paid)]
    yield [written(dossierstatus="releasing"), written()]
    yield [written(dossierstatus="done"), written()]
    yield [written()]


def changes(seed: int = 1043) -> list[Change]:
    """The catalogue, then the lives, as records of one partition."""
    rng = Random(seed)
    made: list[Change] = []
    numbers = iter(range(1, DOSSIERS + 1))
    living: list[Iterator[list[Written]]] = []

    def add(transaction: list[Written]) -> None:
        lsn = 1000 + len(made)
        for ordinal, (table, key, op, after) in enumerate(transaction):
            last = ordinal == len(transaction) - 1
            where = Position(1, lsn, ordinal)
            made.append(Change(op, table, (key,), None, after, where, lsn, f"{lsn}:{lsn}", last, 1_700_000_000_000_000))

    for service in range(500):
        code = f"1.{service:06}"
        add([(SERVICE, str(service), Op.CREATE, {"serviceinfoid": service, "servicecode": code, "maxlevel": 3})])
    while True:
        while len(living) < AT_ONCE and (number := next(numbers, None)) is not None:
            living.append(_life(number))
        if not living:
            return made
        at = rng.randrange(len(living))
        transaction = next(living[at], None)
        if transaction is None:
            living[at] = living[-1]
            living.pop()
        else:
            add(transaction)


class _View:
    """A dossier's rows, at hand."""

    __slots__ = ("_payments", "_services", "dossier")

    def __init__(self, services: dict[object, Row]) -> None:
        self.dossier: Row = {}
        self._payments: dict[str, Row] = {}
        self._services = services

    def put(self, change: Change) -> None:
        assert change.after is not None
        if change.table == DOSSIER:
            self.dossier = change.after
        else:
            self._payments[change.key[0]] = change.after

    def children(self, table: str) -> Sequence[Row]:
        return list(self._payments.values())

    def reference(self, table: str, column: str, value: object) -> Row | None:
        return self._services.get(value)


def judged(mapping: Plan, records: Sequence[Change]) -> tuple[float, float]:
    """Changes a second, and bytes of what is kept of a dossier's judgements."""
    settings = EmcSettings()
    services: dict[object, Row] = {}
    views: dict[str, _View] = {}
    told: dict[str, Told] = {}
    stored: dict[str, bytes] = {}
    events = 0
    began = time.process_time()
    for change in records:
        if change.table == SERVICE:
            assert change.after is not None
            services[change.after["servicecode"]] = change.after
            continue
        key = change.key[0]  # a payment has its dossier's here
        view = views.get(key)
        if view is None:
            view = views[key] = _View(services)
        view.put(change)
        if change.last:
            verdict = judge(told.get(key), mapping.facts(view), settings)
            if verdict.told != told.get(key):
                told[key] = verdict.told
                stored[key] = dump_told(verdict.told)
            events += len(verdict.due)
    seconds = time.process_time() - began
    _require(events)
    return len(records) / seconds, sum(map(len, stored.values())) / len(stored)


def folded(mapping: Plan, records: Sequence[Change], path: Path) -> tuple[float, float]:
    """Changes a second through the whole fold, and bytes of the file's table of judgements a dossier."""
    due: list[Due] = []
    state = PartitionState(path, "bench", 0)
    with closing(state.db):
        fold = Fold(state, mapping, EmcSettings(), due.append)
        began = time.process_time()
        for offset, change in enumerate(records):
            fold.apply(change, offset)
            if offset % POLL == POLL - 1 and not fold.inside:
                fold.save()
                state.commit()
        fold.save()
        state.commit()
        seconds = time.process_time() - began
        size = state.db.execute("SELECT sum(pgsize) FROM dbstat WHERE name = 'told'").fetchone()[0]
    _require(len(due))
    return len(records) / seconds, size / DOSSIERS


def _require(events: int) -> None:
    if events != EVENTS * DOSSIERS:
        raise BenchFailed(f"{events} events are owed, not {EVENTS * DOSSIERS}")


def main() -> int:
    """Run it; 0 when the goals were reached."""
    where = {**machine(), "rounds": ROUNDS}
    mapping, records = plan(), changes()
    print(f"bench: {len(records)} changes of {DOSSIERS} dossiers", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="emc-cdc-judgement-") as name:
            alone = [judged(mapping, records) for _ in range(ROUNDS)]
            whole = [folded(mapping, records, Path(name) / f"{number}.sqlite") for number in range(ROUNDS)]
    except BenchFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    (rate, stored), (fold_rate, in_file) = max(alone), max(whole)
    lines: list[dict[str, Any]] = [
        _line("judgement, opencps-v2, one core", rate, "changes/s", f">= {RATE}", RATE, rate / RATE, where),
        _line(
            "judgement and fold, opencps-v2, one core",
            fold_rate,
            "changes/s",
            f">= {RATE}",
            RATE,
            fold_rate / RATE,
            where,
        ),
        _line("state of a dossier beyond its rows", stored, "bytes", f"<= {BYTES}", BYTES, BYTES / stored, where),
        # Keys, and pages that are not full.
        _line("the same in the state file", in_file, "bytes", None, BYTES, BYTES / in_file, where),
    ]
    store("judgement", lines)
    show(lines)
    return 0 if all(line["ratio"] >= 1 for line in lines if line["goal"]) else 1


def _line(
    name: str, value: float, unit: str, goal: str | None, bound: float, ratio: float, where: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": "the bound",
        "peer_value": bound,
        "ratio": round(ratio, 2),
        "goal": goal,
        "machine": where,
    }


if __name__ == "__main__":
    sys.exit(main())

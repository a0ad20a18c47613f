"""A ledger of 20,000 events beside an extract with planted differences of every kind: exactly those are found."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ledger_file import as_csv, event, row, settings_of, write_ledger

from connector.delivery.ledger import events
from connector.reconcile.comparison import Kind
from connector.reconcile.extract import opened
from connector.reconcile.reckoning import MARGIN, TOLD, Period, Reckoning

NOW = 1767600000.0  # 15:00 on 5 January 2026 in Vietnam
SENT = "05/01/2026 15:00:00"


def reckon(directory: Path, extract: str, period: Period, now: float = NOW) -> Reckoning:
    path = directory / "extract.csv"
    path.write_text(extract, encoding="utf-8", newline="")
    reckoning = Reckoning(period)
    with opened(path, {}) as theirs:
        reckoning.take_extract(theirs, lambda *_: None)
    reckoning.take_ledger(events(settings_of(directory), period.since, period.until), now, lambda *_: None)
    reckoning.settle(lambda *_: None)
    return reckoning


DAY = Period(NOW - 54_000, NOW + 32_400)


def test_planted_differences_are_found_and_no_others(tmp_path: Path) -> None:
    """Planted by number of the dossier and drawn at random; what is found is compared with what was planted."""
    draw = random.Random(7)
    sent = [event(number, status) for number in range(6_600) for status in (1, 2, 3)]
    parked = [event(number) for number in range(7_000, 7_040)]
    lost = [event(number) for number in range(8_000, 8_060)]
    waiting = [event(number) for number in range(9_000, 9_050)]
    write_ledger(tmp_path, sent, NOW, parked, lost, waiting)
    chosen = draw.sample(range(len(sent)), 400)
    missing, changed, twice = chosen[:100], chosen[100:200], chosen[200:300]
    fields = ("NameTTHC", "FormsReception", "FormsPayments", "Level", "Data", "SiteId", "CodeTTHC")
    planted: set[tuple[object, ...]] = set()
    rows = []
    for number, each in enumerate(sent):
        if number in missing:
            planted.add((Kind.MISSING, each.CodeProfile, str(each.Status), ()))
            continue
        told = each
        if number in changed:
            name = draw.choice(fields)
            old = getattr(each, name)
            new: object = old + 5 if isinstance(old, int) else f"{old} khác"
            told = replace(each, **{name: new})  # type: ignore[arg-type]
            differing = ((name, str(old), str(new).strip()),)
            planted.add((Kind.DIFFERENT, each.CodeProfile, str(each.Status), differing))
        if number in twice:
            planted.add((Kind.DUPLICATE, each.CodeProfile, str(each.Status), ()))
            rows.append(row(told, SENT))
        rows.append(row(told, SENT))
    unknown = [event(number) for number in range(6_700, 6_800)]
    rows += [row(each, SENT) for each in (*unknown, *lost[:30])]
    planted |= {(Kind.UNKNOWN, each.CodeProfile, "1", ()) for each in unknown}
    planted |= {(Kind.PARKED, each.CodeProfile, "1", ()) for each in parked}
    planted |= {(Kind.WAITING, each.CodeProfile, "1", ()) for each in (*lost, *waiting)}
    draw.shuffle(rows)
    reckoning = reckon(tmp_path, as_csv(rows), DAY)
    found = [(one.kind, one.code, one.status, one.differing) for one in reckoning.told(*TOLD)]
    assert len(found) == len(planted)
    assert set(found) == planted
    assert reckoning.summary.kinds[Kind.EQUAL] == len(sent) - 200
    assert reckoning.summary.settled == Counter({True: 30, False: 30})
    assert {one.code for one in reckoning.told(Kind.WAITING) if one.at_emc} == {each.CodeProfile for each in lost[:30]}
    ((group, counts),) = reckoning.summary.groups.items()
    assert group == ("000.00.02.H10", "2.000082")
    assert counts == reckoning.summary.kinds
    reckoning.close()


def test_the_edges_of_the_period(tmp_path: Path) -> None:
    """Rows of another period are left out; within the margin of an edge a pair counts, and a lone one is not told."""
    write_ledger(tmp_path, [event(1), event(2)], NOW)
    rows = [row(event(1), SENT), row(event(3), SENT), row(event(4), "06/01/2026 15:00:00")]
    edge = reckon(tmp_path, as_csv(rows), Period(NOW - 100, NOW + MARGIN * 10))
    assert edge.summary.kinds == {Kind.EQUAL: 1, Kind.EDGE: 2}
    assert edge.summary.outside == 1
    assert not edge.summary.differs
    edge.close()
    inside = reckon(tmp_path, as_csv(rows), DAY)
    assert inside.summary.kinds == {Kind.EQUAL: 1, Kind.MISSING: 1, Kind.UNKNOWN: 1}
    inside.close()

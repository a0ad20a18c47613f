"""The independent checker finds what it is there for: each kind of fault, planted into a log that is right."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_check import SNAPSHOT_BEGIN, SNAPSHOT_END, Row, Told, Verdict, Written, check, partition_of, place

PARTITIONS = 3
TABLES = ("m.ho_so", "m.thanh_toan", "m.thu_tuc")
HERE = Path(__file__).parent


def ledger(random: Random, transactions: int) -> tuple[list[Written], dict[str, dict[str, Row]]]:
    """A random history: its ledger, and the rows at its end."""
    written: list[Written] = []
    rows: dict[str, dict[str, Row]] = {table: {} for table in TABLES}
    for number in range(1, transactions + 1):
        for _ in range(random.randint(1, 4)):
            table = random.choice(TABLES)
            held = rows[table]
            key = str(random.randint(1, 6))
            before = held.get(key)
            if before is not None and random.random() < 0.3:
                dossier = None if table == "m.thu_tuc" else str(before["ho_so_id"])
                written.append(Written(number, 700 + number, table, key, dossier, None, "d", before))
                del held[key]
                continue
            of = key if table == "m.ho_so" else str(random.randint(1, 6))
            row: Row = {"id": int(key), "ho_so_id": of, "ban": random.randint(1, 10**6)}
            dossier = None if table == "m.thu_tuc" else of
            former = str(before["ho_so_id"]) if before is not None and dossier is not None else None
            op = "c" if before is None else "u"
            written.append(Written(number, 700 + number, table, key, dossier, former, op, row))
            held[key] = row
    return written, rows


def ideal(written: list[Written]) -> list[Told]:
    """The log that tells it as it has to be told, behind an empty snapshot."""
    told: list[Told] = []
    for partition, expected in place(written, PARTITIONS).items():
        for prefix in (SNAPSHOT_BEGIN, SNAPSHOT_END):
            told.append(Told(partition, 0, "!message", prefix, "m", None, None, (1, 90, 0, 0), None, False, prefix))
        for number, group in groupby(expected, key=lambda each: each.number):
            changes = list(group)
            for each in changes:
                position = (1, 100 + number, each.identity[1], each.identity[2])
                before, after = (each.row, None) if each.op == "d" else (None, each.row)
                last = each is changes[-1]
                record = Told(
                    partition, len(told), each.table, each.key, each.op, before, after, position, 700 + number, last, ""
                )
                told.append(record)
    return told


def judged(told: list[Told], written: list[Written], rows: dict[str, dict[str, Row]]) -> Verdict:
    return check(told, written, rows, PARTITIONS)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_a_log_that_is_right_is_found_right(seed: int, transactions: int) -> None:
    """Nothing is found where nothing is wrong, whatever the history."""
    written, rows = ledger(Random(seed), transactions)
    verdict = judged(ideal(written), written, rows)
    assert verdict.findings == ()
    assert verdict.changes > 0


def dropped(told: list[Told], at: int) -> list[Told]:
    return told[:at] + told[at + 1 :]


def doubled(told: list[Told], at: int) -> list[Told]:
    return [*told[: at + 1], *told[at:]]


def swapped(told: list[Told], at: int) -> list[Told]:
    """With the next change of the same partition; the positions stay where they are, as if they had been given late."""
    other = next(place for place in range(at + 1, len(told)) if told[place].partition == told[at].partition)
    made = list(told)
    one, two = told[at], told[other]
    made[at] = replace(two, position=(*one.position[:2], *two.position[2:]))
    made[other] = replace(one, position=(*two.position[:2], *one.position[2:]))
    return made


def told_late(told: list[Told], at: int) -> list[Told]:
    """At the end of its partition."""
    return [*told[:at], *told[at + 1 :], told[at]]


def with_another_value(told: list[Told], at: int) -> list[Told]:
    after = told[at].after
    assert after is not None
    return [*told[:at], replace(told[at], after={**after, "ban": -1}), *told[at + 1 :]]


def without_a_column(told: list[Told], at: int) -> list[Told]:
    after = told[at].after
    assert after is not None
    row = {name: value for name, value in after.items() if name != "ban"}
    return [*told[:at], replace(told[at], after=row), *told[at + 1 :]]


def elsewhere(told: list[Told], at: int) -> list[Told]:
    return [*told[:at], replace(told[at], partition=(told[at].partition + 1) % PARTITIONS), *told[at + 1 :]]


def marked_otherwise(told: list[Told], at: int) -> list[Told]:
    return [*told[:at], replace(told[at], last=not told[at].last), *told[at + 1 :]]


def placed_before(told: list[Told], at: int) -> list[Told]:
    return [*told[:at], replace(told[at], position=(1, 1, *told[at].position[2:])), *told[at + 1 :]]


def made_up(told: list[Told], at: int) -> list[Told]:
    return [*told[: at + 1], replace(told[at], tx=1), *told[at + 1 :]]


def of_a_rolled_back_row(told: list[Told], at: int) -> list[Told]:
    position = (*told[at].position[:2], 99, 0)
    return [*told[: at + 1], replace(told[at], key="4711", position=position), *told[at + 1 :]]


PLANTED: dict[str, tuple[Callable[[list[Told], int], list[Told]], str]] = {
    "a loss": (dropped, "lost"),
    "a double": (doubled, "doubled"),
    "a swap": (swapped, "order"),
    "told late": (told_late, "order"),
    "a wrong value": (with_another_value, "value"),
    "a missing value": (without_a_column, "value"),
    "another partition": (elsewhere, "lost"),
    "another partition's surplus": (elsewhere, "unexpected"),
    "a mark": (marked_otherwise, "mark"),
    "a position that falls": (placed_before, "position"),
    "a change nobody made": (made_up, "unexpected"),
    "a row that was rolled back": (of_a_rolled_back_row, "unexpected"),
}


@pytest.mark.parametrize("fault", PLANTED)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_what_is_planted_is_found(fault: str, seed: int) -> None:
    """One fault anywhere in a long log is found, and called by its name."""
    random = Random(seed)
    written, rows = ledger(random, 40)
    told = ideal(written)
    plant, kind = PLANTED[fault]
    # Of a row with one partition, and not the last change of its partition.
    places = [
        at
        for at, record in enumerate(told)
        if record.tx is not None
        and record.after is not None
        and record.table != "m.thu_tuc"
        and any(each.partition == record.partition and each.tx != record.tx for each in told[at + 1 :])
    ]
    verdict = judged(plant(told, random.choice(places)), written, rows)
    assert verdict.count(kind) >= 1, verdict.findings


@pytest.mark.parametrize("missing", [SNAPSHOT_BEGIN, SNAPSHOT_END])
def test_a_missing_marker_is_found(missing: str) -> None:
    """Each marker stands in every partition, with a position."""
    written, rows = ledger(Random(1), 5)
    told = [record for record in ideal(written) if record.marker != missing or record.partition != 1]
    assert [finding.partition for finding in judged(told, written, rows).findings] == [1]
    nowhere = [replace(r, position=(0, 0, 0, 0)) if r.marker == missing else r for r in ideal(written)]
    assert judged(nowhere, written, rows).count("position") >= PARTITIONS


def test_a_row_that_no_record_tells_is_found() -> None:
    """What the table holds and the log does not tell, and what the log holds and the table does not."""
    written, rows = ledger(Random(2), 20)
    told = ideal(written)
    more = {**rows, "m.ho_so": {**rows["m.ho_so"], "77": {"id": 77}}}
    assert [finding.kind for finding in judged(told, written, more).findings] == ["lost"]
    key = next(iter(rows["m.ho_so"]))
    fewer = {**rows, "m.ho_so": {name: row for name, row in rows["m.ho_so"].items() if name != key}}
    assert judged(told, written, fewer).count("value") == 1


def test_partitions_are_murmur2() -> None:
    """Of Kafka's own examples (org.apache.kafka.common.utils.UtilsTest): murmur2 of "21" is -973932308."""
    assert partition_of("21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000


@pytest.mark.parametrize("module", ["ledger_check.py", "ledger_load.py"])
def test_the_checker_shares_no_code_with_the_connector(module: str) -> None:
    """Neither the checker nor the load imports anything of what is checked, not even by way of a helper."""
    waiting, seen = [HERE / module], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] != "connector", f"{path.name} imports {name}"
                found = {HERE / f"{name}.py", HERE.parent / f"{name.replace('.', '/')}.py"}
                waiting += [each for each in found if each.exists() and each not in seen]

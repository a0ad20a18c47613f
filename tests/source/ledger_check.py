"""An independent checker: a Kafka topic of changes against a ledger that the load wrote in the same transactions.

Contract: nothing of `connector` is imported. kafka-python reads the topic (read committed), fastavro decodes it by the
schemas topic, psycopg reads the ledger and the tables (see `ledger_load` for what stands in them); partitions are
computed with kafka-python's murmur2. `check` is pure. It proves for every partition:

- completeness and uniqueness: each change of the ledger stands there exactly once, and nothing else does;
- order: transactions stand in the order of their commits, changes in the order in which they were made;
- values: operation, key and row are those of the ledger, and at the end every row is as it is in the table;
- positions: every record carries one, markers and reads, too; they never fall, and those of changes rise;
- marks: the last change of each transaction is marked, and no other.

A change is known by its transaction's id, its number among the transaction's changes, and which of two records it is
where one change is told as two (a child that moved to another dossier is a delete there and a create here).
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from time import monotonic
from typing import Any

import fastavro
import psycopg
from log.other_client import KafkaConsumer, TopicPartition, murmur2

Row = dict[str, Any]
Position = tuple[int, int, int, int]
"""Epoch, LSN of the commit, ordinal, number among the records of one change."""
Identity = tuple[int, int, int]
"""Transaction, ordinal, number among the records of one change."""

CHANGES = frozenset({"c", "u", "d"})
SNAPSHOT_BEGIN, SNAPSHOT_END = "emc-cdc.snapshot.begin", "emc-cdc.snapshot.end"
PATIENCE = 120.0

_LEDGER = """
SELECT number, tx, relation, key, dossier, former, op, row
FROM ledger.changes JOIN ledger.commits USING (tx) ORDER BY number, seq
"""
_TABLES = "SELECT DISTINCT relation FROM ledger.columns"
_COLUMNS = "SELECT name FROM ledger.columns WHERE relation = %s"


@dataclass(frozen=True, slots=True)
class Written:
    """A line of the ledger. `dossier` None: it concerns every partition; `former`: the one that it was of before."""

    number: int
    tx: int
    table: str
    key: str
    dossier: str | None
    former: str | None
    op: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Told:
    """A record of the topic."""

    partition: int
    offset: int
    table: str
    key: str
    op: str
    before: Row | None
    after: Row | None
    position: Position
    tx: int | None
    last: bool
    marker: str

    @property
    def identity(self) -> Identity:
        assert self.tx is not None
        return (self.tx, self.position[2], self.position[3])


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to stand in a partition."""

    identity: Identity
    number: int
    table: str
    key: str
    op: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it has to be. Kinds: lost, doubled, unexpected, order, value, position, mark."""

    kind: str
    partition: int
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; `changes`: how many records were expected."""

    changes: int
    findings: tuple[Finding, ...]

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def figures(self) -> str:
        words = {"lost": "lost", "doubled": "doubled", "order": "out of order"}
        return ", ".join([f"{self.changes} changes", *(f"{self.count(kind)} {text}" for kind, text in words.items())])


def check(
    told: Iterable[Told], written: Sequence[Written], tables: Mapping[str, Mapping[str, Row]], partitions: int
) -> Verdict:
    """Everything of the module's contract. `tables`: the rows that the database holds now, by table and key."""
    expected = place(written, partitions)
    by_partition: dict[int, list[Told]] = defaultdict(list)
    for record in told:
        by_partition[record.partition].append(record)
    findings: list[Finding] = []
    for partition in range(partitions):
        records = by_partition[partition]
        changes = [record for record in records if record.tx is not None]
        findings += _complete(partition, changes, expected[partition])
        findings += _ordered(partition, changes, expected[partition])
        findings += _positioned(partition, records)
        findings += _marked(partition, changes)
    findings += _commits(by_partition, written)
    findings += _final(by_partition, tables)
    return Verdict(sum(map(len, expected.values())), tuple(findings))


def partition_of(dossier: str, partitions: int) -> int:
    """Kafka's default partitioner, as kafka-python has it."""
    return int((murmur2(dossier.encode()) & 0x7FFFFFFF) % partitions)


def place(written: Iterable[Written], partitions: int) -> dict[int, list[Expected]]:
    """What has to stand in each partition, in its order."""
    expected: dict[int, list[Expected]] = {partition: [] for partition in range(partitions)}
    for _, lines in groupby(written, key=lambda line: line.number):
        for ordinal, line in enumerate(lines, 1):
            for sub, op, dossier in _records(line):
                made = Expected((line.tx, ordinal, sub), line.number, line.table, line.key, op, line.row)
                targets = range(partitions) if dossier is None else [partition_of(dossier, partitions)]
                for partition in targets:
                    expected[partition].append(made)
    return expected


def _records(line: Written) -> list[tuple[int, str, str | None]]:
    if line.former is not None and line.former != line.dossier:
        return [(0, "d", line.former), (1, "c", line.dossier)]
    return [(0, line.op, line.dossier)]


def _complete(partition: int, changes: Sequence[Told], expected: Sequence[Expected]) -> Iterator[Finding]:
    wanted = {each.identity: each for each in expected}
    seen: Counter[Identity] = Counter()
    for record in changes:
        seen[record.identity] += 1
        each = wanted.get(record.identity)
        where = f"offset {record.offset}: {record.op} of {record.table} {record.key}"
        if each is None:
            yield Finding("unexpected", partition, f"{where}, which nobody made: {record.identity}")
        elif seen[record.identity] > 1:
            yield Finding("doubled", partition, f"{where} stands there again: {record.identity}")
        elif difference := _difference(record, each):
            yield Finding("value", partition, f"{where}: {difference}")
    for identity, each in wanted.items():
        if identity not in seen:
            yield Finding("lost", partition, f"{each.op} of {each.table} {each.key} is missing: {identity}")


def _difference(record: Told, each: Expected) -> str:
    for what, found, meant in (
        ("operation", record.op, each.op),
        ("table", record.table, each.table),
        ("key", record.key, each.key),
    ):
        if found != meant:
            return f"{what} {found}, not {meant}"
    if each.op == "d":
        return "" if record.after is None and record.before is not None else "a delete with a row after it"
    assert each.row is not None
    if record.after is None:
        return "no row after it"
    names = [name for name in each.row if record.after.get(name) != each.row[name]]
    return f"another value in {', '.join(names)}" if names or set(record.after) != set(each.row) else ""


def _ordered(partition: int, changes: Sequence[Told], expected: Sequence[Expected]) -> Iterator[Finding]:
    """Each change after all that were before it; what is doubled counts where it stands first."""
    places = {each.identity: at for at, each in enumerate(expected)}
    reached = -1
    for identity in dict.fromkeys(record.identity for record in changes):
        at = places.get(identity)
        if at is None:
            continue
        if at < reached:
            yield Finding("order", partition, f"{identity} stands after {expected[reached].identity}")
        reached = max(reached, at)


def _positioned(partition: int, records: Sequence[Told]) -> Iterator[Finding]:
    highest: Position = (0, 0, 0, 0)
    change: Position = (0, 0, 0, 0)
    for record in records:
        where = f"offset {record.offset}, {record.marker or record.op}: {record.position}"
        if record.position[0] < 1 or record.position[1] < 1:
            yield Finding("position", partition, f"{where}: there is none")
        if record.position < highest:
            yield Finding("position", partition, f"{where} stands after {highest}")
        highest = max(highest, record.position)
        if record.tx is not None:
            if record.position <= change:
                yield Finding("position", partition, f"{where}: a change that does not rise")
            change = record.position
    markers = {record.marker for record in records}
    for marker in (SNAPSHOT_BEGIN, SNAPSHOT_END):
        if marker not in markers:
            yield Finding("position", partition, f"there is no {marker}")


def _marked(partition: int, changes: Sequence[Told]) -> Iterator[Finding]:
    for record, following in zip(changes, [*changes, None][1:], strict=True):
        if record.last != (following is None or following.tx != record.tx):
            yield Finding("mark", partition, f"offset {record.offset}: last is {record.last} of {record.tx}")


def _commits(by_partition: Mapping[int, Sequence[Told]], written: Iterable[Written]) -> Iterator[Finding]:
    """A transaction has one commit LSN, and these rise with the commits."""
    commits: dict[int, set[int]] = defaultdict(set)
    for records in by_partition.values():
        for record in records:
            if record.tx is not None:
                commits[record.tx].add(record.position[1])
    before = 0
    for tx in dict.fromkeys(line.tx for line in written):
        found = commits.get(tx, set())
        if len(found) > 1 or any(lsn <= before for lsn in found):
            yield Finding("position", -1, f"transaction {tx} is at {sorted(found)}, the one before it at {before}")
        before = max([before, *found])


def _final(by_partition: Mapping[int, Sequence[Told]], tables: Mapping[str, Mapping[str, Row]]) -> Iterator[Finding]:
    """Folded, every partition holds rows as the tables have them; all together hold all rows."""
    known: set[tuple[str, str]] = set()
    for partition, records in by_partition.items():
        rows: dict[tuple[str, str], Row | None] = {}
        for record in records:
            if record.op in CHANGES or record.op == "r":
                rows[record.table, record.key] = record.after
        for (table, key), row in rows.items():
            if row is None:
                continue
            known.add((table, key))
            if tables[table].get(key) != row:
                yield Finding("value", partition, f"{table} {key} is not told as it is")
    for table, held in tables.items():
        for key in held:
            if (table, key) not in known:
                yield Finding("lost", -1, f"{table} {key} is told nowhere")


# -- what there is to be checked -------------------------------------------------------------------------------------


def read_topic(brokers: str, name: str) -> list[Told]:
    """Every committed record of `<name>.changes`, by partition and offset."""
    schemas = {
        int(record.key): fastavro.parse_schema(json.loads(record.value))
        for record in _records_of(brokers, f"{name}.schemas")
    }
    return [_told(record, schemas) for record in _records_of(brokers, f"{name}.changes")]


def read_ledger(dsn: str) -> list[Written]:
    """What the load has committed, in the order of its commits."""
    with psycopg.connect(dsn) as connection:
        lines = connection.execute(_LEDGER).fetchall()
    return [
        Written(number, tx, table, key, dossier, former, op, None if row is None else _row(row))
        for number, tx, table, key, dossier, former, op, row in lines
    ]


def read_tables(dsn: str) -> dict[str, dict[str, Row]]:
    """The rows that the tables hold now."""
    found: dict[str, dict[str, Row]] = {}
    with psycopg.connect(dsn) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            names = [name for (name,) in connection.execute(_COLUMNS, (table,)).fetchall()]
            query = f"SELECT row_to_json(found)::text FROM (SELECT {', '.join(names)} FROM {table}) found"
            rows = [_row(text) for (text,) in connection.execute(query.encode()).fetchall()]
            found[table] = {str(row["id"]): row for row in rows}
    return found


def _row(text: str) -> Row:
    row: Row = json.loads(text, parse_float=Decimal)
    return row


def _records_of(brokers: str, topic: str) -> list[Any]:
    consumer = KafkaConsumer(
        bootstrap_servers=brokers, isolation_level="read_committed", enable_auto_commit=False, group_id=None
    )
    try:
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        assert places, f"there is no topic {topic}"
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        found: dict[TopicPartition, list[Any]] = {place: [] for place in places}
        deadline = monotonic() + PATIENCE
        while any(consumer.position(place) < end for place, end in ends.items()):
            assert monotonic() < deadline, f"{topic} is not read to its end"
            for place, records in consumer.poll(timeout_ms=500, max_records=5000).items():
                found[place] += records
                deadline = monotonic() + PATIENCE
    finally:
        consumer.close()
    return [record for place in places for record in found[place]]


def _told(record: Any, schemas: Mapping[int, Any]) -> Told:
    assert record.value[0] == 0
    schema = schemas[int.from_bytes(record.value[1:5], "big")]
    envelope: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
    source, transaction = envelope["source"], envelope["transaction"]
    first, *rest = json.loads(record.key)
    position = (source["epoch"], source["commit_lsn"], source["ordinal"], source["sub"])
    change = envelope["op"] in CHANGES
    if change:
        assert transaction is not None
        assert transaction["id"] == f"{source['txId']}:{source['commit_lsn']}"
    return Told(
        record.partition,
        record.offset,
        first,
        rest[0],
        envelope["op"],
        envelope.get("before"),
        envelope.get("after"),
        position,
        source["txId"] if change else None,
        change and transaction["last"],
        envelope["message"]["prefix"] if envelope["op"] == "m" else "",
    )

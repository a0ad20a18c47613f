"""A small one-stop database told as source transactions: changes for a fold, or records of a real log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import message_key, message_schema, row_key, table_schema, truncate_key
from connector.change.json_encoding import JsonEncoding
from connector.change.partitioner import partitioner
from connector.change.position import Position
from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op, Row
from connector.change.selection import Role
from connector.change.shape import Column, Shape
from connector.errors import LogUnavailable
from connector.log.contract import Entry
from connector.log.opening import open_writer
from connector.mapping.compile import compile_text
from connector.mapping.plan import Plan
from connector.settings import KafkaSettings, LogSettings, Settings

_numbers = count(1)
DOSSIER, PAYMENT, SERVICE = "m.ho_so", "m.thanh_toan", "m.thu_tuc"

MAPPING = """\
mapping:
  dossier: {table: m.ho_so}
  children:
    payments: {table: m.thanh_toan, belongs_to: ho_so_id, order_by: id}
  references:
    service: {table: m.thu_tuc, match: {id: thu_tuc_id}}
  milestones:
    received: {tiep_nhan: true}
    processing: {trang_thai: dang_xu_ly, tiep_nhan: true}
    result: {trang_thai: da_tra, tiep_nhan: true}
    other: {trang_thai: huy, tiep_nhan: true}
  CodeProfile: ma
  SiteId: 327
  CodeTTHC: service.ma
  NameTTHC: service.ten
  Level: 4
  FormsReception: {constant: online}
  Result: {constant: desk}
  FormsPayments:
    of: {last: payments, where: {trang_thai: xong}, column: hinh_thuc}
    is: {mang: online, quay: in_person}
  IsFromDVCQG: false
  User: {type: {constant: citizen}, account: tai_khoan, location: {constant: 000.00.02.H10}}
"""


@cache
def plan(mapping: str = MAPPING) -> Plan:
    return compile_text(mapping, "mapping.yml")


_TEXT, _INT, _BOOL = 25, 20, 16
SHAPES = {
    DOSSIER: Shape(
        "m",
        "ho_so",
        (
            Column("id", _INT, -1, True),
            Column("ma", _TEXT, -1, False),
            Column("trang_thai", _TEXT, -1, False),
            Column("tiep_nhan", _BOOL, -1, False),
            Column("thu_tuc_id", _INT, -1, False),
            Column("tai_khoan", _TEXT, -1, False),
        ),
    ),
    PAYMENT: Shape(
        "m",
        "thanh_toan",
        (
            Column("id", _INT, -1, True),
            Column("ho_so_id", _INT, -1, False),
            Column("trang_thai", _TEXT, -1, False),
            Column("hinh_thuc", _TEXT, -1, False),
        ),
    ),
    SERVICE: Shape(
        "m",
        "thu_tuc",
        (Column("id", _INT, -1, True), Column("ma", _TEXT, -1, False), Column("ten", _TEXT, -1, False)),
    ),
}


def code(number: int) -> str:
    """The dossier number of the dossier with this key."""
    return f"000.00.11.H56-261123-{number:05}"


def dossier(number: int, state: str = "moi", received: bool = True, service: int = 1) -> Row:
    return {
        "id": number,
        "ma": code(number),
        "trang_thai": state,
        "tiep_nhan": received,
        "thu_tuc_id": service,
        "tai_khoan": f"QG-{number}",
    }


def payment(number: int, of: int | None, state: str = "xong", how: str = "mang") -> Row:
    return {"id": number, "ho_so_id": of, "trang_thai": state, "hinh_thuc": how}


def service(number: int, name: str = "Cấp đổi") -> Row:
    return {"id": number, "ma": f"2.{number:06}", "ten": name}


Step = tuple[Op, str, Row | None]
"""What happened to one row; None for TRUNCATE."""


def create(table: str, row: Row) -> Step:
    return Op.CREATE, table, row


def update(table: str, row: Row) -> Step:
    return Op.UPDATE, table, row


def delete(table: str, row: Row) -> Step:
    return Op.DELETE, table, row


def truncate(table: str) -> Step:
    return Op.TRUNCATE, table, None


class Story:
    """Numbers what happens: each call gives the changes of one source transaction, or of (a part of) one snapshot."""

    def __init__(self) -> None:
        self.epoch = 1
        self.lsn = 0x1000
        self.xid = 700
        self.position = Position(1, self.lsn, 0)
        """Of the last record."""

    def transaction(self, *steps: Step) -> list[Change]:
        self.lsn += 0x100
        self.xid += 1
        identity = f"{self.xid}:{self.lsn}"
        changes = [
            self._change(op, table, row, Position(self.epoch, self.lsn, number), identity)
            for number, (op, table, row) in enumerate(steps, 1)
        ]
        changes[-1] = replace(changes[-1], last=True)
        self.position = changes[-1].position
        return changes

    def snapshot(self, *rows: tuple[str, Row], **content: object) -> list[Change]:
        self.move_on()
        return [self.begin(**content), *self.reads(*rows), self.end()]

    def move_on(self) -> None:
        """The next marker or read stands after a part of the stream that held nothing for us."""
        self.lsn += 0x100
        self.position = Position(self.epoch, self.lsn, 0)

    def gap(self) -> None:
        """The stream was interrupted: a new slot, a new epoch."""
        self.epoch += 1
        self.move_on()

    def begin(self, **content: object) -> Change:
        """A snapshot's begin, where the stream stands; content: what its marker says."""
        return self._marker(SNAPSHOT_BEGIN, content)

    def reads(self, *rows: tuple[str, Row]) -> list[Change]:
        """Rows that are read where the stream stands."""
        return [self._change(Op.READ, table, row, self.position, None) for table, row in rows]

    def end(self) -> Change:
        """A snapshot's end, where the stream stands."""
        return self._marker(SNAPSHOT_END, {})

    def _marker(self, prefix: str, content: Mapping[str, object]) -> Change:
        body = json.dumps(content).encode()
        return Change(
            Op.MESSAGE,
            "",
            (),
            None,
            None,
            self.position,
            self.lsn,
            None,
            False,
            self.time_us,
            marker=prefix,
            content=body,
        )

    def _change(self, op: Op, table: str, row: Row | None, position: Position, identity: str | None) -> Change:
        key = () if row is None else (str(row["id"]),)
        gone = op is Op.DELETE
        return Change(
            op,
            table,
            key,
            row if gone else None,
            None if gone else row,
            position,
            self.lsn,
            identity,
            False,
            self.time_us,
        )

    @property
    def time_us(self) -> int:
        return 1_790_000_000_000_000 + self.lsn


class LoggedStory:
    """A story that is written to the log of `settings`, as capture would partition it."""

    def __init__(self, settings: Settings) -> None:
        self.story = Story()
        self._settings = settings
        self._name = settings.name
        self._partitions = settings.log.partitions
        self._partition_of = partitioner(settings.log.partitions)
        self._writer = open_writer(settings)
        self._writer.open()
        self._as_json = settings.log.format == "json"
        self._encoders: dict[str, tuple[Encoder, JsonEncoding]] = {}
        self._schemas: dict[int, str] = {}
        self._roles = {table.full_name: table.role for table in plan().selection.tables}

    def transaction(self, *steps: Step) -> None:
        self.append(self.story.transaction(*steps))

    def snapshot(self, *rows: tuple[str, Row]) -> None:
        self.append(self.story.snapshot(*rows))

    def append(self, changes: Sequence[Change]) -> None:
        placed = [(partition, change) for change in changes for partition in self._targets(change)]
        last = {partition: at for at, (partition, _) in enumerate(placed)}
        whole = bool(changes) and changes[-1].last
        self._writer.append(
            [
                self._entry(partition, replace(change, last=whole and last[partition] == at))
                for at, (partition, change) in enumerate(placed)
            ]
        )

    def insist(self, changes: Sequence[Change]) -> None:
        """Append what belongs to one partition, as capture does over an outage of the log: once, whatever it takes."""
        decoder = ChangeDecoder(self._schemas.__getitem__)
        spent = False
        while True:
            try:
                if spent:
                    self._writer = open_writer(self._settings)
                    tails = self._writer.open().values()
                    if changes[-1].position in {decoder.decode(b'["tail"]', value).position for value in tails}:
                        return
                self.append(changes)
                return
            except LogUnavailable:
                self._writer.close()
                spent = True

    def close(self) -> None:
        self._writer.close()

    def partition_of(self, number: int) -> int:
        """The partition of the dossier with this key."""
        return int(self._partition_of(str(number).encode()))

    def _targets(self, change: Change) -> Iterable[int]:
        row = change.after or change.before
        match self._roles.get(change.table):
            case Role.DOSSIER if row is not None:
                return (self._partition_of(str(row["id"]).encode()),)
            case Role.CHILD if row is not None and row["ho_so_id"] is not None:
                return (self._partition_of(str(row["ho_so_id"]).encode()),)
        return range(self._partitions)

    def _entry(self, partition: int, change: Change) -> Entry:
        xid = None if change.transaction is None else int(change.transaction.split(":")[0])
        position = change.position
        context = Context(
            self._name,
            "legacy",
            position.epoch,
            position.commit_lsn,
            change.commit_time_us,
            xid,
            change.commit_time_us // 1000,
            snapshot=change.op is Op.READ,
        )
        if change.marker is not None:
            encoder, in_json = self._encoder("", message_schema(self._name))
            value = encoder.message(context, change.marker, change.content, position, change.lsn, change.last)
            key = message_key(change.marker, position)
        else:
            encoder, in_json = self._encoder(change.table, table_schema(self._name, "legacy", SHAPES[change.table]))
            rows = (change.before, change.after)
            value = encoder.row(context, change.op, *rows, position, change.lsn, 1, change.last, change.truncated)
            truncated = change.op is Op.TRUNCATE
            key = truncate_key(change.table, position) if truncated else row_key(change.table, change.key)
        return Entry(partition, *(in_json.entry(key, value) if self._as_json else (key, value)))

    def _encoder(self, table: str, schema: str) -> tuple[Encoder, JsonEncoding]:
        if table not in self._encoders:
            schema_id = self._writer.register(schema)
            self._schemas[schema_id] = schema
            self._encoders[table] = Encoder(schema_id, schema), JsonEncoding(schema_id, schema, self._name)
        return self._encoders[table]


LIFE = [1, 2, 3]
"""The statuses of one of `lives`."""


def lives(log: LoggedStory, *numbers: int) -> None:
    """Each dossier is received, worked on, returned; what is done to one waits for what is done to all before."""
    for number in numbers:
        log.transaction(create(DOSSIER, dossier(number)))
    for number in numbers:
        log.transaction(update(DOSSIER, dossier(number, "dang_xu_ly")))
    for number in numbers:
        log.transaction(update(DOSSIER, dossier(number, "da_tra")), create(PAYMENT, payment(number, number)))


def settings_in(directory: Path, url: str, partitions: int = 2, form: str = "avro", **delivery: object) -> Settings:
    """A connector whose files are all in `directory`, pushing to `url`."""
    return Settings.model_validate(
        {
            "name": "demo",
            "source": {"dsn": ""},
            "log": {"embedded": {"path": directory / "log.sqlite"}, "partitions": partitions, "format": form},
            "emc": {"url": url},
            "delivery": {
                "state": directory / "state",
                "retry": {"initial": 0.02, "maximum": 0.1},
                "deadline": 10,
                **delivery,
            },
        }
    )


def kafka_settings_in(directory: Path, url: str, brokers: str, partitions: int = 2, **delivery: object) -> Settings:
    """The same with a new log in Kafka; its name is no other test's."""
    settings = settings_in(directory, url, partitions, **delivery)
    kafka = KafkaSettings(brokers=brokers, replication_factor=1, min_insync_replicas=1)
    name = f"e-{os.getpid()}-{next(_numbers)}"
    return settings.model_copy(update={"name": name, "log": LogSettings(kafka=kafka, partitions=partitions)})

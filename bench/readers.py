"""The three readers that drain the same backlog, each a process of its own, with its own slot made before the work.

- `pg_recvlogical` to a file: PostgreSQL's own client; it does nothing with the bytes, so it shows the limit.
- Debezium in Kafka Connect standalone, at its defaults, JSON without schemas.
- `emc-cdc capture` with a configuration file that maps every column of both tables.

Each starts at `Bench.database` and writes to `Bench.broker`; what they wrote is counted by `bench.counting`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the way mypy asks for
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from bench.sampling import Watched
from bench.workload import CONNECTOR, PUBLICATION, TABLES
from connector.demo.postgres import PostgresServer
from tests.plugins.kafka import KafkaBroker

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
STOP_SECONDS = 60.0

OUR_NAME = "bench"
OUR_TOPIC = f"{OUR_NAME}.changes"
DEBEZIUM_TOPICS = tuple(f"debezium.{table}" for table in TABLES)

OUR_SLOT = "bench_ours"
DEBEZIUM_SLOT = "bench_debezium"
RECVLOGICAL_SLOT = "bench_recvlogical"

# What Kafka's own start scripts give to Connect and to the broker.
_G1 = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
CONNECT_JAVA = ("-Xms256M", "-Xmx2G", *_G1)
BROKER_JAVA = ("-Xms1G", "-Xmx1G", *_G1)

_WORKER = {
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "false",
    "plugin.discovery": "service_load",
    "listeners": "http://127.0.0.1:0",
}
_DEBEZIUM = {
    "name": "debezium",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "topic.prefix": "debezium",
    "plugin.name": "pgoutput",
    "slot.name": DEBEZIUM_SLOT,
    "publication.name": PUBLICATION,
    "publication.autocreate.mode": "disabled",
    "table.include.list": ",".join(TABLES),
    "snapshot.mode": "never",
}
_LOG4J = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
"""

# Every column of both tables is named, so that capture has to carry all that Debezium carries.
_CONFIGURATION = """\
name: {name}
source:
  dsn: {dsn}
  slot: {slot}
  publication: {publication}
  data: {data}
log:
  kafka: {{brokers: "{brokers}", replication_factor: 1, min_insync_replicas: 1}}
  partitions: {partitions}
console: null
mapping:
  dossier: {{table: mot_cua.ho_so}}
  children:
    payments: {{table: mot_cua.thanh_toan, belongs_to: ho_so_id, order_by: id}}
  milestones:
    received: {{ngay_tiep_nhan: {{set: true}}}}
    processing: {{trang_thai: dang_xu_ly}}
    result: {{ngay_tra: {{set: true}}}}
  CodeProfile: ma_ho_so
  SiteId: 327
  CodeTTHC: ma_thu_tuc
  NameTTHC: ten_thu_tuc
  Level: muc_do
  FormsReception: {{of: truc_tuyen, is: {{true: online, false: in_person}}}}
  Result: desk
  FormsPayments:
    of:
      last: payments
      where: {{trang_thai: da_thanh_toan, so_tien: {{set: true}}, thoi_diem: {{set: true}}}}
      column: hinh_thuc
    is: {{dvcqg: online}}
  IsFromDVCQG: tu_dvcqg
  User:
    type: citizen
    account: {{template: "{{tai_khoan_id}}"}}
    location: don_vi
  Data: {{template: "{{can_bo_id}} {{ngay_nop}} {{ngay_hen_tra}} {{le_phi}} {{ghi_chu}}"}}
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers of one run, and the directory of everything that is written to files."""

    postgres: PostgresServer
    admin: psycopg.Connection
    broker: KafkaBroker
    kafka: AdminClient
    directory: Path

    @property
    def database(self) -> str:
        return self.postgres.dsn(CONNECTOR)

    def confirmed(self, slot: str) -> int:
        """The position up to which a slot's reader has everything; 0 when there is no such slot."""
        return self._of_slot("coalesce(confirmed_flush_lsn - '0/0', 0)::bigint", slot)

    def streaming(self, slot: str) -> bool:
        """Whether a reader streams from the slot; one that only makes the slot does not."""
        return bool(self._of_slot("(state IN ('catchup', 'streaming'))::int", slot))

    def _of_slot(self, what: str, slot: str) -> int:
        question = f"""SELECT {what} FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid
                        WHERE slot_name = %s"""
        row = self.admin.execute(question.encode(), (slot,)).fetchone()
        return int(row[0] or 0) if row is not None else 0

    def readable(self, topics: Sequence[str]) -> int:
        """The sum of the offsets up to which a consumer that reads committed records can read."""
        return self._ends(topics, IsolationLevel.READ_COMMITTED)

    def written(self, topics: Sequence[str]) -> int:
        """The sum of the ends, with what is not committed."""
        return self._ends(topics, IsolationLevel.READ_UNCOMMITTED)

    def _ends(self, topics: Sequence[str], isolation: IsolationLevel) -> int:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        answers = self.kafka.list_offsets(dict.fromkeys(places, latest), isolation_level=isolation)
        return sum(answer.result().offset for answer in answers.values())


def make_slots(bench: Bench) -> None:
    """The slots of the two peers. Ours makes its own: run `ours` once before the work."""
    for slot in (DEBEZIUM_SLOT, RECVLOGICAL_SLOT):
        bench.admin.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


@contextmanager
def recvlogical(bench: Bench, target: int) -> Iterator[Watched]:
    """PostgreSQL's client, writing to a file."""
    file = bench.directory / "recvlogical.out"
    command = [str(bench.postgres.bin_dir / "pg_recvlogical"), "--dbname", bench.database, "--slot", RECVLOGICAL_SLOT]
    options = ["proto_version=1", f"publication_names={PUBLICATION}"]
    command += ["--start", "--file", str(file), "--status-interval=1", "--fsync-interval=1"]
    command += [word for option in options for word in ("--option", option)]
    with _running(command, bench.directory / "recvlogical.log") as (process, output):
        yield Watched(
            process,
            output,
            attached=lambda: bench.streaming(RECVLOGICAL_SLOT),
            progress=lambda: file.stat().st_size if file.exists() else 0,
            finished=lambda: bench.confirmed(RECVLOGICAL_SLOT) >= target,
        )


@contextmanager
def debezium(bench: Bench, changes: int) -> Iterator[Watched]:
    """Debezium in Kafka Connect standalone. Its offsets are flushed once a minute, so records are counted instead."""
    directory = bench.directory / "connect"
    directory.mkdir()
    for future in bench.kafka.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in DEBEZIUM_TOPICS]).values():
        future.result()
    worker = {"bootstrap.servers": bench.broker.bootstrap, "offset.storage.file.filename": str(directory / "offsets")}
    database = psycopg.conninfo.conninfo_to_dict(bench.database)
    connector = {
        "database.hostname": str(database["host"]),
        "database.port": str(database["port"]),
        "database.user": str(database["user"]),
        "database.dbname": str(database["dbname"]),
        # Debezium asks for one; the server trusts whoever reaches it.
        "database.password": "none",
    }
    _properties(directory / "worker.properties", _WORKER | worker)
    _properties(directory / "connector.properties", _DEBEZIUM | connector)
    (directory / "log4j.properties").write_text(_LOG4J, encoding="utf-8")
    command = ["java", *CONNECT_JAVA, f"-Dlog4j.configuration=file:{directory}/log4j.properties"]
    command += ["-cp", f"{ROOT}/.cache/connect/libs/*", "org.apache.kafka.connect.cli.ConnectStandalone"]
    command += [str(directory / "worker.properties"), str(directory / "connector.properties")]
    with _running(command, bench.directory / "connect.log") as (process, output):
        yield Watched(
            process,
            output,
            attached=lambda: bench.streaming(DEBEZIUM_SLOT),
            progress=lambda: bench.readable(DEBEZIUM_TOPICS),
            finished=lambda: bench.readable(DEBEZIUM_TOPICS) >= changes,
        )


@contextmanager
def ours(bench: Bench, target: int) -> Iterator[Watched]:
    """`emc-cdc capture`. The first run makes slot and topic, and snapshots the empty tables."""
    configuration = bench.directory / "emc-cdc.yml"
    values = {
        "name": OUR_NAME,
        "dsn": bench.database,
        "slot": OUR_SLOT,
        "publication": PUBLICATION,
        "data": bench.directory / "capture",
        "brokers": bench.broker.bootstrap,
        "partitions": PARTITIONS,
    }
    configuration.write_text(_CONFIGURATION.format(**values), encoding="utf-8")
    command = [sys.executable, "-m", "connector.cli", "capture", "--config", str(configuration)]

    def finished() -> bool:
        if bench.confirmed(OUR_SLOT) < target:
            return False
        return bench.readable([OUR_TOPIC]) == bench.written([OUR_TOPIC])

    with _running(command, bench.directory / "emc-cdc.log") as (process, output):
        yield Watched(
            process,
            output,
            attached=lambda: bench.streaming(OUR_SLOT),
            progress=lambda: bench.readable([OUR_TOPIC]),
            finished=finished,
        )


@contextmanager
def _running(command: Sequence[str], output: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A child process, ended in order afterwards, or by force when it does not obey."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=output.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    try:
        yield process, output
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _properties(file: Path, values: Mapping[str, str]) -> None:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")


def java_version() -> str:
    """The Java that Connect runs on. FileNotFoundError says what to install."""
    if shutil.which("java") is None or not any(
        (ROOT / ".cache/connect/libs").glob("debezium-connector-postgres-*.jar")
    ):
        raise FileNotFoundError("Kafka Connect with Debezium is not there: run tests/install")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return said.splitlines()[0]

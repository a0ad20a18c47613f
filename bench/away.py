"""What capture holds in memory while the broker is away: until its bound is reached, and for ten times as many changes.

Contract: one PostgreSQL 15, one Kafka 3.9.1 broker, capture at its defaults as a process of its own, but that session
and append last, where they else would end after 10 s and let go of what they hold. The broker stands still (SIGSTOP)
from before the first change on. Resident memory is sampled from /proc.
Exit code 1 when the goal is missed, or when a change is missing in the end.

    python -m bench.away
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.drain import _machine as machine
from bench.drain import _show as show
from bench.drain import _tell as tell
from bench.guest import Host
from bench.readers import BROKER_JAVA
from bench.results import store
from bench.sampling import BenchFailed
from connector.demo.postgres import PostgresServer, debian_bin_dir
from connector.log.opening import open_reader
from connector.settings import LogSettings, Settings
from tests.plugins.kafka import BrokerFailed, KafkaBroker

MEMORY = LogSettings().memory
CHANGES = 100_000
"""Of one round: as many as the bound has room for, and some."""
ROUNDS = 10
FLAT = 1.05
"""How much more memory may be held for ten times as many changes."""
PATIENCE = 300.0
SAMPLE = 0.1


class Watch:
    """A capture process: what it said last, and its resident memory."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.streaming = False
        self.waiting = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "streaming\n":
                self.streaming = True
            else:
                self.waiting = int(line)

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """Wait for it; the most MiB that were resident meanwhile."""
        deadline = time.monotonic() + PATIENCE
        most = self._resident()
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"waited for nothing: {what}")
            time.sleep(SAMPLE)
            most = max(most, self._resident())
        return most

    def _resident(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def _change(host: Host) -> None:
    """One round of changes, in transactions of 1,000."""
    with psycopg.connect(host.server.dsn(), autocommit=True) as admin:
        for first in range(1, CHANGES, 1000):
            admin.execute(
                "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid BETWEEN %s AND %s", (first, first + 999)
            )


def _records(settings: Settings) -> int:
    reader = open_reader(settings)
    try:
        count, ends = 0, reader.ends()
        reader.assign(dict.fromkeys(range(reader.partitions), 0))
        while any(at < ends[partition] for partition, at in reader.positions().items()):
            count += len(reader.poll(1.0, 10_000))
        return count
    finally:
        reader.close()


def _confirmed(host: Host) -> bool:
    row = host.admin.execute(
        "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'emc_cdc_guest'",
        (_end(host),),
    ).fetchone()
    return row == (True,)


def _end(host: Host) -> str:
    row = host.admin.execute("SELECT max(lsn)::text FROM bench_end").fetchone()
    assert row is not None
    return str(row[0])


def _run(directory: Path) -> tuple[float, float, float]:
    """MiB resident before the first change, at the bound, and over ten times as many changes."""
    with (
        PostgresServer(debian_bin_dir(15), directory / "postgres", {"max_wal_size": "4GB"}) as server,
        KafkaBroker(directory / "kafka", java=BROKER_JAVA) as broker,
    ):
        host = Host(server, directory)
        written: dict[str, Any] = {
            "name": "guest",
            "source": {"dsn": server.dsn("emc_cdc"), "data": str(directory / "capture"), "stall_timeout": 3600},
            "log": {"kafka": {"brokers": broker.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}},
        }
        settings = Settings.model_validate(written)
        with _capturing(written) as watch:  # what the first read needs is none of what is measured
            watch.until(lambda: watch.streaming, "the stream begins")
        with _capturing(written) as watch:
            try:
                return _phases(host, watch, broker, settings)
            finally:
                broker.resume()


@contextmanager
def _capturing(written: dict[str, Any]) -> Iterator[Watch]:
    """Capture inside the block; it is killed at its end."""
    program = Path(__file__).with_name("away_capture.py")
    command = [sys.executable, str(program), json.dumps(written)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Watch(process)
        finally:
            process.kill()


def _phases(host: Host, watch: Watch, broker: KafkaBroker, settings: Settings) -> tuple[float, float, float]:
    watch.until(lambda: watch.streaming, "the stream begins")
    read = _records(settings)
    _mark(host)
    idle = watch.until(lambda: _confirmed(host), "the tables are in Kafka")
    tell(f"memory without a change: {idle:.1f} MiB")
    broker.pause()
    _change(host)
    bound = watch.until(lambda: watch.waiting >= MEMORY, "the bound is reached")
    tell(f"memory at the bound of {MEMORY >> 20} MiB: {bound:.1f} MiB")
    most = 0.0
    for _ in range(ROUNDS):
        worker = threading.Thread(target=_change, args=(host,))
        worker.start()
        most = max(most, watch.until(lambda worker=worker: not worker.is_alive(), "the changes are made"))  # type: ignore[misc]
    tell(f"memory over {ROUNDS} times as many changes: {most:.1f} MiB")
    broker.resume()
    _mark(host)
    watch.until(lambda: _confirmed(host), "everything is in Kafka")
    missing = (1 + ROUNDS) * CHANGES + read - _records(settings)
    if missing:
        raise BenchFailed(f"{missing} changes are not in Kafka, or twice")
    return idle, bound, most


def _mark(host: Host) -> None:
    """Remember where WAL ends now."""
    host.admin.execute("CREATE TABLE IF NOT EXISTS bench_end (lsn pg_lsn)")
    host.admin.execute("INSERT INTO bench_end SELECT pg_current_wal_lsn()")


def main() -> int:
    """Run it; 0 when the goal was reached."""
    where = {**machine(), "rounds": 1, "log.memory": f"{MEMORY >> 20} MiB"}
    try:
        with tempfile.TemporaryDirectory(prefix="emc-cdc-away-") as name:
            idle, bound, most = _run(Path(name))
    except (BenchFailed, BrokerFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    lines = [
        {
            "name": f"memory with the broker away, {ROUNDS} times the changes that reach the bound",
            "value": round(most, 1),
            "unit": "MiB",
            "peer": "at the bound",
            "peer_value": round(bound, 1),
            "ratio": round(bound / most, 3),
            "goal": f"<= {FLAT:g} x at the bound",
            "machine": where,
            "idle": round(idle, 1),
        }
    ]
    store("away", lines)
    show(lines)
    return 0 if most <= FLAT * bound else 1


if __name__ == "__main__":
    sys.exit(main())

"""Draining a backlog of changes into Kafka: `emc-cdc capture`, Debezium, and pg_recvlogical as the limit.

Contract: rounds with a PostgreSQL 15, a Kafka 3.9.1 broker and a work each; every reader has a slot from before the
work and drains the same backlog, one after the other, ours and Debezium taking turns in going first. The figures are
the medians over the rounds, as a shared machine's cores are not equally fast at all times. Every record that was
written is read back and counted. Nothing is written to
`results.json` unless all of it went well; exit code 1 then says what did not.

    python -m bench.drain      (BENCH_CHANGES changes, 500000 unless set; a multiple of 5)
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient

from bench import readers
from bench.counting import debezium_changes, our_changes
from bench.readers import Bench
from bench.results import store
from bench.sampling import BenchFailed, Drain, Watched, wait_until_attached, watch
from bench.workload import Seen, Work, prepare, write
from connector.configuration import load
from connector.demo.postgres import PostgresServer, debian_bin_dir
from connector.errors import ConnectorError
from tests.plugins.kafka import BrokerFailed, KafkaBroker

ATTACH_SECONDS = 60.0
# Far slower than anything measured; a reader that takes longer is stuck.
SLOWEST_RATE = 1000
START_SECONDS = 120.0

DEBEZIUM = "Debezium 3.0.8, Kafka Connect 3.9.1 standalone, JSON without schemas"
LIMIT = "pg_recvlogical to a file"
ROUNDS = 3
GOAL = 2.0
"""How many times Debezium's rate capture has to reach."""


def main() -> int:
    """Run it all; 0 when every reader did its work and ours reached the goal."""
    try:
        results = _run(_work())
    except (BenchFailed, BrokerFailed, ConnectorError, FileNotFoundError) as error:
        mend = f"\n→ {error.mend}" if isinstance(error, ConnectorError) else ""
        print(f"bench: {error}{mend}", file=sys.stderr)
        return 1
    store("drain", results)
    _show(results)
    return 0 if results[0]["ratio"] >= GOAL else 1


def _work() -> Work:
    wanted = os.environ.get("BENCH_CHANGES") or "500000"
    try:
        return Work(int(wanted))
    except ValueError:
        raise BenchFailed(f"BENCH_CHANGES is a multiple of 5, not {wanted!r}") from None


def _run(work: Work) -> list[dict[str, Any]]:
    machine = _machine()
    rounds = [_round(work, number) for number in range(1, ROUNDS + 1)]
    limit, theirs, ours = (_Figures.of(drains) for drains in zip(*rounds, strict=True))
    return _results(f"backlog of {work.changes} changes", ours, theirs, limit, machine)


@dataclass(frozen=True, slots=True)
class _Figures:
    """A reader's medians over the rounds: changes/s, microseconds, bytes."""

    rate: float
    cpu_per_change: float
    peak_bytes: float

    @classmethod
    def of(cls, drains: Sequence[Drain]) -> _Figures:
        return cls(
            median(drain.rate for drain in drains),
            median(drain.cpu_per_change for drain in drains),
            median(drain.peak_bytes for drain in drains),
        )


def _round(work: Work, number: int) -> tuple[Drain, Drain, Drain]:
    """The limit's, Debezium's and our drain of one backlog."""
    _tell(f"round {number} of {ROUNDS}")
    with _servers() as bench:
        _tell(f"writing {work.changes:,} changes")
        prepare(bench.admin)
        _attach_ours(bench)
        readers.make_slots(bench)
        target = write(bench.admin, work)
        timeout = START_SECONDS + work.changes / SLOWEST_RATE

        def drain(name: str, start: AbstractContextManager[Watched], count: Callable[[], Seen] | None) -> Drain:
            _tell(f"{name} drains")
            with start as reader:
                drained = watch(reader, work.changes, timeout)
            _tell(f"{name}: {drained.rate:,.0f} changes/s")
            if count is not None and (seen := count()) != work.expected:
                raise BenchFailed(f"{name} wrote {dict(seen)} instead of {dict(work.expected)}")
            return drained

        brokers, partitions = bench.broker.bootstrap, readers.PARTITIONS
        limit = drain(LIMIT, readers.recvlogical(bench, target), None)

        def theirs() -> Drain:
            return drain(
                "Debezium",
                readers.debezium(bench, work.changes),
                lambda: debezium_changes(brokers, readers.DEBEZIUM_TOPICS, partitions),
            )

        def ours() -> Drain:
            settings = load(bench.directory / "emc-cdc.yml").settings
            return drain(
                "emc-cdc capture",
                readers.ours(bench, target),
                lambda: our_changes(settings, brokers, readers.OUR_TOPIC, partitions),
            )

        if number % 2:
            debezium = theirs()
            return limit, debezium, ours()
        own = ours()
        return limit, theirs(), own


def _attach_ours(bench: Bench) -> None:
    """Let our capture make its slot and topic on the empty tables, and stop it in order."""
    # Its snapshot is in the log before it streams, so there is nothing else to wait for.
    with readers.ours(bench, 0) as reader:
        wait_until_attached(reader, time.monotonic() + ATTACH_SECONDS)


@contextmanager
def _servers() -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="emc-cdc-bench-"))
    try:
        postgres = PostgresServer(
            debian_bin_dir(15), directory / "postgres", {"shared_buffers": "256MB", "max_wal_size": "8GB"}
        )
        with postgres, KafkaBroker(directory / "kafka", java=readers.BROKER_JAVA) as broker:
            admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
            with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
                yield Bench(postgres, connection, broker, admin, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _results(
    work: str, ours: _Figures, theirs: _Figures, limit: _Figures, machine: dict[str, Any]
) -> list[dict[str, Any]]:
    def line(
        name: str, unit: str, peer: str, value: float, peer_value: float, ratio: float, goal: str | None
    ) -> dict[str, Any]:
        return {
            "name": name,
            "value": round(value, 1),
            "unit": unit,
            "peer": peer,
            "peer_value": round(peer_value, 1),
            "ratio": round(ratio, 2),
            "goal": goal,
            "machine": machine,
        }

    mebibyte = 1024 * 1024
    lines = []
    for peer, other, goal in ((DEBEZIUM, theirs, f"ratio >= {GOAL:g}"), (LIMIT, limit, None)):
        lines += [
            line(f"rate, {work}", "changes/s", peer, ours.rate, other.rate, ours.rate / other.rate, goal),
            line(
                f"CPU per change, {work}",
                "us",
                peer,
                ours.cpu_per_change,
                other.cpu_per_change,
                other.cpu_per_change / ours.cpu_per_change,
                None,
            ),
            line(
                f"peak memory, {work}",
                "MiB",
                peer,
                ours.peak_bytes / mebibyte,
                other.peak_bytes / mebibyte,
                other.peak_bytes / ours.peak_bytes,
                None,
            ),
        ]
    return lines


def _machine() -> dict[str, Any]:
    processor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in processor.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    postgres = subprocess.run(
        [debian_bin_dir(15) / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gib": round(memory / 1024**3, 1),
        "python": platform.python_version(),
        "java": readers.java_version(),
        "postgres": postgres.stdout.split()[2],
        "kafka": "3.9.1, one broker",
        "rounds": ROUNDS,
        # Others at work here make every figure worse.
        "load_before": round(os.getloadavg()[0], 2),
    }


def _show(results: list[dict[str, Any]]) -> None:
    for line in results:
        print(
            f"{line['name']:<40} {line['value']:>10,.1f} {line['unit']:<9} "
            f"{line['peer_value']:>10,.1f} ({line['peer']})  x{line['ratio']:g}"
            + (f"  goal: {line['goal']}" if line["goal"] else "")
        )


def _tell(text: str) -> None:
    print(f"bench: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

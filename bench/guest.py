"""What the guest costs its host: pgbench with us attached, WAL kept for us while we idle, a stop with a dead log.

Contract: every figure and its peer come from one run on one PostgreSQL 15 each, side by side, with capture into the
embedded log as a process of its own. Rounds take turns in their order and the figures are medians. Bounded: seconds per
phase are GUEST_SECONDS (15 unless set), so all of it takes about five minutes. Exit code 1 when a goal is missed.

    python -m bench.guest
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from bench.drain import _machine as machine
from bench.drain import _show as show
from bench.drain import _tell as tell
from bench.results import store
from bench.sampling import BenchFailed
from connector.demo.postgres import PostgresServer, debian_bin_dir

SECONDS = int(os.environ.get("GUEST_SECONDS") or "15")
ROUNDS = 3
CLIENTS = 4
SCALE = 5
STOP_GOAL = 15.0
"""Seconds that a stop may take longer because of us."""
IDLE_SECONDS = max(60, 4 * SECONDS)
"""PostgreSQL lets a slot's WAL go at its records of running transactions, one in 15 s; so this has several of them."""
FLAT = 1.25
"""How much more WAL may be kept for us in the second half of the idle phase than in the first."""
PROGRAMS = debian_bin_dir(15)
_RETAINED = """SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
  FROM pg_replication_slots WHERE slot_name = %s"""


class Host:
    """A server with pgbench's tables, a publication of its accounts, and the connector's role."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.admin = psycopg.connect(server.dsn(), autocommit=True)
        self.pgbench("postgres", "-i", "-q", "-s", str(SCALE))
        for statement in (
            "CREATE ROLE emc_cdc LOGIN REPLICATION",
            "GRANT SELECT ON pgbench_accounts TO emc_cdc",
            "CREATE PUBLICATION emc_cdc_guest FOR TABLE pgbench_accounts",
            "SELECT pg_create_logical_replication_slot('limit_slot', 'pgoutput')",
        ):
            self.admin.execute(statement.encode())

    def pgbench(self, database: str, *options: str) -> str:
        """Run pgbench; what it printed."""
        command = [str(PROGRAMS / "pgbench"), "-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres"]
        done = subprocess.run([*command, *options, database], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchFailed(f"pgbench: {done.stderr.strip()[-500:]}")
        return done.stdout

    def tps(self) -> float:
        """Transactions a second of one phase."""
        found = re.search(r"tps = ([0-9.]+)", self.pgbench("postgres", "-n", "-c", str(CLIENTS), "-T", str(SECONDS)))
        if found is None:
            raise BenchFailed("pgbench told no rate")
        return float(found[1])

    @contextmanager
    def us(self, *how: str) -> Iterator[None]:
        """Capture streams inside the block, and is killed at its end."""
        settings = {
            "name": "guest",
            "source": {"dsn": self.server.dsn("emc_cdc"), "data": str(self.directory / "capture")},
            "log": {"embedded": {"path": str(self.directory / "log.sqlite")}},
        }
        program = Path(__file__).with_name("guest_capture.py")
        with subprocess.Popen(
            [sys.executable, str(program), json.dumps(settings), *how], stdout=subprocess.PIPE, text=True
        ) as process:
            deadline = threading.Timer(300, process.kill)
            deadline.start()
            try:
                assert process.stdout is not None
                if "streaming\n" not in iter(process.stdout.readline, ""):
                    raise BenchFailed("capture ended before it streamed")
                yield
            finally:
                deadline.cancel()
                process.kill()

    @contextmanager
    def limit(self) -> Iterator[None]:
        """pg_recvlogical reads the same publication into a file."""
        command = [str(PROGRAMS / "pg_recvlogical"), "-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres"]
        command += ["-d", "postgres", "--start", "-S", "limit_slot", "-f", str(self.directory / "limit.out")]
        command += ["-o", "proto_version=1", "-o", "publication_names=emc_cdc_guest"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)

    def retained(self, slot: str) -> int:
        """Bytes of WAL that the slot keeps."""
        row = self.admin.execute(_RETAINED.encode(), (slot,)).fetchone()
        return int(row[0]) if row is not None else 0


@contextmanager
def _host() -> Iterator[Host]:
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
    with (
        tempfile.TemporaryDirectory(prefix="emc-cdc-guest-") as name,
        PostgresServer(PROGRAMS, Path(name) / "postgres", settings) as server,
    ):
        host = Host(server, Path(name))
        yield host
        host.admin.close()


def _rates() -> dict[str, float]:
    """pgbench's rate alone, with pg_recvlogical, with us."""
    found: dict[str, list[float]] = {"without": [], "limit": [], "us": []}
    with _host() as host:
        with host.us():
            pass  # the slot and the first snapshot are made before anything is measured
        kinds: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
            ("without", nullcontext),
            ("limit", host.limit),
            ("us", host.us),
        ]
        for number in range(ROUNDS):
            for name, attached in kinds[number:] + kinds[:number]:
                with attached():
                    found[name].append(host.tps())
                tell(f"pgbench, {name}: {found[name][-1]:,.0f} transactions/s")
    return {name: median(rates) for name, rates in found.items()}


def _idle() -> tuple[float, float, list[float]]:
    """MiB kept for us at most, and for a slot that nobody reads, while neighbours write; ours over time."""
    with _host() as host:
        host.admin.execute("CREATE TABLE neighbour (id bigint GENERATED ALWAYS AS IDENTITY, line text)")
        host.admin.execute("CREATE DATABASE neighbour")
        with psycopg.connect(host.server.dsn(dbname="neighbour"), autocommit=True) as other, host.us():
            other.execute("CREATE TABLE busy (line text)")
            kept = []
            end = time.monotonic() + IDLE_SECONDS
            while time.monotonic() < end:
                host.admin.execute("INSERT INTO neighbour (line) SELECT repeat('x', 200) FROM generate_series(1, 5000)")
                other.execute("INSERT INTO busy SELECT repeat('x', 200) FROM generate_series(1, 5000)")
                time.sleep(0.25)  # a bounded rate, so that the figure tells of time and not of the disk
                kept.append(host.retained("emc_cdc_guest") / 2**20)
            return max(kept), host.retained("limit_slot") / 2**20, kept


def _stop() -> tuple[float, float]:
    """Seconds of a fast stop with us and a dead log, and without us."""
    with _host() as host:
        with host.us():
            pass
        with host.us("dead"):
            host.pgbench("postgres", "-n", "-c", str(CLIENTS), "-t", "500")
            host.admin.close()
            with_us = _stopping(host.server)
        host.server.start()
        with psycopg.connect(host.server.dsn(), autocommit=True) as admin:
            host.pgbench("postgres", "-n", "-c", str(CLIENTS), "-t", "500")
            admin.execute("SELECT pg_switch_wal()")
        without = _stopping(host.server)
    return with_us, without


def _stopping(server: PostgresServer) -> float:
    began = time.monotonic()
    server.stop("fast")
    return time.monotonic() - began


def main() -> int:
    """Run it all; 0 when every goal was reached."""
    where = {**machine(), "pgbench": f"scale {SCALE}, {CLIENTS} clients, {SECONDS} s"}
    try:
        rates, (kept, unread, course), (with_us, without) = _rates(), _idle(), _stop()
    except BenchFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1

    def line(name: str, unit: str, peer: str, value: float, other: float, ratio: float, goal: str | None) -> Any:
        return {
            "name": name,
            "value": round(value, 1),
            "unit": unit,
            "peer": peer,
            "peer_value": round(other, 1),
            "ratio": round(ratio, 3),
            "goal": goal,
            "machine": where,
        }

    name, unit = "pgbench with us attached", "tps"
    half = len(course) // 2
    growth = max(course[half:]) / max(*course[:half], 1.0)
    lines = [
        line(name, unit, "pgbench alone", rates["us"], rates["without"], rates["us"] / rates["without"], None),
        line(name, unit, "with pg_recvlogical", rates["us"], rates["limit"], rates["us"] / rates["limit"], None),
        line(
            "WAL kept at most while we idle",
            "MiB",
            "a slot that nobody reads",
            kept,
            unread,
            unread / max(kept, 0.1),
            f"second half <= {FLAT:g} x first",
        )
        | {"growth": round(growth, 2), "course": [round(value, 1) for value in course[:: max(1, len(course) // 20)]]},
        line(
            "fast stop with a dead log",
            "s",
            "without us",
            with_us,
            without,
            without / with_us,
            f"<= {STOP_GOAL:g} s more",
        ),
    ]
    store("guest", lines)
    show(lines)
    return 0 if growth <= FLAT and with_us - without <= STOP_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())

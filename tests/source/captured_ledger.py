"""A database under the ledger's load, `emc-cdc capture` as processes that write it to Kafka, and the verdict.

Nothing is proven here: `verdict` waits until the slot has confirmed all that there is, and asks the independent
checker (`ledger_check`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from attached_source import PARTITIONS, Attached, until
from faulty_capture import HALFWAY
from ledger_check import Verdict, check, read_ledger, read_tables, read_topic
from ledger_load import MAPPING, TABLES, Load
from plugins.postgres import Database

from connector.mapping.compile import compile_text

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0
_names = count(1)


class CaptureProcess:
    """`emc-cdc capture`; what it says goes to a file."""

    def __init__(self, config: Path, fault: str) -> None:
        self._said = config.with_suffix(".log")
        self._begins_at = self._said.stat().st_size if self._said.exists() else 0
        command = ["-m", "connector.cli", "capture", "--config", str(config)]
        if fault:
            command = [str(Path(__file__).with_name("faulty_capture.py")), fault, str(config)]
        with self._said.open("a", encoding="utf-8") as lines:
            self.process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=lines, stderr=lines)

    @property
    def text(self) -> str:
        """What this process has said."""
        return self._said.read_bytes()[self._begins_at :].decode()

    def until_said(self, words: str, times: int = 1) -> None:
        """Wait until it has said the words so often."""
        deadline = time.monotonic() + PATIENCE
        while self.text.count(words) < times:
            assert self.process.poll() is None, f"it ended before it said {words!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"it does not say {words!r}:\n{self.text}"
            time.sleep(0.02)

    def until_stopped(self) -> None:
        """Wait until the kernel has stopped it."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "T", "it stands still")

    def until_halfway(self) -> None:
        """Wait until it is in the middle of an append."""
        self.until_said(HALFWAY)

    def ended(self) -> int:
        """Its exit code, when it ends by itself."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """As the kernel kills it."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> None:
        """As an operator ends it."""
        self.process.terminate()
        assert self.ended() == 0, self.text

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Ledgered:
    """See the module's docstring. `log`: the settings of Kafka beside its brokers."""

    def __init__(self, database: Database, directory: Path, brokers: str, **log: Any) -> None:
        self._running: list[CaptureProcess] = []
        self.directory = directory
        self.brokers = brokers
        self.attached = Attached(database, directory, TABLES)
        self.attached.selection = compile_text(MAPPING, "mapping.yml").selection
        self.attached.name = f"ledger-{os.getpid()}-{next(_names)}"
        kafka = {"brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1} | log
        self.attached.log = {"kafka": kafka}
        self.attached.settings = self.attached.settings_with()
        self.attached.set_up()
        self.name = self.attached.name
        self.owner = database.dsn("owner")

    @property
    def topic(self) -> str:
        return f"{self.name}.changes"

    @contextmanager
    def capture(self, data: str = "capture", fault: str = "", **source: Any) -> Iterator[CaptureProcess]:
        """The command, killed at the end of the block. data: its own directory; fault: see `faulty_capture`."""
        config = self.directory / f"{data}{fault}.yml"
        written = self.attached.written(data=str(self.directory / data), **source) | {"console": None}
        config.write_text(yaml.safe_dump(written, allow_unicode=True) + MAPPING, encoding="utf-8")
        running = CaptureProcess(config, fault)
        self._running.append(running)
        try:
            yield running
        finally:
            self._running.remove(running)
            running.kill()

    def attach(self) -> None:
        """Have the tables read, in order."""
        with self.capture() as capture:
            until(lambda: capture.process.poll() is not None or self.attached.read(), "the tables are read")
            capture.end()

    def load(self, **how: Any) -> Load:
        return Load(self.owner, **how)

    def caught_up(self) -> None:
        """Wait until everything that there is now is confirmed."""
        end = self.attached.ask("SELECT pg_current_wal_lsn()::text")[0][0]
        deadline = time.monotonic() + PATIENCE
        while not self.attached.slot(f"confirmed_flush_lsn >= '{end}'"):
            alive = [running for running in self._running if running.process.poll() is None]
            assert alive, "\n".join(running.text for running in self._running)
            assert time.monotonic() < deadline, "the slot moves on"
            time.sleep(0.05)

    def verdict(self) -> Verdict:
        """What the independent checker says, once everything is in the log."""
        self.caught_up()
        return check(read_topic(self.brokers, self.name), read_ledger(self.owner), read_tables(self.owner), PARTITIONS)

    def close(self) -> None:
        self.attached.close()

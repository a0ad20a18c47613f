"""The demo's stage: a private PostgreSQL, the legacy application, a simulated EMC and the pipeline, each a process.

Contract: everything lives in one temporary directory and ends with the `with` block; processes are ended by their own
pid. The legacy application is prepared before the connector knows of it; the tables' owner runs the SQL that
`emc-cdc setup` prints, and the connector works with LOGIN, REPLICATION and SELECT on mapped columns only.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import yaml

from connector.demo.postgres import PostgresServer, wheel_bin_dir
from connector.errors import ConnectorError

DATABASE = "mot_cua"
OWNER = "chu_quan"
RUNTIME = "emc_cdc"
NAME = "mot-cua"
SITE_ID = 327
_POSTGRES = 18
_PATIENCE = 60.0


class Stage:
    """See the module's contract. `kafka`: bootstrap servers of a real Kafka, None for the embedded log."""

    def __init__(self, kafka: str | None, seed: int, old_dossiers: int) -> None:
        self.kafka = kafka
        self.seed = seed
        self.old_dossiers = old_dossiers
        self.directory = Path(tempfile.mkdtemp(prefix="emc-cdc-demo-"))
        self.directory.chmod(0o755)
        self.server = PostgresServer(wheel_bin_dir(_POSTGRES), self.directory / "postgres")
        self.name = NAME if kafka is None else f"{NAME}-{int(time.time())}"
        self.emc_url = ""
        self.console_url = ""
        self._console_port = _free_port()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._seen: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes.values()):
            _end(process)
        self.server.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- setting the stage -------------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """The connector's configuration file."""
        return self.directory / "emc-cdc.yml"

    @property
    def dsn(self) -> str:
        """The database as its superuser, for the oracle only."""
        return self.server.dsn("postgres", DATABASE)

    @property
    def postgres_version(self) -> str:
        """The server's version, as it says itself."""
        with psycopg.connect(self.dsn) as connection:
            return str(connection.execute("SHOW server_version").fetchall()[0][0])

    def start_postgres(self) -> None:
        """A server, a database of the owner's, the runtime role."""
        self.server.init()
        self.server.start()
        with psycopg.connect(self.server.dsn("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN")
            connection.execute(f"CREATE ROLE {RUNTIME} LOGIN REPLICATION")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    def prepare_legacy(self) -> None:
        """The legacy application's tables, catalogue and old dossiers."""
        self._run("connector.demo.legacy", "--prepare", "--dsn", self._owner_dsn, "--load", str(self.old_dossiers))

    def start_emc(self) -> None:
        """A simulated EMC."""
        process = self._start("emc", "connector.cli", "simulator", "--listen", "127.0.0.1:0", "--json")
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise self._ended("emc")
        self.emc_url = json.loads(line)["listening"]

    def write_config(self) -> None:
        """What an operator would write."""
        log: dict[str, Any] = {"partitions": 4}
        if self.kafka is None:
            log["embedded"] = {"path": str(self.directory / "log" / "changes.sqlite")}
        else:
            log["kafka"] = {"brokers": self.kafka, "replication_factor": 1, "min_insync_replicas": 1}
        settings = {
            "name": self.name,
            "source": {"dsn": self.server.dsn(RUNTIME, DATABASE), "data": str(self.directory / "capture")},
            "log": log,
            "mapping": {"extends": "preset:one-stop-generic", "SiteId": SITE_ID},
            "emc": {"url": f"{self.emc_url}/TrackingMCDT"},
            "delivery": {
                "state": str(self.directory / "delivery"),
                "deadline": 5.0,
                "retry": {"initial": 0.1, "maximum": 2.0},
            },
            "console": {"listen": f"127.0.0.1:{self._console_port}"},
        }
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")

    def owner_runs_setup(self) -> None:
        """The tables' owner runs what `emc-cdc setup` prints."""
        self._run("connector.cli", "setup", "--config", str(self.config), "--apply", "--owner-dsn", self._owner_dsn)

    # -- the play ----------------------------------------------------------------------------------------------------

    def start_pipeline(self) -> None:
        """Capture and deliver, until the source is connected."""
        log = (self.directory / "pipeline.log").open("a", encoding="utf-8")
        self._start("pipeline", "connector.cli", "run", "--config", str(self.config), errors=log)
        self.console_url = f"http://127.0.0.1:{self._console_port}"
        self.wait(lambda: self.board().get("source", {}).get("state") == "connected", "attach", alive="pipeline")

    def kill_pipeline(self) -> None:
        """kill -9, in the middle of whatever it is doing."""
        process = self._processes.pop("pipeline")
        process.kill()
        process.wait()

    def stop_pipeline(self) -> None:
        """SIGTERM, in order."""
        _end(self._processes.pop("pipeline"))

    def start_legacy(self, dossiers: int | None, rate: float) -> None:
        """The legacy application goes about its work."""
        amount = ["--until-stopped"] if dossiers is None else ["--dossiers", str(dossiers)]
        self._start(
            "legacy",
            "connector.demo.legacy",
            "--dsn",
            self._owner_dsn,
            "--seed",
            str(self.seed),
            "--rate",
            str(rate),
            *amount,
        )

    @property
    def legacy_works(self) -> bool:
        """Whether the legacy application has work left."""
        return self._processes["legacy"].poll() is None

    def require_legacy_success(self) -> None:
        """ConnectorError when the legacy application ended badly: then we have harmed it, or the demo is broken."""
        if self._processes["legacy"].wait() != 0:
            raise self._ended("legacy")

    def set_faults(self, faults: list[dict[str, Any]]) -> None:
        """What EMC does wrong from now on."""
        request = urllib.request.Request(  # noqa: S310 - a URL of our own process
            f"{self.emc_url}/faults", json.dumps(faults).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return

    def received(self) -> list[dict[str, Any]]:
        """Everything that has arrived at EMC, in order."""
        with urllib.request.urlopen(f"{self.emc_url}/received?after={len(self._seen)}", timeout=30) as answer:  # noqa: S310
            self._seen += json.load(answer)
        return self._seen

    def board(self) -> dict[str, Any]:
        """The pipeline's own view of itself, empty while it is away."""
        try:
            with urllib.request.urlopen(f"{self.console_url}/board.json", timeout=5) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return {}

    def wait(self, condition: Callable[[], bool], what: str, patience: float = _PATIENCE, alive: str = "") -> None:
        """Wait until a condition holds. ConnectorError when it does not in time, or when a process has ended."""
        deadline = time.monotonic() + patience
        while not condition():
            if alive and self._processes[alive].poll() is not None:
                raise self._ended(alive)
            if time.monotonic() > deadline:
                raise ConnectorError("run the demo", what, f"it took more than {patience:.0f} s", self._look())
            time.sleep(0.05)

    # -- processes ---------------------------------------------------------------------------------------------------

    @property
    def _owner_dsn(self) -> str:
        return self.server.dsn(OWNER, DATABASE)

    def _start(self, role: str, module: str, *arguments: str, errors: Any = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if role == "emc" else subprocess.DEVNULL,
            stderr=errors if errors is not None else (self.directory / f"{role}.log").open("a", encoding="utf-8"),
            cwd=self.directory,
            text=True,
        )
        self._processes[role] = process
        return process

    def _run(self, module: str, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
        )
        if done.returncode != 0:
            raise ConnectorError("run the demo", module, (done.stderr or done.stdout).strip()[-2000:], self._look())

    def _ended(self, role: str) -> ConnectorError:
        log = self.directory / f"{role}.log"
        text = log.read_text(encoding="utf-8").strip()[-2000:] if log.exists() else ""
        return ConnectorError("run the demo", role, f"the process ended: {text}", self._look())

    def _look(self) -> str:
        return "run it again; if it stays, report what it says here"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

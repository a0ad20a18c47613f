"""A real PgBouncer in front of a test's server, in transaction pooling mode."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from connector.demo.postgres import PostgresServer

PATIENCE = 60.0

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users.txt
pool_mode = transaction
ignore_startup_parameters = {ignored}
"""


def program() -> str:
    """Where Debian's package puts it, which is not on everybody's PATH. The test fails when it is not installed."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail("there is no PgBouncer; install it: tests/install", pytrace=False)
    return found


@contextmanager
def pooling(server: PostgresServer, ignored: str = "") -> Iterator[int]:
    """The port of a PgBouncer that leads to `server`. ignored: startup parameters that it drops instead of refusing."""
    with TemporaryDirectory() as name:
        directory, port = Path(name), _free_port()
        (directory / "users.txt").write_text('"emc_cdc" ""\n"owner" ""\n"postgres" ""\n', encoding="utf-8")
        text = _CONFIGURATION.format(server=server.port, port=port, directory=directory, ignored=ignored)
        (directory / "pgbouncer.ini").write_text(text, encoding="utf-8")
        # It refuses to run as root, as the server does; then both run as the same user.
        account = server.data_dir.stat()
        if os.geteuid() == 0:
            for path in (directory, *directory.iterdir()):
                os.chown(path, account.st_uid, account.st_gid)
            directory.chmod(0o755)
        identity = {"user": account.st_uid, "group": account.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with (directory / "log").open("wb") as log:
            command = [program(), str(directory / "pgbouncer.ini")]
            process = subprocess.Popen(command, stdout=log, stderr=log, **identity)
        try:
            _wait(port, process, directory / "log")
            yield port
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            text = log.read_text(encoding="utf-8", errors="replace")
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as candidate:
        return int(candidate.getsockname()[1])

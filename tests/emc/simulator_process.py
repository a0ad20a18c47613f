"""`emc-cdc simulator` as a process of its own, as an operator starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

COMMAND = (sys.executable, "-m", "connector.cli", "simulator")
PATIENCE = 60.0


class RunningSimulator:
    """A simulator that answers at `url`; `after` remembers where a test begins."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.api = f"{url}/TrackingMCDT"

    def set_faults(self, client: httpx.Client, *faults: dict[str, Any]) -> None:
        answer = client.post(f"{self.url}/faults", json=list(faults))
        assert answer.status_code == 200, answer.text

    def received(self, client: httpx.Client, after: int = 0) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = client.get(f"{self.url}/received", params={"after": after}).json()
        return records

    def end(self) -> tuple[int, str, str]:
        """Ask it to end; the exit code, and what else it wrote."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def simulator(*options: str) -> Iterator[RunningSimulator]:
    """Start it on a free port of loopback; it is ended with the block, and must then have nothing to complain of."""
    process = subprocess.Popen(
        [*COMMAND, "--listen", "127.0.0.1:0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate(timeout=PATIENCE)[1])
        running = RunningSimulator(process, json.loads(line)["listening"])
        yield running
        if process.poll() is None:
            assert running.end() == (0, "", "")
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def refused(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it with options that it must refuse."""
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=PATIENCE, check=False)

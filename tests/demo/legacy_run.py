"""Running the legacy application as the separate process that it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A finished run of the legacy application: its database, the moment before it, and what it printed."""

    dsn: str
    since: int
    printed: dict[str, float]


def command(dsn: str, *arguments: str) -> list[str]:
    """The application's command line; to be run in `ROOT`."""
    return [sys.executable, "-m", "connector.demo.legacy", "--dsn", dsn, *arguments]


def legacy(dsn: str, *arguments: str) -> str:
    """Run the application to its end and return what it printed."""
    done = subprocess.run(command(dsn, *arguments), cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout

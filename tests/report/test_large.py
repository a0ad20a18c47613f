"""Many dossiers: memory is bounded, and everything is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from plugins.postgres import Database
from reported_database import Reported

COUNT = 60_000
_PEAK = """
import resource, sys
from connector.cli import app
try:
    app(sys.argv[1:])
finally:
    sys.stderr.write(f"peak={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
"""


def peak_kib(reported: Reported, output: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """The most memory that a report took, and what it said."""
    command = [sys.executable, "-c", _PEAK, "report", "--json", "--output", str(output), "--config"]
    done = subprocess.run([*command, str(reported.config), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return int(done.stderr.rpartition("peak=")[2]), json.loads(done.stdout)["summary"]


def test_memory_does_not_grow_with_dossiers(database: Database, tmp_path: Path) -> None:
    """Sixty thousand dossiers, each with a fault and a missing account, take little more than ten thousand of them."""
    reported = Reported(database, tmp_path, COUNT)
    try:
        reported.owner.execute(
            b"UPDATE motcua.ho_so SET ma_ho_so = ma_ho_so || '-' || repeat('x', 15), tai_khoan_id = 900000000 + id"
        )
        few, _ = peak_kib(reported, tmp_path / "few.xlsx", "--from", "2026-01-01", "--to", "2026-01-31")
        many, summary = peak_kib(reported, tmp_path / "many.xlsx")
    finally:
        reported.close()
    assert summary["told"] == summary["held"] == summary["faulty"] == COUNT * 9 // 10
    assert many - few < 64 * 1024

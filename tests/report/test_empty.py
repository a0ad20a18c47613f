"""A database without a dossier."""

from __future__ import annotations

from pathlib import Path

from plugins.postgres import Database
from reported_database import Reported


def test_a_database_without_dossiers(database: Database, tmp_path: Path) -> None:
    """There is nothing to count, no share of nothing, and no fault; a workbook of it can be written."""
    reported = Reported(database, tmp_path, 1)
    try:
        reported.owner.execute(b"TRUNCATE motcua.ho_so CASCADE")
        report = reported.report("--output", str(tmp_path / "x.xlsx"))
        assert (report["summary"]["read"], report["total"]["share"], report["online"]) == (0, None, [])
        assert "không thấy lỗi dữ liệu nào" in reported.run("report").stdout
    finally:
        reported.close()

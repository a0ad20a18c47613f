"""A legacy database with many dossiers, and the command over it as a role that may do nothing but SELECT."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import yaml
from plugins.postgres import Database

HERE = Path(__file__).parent
_GRANTS = """
GRANT USAGE ON SCHEMA motcua TO {role};
GRANT SELECT (id, ma_ho_so, thu_tuc_id, don_vi_id, tai_khoan_id, trang_thai, kenh_nop, tu_dvcqg, hinh_thuc_tra,
    ngay_tiep_nhan) ON motcua.ho_so TO {role};
GRANT SELECT (id, ho_so_id, hinh_thuc, trang_thai) ON motcua.thanh_toan TO {role};
GRANT SELECT (id, ma, ten, muc_do) ON motcua.thu_tuc TO {role};
GRANT SELECT (id, ma_dinh_danh) ON motcua.don_vi TO {role};
GRANT SELECT (id, loai, id_dvcqg, id_dia_phuong) ON motcua.tai_khoan TO {role};
"""


class Reported:
    """count: dossiers, all sound."""

    def __init__(self, database: Database, directory: Path, count: int) -> None:
        self.directory = directory
        self.database = database
        self.role = f"chi_doc_{database.name}"
        schema = resources.files("connector.demo.legacy").joinpath("schema.sql").read_text(encoding="utf-8")
        rows = (HERE / "legacy_rows.sql").read_text(encoding="utf-8").replace(":count", str(count))
        with psycopg.connect(database.dsn("postgres"), autocommit=True) as superuser:
            superuser.execute(f"CREATE ROLE {self.role} LOGIN".encode())
        self.owner = psycopg.connect(database.dsn("owner"), autocommit=True)
        for statement in (*f"{schema}{rows}".split(";\n"), *_GRANTS.format(role=self.role).split(";\n")):
            if statement.strip():
                self.owner.execute(statement.encode())
        self.settings: dict[str, Any] = {
            "name": "thu",
            "source": {"dsn": database.server.dsn(self.role, database.name), "data": str(directory / "capture")},
            "log": {"embedded": {"path": str(directory / "log.sqlite")}},
            "mapping": {"extends": "preset:one-stop-generic", "SiteId": 327},
            "delivery": {"state": str(directory / "state")},
        }
        self.config = directory / "emc-cdc.yml"
        self.write()

    def write(self) -> None:
        """Write the configuration, after a change of `settings`."""
        self.config.write_text(yaml.safe_dump(self.settings, allow_unicode=True), encoding="utf-8")

    def close(self) -> None:
        """The role outlives no test."""
        self.owner.close()
        with psycopg.connect(self.database.dsn("postgres"), autocommit=True) as superuser:
            superuser.execute(f"DROP OWNED BY {self.role}".encode())
            superuser.execute(f"DROP ROLE {self.role}".encode())

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command that ends with this exit code and no traceback."""
        command = [sys.executable, "-m", "connector.cli", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=self.directory)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def report(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("report", "--json", *arguments, code=code).stdout)
        return found

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.owner.execute(query.encode()).fetchall()

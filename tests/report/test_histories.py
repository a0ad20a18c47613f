"""Impossible histories, planted in a real log of either backend, stand in the report of the live rows beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from cli.logged import Logged
from delivery.delivery_story import DOSSIER, SERVICE, create, delete, dossier, service, update
from plugins.postgres import Database

from connector.emc.history import Past
from connector.mapping.facts import Milestone
from connector.report import histories

TABLES = """
CREATE SCHEMA m;
CREATE TABLE m.thu_tuc (id bigint PRIMARY KEY, ma text, ten text);
CREATE TABLE m.ho_so (id bigint PRIMARY KEY, ma text, trang_thai text, tiep_nhan bool, thu_tuc_id bigint,
    tai_khoan text, ngay date DEFAULT '2026-03-01');
CREATE TABLE m.thanh_toan (id bigint PRIMARY KEY, ho_so_id bigint, trang_thai text, hinh_thuc text);
GRANT USAGE ON SCHEMA m TO emc_cdc; GRANT SELECT ON ALL TABLES IN SCHEMA m TO emc_cdc;
INSERT INTO m.thu_tuc VALUES (1, '2.000001', 'Cấp đổi'), (2, '2.000002', 'Cấp mới')
"""


class Site:
    """A log with histories, and a database with the rows as they are now."""

    def __init__(self, logged: Logged, database: Database) -> None:
        self.logged = logged
        self.now: dict[int, dict[str, Any]] = {}
        with psycopg.connect(database.dsn("owner"), autocommit=True) as owner:
            owner.execute(TABLES.encode())
        self.database = database
        written = yaml.safe_load(logged.config.read_text(encoding="utf-8"))
        written["source"]["dsn"] = database.dsn("emc_cdc")
        written["mapping"]["Level"] = {"of": "service.ma", "is": {"2.000001": 4, "2.000002": 3}}
        logged.config.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")

    def live(self, number: int, *rows: dict[str, Any]) -> None:
        """A dossier's history, one row after the other."""
        self.logged.story.transaction(create(DOSSIER, rows[0]))
        for row in rows[1:]:
            self.logged.story.transaction(update(DOSSIER, row))
        self.now[number] = rows[-1]

    def report(self, *arguments: str, code: int) -> dict[str, Any]:
        names = ("id", "ma", "trang_thai", "tiep_nhan", "thu_tuc_id", "tai_khoan")
        with psycopg.connect(self.database.dsn("owner"), autocommit=True) as owner:
            owner.execute("TRUNCATE m.ho_so")
            for row in self.now.values():
                owner.execute(
                    f"INSERT INTO m.ho_so ({', '.join(names)}) VALUES (%s, %s, %s, %s, %s, %s)".encode(),
                    [row[name] for name in names],
                )
        done = self.logged.run("report", "--json", "--date", "ngay", *arguments, code=code)
        found: dict[str, Any] = yaml.safe_load(done.stdout)
        return found


@pytest.fixture
def site(logged: Logged, database: Database) -> Site:
    return Site(logged, database)


def told(report: dict[str, Any]) -> set[tuple[str, str]]:
    assert {one["kind"] for one in report["faults"]} <= {"history"}
    return {(one["key"], one["rule"]) for one in report["faults"]}


def test_every_impossible_step_is_found(site: Site) -> None:
    """Planted ones and no others, told once each; also of a dossier that is gone since; only the wanted ones."""
    story = site.logged.story
    story.snapshot((SERVICE, service(1)), (SERVICE, service(2)), (DOSSIER, dossier(1, "da_tra")))
    story.transaction(update(DOSSIER, dossier(1, "dang_xu_ly")))  # it was returned before we were there
    site.now[1] = dossier(1, "dang_xu_ly")
    site.live(2, dossier(2, received=False), dossier(2), dossier(2, "dang_xu_ly"), dossier(2, "da_tra"))
    site.live(3, dossier(3), dossier(3, "da_tra"), dossier(3, "huy"), dossier(3, "da_tra"), dossier(3, "moi"))
    site.live(4, dossier(4), dossier(4, received=False), dossier(4))
    site.live(5, dossier(5), dossier(5, service=2), dossier(5))
    site.live(6, dossier(6), dossier(6) | {"ma": "000.00.11.H56-261123-99999"})
    site.live(7, dossier(7, "dang_xu_ly"), dossier(7, "huy"), dossier(7, "dang_xu_ly"))
    site.live(8, dossier(8), dossier(8, "da_tra"), dossier(8, "moi"))
    story.transaction(delete(DOSSIER, site.now.pop(8)))
    site.live(9, dossier(9), dossier(9, "da_tra"))
    story.transaction(delete(DOSSIER, dossier(9, "da_tra")))
    site.live(9, dossier(9))  # another one under its key
    planted = {("1", "HIS-01"), ("3", "HIS-01"), ("4", "HIS-02"), ("5", "HIS-04"), ("6", "HIS-05"), ("8", "HIS-01")}
    report = site.report(code=1)
    assert told(report) == planted
    assert report["summary"]["faults"]["history"] == len(report["faults"]) == len(planted)
    assert "bản ghi nhật ký" in report["history"]
    by_key = {one["key"]: one for one in report["faults"]}
    assert (by_key["3"]["service"], by_key["3"]["month"]) == ("2.000001", "2026-03")
    assert (by_key["8"]["code"], by_key["8"]["month"]) == ("000.00.11.H56-261123-00008", "")
    # Of those that are in the database now, where only some are wanted.
    assert told(site.report("--from", "2026-01-01", code=1)) == planted - {("8", "HIS-01")}
    assert told(site.report("--from", "2026-04-01", code=0)) == set()
    assert told(site.report("--service", "2.000002", code=0)) == set()
    report = site.report("--no-log", code=0)
    assert (told(report), report["history"]) == (set(), "không xem nhật ký (--no-log)")


def test_a_log_of_another_mapping_is_not_misread(site: Site) -> None:
    """A column that the log does not hold is no empty column: it is told, with the way round."""
    site.live(1, dossier(1))
    written = yaml.safe_load(site.logged.config.read_text(encoding="utf-8"))
    written["mapping"]["Data"] = "ghi_chu"
    site.logged.config.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
    with psycopg.connect(site.database.dsn("owner"), autocommit=True) as owner:
        owner.execute("ALTER TABLE m.ho_so ADD ghi_chu text")
        owner.execute("GRANT SELECT ON m.ho_so TO emc_cdc")
    said = site.logged.run("report", "--date", "ngay", code=2).stderr
    assert "the log holds no ghi_chu" in said
    assert "--no-log" in said


def test_a_log_that_is_not_there(logged: Logged, database: Database, tmp_path: Path) -> None:
    """The report is made of the live rows, and says that there was no log."""
    site = Site(logged, database)
    written = yaml.safe_load(logged.config.read_text(encoding="utf-8"))
    written["log"] = {"embedded": {"path": str(tmp_path / "khong-co.sqlite")}}
    logged.config.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
    assert "there is no log here yet" in site.report(code=0)["history"]


def test_what_is_remembered_outgrows_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasts that went to the file are those that come back."""
    monkeypatch.setattr(histories, "_CACHED", 2)
    pasts = histories.Pasts()
    some = {
        str(n): Past(frozenset({Milestone.RESULT}), frozenset(Milestone), n, f"m{n}", frozenset({"HIS-01"}))
        for n in range(7)
    }
    for key, past in some.items():
        pasts.remember(key, past)
    assert {key: pasts.of(key) for key in some} == some
    pasts.close()

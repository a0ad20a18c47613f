"""The legacy application on a real server: what it leaves behind is what its lives say."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
from legacy_run import ROOT, Run, command, legacy

from connector.demo.legacy.lives import Act, plan
from connector.demo.oracle import activity, changes, last_action


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def count(dsn: str, query: str) -> int:
    return int(rows(dsn, f"SELECT count(*) FROM {query}")[0][0])


def test_it_counts_what_it_committed(run: Run) -> None:
    """The printed figures are those of the journal: every committed transaction is in it, no rolled back one."""
    assert run.printed["dossiers"] == 300
    assert run.printed["transactions"] == activity(run.dsn, run.since).commits
    assert run.printed["rolled_back"] > 0
    assert changes(run.dsn) > run.printed["transactions"]


def test_every_life_came_to_its_end(run: Run) -> None:
    """New dossiers are finished, returned, withdrawn, or deleted drafts; the journal has all of them."""
    new = f"(SELECT DISTINCT ho_so_id FROM motcua.hanh_dong WHERE id > {run.since}) j"
    ends = rows(run.dsn, f"SELECT DISTINCT h.trang_thai FROM {new} JOIN motcua.ho_so h ON h.id = j.ho_so_id")
    assert {status for (status,) in ends} == {"da_tra_ket_qua", "tra_lai", "huy"}
    deleted = rows(run.dsn, "SELECT ho_so_id FROM motcua.hanh_dong WHERE hanh_dong = 'xoa_nhap'")
    assert deleted
    assert count(run.dsn, f"motcua.ho_so WHERE id = ANY(ARRAY{[row[0] for row in deleted]})") == 0


def test_number_and_reception_come_together(run: Run) -> None:
    """A dossier has number and reception time or neither; numbers have the national form; a result has its day."""
    assert count(run.dsn, "motcua.ho_so WHERE (ma_ho_so IS NULL) <> (ngay_tiep_nhan IS NULL)") == 0
    assert count(run.dsn, r"motcua.ho_so WHERE ma_ho_so !~ '^000(\.\d\d){2}\.H56-\d{6}-\d{4}$'") == 0
    assert (
        count(run.dsn, "motcua.ho_so WHERE trang_thai = 'da_tra_ket_qua' AND (ngay_tra IS NULL OR ma_ho_so IS NULL)")
        == 0
    )
    assert count(run.dsn, "motcua.ho_so WHERE trang_thai IN ('tra_lai', 'huy') AND ma_ho_so IS NULL") > 0


def test_the_journal_tells_how_things_stand(run: Run) -> None:
    """The last journal row of every dossier and payment agrees with their tables, so nothing undone is left."""
    last_of_dossier = """
        (SELECT DISTINCT ON (ho_so_id) * FROM motcua.hanh_dong ORDER BY ho_so_id, id DESC) j
        JOIN motcua.ho_so h ON h.id = j.ho_so_id
        WHERE (h.trang_thai, h.don_vi_id, h.hinh_thuc_tra, h.ma_ho_so IS NOT NULL)
            IS DISTINCT FROM (j.trang_thai_sau, j.don_vi_sau, j.hinh_thuc_tra_sau, j.da_tiep_nhan)"""
    assert count(run.dsn, last_of_dossier) == 0
    last_of_payment = """
        (SELECT DISTINCT ON (thanh_toan_id) * FROM motcua.hanh_dong WHERE thanh_toan_id IS NOT NULL
         ORDER BY thanh_toan_id, id DESC) j
        FULL JOIN motcua.thanh_toan p ON p.id = j.thanh_toan_id
        WHERE (p.trang_thai, p.hinh_thuc, p.ho_so_id)
            IS DISTINCT FROM (nullif(j.thanh_toan_sau, 'khong_con'), j.thanh_toan_hinh_thuc,
                              CASE WHEN j.thanh_toan_sau <> 'khong_con' THEN j.ho_so_id END)"""
    assert count(run.dsn, last_of_payment) == 0


def test_what_was_done_is_what_was_planned(run: Run) -> None:
    """The journal of the new dossiers has every planned act once: none skipped, none left of what was undone."""
    mistakes = (Act.NOTE, Act.PAY_FOR_ANOTHER, Act.MOVE_PAYMENT)  # these depend on who else is there
    lives = [plan(7, number) for number in range(300)]
    planned = Counter(
        step.act.value for life in lives for transaction in life.transactions for step in transaction.steps
    )
    query = f"""
        SELECT hanh_dong, count(*) FROM motcua.hanh_dong j WHERE ho_so_id > (
            SELECT max(ho_so_id) FROM motcua.hanh_dong WHERE id <= {run.since}) GROUP BY 1"""
    done = Counter(dict(rows(run.dsn, query)))
    for act in mistakes:
        del planned[act.value], done[act.value]
    assert done == planned


def test_transactions_of_different_dossiers_interleave(run: Run) -> None:
    """Between two journal rows of one dossier stand rows of others, and some transactions touch several dossiers."""
    together = (
        "(SELECT giao_dich FROM motcua.hanh_dong GROUP BY 1 HAVING count(DISTINCT ho_so_id) > 1 AND count(*) < 20) t"
    )
    assert count(run.dsn, together) > 5
    overlap = """
        (SELECT ho_so_id, min(id) a, max(id) b FROM motcua.hanh_dong GROUP BY 1) x
        JOIN motcua.hanh_dong y ON y.id BETWEEN x.a AND x.b AND y.ho_so_id <> x.ho_so_id"""
    assert count(run.dsn, overlap) > 1000


def test_some_content_is_out_of_line(run: Run) -> None:
    """A part of the dossiers has content that PostgreSQL keeps in the TOAST table."""
    toasted = count(run.dsn, "motcua.ho_so WHERE pg_column_size(noi_dung) > 8000")
    assert 0.1 < toasted / count(run.dsn, "motcua.ho_so") < 0.3
    (relation,) = rows(run.dsn, "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'motcua.ho_so'::regclass")[0]
    assert count(run.dsn, relation) > toasted


def test_more_old_dossiers_can_be_added(legacy_database: Callable[[str, int], str]) -> None:
    """Preparing an installed database again only adds dossiers, with numbers of their own."""
    dsn = legacy_database("added", 50)
    legacy(dsn, "--prepare", "--load", "50")
    assert count(dsn, "motcua.ho_so") == 100
    assert {status for (status,) in rows(dsn, "SELECT DISTINCT trang_thai FROM motcua.ho_so")} == {
        "da_tra_ket_qua",
        "dang_xu_ly",
    }


def test_it_works_until_it_is_told_to_stop(legacy_database: Callable[[str, int], str]) -> None:
    """SIGTERM ends an unbounded run after the transactions in hand, with its figures and exit code 0."""
    dsn = legacy_database("endless", 0)
    endless = command(dsn, "--until-stopped", "--rate", "200")
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 30
            while last_action(dsn) < 50 and process.poll() is None:
                assert time.monotonic() < deadline
            process.terminate()
            printed, complaint = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, complaint) == (0, "")
    assert json.loads(printed)["transactions"] == activity(dsn, 0).commits


def test_a_database_that_is_not_there_is_one_line() -> None:
    """A refused connection ends with exit code 1 and no traceback."""
    nowhere = command("host=127.0.0.1 port=1 dbname=x user=x", "--dossiers", "1")
    done = subprocess.run(nowhere, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("mot cua: OperationalError")
    assert "Traceback" not in done.stderr

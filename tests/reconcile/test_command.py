"""`emc-cdc reconcile` against what the simulator hands out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from emc.simulator_process import RunningSimulator, simulator
from ledger_file import EVENT, event, write_ledger
from openpyxl import load_workbook

from connector.emc.event import EmcUser
from connector.emc.wire import encode
from connector.settings import EmcSettings

CONFIG = """\
name: demo
source: {dsn: "postgresql://x@127.0.0.1:1/x"}
log: {embedded: {path: log.sqlite}}
delivery: {state: state}
mapping: {extends: "preset:opencps-v2", SiteId: 327}
"""
TODAY = datetime.now(UTC).date()


def reconcile(directory: Path, extract: Path, *options: str, since: date = TODAY - timedelta(days=2)) -> Any:
    command = [sys.executable, "-m", "connector.cli", "reconcile", "--extract", str(extract), "--from", str(since)]
    return subprocess.run(
        [*command, "--to", str(TODAY + timedelta(days=2)), *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(running: RunningSimulator, directory: Path, client: httpx.Client) -> None:
    """Thirty dossiers of two events each, sent to the simulator and recorded."""
    local = EmcUser("=cmd|' /C calc'!A0", None, 1, EVENT.User.LOCATION)
    events = [event(n, status, User=local if n % 2 else EVENT.User) for n in range(30) for status in (1, 2)]
    for each in events:
        body = encode(each, EmcSettings())
        answer = client.post(running.api, content=body.content, headers={"Content-Type": body.content_type})
        assert answer.status_code == 200, answer.text
    write_ledger(directory / "state", events, time.time())


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_what_the_simulator_got_is_what_was_sent(tmp_path: Path, form: str) -> None:
    """Its extract equals the ledger; one row taken out of it and one altered are found, and nothing else."""
    (tmp_path / "emc-cdc.yml").write_text(CONFIG, encoding="utf-8")
    extract = tmp_path / f"e.{form}"
    with simulator() as running, httpx.Client(trust_env=False) as client:
        told(running, tmp_path, client)
        extract.write_bytes(client.get(f"{running.url}/extract.{form}").content)
    equal = reconcile(tmp_path, extract, "--json")
    assert (equal.returncode, equal.stderr) == (0, "")
    assert json.loads(equal.stdout)["kinds"] == {"equal": 60}
    if form == "csv":
        lines = extract.read_text(encoding="utf-8-sig").splitlines()
        lines[2] = lines[2].replace("Cấp đổi", "Cấp mới")
        extract.write_text("\n".join([*lines[:4], *lines[5:]]), encoding="utf-8")
    else:
        book = load_workbook(extract)
        book["EMC"]["D3"] = "Cấp mới"
        book["EMC"].delete_rows(5)
        book.save(extract)
    planted = reconcile(tmp_path, extract, "--json", "--output", "letter.xlsx")
    assert planted.returncode == 1, planted.stderr
    found = json.loads(planted.stdout)["findings"]
    assert [(one["kind"], one["code"][-2:], one["status"], one["differing"]) for one in found] == [
        ("different", "00", "2", [["NameTTHC", "Cấp đổi", "Cấp mới"]]),
        ("missing", "01", "2", []),
    ]
    sheets = load_workbook(tmp_path / "letter.xlsx")
    assert sheets.sheetnames == [
        *("Tổng hợp", "Theo đơn vị, thủ tục", "Thiếu tại EMC", "EMC có, đơn vị không có"),
        *("Sai khác", "Trùng lặp", "Đang chờ gửi", "Bị từ chối"),
    ]
    (line,) = [row for row in sheets["Sai khác"].values if row[0] and row[0].startswith("000.00.11")]
    assert line[4:7] == ("NameTTHC", "Cấp đổi", "Cấp mới")
    shown = reconcile(tmp_path, extract)
    assert shown.returncode == 1
    assert "Cấp mới" in shown.stdout
    assert "Thiếu tại EMC" in shown.stdout


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    """No ledger, a period that the ledger does not hold, an unknown parameter: exit code 2, with the mend."""
    config, extract = tmp_path / "emc-cdc.yml", tmp_path / "e.csv"
    config.write_text(CONFIG, encoding="utf-8")
    extract.write_text("CodeProfile,Status\nA-1,1\n", encoding="utf-8")
    nothing = reconcile(tmp_path, extract)
    assert (nothing.returncode, "no deliver process" in nothing.stderr) == (2, True)
    write_ledger(tmp_path / "state", [event(1)], time.time())
    old = reconcile(tmp_path, extract, since=TODAY - timedelta(days=100))
    assert (old.returncode, "delivery.ledger_days" in old.stderr) == (2, True)
    config.write_text(CONFIG + "reconcile: {columns: {Code: [Mã]}}\n", encoding="utf-8")
    unknown = reconcile(tmp_path, extract)
    assert (unknown.returncode, "there is no parameter 'Code'" in unknown.stderr) == (2, True)

"""`preview --against`: where another mapping would tell EMC something else, over live rows and over the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.logged import Logged
from delivery.delivery_story import DOSSIER, MAPPING, PAYMENT, SERVICE, create, dossier, payment, service, update
from reported_database import Reported

Told = set[tuple[str, int | None, str, Any, Any]]


def differences(found: dict[str, Any]) -> Told:
    """Key, status, parameter, here, there."""
    names = ("key", "status", "parameter", "here", "there")
    return {tuple(one[name] for name in names) for one in found["differences"]}


class Against:
    """The command with another mapping beside the configuration."""

    def __init__(self, run: Any, directory: Path) -> None:
        self._run = run
        self._file = directory / "khac.yml"

    def __call__(self, mapping: object, *arguments: str, code: int) -> dict[str, Any]:
        self._file.write_text(yaml.safe_dump({"mapping": mapping}, allow_unicode=True), encoding="utf-8")
        done = self._run("preview", "--against", str(self._file), "--json", *arguments, code=code)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def shown(self, *arguments: str, code: int = 1) -> str:
        out: str = self._run("preview", "--against", str(self._file), *arguments, code=code).stdout
        return out


@pytest.fixture
def against(reported: Reported, tmp_path: Path) -> Against:
    return Against(reported.run, tmp_path)


SAME = {"extends": "preset:one-stop-generic", "SiteId": 327}


def test_the_same_mapping_tells_the_same(reported: Reported, against: Against) -> None:
    """Nothing differs, and the exit code says so; a whole configuration is taken for its mapping."""
    found = against(SAME, "--rows", "400", code=0)
    assert (found["over"], found["compared"], found["differing"], found["differences"]) == ("live rows", 400, 0, [])
    assert found["events"]["here"] == found["events"]["there"] > 400
    assert found["mappings"]["here"] == found["mappings"]["there"]
    assert json.loads(reported.run("preview", "--against", str(reported.config), "--json").stdout)["differing"] == 0


def test_every_difference_of_live_rows_is_told(reported: Reported, against: Against) -> None:
    """A parameter with another value, an event that only one sends, one that only one can make: each is there."""
    other = SAME | {
        "SiteId": 328,
        "milestones": {"processing": {"trang_thai": ["dang_xu_ly", "huy"], "ngay_tiep_nhan": {"set": True}}},
        "Result": {"of": "hinh_thuc_tra", "is": {"mot_cua": "desk", "dien_tu": "online", "vnpost": "vnpost"}},
        "User": {"account": "account.id_dia_phuong"},
    }
    found = against(other, "--rows", "400", code=1)
    told = differences(found)
    rows = reported.ask(
        "SELECT h.id::text, trang_thai, hinh_thuc_tra, loai, ngay_tiep_nhan IS NOT NULL"
        " FROM motcua.ho_so h JOIN motcua.tai_khoan t ON t.id = tai_khoan_id"
    )
    received = [row[:4] for row in rows if row[4]]
    held = {key for key, state, way, _ in received if state == "da_tra_ket_qua" and way == "buu_chinh_khac"}
    assert {one[0] for one in told if one[2] == "held"} == held
    # What is held at the result holds all of the dossier's events over there.
    statuses = {"da_tra_ket_qua": (1, 3), "dang_xu_ly": (1, 2), "huy": (1, 0)}
    expected: Told = set()
    for key, state, _, kind in received:
        if key in held:
            expected |= {(key, status, "Status", status, None) for status in statuses[state]}
            expected.add((key, None, "held", None, "Result (how the result is returned) is unknown"))
            continue
        for status in statuses[state]:
            expected.add((key, status, "SiteId", 327, 328))
            if kind == "ca_nhan":
                [account] = reported.ask(
                    f"SELECT id_dvcqg, id_dia_phuong FROM motcua.tai_khoan t JOIN motcua.ho_so h ON t.id = tai_khoan_id"
                    f" WHERE h.id = {key}"
                )
                expected.add((key, status, "User.ID_QG", *account))
        if state == "huy":
            expected.add((key, 2, "Status", None, 2))
    assert told == expected
    assert found["differing"] == len(received)
    assert found["parameters"]["held"] == len(held)
    text = against.shown("--rows", "400")
    assert "360 trong 400 hồ sơ khác nhau" in text
    assert "chưa có gì được gửi đi" in text


def test_what_cannot_be_compared(reported: Reported, against: Against, tmp_path: Path) -> None:
    """Another dossier table, a file that is none, --log without --against: exit code 2 and how to go on."""
    said = reported.run("preview", "--log", code=2).stderr
    assert "goes with --against" in said
    assert "there is no such file" in reported.run("preview", "--against", "khong-co.yml", code=2).stderr
    wrong = tmp_path / "sai.yml"
    wrong.write_text("a: 1\n", encoding="utf-8")
    assert "no 'mapping' in this file" in reported.run("preview", "--against", str(wrong), code=2).stderr
    text = yaml.safe_dump({"mapping": {"extends": "preset:opencps-v2", "SiteId": 327}})
    wrong.write_text(text, encoding="utf-8")
    assert "public.opencps_dossier, not motcua.ho_so" in reported.run("preview", "--against", str(wrong), code=2).stderr


def test_the_history_in_the_log(logged: Logged) -> None:
    """Transaction by transaction, on either kind of log: what only the history shows is seen, and nothing is pushed."""
    story = logged.story
    story.snapshot((SERVICE, service(1)))
    story.transaction(create(DOSSIER, dossier(1)))
    story.transaction(update(DOSSIER, dossier(1, "dang_xu_ly")))
    story.transaction(create(PAYMENT, payment(7, of=1)), update(DOSSIER, dossier(1, "da_tra")))
    story.transaction(create(DOSSIER, dossier(2)))
    against = Against(logged.run, logged.directory)
    mapping = yaml.safe_load(MAPPING)["mapping"]
    found = against(mapping, "--log", code=0)
    assert (found["over"], found["compared"], found["events"]) == ("log", 4, {"here": 4, "there": 4})
    other = mapping | {"Level": 3, "milestones": mapping["milestones"] | {"processing": {"trang_thai": "khac"}}}
    found = against(other, "--log", code=1)
    levels = {("1", 1, "Level", 4, 3), ("1", 3, "Level", 4, 3), ("2", 1, "Level", 4, 3)}
    assert differences(found) == levels | {("1", 2, "Status", 2, None)}
    assert found["parameters"] == {"Level": 3, "Status": 1}
    assert {one["committed"] is not None for one in found["differences"]} == {True}
    assert "4 trong 4 giao dịch có sự kiện khác nhau" in against.shown("--log")
    assert not logged.settings.delivery.state.exists()
    more = mapping | {"Data": "ghi_chu"}
    against_file = logged.directory / "khac.yml"
    against_file.write_text(yaml.safe_dump({"mapping": more}), encoding="utf-8")
    said = logged.run("preview", "--against", str(against_file), "--log", code=2).stderr
    assert "m.ho_so.ghi_chu" in said
    assert "leave --log out" in said

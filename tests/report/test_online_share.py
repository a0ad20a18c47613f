"""The online share by unit, service and month, against an oracle in SQL that shares nothing with the connector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reported_database import HERE, Reported

from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel, UserFacts, UserType
from connector.quality.online import standing
from connector.settings import EmcSettings

ORACLE = (HERE / "oracle.sql").read_text(encoding="utf-8")
MONTH = "to_char(hs.ngay_tiep_nhan, 'YYYY-MM')"
_COUNTS = ("dossiers", "received_online", "full", "returned", "online")


def told(group: dict[str, Any]) -> tuple[Any, ...]:
    return (group["unit"], group["service"], group["month"], *(group[name] for name in _COUNTS))


def test_every_group_is_what_the_oracle_says(reported: Reported) -> None:
    """Unit by unit, service by service, month by month; with other post services counted, too; and in a window."""
    report = reported.report()
    expected = reported.ask(ORACLE)
    assert [told(group) for group in report["online"]] == expected
    assert len(expected) > 200
    total = report["total"]
    assert tuple(total[name] for name in _COUNTS) == tuple(map(sum, list(zip(*expected, strict=True))[3:]))
    assert total["share"] == total["online"] / total["returned"]
    assert 0 < total["online"] < total["returned"] < total["full"] < total["dossiers"]

    window = ORACLE.replace("GROUP BY", "AND hs.ngay_tiep_nhan::date BETWEEN '2026-02-10' AND '2026-03-09' GROUP BY")
    report = reported.report("--from", "2026-02-10", "--to", "2026-03-09")
    assert [told(group) for group in report["online"]] == reported.ask(window)
    one = reported.report("--unit", "000.00.03.H10", "--service", "1.000004")
    assert [told(group) for group in one["online"]] == [
        row for row in expected if row[:2] == ("000.00.03.H10", "1.000004")
    ]

    reported.settings["emc"] = {"other_post_online": True}
    reported.write()
    posted = ORACLE.replace("'vnpost')", "'vnpost', 'buu_chinh_khac')")
    assert [told(group) for group in reported.report()["online"]] == reported.ask(posted)
    assert reported.ask(posted) != expected


def test_days_are_those_of_the_zone(reported: Reported) -> None:
    """A time with a zone belongs to the day that the wall clock of Vietnam shows, or of another zone if asked."""
    for statement in (
        "ALTER TABLE motcua.ho_so ALTER ngay_tiep_nhan TYPE timestamptz USING ngay_tiep_nhan AT TIME ZONE 'UTC'",
        "UPDATE motcua.ho_so SET ngay_tiep_nhan = '2026-05-31 16:59:59Z' WHERE id = 1",
        "UPDATE motcua.ho_so SET ngay_tiep_nhan = '2026-05-31 17:00:00Z' WHERE id IN (2, 4, 5, 6, 7, 8, 9)",
        "UPDATE motcua.ho_so SET ngay_tiep_nhan = 'infinity' WHERE id = 3",
    ):
        reported.owner.execute(statement.encode())
    month = "to_char(hs.ngay_tiep_nhan AT TIME ZONE interval '7 hours', 'YYYY-MM')"
    local = ORACLE.replace(MONTH, f"CASE WHEN hs.ngay_tiep_nhan < 'infinity' THEN {month} ELSE '' END")
    assert [told(group) for group in reported.report()["online"]] == reported.ask(local)
    day = ("--from", "2026-05-31", "--to", "2026-05-31")
    codes = reported.report(*day)["summary"]["told"], reported.report(*day, "--zone", "UTC")["summary"]["told"]
    ask = "SELECT count(*) FROM motcua.ho_so WHERE (ngay_tiep_nhan AT TIME ZONE '{}')::date = '2026-05-31'"
    zones = ("Asia/Ho_Chi_Minh", "UTC")
    assert codes == tuple(reported.ask(ask.format(zone))[0][0] for zone in zones)
    assert codes[0] != codes[1]


def test_which_column_dates_a_dossier(reported: Reported) -> None:
    """The one date of the mapping, or the one that is named; what cannot serve is told with what can."""
    assert reported.report()["dated_by"] == "ngay_tiep_nhan"
    said = reported.run("report", "--date", "trang_thai", code=2).stderr
    assert "trang_thai of motcua.ho_so is no date" in said
    assert "ngay_tiep_nhan" in said
    assert "GRANT SELECT" in reported.run("report", "--date", "ngay_tra", code=2).stderr
    reported.owner.execute(f"GRANT SELECT (ngay_tra) ON motcua.ho_so TO {reported.role}".encode())
    reported.owner.execute(b"UPDATE motcua.ho_so SET ngay_tra = '2026-08-01' WHERE trang_thai = 'da_tra_ket_qua'")
    months = {one["month"]: one["dossiers"] for one in reported.report("--date", "ngay_tra")["months"]}
    [(done,)] = reported.ask("SELECT count(*) FROM motcua.ho_so WHERE ngay_tra IS NOT NULL")
    assert months == {"": 360 - done, "2026-08": done}
    reported.settings["mapping"]["Data"] = {"date": "ngay_tra", "type": "timestamp", "format": "dd/MM/yyyy"}
    reported.write()
    said = reported.run("report", code=2).stderr
    assert "--date COLUMN, one of: ngay_tiep_nhan, ngay_tra" in said


def test_what_cannot_be_asked_for(reported: Reported, tmp_path: Path) -> None:
    """Days and zones that are none, a file that cannot be written: exit code 2, and how to go on."""
    assert "write it as 2026-01-31" in reported.run("report", "--from", "31/01/2026", code=2).stderr
    assert "Asia/Ho_Chi_Minh" in reported.run("report", "--zone", "Ha_Noi", code=2).stderr
    path = tmp_path / "khong-co" / "bao-cao.xlsx"
    assert "directory that can be written to" in reported.run("report", "--output", str(path), code=2).stderr


def test_the_rule_case_by_case() -> None:
    """Level 4, received, returned and paid: each way once, with the reason why it is not online."""

    def counted(
        reception: Channel | None, result: ResultChannel | None, payment: PaymentChannel | None, post: bool = False
    ) -> tuple[bool, bool, bool, bool, bool]:
        user = UserFacts(UserType.CITIZEN, "x", "000.00.02.H10")
        reached = frozenset({Milestone.RECEIVED, Milestone.RESULT})
        facts = Facts("m", 1, "c", "n", 4, False, reception, result, payment, user, "", reached)
        found = standing(facts, EmcSettings(other_post_online=post))
        return found.online, found.by_reception, found.by_result, found.by_payment, found.unsure

    online, none, vnpost = Channel.ONLINE, PaymentChannel.NONE, ResultChannel.VNPOST
    yes = (True, False, False, False, False)
    assert counted(online, ResultChannel.ONLINE, none) == yes
    assert counted(online, vnpost, PaymentChannel.ONLINE) == yes
    assert counted(online, ResultChannel.OTHER_POST, none) == (False, False, True, False, False)
    assert counted(online, ResultChannel.OTHER_POST, none, post=True) == yes
    assert counted(Channel.IN_PERSON, ResultChannel.DESK, PaymentChannel.IN_PERSON) == (False, True, True, True, False)
    assert counted(online, ResultChannel.DESK, none) == (False, False, True, False, False)
    assert counted(online, vnpost, PaymentChannel.IN_PERSON) == (False, False, False, True, False)
    assert counted(None, vnpost, none) == (False, False, False, False, True)
    assert counted(online, None, none) == (False, False, False, False, True)
    assert counted(online, vnpost, None) == (False, False, False, False, True)

"""Every kind of fault, planted in a real database, is found where it is, and nowhere else."""

from __future__ import annotations

from typing import Any

from reported_database import Reported

Found = set[tuple[str, str, str, bool]]
"""Kind, key, parameters, and whether it holds the dossier."""

# Dossiers that were received, and ended with a result or without (legacy_rows.sql).
_RETURNED = "SELECT id FROM motcua.ho_so WHERE trang_thai = 'da_tra_ket_qua' ORDER BY id"
_WORKED_ON = "SELECT id FROM motcua.ho_so WHERE trang_thai = 'dang_xu_ly' ORDER BY id"
_UNRECEIVED = "SELECT id FROM motcua.ho_so WHERE ngay_tiep_nhan IS NULL ORDER BY id"

PERSONAL = ("Trần Thị", "Nguyễn Văn", "QG-", "DP-")


def found(report: dict[str, Any]) -> Found:
    return {(one["kind"], one["key"], one["parameter"], one["holds"]) for one in report["faults"]}


def test_a_sound_database_has_no_fault(reported: Reported) -> None:
    """Nothing is found where there is nothing, and the exit code says so."""
    report = reported.report()
    assert report["faults"] == []
    assert report["summary"]["told"] == 360
    assert report["summary"]["silent"] == 40
    assert set(report["summary"]["faults"].values()) == {0}


def test_all_that_is_planted_is_found_and_nothing_else(reported: Reported) -> None:
    """One of each, at its dossier, with the parameters that it is about; what does not matter yet is no fault."""
    done = iter([key for (key,) in reported.ask(_RETURNED)])
    working = iter([key for (key,) in reported.ask(_WORKED_ON)])
    drafts = iter([key for (key,) in reported.ask(_UNRECEIVED)])
    planted: Found = set()

    def plant(change: str, key: int, *faults: tuple[str, str, bool]) -> None:
        reported.owner.execute(change.format(key=key).encode())
        planted.update((kind, str(key), parameter, holds) for kind, parameter, holds in faults)

    dossier = "UPDATE motcua.ho_so SET {what} WHERE id = {{key}}".format
    catalogue = (
        "INSERT INTO motcua.don_vi VALUES (50, 'SXD', 'Sở Xây dựng')",
        "INSERT INTO motcua.thu_tuc VALUES (50, ' ', 'Thủ tục không mã', '', 4), (51, '1.000051', 'Mức lạ', '', 5)",
        "INSERT INTO motcua.tai_khoan (id, loai, id_dvcqg, id_dia_phuong, ho_ten, tao_luc) VALUES"
        " (9001, 'khac', 'QG-x', 'DP-x', 'Nguyễn Văn X', '2025-01-01'),"
        " (9002, 'ca_nhan', NULL, 'DP-y', 'Nguyễn Văn Y', '2025-01-01')",
    )
    for statement in catalogue:
        reported.owner.execute(statement.encode())
    plant(dossier(what="ma_ho_so = 'HS/2026/15'"), next(working), ("number", "CodeProfile", False))
    plant(dossier(what="ma_ho_so = lower(ma_ho_so)"), next(done), ("number", "CodeProfile", False))
    plant(dossier(what="thu_tuc_id = 999"), next(done), ("procedure", "CodeTTHC, NameTTHC, Level", True))
    plant(dossier(what="thu_tuc_id = 50"), next(working), ("procedure", "CodeTTHC", True))
    plant(dossier(what="thu_tuc_id = 51"), next(working), ("value", "Level", True))
    plant(dossier(what="don_vi_id = 999"), next(working), ("unit", "User.location", True))
    plant(dossier(what="don_vi_id = 50"), next(done), ("unit", "User.location", False))
    plant(dossier(what="tai_khoan_id = 99999"), next(done), ("value", "User.type, User.account", True))
    plant(dossier(what="tai_khoan_id = 9001"), next(working), ("value", "User.type", True))
    plant(dossier(what="tai_khoan_id = 9002"), next(working), ("value", "User.account", True))
    plant(dossier(what="kenh_nop = 'zalo'"), next(working), ("value", "FormsReception", True))
    plant(dossier(what="hinh_thuc_tra = 'bo_cau'"), next(done), ("value", "Result", True))
    plant(
        "INSERT INTO motcua.thanh_toan (ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem)"
        " VALUES ({key}, 1, 'the_cao', 'da_thanh_toan', now())",
        next(done),
        ("value", "FormsPayments", True),
    )
    plant(
        dossier(what="thu_tuc_id = 999, don_vi_id = 999, kenh_nop = 'zalo'"),
        next(working),
        ("procedure", "CodeTTHC, NameTTHC, Level", True),
        ("unit", "User.location", True),
        ("value", "FormsReception", True),
    )
    for group in (2, 3):
        code = f"000.00.01.H10-260101-9{group:05}"
        for _ in range(group):
            plant(dossier(what=f"ma_ho_so = '{code}'"), next(done), ("twice", "CodeProfile", False))
    # How a result is returned and a fee is paid matters with the result only; a draft is not told of.
    plant(dossier(what="hinh_thuc_tra = 'bo_cau'"), next(working))
    plant(dossier(what="thu_tuc_id = 999, don_vi_id = 999, tai_khoan_id = 99999, kenh_nop = 'zalo'"), next(drafts))

    report = reported.report(code=1)
    assert found(report) == planted
    assert len(report["faults"]) == len(planted)
    assert report["summary"]["held"] == len({key for _, key, _, holds in planted if holds})
    assert report["summary"]["faulty"] == len({key for _, key, *_ in planted})
    kinds = report["summary"]["faults"]
    assert kinds == {kind: len([1 for told, *_ in planted if told == kind]) for kind in kinds}
    text = reported.run("report", code=1).stdout + str(report)
    assert not [word for word in PERSONAL if word in text]
    assert reported.report("--unit", "000.00.03.H10", code=1)["summary"]["faulty"] < report["summary"]["faulty"]

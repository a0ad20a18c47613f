"""A mapping to change in tests, and rows in memory to look at with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from connector.change.record import Row, Value
from connector.errors import ConfigError, ConfigErrors
from connector.mapping.compile import compile_text

MAPPING = """\
mapping:
  dossier: {table: motcua.ho_so}
  children:
    payments: {table: motcua.thanh_toan, belongs_to: ho_so_id, order_by: id}
  references:
    service: {table: motcua.thu_tuc, match: {id: thu_tuc_id}}
    unit: {table: motcua.don_vi, match: {id: service.don_vi_id}}
    account: {table: motcua.tai_khoan, match: {id: tai_khoan_id}}
  milestones:
    received: {ngay_tiep_nhan: {set: true}, ma_ho_so: {set: true}}
    processing: {trang_thai: [dang_xu_ly, cho_ky]}
    result: {trang_thai: da_tra_ket_qua}
    other: {all: [{trang_thai: [tra_lai, huy]}, {ngay_tiep_nhan: {set: true}}]}
  CodeProfile: ma_ho_so
  SiteId: 327
  CodeTTHC: service.ma
  NameTTHC: service.ten
  Level: {of: service.muc_do, is: {4: 4, 3: 3}, else: 0}
  FormsReception: {of: kenh_nop, is: {truc_tuyen: online, truc_tiep: in_person}}
  Result: {of: hinh_thuc_tra, is: {mot_cua: desk, vnpost: vnpost}}
  FormsPayments:
    of: {last: payments, where: {trang_thai: da_thanh_toan}, column: hinh_thuc}
    is: {qua_mang: online, tai_quay: in_person}
  IsFromDVCQG: tu_dvcqg
  User:
    type: {of: account.loai, is: {doanh_nghiep: business, ca_nhan: citizen}}
    account: {coalesce: [account.ten, account.ma]}
    location: unit.ma_dinh_danh
"""


@dataclass
class Rows:
    """A DossierView over rows in memory; notes what it was asked."""

    dossier: Row = field(default_factory=dict)
    child_rows: dict[str, list[Row]] = field(default_factory=dict)
    references: dict[tuple[str, str, Value], Row] = field(default_factory=dict)
    asked: list[tuple[str, str, Value]] = field(default_factory=list)

    def children(self, table: str) -> Sequence[Row]:
        return self.child_rows.get(table, [])

    def reference(self, table: str, column: str, value: Value) -> Row | None:
        self.asked.append((table, column, value))
        return self.references.get((table, column, value))


def broken(text: str) -> list[ConfigError]:
    """The errors of a mapping that does not compile."""
    with pytest.raises(ConfigErrors) as caught:
        compile_text(text, "m.yml")
    return list(caught.value.errors)


@pytest.fixture
def mapping() -> str:
    """A complete mapping of a small one-stop schema."""
    return MAPPING


@pytest.fixture
def rows() -> Rows:
    """One dossier, received and in work, with everything it names."""
    return Rows(
        dossier={
            "ma_ho_so": "000.00.11.H56-191203-1508",
            "ngay_tiep_nhan": 1_700_000_000_000_000,
            "trang_thai": "cho_ky",
            "thu_tuc_id": 7,
            "tai_khoan_id": 3,
            "kenh_nop": "truc_tuyen",
            "hinh_thuc_tra": "vnpost",
            "tu_dvcqg": False,
        },
        child_rows={
            "motcua.thanh_toan": [
                {"id": 1, "trang_thai": "da_thanh_toan", "hinh_thuc": "qua_mang"},
                {"id": 2, "trang_thai": "cho", "hinh_thuc": "tai_quay"},
            ]
        },
        references={
            ("motcua.thu_tuc", "id", 7): {"id": 7, "ma": "2.000082", "ten": "Cấp đổi", "muc_do": "4", "don_vi_id": 5},
            ("motcua.don_vi", "id", 5): {"id": 5, "ma_dinh_danh": "000.00.02.H10"},
            ("motcua.tai_khoan", "id", 3): {"id": 3, "loai": "ca_nhan", "ten": " ", "ma": "QG-1"},
        },
    )


@pytest.fixture
def errors_of() -> Callable[[str], list[ConfigError]]:
    """What is wrong with a mapping's text."""
    return broken

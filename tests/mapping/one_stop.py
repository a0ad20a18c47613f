"""A mapping to change in tests, and rows in memory to look at with it."""

from __future__ import annotations

from collections.abc import Sequence
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
    return list(caught.value.problems)

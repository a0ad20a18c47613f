"""A mapping to change in tests, and the rows of one dossier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from one_stop import MAPPING, Rows, broken

from connector.errors import ConfigError


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

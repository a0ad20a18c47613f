"""Made-up people, businesses and addresses, drawn from a seeded generator. Nobody here exists."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

FAMILIES = (
    "Nguyễn",
    "Trần",
    "Lê",
    "Phạm",
    "Hoàng",
    "Vũ",
    "Đặng",
    "Bùi",
    "Đỗ",
    "Hồ",
    "Ngô",
    "Dương",
    "Lý",
    "Trịnh",
    "Mai",
)
MIDDLES = {
    "nam": ("Văn", "Đức", "Hữu", "Quang", "Minh", "Xuân", "Công", "Đình", "Bá", "Thế"),
    "nu": ("Thị", "Thị Ngọc", "Thị Thu", "Thị Thanh", "Thị Kim", "Thùy", "Phương", "Khánh"),
}
GIVEN = {
    "nam": (
        "An",
        "Bình",
        "Cường",
        "Dũng",
        "Đạt",
        "Giang",
        "Hải",
        "Hùng",
        "Khoa",
        "Long",
        "Nghĩa",
        "Phúc",
        "Sơn",
        "Tuấn",
        "Việt",
    ),
    "nu": (
        "Ánh",
        "Bích",
        "Chi",
        "Diễm",
        "Hạnh",
        "Hằng",
        "Huyền",
        "Lan",
        "Mai",
        "Nhung",
        "Quỳnh",
        "Thảo",
        "Trang",
        "Uyên",
        "Yến",
    ),
}
PLACES = (
    "thôn Đông Thịnh, xã Đông Khê",
    "thôn Văn Bắc, xã Đông Văn",
    "khu phố Nhuệ Sâm, thị trấn Rừng Thông",
    "phố Quyết Thắng, phường Điện Biên",
    "thôn Phú Lọc, xã Quảng Phú",
    "phố Tân An, phường Ngọc Trạo",
    "thôn Yên Bình, xã Đông Yên",
    "đường Lê Lợi, phường Lam Sơn",
)
TRADES = (
    "Thương mại",
    "Xây dựng",
    "Vận tải",
    "Nông sản",
    "Dịch vụ bưu chính",
    "May mặc",
    "Chế biến thực phẩm",
    "Cơ khí",
)
BRANDS = ("Hồng Đức", "Lam Kinh", "Hàm Rồng", "Sông Mã", "Tân Phát", "Thành Đạt", "Bảo Ngọc", "An Khang", "Đại Việt")
OFFICERS = ("Lê Thị Hòa", "Nguyễn Văn Thủy", "Trịnh Đình Ký", "Phạm Thị Tuyết", "Hoàng Minh Đức", "Mai Thị Liễu")


class Person(NamedTuple):
    """The personal data of one dossier: exactly what must never leave the legacy database."""

    name: str
    paper: str
    born: date
    address: str
    phone: str


def person(random: Random) -> Person:
    sex = random.choice(("nam", "nu"))
    return Person(
        f"{random.choice(FAMILIES)} {random.choice(MIDDLES[sex])} {random.choice(GIVEN[sex])}",
        f"0{random.randrange(10**10, 10**11)}",
        date(1950, 1, 1) + timedelta(days=random.randrange(20_000)),
        f"Số {random.randrange(1, 400)}, {random.choice(PLACES)}",
        f"09{random.randrange(10**7, 10**8)}",
    )


def business(random: Random) -> str:
    """A company's name."""
    kind = random.choice(("Công ty TNHH", "Công ty cổ phần", "Doanh nghiệp tư nhân"))
    return f"{kind} {random.choice(TRADES)} {random.choice(BRANDS)}"


def content(random: Random) -> str:
    """What the citizen wrote; one in five has attachments in it, 10 to 40 KB that do not compress (so: TOASTed)."""
    words = random.choice(
        (
            "Đề nghị giải quyết theo quy định.",
            "Kính đề nghị quý cơ quan xem xét, giải quyết hồ sơ của tôi.",
            "Tôi cam đoan lời khai trên là đúng sự thật và chịu trách nhiệm trước pháp luật.",
            "Bổ sung giấy tờ theo yêu cầu của bộ phận một cửa; đính kèm ảnh chụp bản chính.",
        )
    )
    if random.random() < 0.2:
        return f"{words}\n{base64.b64encode(random.randbytes(random.randrange(8_000, 30_000))).decode()}"
    return words

"""What names and words of Vietnamese administrative systems usually mean. Pure.

Names are compared without diacritics, case and separators, so that `MaHoSo`, `ma_ho_so` and `Mã hồ sơ` are one. Words
(values) are compared as words with single spaces. Whatever this page says is a proposal: who uses it marks it so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def folded(text: str) -> str:
    """Lower-case words without diacritics, one space between them: `DaTraKQ`, `da_tra_kq` → `da tra kq`."""
    plain = unicodedata.normalize("NFD", text).replace("đ", "d").replace("Đ", "D")
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9]+", _CAMEL.sub(" ", plain).lower()))


def compact(text: str) -> str:
    """`folded` in one piece."""
    return folded(text).replace(" ", "")


# --- tables ---------------------------------------------------------------------------------------------------------

TABLES: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "dossier": re.compile(r"hoso|dossier|profile|(^|tbl|tb)hs(tthc|motcua|mc)?$"),
        "service": re.compile(r"thutuc|tthc|serviceinfo|procedure|dichvucong|publicservice|^dvc$|^services?$"),
        "unit": re.compile(
            r"donvi|coquan|govagency|agency|agencies|phongban|tochuc|^units?$|organi[sz]ation|department"
        ),
        "account": re.compile(r"taikhoan|nguoidung|account|congdan|applicant|nguoinop|^users?$"),
        "payment": re.compile(r"thanhtoan|payment|bienlai|hoadon|thuphi|lephi"),
    }
)
BESIDE = re.compile(
    r"dinhkem|attach|file|log$|nhatky|lichsu|history|thanhphan|loai|temp|tmp|bak(up)?|backup|cauhinh|config|quytrinh"
    r"|action|hanhdong|qua?trinh|tiendo|giayto|mau|phieu|comment|ykien|user|role|phien|detail|chitiet|kho|danhmuc|^dm"
)
"""What names of tables beside the one that is looked for have in them."""

# --- columns --------------------------------------------------------------------------------------------------------

COLUMNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "number": re.compile(
            r"^(ma(so)?|so|code|no)(hoso|hs|dossier|profile)$|^(hoso|dossier|profile)(ma|so|code|no|number)$|"
            r"^(ma|so)biennhan$|^maso?hoso"
        ),
        "status": re.compile(
            r"^(ma|id)?(trangthai|tinhtrang|(dossier|profile|payment)?status|state)(id|code|ma|hoso|hs)?$"
        ),
        "received": re.compile(
            r"^(ngay(gio)?|thoigian|thoidiem)?(tiep)?nhan(hoso|hs)?(luc|ngay)?$|^ngaythuly|^receive"
        ),
        "reception": re.compile(
            r"^(ma|id)?(kenh|hinhthuc|nguon|phuongthuc)(nop|tiepnhan|nhanhoso|hoso)?(hoso|hs)?(id)?$|^online|^tructuyen|"
            r"^nop(truc|online)"
        ),
        "returning": re.compile(
            r"^(ma|id)?(hinhthuc|kenh|cach|phuongthuc|noi)(tra|nhan)(kq|ketqua)?(id)?$|^viapostal$"
        ),
        "portal": re.compile(r"^(tu|la|is|from|nguon|qua)*(dvcqg|congdvcqg|congquocgia|dvcquocgia|nationalportal)$"),
        "service_code": re.compile(r"^(ma|code)?(so)?(thutuc|tthc|dichvucong|dvc|service|procedure)(ma|code|no)?$"),
        "service_name": re.compile(r"^(ten|name)(thutuc|tthc|dichvucong|dvc)$|^(service|procedure)name$"),
        "code": re.compile(r"^(ma|code|maso|symbol)$"),
        "name": re.compile(r"^(ten|name|tieude|title|tengoi|mota)"),
        "level": re.compile(r"^(ma|id)?(mucdo|muc|level|maxlevel|servicelevel|mucdodvc)(dvc|id|dichvu|thutuc)?$"),
        "unit_code": re.compile(r"^ma(so)?dinhdanh|^(govagency|agency|unit)code$|^ma(donvi|coquan|dv)$"),
        "user_type": re.compile(
            r"^(ma|id)?(loai|kieu|doituong|type)(taikhoan|tk|nguoinop|nguoidung|doituong|khachhang|chutheho?so)?(id)?$|"
            r"^(applicantid|user|account)type$"
        ),
        "account": re.compile(
            r"^id(dvcqg|diaphuong|quocgia|local|qg)|^(tendangnhap|username|login|mataikhoan|accountid)$"
        ),
        "paid_by": re.compile(r"^(ma|id)?(hinhthuc|phuongthuc|kenh|loai|cach)(thanhtoan|tt|nop|tra)?(id)?$|method$"),
        "amount": re.compile(r"sotien|amount|thanhtien|^lephi|^phi$"),
    }
)
PERSONAL = re.compile(
    r"hoten|hovaten|tennguoi|tenchu|nguoi(nop|yeucau|nhan)$|diachi|address|email|thudientu|dienthoai|phone|telno|sodt|cmnd|cccd"
    r"|giayto|sodinhdanh|idno$|ngaysinh|birth|matkhau|password|applicantname|contactname|ghichu|noidung|note"
)
"""Columns whose values are a person's; they are never sampled for words."""


def concept_of(name: str, concepts: Mapping[str, re.Pattern[str]]) -> str | None:
    """The first concept that a name fits."""
    text = compact(name)
    return next((concept for concept, pattern in concepts.items() if pattern.search(text)), None)


# --- words ----------------------------------------------------------------------------------------------------------


def _words(*patterns: tuple[str, str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Patterns over folded words; a space stands for a space or nothing."""
    return tuple((word, re.compile(rf"\b(?:{pattern.replace(' ', ' ?')})\b")) for word, pattern in patterns)


STATUS = _words(
    ("waiting", r"(cho |yeu cau )?bo sung( ho so)?|cho nop|waiting|supplement"),
    ("before", r"moi( dang ky| nop| tao)?|nhap|ban nhap|draft|new|cho tiep nhan|chua tiep nhan|luu tam|receiving"),
    ("processing", r"cho (tra|ky|duyet|phe duyet|xu ly)( ket qua| kq)?|chua tra"),
    ("result", r"da tra( ket qua| kq)?|tra ket qua|hoan thanh|da hoan thanh|done|completed|finished|ket thuc"),
    ("other", r"tra lai|tu choi|da huy|huy( ho so| bo)?|rut( ho so)?|da rut|cancel(led)?|denied|rejected|unresolved"),
    ("processing", r"(dang )?(xu ly|giai quyet|tham dinh|thu ly)|trinh ky|phe duyet|processing|in progress|posting"),
    ("processing", r"pausing|interoperating|correcting|releasing"),
    ("received", r"(da )?tiep nhan|received|accepted"),
)
RECEPTION = _words(
    ("online", r"truc tuyen|online|qua mang|dvc( qg)?|cong dvc|true|mobile|app|web"),
    ("in_person", r"truc tiep|tai quay|mot cua|in person|false|quay|bo phan mot cua"),
)
RETURNING = _words(
    ("other_post", r"buu chinh khac|other post|chuyen phat( nhanh)?"),
    ("vnpost", r"vn post|vnpost|buu chinh cong ich|bccinop|bcci"),
    ("desk", r"mot cua|tai quay|truc tiep|quay|bo phan mot cua|desk"),
    ("online", r"dien tu|truc tuyen|online|ban dien tu|email"),
)
PAID = _words(
    (
        "unpaid",
        r"chua( nop| thanh toan)?|cho( thanh toan)?|hoan( tien)?|huy|unpaid|pending|refund(ed)?|failed|that bai",
    ),
    ("paid", r"da (thanh toan|nop|thu|dong)|thanh cong|paid|success|completed"),
)
PAID_BY = _words(
    ("in_person", r"tien mat|truc tiep|tai quay|cash|quay"),
    (
        "online",
        r"dvc qg|vi dien tu|truc tuyen|online|cong thanh toan|key ?pay(dvcqg)?|viettel ?pay|momo|qr",
    ),
)
USER_TYPE = _words(
    ("business", r"doanh nghiep|to chuc|business|company|dn"),
    ("citizen", r"ca nhan|cong dan|citizen|nguoi dan|cn"),
    ("officer", r"can bo|officer|cbcc"),
)
LEVEL = _words(
    ("4", r"4|toan trinh|muc( do)? 4"),
    ("3", r"3|mot phan|muc( do)? 3"),
    ("0", r"0|1|2|cung cap thong tin|muc( do)? [12]"),
)


def meant(word: str, among: Iterable[tuple[str, re.Pattern[str]]]) -> str | None:
    """What a word usually means, or None."""
    text = folded(word)
    return next((meaning for meaning, pattern in among if pattern.search(text)), None)


# --- persons --------------------------------------------------------------------------------------------------------

_SURNAMES = frozenset(
    {"nguyen", "tran", "le", "pham", "hoang", "huynh", "phan", "vu", "vo", "dang", "bui", "do", "ngo", "duong", "ly"}
    | {"dinh", "trinh", "mai", "cao", "luong", "luu", "ha", "to"}
)


def looks_personal(word: str) -> bool:
    """Whether a value may be a person's: a name, a long number, an e-mail address."""
    if "@" in word or re.search(r"\d{6}", word):
        return True
    parts = word.split()
    capital = len(parts) > 1 and all(part[:1].isupper() for part in parts)
    return capital and folded(parts[0]) in _SURNAMES

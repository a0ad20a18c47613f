"""The guide's rules, numbered: what an event must satisfy before EMC is told.

Contract: `check` looks at one event and nothing else, never fails, and returns its findings in the order of `RULES`.
Ids are stable: they stand in the simulator's answers, in dead letters and in docs/emc.md; a rule that is given up
leaves a gap. `source` names the line of the guide ("Hướng dẫn kỹ thuật kết nối EMC", attached to 1043/BTTTT-CĐSQG,
Appendix 1, part III) that the rule is read from. An *error* means that the guide does not allow the event; a *warning*
that it is unlike what the guide shows, though it may be right. Texts hold no values: a finding can be logged.

Not a rule here, because an event alone cannot show it: that FormsReception is the true channel of reception at levels
3 and 4 (`parameters` takes it from the facts), and whether a level 4 dossier counts as online as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from connector.emc.event import EmcEvent, EmcUser

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `parameter` is the guide's name of what it is about; `holds` is true of an event that keeps it."""

    id: str
    severity: Severity
    parameter: str
    vi: str
    en: str
    source: str
    holds: Callable[[EmcEvent], bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that an event does not keep; `rule` is its id."""

    rule: str
    severity: Severity
    parameter: str
    vi: str
    en: str


RESULT = 3
ONLINE, IN_PERSON = 1, 2

_DOSSIER_NUMBER = re.compile(r"\d{3}\.\d{2}\.\d{2}\.[A-Z]\d{2}-\d{6}-\d{4,}\Z", re.ASCII)
_UNIT = re.compile(r"\d{3}\.\d{2}\.\d{2}\.[A-Z]\d{2}\Z", re.ASCII)
# The guide only says "no special characters"; read as: letters of any language, digits, blanks and . , - _ /
_PLAIN = re.compile(r"[\w .,\-/]*\Z")


def check(event: EmcEvent) -> tuple[Finding, ...]:
    """Every rule that the event does not keep; empty when it may be sent as it is."""
    return tuple(
        Finding(rule.id, rule.severity, rule.parameter, rule.vi, rule.en) for rule in RULES if not rule.holds(event)
    )


def _one_identifier(user: EmcUser) -> bool:
    local_only = bool(user.ID_local) and user.ID_QG is None
    national_only = bool(user.ID_QG) and user.ID_local is None
    match user.TYPE:
        case 1:
            return local_only
        case 2:
            return national_only
        case 3:
            # Which one an officer carries is open (setting `officer_id`); that there is one is not.
            return local_only or national_only
    return True  # EMC-16 has it


def _table(parameter: str) -> str:
    return f"bảng tham số, dòng {parameter}"


RULES: tuple[Rule, ...] = (
    Rule(
        "EMC-01",
        "error",
        "CodeProfile",
        "Mã hồ sơ không được để trống",
        "the dossier number must not be empty",
        _table("CodeProfile"),
        lambda event: bool(event.CodeProfile.strip()),
    ),
    Rule(
        "EMC-02",
        "warning",
        "CodeProfile",
        "Mã hồ sơ không theo mẫu 000.00.11.H56-191203-1508",
        "the dossier number does not have the form of 000.00.11.H56-191203-1508",
        _table("CodeProfile") + ", cột ví dụ",
        lambda event: not event.CodeProfile.strip() or _DOSSIER_NUMBER.match(event.CodeProfile) is not None,
    ),
    Rule(
        "EMC-03",
        "error",
        "SiteId",
        "Mã website phải là số nguyên dương do EMC cấp cho đơn vị",
        "the website id must be the positive whole number that EMC gave the agency",
        _table("SiteId"),
        lambda event: event.SiteId >= 1,
    ),
    Rule(
        "EMC-04",
        "error",
        "CodeTTHC",
        "Mã thủ tục hành chính không được để trống",
        "the procedure code must not be empty",
        _table("CodeTTHC"),
        lambda event: bool(event.CodeTTHC.strip()),
    ),
    Rule(
        "EMC-05",
        "error",
        "NameTTHC",
        "Tên thủ tục hành chính không được để trống",
        "the procedure name must not be empty",
        _table("NameTTHC"),
        lambda event: bool(event.NameTTHC.strip()),
    ),
    Rule(
        "EMC-06",
        "error",
        "Status",
        "Trạng thái chỉ nhận 0, 1, 2 hoặc 3",
        "the status must be 0, 1, 2 or 3",
        _table("Status"),
        lambda event: event.Status in (0, 1, 2, RESULT),
    ),
    Rule(
        "EMC-07",
        "error",
        "FormsReception",
        "Hình thức chỉ nhận 1 (trực tuyến) hoặc 2 (trực tiếp)",
        "the form must be 1 (online) or 2 (in person)",
        _table("FormsReception"),
        lambda event: event.FormsReception in (ONLINE, IN_PERSON),
    ),
    Rule(
        "EMC-08",
        "error",
        "FormsPayments",
        "Hình thức thanh toán chỉ nhận 0 hoặc Null (không thanh toán), 1 (trực tuyến), 2 (trực tiếp)",
        "the form of payment must be 0 or Null (none), 1 (online) or 2 (in person)",
        _table("FormsPayments"),
        lambda event: event.FormsPayments in (0, ONLINE, IN_PERSON),
    ),
    Rule(
        "EMC-09",
        "error",
        "Level",
        "Mức dịch vụ công chỉ nhận 4 (toàn trình), 3 (một phần) hoặc 0 (cung cấp thông tin)",
        "the service level must be 4 (fully online), 3 (partly online) or 0 (information only)",
        _table("Level"),
        lambda event: event.Level in (0, 3, 4),
    ),
    Rule(
        "EMC-10",
        "error",
        "IsFromDVCQG",
        "Tiếp nhận từ Cổng Dịch vụ công quốc gia chỉ nhận 0 hoặc 1",
        "received from the National Public Service Portal must be 0 or 1",
        _table("IsFromDVCQG"),
        lambda event: event.IsFromDVCQG in (0, 1),
    ),
    Rule(
        "EMC-11",
        "error",
        "IsDVCBC",
        "Dịch vụ bưu chính chỉ nhận 0 (không qua bưu chính), 1 (VNPost) hoặc 2 (đơn vị khác)",
        "the post service must be 0 (none), 1 (VNPost) or 2 (another)",
        _table("IsDVCBC"),
        lambda event: event.IsDVCBC in (0, 1, 2),
    ),
    Rule(
        "EMC-12",
        "error",
        "FormsReception",
        "Dịch vụ cung cấp thông tin trực tuyến (Level 0) phải có hình thức 2, trừ khi trả kết quả (Status 3)",
        "an information-only service (Level 0) has form 2, except when the result is returned (Status 3)",
        "lưu ý về tham số Level, dòng Level = 0",
        lambda event: event.Level != 0 or event.Status == RESULT or event.FormsReception == IN_PERSON,
    ),
    Rule(
        "EMC-13",
        "error",
        "IsDVCBC",
        "Trả kết quả qua bưu chính (IsDVCBC 1 hoặc 2) chỉ đi với Status 3",
        "a result sent by post (IsDVCBC 1 or 2) goes only with Status 3",
        "lưu ý khi trả kết quả, dòng trả qua dịch vụ bưu chính",
        lambda event: event.IsDVCBC not in (1, 2) or event.Status == RESULT,
    ),
    Rule(
        "EMC-14",
        "error",
        "FormsReception",
        "Trả kết quả qua bưu chính (IsDVCBC 1 hoặc 2) phải có FormsReception 1",
        "a result sent by post (IsDVCBC 1 or 2) has FormsReception 1",
        "lưu ý khi trả kết quả, dòng trả qua dịch vụ bưu chính",
        lambda event: event.IsDVCBC not in (1, 2) or event.FormsReception == ONLINE,
    ),
    Rule(
        "EMC-15",
        "error",
        "FormsPayments",
        "Thanh toán (FormsPayments 1 hoặc 2) chỉ đi với Status 3",
        "a payment (FormsPayments 1 or 2) goes only with Status 3",
        "lưu ý khi thanh toán, cả ba dòng",
        lambda event: event.FormsPayments not in (1, 2) or event.Status == RESULT,
    ),
    Rule(
        "EMC-16",
        "error",
        "User",
        "TYPE chỉ nhận 1 (doanh nghiệp), 2 (cá nhân) hoặc 3 (cán bộ một cửa)",
        "TYPE must be 1 (business), 2 (citizen) or 3 (one-stop officer)",
        _table("User"),
        lambda event: event.User.TYPE in (1, 2, 3),
    ),
    Rule(
        "EMC-17",
        "error",
        "User",
        "User phải có đúng một mã tài khoản theo TYPE: 1 dùng ID_local, 2 dùng ID_QG, 3 dùng một trong hai",
        "User carries exactly the one account id of its TYPE: 1 ID_local, 2 ID_QG, 3 either of them",
        "lưu ý về tham số User, cả hai dòng",
        lambda event: _one_identifier(event.User),
    ),
    Rule(
        "EMC-18",
        "error",
        "User",
        "LOCATION (mã định danh của đơn vị phụ trách hồ sơ) không được để trống",
        "LOCATION (the identifier of the unit in charge of the dossier) must not be empty",
        "lưu ý về tham số User, cả hai dòng",
        lambda event: bool(event.User.LOCATION.strip()),
    ),
    Rule(
        "EMC-19",
        "warning",
        "User",
        "LOCATION không theo mẫu mã định danh 000.00.02.H10",
        "LOCATION does not have the form of 000.00.02.H10",
        "lưu ý về tham số User, ví dụ của cả hai dòng",
        lambda event: not event.User.LOCATION.strip() or _UNIT.match(event.User.LOCATION) is not None,
    ),
    Rule(
        "EMC-20",
        "warning",
        "Data",
        "Dữ liệu khác không nên có ký tự đặc biệt (chỉ chữ, số, dấu cách và . , - _ /)",
        "other data should have no special characters (letters, digits, blanks and . , - _ / only)",
        "phần II (cổng dịch vụ công), dữ liệu kèm theo mã hồ sơ",
        lambda event: _PLAIN.match(event.Data) is not None,
    ),
)

"""The guide's rules on one event, numbered (Appendix 1, part III; source lines are the guide's own headings).

Contract: `check` returns what is wrong with an event as data, never raises and never alters the event: EMC wants raw
data, so a finding is told to people, not repaired. An `error` is what the guide excludes; a `warning` is what it makes
unlikely. Every rule has a test for both sides in tests/emc/test_rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from connector.emc.event import EmcEvent

Severity = Literal["error", "warning"]

# 000.00.11.H56-191203-1508: unit identifier, day, number.
_CODE_PROFILE = re.compile(r"^\d{3}(\.\d{2}){2}\.[A-Z]\d{2}-\d{6}-\d{1,6}$")
_LOCATION = re.compile(r"^\d{3}(\.\d{2}){2}\.[A-Z]\d{2}$")
_CODE_TTHC = re.compile(r"^\d\.\d{6}(\.[0-9A-Z.]+)?$")
_SPECIAL = re.compile(r"[<>'\";\\{}]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `broken` tells whether an event breaks it."""

    id: str
    severity: Severity
    vi: str
    en: str
    source: str
    broken: Callable[[EmcEvent], bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that an event breaks."""

    rule: Rule


def check(event: EmcEvent) -> tuple[Finding, ...]:
    """Every rule that the event breaks, in the order of their ids."""
    return tuple(Finding(rule) for rule in RULES if rule.broken(event))


def _one_identifier(event: EmcEvent) -> bool:
    user = event.User
    local, national = bool(user.ID_local), bool(user.ID_QG)
    match user.TYPE:
        case 1:
            return not (local and not national)
        case 2:
            return not (national and not local)
        case _:
            return local == national


RULES: tuple[Rule, ...] = (
    Rule(
        "EMC-01", "error", "Thiếu mã hồ sơ", "The dossier number is missing", "CodeProfile", lambda e: not e.CodeProfile
    ),
    Rule(
        "EMC-02",
        "warning",
        "Mã hồ sơ không đúng dạng 000.00.11.H56-191203-1508",
        "The dossier number is not of the form 000.00.11.H56-191203-1508",
        "CodeProfile",
        lambda e: bool(e.CodeProfile) and not _CODE_PROFILE.match(e.CodeProfile),
    ),
    Rule("EMC-03", "error", "SiteId phải là số dương", "SiteId must be positive", "SiteId", lambda e: e.SiteId < 1),
    Rule("EMC-04", "error", "Thiếu mã TTHC", "The procedure code is missing", "CodeTTHC", lambda e: not e.CodeTTHC),
    Rule(
        "EMC-05",
        "warning",
        "Mã TTHC không đúng dạng 2.000082",
        "The procedure code is not of the form 2.000082",
        "CodeTTHC",
        lambda e: bool(e.CodeTTHC) and not _CODE_TTHC.match(e.CodeTTHC),
    ),
    Rule("EMC-06", "error", "Thiếu tên TTHC", "The procedure's name is missing", "NameTTHC", lambda e: not e.NameTTHC),
    Rule(
        "EMC-07",
        "error",
        "Status phải là 0, 1, 2 hoặc 3",
        "Status must be 0, 1, 2 or 3",
        "Status",
        lambda e: e.Status not in (0, 1, 2, 3),
    ),
    Rule(
        "EMC-08",
        "error",
        "FormsReception phải là 1 hoặc 2",
        "FormsReception must be 1 or 2",
        "FormsReception",
        lambda e: e.FormsReception not in (1, 2),
    ),
    Rule(
        "EMC-09",
        "error",
        "FormsPayments phải là 0, 1 hoặc 2",
        "FormsPayments must be 0, 1 or 2",
        "FormsPayments",
        lambda e: e.FormsPayments not in (0, 1, 2),
    ),
    Rule(
        "EMC-10",
        "error",
        "Level phải là 0, 3 hoặc 4",
        "Level must be 0, 3 or 4",
        "Level",
        lambda e: e.Level not in (0, 3, 4),
    ),
    Rule(
        "EMC-11",
        "error",
        "IsFromDVCQG phải là 0 hoặc 1",
        "IsFromDVCQG must be 0 or 1",
        "IsFromDVCQG",
        lambda e: e.IsFromDVCQG not in (0, 1),
    ),
    Rule(
        "EMC-12",
        "error",
        "IsDVCBC phải là 0, 1 hoặc 2",
        "IsDVCBC must be 0, 1 or 2",
        "IsDVCBC",
        lambda e: e.IsDVCBC not in (0, 1, 2),
    ),
    Rule(
        "EMC-13",
        "error",
        "Level = 0 thì FormsReception = 2 (trừ khi trả kết quả)",
        "Level 0 means FormsReception 2 (but at the result)",
        "Lưu ý, Level",
        lambda e: e.Level == 0 and e.Status != 3 and e.FormsReception != 2,
    ),
    Rule(
        "EMC-14",
        "error",
        "Trả qua bưu chính (IsDVCBC 1, 2) chỉ đi với Status = 3 và FormsReception = 1",
        "A result by post (IsDVCBC 1, 2) goes only with Status 3 and FormsReception 1",
        "Lưu ý, trả kết quả",
        lambda e: e.IsDVCBC in (1, 2) and not (e.Status == 3 and e.FormsReception == 1),
    ),
    Rule(
        "EMC-15",
        "error",
        "Thanh toán (FormsPayments 1, 2) chỉ đi với Status = 3",
        "A payment (FormsPayments 1, 2) goes only with Status 3",
        "Lưu ý, thanh toán",
        lambda e: e.FormsPayments in (1, 2) and e.Status != 3,
    ),
    Rule(
        "EMC-16",
        "error",
        "TYPE phải là 1, 2 hoặc 3",
        "TYPE must be 1, 2 or 3",
        "User",
        lambda e: e.User.TYPE not in (1, 2, 3),
    ),
    Rule(
        "EMC-17",
        "error",
        "User phải có đúng một định danh: ID_local với TYPE 1, ID_QG với TYPE 2",
        "User has exactly one identifier: ID_local with TYPE 1, ID_QG with TYPE 2",
        "Lưu ý, User",
        _one_identifier,
    ),
    Rule(
        "EMC-18",
        "error",
        "Thiếu LOCATION, mã định danh của đơn vị phụ trách",
        "LOCATION, the unit in charge, is missing",
        "Lưu ý, User",
        lambda e: not e.User.LOCATION,
    ),
    Rule(
        "EMC-19",
        "warning",
        "LOCATION không đúng dạng 000.00.02.H10",
        "LOCATION is not of the form 000.00.02.H10",
        "Lưu ý, User",
        lambda e: bool(e.User.LOCATION) and not _LOCATION.match(e.User.LOCATION),
    ),
    Rule(
        "EMC-20",
        "warning",
        "Data có ký tự đặc biệt",
        "Data holds special characters",
        "Phần II (cổng): dữ liệu không có ký tự đặc biệt",
        lambda e: bool(_SPECIAL.search(e.Data)),
    ),
)

"""What the history of one dossier must not show: findings over its judgements, one after the other. Pure.

Contract: `step` takes what is remembered of a dossier and its facts after one more source transaction, and tells what
that step shows for the first time. Nothing is altered: the events are what they are, the findings go to the report.
Texts hold no values. Ids are stable.

| id     | severity | found when                                                                             |
|--------|----------|----------------------------------------------------------------------------------------|
| HIS-01 | error    | the result was returned, and is so no more                                              |
| HIS-02 | warning  | the dossier was received, and is so no more                                             |
| HIS-03 | error    | it is processed, or its result is returned, and it was never received                   |
| HIS-04 | warning  | the service level has changed                                                           |
| HIS-05 | warning  | the dossier number has changed                                                          |
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.emc.rules import Finding, Severity
from connector.mapping.facts import Facts, Milestone

RECEIVED, PROCESSING, RESULT = Milestone.RECEIVED, Milestone.PROCESSING, Milestone.RESULT


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered. reached: after the last step; ever: after any; found: ids of what was told already."""

    reached: frozenset[Milestone] = frozenset()
    ever: frozenset[Milestone] = frozenset()
    level: int | None = None
    code: str | None = None
    found: frozenset[str] = frozenset()


NO_PAST = Past()

_TEXTS: dict[str, tuple[Severity, str, str, str]] = {
    "HIS-01": ("error", "Status", "Đã trả kết quả rồi lại thành chưa trả", "the result was returned, then was not"),
    "HIS-02": ("warning", "Status", "Đã tiếp nhận rồi lại thành chưa tiếp nhận", "it was received, then was not"),
    "HIS-03": (
        "error",
        "Status",
        "Đang xử lý hoặc đã trả kết quả mà chưa từng được tiếp nhận",
        "it is processed or its result is returned, but it was never received",
    ),
    "HIS-04": ("warning", "Level", "Mức dịch vụ công thay đổi giữa chừng", "the service level changes on the way"),
    "HIS-05": ("warning", "CodeProfile", "Mã hồ sơ thay đổi giữa chừng", "the dossier number changes on the way"),
}
HISTORY_RULES = tuple(_TEXTS)


def step(past: Past, facts: Facts) -> tuple[Past, tuple[Finding, ...]]:
    """One more judgement. A dossier without a number is not looked at: nothing of it was told."""
    if facts.code_profile is None:
        return past, ()
    ever = past.ever | facts.reached
    shown = {
        "HIS-01": RESULT in past.reached and RESULT not in facts.reached,
        "HIS-02": RECEIVED in past.reached and RECEIVED not in facts.reached,
        "HIS-03": RECEIVED not in ever and bool(facts.reached & {PROCESSING, RESULT}),
        "HIS-04": None not in (past.level, facts.level) and past.level != facts.level,
        "HIS-05": past.code is not None and past.code != facts.code_profile,
    }
    new = [name for name, holds in shown.items() if holds and name not in past.found]
    level = past.level if facts.level is None else facts.level
    now = Past(facts.reached, ever, level, facts.code_profile, past.found.union(new))
    return now, tuple(Finding(name, *_TEXTS[name]) for name in new)

"""Every rule from both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from emc_events import RECEIVED, allowed_events, any_event
from hypothesis import given

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.rules import RULES, check

RESULT = replace(RECEIVED, Status=3)


def an(event: EmcEvent = RECEIVED, **changes: Any) -> EmcEvent:
    return replace(event, **changes)


def user(local: str | None, national: str | None, kind: int, location: str = "000.00.02.H10") -> EmcEvent:
    return replace(RECEIVED, User=EmcUser(local, national, kind, location))


CASES: dict[str, tuple[list[EmcEvent], list[EmcEvent]]] = {
    # rule: (events that keep it, events that break it)
    "EMC-01": ([RECEIVED, an(CodeProfile="x")], [an(CodeProfile=""), an(CodeProfile=" ")]),
    "EMC-02": (
        [RECEIVED, an(CodeProfile="000.13.54.H29-191023-0001"), an(CodeProfile="")],
        [
            an(CodeProfile="191203-1508"),
            an(CodeProfile="000.00.11.H56-191203-1508 "),
            an(CodeProfile="000.00.11.h56-191203-1508"),
            an(CodeProfile="000.00.11.H56-20191203-1508"),
            an(CodeProfile="000.00.11.H56-191203-٠٠٠١"),
        ],
    ),
    "EMC-03": ([RECEIVED, an(SiteId=1)], [an(SiteId=0), an(SiteId=-327)]),
    "EMC-04": ([RECEIVED], [an(CodeTTHC=""), an(CodeTTHC="\t")]),
    "EMC-05": ([RECEIVED], [an(NameTTHC=""), an(NameTTHC="  ")]),
    "EMC-06": ([an(Status=status) for status in (0, 1, 2, 3)], [an(Status=-1), an(Status=4)]),
    "EMC-07": ([an(FormsReception=1), an(FormsReception=2)], [an(FormsReception=0), an(FormsReception=3)]),
    "EMC-08": (
        [an(RESULT, FormsPayments=payment) for payment in (0, 1, 2)],
        [an(RESULT, FormsPayments=-1), an(RESULT, FormsPayments=3)],
    ),
    "EMC-09": (
        [an(Level=4), an(Level=3), an(Level=0, FormsReception=2)],
        [an(Level=1), an(Level=2), an(Level=5), an(Level=-1)],
    ),
    "EMC-10": ([an(IsFromDVCQG=0), an(IsFromDVCQG=1)], [an(IsFromDVCQG=2), an(IsFromDVCQG=-1)]),
    "EMC-11": (
        [an(RESULT, IsDVCBC=post) for post in (0, 1, 2)],
        [an(RESULT, IsDVCBC=3), an(RESULT, IsDVCBC=-1)],
    ),
    "EMC-12": (
        [
            *(an(Level=0, FormsReception=2, Status=status) for status in (0, 1, 2, 3)),
            an(RESULT, Level=0, FormsReception=1),
            an(Level=3, FormsReception=1),
        ],
        [an(Level=0, FormsReception=1, Status=status) for status in (0, 1, 2)],
    ),
    "EMC-13": (
        [an(RESULT, IsDVCBC=1), an(RESULT, IsDVCBC=2), RECEIVED],
        [an(IsDVCBC=1), an(IsDVCBC=2, Status=2), an(IsDVCBC=1, Status=0)],
    ),
    "EMC-14": (
        [an(RESULT, IsDVCBC=1), an(RESULT, IsDVCBC=2), an(RESULT, FormsReception=2)],
        [an(RESULT, IsDVCBC=1, FormsReception=2), an(RESULT, IsDVCBC=2, FormsReception=2)],
    ),
    "EMC-15": (
        [an(RESULT, FormsPayments=1), an(RESULT, FormsPayments=2), RECEIVED],
        [an(FormsPayments=1), an(FormsPayments=2, Status=2), an(FormsPayments=1, Status=0)],
    ),
    "EMC-16": (
        [user("a", None, 1), user(None, "a", 2), user("a", None, 3)],
        [user("a", None, 0), user(None, "a", 4)],
    ),
    "EMC-17": (
        [user("a", None, 1), user(None, "a", 2), user("a", None, 3), user(None, "a", 3)],
        [
            user(None, "a", 1),
            user("a", "b", 1),
            user("", None, 1),
            user("a", None, 2),
            user("a", "b", 2),
            user("", "b", 2),
            user(None, None, 3),
            user("a", "b", 3),
            user("", "", 3),
        ],
    ),
    "EMC-18": ([RECEIVED], [user(None, "a", 2, ""), user(None, "a", 2, " ")]),
    "EMC-19": (
        [RECEIVED, user(None, "a", 2, "000.00.00.G22"), user(None, "a", 2, "")],
        [
            user(None, "a", 2, "H10"),
            user(None, "a", 2, "000.00.02.H10.1"),
            user(None, "a", 2, "000.00.02.10"),
        ],
    ),
    "EMC-20": (
        [an(Data=""), an(Data="Lĩnh vực: không"[:8]), an(Data="a-1, b_2/c.")],
        [an(Data="a;b"), an(Data="<b>"), an(Data='"'), an(Data="dòng\nmới"), an(Data="a&b")],
    ),
}


def test_every_rule_has_cases_and_an_id_of_its_own() -> None:
    """No rule is without a test, and ids are numbered in order without repetition."""
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))
    assert set(ids) == set(CASES)
    assert all(keep and broken for keep, broken in CASES.values())


@pytest.mark.parametrize("rule", CASES)
def test_events_that_keep_a_rule_are_not_found(rule: str) -> None:
    """Nothing is found against what the guide allows."""
    for event in CASES[rule][0]:
        assert rule not in {finding.rule for finding in check(event)}, event


@pytest.mark.parametrize("rule", CASES)
def test_events_that_break_a_rule_are_found(rule: str) -> None:
    """The finding carries the rule's id, severity and both texts."""
    told = next(each for each in RULES if each.id == rule)
    for event in CASES[rule][1]:
        found = {finding.rule: finding for finding in check(event)}
        assert rule in found, event
        assert (found[rule].severity, found[rule].vi, found[rule].en) == (told.severity, told.vi, told.en)


def test_only_shapes_are_warned_of() -> None:
    """A rule is an error unless it is about the look of a value that the guide does not fix."""
    assert {rule.id for rule in RULES if rule.severity == "warning"} == {"EMC-02", "EMC-19", "EMC-20"}


def test_the_plain_event_keeps_every_rule() -> None:
    """The guide's own example passes without a warning."""
    assert check(RECEIVED) == ()


@given(allowed_events())
def test_allowed_events_have_no_errors(event: EmcEvent) -> None:
    """Nothing that the guide's notes allow is called an error."""
    assert [finding.rule for finding in check(event) if finding.severity == "error"] == []


@given(any_event)
def test_checking_never_fails(event: EmcEvent) -> None:
    """Any event can be checked, and the findings stand in the order of the rules."""
    found = [finding.rule for finding in check(event)]
    assert found == sorted(found)


def test_texts_hold_no_values() -> None:
    """What a finding says is the same for every event, so that it can be logged."""
    secret = "0912345678"
    event = replace(RECEIVED, CodeProfile=secret, Data=f"<{secret}>", User=EmcUser(secret, secret, 9, secret))
    assert check(event)
    assert secret not in repr(check(event))

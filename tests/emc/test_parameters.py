"""Facts → parameters, against the guide's notes line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from emc_events import FACTS, RECEIVED, all_facts
from hypothesis import given
from hypothesis import strategies as st

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.parameters import Incomplete, parameters
from connector.emc.rules import check
from connector.mapping.facts import (
    Channel,
    Facts,
    Milestone,
    PaymentChannel,
    ResultChannel,
    UserFacts,
    UserType,
)
from connector.settings import EmcSettings

SETTINGS = EmcSettings()
BEFORE_RESULT = (Milestone.RECEIVED, Milestone.PROCESSING, Milestone.OTHER)


def event(facts: Facts, status: Milestone, settings: EmcSettings = SETTINGS) -> EmcEvent:
    made = parameters(facts, status, settings)
    assert isinstance(made, EmcEvent), made
    return made


def test_an_online_dossier_is_received() -> None:
    """The plain case, every parameter."""
    assert event(FACTS, Milestone.RECEIVED) == RECEIVED


@pytest.mark.parametrize("status", BEFORE_RESULT)
def test_before_the_result_the_form_is_the_channel_of_reception(status: Milestone) -> None:
    """Level 3 and 4: received online is 1, received in person is 2; post and payment are not told yet."""
    facts = replace(FACTS, payment=PaymentChannel.ONLINE, result=ResultChannel.VNPOST)
    online, desk = event(facts, status), event(replace(facts, reception=Channel.IN_PERSON, level=3), status)
    assert (online.FormsReception, desk.FormsReception) == (1, 2)
    assert (online.IsDVCBC, online.FormsPayments) == (0, 0)
    assert (online.Status, desk.Status) == (status.value, status.value)


@pytest.mark.parametrize(
    ("way", "form", "post"),
    [
        (ResultChannel.DESK, 2, 0),
        (ResultChannel.ONLINE, 1, 0),
        (ResultChannel.VNPOST, 1, 1),
        (ResultChannel.OTHER_POST, 1, 2),
    ],
)
@pytest.mark.parametrize("reception", Channel)
@pytest.mark.parametrize("level", [0, 3, 4])
def test_at_the_result_the_form_is_the_way_of_returning(
    way: ResultChannel, form: int, post: int, reception: Channel, level: int
) -> None:
    """The notes on returning the result, whatever the reception and the level were."""
    told = event(replace(FACTS, result=way, reception=reception, level=level), Milestone.RESULT)
    assert (told.Status, told.FormsReception, told.IsDVCBC) == (3, form, post)


@pytest.mark.parametrize(
    ("payment", "form"), [(PaymentChannel.NONE, 0), (PaymentChannel.ONLINE, 1), (PaymentChannel.IN_PERSON, 2)]
)
def test_the_payment_is_told_with_the_result(payment: PaymentChannel, form: int) -> None:
    """The notes on payment: all three lines carry Status 3."""
    assert event(replace(FACTS, payment=payment), Milestone.RESULT).FormsPayments == form


@pytest.mark.parametrize("status", BEFORE_RESULT)
@pytest.mark.parametrize("reception", [Channel.ONLINE, None])
def test_level_0_is_received_in_person(status: Milestone, reception: Channel | None) -> None:
    """The note on Level 0; the channel of reception need not even be known."""
    assert event(replace(FACTS, level=0, reception=reception), status).FormsReception == 2


@pytest.mark.parametrize(
    ("kind", "officer_id", "user"),
    [
        (UserType.BUSINESS, "ID_QG", EmcUser("abc", None, 1, "000.00.02.H10")),
        (UserType.CITIZEN, "ID_local", EmcUser(None, "abc", 2, "000.00.02.H10")),
        (UserType.OFFICER, "ID_local", EmcUser("abc", None, 3, "000.00.02.H10")),
        (UserType.OFFICER, "ID_QG", EmcUser(None, "abc", 3, "000.00.02.H10")),
    ],
)
def test_the_user_carries_the_account_of_its_type(kind: UserType, officer_id: str, user: EmcUser) -> None:
    """The notes on User, and the setting for what the guide leaves open."""
    facts = replace(FACTS, user=UserFacts(kind, "abc", "000.00.02.H10"))
    assert event(facts, Milestone.RECEIVED, EmcSettings.model_validate({"officer_id": officer_id})).User == user


def test_what_is_unknown_is_named() -> None:
    """Every unknown fact at once, by the guide's name, without a value."""
    facts = replace(
        FACTS,
        code_tthc=None,
        name_tthc=None,
        level=None,
        from_dvcqg=None,
        reception=None,
        user=UserFacts(None, None, None),
    )
    made = parameters(facts, Milestone.RECEIVED, SETTINGS)
    assert isinstance(made, Incomplete)
    assert [reason.split()[0] for reason in made.reasons] == [
        "CodeTTHC",
        "NameTTHC",
        "Level",
        "IsFromDVCQG",
        "User.type",
        "User.account",
        "User.location",
        "FormsReception",
    ]


def test_the_result_needs_its_own_facts_only() -> None:
    """At Status 3 the way of returning and the payment must be known, the reception need not; before, the reverse."""
    unknown = replace(FACTS, result=None, payment=None)
    assert event(unknown, Milestone.RECEIVED) == RECEIVED
    made = parameters(unknown, Milestone.RESULT, SETTINGS)
    assert isinstance(made, Incomplete)
    assert [reason.split()[0] for reason in made.reasons] == ["Result", "FormsPayments"]
    assert event(replace(FACTS, reception=None), Milestone.RESULT).FormsReception == 2


def test_a_missing_reference_makes_an_event_incomplete() -> None:
    """What the mapping could not find is told in its own words."""
    facts = replace(FACTS, missing=("unit: no row in motcua.don_vi",))
    assert parameters(facts, Milestone.RECEIVED, SETTINGS) == Incomplete(("unit: no row in motcua.don_vi",))


def test_no_reason_holds_a_value() -> None:
    """Reasons are shown to operators and may be logged."""
    facts = replace(FACTS, level=None, user=UserFacts(UserType.CITIZEN, "0912345678", "000.00.02.H10"))
    assert "0912345678" not in repr(parameters(facts, Milestone.RECEIVED, SETTINGS))


@given(all_facts, st.sampled_from(tuple(Milestone)))
def test_complete_facts_make_events_that_keep_the_rules(facts: Facts, status: Milestone) -> None:
    """No combination of facts leads to an event that the guide does not allow."""
    made = parameters(facts, status, SETTINGS)
    if isinstance(made, EmcEvent):
        assert [finding.rule for finding in check(made) if finding.severity == "error"] == []

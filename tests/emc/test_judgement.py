"""When an event is due: the table's rows one by one, then whole lives against a naive reading of the same table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from emc_events import FACTS, all_facts, any_event, lives, reached, settings_variants
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.emc.event import EmcEvent
from connector.emc.judgement import NOTHING_TOLD, Told, Verdict, dump_told, judge, load_told, quiet
from connector.emc.parameters import Incomplete, parameters
from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel, UserFacts
from connector.settings import EmcSettings

RECEIVED, PROCESSING, RESULT, OTHER = Milestone
WITH_RESULT = EmcSettings()
IMMEDIATE = EmcSettings(payment="immediate")


def live(*commits: Facts, settings: EmcSettings = WITH_RESULT, told: Told | None = None) -> list[Verdict]:
    """Judge a life, commit by commit."""
    verdicts = []
    for facts in commits:
        verdict = judge(told, facts, settings)
        told = verdict.told
        verdicts.append(verdict)
    return verdicts


def due(*commits: Facts, **changes: Any) -> list[list[int]]:
    """The Status of what every commit of a life owes."""
    return [[event.Status for event in verdict.due] for verdict in live(*commits, **changes)]


def test_a_life_owes_each_milestone_once() -> None:
    """Received, in process, result, with commits between that change nothing."""
    assert due(
        reached(),
        reached(RECEIVED),
        reached(RECEIVED),
        reached(RECEIVED, PROCESSING),
        reached(RECEIVED, RESULT),
        reached(RECEIVED, RESULT),
    ) == [[], [1], [], [2], [3], []]


def test_one_commit_may_reach_several() -> None:
    """Accepted means received and in process: both are owed, in the order of a life, `other` last."""
    assert due(reached(RECEIVED, PROCESSING)) == [[1, 2]]
    assert due(reached(*Milestone)) == [[1, 2, 3, 0]]


def test_a_milestone_that_is_lost_owes_again() -> None:
    """Taken back to work after the result: in process, then the result, once more each."""
    assert due(
        reached(RECEIVED, PROCESSING), reached(RECEIVED, RESULT), reached(RECEIVED, PROCESSING), reached(RESULT)
    ) == [[1, 2], [3], [2], [3]]


def test_nothing_is_due_without_a_dossier_number() -> None:
    """What it had reached does not count, and is owed when the number comes."""
    nameless = reached(RECEIVED, PROCESSING, code_profile=None)
    assert due(nameless, replace(nameless, code_profile=""), reached(RECEIVED, PROCESSING)) == [[], [], [1, 2]]


def test_a_number_that_is_taken_away_makes_the_dossier_owe_again() -> None:
    """No milestone counts as reached while there is no number."""
    assert due(reached(RECEIVED), reached(RECEIVED, code_profile=None), reached(RECEIVED)) == [[1], [], [1]]


def test_a_change_corrects_the_last_event() -> None:
    """The unit in charge changes: the last event goes again, once, with the new unit."""
    moved = UserFacts(FACTS.user.type, FACTS.user.account, "000.00.03.H10")
    _, corrected, after = live(
        reached(RECEIVED, PROCESSING),
        reached(RECEIVED, PROCESSING, user=moved),
        reached(RECEIVED, PROCESSING, user=moved),
    )
    assert [(event.Status, event.User.LOCATION) for event in corrected.due] == [(2, "000.00.03.H10")]
    assert after.due == ()


def test_a_change_of_what_the_last_event_does_not_tell_is_no_correction() -> None:
    """The way of returning and the payment are told with the result only."""
    changed = reached(RECEIVED, result=ResultChannel.VNPOST, payment=PaymentChannel.ONLINE)
    assert due(reached(RECEIVED), changed) == [[1], []]


def test_a_payment_after_the_result_corrects_it() -> None:
    """Payment with the result: a later payment is a corrected Status 3 event."""
    _, paid = live(reached(RESULT), reached(RESULT, payment=PaymentChannel.IN_PERSON))
    assert [(event.Status, event.FormsPayments) for event in paid.due] == [(3, 2)]


def test_a_new_milestone_carries_the_change_itself() -> None:
    """There is no correction beside a milestone's event."""
    renamed = reached(RECEIVED, PROCESSING, name_tthc="Tên mới")
    _, verdict = live(reached(RECEIVED), renamed)
    assert [(event.Status, event.NameTTHC) for event in verdict.due] == [(2, "Tên mới")]


def test_what_is_unknown_holds_the_event_back() -> None:
    """Nothing is due and nothing advances until the fact is known; the reason is told once."""
    unknown = reached(RECEIVED, PROCESSING, level=None)
    held, let_go = live(unknown, reached(RECEIVED, PROCESSING))
    assert (held.due, held.told, held.held) == ((), NOTHING_TOLD, ("Level is unknown",))
    assert [event.Status for event in let_go.due] == [1, 2]


def test_one_unknown_event_holds_all_of_its_commit() -> None:
    """The result cannot be told yet, so that in process is not told ahead of its commit's judgement."""
    held, let_go = live(reached(PROCESSING, RESULT, result=None), reached(PROCESSING, RESULT))
    assert (held.due, held.told) == ((), NOTHING_TOLD)
    assert [event.Status for event in let_go.due] == [2, 3]


def test_a_missing_reference_holds_what_is_due() -> None:
    """Held with the mapping's own words; not held when nothing is due."""
    missing = ("unit: no row in motcua.don_vi",)
    held, never = (
        judge(None, reached(RECEIVED, missing=missing), WITH_RESULT),
        judge(None, reached(missing=missing), WITH_RESULT),
    )
    assert (held.due, held.held) == ((), missing)
    assert (never.due, never.held) == ((), ())


def test_a_correction_is_held_while_its_milestone_stands() -> None:
    """What EMC was told may be wrong by now, and cannot be put right yet: that must be seen."""
    told, held, put_right = live(
        reached(RESULT), reached(RESULT, result=None), reached(RESULT, result=ResultChannel.VNPOST)
    )
    assert (held.due, held.told) == ((), told.told)
    assert held.held == ("Result (how the result is returned) is unknown",)
    assert [(event.Status, event.IsDVCBC) for event in put_right.due] == [(3, 1)]


def test_a_correction_of_what_holds_no_more_is_not_held() -> None:
    """A result that was taken back together with its way of returning leaves nothing to put right."""
    _, taken_back, again = live(reached(RECEIVED, RESULT), reached(RECEIVED, result=None), reached(RECEIVED, RESULT))
    assert (taken_back.due, taken_back.held) == ((), ())
    assert [event.Status for event in again.due] == [3]


def test_attaching_is_quiet() -> None:
    """What a dossier had reached before is not owed; what comes after is, corrections included."""
    told = quiet(reached(RECEIVED, PROCESSING), WITH_RESULT)
    renamed = reached(RECEIVED, PROCESSING, name_tthc="Tên mới")
    assert due(reached(RECEIVED, PROCESSING), told=told) == [[]]
    assert due(renamed, told=told) == [[2]]
    assert due(reached(RECEIVED, RESULT), told=told) == [[3]]


def test_attaching_to_what_is_unknown_compares_with_nothing() -> None:
    """When the last milestone's event cannot be made there is no correction, least of all of an earlier milestone."""
    told = quiet(reached(RECEIVED, RESULT, result=None), WITH_RESULT)
    assert told == Told(frozenset({RECEIVED, RESULT}), None)
    assert due(reached(RECEIVED, RESULT), told=told) == [[]]


def test_attaching_to_a_dossier_without_a_number_is_no_event() -> None:
    """It owes everything when it gets its number."""
    told = quiet(reached(RECEIVED, code_profile=None), WITH_RESULT)
    assert due(reached(RECEIVED), told=told) == [[1]]


class TestPaymentAtOnce:
    """`payment: immediate`."""

    def test_a_payment_before_the_result_is_told_at_once(self) -> None:
        """A Status 3 event with the payment, once; the result carries it again."""
        paid = {"payment": PaymentChannel.ONLINE}
        verdicts = live(
            reached(RECEIVED),
            reached(RECEIVED, **paid),
            reached(RECEIVED, **paid),
            reached(RECEIVED, PROCESSING, **paid),
            reached(RECEIVED, RESULT, **paid),
            settings=IMMEDIATE,
        )
        told = [[(event.Status, event.FormsPayments) for event in verdict.due] for verdict in verdicts]
        assert told == [[(1, 0)], [(3, 1)], [], [(2, 0)], [(3, 1)]]

    def test_a_payment_before_reception_waits_for_it(self) -> None:
        """EMC does not know the dossier yet; reception is told first, a return after it."""
        paid = {"payment": PaymentChannel.ONLINE}
        assert due(reached(**paid), reached(RECEIVED, **paid), settings=IMMEDIATE) == [[], [1, 3]]
        assert due(reached(RECEIVED, OTHER, **paid), settings=IMMEDIATE) == [[1, 3, 0]]

    def test_a_payment_with_the_result_is_told_by_it(self) -> None:
        """One Status 3 event, not two."""
        assert due(reached(RECEIVED), reached(RESULT, payment=PaymentChannel.ONLINE), settings=IMMEDIATE) == [[1], [3]]

    def test_a_payment_after_the_result_is_a_correction(self) -> None:
        """As with `with_result`: one Status 3 event."""
        after = reached(RESULT, payment=PaymentChannel.IN_PERSON)
        assert due(reached(RESULT), after, after, settings=IMMEDIATE) == [[3], [3], []]

    def test_a_payment_while_a_result_is_taken_back_is_told_once(self) -> None:
        """The correction of the result has it; a payment event beside it would say the same again."""
        taken_back = reached(RECEIVED, payment=PaymentChannel.ONLINE)
        assert due(reached(RECEIVED, RESULT), taken_back, settings=IMMEDIATE) == [[1, 3], [3]]

    def test_a_payment_after_an_end_that_has_a_result_is_not_told(self) -> None:
        """Nor is it with `with_result`: what was told last is the other end."""
        for variant in (WITH_RESULT, IMMEDIATE):
            paid = reached(RESULT, OTHER, payment=PaymentChannel.ONLINE)
            assert due(reached(RESULT, OTHER), paid, settings=variant) == [[3, 0], []]

    def test_a_payment_taken_back_is_told_when_it_is_made_again(self) -> None:
        """Nothing at the refund, and the new payment at once."""
        assert due(
            reached(RECEIVED, payment=PaymentChannel.ONLINE),
            reached(RECEIVED),
            reached(RECEIVED, payment=PaymentChannel.IN_PERSON),
            settings=IMMEDIATE,
        ) == [[1, 3], [], [3]]

    def test_a_payment_of_unknown_form_is_no_news(self) -> None:
        """Unknown is not paid, and does not make the known payment news when it comes back."""
        assert due(
            reached(RECEIVED, payment=PaymentChannel.ONLINE),
            reached(RECEIVED, payment=None),
            reached(RECEIVED, payment=PaymentChannel.ONLINE),
            settings=IMMEDIATE,
        ) == [[1, 3], [], []]

    def test_the_way_of_returning_may_be_unknown_yet(self) -> None:
        """It is the one asked for, else the channel of reception."""
        cases = (
            (Channel.ONLINE, None, 4, (1, 0)),
            (Channel.IN_PERSON, None, 4, (2, 0)),
            (None, None, 0, (2, 0)),
            (Channel.ONLINE, ResultChannel.DESK, 4, (2, 0)),
            (Channel.IN_PERSON, ResultChannel.OTHER_POST, 4, (1, 2)),
        )
        for reception, result, level, expected in cases:
            facts = reached(RECEIVED, reception=reception, result=result, level=level, payment=PaymentChannel.ONLINE)
            _, payment = judge(None, facts, IMMEDIATE).due
            assert (payment.FormsReception, payment.IsDVCBC) == expected

    def test_a_correction_goes_on_comparing_with_the_milestone(self) -> None:
        """After the payment was told, a changed name is told under the dossier's own Status."""
        paid = {"payment": PaymentChannel.ONLINE}
        assert due(reached(RECEIVED, **paid), reached(RECEIVED, name_tthc="Tên mới", **paid), settings=IMMEDIATE) == [
            [1, 3],
            [1],
        ]

    def test_a_payment_told_before_attaching_is_not_told_again(self) -> None:
        """The baseline counts as told."""
        paid = reached(RECEIVED, payment=PaymentChannel.ONLINE)
        assert due(paid, told=quiet(paid, IMMEDIATE), settings=IMMEDIATE) == [[]]


class Naive:
    """The table of the docstring, read row by row with plain numbers; knows nothing of how `judge` is built."""

    def __init__(self, settings: EmcSettings) -> None:
        self.settings = settings
        self.held_statuses: set[int] = set()
        self.last: EmcEvent | None = None
        self.paid = PaymentChannel.NONE

    def event(self, facts: Facts, status: int) -> EmcEvent | Incomplete:
        return parameters(facts, Milestone(status), self.settings)

    def step(self, facts: Facts) -> tuple[list[EmcEvent], bool]:
        """What is due, and whether something is held."""
        if not facts.code_profile:
            self.held_statuses = set()
            return [], False
        now = {milestone.value for milestone in facts.reached}
        wanted = [status for status in (1, 2, 3, 0) if status in now - self.held_statuses]
        events = [self.event(facts, status) for status in wanted]
        last: EmcEvent | Incomplete | None = events[-1] if events else self.last
        if not wanted and self.last is not None:
            again = self.event(facts, self.last.Status)
            if again != self.last and (isinstance(again, EmcEvent) or self.last.Status in now):
                events, last = [again], again
        if self.settings.payment == "immediate" and now and facts.payment is not None:
            covered = 3 in now or (not wanted and self.last is not None and self.last.Status == 3)
            if facts.payment.value != "none" and facts.payment != self.paid and not covered:
                some = facts
                if facts.result is None and (facts.level == 0 or facts.reception is not None):
                    desk = facts.level == 0 or facts.reception is Channel.IN_PERSON
                    some = replace(facts, result=ResultChannel.DESK if desk else ResultChannel.ONLINE)
                place = len(events) - (1 if 0 in wanted else 0)
                events.insert(place, self.event(some, 3))
        if any(isinstance(event, Incomplete) for event in events):
            return [], True
        assert not isinstance(last, Incomplete)
        self.held_statuses, self.last = now, last
        if self.settings.payment == "immediate" and now and facts.payment is not None:
            self.paid = facts.payment
        return [event for event in events if isinstance(event, EmcEvent)], False


@settings(max_examples=300)
@given(st.sampled_from((WITH_RESULT, IMMEDIATE)), lives() | st.lists(all_facts, max_size=8))
def test_whole_lives_agree_with_the_naive_reading(variant: EmcSettings, life: list[Facts]) -> None:
    """Any sequence of facts owes what the table says, also through the stored form of the state."""
    naive, told = Naive(variant), None
    for facts in life:
        verdict = judge(None if told is None else load_told(dump_told(told)), facts, variant)
        events, held = naive.step(facts)
        assert list(verdict.due) == events
        assert bool(verdict.held) is held
        told = verdict.told


@given(settings_variants, st.none() | all_facts, all_facts)
def test_what_holds_at_any_judgement(settings: EmcSettings, before: Facts | None, facts: Facts) -> None:
    """Held advances nothing; judging the same facts again owes nothing; every event is of this dossier."""
    told = None if before is None else quiet(before, settings)
    verdict = judge(told, facts, settings)
    if verdict.held:
        assert verdict.due == ()
        assert verdict.told == (told or NOTHING_TOLD)
    else:
        assert judge(verdict.told, facts, settings) == Verdict(verdict.told, ())
    assert {event.CodeProfile for event in verdict.due} <= {facts.code_profile}


@given(settings_variants, all_facts)
def test_attaching_owes_nothing_for_what_is_there(settings: EmcSettings, facts: Facts) -> None:
    """The same facts after the baseline owe nothing, unless something of them is unknown."""
    assert judge(quiet(facts, settings), facts, settings).due == ()


@given(st.frozensets(st.sampled_from(tuple(Milestone))), st.none() | any_event, st.sampled_from(tuple(PaymentChannel)))
def test_the_state_survives_its_stored_form(
    milestones: frozenset[Milestone], last: EmcEvent | None, paid: PaymentChannel
) -> None:
    """Dump then load gives the state; the bytes are UTF-8 JSON."""
    told = Told(milestones, last, paid)
    assert load_told(dump_told(told)) == told
    json.loads(dump_told(told).decode("utf-8"))


@given(any_event)
def test_a_state_with_names_is_read(last: EmcEvent) -> None:
    """What a state file of before holds, the last event with its parameters' names, is the same state."""
    stored = json.dumps([[1], asdict(last), "none"]).encode()
    assert load_told(stored) == Told(frozenset({Milestone.RECEIVED}), last)

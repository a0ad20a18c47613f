"""When an event is due: a pure state machine, one step per dossier and source transaction.

State of a dossier (`Told`): which milestones held after the last judgement, the last event that was due, and the
payment that was reported ahead of the result.

| before                     | facts now                                | due                                        |
|----------------------------|------------------------------------------|--------------------------------------------|
| anything                   | no dossier number                        | nothing; no milestone counts as reached    |
| milestone not reached      | its condition holds                      | its event                                  |
| several not reached        | their conditions hold                    | received, processing, result, other        |
| reached                    | its condition holds no more              | nothing; owes again when reached again     |
| none newly reached         | the last event's parameters have changed | the last event's Status, corrected         |
| none newly reached         | unchanged parameters                     | nothing                                    |
| an event would be due      | a fact or reference it needs is unknown  | nothing yet: held, and the state stays     |
| `immediate`, no result yet | paid, and not as it was reported         | Status 3 with the payment, before `other`  |

A correction whose milestone holds no more is made when it can be and given up when a fact of it is unknown: what EMC
was told was right when it was told, and there is nothing that should be held for it.

With `payment: immediate`, a payment made before the result owes a Status 3 event at the commit that shows it, in the
place of the result's event in the order above; one made before the dossier is received waits for that. Its way of
returning is the one the dossier asks for, and the channel of reception while that is unknown. It is not the dossier's
last event: corrections go on comparing with the milestone's, because to repeat Status 3 before the result would tell
EMC a second time of a result that is not there. A payment taken back before the result owes nothing; the result's own
event tells how it ended. Once the result was told, a payment is an ordinary correction of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from operator import attrgetter

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.parameters import Incomplete, parameters
from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel
from connector.settings import EmcSettings

# Made once: json.dumps makes an encoder at every call.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Straight from the slots: every judgement is stored, and `dataclasses.asdict` costs eight times as much.
_values = attrgetter(*(name for name in EmcEvent.__slots__ if name != "User"))
_user_values = attrgetter(*EmcUser.__slots__)
_WIDTH = len(EmcEvent.__slots__) - 1

LIFE = (Milestone.RECEIVED, Milestone.PROCESSING, Milestone.RESULT, Milestone.OTHER)
"""The order in which milestones that are reached by one commit owe their events."""


@dataclass(frozen=True, slots=True)
class Told:
    """What EMC has been told of a dossier, or is taken as told.

    reached: the milestones that held after the last judgement; last: the last milestone's event, as corrected;
    paid: the payment that was reported before the result (`payment: immediate` only).
    """

    reached: frozenset[Milestone]
    last: EmcEvent | None
    paid: PaymentChannel = PaymentChannel.NONE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judgement says. `held`: why an event that is due cannot be made yet; then `told` is what it was."""

    told: Told
    due: tuple[EmcEvent, ...]
    held: tuple[str, ...] = ()


NOTHING_TOLD = Told(frozenset(), None)


def judge(told: Told | None, facts: Facts, settings: EmcSettings) -> Verdict:
    """One judgement, after all changes of one source transaction. `told` is None for a dossier not judged before."""
    before = told or NOTHING_TOLD
    if not facts.code_profile:
        return Verdict(replace(before, reached=frozenset()), ())
    newly = [milestone for milestone in LIFE if milestone in facts.reached and milestone not in before.reached]
    corrected = None if newly or before.last is None else Milestone(before.last.Status)
    last: EmcEvent | Incomplete | None = before.last
    made: list[EmcEvent | Incomplete] = []
    if corrected is not None:
        now = parameters(facts, corrected, settings)
        stands = corrected in facts.reached or isinstance(now, EmcEvent)
        if stands and now != before.last:
            last = now
            made.append(now)
    pays_ahead = corrected is not Milestone.RESULT and _paid_ahead(before, facts, settings)
    for milestone in LIFE:
        if milestone in newly:
            last = parameters(facts, milestone, settings)
            made.append(last)
        elif milestone is Milestone.RESULT and pays_ahead:
            made.append(parameters(_with_some_result(facts), milestone, settings))
    reasons = [reason for each in made if isinstance(each, Incomplete) for reason in each.reasons]
    if reasons or isinstance(last, Incomplete):
        return Verdict(before, (), tuple(dict.fromkeys(reasons)))
    paid = before.paid
    if settings.payment == "immediate" and facts.reached and facts.payment is not None:
        paid = facts.payment
    return Verdict(Told(facts.reached, last, paid), tuple(each for each in made if isinstance(each, EmcEvent)))


def quiet(facts: Facts, settings: EmcSettings) -> Told:
    """The state of a dossier that lived before we attached: nothing is due for what it has already reached.

    Its last event is the one of the last milestone it has reached, so that corrections have something to compare
    with; None when that one cannot be made.
    """
    reached = facts.reached if facts.code_profile else frozenset()
    last: EmcEvent | Incomplete | None = None
    for milestone in LIFE:
        if milestone in reached:
            last = parameters(facts, milestone, settings)
    return Told(reached, last if isinstance(last, EmcEvent) else None, facts.payment or PaymentChannel.NONE)


def dump_told(told: Told) -> bytes:
    """Compact bytes for the state store: the event's values without their names, in the order of their declaration."""
    last = told.last
    values = None if last is None else [*_values(last), *_user_values(last.User)]
    return _json([sorted(milestone.value for milestone in told.reached), values, told.paid.value]).encode()


def load_told(stored: bytes) -> Told:
    """The reverse of `dump_told`. A state file of before may hold the event with its names."""
    reached, last, paid = json.loads(stored)
    match last:
        case None:
            event = None
        case dict():
            event = event_from(last)
        case _:
            event = EmcEvent(*[*last[:_WIDTH], EmcUser(*last[_WIDTH:])])
    return Told(frozenset(map(Milestone, reached)), event, PaymentChannel(paid))


def event_from(stored: dict[str, object]) -> EmcEvent:
    """An event from its `dataclasses.asdict` form."""
    user = stored["User"]
    assert isinstance(user, dict)
    return EmcEvent(**{**stored, "User": EmcUser(**user)})  # type: ignore[arg-type]


def _paid_ahead(before: Told, facts: Facts, settings: EmcSettings) -> bool:
    """Whether a payment is owed an event of its own (only with `payment: immediate`)."""
    return (
        settings.payment == "immediate"
        and bool(facts.reached)
        and Milestone.RESULT not in facts.reached
        and facts.payment not in (None, PaymentChannel.NONE, before.paid)
    )


def _with_some_result(facts: Facts) -> Facts:
    """The facts with a way of returning, for a Status 3 event that comes before there is a result."""
    if facts.result is not None:
        return facts
    if facts.level == 0 or facts.reception is Channel.IN_PERSON:
        return replace(facts, result=ResultChannel.DESK)
    return facts if facts.reception is None else replace(facts, result=ResultChannel.ONLINE)

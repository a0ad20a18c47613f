"""When an event is due: a pure state machine, one step per dossier and source transaction.

State of a dossier (`Told`): which milestones held after the last judgement, and the last event that was due.

| before                     | facts now                                | due                                     |
|----------------------------|------------------------------------------|-----------------------------------------|
| anything                   | no dossier number                        | nothing; no milestone counts as reached |
| milestone not reached      | its condition holds                      | its event                               |
| several not reached        | their conditions hold                    | received, processing, result, other     |
| reached                    | its condition holds no more              | nothing; owes again when reached again  |
| none newly reached         | the last event's parameters have changed | the last event's Status, corrected      |
| none newly reached         | unchanged parameters                     | nothing                                 |
| an event would be due      | a fact or reference it needs is unknown  | held: nothing yet, the state stays      |
| `immediate`, no result yet | a payment appears                        | Status 3 with the payment, at once      |

With `payment: immediate`, the event of the payment does not become the event that corrections compare with.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.parameters import Incomplete, parameters
from connector.mapping.facts import Facts, Milestone, PaymentChannel
from connector.settings import EmcSettings

LIFE = (Milestone.RECEIVED, Milestone.PROCESSING, Milestone.RESULT, Milestone.OTHER)
"""The order in which milestones that are reached by one commit owe their events."""


@dataclass(frozen=True, slots=True)
class Told:
    """What EMC has been told of a dossier, or is taken as told.

    reached: the milestones that held after the last judgement; last: the last event that was due;
    paid: the payment that was reported before the result (`payment: immediate` only).
    """

    reached: frozenset[Milestone]
    last: EmcEvent | None
    paid: PaymentChannel = PaymentChannel.NONE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judgement says. `held`: why an event that is due cannot be made yet (the state then stays as it was)."""

    told: Told
    due: tuple[EmcEvent, ...]
    held: tuple[str, ...] = ()


NOTHING_TOLD = Told(frozenset(), None)


def judge(told: Told | None, facts: Facts, settings: EmcSettings) -> Verdict:
    """One judgement. `told` is None for a dossier that did not exist before."""
    before = told or NOTHING_TOLD
    reached = facts.reached if facts.code_profile else frozenset()
    events: list[EmcEvent] = []
    held: list[str] = []
    for milestone in LIFE:
        if milestone in reached and milestone not in before.reached:
            _make(facts, milestone, settings, events, held)
    last = events[-1] if events else before.last
    if not events and not held and before.last is not None and facts.code_profile:
        _make(facts, Milestone(before.last.Status), settings, events, held)
        if events and events[0] == before.last:
            events.clear()
        elif events:
            last = events[0]
    paid = before.paid
    if settings.payment == "immediate" and reached and not held:
        paid = facts.payment or PaymentChannel.NONE
        result_told = last is not None and last.Status == Milestone.RESULT.value
        if paid is not before.paid and paid is not PaymentChannel.NONE and not result_told:
            _make(facts, Milestone.RESULT, settings, events, held)
    if held:
        return Verdict(before, (), tuple(dict.fromkeys(held)))
    return Verdict(Told(reached, last, paid), tuple(events))


def quiet(facts: Facts, settings: EmcSettings) -> Told:
    """The state of a dossier that lived before we attached: nothing is due for what it has already reached."""
    reached = facts.reached if facts.code_profile else frozenset()
    last: EmcEvent | None = None
    for milestone in LIFE:
        if milestone in reached:
            event = parameters(facts, milestone, settings)
            last = event if isinstance(event, EmcEvent) else last
    return Told(reached, last, facts.payment or PaymentChannel.NONE)


def dump_told(told: Told) -> bytes:
    """Compact bytes for the state store."""
    last = None if told.last is None else asdict(told.last)
    body = [sorted(milestone.value for milestone in told.reached), last, told.paid.value]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def load_told(stored: bytes) -> Told:
    """The reverse of `dump_told`."""
    reached, last, paid = json.loads(stored)
    event = None if last is None else event_from(last)
    return Told(frozenset(map(Milestone, reached)), event, PaymentChannel(paid))


def event_from(stored: dict[str, object]) -> EmcEvent:
    """An event from its `dataclasses.asdict` form."""
    user = stored["User"]
    assert isinstance(user, dict)
    return EmcEvent(**{**stored, "User": EmcUser(**user)})  # type: ignore[arg-type]


def _make(facts: Facts, status: Milestone, settings: EmcSettings, events: list[EmcEvent], held: list[str]) -> None:
    event = parameters(facts, status, settings)
    if isinstance(event, Incomplete):
        held.extend(event.reasons)
    else:
        events.append(event)

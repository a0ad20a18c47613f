"""Whether a dossier counts as online, by the guide's Level 4 rule (Appendix 1, part III, notes). Pure.

A dossier of a fully online service (Level 4) counts as online when it was received, processed and returned online, and
paid online or not at all. A result by the public post (VNPost) is online; whether one by another post service is, the
letter leaves open (`emc.other_post_online`). The guide tells processing by the channel of reception: FormsReception of
Status 1 and 2 is the same fact. It is judged once the result is returned; until then a dossier is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel
from connector.settings import EmcSettings


@dataclass(frozen=True, slots=True)
class Standing:
    """How one dossier that EMC is told of counts.

    received_online: at any level; full: Level 4; returned: Level 4 with a result; online: by the rule.
    by_reception, by_result, by_payment: why a returned one is not online, each by itself; unsure: it is not counted as
    online because nobody knows one of these.
    """

    received_online: bool
    full: bool
    returned: bool
    online: bool
    by_reception: bool
    by_result: bool
    by_payment: bool
    unsure: bool


def standing(facts: Facts, settings: EmcSettings) -> Standing:
    """How a dossier counts."""
    full = facts.level == 4
    returned = full and Milestone.RESULT in facts.reached
    if not returned:
        return Standing(facts.reception is Channel.ONLINE, full, False, False, False, False, False, False)
    by_reception = facts.reception is Channel.IN_PERSON
    by_result = facts.result is ResultChannel.DESK or (
        facts.result is ResultChannel.OTHER_POST and not settings.other_post_online
    )
    by_payment = facts.payment is PaymentChannel.IN_PERSON
    unsure = None in (facts.reception, facts.result, facts.payment)
    return Standing(
        received_online=facts.reception is Channel.ONLINE,
        full=True,
        returned=True,
        online=not (by_reception or by_result or by_payment or unsure),
        by_reception=by_reception,
        by_result=by_result,
        by_payment=by_payment,
        unsure=unsure,
    )

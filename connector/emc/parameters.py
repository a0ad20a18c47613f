"""Facts → the parameters of one event, by the guide (Appendix 1, part III, notes).

One small pure module, because the guide gives some parameters a meaning that depends on the Status:

| parameter      | Status 0, 1, 2                          | Status 3                                       |
|----------------|-----------------------------------------|------------------------------------------------|
| FormsReception | channel of reception; 2 when Level is 0 | 2 handed over at the desk, 1 online or by post |
| IsDVCBC        | 0                                       | 1 VNPost, 2 another post service, else 0       |
| FormsPayments  | 0                                       | 0 none, 1 online, 2 in person                  |

User carries ID_local for TYPE 1 and ID_QG for TYPE 2; what TYPE 3 carries is open (setting `officer_id`).
Facts are not judged here: a level that the guide does not have goes through, and `rules` finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.emc.event import EmcEvent, EmcUser
from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel, UserType
from connector.settings import EmcSettings

ONLINE = 1
IN_PERSON = 2

_PAYMENT = {PaymentChannel.ONLINE: 1, PaymentChannel.IN_PERSON: 2, PaymentChannel.NONE: 0}
_CARRIER = {ResultChannel.VNPOST: 1, ResultChannel.OTHER_POST: 2}


@dataclass(frozen=True, slots=True)
class Incomplete:
    """An event that cannot be made: which facts are unknown, in the guide's words, without values."""

    reasons: tuple[str, ...]


_MEANING = {
    "Result": "Result (how the result is returned)",
    "FormsReception": "FormsReception (how the dossier was received)",
}


def unknown(facts: Facts, status: Milestone) -> tuple[str, ...]:
    """The mapping's keys (`Level`, `User.account`) of what the event of `status` needs and nobody knows."""
    user = facts.user
    names = [
        name
        for name, value in (
            ("CodeProfile", facts.code_profile),
            ("SiteId", facts.site_id),
            ("CodeTTHC", facts.code_tthc),
            ("NameTTHC", facts.name_tthc),
            ("Level", facts.level),
            ("IsFromDVCQG", facts.from_dvcqg),
            ("User.type", user.type),
            ("User.account", user.account),
            ("User.location", user.location),
        )
        if value is None
    ]
    if status is Milestone.RESULT:
        if facts.result is None:
            names.append("Result")
        if facts.payment is None:
            names.append("FormsPayments")
    elif facts.reception is None and facts.level != 0:
        names.append("FormsReception")
    return tuple(names)


def parameters(facts: Facts, status: Milestone, settings: EmcSettings) -> EmcEvent | Incomplete:
    """The event of `status` for these facts, or what is missing for it.

    Only what `status` needs must be known: the way of returning and the payment at Status 3, the channel of reception
    at the others (unless Level 0 makes it 2). A reference row that is missing makes every event incomplete.
    """
    lacking = unknown(facts, status)
    if lacking or facts.missing:
        return Incomplete((*facts.missing, *(f"{_MEANING.get(name, name)} is unknown" for name in lacking)))
    assert facts.code_profile is not None
    assert facts.site_id is not None
    assert facts.code_tthc is not None
    assert facts.name_tthc is not None
    assert facts.level is not None
    return EmcEvent(
        CodeProfile=facts.code_profile,
        SiteId=facts.site_id,
        CodeTTHC=facts.code_tthc,
        NameTTHC=facts.name_tthc,
        Status=status.value,
        FormsReception=_reception(facts, status),
        FormsPayments=_payment(facts, status),
        Level=facts.level,
        IsFromDVCQG=1 if facts.from_dvcqg else 0,
        IsDVCBC=_CARRIER.get(facts.result, 0) if status is Milestone.RESULT and facts.result is not None else 0,
        Data=facts.data or "",
        User=_user(facts, settings),
    )


def _reception(facts: Facts, status: Milestone) -> int:
    if status is Milestone.RESULT:
        return IN_PERSON if facts.result is ResultChannel.DESK else ONLINE
    if facts.level == 0:  # an information service is received at the desk only
        return IN_PERSON
    return ONLINE if facts.reception is Channel.ONLINE else IN_PERSON


def _payment(facts: Facts, status: Milestone) -> int:
    if status is not Milestone.RESULT or facts.payment is None:
        return 0
    return _PAYMENT[facts.payment]


def _user(facts: Facts, settings: EmcSettings) -> EmcUser:
    kind, account, location = facts.user.type, facts.user.account, facts.user.location
    assert kind is not None
    assert location is not None
    local = kind is UserType.BUSINESS or (kind is UserType.OFFICER and settings.officer_id == "ID_local")
    return EmcUser(
        ID_local=account if local else None,
        ID_QG=None if local else account,
        TYPE=kind.value,
        LOCATION=location,
    )

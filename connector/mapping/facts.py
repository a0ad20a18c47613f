"""What is true of one dossier, before EMC's rules are applied.

The mapping states facts; `connector.emc` turns them into the parameters of an event. Facts are in the guide's words,
but each has one meaning only (the guide's FormsReception has two: the reception channel, and at Status 3 the way the
result is returned; here they are `reception` and `result`).
A fact that is None is unknown (its columns are NULL, or no value-map line fits and there is no `else`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Milestone(Enum):
    """What a dossier can reach; the value is the guide's Status. Order of declaration is the order of a life."""

    RECEIVED = 1
    PROCESSING = 2
    RESULT = 3
    OTHER = 0


class Channel(Enum):
    """Reception: over the network or at the desk."""

    ONLINE = "online"
    IN_PERSON = "in_person"


class ResultChannel(Enum):
    """How the result is returned (guide, notes on IsDVCBC)."""

    DESK = "desk"
    ONLINE = "online"
    VNPOST = "vnpost"
    OTHER_POST = "other_post"


class PaymentChannel(Enum):
    """How fees were paid; NONE when nothing was due or nothing has been paid."""

    ONLINE = "online"
    IN_PERSON = "in_person"
    NONE = "none"


class UserType(Enum):
    """The guide's TYPE."""

    BUSINESS = 1
    CITIZEN = 2
    OFFICER = 3


@dataclass(frozen=True, slots=True)
class UserFacts:
    """Who acted, and the unit in charge (`location`). `account` is ID_local or ID_QG by `type`."""

    type: UserType | None
    account: str | None
    location: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """One dossier at one commit. `reached` are the milestones whose condition holds now.

    missing: reference rows that are named by the dossier but are not there, e.g. `service: no row in motcua.thu_tuc`
    (without the value that names it, which could be personal).
    """

    code_profile: str | None
    site_id: int | None
    code_tthc: str | None
    name_tthc: str | None
    level: int | None
    from_dvcqg: bool | None
    reception: Channel | None
    result: ResultChannel | None
    payment: PaymentChannel | None
    user: UserFacts
    data: str | None
    reached: frozenset[Milestone]
    missing: tuple[str, ...] = ()

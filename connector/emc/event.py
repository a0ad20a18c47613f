"""The event that EMC is told: the parameters of POST TrackingMCDT (guide, Appendix 1, part III).

Field names are the guide's own, so that code, YAML and letter read side by side. An event is immutable and knows
nothing of its encoding (`wire`) nor of when it is due (`judgement`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmcUser:
    """The User parameter. Exactly one of ID_local and ID_QG is set, by TYPE."""

    ID_local: str | None
    ID_QG: str | None
    TYPE: int
    LOCATION: str


@dataclass(frozen=True, slots=True)
class EmcEvent:
    """One call of TrackingMCDT. FormsPayments 0 is the guide's Null (no payment)."""

    CodeProfile: str
    SiteId: int
    CodeTTHC: str
    NameTTHC: str
    Status: int
    FormsReception: int
    FormsPayments: int
    Level: int
    IsFromDVCQG: int
    IsDVCBC: int
    Data: str
    User: EmcUser

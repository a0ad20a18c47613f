"""What is wrong with the data of one dossier that EMC is told of. Pure.

Invariants: texts hold no value of a row and no name or account of a person; parameters are named as in the mapping; a
fault is told once for all parameters with one cause, whichever milestones need them. A fault *holds* when an event that
the dossier owes cannot be made for it.

| kind      | what                                                                                     |
|-----------|------------------------------------------------------------------------------------------|
| number    | the dossier number is not of the guide's form                                            |
| procedure | procedure code or name is not there, or the catalogue has no row for the dossier's code   |
| unit      | the unit in charge is not there, or its identifier is not of the guide's form             |
| value     | another parameter that is needed is empty, or has a value that the guide does not know    |
| twice     | another dossier has the same number                                                      |
| history   | the dossier's history is not possible                                                    |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.parameters import unknown
from connector.emc.rules import Finding, check
from connector.mapping.facts import Facts, Milestone


class Kind(Enum):
    """See the module's table."""

    NUMBER = "number"
    PROCEDURE = "procedure"
    UNIT = "unit"
    VALUE = "value"
    TWICE = "twice"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. rule: the guide's rule by its id, where one was broken."""

    kind: Kind
    parameter: str
    vi: str
    en: str
    holds: bool = False
    rule: str = ""


_RULES = {
    "CodeProfile": Kind.NUMBER,
    "CodeTTHC": Kind.PROCEDURE,
    "NameTTHC": Kind.PROCEDURE,
    "User.location": Kind.UNIT,
}
"""Kinds by parameter; of all others it is VALUE."""
_EMPTY = {
    Kind.PROCEDURE: ("Không có mã hoặc tên thủ tục", "no procedure code or name"),
    Kind.UNIT: ("Không có đơn vị phụ trách", "no unit in charge"),
    Kind.VALUE: (
        "Trống, hoặc có giá trị mà hướng dẫn (và ánh xạ) không biết",
        "empty, or a value that guide and mapping do not know",
    ),
}

TWICE = Fault(Kind.TWICE, "CodeProfile", "Nhiều hồ sơ cùng một mã hồ sơ", "several dossiers have this dossier number")


def faults(facts: Facts, needs: Mapping[str, frozenset[str]]) -> list[Fault]:
    """Everything amiss. needs: `Plan.needs`."""
    reached = [status for status in Milestone if status in facts.reached]
    lacking = dict.fromkeys(name for status in reached for name in unknown(facts, status))
    causes: dict[tuple[Kind, tuple[str, ...]], list[str]] = {}
    for name in lacking:
        absent = tuple(sorted(needs.get(name, frozenset()).intersection(facts.missing)))
        causes.setdefault((_kind(name, absent), absent), []).append(name)
    found = [_held(kind, ", ".join(names), absent) for (kind, absent), names in causes.items()]
    told = {reason for _, absent in causes for reason in absent}
    # A row that is not there holds a dossier even where only a milestone, or an `else`, asks for it.
    found += [_held(Kind.VALUE, "", (reason,)) for reason in facts.missing if reason not in told]
    for broken in check(_as_known(facts)):
        name = "User.location" if broken.rule in ("EMC-18", "EMC-19") else broken.parameter
        found.append(Fault(_RULES.get(name, Kind.VALUE), name, broken.vi, broken.en, rule=broken.rule))
    return found


def of_history(found: Finding) -> Fault:
    """A finding of `emc.history`."""
    return Fault(Kind.HISTORY, found.parameter, found.vi, found.en, rule=found.rule)


def _kind(name: str, absent: tuple[str, ...]) -> Kind:
    if name == "Level":  # the catalogue tells it: without the row it is the procedure that nobody knows
        return Kind.PROCEDURE if absent else Kind.VALUE
    return _RULES.get(name, Kind.VALUE)


def _held(kind: Kind, names: str, absent: tuple[str, ...]) -> Fault:
    """An event cannot be made for these parameters. absent: as in `Facts.missing`."""
    if absent:
        told = "; ".join(absent)
        vi = f"Danh mục thiếu dòng mà hồ sơ nhắc đến ({_vi(told)})"
        return Fault(kind, names, vi, f"a catalogue lacks the row that the dossier names ({told})", holds=True)
    return Fault(kind, names, *_EMPTY[kind], holds=True)


def _vi(reason: str) -> str:
    return reason.replace(": no row in ", ": không có dòng trong ")


def _as_known(facts: Facts) -> EmcEvent:
    """An event of what is known, with something that breaks no rule for what is not."""
    return EmcEvent(
        CodeProfile=facts.code_profile or "",
        SiteId=facts.site_id or 1,
        CodeTTHC=facts.code_tthc or "-",
        NameTTHC=facts.name_tthc or "-",
        Status=1,
        FormsReception=2,
        FormsPayments=0,
        Level=0,
        IsFromDVCQG=0,
        IsDVCBC=0,
        Data=facts.data or "",
        User=EmcUser("-", None, 1, facts.user.location or "000.00.00.H00"),
    )

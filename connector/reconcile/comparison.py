"""One dossier's events in the ledger beside its rows at EMC. Pure.

1. Rows and events with equal values are paired, one to one, delivered events first. Only an event that was attempted
   can be at EMC.
2. Of rows with equal values that are left, all but one are duplicates; where an event was paired with such a row, all.
3. What is left of delivered and ambiguous events is paired with what is left of the rows by Status, the fewest
   differences first: *different*.
4. What is still left: an event that was delivered is *missing* at EMC; a row is *unknown* to us; an event that waits or
   is parked is told as such. What may as well lie on the other side of the period's edge is told of as *edge* only.

Invariant: every event and every row is in exactly one pair or stands in exactly one finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_MOST_PAIRED = 200
"""Differences are weighed for up to so many events of one dossier and Status; past it, order decides."""


class Kind(StrEnum):
    """What became of an event or a row."""

    EQUAL = "equal"
    MISSING = "missing"
    UNKNOWN = "unknown"
    DIFFERENT = "different"
    DUPLICATE = "duplicate"
    WAITING = "waiting"
    PARKED = "parked"
    DISCARDED = "discarded"
    EDGE = "edge"


@dataclass(frozen=True, slots=True)
class Ours:
    """An event of the ledger. inside: it reached EMC within the period for certain. values: those that are compared."""

    values: tuple[str, ...]
    status: str
    state: str
    attempts: int
    ambiguous: int
    inside: bool
    position: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Theirs:
    """A row of the extract. inside: as with `Ours`; at: EMC's reception time."""

    values: tuple[str, ...]
    status: str
    row: int
    inside: bool
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """differing: places of the values that differ. at_emc: whether the event was found there."""

    kind: Kind
    ours: Ours | None
    theirs: Theirs | None
    differing: tuple[int, ...] = ()

    @property
    def at_emc(self) -> bool:
        return self.ours is not None and self.theirs is not None


def compare(ours: Sequence[Ours], theirs: Sequence[Theirs]) -> list[Finding]:
    """See the module's text. Both of one dossier number; ours in the order of the ledger."""
    found: list[Finding] = []
    rows: dict[tuple[str, ...], list[Theirs]] = defaultdict(list)
    for row in theirs:
        rows[row.values].append(row)
    left: list[Ours] = []
    paired: set[tuple[str, ...]] = set()
    for event in sorted(ours, key=_certainty):
        same = rows.get(event.values)
        if same and event.attempts:
            found.append(Finding(_KINDS.get(event.state, Kind.WAITING), event, same.pop(0)))
            paired.add(event.values)
        else:
            left.append(event)
    single: list[Theirs] = []
    for values, same in rows.items():
        keep = 0 if values in paired else 1
        single += same[:keep]
        found += (Finding(Kind.DUPLICATE, None, row) for row in same[keep:])
    return found + _leftovers(left, single)


_KINDS = {"delivered": Kind.EQUAL, "parked": Kind.PARKED, "discarded": Kind.DISCARDED}


def _certainty(event: Ours) -> int:
    return 0 if event.state == "delivered" else 1 if event.ambiguous or event.state == "sent" else 2


def _leftovers(ours: list[Ours], theirs: list[Theirs]) -> list[Finding]:
    found: list[Finding] = []
    taken: set[int] = set()
    gone: set[int] = set()
    for one, other, differing in _alike(ours, theirs):
        if id(one) not in taken and id(other) not in gone:
            taken.add(id(one))
            gone.add(id(other))
            found.append(Finding(Kind.DIFFERENT, one, other, differing))
    for event in ours:
        if id(event) not in taken:
            kind = _KINDS.get(event.state, Kind.WAITING)
            if kind is Kind.EQUAL:
                kind = Kind.MISSING if event.inside else Kind.EDGE
            found.append(Finding(kind, event, None))
    for row in theirs:
        if id(row) not in gone:
            found.append(Finding(Kind.UNKNOWN if row.inside else Kind.EDGE, None, row))
    return found


def _alike(ours: list[Ours], theirs: list[Theirs]) -> list[tuple[Ours, Theirs, tuple[int, ...]]]:
    """Pairs that may be one event, the likeliest first."""
    events: dict[str, list[Ours]] = defaultdict(list)
    rows: dict[str, list[Theirs]] = defaultdict(list)
    for event in ours:
        if event.state == "delivered" or event.ambiguous:
            events[event.status].append(event)
    for row in theirs:
        rows[row.status].append(row)
    pairs = []
    for status, some in events.items():
        others = rows.get(status, [])
        many = len(some) > _MOST_PAIRED or len(others) > _MOST_PAIRED
        for number, event in enumerate(some):
            candidates = others[number : number + 1] if many else others
            for row in candidates:
                both = enumerate(zip(event.values, row.values, strict=True))
                differing = tuple(place for place, (one, other) in both if one != other)
                pairs.append((_certainty(event), len(differing), event, row, differing))
    pairs.sort(key=lambda pair: pair[:2])
    return [pair[2:] for pair in pairs]

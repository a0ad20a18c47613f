"""In what two mappings would tell EMC of one dossier differently. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from connector.emc.event import EmcEvent, EmcUser

NOT_TOLD = "Status"
"""The parameter of a difference where only one of the two tells at all."""
HELD = "held"
"""The parameter of a difference in why an event cannot be made."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One parameter of one event. here, there: the values, None where there is no such event (or nothing is held)."""

    status: int | None
    parameter: str
    here: Any
    there: Any


def differences(
    here: Sequence[EmcEvent],
    there: Sequence[EmcEvent],
    held_here: Sequence[str] = (),
    held_there: Sequence[str] = (),
) -> Iterator[Difference]:
    """What differs between the events of one judgement: of each Status there is at most one."""
    ours, theirs = ({event.Status: event for event in events} for events in (here, there))
    for status in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(status), theirs.get(status)
        if one is None or other is None:
            yield Difference(status, NOT_TOLD, None if one is None else status, None if other is None else status)
        elif one != other:
            values = zip(_flat(one), _flat(other), strict=True)
            yield from (Difference(status, name, a, b) for (name, a), (_, b) in values if a != b)
    if sorted(held_here) != sorted(held_there):
        yield Difference(None, HELD, "; ".join(held_here) or None, "; ".join(held_there) or None)


def _flat(event: EmcEvent) -> Iterator[tuple[str, Any]]:
    for name in EmcEvent.__slots__:
        if name != "User":
            yield name, getattr(event, name)
    for name in EmcUser.__slots__:
        yield f"User.{name}", getattr(event.User, name)

"""What the simulator keeps of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Received:
    """One request.

    at: arrival, seconds since the epoch. accepted: the guide allows it. answered: EMC's answer was sent (False when a
    scripted fault cut the connection after the event had been taken).
    """

    id: int
    at: float
    accepted: bool
    answered: bool
    parameters: dict[str, object]
    faults: tuple[str, ...]

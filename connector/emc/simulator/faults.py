"""Scripted faults: what the simulator does wrong on purpose, and when.

A fault list is tried in order for every request; the first that applies happens. Deterministic for a given seed and
order of requests. Pure: time is an argument.
"""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Kind = Literal["status", "delay", "drop_before", "drop_answer", "garbage", "failure_body"]


class Fault(BaseModel):
    """One scripted fault.

    kind: status (answer `status`, nothing is taken), delay (answer after `seconds`), drop_before (cut the connection,
    nothing is taken), drop_answer (take the event, cut the connection), garbage (take nothing, 200 with an HTML page),
    failure_body (take nothing, 200 with a JSON body that says failure).
    count: how often at most; rate: the share of requests it happens to; match: only this CodeProfile;
    for_seconds: how long after it was set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    status: int = Field(default=503, ge=300, le=599)
    seconds: float = Field(default=1.0, ge=0, le=600)
    retry_after: str | None = None
    location: str = "/elsewhere"
    count: int | None = Field(default=None, ge=1)
    rate: float = Field(default=1.0, gt=0, le=1)
    match: str | None = None
    for_seconds: float | None = Field(default=None, gt=0)


FAULTS = TypeAdapter(list[Fault])


class Script:
    """The faults that are set now."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._set: list[tuple[Fault, float]] = []
        self._left: list[int | None] = []

    def replace(self, faults: list[Fault], now: float) -> None:
        """Set these faults instead of all earlier ones. `now`: seconds of any steady clock."""
        self._set = [(fault, now) for fault in faults]
        self._left = [fault.count for fault in faults]

    def next(self, code: str, now: float) -> Fault | None:
        """The fault that happens to this request, None when it is served well."""
        for index, (fault, since) in enumerate(self._set):
            left = self._left[index]
            if left == 0 or (fault.match is not None and fault.match != code):
                continue
            if fault.for_seconds is not None and now - since > fault.for_seconds:
                continue
            if fault.rate < 1.0 and self._chance.random() >= fault.rate:
                continue
            if left is not None:
                self._left[index] = left - 1
            return fault
        return None

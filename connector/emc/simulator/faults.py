"""What goes wrong on purpose: a script of faults. Pure; time is an argument, chance has a seed.

Contract: for every request the script is gone through from top to bottom. A fault that is spent (`count`), over
(`for_seconds`), for another dossier (`match`) or not drawn (`rate`) is passed by. A `delay` holds the request and the
search goes on; any other fault ends it. So a list of counted faults is a sequence, and the same seed with the same
requests in the same order gives the same faults.
"""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Kind = Literal["status", "delay", "drop_before", "drop_answer", "garbage", "failure_body"]


class Fault(BaseModel):
    """One kind of fault and when it happens. Only `drop_answer` lets EMC take the event.

    status: answers `status` (300-599), with Retry-After as seconds or as an HTTP date so many seconds ahead;
    delay: holds the request for `seconds` before anything else, and drops it when the client gives up meanwhile;
    drop_before: resets the connection, the event is not taken;
    drop_answer: takes the event, then severs the connection without an answer;
    garbage: 200 with a page in HTML, as a gateway shows it, the event is not taken;
    failure_body: 200 with a JSON body that says failure, the event is not taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    status: int | None = Field(default=None, ge=300, le=599, description="of kind status only")
    retry_after: int | None = Field(default=None, ge=0, description="seconds, sent as such; of kind status only")
    retry_after_date: int | None = Field(default=None, ge=0, description="seconds, sent as a date; of kind status only")
    seconds: float | None = Field(default=None, gt=0, le=3600, description="of kind delay only")
    count: int | None = Field(default=None, ge=1, description="how many times it happens; default: no bound")
    rate: float = Field(default=1.0, gt=0, le=1, description="share of the requests it happens to")
    match: str | None = Field(default=None, description="only requests with this CodeProfile")
    for_seconds: float | None = Field(default=None, gt=0, description="how long after it was set")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Fault:
        if (self.kind == "status") is not (self.status is not None):
            raise ValueError("a fault of kind 'status', and no other, has a 'status'")
        if (self.kind == "delay") is not (self.seconds is not None):
            raise ValueError("a fault of kind 'delay', and no other, has 'seconds'")
        retries = self.retry_after is not None, self.retry_after_date is not None
        if any(retries) and self.kind != "status":
            raise ValueError("only a fault of kind 'status' has a 'retry_after'")
        if all(retries):
            raise ValueError("choose one of 'retry_after' and 'retry_after_date'")
        return self


FAULTS = TypeAdapter(list[Fault])
"""Reads a script: a list of faults, as JSON or as plain Python values."""


class Script:
    """The faults that are set, how often each has happened, and the chance behind the rates."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self.set([], 0.0)

    def set(self, faults: list[Fault], now: float) -> None:
        """Set these faults instead of all that were; chance starts anew. `now`: seconds of a monotonic clock."""
        self._faults = list(faults)
        self._happened = [0] * len(faults)
        self._since = now
        self._chance = random.Random(self._seed)  # noqa: S311 - for repeatable faults, not for secrets

    def meet(self, code: str, now: float) -> tuple[float, Fault | None]:
        """What happens to a request of this dossier: seconds to hold it, and the fault after that, if any."""
        delay = 0.0
        for index, fault in enumerate(self._faults):
            if not self._happens(index, fault, code, now):
                continue
            self._happened[index] += 1
            if fault.kind != "delay":
                return delay, fault
            delay += fault.seconds or 0.0
        return delay, None

    def active(self, now: float) -> list[Fault]:
        """The faults that can still happen."""
        return [fault for index, fault in enumerate(self._faults) if self._left(index, fault, now)]

    def _happens(self, index: int, fault: Fault, code: str, now: float) -> bool:
        if not self._left(index, fault, now) or fault.match not in (None, code):
            return False
        return fault.rate == 1.0 or self._chance.random() < fault.rate

    def _left(self, index: int, fault: Fault, now: float) -> bool:
        spent = fault.count is not None and self._happened[index] >= fault.count
        over = fault.for_seconds is not None and now - self._since >= fault.for_seconds
        return not spent and not over

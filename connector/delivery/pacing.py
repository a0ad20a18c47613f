"""When to try again, and when to try at all.

Pure: time and chance are arguments. `backoff` is exponential with full jitter; `Breaker` is one small state machine:

| state  | event                         | next                                                     |
|--------|-------------------------------|----------------------------------------------------------|
| closed | `LIMIT` failures in a row     | open: nothing is pushed until the pause has passed        |
| closed | any answer that is a delivery or a rejection | closed, failures forgotten                |
| open   | the pause has passed          | probing: one push is let through                         |
| probing| it fails                      | open, with a longer pause                                |
| probing| it is answered                | closed                                                   |
"""

from __future__ import annotations

from connector.settings import RetrySettings

LIMIT = 5


def backoff(attempt: int, settings: RetrySettings, chance: float) -> float:
    """Seconds to wait after the `attempt`-th attempt (from 1) failed; `chance` is in [0, 1)."""
    bound = min(settings.maximum, settings.initial * 2.0 ** min(attempt - 1, 60))
    return bound * chance


class Breaker:
    """Stops pushing to an EMC that does not answer, and finds out with single probes when it is back."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._failures = 0
        self._until = 0.0
        self._probing = False

    def allowed(self, now: float, wanted: int) -> int:
        """How many of the `wanted` pushes may begin now."""
        if now < self._until:
            return 0
        if self._failures < LIMIT:
            return wanted
        if self._probing:
            return 0
        return min(wanted, 1)

    def began(self, count: int) -> None:
        """So many pushes have begun."""
        if self._failures >= LIMIT and count:
            self._probing = True

    def answered(self) -> None:
        """EMC took or rejected an event: it is there."""
        self._failures = 0
        self._probing = False

    def failed(self, now: float, chance: float) -> None:
        """A push failed for a reason that is not the event's."""
        self._failures += 1
        self._probing = False
        if self._failures >= LIMIT:
            self.pause(now + backoff(self._failures - LIMIT + 1, self._settings, 0.5 + chance / 2))

    def pause(self, until: float) -> None:
        """Push nothing until then (EMC's own Retry-After, or an open breaker)."""
        self._until = max(self._until, until)

    @property
    def opens_at(self) -> float:
        """When the present pause ends; 0 when there is none."""
        return self._until

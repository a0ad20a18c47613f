"""When to try again, and when to try at all.

Pure: time and chance are arguments; moments are seconds of any steady clock. `backoff` is exponential with full jitter;
`Breaker` is one small state machine:

| state   | event                                        | next                                               |
|---------|----------------------------------------------|----------------------------------------------------|
| closed  | `LIMIT` dossiers failed, none got an answer  | open: nothing is pushed until the pause has passed |
| closed  | EMC takes or rejects an event                | closed, failures forgotten                         |
| open    | the pause has passed                         | half open: one push is let through                 |
| half    | it fails                                     | open, with a longer pause                          |
| half    | EMC takes or rejects it                      | closed                                             |

Failures are counted by dossier, so that one dossier at which EMC stumbles again and again holds up nobody else. A push
that began before the breaker opened may still answer, and counts alike.
"""

from __future__ import annotations

from connector.settings import RetrySettings

LIMIT = 5


def backoff(attempt: int, settings: RetrySettings, chance: float) -> float:
    """Seconds to wait after the `attempt`-th attempt (from 1) failed; `chance` is in [0, 1)."""
    bound = min(settings.maximum, settings.initial * 2.0 ** min(attempt - 1, 60))
    return bound * chance


class Breaker:
    """Stops pushing to an EMC that does not answer, and finds out with single pushes when it is back."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._failed: set[str] = set()
        self._pauses = 0
        self._probe: str | None = None
        self.opens_at = 0.0
        """When the present pause ends; 0 when there was none."""

    @property
    def open(self) -> bool:
        """EMC does not answer: at most one push at a time."""
        return len(self._failed) >= LIMIT

    @property
    def probing(self) -> bool:
        """The one push of an open breaker is on its way."""
        return self._probe is not None

    def allowed(self, now: float, wanted: int) -> int:
        """How many of the `wanted` pushes may begin now."""
        if now < self.opens_at or self.probing:
            return 0
        return min(wanted, 1) if self.open else wanted

    def began(self, dossier: str) -> None:
        """A push has begun."""
        if self.open:
            self._probe = dossier

    def withdrew(self, dossier: str) -> None:
        """A push that was told to have begun was not sent."""
        if dossier == self._probe:
            self._probe = None

    def answered(self) -> None:
        """EMC took or rejected an event: it is there."""
        self._failed.clear()
        self._pauses = 0
        self._probe = None

    def failed(self, dossier: str, now: float, chance: float) -> bool:
        """A push failed for a reason that is not the event's. True when this opened the breaker."""
        was_open = self.open
        if not was_open:
            self._failed.add(dossier)
        if not self.open:
            return False
        if not was_open or dossier == self._probe:
            self._probe = None
            self._pauses += 1
            # Not the full jitter: an outage must not be met with a burst because chance was near zero.
            self.pause(now + backoff(self._pauses, self._settings, 0.5 + chance / 2))
        return not was_open

    def pause(self, until: float) -> None:
        """Push nothing until then (EMC's own Retry-After, or an open breaker)."""
        self.opens_at = max(self.opens_at, until)

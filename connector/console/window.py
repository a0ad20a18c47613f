"""Figures over the last while: rates and percentiles, in bounded memory (pure).

Contract: time is an argument, in seconds; it may stand still or step back (a clock that was set), which makes a figure
wrong for a while and nothing worse.
"""

from __future__ import annotations

from collections import deque

_RATE_SECONDS = 10
_LATENCY_SECONDS = 300.0
_LATENCIES = 2000
"""Deliveries at most that the percentiles are made of."""


class Rate:
    """Events per second over the last ten seconds."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()

    def add(self, count: int, now: float) -> None:
        second = int(now)
        if self._buckets and self._buckets[-1][0] == second:
            count += self._buckets.pop()[1]
        self._buckets.append((second, count))
        self._forget(second)

    def per_second(self, now: float) -> float:
        """One decimal. The running second counts as it is, so that something new shows at once."""
        self._forget(int(now))
        return round(sum(count for _, count in self._buckets) / _RATE_SECONDS, 1)

    def _forget(self, second: int) -> None:
        while self._buckets and not second - _RATE_SECONDS < self._buckets[0][0] <= second:
            self._buckets.popleft()


class Latencies:
    """Percentiles of the last deliveries: of at most five minutes, and at most two thousand."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=_LATENCIES)

    def add(self, seconds: float, now: float) -> None:
        self._seen.append((now, seconds))

    def percentiles_ms(self, now: float) -> dict[str, float | None]:
        """`p50` and `p99` (nearest rank) in milliseconds; None when nothing was delivered."""
        while self._seen and self._seen[0][0] < now - _LATENCY_SECONDS:
            self._seen.popleft()
        ordered = sorted(seconds for _, seconds in self._seen)
        return {"p50": _rank(ordered, 50), "p99": _rank(ordered, 99)}


def _rank(ordered: list[float], percent: int) -> float | None:
    if not ordered:
        return None
    return round(ordered[-(-len(ordered) * percent // 100) - 1] * 1000, 1)

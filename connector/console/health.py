"""Whether a part is healthy, by four plain rules (pure).

| code | rule |
|---|---|
| stopped | a part met a fatal fault |
| disconnected | PostgreSQL is not streaming to us, and we had begun or tried |
| over_budget | the slot holds back more WAL than `source.wal_budget` |
| stalled | records wait in the log, and nothing was folded for 60 s |

EMC being away is not unhealthy: that is what the outbox is for, and starting again would not help. A second capture
that waits for the slot says `disconnected`: ask /healthz for readiness, not to end a process that waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.observe import (
    BatchFolded,
    Fault,
    Observation,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    WalBudget,
)

STALLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One rule that is broken. `detail`: the cause, or the partition."""

    code: str
    detail: str

    @property
    def text(self) -> str:
        """As /healthz shows it."""
        return f"{self.code}: {self.detail}"


class Health:
    """Not safe from several threads; the board's lock is around it."""

    def __init__(self) -> None:
        self._fatal: str | None = None
        self._disconnected: str | None = None
        self._over_budget: str | None = None
        self._behind: dict[int, tuple[int, float]] = {}
        """Partition → offset and when it got there; only of partitions with something to fold."""

    def observe(self, observation: Observation, now: float) -> None:
        """Take one observation. now: seconds."""
        match observation:
            case Fault(fatal=True):
                self._fatal = f"{observation.part}: {observation.cause}"
            case SourceDisconnected(reason):
                self._disconnected = reason
            case SourceConnected() | SnapshotProgress():
                self._disconnected = None
            case WalBudget(passed, _, cause, _):
                self._over_budget = cause if passed else None
            case BatchFolded(partition, _, offset, log_end, _, _):
                if offset >= log_end:
                    self._behind.pop(partition, None)
                elif self._behind.get(partition, (-1, now))[0] != offset:
                    self._behind[partition] = (offset, now)

    def troubles(self, now: float) -> list[Trouble]:
        """The rules that are broken, the gravest first."""
        found = []
        if self._fatal is not None:
            found.append(Trouble("stopped", self._fatal))
        if self._disconnected is not None:
            found.append(Trouble("disconnected", self._disconnected))
        if self._over_budget is not None:
            found.append(Trouble("over_budget", self._over_budget))
        found += [
            Trouble("stalled", f"partition {partition}: nothing folded for {now - since:.0f} s")
            for partition, (_, since) in sorted(self._behind.items())
            if now - since > STALLED_SECONDS
        ]
        return found

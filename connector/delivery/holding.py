"""A partition that is ours, and what goes on with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from connector.delivery.outbox import Attempt
from connector.delivery.partition import Partition
from connector.delivery.recorder import Recorder
from connector.errors import ConnectorError


@dataclass(slots=True)
class Holding:
    """turn: tells it from earlier times at which the partition was ours.

    gated: pushes that go out when they are recorded, with the number of the journal by which they are; out: ids of the
    events that are on their way, or gated; woken: what the recorder was woken for (number of the journal, offset);
    recorded: up to which number all is recorded, None before the first append.
    """

    partition: Partition
    recorder: Recorder | None
    turn: int
    gated: deque[tuple[int, list[Attempt]]] = field(default_factory=deque)
    out: set[int] = field(default_factory=set)
    leaving: bool = False
    """It is being given up: nothing is begun any more."""
    superseded: ConnectorError | None = None
    """Somebody else publishes its events: that is to end us, unless the partition turns out to be another's."""
    woken: tuple[int, int] = (-1, -1)
    recorded: int | None = None
    unrecorded: int = 0
    """As it was told last."""
    depth: tuple[int, int] | None = None
    """As it was told last."""
    saved: int = -1
    """The last event that the publisher was woken for."""
    unpublished: int | None = None
    """As it was told last."""

    @property
    def number(self) -> int:
        return self.partition.number

    def gate(self, attempts: list[Attempt]) -> None:
        """Hold these back until what was noted of them is recorded."""
        self.gated.append((self.partition.noted, attempts))

    def opened_by(self, seq: int) -> list[Attempt]:
        """What may go out now that everything up to a number is recorded."""
        self.recorded = self.partition.state.recorded = seq
        free: list[Attempt] = []
        while self.gated and self.gated[0][0] <= seq:
            free += self.gated.popleft()[1]
        return free

    @property
    def under_way(self) -> bool:
        """Something is sent and not answered."""
        return len(self.out) > sum(len(attempts) for _, attempts in self.gated)

    def drop_gated(self) -> list[Attempt]:
        """What will not be sent; its place in the ledger is another's to say."""
        gone = [attempt for _, attempts in self.gated for attempt in attempts]
        self.gated.clear()
        return gone

    def withdraw_gated(self) -> list[Attempt]:
        """What will not be sent: as if it had not been begun."""
        gone = self.drop_gated()
        for attempt in reversed(gone):
            self.withdraw(attempt)
        return gone

    def withdraw(self, attempt: Attempt) -> None:
        self.out.discard(attempt.id)
        self.partition.withdraw(attempt)

    def wake_recorder(self) -> None:
        """Let it know of what was made durable."""
        if self.recorder is None or self.partition.blocked:
            return
        now = (self.partition.noted, self.partition.fold.offset)
        if self.woken != now:
            self.woken = now
            self.recorder.wake()

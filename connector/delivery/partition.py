"""One partition's fold and outbox over one state file, and when they may be saved.

Invariants: `save` makes durable whole source transactions only. Where a poll cuts a transaction, everything before it
is saved first, so what is cut holds up nothing; only when the cut part had to be written to the file (because it is
huge, or a baseline asked for it) is the partition `blocked`: nothing is begun, and answers wait in `deferred`, until
the transaction has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from connector.delivery.dispatch import Answer
from connector.delivery.fold import Due, Fold
from connector.delivery.intake import Numbered
from connector.delivery.journal import last_noted
from connector.delivery.outbox import Attempt, Outbox
from connector.delivery.state import PartitionState
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

_MOST_UNSAVED = 10_000


class Partition:
    """See the module's invariants. Raises DeliveryError when the file cannot be used."""

    def __init__(self, state: PartitionState, plan: Plan, emc: EmcSettings, tell: Callable[[Due], None]) -> None:
        """`tell` hears of every event that is owed."""
        self.state = state
        self.number = state.partition
        with state.reported():
            self.outbox = Outbox(state)
            self.fold = Fold(state, plan, emc, self._owe)
        self.deferred: list[Answer] = []
        self.owed = 0
        """Events owed since the start."""
        self.begun_at = 0.0
        self._tell = tell
        self._abandoned = False

    @property
    def blocked(self) -> bool:
        """Nothing can be made durable now, because half a source transaction would be."""
        return self.fold.inside and (self.state.folding or self.outbox.unsaved > 0)

    def next_at(self, steady: float) -> float | None:
        """When a push may be begun, by the steady clock; None when there is none."""
        if self.blocked:
            return None
        return steady if self.outbox.pending else self.outbox.next_at

    @property
    def noted(self) -> int:
        """The number of the last change of the state that is to be recorded."""
        with self.state.reported():
            return last_noted(self.state.db)

    def withdraw(self, attempt: Attempt) -> None:
        """A push that was begun was not sent, nor will be."""
        with self.state.reported():
            self.outbox.withdraw(attempt)

    def remember(self, values: Mapping[str, str]) -> None:
        """Keep these with what is saved next."""
        with self.state.reported():
            self.state.save_meta(values)

    def apply(self, changes: list[Numbered]) -> list[Answer]:
        """Fold one poll's records. Returns answers that can be recorded now, after they had to wait."""
        cut = _cut(changes)
        if cut < len(changes):
            self.save()  # answers that were recorded must not share the fate of the transaction that is cut
        self._fold(changes[:cut])
        if 0 < cut < len(changes):
            self.save()
        self._fold(changes[cut:])
        if self.blocked:
            return []
        deferred, self.deferred = self.deferred, []
        return deferred

    def begin(self, room: int, steady: float, now: float) -> list[Attempt]:
        """Begin up to `room` pushes, which may go out after `save`."""
        with self.state.reported():
            begun = self.outbox.begin(room, steady, now)
        if begun:
            self.begun_at = steady
        return begun

    def save(self) -> None:
        """Make everything durable that is whole."""
        if self.blocked:
            return
        with self.state.reported():
            if not self.fold.inside and not self._abandoned:
                self.fold.save()
                self.outbox.save()
            self.state.commit()

    def abandon(self) -> list[Answer]:
        """Before the end: give up what is not whole. Returns answers that had to wait for it."""
        with self.state.reported():
            if self.blocked:
                self.state.rollback()
            self._abandoned = self.fold.inside
        deferred, self.deferred = self.deferred, []
        return deferred

    def prune(self, now: float, days: int, published: int) -> bool:
        """Forget some of the ledger, up to an id; whether there may be more to forget."""
        with self.state.reported():
            more = self.outbox.prune(now, days, published)
            self.save()
        return more

    def _fold(self, changes: list[Numbered]) -> None:
        with self.state.reported():
            for offset, change in changes:
                self.fold.apply(change, offset)

    def _owe(self, due: Due) -> None:
        self.outbox.owe(due)
        self.owed += 1
        self._tell(due)
        if self.outbox.unsaved >= _MOST_UNSAVED:
            self.outbox.save()


def _cut(changes: list[Numbered]) -> int:
    """Where the last source transaction begins, if its end is not here; else the number of changes."""
    last = changes[-1][1]
    cut = len(changes)
    if last.transaction is None or last.last:
        return cut
    while cut and (before := changes[cut - 1][1]).transaction == last.transaction and not before.last:
        cut -= 1
    return cut

"""A partition that is recorded, claimed and lost without a process: what the Deliverer does, step by step."""

from __future__ import annotations

from pathlib import Path

from delivery_story import plan

from connector.change.decoding import ChangeDecoder
from connector.delivery import journal
from connector.delivery.claim import Claimed, Claims
from connector.delivery.fold import Due
from connector.delivery.outbox import Attempt
from connector.delivery.partition import Partition
from connector.log.opening import open_reader
from connector.observe import Hub, Observation
from connector.settings import Settings


class Node:
    """A machine with a state directory of its own, that has partition 0 of a log of one partition."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.path = directory / "state.sqlite"
        self.told: list[Observation] = []
        self.due: list[Due] = []
        self._recorded = -1

    def claim(self, expected: bool = False) -> None:
        """Take the partition."""
        hub = Hub()
        hub.subscribe(self.told.append)
        claims = Claims(self.settings, plan(), hub, lambda: open_reader(self.settings))
        self._recorded = -1
        self.claimed: Claimed = claims.claim(0, self.path, expected)
        self.partition = Partition(self.claimed.state, plan(), self.settings.emc, self.due.append)

    def fold(self, most: int) -> int:
        """Fold up to so many records of the log, and save; how many there were."""
        reader = open_reader(self.settings)
        try:
            reader.assign({0: self.partition.fold.offset})
            decoder = ChangeDecoder(reader.schema)
            found = [(record.offset, decoder.decode(record.key, record.value)) for record in reader.poll(0.0, most)]
        finally:
            reader.close()
        if found:
            self.partition.apply(found)
            self.partition.save()
        return len(found)

    def begin(self, most: int, now: float = 1000.0) -> list[Attempt]:
        """Begin pushes, which are on disk when this returns."""
        begun = self.partition.begin(most, 1e9, now)
        self.partition.save()
        return begun

    def record(self) -> None:
        """One round of the recorder."""
        db, store = self.claimed.state.db, self.claimed.store
        assert store is not None
        head = journal.head_of(db)
        store.append(journal.noted(db, self._recorded, head), head.offset)
        self._recorded = self.claimed.state.recorded = head.seq

    def die(self) -> None:
        """What was not saved is gone."""
        self.claimed.state.close()
        assert self.claimed.store is not None
        self.claimed.store.close()

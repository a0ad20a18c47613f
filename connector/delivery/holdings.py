"""Which partitions are ours: all of them, or those that the consumer group gives us, while processes come and go.

| what happens                          | what is done                                                              |
|---------------------------------------|---------------------------------------------------------------------------|
| a partition is gained                 | claimed on another thread (`claim`), then read on from where its state is |
| it is asked for                       | nothing is begun any more; what is out is awaited, saved and recorded     |
| it is lost                            | let go at once; answers that still come are dropped                       |
| its recorder is fenced                | the same; where the group still says that it is ours, claimed again       |
| we end                                | as if all were asked for                                                  |

Invariants: a partition is read, judged, pushed and recorded only while it is in `held`; a turn is never used twice, so
that what was meant for an earlier one is known. Used from the owner's thread. Where a log has no group (embedded, or
Debezium's), all partitions are claimed at the start.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from itertools import count
from typing import Final

from connector.delivery import journal
from connector.delivery.claim import Claimed, Claimer, Claims, Postponed, Taken
from connector.delivery.directory import StateDirectory
from connector.delivery.fold import Due
from connector.delivery.holding import Holding
from connector.delivery.intake import Failed, Intake, Place
from connector.delivery.partition import Partition
from connector.delivery.publisher import Publisher, Superseded, Unpublished
from connector.delivery.recorder import Fenced, Recorded, Recorder, Unrecorded
from connector.errors import ConnectorError
from connector.log.contract import LogReader, MergingReader
from connector.log.kafka_membership import Asked, Ended, Gained, Lost, Membership
from connector.log.opening import open_reader
from connector.mapping.plan import Plan
from connector.observe import Hub, PartitionReleased
from connector.settings import Settings

LOG_IDENTITY: Final = "identity"
"""The state's memory of the log that was read (`LogReader.identity`)."""
_PAUSE: Final = 1.0
"""Seconds after which a partition is claimed again that was fenced."""
_AROUND_DEADLINE: Final = 30.0
"""Seconds beyond `delivery.deadline` in which a partition that is asked for is given up: for saving and recording."""

News = Gained | Asked | Lost | Ended | Taken | Postponed | Fenced | Superseded
"""What concerns which partitions are ours."""
Item = News | Recorded | Unrecorded | Unpublished | Failed


class Holdings:
    """See the module's invariants. put: takes what other threads have to tell; tell_due: hears of every due event."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        hub: Hub,
        reader: LogReader,
        directory: StateDirectory,
        put: Callable[[Item], None],
        tell_due: Callable[[int, Due], None],
    ) -> None:
        self.held: dict[int, Holding] = {}
        self.publisher: Publisher | None = None
        self._settings = settings
        self._plan = plan
        self._hub = hub
        self._reader = reader
        self._directory = directory
        self._put = put
        self._tell_due = tell_due
        self._known = directory.known(reader.partitions)
        self._turns = count(1)
        self._claiming: dict[int, int] = {}
        """Partitions that are being claimed, with the turn."""
        self._asked: list[Asked] = []
        self._ours: set[int] = set()
        """What the group says."""
        self._intake: Intake | None = None
        self._claims = Claims(settings, plan, hub, lambda: open_reader(settings))
        kafka = settings.log.kafka
        self._recorded_elsewhere = settings.log.debezium is None
        if kafka is not None and kafka.events_topic:
            self.publisher = Publisher(settings, alone=not self._recorded_elsewhere, take=put)
        self._claimer: Claimer | None = None
        self._membership: Membership | None = None
        if kafka is not None and self._recorded_elsewhere:
            patience = settings.delivery.deadline + _AROUND_DEADLINE
            self._claimer = Claimer(self._claims, put)
            self._membership = Membership(settings.name, kafka, _member(settings), patience, put)

    def start(self, intake: Intake) -> None:
        """Take what is ours from the beginning, and hear of the rest."""
        self._intake = intake
        if self.publisher is not None:
            self.publisher.start()
        if self._membership is None:
            for number in range(self._reader.partitions):
                claimed = self._claims.claim(number, self._directory.file(number), number in self._known)
                self._take(claimed, next(self._turns))
            if isinstance(self._reader, MergingReader):
                self._reader.resume(self.held[0].partition.fold.place)
        else:
            assert self._claimer is not None
            self._claimer.start()
            self._membership.start()

    def hear(self, news: News, drop: Callable[[Holding], None], fault: Callable[[ConnectorError], None]) -> None:
        """Something has happened to partitions. drop: hears of one that is lost. Raises what must end us."""
        match news:
            case Gained(numbers):
                self._ours.update(numbers)
                for number in numbers:
                    self._claim(number)
            case Asked():
                self._asked.append(news)
                self._ours.difference_update(news.partitions)
                for number in news.partitions:
                    if number in self._claiming and self._claimer is not None:
                        self._claimer.withdraw(self._claiming[number])
                    if number in self.held:
                        self.held[number].leaving = True
            case Lost(numbers):
                self._ours.difference_update(numbers)
                for number in numbers:
                    if number in self._claiming and self._claimer is not None:
                        self._claimer.withdraw(self._claiming.pop(number))
                    if number in self.held:
                        self._lose(self.held[number], drop)
            case Fenced(number, turn, error):
                holding = self.held.get(number)
                if holding is not None and holding.turn == turn:
                    if self._membership is None:
                        raise error
                    self._lose(holding, drop)
                    fault(error)
                    if number in self._ours:
                        # A broker that has crashed may fence, too. Where another is the owner by now, we shall hear of
                        # it, and it takes the partition from us again.
                        self._claim(number, _PAUSE)
            case Superseded(number, error):
                holding = self.held.get(number)
                if holding is not None and holding.recorder is not None:
                    holding.superseded = error
                    holding.recorder.prove()
            case Taken(number, turn, claimed, error):
                self._taken(number, turn, claimed, error)
            case Postponed(error):
                fault(error)
            case Ended(error, fatal):
                if fatal:
                    raise error
                fault(error)

    def give_up(self, finish: Callable[[Holding], None]) -> None:
        """Let those go that are asked for and have nothing under way. finish: is told before their last save."""
        for asked in list(self._asked):
            for number in asked.partitions:
                holding = self.held.get(number)
                if holding is not None and holding.leaving and not holding.under_way:
                    finish(holding)
                    self.release(holding)
            if not any(number in self.held or number in self._claiming for number in asked.partitions):
                self._asked.remove(asked)
                asked.given_up.set()

    def release(self, holding: Holding) -> None:
        """Everything of it is saved: have it recorded, and let it go."""
        number, state = holding.number, holding.partition.state
        assert self._intake is not None
        self._intake.leave(number)
        if self.publisher is not None:
            self.publisher.remove(number)
        if holding.recorder is not None:
            holding.recorder.stop()
        self._forget(holding, away=holding.leaving)
        state.close()

    def stop(self) -> None:
        """End all threads. What is still held is let go as it is on disk. Never raises."""
        if self._membership is not None:
            self._membership.stop()
        if self._claimer is not None:
            self._claimer.stop()
        if self.publisher is not None:
            self.publisher.stop()
        for asked in self._asked:
            asked.given_up.set()
        for holding in self.held.values():
            if holding.recorder is not None:
                holding.recorder.stop()
            holding.partition.state.close()
        self.held.clear()

    # -- one partition -----------------------------------------------------------------------------------------------

    def _claim(self, number: int, after: float = 0.0) -> None:
        assert self._claimer is not None
        turn = self._claiming[number] = next(self._turns)
        self._claimer.claim(number, turn, self._directory.file(number), number in self._known, after)

    def _taken(self, number: int, turn: int, claimed: Claimed | None, error: ConnectorError | None) -> None:
        wanted = self._claiming.get(number) == turn
        if wanted:
            del self._claiming[number]
        if claimed is not None and not wanted:
            claimed.let_go()
        elif claimed is not None:
            self._take(claimed, turn)
            self.held[number].leaving = any(number in asked.partitions for asked in self._asked)
        elif wanted and error is not None:
            raise error

    def _take(self, claimed: Claimed, turn: int) -> None:
        state, store = claimed.state, claimed.store
        number = state.partition
        try:
            partition = Partition(state, self._plan, self._settings.emc, partial(self._tell_due, number))
            self._known |= {number}
            self._directory.note(self._reader.partitions, self._known)
        except BaseException:
            claimed.let_go()
            raise
        recorder = None if store is None else Recorder(number, turn, state.path, store, self._put)
        holding = self.held[number] = Holding(partition, recorder, turn)
        if recorder is not None:
            recorder.start()
        if self.publisher is not None:
            self.publisher.add(number, state.path)
        assert self._intake is not None
        self._intake.read_on(number, self._place(holding))

    def _place(self, holding: Holding) -> Place:
        """Where it goes on, and whether this log is the one that it has read, as far as both have an identity."""
        fold = holding.partition.fold
        known = holding.partition.state.meta.get(LOG_IDENTITY, "")
        same = not known or not self._reader.identity or known == self._reader.identity
        return Place(fold.offset, fold.seen, same, holding.turn)

    def _lose(self, holding: Holding, drop: Callable[[Holding], None]) -> None:
        assert self._intake is not None
        self._intake.leave(holding.number)
        drop(holding)
        if self.publisher is not None:
            self.publisher.remove(holding.number)
        if holding.recorder is not None:
            holding.recorder.abandon()
        holding.partition.state.rollback()
        self._forget(holding, away=True)
        holding.partition.state.close()

    def _forget(self, holding: Holding, away: bool) -> None:
        del self.held[holding.number]
        if away:
            with holding.partition.state.reported():
                holding.partition.state.save_meta({journal.RELEASED: "yes"})
                holding.partition.state.commit()
        self._hub.emit(PartitionReleased(holding.number))


def _member(settings: Settings) -> str:
    """This process's name in the group: another one for each directory of states, the same after a restart."""
    place = sha256(str(settings.delivery.state.absolute()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{place}"

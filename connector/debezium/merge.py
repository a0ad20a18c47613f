"""Events of many topic-partitions → one sequence of changes, transaction by transaction.

Contract: pure but for its memory; times are arguments (seconds of a steady clock). Events go in by lane, which is a
topic-partition, in their order; `release` hands out changes with order, positions and markers like those of our log:

- *History*: what the topics held at the first start, and the snapshot that Debezium takes then, becomes reads between a
  begin and an end marker: it builds the state and tells nothing.
- *With transaction metadata* a transaction is released when its END was read and every event that END counts for our
  tables was: whole, in Debezium's order, in the order of the ENDs. A transaction that Debezium began twice (it was
  killed inside) has counts that may cover a part only; so it also waits until every lane was at its end after that END,
  and the last event of each table is the one that END counts last.
- *Without it* the events of one group (`places.Place.group`) are released together, the earliest place first, when
  every lane has a later event, or was found at its end `settle` after the newest event of the group had come.
- *Again delivered* events are dropped by `places.Marks`, their ENDs because the transaction was released before.
- *A later snapshot* stands between markers, too, and sweeps nothing: what its reads find is judged at its end.

`place` tells where to go on from; what was released before it is never released again. Every list that is released ends
with it, outside of a transaction.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from connector.change.position import Position
from connector.change.record import PLACE, SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.change.selection import TableSelection
from connector.debezium.message import Boundary, Event
from connector.debezium.places import Marks

Lane = tuple[str, int]
"""Topic and partition."""

_REMEMBERED: Final = 50_000
"""Transactions that are known again when Debezium delivers them again."""
_STRADDLING: Final = 500
"""The last transactions of a lane's history, some of which may have more of their events after the first start; as many
ENDs later they have ended."""
PATIENCE: Final = 60.0
"""Seconds that the events of an ended transaction may take before it is told that they are missing."""


class Phase(Enum):
    """The values stand in the state."""

    HISTORY = "history"
    LIVE = "live"
    READING = "reading"


@dataclass(slots=True)
class _Held:
    offset: int
    event: Event
    arrived: float


@dataclass(slots=True)
class _Lane:
    """read: the next offset to come; target: where history ends; clean: when it was last found at its end.

    early: how many events of its last transactions were taken as history.
    """

    table: TableSelection
    read: int
    target: int
    marks: Marks
    released: Marks
    queue: deque[_Held] = field(default_factory=deque)
    clean: float = float("-inf")
    early: OrderedDict[str, int] = field(default_factory=OrderedDict)

    @property
    def offset(self) -> int:
        """Of the first event that is not released."""
        return self.queue[0].offset if self.queue else self.read


@dataclass(slots=True)
class _End:
    """An END that waits. counts: of all its events; None when it was begun twice before its first END.

    part: what the END of a later run counts, which may be a part only; arrived: when that END came.
    """

    offset: int
    transaction: str
    arrived: float
    counts: dict[str, int] | None = None
    part: dict[str, int] | None = None


@dataclass(slots=True)
class _Seen:
    """What was read of a transaction: its events that wait, by lane, and each lane's last number within its table."""

    fresh: Counter[Lane] = field(default_factory=Counter)
    latest: dict[Lane, int] = field(default_factory=dict)


class Merger:
    """See the module's contract. tables: topic → table; names: which of them an END's `data_collection` names."""

    def __init__(self, prefix: str, tables: Mapping[str, TableSelection], settle: float, place: bytes) -> None:
        stored: dict[str, Any] = json.loads(place) if place else {}
        self._prefix = prefix
        self._tables = dict(tables)
        self._settle = settle
        self._phase = Phase(stored.get("phase", "history"))
        self._position = Position(*stored.get("position", (1, 0, 0, 0)))
        self.number: int = stored.get("number", 0)
        """Records released so far."""
        self._firsts, self._lasts, self._streamed = stored.get("snapshot", (0, 0, False))
        self._stored: dict[str, Any] = stored.get("lanes", {})
        self.identities: dict[str, str] = stored.get("topics", {})
        """Kafka's ids of the topics that were read."""
        self.transactions: int = stored.get("transactions", -1)
        """Where to go on in the transaction topic; -1 at the first start."""
        self._lanes: dict[Lane, _Lane] = {}
        self._ends: deque[_End] = deque()
        self._waiting: dict[str, _End] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._begun: OrderedDict[str, bool] = OrderedDict()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._live_ends = 0
        self._quiet_from = float("-inf")
        self._names: dict[str, str | None] = {}
        self.ask_at: float | None = None
        """When it would help to know which lanes are at their ends; None when nothing waits for that."""

    # -- what comes in -----------------------------------------------------------------------------------------------

    def stored(self, lane: Lane) -> int | None:
        """Where a lane was read up to; None when it is new."""
        found = self._stored.get(_lane_text(lane))
        return None if found is None else int(found[0])

    def add(self, lane: Lane, start: int, end: int) -> None:
        """A lane to be read from `start` on; end: its end of now."""
        found = self._stored.get(_lane_text(lane))
        target = found[1] if found is not None else end if self._phase is Phase.HISTORY else 0
        marks = None if found is None else found[2]
        made = self._lanes[lane] = _Lane(self._tables[lane[0]], start, target, Marks(marks), Marks(marks))
        if found is not None:
            made.early.update(found[3])

    def of_history(self, lane: Lane, offset: int) -> bool:
        """Whether a record was there at the first start."""
        return offset < self._lanes[lane].target

    def skip(self, lane: Lane, offset: int) -> None:
        """A record that says nothing."""
        self._lanes[lane].read = offset + 1

    def event(self, lane: Lane, offset: int, event: Event, now: float) -> None:
        """A record of a lane."""
        found = self._lanes[lane]
        found.read = offset + 1
        if event.read:
            # What is streamed after a snapshot may stand anywhere: the database was restored, maybe.
            for other in self._lanes.values() if event.snapshot == "first" else (found,):
                other.marks = Marks()
        fresh = event.place is None or found.marks.new(event.place, event.identity)
        if event.transaction is not None:
            self._see(lane, event, event.transaction, fresh)
        if fresh:
            found.queue.append(_Held(offset, event, now))

    def boundary(self, offset: int, boundary: Boundary, now: float, released: bool) -> None:
        """A record of the transaction topic. released: it is before the place to go on from, or of history."""
        self.transactions = max(self.transactions, offset + 1)
        identity = boundary.transaction
        if not boundary.end:
            self._begun[identity] = identity in self._begun
            self._begun.move_to_end(identity)
            _trim(self._begun)
            return
        again = self._begun.pop(identity, False)
        if released:
            self._over(identity)
            return
        counts: Counter[str] = Counter()
        for name, count in boundary.counts.items():
            table = self._table_of(name)
            if table is not None:
                counts[table] += count
        end = self._waiting.get(identity)
        if end is not None:
            end.part, end.arrived = dict(counts), now
            return
        end = self._waiting[identity] = _End(offset, identity, now)
        if again:
            end.part = dict(counts)
        else:
            end.counts = dict(counts)
        self._ends.append(end)

    def clean(self, lane: Lane, at: float) -> None:
        """Asked at this time, everything that the lane held had been read."""
        self._lanes[lane].clean = max(at, self._lanes[lane].clean)

    @property
    def lanes(self) -> dict[Lane, int]:
        """Each lane's next offset to come."""
        return {lane: found.read for lane, found in self._lanes.items()}

    @property
    def held(self) -> dict[Lane, int]:
        """Events that wait, by lane."""
        return {lane: len(found.queue) for lane, found in self._lanes.items()}

    def missing(self, now: float) -> str | None:
        """The transaction that has waited for its events for long, in an operator's words."""
        if self._phase is not Phase.LIVE or not self._ends or now < self._ends[0].arrived + PATIENCE:
            return None
        end = self._ends[0]
        for table, count in (end.counts or end.part or {}).items():
            there = self._there(end.transaction, table)
            if there < count:
                return (
                    f"transaction {end.transaction} has ended, but {there} of its {count} events of {table} are there"
                )
        return None

    # -- what goes out -----------------------------------------------------------------------------------------------

    def release(self, now: float) -> list[Change]:
        """Everything that may be folded by now; with its place at the end, if there is anything."""
        self.ask_at = None
        out: list[Change] = []
        if not self.number:
            out.append(self._marker(SNAPSHOT_BEGIN, b"{}", 0))
        moved = True
        while moved:
            match self._phase:
                case Phase.HISTORY:
                    moved = self._history(out, now)
                case Phase.READING:
                    moved = self._snapshot(out, now)
                case Phase.LIVE:
                    moved = self._live(out, now)
        if out:
            self.number += len(out) + 1
            out.append(self._marker(PLACE, self._place(), out[-1].commit_time_us))
        return out

    def _place(self) -> bytes:
        lanes = dict(self._stored) | {
            _lane_text(lane): [found.offset, found.target, found.released.dump(), found.early]
            for lane, found in self._lanes.items()
        }
        stored = {
            "phase": self._phase.value,
            "position": self._position,
            "number": self.number,
            "snapshot": (self._firsts, self._lasts, self._streamed),
            "lanes": lanes,
            "topics": self.identities,
            "transactions": self._ends[0].offset if self._ends else self.transactions,
        }
        return json.dumps(stored, separators=(",", ":")).encode()

    # -- reads -------------------------------------------------------------------------------------------------------

    def _history(self, out: list[Change], now: float) -> bool:
        for lane, found in self._lanes.items():
            while found.queue:
                head = found.queue[0]
                event = head.event
                old = head.offset < found.target or bool(event.snapshot) or event.transaction in self._ended
                if not old:
                    self._streamed = True
                    self._quiet_from = max(self._quiet_from, head.arrived)
                    break
                self._take(found)
                self._count_snapshot(event)
                if event.place is not None:
                    self._streamed = True
                    if event.transaction is not None:
                        self._take_early(lane, event.transaction)
                self._quiet_from = max(self._quiet_from, head.arrived)
                out.append(self._as_read(event))
        if any(found.read < found.target for found in self._lanes.values()) or not self._snapshot_over(now):
            return False
        out.append(self._marker(SNAPSHOT_END, b"", out[-1].commit_time_us if out else 0))
        self._phase = Phase.LIVE
        return True

    def _snapshot(self, out: list[Change], now: float) -> bool:
        """A snapshot that Debezium takes later on."""
        for found in self._lanes.values():
            while found.queue and found.queue[0].event.snapshot:
                head = self._take(found)
                self._count_snapshot(head.event)
                self._quiet_from = max(self._quiet_from, head.arrived)
                out.append(self._as_read(head.event))
            self._streamed = self._streamed or bool(found.queue)
        if not self._snapshot_over(now):
            return False
        out.append(self._marker(SNAPSHOT_END, b"", out[-1].commit_time_us if out else 0))
        self._phase = Phase.LIVE
        return True

    def _count_snapshot(self, event: Event) -> None:
        self._firsts += event.snapshot == "first"
        self._lasts += event.snapshot == "last"

    def _snapshot_over(self, now: float) -> bool:
        """It was told whole, or the stream has begun; and no lane can have more of it."""
        if not self._streamed and not 0 < self._lasts >= self._firsts:
            return False
        return self._settled(self._quiet_from, now, [found for found in self._lanes.values() if not found.queue])

    def _settled(self, newest: float, now: float, lanes: list[_Lane]) -> bool:
        """Whether these lanes were at their ends `settle` after the newest of something had come."""
        wanted = max(newest, 0.0) + self._settle
        if all(lane.clean >= wanted for lane in lanes):
            return True
        self.ask_at = wanted if self.ask_at is None else min(self.ask_at, wanted)
        return False

    def _as_read(self, event: Event) -> Change:
        if event.op in (Op.DELETE, Op.TRUNCATE):
            self._position = Position(1, self._position.commit_lsn + 1, 1)
            return self._change(event, event.op, event.text, last=True)
        return self._change(event, Op.READ, None, last=False)

    # -- the stream --------------------------------------------------------------------------------------------------

    def _live(self, out: list[Change], now: float) -> bool:
        for found in self._lanes.values():
            while found.queue and found.queue[0].event.snapshot:
                if found.queue[0].event.read:
                    self._begin_snapshot(out)
                    return True
                out.append(self._as_read(self._take(found).event))
        moved = False
        while self._ends and self._complete(self._ends[0], now):
            end = self._ends.popleft()
            self._release_transaction(end, out)
            del self._waiting[end.transaction]
            self._over(end.transaction)
            moved = True
            self._live_ends += 1
            if self._live_ends == _STRADDLING:
                for found in self._lanes.values():
                    found.early.clear()
        return self._release_group(out, now) or moved

    def _begin_snapshot(self, out: list[Change]) -> None:
        """The stream before it is over."""
        out.append(self._marker(SNAPSHOT_BEGIN, b'{"reread":true,"tables":[]}', 0))
        self._phase = Phase.READING
        self._firsts = self._lasts = 0
        self._streamed = False
        self._quiet_from = float("-inf")
        self._ended.clear()

    def _complete(self, end: _End, now: float) -> bool:
        identity = end.transaction
        if identity in self._ended and identity not in self._seen:
            return True  # delivered again, with nothing new in it
        counts = end.counts
        if counts is not None and all(self._there(identity, table) >= count for table, count in counts.items()):
            return True
        if end.part is not None and all(self._last_was(identity, *counted) for counted in end.part.items()):
            return self._settled(end.arrived, now, list(self._lanes.values()))
        return False

    def _there(self, identity: str, table: str) -> int:
        """How many events of a transaction have been read."""
        seen = self._seen.get(identity) or _Seen()
        return sum(
            seen.fresh[lane] + found.early.get(identity, 0)
            for lane, found in self._lanes.items()
            if found.table.full_name == table
        )

    def _last_was(self, identity: str, table: str, count: int) -> bool:
        """Whether the last event of a transaction that a lane of this table has is the one with this number."""
        seen = self._seen.get(identity)
        for lane, found in self._lanes.items():
            if found.table.full_name == table and (
                identity in found.early or (seen is not None and seen.latest.get(lane) == count)
            ):
                return True
        return not count

    def _release_transaction(self, end: _End, out: list[Change]) -> None:
        """And what stands before its events in their lanes, whose ENDs cannot come any more."""
        seen = self._seen.get(end.transaction)
        if seen is None:
            return
        ours: list[_Held] = []
        before: dict[str, list[_Held]] = {}
        for lane, left in sorted(seen.fresh.items()):
            found = self._lanes[lane]
            while left:
                held = self._take(found)
                identity = held.event.transaction
                if identity == end.transaction:
                    ours.append(held)
                    left -= 1
                elif held.event.place is None:
                    out.append(self._as_read(held.event))
                else:
                    before.setdefault(identity or held.event.place.group, []).append(held)
                    if identity is not None:
                        self._forget(lane, identity)
        for held_before in before.values():
            self._unit(held_before, out, by_place=True)
        self._unit(ours, out, by_place=end.part is not None)

    def _release_group(self, out: list[Change], now: float) -> bool:
        """The earliest group without transaction metadata, if it is whole as far as can be known."""
        heads = [found for found in self._lanes.values() if found.queue and found.queue[0].event.transaction is None]
        if not heads:
            return False
        first = min(heads, key=lambda found: _order(found.queue[0]))
        place = first.queue[0].event.place
        assert place is not None
        members = {id(found): list(_leading(found.queue, place.group)) for found in heads}
        newest = max(held.arrived for leading in members.values() for held in leading)
        unsure = [found for found in self._lanes.values() if len(found.queue) == len(members.get(id(found), ()))]
        if not self._settled(newest, now, unsure):
            return False
        unit = [self._take(found) for found in heads for _ in members[id(found)]]
        self._unit(unit, out, by_place=True)
        return True

    def _unit(self, unit: list[_Held], out: list[Change], by_place: bool) -> None:
        """One transaction, whole."""
        unit.sort(key=_order if by_place else lambda held: (held.event.total_order,))
        commit = self._position.commit_lsn + 1
        for ordinal, held in enumerate(unit, 1):
            self._position = Position(1, commit, ordinal)
            out.append(self._change(held.event, held.event.op, unit[-1].event.text, last=ordinal == len(unit)))

    # -- bookkeeping -------------------------------------------------------------------------------------------------

    def _take(self, found: _Lane) -> _Held:
        held = found.queue.popleft()
        if held.event.place is not None:
            found.released.new(held.event.place, held.event.identity)
        elif held.event.read:
            found.released = Marks()
        return held

    def _see(self, lane: Lane, event: Event, identity: str, fresh: bool) -> None:
        seen = self._seen.get(identity)
        if seen is None:
            if not fresh and identity in self._ended:
                return
            seen = self._seen[identity] = _Seen()
        seen.latest[lane] = event.table_order
        if fresh:
            seen.fresh[lane] += 1

    def _forget(self, lane: Lane, identity: str) -> None:
        """An event of a transaction waits no more."""
        seen = self._seen.get(identity)
        if seen is not None:
            seen.fresh[lane] -= 1
            if not seen.fresh.total():
                del self._seen[identity]

    def _take_early(self, lane: Lane, identity: str) -> None:
        """An event of history, whose transaction may have others that are not."""
        self._forget(lane, identity)
        found = self._lanes[lane]
        if identity not in self._ended:
            found.early[identity] = found.early.pop(identity, 0) + 1
            if len(found.early) > _STRADDLING:
                found.early.popitem(last=False)

    def _over(self, identity: str) -> None:
        self._seen.pop(identity, None)
        for found in self._lanes.values():
            found.early.pop(identity, None)
        self._ended[identity] = None
        self._ended.move_to_end(identity)
        _trim(self._ended)

    def _table_of(self, name: str) -> str | None:
        """The table that Debezium's name for it means: as in its topic, or by its schema and own name."""
        if name not in self._names:
            short = ".".join(name.split(".")[-2:])
            found = None
            for topic, table in self._tables.items():
                told = topic.removeprefix(f"{self._prefix}.")
                # Where the topic names the database too, it must be the same one.
                exact = topic.startswith(f"{self._prefix}.") and told.count(".") >= name.count(".")
                if told == name or (not exact and table.full_name == short):
                    found = table.full_name
            self._names[name] = found
        return self._names[name]

    def _marker(self, prefix: str, content: bytes, time_us: int) -> Change:
        return Change(Op.MESSAGE, "", (), None, None, self._position, 0, None, False, time_us, prefix, content)

    def _change(self, event: Event, op: Op, transaction: str | None, last: bool) -> Change:
        return Change(
            op,
            event.table,
            event.key,
            None,
            event.after,
            self._position,
            0 if event.place is None else event.place.lsn,
            transaction,
            last,
            event.time_us,
            unchanged=event.unchanged,
        )


def _leading(queue: deque[_Held], group: str) -> Iterator[_Held]:
    for held in queue:
        place = held.event.place
        if held.event.transaction is not None or place is None or place.group != group:
            return
        yield held


def _order(held: _Held) -> tuple[Any, ...]:
    place = held.event.place
    assert place is not None
    return (place.commit, place.unit, place.fine, held.event.total_order, held.offset)


def _lane_text(lane: Lane) -> str:
    return f"{lane[0]}/{lane[1]}"


def _trim(known: OrderedDict[str, Any]) -> None:
    if len(known) > _REMEMBERED:
        known.popitem(last=False)

"""What streamed transactions changed while tables are read: which reads they have overtaken (pure).

A read of a row is made under a snapshot of its own, and told when the stream has come past that moment. A transaction
that the snapshot does not see may have been streamed by then: its commit is decodable before it is visible to others
(with a synchronous standby even much earlier), and others commit while the chunk is on its way. What such a transaction
told of a row is newer than the read, so the read is dropped. Whatever the snapshot sees has been streamed before.

An update may leave a large value out of a row that no chunk has told yet: then it cannot be told, and is laid over the
read (`Overlay`). Where it also gives the row another key, that may lie in a span which has been told: whoever makes
the update durable remembers the table with it (`UNREAD`), which is read from its beginning when a session ends first.

Invariant: of every transaction that was streamed since the reading began, and that some chunk not told yet may not see,
either all its keys are remembered, or it is known as `vast`, and chunks that do not see it are read again later; of
very many transactions, while no chunk can be told, only the first and last id are, and all between are vast. What
was streamed before the reading began every chunk sees: `readers` wait for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_HALF = 1 << 31
_WHOLE = 1 << 32
MOST_KEYS = 200_000
"""Keys that are remembered; the transactions with the most are forgotten past that, but for the fact."""

MOST_TRANSACTIONS = 50_000
"""Transactions that are remembered one by one."""

MOST_OVERLAYS = 20_000
"""Rows for which updates are kept; past that whole chunks are read again instead."""


UNREAD = "unread"
"""The index's memory of the tables of `Meanwhile.moved`."""


@dataclass(frozen=True, slots=True)
class Visible:
    """A snapshot of PostgreSQL (section 9.28, pg_current_snapshot): which transactions it sees as committed.

    Before `xmin` all have ended; from `xmax` on none; `running` are those in between that had not.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visible:
        """`xmin:xmax:xid,xid,…`, with 64-bit transaction ids."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())

    def whole(self, xid: int) -> int:
        """The 64 bits of a transaction id of which the stream tells 32; it is less than 2^31 away from `xmax`."""
        whole = (self.xmax & -_WHOLE) | xid
        if whole > self.xmax + _HALF:
            return whole - _WHOLE
        return whole + _WHOLE if whole < self.xmax - _HALF else whole

    def sees(self, xid: int) -> bool:
        """Whether it sees a committed transaction. xid: 32 bits, as the stream has it."""
        whole = self.whole(xid)
        return whole < self.xmin or (whole < self.xmax and whole not in self.running)

    def sees_all(self, first: int, last: int) -> bool:
        """Whether it sees every committed transaction from one to another of them."""
        begin, end = self.whole(first), self.whole(last)
        return end < self.xmax and not any(begin <= xid <= end for xid in self.running)


@dataclass(slots=True)
class _Transaction:
    keys: set[bytes] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    vast: bool = False


@dataclass(frozen=True, slots=True)
class Overtaken:
    """What a chunk may not tell. `unclear`: it has to be read again to know; `emptied`: whole tables."""

    keys: frozenset[bytes]
    emptied: frozenset[str]
    unclear: bool


@dataclass(frozen=True, slots=True)
class Overlay:
    """What updates said of a row that was not read yet: texts of columns, as of the transaction `xid`."""

    xid: int
    texts: Mapping[str, bytes | None]


class Meanwhile:
    """See the module's invariant. tables: those that are being read."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = frozenset(tables)
        self.overlays: dict[bytes, Overlay] = {}
        """Rows of which updates could not be told, until a read tells them or they are told whole or are gone."""
        self.moved: set[str] = set()
        """Tables of which such rows got another key: the spans that are not told yet need not have them."""
        self.missed: set[str] = set()
        """Those of which one is in no overlay, for there are too many."""
        self._transactions: dict[int, _Transaction] = {}
        self._between: tuple[int, int] | None = None
        """The first and last of those that are not remembered one by one."""
        self._current = _Transaction()
        self._xid = 0

    def begin(self, xid: int) -> set[bytes]:
        """A transaction is read from the stream; the keys of the rows that it changes are to be added to the result."""
        self._xid = xid
        self._current = self._transactions.setdefault(xid, _Transaction())
        return self._current.keys

    def empty(self, table: str) -> None:
        """It truncates a table."""
        self._current.emptied.add(table)
        self.overlays = {key: each for key, each in self.overlays.items() if _table_of(key) != table}

    def lay_over(self, key: bytes, texts: Mapping[str, bytes | None], moved: bool) -> None:
        """Its update of a row cannot be told, because the row was not read yet. texts: all but what it leaves out.

        moved: it gives the row this key.
        """
        if moved:
            self.moved.add(_table_of(key))
        before = self.overlays.get(key)
        if before is None and len(self.overlays) >= MOST_OVERLAYS:
            self._current.vast = True  # chunks that see it tell the whole
            if moved:
                self.missed.add(_table_of(key))
        else:
            self.overlays[key] = Overlay(self._xid, texts if before is None else {**before.texts, **texts})

    def trim(self) -> None:
        """Forget the keys of the largest transactions, if they are many. To be called every so often."""
        excess = sum(len(each.keys) for each in self._transactions.values()) - MOST_KEYS
        if excess > 0:
            for each in sorted(self._transactions.values(), key=lambda each: len(each.keys), reverse=True):
                excess -= len(each.keys)
                each.vast = True
                each.keys.clear()  # the transaction that is being read may go on adding
                if excess <= 0:
                    break
        if len(self._transactions) > MOST_TRANSACTIONS:
            xids = [*(self._between or ()), *(x for x, each in self._transactions.items() if each is not self._current)]
            distances = [(xid - xids[0] + _HALF) % _WHOLE - _HALF for xid in xids]
            self._between = (xids[0] + min(distances)) % _WHOLE, (xids[0] + max(distances)) % _WHOLE
            self._transactions = {self._xid: self._current}

    def overtaken(self, snapshot: Visible) -> Overtaken:
        """What transactions that the snapshot does not see have told."""
        unseen = [each for xid, each in self._transactions.items() if not snapshot.sees(xid)]
        return Overtaken(
            frozenset().union(*(each.keys for each in unseen)),
            frozenset().union(*(each.emptied for each in unseen)),
            any(each.vast for each in unseen) or not self._sees_between(snapshot),
        )

    def forget(self, snapshots: Iterable[Visible]) -> None:
        """Forget transactions that all of these see: those of every chunk on its way, and of one that was told."""
        known = list(snapshots)
        if all(map(self._sees_between, known)):
            self._between = None
        self._transactions = {
            xid: each
            for xid, each in self._transactions.items()
            if each is self._current or not all(snapshot.sees(xid) for snapshot in known)
        }

    def _sees_between(self, snapshot: Visible) -> bool:
        return self._between is None or snapshot.sees_all(*self._between)

    def unread(self) -> set[str]:
        """Tables of which rows are not told yet, once all chunks are. They are to be read again, from now on."""
        tables = {_table_of(key) for key in self.overlays} | self.missed
        self.missed.clear()
        return tables


def _table_of(key: bytes) -> str:
    """The full name of a record's table."""
    return str(json.loads(key)[0])

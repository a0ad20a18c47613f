"""A partition's state made anew, or brought to where another machine has recorded it.

Contract: afterwards the state is the one that `head` tells of, as if this file had been there all the time: its rows
are folded from the change log, judging nothing, and all else is what was recorded (`journal`). Nothing is owed by it,
so nothing is pushed for it. What this file had beside that is gone. A death in between leaves a file that no head knows
as its own; the next start goes on where the rows are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.change.decoding import ChangeDecoder
from connector.change.record import Change
from connector.delivery import journal
from connector.delivery.fold import Due, Fold
from connector.delivery.intake import another_log
from connector.delivery.state import PartitionState
from connector.log.contract import LogReader
from connector.log.deliveries import Deliveries
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

_LIMIT: Final = 2000
"""Records in one poll."""
_SAVE_EVERY: Final = 50_000
"""Records between two commits, after which a death does not begin anew."""


class RowsOnly(Fold):
    """A fold that judges nothing: what was told, held and owed is not its own to say."""

    def _touch(self, dossier: str | None, created: bool = False) -> None:
        """It makes no baselines."""

    def _found(self, dossier: str | None) -> None:
        """Nothing waits for a snapshot's end."""

    def _judge(self, last: Change) -> None:
        self._references = False
        self._last = None

    def _end_of_snapshot(self, end: Change) -> None:
        assert self._reading is not None
        self._rows.sweep(self._reading.tables)
        self._reading = None

    def finish(self) -> None:
        """Where the records end, whatever their end mark says: it may have been compacted away."""
        self._end_transaction()
        self.save()


def bring_up(
    state: PartitionState,
    plan: Plan,
    emc: EmcSettings,
    reader: LogReader,
    store: Deliveries,
    head: journal.Head,
    tell: Callable[[int, int], None],
) -> None:
    """Bring a state, whose offset is not past the head's, to what was recorded.

    reader: not in use otherwise; tell: hears of records folded, and of about how many there are. Raises ConnectorError.
    """
    _require_this_log(reader, head, state.partition)
    with state.reported():
        state.record(on=False)
        if "tables" in head.meta:
            # So that a mapping which needs what was never folded is refused, as it is with the file.
            state.save_meta({"tables": head.meta["tables"]})
        fold = RowsOnly(state, plan, emc, _owes_nothing)
        _fold_rows(state, fold, reader, head.offset, tell)
        journal.restore(state.write(), store.read(), str(state.path))
        state.save_meta({**head.meta, journal.OWNER: ""})
        state.commit()


def _require_this_log(reader: LogReader, head: journal.Head, partition: int) -> None:
    """What was recorded is of this log. If it were not, its dossiers would be told by other rows, or waited for."""
    identity, end = head.meta.get("identity", ""), reader.ends().get(partition, 0)
    if end < head.offset or (identity and reader.identity and identity != reader.identity):
        raise another_log(partition, head.offset)


def _fold_rows(
    state: PartitionState, fold: RowsOnly, reader: LogReader, end: int, tell: Callable[[int, int], None]
) -> None:
    number, begun = state.partition, fold.offset
    decoder = ChangeDecoder(reader.schema)
    reader.assign({number: begun})
    unsaved = 0
    while reader.positions().get(number, begun) < end:
        for record in reader.poll(1.0, _LIMIT):
            if record.offset >= end:
                break
            fold.apply(record.change or decoder.decode(record.key, record.value), record.offset)
            unsaved += 1
        tell(max(0, fold.offset - begun), end - begun)
        if unsaved >= _SAVE_EVERY and not fold.inside:
            fold.save()
            state.commit()
            unsaved = 0
    fold.finish()


def _owes_nothing(due: Due) -> None:
    raise AssertionError(due.position)

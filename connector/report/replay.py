"""The change log's history, folded again beside the real delivery: what would have been due.

Contract: the log is only read, up to where it ended at the start; the delivery state is not touched: the fold's rows,
which are personal data, are in temporary files without a name, so that nothing stays of them. Nothing is pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from connector.change.decoding import ChangeDecoder
from connector.change.record import Change
from connector.delivery.fold import Due, Fold
from connector.delivery.state import PartitionState
from connector.errors import LogError
from connector.log.contract import LogReader
from connector.mapping.facts import Facts
from connector.mapping.plan import Plan
from connector.settings import EmcSettings

_LIMIT = 2000
_WAIT = 0.2
_SAVE_EVERY = 20_000


class Numbered(NamedTuple):
    """A record of the log."""

    partition: int
    offset: int
    change: Change


def history(reader: LogReader, tell: Callable[[int, int], None]) -> Iterator[Numbered]:
    """Every record that the log holds now, in order within each partition. tell: records so far, and of how many."""
    beginnings, ends = reader.beginnings(), reader.ends()
    total = sum(ends.values()) - sum(beginnings.values())
    decoder = ChangeDecoder(reader.schema)
    reader.assign(beginnings)
    done = 0
    while any(at < ends[number] for number, at in reader.positions().items()):
        for partition, offset, key, value, change in reader.poll(_WAIT, _LIMIT):
            if offset < ends[partition]:
                yield Numbered(partition, offset, change or decoder.decode(key, value))
                done += 1
        tell(done, total)


Heard = Callable[[str, Facts | None, Change | None], None]
"""Dossier, facts (None: it is gone), and the last change of what was judged (None: what it was before that)."""


def nobody(*_: object) -> None:
    """Hears nothing."""


class Replay:
    """The folds of one mapping over all partitions.

    owe: hears of each event that is due, at its transaction's end; heard: of the facts of every judgement.
    """

    def __init__(
        self,
        partitions: int,
        plan: Plan,
        emc: EmcSettings,
        owe: Callable[[Due], None] = nobody,
        heard: Heard = nobody,
    ) -> None:
        self._states: list[PartitionState] = []
        self._folds: list[Fold] = []
        self._unsaved = [0] * partitions
        self._columns = {table.full_name: table.columns for table in plan.selection.tables}
        try:
            for number in range(partitions):
                self._states.append(_nameless_state(number))
                self._folds.append(Fold(self._states[-1], plan, emc, owe, heard))
        except BaseException:
            self.close()
            raise

    def apply(self, record: Numbered) -> None:
        """The next record of its partition."""
        number, change = record.partition, record.change
        row = change.after
        if row is not None and not all(map(row.__contains__, self._columns.get(change.table, ()))):
            raise self._not_logged(change)
        fold, state = self._folds[number], self._states[number]
        with state.reported():
            fold.apply(change, record.offset)
            self._unsaved[number] += 1
            if self._unsaved[number] >= _SAVE_EVERY and not fold.inside:
                fold.save()
                state.commit()
                self._unsaved[number] = 0

    def _not_logged(self, change: Change) -> LogError:
        row = change.after or {}
        lacking = [column for column in self._columns[change.table] if column not in row]
        return LogError(
            "fold the log again",
            change.table,
            f"the log holds no {', '.join(lacking)}, which the mapping uses: it was captured with another mapping",
            "look at the live rows only (`emc-cdc report --no-log`, `emc-cdc preview` without --log)",
        )

    def close(self) -> None:
        """Give the files back."""
        for state in self._states:
            state.close()


def _nameless_state(number: int) -> PartitionState:
    """A state whose file has no name any more: it goes with the process, whatever ends that."""
    with TemporaryDirectory(prefix="emc-cdc-replay-") as directory:
        state = PartitionState(Path(directory) / f"{number}.sqlite", "replay", number)
        # Without a journal, which would be looked for by name. Nothing of it is ever rolled back.
        state.db.execute("PRAGMA journal_mode = OFF")
        state.db.execute("PRAGMA synchronous = OFF")
    return state

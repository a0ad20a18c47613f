"""`emc-cdc capture` itself, with a writer that is hit in the middle of an append: `faulty_capture.py FAULT CONFIG`.

FAULT is a signal and a number, as `KILL-2`: in the second append with at least `ENOUGH` records for several partitions,
once half of them are at the broker and nothing is committed, the process sends itself the signal (KILL or STOP). Until
then, and after SIGCONT, it is the command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

from plugins.log import Around  # noqa: E402

from connector import cli, pipeline  # noqa: E402
from connector.log.contract import Entry, LogWriter  # noqa: E402
from connector.log.kafka import KafkaWriter  # noqa: E402
from connector.log.opening import open_writer  # noqa: E402
from connector.settings import Settings  # noqa: E402

ENOUGH = 200
HALFWAY = "halfway through an append"


class Halved(Sequence[Entry]):
    """Entries of which the second half is not looked at before the signal."""

    def __init__(self, entries: Sequence[Entry], writer: KafkaWriter, number: int) -> None:
        self._entries = entries
        self._writer = writer
        self._number = number

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, at: int) -> Entry:  # type: ignore[override]
        return self._entries[at]

    def __iter__(self) -> Iterator[Entry]:
        half = len(self._entries) // 2
        for at, entry in enumerate(self._entries):
            if at == half:
                producer = self._writer._producer._producer
                assert producer is not None
                assert producer.flush(60) == 0
                sys.stderr.write(f"{HALFWAY}\n")
                sys.stderr.flush()
                os.kill(os.getpid(), self._number)
            yield entry


class Hit(Around):
    """The real writer, until its `at`-th large append."""

    def __init__(self, writer: LogWriter, number: int, at: int) -> None:
        super().__init__(writer)
        self._number = number
        self._left = at

    def append(self, entries: Sequence[Entry]) -> None:
        if len(entries) >= ENOUGH and len({entry.partition for entry in entries}) > 1:
            self._left -= 1
        else:
            super().append(entries)
            return
        if self._left == 0:
            assert isinstance(self._writer, KafkaWriter)
            entries = Halved(entries, self._writer, self._number)
        super().append(entries)


def main() -> None:
    """The command."""
    name, at = sys.argv[1].split("-")
    number = signal.Signals[f"SIG{name}"]

    def hit(settings: Settings) -> LogWriter:
        return Hit(open_writer(settings), number, int(at))

    pipeline.open_writer = hit  # type: ignore[attr-defined]
    sys.argv = ["emc-cdc", "capture", "--config", sys.argv[2]]
    cli.main()


if __name__ == "__main__":
    main()

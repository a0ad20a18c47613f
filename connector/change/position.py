"""Where a record stands in the history of its partition.

Invariant: within one partition positions never fall. A row change of the stream has a position of its own;
snapshot reads carry the last streamed position of their partition (DESIGN: reads are upserts).
The epoch compares first because LSNs may go backwards after a restore, a failover or pg_upgrade.
"""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """`(epoch, commit_lsn, ordinal, sub)`, compared in that order.

    epoch: rises whenever slot, system id or timeline changes; from 1.
    commit_lsn: LSN of the commit record (pgoutput Begin's final LSN).
    ordinal: number of the row message in its transaction, from 1, counted before any filtering; 0 for markers.
    sub: number of the record among those derived from one message, from 0.
    """

    epoch: int
    commit_lsn: int
    ordinal: int
    sub: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}/{lsn_text(self.commit_lsn)}/{self.ordinal}.{self.sub}"


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL prints it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The reverse of `lsn_text`. ValueError when it is not an LSN."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def parse_position(text: str) -> Position:
    """The reverse of `str(Position)`. ValueError when it is not a position."""
    epoch, high, low, numbers = text.split("/")
    ordinal, _, sub = numbers.partition(".")
    return Position(int(epoch), parse_lsn(f"{high}/{low}"), int(ordinal), int(sub))

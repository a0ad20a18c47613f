"""A record of the change log, decoded: the Debezium envelope as Python values.

Absent and null are different: `before`/`after` are None when the envelope has none; a column that is NULL is a key
with the value None; a column that is not captured is no key at all. A logged row never has a hole.
Row values are in Debezium's representation (DESIGN section 3): timestamps are microseconds since the epoch, dates are
days, numerics are `decimal.Decimal` (however they are written), text is str, an array is a list, an hstore or a point a
dict; see docs/types.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from connector.change.position import Position

Value = object
Row = dict[str, Value]


class Op(Enum):
    """Debezium's operation codes."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"
    MESSAGE = "m"


SNAPSHOT_BEGIN = "emc-cdc.snapshot.begin"
SNAPSHOT_END = "emc-cdc.snapshot.end"
PLACE = "emc-cdc.place"
"""Where to go on reading an input that is more than one sequence: the content is the input's own. It ends nothing."""
EPOCH = "emc-cdc.epoch"
"""A new epoch that goes on where the last one ended: it stands at the same place, so nothing ends at it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decoded record.

    table: `schema.table`; empty for a message.
    key: the primary key's values as PostgreSQL text, in key order; empty for TRUNCATE and messages.
    marker: the prefix of a message (`SNAPSHOT_BEGIN`, ...), else None; `content` is its body.
    transaction: the source's transaction id as Debezium writes it, None for reads.
    last: the last record of its source transaction in this partition.
    commit_time_us: commit time, microseconds since the Unix epoch (snapshot time for reads).
    truncated: the columns whose values were cut because the record would have been too large.
    unchanged: columns that `after` leaves out because they did not change; a logged record has none.
    """

    op: Op
    table: str
    key: tuple[str, ...]
    before: Row | None
    after: Row | None
    position: Position
    lsn: int
    transaction: str | None
    last: bool
    commit_time_us: int
    marker: str | None = None
    content: bytes = b""
    truncated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

"""What a change log is.

Invariants, held by both backends and by tests/log/test_contract.py:
- A partition is a totally ordered sequence; offsets rise, but need not be dense.
- `append` returns only when every record is durable, and in the order given within a partition. If it raises,
  any prefix per partition may be there; nothing after a gap ever is.
- `open` fences every earlier writer of the same log before it reads the tails: after it has returned, an
  `append` of an older writer raises `LogError` and adds nothing.
- A schema id, once returned by `register`, can be resolved by every reader that can see a record written with it.
- Readers see only records of appends that were completed (read committed). On Kafka they may see them, and `ends`
  may tell of them, some milliseconds after `append` has returned: what is durable is not yet marked as committed
  everywhere. `open` waits for that, so tails are never behind.
The writer is used from one thread; a reader from one thread; the two may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from connector.change.record import Change

RECORD_OVERHEAD: Final = 128
"""Bytes that a log adds to a record's key and value at most: Kafka's batch of one record has 61 and up to 36."""


class Entry(NamedTuple):
    """A record to be appended. `value` is in the Confluent wire format (magic 0, schema id, Avro), or JSON (`{`…).

    Key, value and RECORD_OVERHEAD take no more than `settings.LARGEST_RECORD` bytes.
    """

    partition: int
    key: bytes
    value: bytes


class Record(NamedTuple):
    """A record that was read. change: what it says, where the reader had to find that out by itself."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Durability:
    """What *durable* means on this log, in the words `check` and `status` use. `sound` is DESIGN section 3's bar."""

    sound: bool
    words: str


@dataclass(frozen=True, slots=True)
class Concern:
    """What weakens a promise of the log, in an operator's words: to be mended, but no reason to stop."""

    subject: str
    cause: str
    mend: tuple[str, ...]


class LogWriter(Protocol):
    """The one writer of a change log."""

    partitions: int

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """What weakens this log's promises as it was found; to be asked after `open`."""

    @property
    def durability(self) -> Durability:
        """What durable means here, read from the log itself; to be asked after `open`."""

    def open(self) -> Mapping[int, bytes]:
        """Create what is missing, fence other writers, return the last record's value of every non-empty partition."""

    def register(self, schema: str) -> int:
        """The id of an Avro schema (JSON text); the same text always has the same id. Durable on return."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Write and wait until durable. Raises LogUnavailable (may be tried with a new writer) or LogError.

        After it has raised, this writer is spent: close it and open a new one, whose tails tell what is there.
        """

    def close(self) -> None:
        """Release the log. Never raises."""


class LogReader(Protocol):
    """Reads partitions in order from given offsets."""

    partitions: int

    @property
    def identity(self) -> str:
        """A name that a log which was made anew does not have; empty where the log has none."""

    @property
    def durability(self) -> Durability:
        """The same as the writer's, for those who only look (`status`)."""

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """The same as the writer's, as the log is now."""

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions, each from the given offset on (0: from the beginning).

        `poll` raises LogError if an offset is outside of what the log holds (never jumps).
        """

    def poll(self, timeout: float, limit: int) -> list[Record]:
        """Up to `limit` records, in order within each partition; waits up to `timeout` seconds for the first."""

    def ends(self) -> Mapping[int, int]:
        """For every partition, the offset after everything committed in it; 0 when it is empty.

        On Kafka that is after the last commit marker, so it may be larger than the last record's offset + 1.
        """

    def beginnings(self) -> Mapping[int, int]:
        """For every partition, the first offset that may be assigned; the same as `ends` when it is empty."""

    def complete_from(self) -> Mapping[int, int]:
        """For every partition, an offset from which on no record was compacted away; before it, some may have been."""

    def tails(self) -> Mapping[int, bytes]:
        """The last committed record's value of every non-empty partition, whatever is assigned."""

    def positions(self) -> Mapping[int, int]:
        """For every assigned partition, the offset `poll` goes on from; reading from it again loses nothing.

        It also passes what is never handed out (commit markers, aborted transactions), so that
        `ends()[p] - positions()[p]` is 0 once everything has been handed out.
        """

    def schema(self, schema_id: int) -> str:
        """The Avro schema with this id. LogError when the log does not know it."""

    def close(self) -> None:
        """Release the log. Never raises."""


@runtime_checkable
class MergingReader(LogReader, Protocol):
    """A reader of what is more than one sequence: one offset does not tell where to go on.

    Its records have a `change`, the last one of every poll is the marker `PLACE`, outside of a source transaction.
    """

    def resume(self, place: bytes) -> None:
        """Before `assign`: go on after the `PLACE` with this content, which the state has; empty: the beginning."""

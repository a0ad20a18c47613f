"""The real writer of a change log, for tests that put something in its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connector.log.contract import Concern, Durability, Entry, LogWriter


class Around:
    """Does what the real writer does; a test overrides what it wants done otherwise."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self.partitions = writer.partitions

    @property
    def durability(self) -> Durability:
        return self._writer.durability

    @property
    def concerns(self) -> tuple[Concern, ...]:
        return self._writer.concerns

    def open(self) -> Mapping[int, bytes]:
        return self._writer.open()

    def register(self, schema: str) -> int:
        return self._writer.register(schema)

    def append(self, entries: Sequence[Entry]) -> None:
        self._writer.append(entries)

    def close(self) -> None:
        self._writer.close()

"""The real log behind a gate, and capture that writes to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attached_source import Attached, Running
from plugins.log import Around

from connector.log.contract import Entry, LogWriter
from connector.log.opening import open_writer
from connector.settings import Settings

PATIENCE = 300.0


class Gate:
    """The real log behind a gate: what is appended waits while the gate is closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.open = threading.Event()
        self.waiting = threading.Event()
        self.open.set()

    def writer(self) -> LogWriter:
        """A writer of the real log."""
        return _Gated(self, open_writer(self._settings))


class _Gated(Around):
    def __init__(self, gate: Gate, writer: LogWriter) -> None:
        super().__init__(writer)
        self._gate = gate

    def append(self, entries: Sequence[Entry]) -> None:
        if not self._gate.open.is_set():
            self._gate.waiting.set()
            self._gate.open.wait(PATIENCE)
        super().append(entries)


@contextmanager
def behind_a_gate(attached: Attached, settings: Settings) -> Iterator[tuple[Gate, Running]]:
    """Capture streams, its log's gate is open; at the end it is stopped in order."""
    gate = Gate(settings)
    running = attached.start(settings=settings, writer=gate.writer)
    try:
        running.until(lambda: bool(running.feedbacks), "streaming")
        attached.settle(running)
        yield gate, running
    finally:
        gate.open.set()
        running.end()
    assert running.failure is None

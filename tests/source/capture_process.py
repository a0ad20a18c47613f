"""Capture as a process of its own, for tests that kill it: `capture_process.py SETTINGS CRASH_AFTER`.

SETTINGS is JSON. CRASH_AFTER > 0: the process kills itself (SIGKILL) right after so many entries have become durable
in the log, before anything else learns of it. It prints `streaming` when the stream begins, and a fault's cause.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

from attached_source import SELECTION  # noqa: E402
from plugins.log import Around  # noqa: E402

from connector.log.contract import Entry, LogWriter  # noqa: E402
from connector.log.opening import open_reader, open_writer  # noqa: E402
from connector.observe import Fault, Hub, Observation, SourceConnected  # noqa: E402
from connector.settings import Settings  # noqa: E402
from connector.source.capture import Capture  # noqa: E402


class Crashing(Around):
    """The real writer; after so many entries have become durable the process is gone."""

    def __init__(self, writer: LogWriter, crash_after: int) -> None:
        super().__init__(writer)
        self._left = crash_after

    def append(self, entries: Sequence[Entry]) -> None:
        super().append(entries)
        self._left -= len(entries)
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def tell(observation: Observation) -> None:
    """What the test waits for, one line each."""
    if isinstance(observation, SourceConnected):
        sys.stdout.write("streaming\n")
    elif isinstance(observation, Fault):
        sys.stdout.write(observation.cause + "\n")
    sys.stdout.flush()


def main() -> None:
    """Capture until the process is killed."""
    settings, crash_after = Settings.model_validate(json.loads(sys.argv[1])), int(sys.argv[2])

    def writer() -> LogWriter:
        real = open_writer(settings)
        return Crashing(real, crash_after) if crash_after else real

    hub = Hub()
    hub.subscribe(tell)
    Capture(settings, SELECTION, writer, lambda: open_reader(settings), hub).run(threading.Event())


if __name__ == "__main__":
    main()

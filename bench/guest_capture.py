"""Capture of pgbench's accounts into an embedded log, for bench.guest: `guest_capture.py SETTINGS [dead]`.

SETTINGS is JSON. `dead`: the log takes nothing any more once the stream has begun. Prints `streaming` when it begins.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from connector.change.selection import Role, Selection, TableSelection
from connector.log.contract import Durability, Entry, LogWriter
from connector.log.opening import open_reader, open_writer
from connector.observe import Hub, Observation, SourceConnected
from connector.settings import Settings
from connector.source.capture import Capture

SELECTION = Selection((TableSelection("public", "pgbench_accounts", Role.DOSSIER, ("abalance",)),))


class Dying:
    """The real writer, until `dead` is set; from then on nobody comes back from `append`."""

    def __init__(self, writer: LogWriter, dead: threading.Event) -> None:
        self._writer = writer
        self._dead = dead
        self.partitions = writer.partitions

    @property
    def durability(self) -> Durability:
        return self._writer.durability

    def open(self) -> Mapping[int, bytes]:
        return self._writer.open()

    def register(self, schema: str) -> int:
        return self._writer.register(schema)

    def append(self, entries: Sequence[Entry]) -> None:
        if self._dead.is_set():
            threading.Event().wait()
        self._writer.append(entries)

    def close(self) -> None:
        self._writer.close()


def main() -> None:
    """Capture until the process is killed."""
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    dead = threading.Event()

    def tell(observation: Observation) -> None:
        if isinstance(observation, SourceConnected):
            if "dead" in sys.argv:
                dead.set()
            sys.stdout.write("streaming\n")
            sys.stdout.flush()

    hub = Hub()
    hub.subscribe(tell)
    Capture(settings, SELECTION, lambda: Dying(open_writer(settings), dead), lambda: open_reader(settings), hub).run(
        threading.Event()
    )


if __name__ == "__main__":
    main()

"""Capture of pgbench's accounts into Kafka, for bench.away: `away_capture.py SETTINGS`, which is JSON.

Prints `streaming` when the stream begins, and with every feedback how many bytes of changes wait for the log.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from connector.change.selection import Role, Selection, TableSelection
from connector.log.kafka import KafkaWriter
from connector.log.kafka_cluster import Patience
from connector.log.opening import open_reader
from connector.observe import Hub, Observation, SlotProgress, SourceConnected
from connector.settings import Settings
from connector.source.capture import Capture

SELECTION = Selection((TableSelection("public", "pgbench_accounts", Role.DOSSIER, ("abalance", "filler")),))


APPEND = 400.0
"""Seconds for one append: it must not give up, and let go of what it holds, before the bench has ended."""


def tell(observation: Observation) -> None:
    """One line for what the bench waits for."""
    match observation:
        case SourceConnected():
            sys.stdout.write("streaming\n")
        case SlotProgress():
            sys.stdout.write(f"{observation.waiting}\n")
    sys.stdout.flush()


def main() -> None:
    """Capture until the process is killed."""
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    hub = Hub()
    hub.subscribe(tell)
    kafka = settings.log.kafka
    assert kafka is not None

    def writer() -> KafkaWriter:
        return KafkaWriter(settings.name, settings.log.partitions, kafka, Patience(append=APPEND))

    Capture(settings, SELECTION, writer, lambda: open_reader(settings), hub).run(threading.Event())


if __name__ == "__main__":
    main()

"""A ledger of a million events beside an extract of a million rows: time and memory of the comparison.

    python -m bench.reconcile [--events 1000000]

What the comparison reads is made before it is timed; one row in a thousand is altered, and that many must be found.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from connector.delivery.directory import partition_path
from connector.delivery.ledger import events
from connector.delivery.outbox import dump_event
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent, EmcUser
from connector.emc.wire import PARAMETERS, user_json
from connector.reconcile.comparison import Kind
from connector.reconcile.extract import opened
from connector.reconcile.reckoning import Period, Reckoning
from connector.settings import Settings

NOW = 1767600000.0
_USER = EmcUser(None, "QG-1", 2, "000.00.02.H10")
_EVERY = 1000
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, 'delivered', ?, '7:1', 'm', ?, 1, 0, ?, ?, '', '', 0, 1)"


def made(count: int) -> Iterator[EmcEvent]:
    """Dossiers of three events, in the order of time, so not in that of numbers."""
    for number in range(count):
        code = f"000.00.11.H56-260105-{number // 3 * 7919 % count:07}"
        status = number % 3 + 1
        yield EmcEvent(code, 327, "2.000082", "Cấp giấy phép bưu chính", status, 1, 0, 4, 0, 0, "", _USER)


def write_both(directory: Path, count: int) -> Path:
    path, extract = partition_path(directory, "demo", 0), directory / "extract.csv"
    with closing(PartitionState(path, "demo", 0)) as state, extract.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow((*PARAMETERS, "Time"))

        def rows() -> Iterator[tuple[object, ...]]:
            for number, each in enumerate(made(count), 1):
                values = [user_json(each.User) if name == "User" else getattr(each, name) for name in PARAMETERS]
                if number % _EVERY == 0:
                    values[3] = "Khác"
                lines.writerow((*values, "05/01/2026 15:00:00"))
                code, status, at = each.CodeProfile, each.Status, f"1/0/{number}.0"
                yield number, code, code, status, dump_event(each), at, int(NOW * 1e6), NOW, NOW

        state.write().executemany(_INSERT, rows())
        state.commit()
    return extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events
    with TemporaryDirectory() as name:
        directory = Path(name)
        extract = write_both(directory, count)
        settings = Settings.model_validate({"name": "demo", "source": {"dsn": ""}, "delivery": {"state": directory}})
        begin, cpu = perf_counter(), process_time()
        reckoning = Reckoning(Period(NOW - 54_000, NOW + 32_400))
        with opened(extract, {}) as theirs:
            reckoning.take_extract(theirs, lambda *_: None)
        read = perf_counter()
        reckoning.take_ledger(events(settings, NOW - 54_000, NOW + 32_400), NOW, lambda *_: None)
        taken = perf_counter()
        reckoning.settle(lambda *_: None)
        end, cpu = perf_counter(), process_time() - cpu
        kinds = reckoning.summary.kinds
        assert kinds == {Kind.EQUAL: count - count // _EVERY, Kind.DIFFERENT: count // _EVERY}, kinds
        reckoning.close()
    seconds = {"extract": read - begin, "ledger": taken - read, "compare": end - taken, "all": end - begin, "cpu": cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told = {"events": count, "seconds": {name: round(each, 1) for name, each in seconds.items()}, "peak_mib": peak}
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""A writer in a process of its own, for tests that kill or stop it.

Argument: the settings as JSON. Says `open <number of tails>`, then obeys lines: `append N` appends records 0..N-1 of
what it has not appended yet in one batch, `flood` appends batches of 7 for ever; both say `done <records so far>`
after each append. Says `error <class> <message>` and ends when the log refuses.
"""

from __future__ import annotations

import json
import resource
import sys

from connector.errors import LogError
from connector.log.contract import Entry, LogWriter
from connector.log.opening import open_writer
from connector.settings import Settings


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def entry(number: int, partitions: int) -> Entry:
    return Entry(number % partitions, b"child-%d" % number, b"value of %d" % number)


def obey(writer: LogWriter) -> None:
    done = 0

    def append(size: int) -> None:
        nonlocal done
        writer.append([entry(number, writer.partitions) for number in range(done, done + size)])
        done += size
        say(f"done {done}")

    for line in sys.stdin:
        match line.split():
            case ["append", size]:
                append(int(size))
            case ["flood"]:
                while True:
                    append(7)
            case ["limit", size]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))


def main() -> None:
    writer = open_writer(Settings.model_validate(json.loads(sys.argv[1])))
    try:
        say(f"open {len(writer.open())}")
        obey(writer)
    except LogError as error:
        say(f"error {type(error).__name__} {error}")


if __name__ == "__main__":
    main()

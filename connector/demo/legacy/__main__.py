"""The application's command line: `python -m connector.demo.legacy`.

Prints one JSON line at the end; exits 0 after a complete or stopped run, 1 when the database refused. SIGTERM and
SIGINT end the run after the transactions in hand.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from types import FrameType

import psycopg

from connector.demo.legacy.application import Application
from connector.demo.legacy.installation import prepare


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if arguments.prepare:
            prepare(arguments.dsn, arguments.load, arguments.seed)
            return _tell({"old_dossiers": arguments.load})
        dossiers = None if arguments.until_stopped else arguments.dossiers
        application = Application(arguments.dsn, dossiers, arguments.seed, arguments.rate, arguments.workers)

        def stop(number: int, frame: FrameType | None) -> None:
            application.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        return _tell(asdict(application.run()))
    except psycopg.Error as error:
        sys.stderr.write(f"mot cua: {type(error).__name__}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m connector.demo.legacy", description="A legacy one-stop application."
    )
    parser.add_argument("--dsn", required=True, help="libpq connection string of the application's database")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same lives")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--prepare", action="store_true", help="install, with --load old dossiers, and end")
    mode.add_argument("--dossiers", type=int, help="live so many dossiers to their ends, and end")
    mode.add_argument("--until-stopped", action="store_true", help="work until SIGTERM or SIGINT")
    parser.add_argument("--load", type=int, default=0, help="with --prepare: how many old dossiers")
    parser.add_argument("--rate", type=float, default=0.0, help="transactions a second; 0: as many as possible")
    parser.add_argument("--workers", type=int, default=4, help="connections at once")
    return parser


def _tell(result: dict[str, object]) -> int:
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

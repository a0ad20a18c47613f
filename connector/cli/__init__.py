"""The command `emc-cdc`: one file per command.

Contract: exit code 0 done, 1 done and something was found wrong (a failed check, a lost event), 2 could not be done;
an operator never sees a traceback: a ConnectorError is printed with its cause and its mend. `--json` prints one JSON
document (or one per line where a command follows something) and nothing else on standard output.
"""

from __future__ import annotations

import sys

import typer

from connector.cli import (
    capture,
    check,
    deliver,
    demo,
    guard,
    init,
    preview,
    reconcile,
    report,
    run,
    setup,
    simulator,
    snapshot,
    status,
    tail,
)
from connector.cli.terminal import report as report_error
from connector.errors import EXIT_USAGE, ConnectorError

app = typer.Typer(
    name="emc-cdc",
    help="Đưa tiến trình hồ sơ từ cơ sở dữ liệu một cửa tới EMC. "
    "Tells EMC of every dossier's life, straight from the legacy PostgreSQL database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.command()(init.init)
app.command()(check.check)
app.command()(setup.setup)
app.command()(preview.preview)
app.command()(report.report)
app.command()(reconcile.reconcile)
app.command()(run.run)
app.command()(capture.capture)
app.command()(deliver.deliver)
app.command()(status.status)
app.command()(tail.tail)
app.command()(snapshot.snapshot)
app.command()(guard.guard)
app.command()(simulator.simulator)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except ConnectorError as error:
        report_error(error, as_json="--json" in sys.argv)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(130)

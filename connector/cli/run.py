"""`emc-cdc run`: database → EMC, until it is told to stop."""

from __future__ import annotations

from connector import pipeline
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, ListenOption, LogJsonOption, serve


def run(config: ConfigOption = DEFAULT_CONFIG, listen: ListenOption = None, log_json: LogJsonOption = False) -> None:
    """Capture and deliver in one process, for one machine.

    Ends in order at SIGTERM or Ctrl-C; exit code 2 when a person is needed.

    Example: emc-cdc run --config emc-cdc.yml
    """
    serve(config, pipeline.run, log_json, listen)

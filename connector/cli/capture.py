"""`emc-cdc capture`: database → log, until it is told to stop."""

from __future__ import annotations

from connector import pipeline
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, ListenOption, LogJsonOption, serve


def capture(
    config: ConfigOption = DEFAULT_CONFIG, listen: ListenOption = None, log_json: LogJsonOption = False
) -> None:
    """Read the database's replication stream into the change log.

    Ends in order at SIGTERM or Ctrl-C; exit code 2 when a person is needed.

    Example: emc-cdc capture --config emc-cdc.yml
    """
    serve(config, pipeline.capture, log_json, listen)

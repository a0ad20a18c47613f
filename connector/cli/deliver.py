"""`emc-cdc deliver`: log → EMC, until it is told to stop."""

from __future__ import annotations

from connector import pipeline
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, ListenOption, LogJsonOption, serve


def deliver(
    config: ConfigOption = DEFAULT_CONFIG, listen: ListenOption = None, log_json: LogJsonOption = False
) -> None:
    """Fold the change log into events and push them to EMC.

    Ends in order at SIGTERM or Ctrl-C; exit code 2 when a person is needed.

    Example: emc-cdc deliver --config emc-cdc.yml
    """
    serve(config, pipeline.deliver, log_json, listen)

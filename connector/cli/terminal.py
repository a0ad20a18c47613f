"""What the commands share at the terminal: the configuration option, errors, signals, the long-running frame."""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from connector import configuration as configurations
from connector.configuration import Configuration
from connector.console.board import Board
from connector.console.logs import configure_logging, log_observations
from connector.console.metrics import Metrics
from connector.console.server import ConsoleServer
from connector.errors import ConfigErrors, ConnectorError
from connector.observe import Hub

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", envvar="EMC_CDC_CONFIG", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

DEFAULT_CONFIG = Path("emc-cdc.yml")


def report(error: ConnectorError, as_json: bool) -> None:
    """Print an error: on standard error for people, on standard output as JSON for programs."""
    problems = error.problems if isinstance(error, ConfigErrors) else (error,)
    if as_json:
        sys.stdout.write(json.dumps({"errors": [_parts(problem) for problem in problems]}, ensure_ascii=False) + "\n")
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(f"[bold red]✗[/] {escape(problem.operation)}: [bold]{escape(problem.subject)}[/]")
        for line in problem.cause.splitlines():
            console.print(f"  {escape(line)}")
        for number, line in enumerate(problem.mend.splitlines()):
            console.print(f"  [green]{'→' if number == 0 else ' '}[/] {escape(line)}")


def _parts(error: ConnectorError) -> dict[str, str]:
    return {"operation": error.operation, "subject": error.subject, "cause": error.cause, "mend": error.mend}


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def serve(
    config: Path, part: Callable[[Configuration, Hub, threading.Event], None], log_json: bool, listen: str | None
) -> None:
    """Load the configuration and run a part of the pipeline with its console, metrics and log lines."""
    configuration = configurations.load(config)
    configure_logging(as_json=log_json)
    hub = Hub()
    board, metrics = Board(), Metrics()
    hub.subscribe(board.observe)
    hub.subscribe(metrics.observe)
    hub.subscribe(log_observations())
    settings = configuration.settings.console
    address = listen or (settings.listen if settings is not None else None)
    server = ConsoleServer(address, board, metrics) if address else None
    # Rows pass through as plain bytes and tuples, which hold no cycles: with Python's defaults, looking for some among
    # the changes on their way takes a sixth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    with stop_on_signals() as stop:
        if server is not None:
            server.start()
        try:
            part(configuration, hub, stop)
        finally:
            if server is not None:
                server.stop()


ListenOption = Annotated[
    str | None, typer.Option("--listen", help="Address of the console page, instead of console.listen.")
]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log lines as JSON.")]

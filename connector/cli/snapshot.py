"""`emc-cdc snapshot`: have tables read (again), beside the stream or to close a gap; watch it being done."""

from __future__ import annotations

import difflib
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connector import configuration as configurations
from connector.change.selection import Selection
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, stop_on_signals
from connector.errors import SourceError
from connector.pipeline import require_capture
from connector.settings import Settings
from connector.source.attachment import snapshot_progress
from connector.source.gap import GAP, REQUEST, request_text
from connector.source.index import remembered, request
from connector.source.lock import locked

_EVERY = 0.5


def snapshot(
    config: ConfigOption = DEFAULT_CONFIG,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="A captured table, schema.table; may be given several times.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All captured tables; also permits to close a gap of the stream.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave the request, do not watch it being done.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Read captured tables again while the stream goes on, in small chunks that block nobody.

    What the log already tells rightly changes nothing; what differs is corrected, judged, and flagged as recovered.
    After a gap of the stream (a lost slot, a restore) --all is the permission to read everything anew. Run it on
    capture's machine: the request waits in its index, for the next start when no capture runs.

    Example: emc-cdc snapshot --table public.opencps_dossier

    Example: emc-cdc snapshot --all
    """
    configuration = configurations.load(config)
    require_capture(configuration.settings, "snapshot")
    settings, tables = configuration.settings, table or []
    if bool(tables) == everything:
        raise SourceError("ask for a snapshot", "--table, --all", "one of the two is needed", "add --table or --all")
    _require_captured(tables, configuration.plan.selection)
    request(settings.index, request_text(tables or None))
    running = locked(settings)
    if running and not no_wait:
        _watch(settings, json_output)
    meta = remembered(settings.index)
    done = not meta.get(REQUEST) and snapshot_progress(meta) is None
    if json_output:
        found = {"requested": tables or "all", "capture_running": running, "done": done}
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        _tell(running, done)


def _require_captured(tables: list[str], selection: Selection) -> None:
    captured = [one.full_name for one in selection.tables]
    for name in tables:
        if name not in captured:
            near = difflib.get_close_matches(name, captured, 1) or captured
            raise SourceError("ask for a snapshot", name, "no such table is captured", f"write {', '.join(near)}")


def _tell(running: bool, done: bool) -> None:
    console = Console(highlight=False)
    if done:
        console.print("[green]✓[/] đã đọc lại xong")
    elif running:
        console.print("[green]✓[/] đã ghi yêu cầu; capture đang thực hiện (xem: emc-cdc status)")
    else:
        console.print("[yellow]![/] đã ghi yêu cầu, nhưng chưa có capture nào đang chạy trên máy này")
        console.print("    [green]→[/] khởi động emc-cdc capture (hoặc emc-cdc run); các bảng sẽ được đọc lại ngay")


def _watch(settings: Settings, quiet: bool) -> None:
    """Until it is done, or the operator has seen enough: then it goes on without being watched."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with stop_on_signals() as stop, Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        tasks: dict[str, Any] = {}
        while not stop.is_set() and locked(settings):
            meta = remembered(settings.index)
            reading = snapshot_progress(meta)
            if not meta.get(REQUEST) and reading is None and not meta.get(GAP):
                for task in tasks.values():
                    progress.update(task, completed=progress.tasks[task].total)
                return
            for name, one in (reading["tables"] if reading else {}).items():
                total = max(one["estimate"], one["rows"], 1)
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=total)
                progress.update(tasks[name], completed=one["rows"], total=total)
            stop.wait(_EVERY)

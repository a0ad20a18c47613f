"""`emc-cdc guard`: keeps our slot within its budget where the connector itself may be dead; for a timer.

Contract: it asks once, says what it found, and ends; it needs the configuration file and the runtime role only. What it
drops is our own slot, over the budget on our own account, with `source.on_wal_budget: drop_slot` or `--drop`; never
while a capture streams from it, for that one keeps the budget by itself, unless `--force` ends that connection first.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.markup import escape

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.errors import EXIT_LOST, EXIT_OK, SourceError
from connector.pipeline import require_capture
from connector.settings import Settings
from connector.source.budget import Verdict, size_text
from connector.source.connection import ask, command_error
from connector.source.retention import drop_over_budget, measure

_OPERATION = "guard the slot's WAL"


def guard(
    config: ConfigOption = DEFAULT_CONFIG,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop the slot over its budget, whatever source.on_wal_budget says.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With drop: end the connection that streams from the slot, too.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Compare the WAL that our slot holds back with source.wal_budget, and drop the slot where that is wanted.

    For cron or a systemd timer on the database's host: it works when the connector's host is dead, and needs the
    connector's role only. Exit code 0: within the budget. 1: over it (or the slot is lost), whatever was done. 2: it
    could not ask.

    Example: emc-cdc guard --config emc-cdc.yml --json
    """
    settings = configurations.load(config).settings
    require_capture(settings, _OPERATION)
    if settings.source.wal_budget is None:
        mend = "set it below what is free where pg_wal is, e.g. `wal_budget: 8GB`"
        raise SourceError(_OPERATION, "source.wal_budget", "it is not set", mend)
    by_itself = settings.source.on_wal_budget == "drop_slot" or settings.source.on_gap == "reread"
    if drop:
        settings = settings.model_copy(
            update={"source": settings.source.model_copy(update={"on_wal_budget": "drop_slot"})}
        )
    try:
        found = _guard(settings, force=force, by_itself=by_itself)
    except psycopg.Error as error:
        raise command_error(_OPERATION, settings.slot, error, "run it again; see PostgreSQL's log") from None
    if json_output:
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    else:
        _show(found)
    raise typer.Exit(EXIT_OK if found["state"] in ("fine", "absent") else EXIT_LOST)


def _guard(settings: Settings, *, force: bool, by_itself: bool) -> dict[str, Any]:
    """What was found and done. by_itself: whether capture will make a new slot without asking."""
    source, slot = settings.source, settings.slot
    told: dict[str, Any] = {"slot": slot, "budget_bytes": source.wal_budget, "retained_bytes": 0, "own_bytes": 0}
    with ask(source, application="emc-cdc guard") as connection:
        found = measure(connection, slot)
        if found is None:
            return told | _words("absent", "there is no slot of ours: nothing is held back", "")
        told |= {"retained_bytes": found.retained, "own_bytes": found.own_distance, "active_pid": found.active_pid}
        if found.lost:
            mend = "see the runbook: emc-cdc snapshot --all; the dead slot holds nothing back"
            return told | _words("lost", found.lost, mend)
        verdict = found.judge(connection, source)
        if not verdict.passed:
            return told | _words("fine", f"the slot holds back {size_text(found.retained)}", "")
        told["holders"] = [asdict(holder) | {"end_sql": holder.end_sql} for holder in verdict.holders]
        if not verdict.drop:
            return told | _words("over_budget", verdict.cause, verdict.mend)
        if found.active_pid is not None and not force:
            return told | _words("over_budget", *_busy(verdict, found.active_pid))
        dropped = drop_over_budget(connection, source, slot, end_stream_first=force)
    if dropped is None:
        cause = f"{verdict.cause}; it was not dropped: it has come into use again, or within the budget"
        return told | _words("over_budget", cause, "run this again")
    return told | _words("dropped", f"{verdict.cause}; the slot was dropped", _what_follows(by_itself))


def _busy(verdict: Verdict, pid: int) -> tuple[str, str]:
    return (
        f"{verdict.cause}; a capture is at work with it (server process {pid})",
        "that capture keeps the budget by itself where on_wal_budget is drop_slot; --force ends its connection first",
    )


def _what_follows(by_itself: bool) -> str:
    if by_itself:
        return (
            "nothing is to be done: capture makes a new slot, reads the tables anew, and what had changed is reported"
        )
    return "capture will stop and say so: run `emc-cdc snapshot --all` and start it, and what had changed is reported"


def _words(state: str, cause: str, mend: str) -> dict[str, Any]:
    return {"state": state, "cause": cause, "mend": mend}


def _show(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    mark = {"fine": "[green]✓[/]", "absent": "[green]✓[/]", "dropped": "[yellow]![/]"}.get(
        found["state"], "[bold red]✗[/]"
    )
    console.print(f"{mark} slot [bold]{escape(found['slot'])}[/]: {escape(found['cause'])}")
    for number, line in enumerate(found["mend"].splitlines()):
        console.print(f"    [green]{'→' if number == 0 else ' '}[/] {escape(line)}")

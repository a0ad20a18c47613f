"""`emc-cdc preview`: what live dossiers would tell EMC, before anything is sent."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.emc.event import EmcEvent
from connector.emc.judgement import judge
from connector.emc.rules import check
from connector.pipeline import require_capture
from connector.preflight.live import LiveReader
from connector.source.basetypes import type_options
from connector.source.connection import ask


def preview(
    config: ConfigOption = DEFAULT_CONFIG,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=1000, help="How many dossiers, newest first.")] = 5,
    json_output: JsonOption = False,
) -> None:
    """Show what the newest dossiers would tell EMC as they stand now; reads only, sends nothing.

    For each dossier: every milestone it has reached, the event of each, and what the guide's rules find.

    Example: emc-cdc preview --rows 20
    """
    configuration = configurations.load(config)
    require_capture(configuration.settings, "preview")
    settings, plan = configuration.settings, configuration.plan
    shown: list[dict[str, Any]] = []
    with ask(settings.source, application="emc-cdc preview") as connection:
        options = type_options(settings.source.types)
        for dossier in LiveReader(connection, plan.selection, settings.publication, options).dossiers(rows):
            verdict = judge(None, plan.facts(dossier), settings.emc)
            shown.append(
                {
                    "row": {name: _plain(value) for name, value in dossier.dossier.items()},
                    "events": [_event(event) for event in verdict.due],
                    "held": list(verdict.held),
                }
            )
    if json_output:
        sys.stdout.write(json.dumps(shown, ensure_ascii=False, indent=2) + "\n")
        return
    console = Console(highlight=False)
    for one in shown:
        console.print(_table(one))
    console.print(f"{len(shown)} hồ sơ; chưa có gì được gửi đi.")


def _event(event: EmcEvent) -> dict[str, Any]:
    found = [asdict(finding) for finding in check(event)]
    return {"parameters": asdict(event), "findings": found}


def _table(one: dict[str, Any]) -> Table:
    table = Table(title=None, show_header=True, header_style="bold", expand=False)
    table.add_column("Dòng trong CSDL", overflow="fold", max_width=50)
    table.add_column("Sẽ gửi EMC", overflow="fold", max_width=60)
    left = "\n".join(f"{name} = {_short(value)}" for name, value in one["row"].items())
    right: list[str] = []
    for event in one["events"]:
        parameters = event["parameters"]
        user = {name: value for name, value in parameters["User"].items() if value is not None}
        right.append(
            "\n".join(
                f"{name} = {json.dumps(user, ensure_ascii=False) if name == 'User' else value}"
                for name, value in parameters.items()
            )
        )
        right += [f"⚠ {found['rule']} {found['vi']}" for found in event["findings"]]
    right += [f"⏸ chưa gửi được: {reason}" for reason in one["held"]]
    table.add_row(escape(left), escape("\n\n".join(right) or "– (chưa đến hạn gửi gì)"))
    return table


def _short(value: object) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)

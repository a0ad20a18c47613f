"""`emc-cdc preview`: what live dossiers would tell EMC, before anything is sent; and what another mapping would."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connector import configuration as configurations
from connector.cli.progress import told
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.configuration import Configuration
from connector.emc.event import EmcEvent
from connector.emc.judgement import judge
from connector.emc.rules import check
from connector.errors import EXIT_LOST, EXIT_OK, ConfigError
from connector.log.opening import open_reader
from connector.mapping.moments import VIETNAM
from connector.mapping.plan import Plan
from connector.pipeline import require_capture
from connector.preflight.live import LiveReader
from connector.quality.difference import HELD, NOT_TOLD, Difference
from connector.report.comparing import Compared, compare_live, compare_log
from connector.source.basetypes import type_options
from connector.source.connection import ask

_ROWS = 5
_ROWS_AGAINST = 1000
_MOST_SHOWN = 100


def preview(
    config: ConfigOption = DEFAULT_CONFIG,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            "-n",
            min=1,
            help=f"How many dossiers, newest first (default: {_ROWS}, with --against {_ROWS_AGAINST}).",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another mapping, or a configuration that has one.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="With --against: compare over the change log's history instead.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what the newest dossiers would tell EMC as they stand now; reads only, sends nothing.

    For each dossier: every milestone it has reached, the event of each, and what the guide's rules find.

    Example: emc-cdc preview --rows 20

    With --against it shows where another mapping would tell EMC something else: of the newest dossiers, or with --log
    of every transaction in the change log. Values are shown (personal data). Exit code 0: both tell the same. 1: they
    differ. 2: they cannot be compared.

    Example: emc-cdc preview --against moi.yml --rows 10000

    Example: emc-cdc preview --against moi.yml --log
    """
    if log and (against is None or rows is not None):
        cause, mend = "it goes with --against, and without --rows", "add --against FILE, or leave --log out"
        raise ConfigError("preview", "--log", cause, mend)
    configuration = configurations.load(config)
    require_capture(configuration.settings, "preview")
    if against is None:
        _preview(configuration, rows or _ROWS, json_output)
    else:
        other = configurations.load_mapping(against)
        _compare(configuration, other, against, rows or _ROWS_AGAINST, log=log, json_output=json_output)


def _preview(configuration: Configuration, rows: int, json_output: bool) -> None:
    settings, plan = configuration.settings, configuration.plan
    shown: list[dict[str, Any]] = []
    with ask(settings.source, application="emc-cdc preview") as connection:
        reader = LiveReader(connection, plan, settings.publication, type_options(settings.source.types))
        for batch in reader.newest(rows):
            for dossier, facts in zip(batch.dossiers, reader.facts(batch.dossiers), strict=True):
                verdict = judge(None, facts, settings.emc)
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


# -- against another mapping ---------------------------------------------------------------------------------------


def _compare(configuration: Configuration, other: Plan, path: Path, rows: int, *, log: bool, json_output: bool) -> None:
    differing = total = 0
    events = [0, 0]
    parameters: Counter[str] = Counter()
    shown: list[tuple[Compared, Difference]] = []
    for one in _compared(configuration, other, rows, log):
        total += 1
        differing += bool(one.differences)
        events = [have + more for have, more in zip(events, one.events, strict=True)]
        for difference in one.differences:
            parameters[difference.parameter] += 1
            if json_output or len(shown) < _MOST_SHOWN:
                shown.append((one, difference))
    counts = {
        "compared": total,
        "differing": differing,
        "events": {"here": events[0], "there": events[1]},
        "parameters": dict(parameters.most_common()),
    }
    if json_output:
        versions = {"here": configuration.plan.version, "there": other.version}
        document = {"over": "log" if log else "live rows", "mappings": versions, **counts}
        document["differences"] = [_difference(*each) for each in shown]
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    else:
        _show_differences(shown, counts, path, log)
    raise typer.Exit(EXIT_LOST if differing else EXIT_OK)


def _compared(configuration: Configuration, other: Plan, rows: int, log: bool) -> Iterator[Compared]:
    settings, plan = configuration.settings, configuration.plan
    if not log:
        with told("so sánh hồ sơ") as tell:
            for number, one in enumerate(compare_live(settings, plan, other, rows), 1):
                yield one
                tell(number, rows)
        return
    reader = open_reader(settings)
    try:
        with told("đọc nhật ký") as tell:
            yield from compare_log(reader, settings.emc, plan, other, tell)
    finally:
        reader.close()


def _difference(one: Compared, difference: Difference) -> dict[str, Any]:
    return {"dossier": one.code, "key": one.key, "committed": _committed(one), **asdict(difference)}


def _committed(one: Compared) -> str | None:
    if one.commit_time_us is None:
        return None
    return datetime.fromtimestamp(one.commit_time_us / 1e6, UTC).astimezone(VIETNAM).isoformat(" ", "seconds")


def _show_differences(shown: list[tuple[Compared, Difference]], counts: dict[str, Any], path: Path, log: bool) -> None:
    console = Console(highlight=False)
    if shown:
        table = Table("Hồ sơ", *(("Lúc",) if log else ()), "Status", "Tham số", "Ở đây", f"Theo {path.name}")
        for one, difference in shown:
            name = "chưa gửi được" if difference.parameter == HELD else difference.parameter
            when = ((_committed(one) or "")[:19],) if log else ()
            status = "" if difference.status is None else str(difference.status)
            values = (_side(difference, difference.here), _side(difference, difference.there))
            table.add_row(*map(escape, (one.code or f"(khóa {one.key})", *when, status, name, *values)))
        console.print(table)
    if (more := sum(counts["parameters"].values()) - len(shown)) > 0:
        console.print(f"… và {more} chỗ khác nữa (tất cả: --json)")
    for name, count in counts["parameters"].items():
        console.print(f"  {'chưa gửi được' if name == HELD else escape(name)}: {count}")
    here, there = counts["events"]["here"], counts["events"]["there"]
    what = "giao dịch có sự kiện" if log else "hồ sơ"
    mark = "[yellow]![/]" if counts["differing"] else "[green]✓[/]"
    console.print(
        f"{mark} {counts['differing']} trong {counts['compared']} {what} khác nhau;"
        f" sự kiện: {here} ở đây, {there} theo {escape(path.name)}; chưa có gì được gửi đi.",
        soft_wrap=True,
    )


def _side(difference: Difference, value: object) -> str:
    if value is None:
        return "không gửi" if difference.parameter == NOT_TOLD else "–"
    return "gửi" if difference.parameter == NOT_TOLD else _short(value)

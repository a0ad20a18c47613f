"""`emc-cdc report`: faults of the data, and the share of dossiers that were handled online."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
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
from connector.errors import EXIT_LOST, EXIT_OK, ConfigError
from connector.mapping.moments import VIETNAM
from connector.pipeline import require_capture
from connector.preflight.live import VIETNAM_ZONE
from connector.report.gathering import Wanted, gather
from connector.report.histories import add_histories
from connector.report.sheets import COUNTS, UNKNOWN, Heading, counts, sheets, summary
from connector.report.tally import Group, Tally
from connector.workbook import require_writable, write

_MOST_GROUPS = 40
_MOST_FAULTS = 20
_SHOWN_COUNTS = 6
"""Up to the share; why dossiers are not online is for wider paper."""


def report(
    config: ConfigOption = DEFAULT_CONFIG,
    since: Annotated[str | None, typer.Option("--from", help="First day, as 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day, as 2026-12-31.")] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Only this unit (User.LOCATION).")] = None,
    service: Annotated[str | None, typer.Option("--service", help="Only this procedure (CodeTTHC).")] = None,
    column: Annotated[
        str | None,
        typer.Option("--date", help="The dossier table's column that dates a dossier (default: the mapped one)."),
    ] = None,
    zone: Annotated[str, typer.Option("--zone", help="Whose days are meant, for times with a zone.")] = VIETNAM_ZONE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write all of it as XLSX.")] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Look at the histories in the change log, too.")] = True,
    pause: Annotated[float, typer.Option("--pause", min=0, help="Seconds to wait after every 2,000 dossiers.")] = 0.0,
    json_output: JsonOption = False,
) -> None:
    """Report faults of the data, and how many dossiers were handled online, by unit, service and month.

    It reads the live rows through the mapping, in small batches, and the histories in the change log where there is
    one; nothing is written and nothing is sent. Dossiers are named by number; no name or account of a person is told.
    Exit code 0: no fault. 1: there are some. 2: it could not be made.

    Example: emc-cdc report

    Example: emc-cdc report --from 2026-01-01 --to 2026-03-31 --output quy-1.xlsx
    """
    configuration = configurations.load(config)
    require_capture(configuration.settings, "report")
    wanted = Wanted(column, zone, _day("--from", since), _day("--to", until), unit, service)
    if output is not None:
        require_writable(output)
    tally = Tally()
    try:
        dated, history = _gather(configuration, wanted, tally, log, pause)
        made = datetime.now(VIETNAM)
        heading = Heading(configuration.settings.name, f"{made:%H:%M %d/%m/%Y}", dated, wanted, history)
        if output is not None:
            write(output, sheets(tally, heading))
        if json_output:
            _print_json(tally, heading, made)
        else:
            _show(tally, heading, output)
        raise typer.Exit(EXIT_LOST if tally.summary.faulty else EXIT_OK)
    finally:
        tally.close()


def _gather(configuration: Configuration, wanted: Wanted, tally: Tally, log: bool, pause: float) -> tuple[str, str]:
    settings, plan = configuration.settings, configuration.plan
    history = "không xem nhật ký (--no-log)"
    with told("đọc hồ sơ") as tell:
        dated = gather(settings, plan, wanted, tally, pause, tell)
    if log:
        with told("đọc nhật ký") as tell:
            history = add_histories(settings, plan, wanted, tally, tell)
    tally.finish(only_added=not wanted.everything)
    return dated, history


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("make the report", option, f"'{text}' is not a day", "write it as 2026-01-31") from None


# -- printing ------------------------------------------------------------------------------------------------------


def _print_json(tally: Tally, heading: Heading, made: datetime) -> None:
    """One document, line by line: there may be a million faults."""
    head = {
        "name": heading.name,
        "made": made.isoformat(timespec="seconds"),
        "from": heading.wanted.since and heading.wanted.since.isoformat(),
        "to": heading.wanted.until and heading.wanted.until.isoformat(),
        "unit": heading.wanted.unit,
        "service": heading.wanted.service,
        "dated_by": heading.dated,
        "history": heading.history,
        "summary": asdict(tally.summary) | {"silent": tally.summary.silent, "faults": tally.kinds()},
        "total": _group(next(tally.totals(""))),
    }
    out = sys.stdout
    out.write(json.dumps(head, ensure_ascii=False, indent=2)[:-2])
    for name, rows in (
        ("units", map(_group, tally.totals("unit"))),
        ("services", map(_group, tally.totals("service"))),
        ("months", map(_group, tally.totals("month"))),
        ("online", map(_group, tally.groups())),
        ("faults", map(asdict, tally.faults())),
    ):
        out.write(f',\n  "{name}": [')
        for number, row in enumerate(rows):
            out.write(f"{',' if number else ''}\n    {json.dumps(row, ensure_ascii=False)}")
        out.write("\n  ]")
    out.write("\n}\n")


def _group(group: Group) -> dict[str, Any]:
    return asdict(group) | {"share": group.share}


def _show(tally: Tally, heading: Heading, output: Path | None) -> None:
    console = Console(highlight=False)
    for line in heading.lines():
        console.print(f"[bold]{escape(line)}[/]", soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for what, value, form in summary(tally, heading):
        table.add_row(what, _text(value, form))
    console.print(table)
    for title, by in (("Theo tháng", "month"), ("Theo đơn vị", "unit"), ("Theo thủ tục", "service")):
        _show_groups(console, title, by, tally)
    _show_faults(console, tally)
    if output is not None:
        console.print(f"[green]✓[/] đã ghi {escape(str(output))}", soft_wrap=True)
    else:
        console.print("đầy đủ từng đơn vị, thủ tục, tháng và từng lỗi: --output bao-cao.xlsx hoặc --json")


def _show_groups(console: Console, title: str, by: str, tally: Tally) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("", no_wrap=True)
    for name in COUNTS[:_SHOWN_COUNTS]:
        table.add_column(name, justify="right")
    more = 0
    for number, group in enumerate(tally.totals(by)):
        if number < _MOST_GROUPS:
            texts = (_text(value, "0.0%") for value in counts(group)[:_SHOWN_COUNTS])
            table.add_row(escape(getattr(group, by) or UNKNOWN), *texts)
        else:
            more += 1
    console.print(table)
    if more:
        console.print(f"… và {more} dòng nữa")


def _show_faults(console: Console, tally: Tally) -> None:
    total = sum(tally.kinds().values())
    if not total:
        console.print("[green]✓[/] không thấy lỗi dữ liệu nào")
        return
    table = Table(title="Lỗi dữ liệu", title_justify="left", header_style="bold")
    table.add_column("Mã hồ sơ", no_wrap=True)
    table.add_column("Đơn vị", no_wrap=True)
    table.add_column("Tham số")
    table.add_column("Nội dung", overflow="fold")
    for one in tally.faults(_MOST_FAULTS):
        what = f"{'⏸ ' if one.holds else ''}{one.vi}{f' ({one.rule})' if one.rule else ''}"
        table.add_row(*map(escape, (one.code or f"(khóa {one.key})", one.unit or UNKNOWN, one.parameter, what)))
    console.print(table)
    if tally.summary.held:
        console.print("⏸ hồ sơ chưa gửi được cho đến khi sửa xong")
    if total > _MOST_FAULTS:
        console.print(f"… và {total - _MOST_FAULTS:,} lỗi nữa".replace(",", "."))


def _text(value: object, form: str) -> str:
    """As Vietnamese writes numbers."""
    if value is None:
        return "–"
    if isinstance(value, float) and form == "0.0%":
        return f"{value:.1%}".replace(".", ",")
    return f"{value:,}".replace(",", ".") if isinstance(value, int) else str(value)

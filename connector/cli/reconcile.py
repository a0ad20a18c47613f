"""`emc-cdc reconcile`: the ledger beside EMC's extract (guide, Appendix 3)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from time import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connector import configuration as configurations
from connector.cli.progress import told
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.delivery.ledger import events
from connector.errors import EXIT_LOST, EXIT_OK, ConfigError
from connector.mapping.moments import VIETNAM
from connector.reconcile.columns import COMPARED, KNOWN
from connector.reconcile.extract import opened
from connector.reconcile.reckoning import MARGIN, TOLD, Period, Reckoning
from connector.reconcile.sheets import TITLES, Heading, groups, note, sheets, summary
from connector.settings import Settings
from connector.workbook import require_writable, write

_OPERATION = "reconcile"
_MOST_SHOWN = 20


def reconcile(
    extract: Annotated[Path, typer.Option("--extract", help="EMC's extract: CSV or XLSX.")],
    since: Annotated[str, typer.Option("--from", help="First day of the period, as 2026-01-01.")],
    until: Annotated[str, typer.Option("--to", help="Last day of the period, as 2026-01-31.")],
    config: ConfigOption = DEFAULT_CONFIG,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write all of it as XLSX.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Compare what was sent with what EMC has, by EMC's extract; reads only, sends nothing.

    Told are events that are missing at EMC, rows that are unknown here, differences by parameter, duplicates, and what
    waits or was rejected. Values that differ are shown (personal data). Days are Vietnam's, by EMC's reception time.
    Exit code 0: nothing to look at. 1: there is something. 2: they cannot be compared.

    Example: emc-cdc reconcile --extract emc-thang-1.xlsx --from 2026-01-01 --to 2026-01-31 --output doi-soat.xlsx
    """
    settings = configurations.load(config).settings
    _require_columns(settings)
    first, last = _day("--from", since), _day("--to", until)
    period = _period(first, last)
    now = time()
    _require_ledger(settings, first, now)
    if output is not None:
        require_writable(output)
    reckoning = Reckoning(period)
    try:
        with opened(extract, settings.reconcile.columns) as theirs, told("đọc tệp của EMC") as tell:
            reckoning.take_extract(theirs, tell)
            form = theirs.form
        with told("đọc sổ gửi") as tell:
            ours = events(settings, period.since - MARGIN, period.until + MARGIN)
            reckoning.take_ledger(ours, now, tell)
        with told("đối chiếu") as tell:
            reckoning.settle(tell)
        heading = Heading(
            settings.name,
            f"{datetime.fromtimestamp(now, VIETNAM):%H:%M %d/%m/%Y}",
            f"{first:%d/%m/%Y}",
            f"{last:%d/%m/%Y}",
            extract.name,
            form,
            tuple(name for name in COMPARED if name not in reckoning.compared),
        )
        if output is not None:
            write(output, sheets(reckoning, heading))
        if json_output:
            _print_json(reckoning, heading)
        else:
            _show(reckoning, heading, output)
        raise typer.Exit(EXIT_LOST if reckoning.summary.differs else EXIT_OK)
    finally:
        reckoning.close()


def _day(option: str, written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise ConfigError(_OPERATION, option, f"'{written}' is not a day", "write it as 2026-01-31") from None


def _period(first: date, last: date) -> Period:
    if last < first:
        raise ConfigError(_OPERATION, "--to", "it is before --from", "exchange the two")
    since, until = (datetime(day.year, day.month, day.day, tzinfo=VIETNAM) for day in (first, last))
    return Period(since.timestamp(), (until + timedelta(days=1)).timestamp())


def _require_columns(settings: Settings) -> None:
    for name in settings.reconcile.columns:
        if name not in KNOWN:
            mend = f"write one of: {', '.join(KNOWN)}"
            raise ConfigError(_OPERATION, "reconcile.columns", f"there is no parameter '{name}'", mend)


def _require_ledger(settings: Settings, first: date, now: float) -> None:
    """What was forgotten would look as if it had never been sent."""
    days = settings.delivery.ledger_days
    kept = datetime.fromtimestamp(now, VIETNAM).date() - timedelta(days=days - 1)
    if first < kept:
        cause = f"the ledger keeps delivered events for {days} days, so it may not reach back to {first}"
        mend = f"compare from {kept} on, and raise delivery.ledger_days for the next time"
        raise ConfigError(_OPERATION, "--from", cause, mend)


# -- printing ------------------------------------------------------------------------------------------------------


def _print_json(reckoning: Reckoning, heading: Heading) -> None:
    """One document, line by line: there may be a million findings."""
    told_of = reckoning.summary
    head = {
        **asdict(heading),
        "ours": told_of.ours,
        "theirs": told_of.theirs,
        "outside": told_of.outside,
        "kinds": told_of.kinds,
        "ambiguous": {"at_emc": told_of.settled[True], "not_at_emc": told_of.settled[False]},
    }
    out = sys.stdout
    out.write(json.dumps(head, ensure_ascii=False, indent=2)[:-2])
    for name, rows in (("groups", _groups(reckoning)), ("findings", map(asdict, reckoning.told(*TOLD)))):
        out.write(f',\n  "{name}": [')
        for number, row in enumerate(rows):
            out.write(f"{',' if number else ''}\n    {json.dumps(row, ensure_ascii=False)}")
        out.write("\n  ]")
    out.write("\n}\n")


def _groups(reckoning: Reckoning) -> Iterator[dict[str, Any]]:
    for (unit, service), counts in groups(reckoning):
        yield {"unit": unit, "service": service, **{kind.value: count for kind, count in counts.items()}}


def _show(reckoning: Reckoning, heading: Heading, output: Path | None) -> None:
    console = Console(highlight=False)
    for line in heading.lines():
        console.print(escape(line), soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for what, count in summary(reckoning):
        table.add_row(what, f"{count:,}".replace(",", "."))
    console.print(table)
    if not reckoning.summary.differs:
        console.print("[green]✓[/] số liệu hai bên khớp nhau")
    else:
        _show_findings(console, reckoning)
    if output is not None:
        console.print(f"[green]✓[/] đã ghi {escape(str(output))}", soft_wrap=True)
    elif reckoning.summary.differs:
        console.print("đầy đủ từng dòng: --output doi-soat.xlsx hoặc --json")


def _show_findings(console: Console, reckoning: Reckoning) -> None:
    table = Table(header_style="bold")
    for name in ("Kết quả", "Mã hồ sơ", "Trạng thái", "Nội dung"):
        table.add_column(name, overflow="fold", no_wrap=name == "Mã hồ sơ")
    more = 0
    for number, one in enumerate(reckoning.told(*TOLD)):
        if number >= _MOST_SHOWN:
            more += 1
            continue
        parts = [f"{name}: {ours or '–'} ≠ {theirs or '–'} (EMC)" for name, ours, theirs in one.differing]
        parts += [f"dòng {one.number}"] if one.number is not None else []
        parts += [note(one)] if note(one) and not one.differing else []
        table.add_row(*map(escape, (TITLES[one.kind], one.code, one.status, "; ".join(parts))))
    console.print(table)
    if more:
        console.print(f"… và {more:,} dòng nữa".replace(",", "."))

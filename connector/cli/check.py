"""`emc-cdc check`: what stands in the way, and what mends it.

| check | asks |
|---|---|
| MAP-01 | the tables and columns that the mapping names are in the database, each error at its line of the file |
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.markup import escape

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.configuration import Configuration
from connector.errors import EXIT_OK, EXIT_USAGE
from connector.finding import Finding, Severity
from connector.mapping.plan import against_catalog
from connector.preflight.debezium import check_debezium
from connector.preflight.emc import check_emc
from connector.preflight.emc_answer import check_answer
from connector.preflight.log import check_directories, check_log
from connector.preflight.postgres import check_source
from connector.settings import Settings

_MARKS = {
    Severity.OK: "[green]✓[/]",
    Severity.NOTE: "[blue]·[/]",
    Severity.UNKNOWN: "[magenta]?[/]",
    Severity.WARNING: "[yellow]![/]",
    Severity.ERROR: "[bold red]✗[/]",
}
_RUNNERS = {
    "owner": "the tables' owner runs",
    "dba": "a superuser (DBA) runs",
    "operator": "the connector's operator",
    "kafka": "Kafka's administrator runs",
}


def check(config: ConfigOption = DEFAULT_CONFIG, json_output: JsonOption = False) -> None:
    """Check database, mapping, log and EMC, and say what mends each finding.

    It only reads: nothing is made in the database, and EMC is sent no event. It takes a second, to see how fast WAL
    grows. What SQL cannot show (`?`) is told with the command that shows it. docs/checks.md lists every check.
    Exit code 0: nothing stands in the way. 2: something does, with which `emc-cdc run` would end as well.

    Example: emc-cdc check --config emc-cdc.yml
    """
    findings = gather(configurations.load(config), datetime.now(UTC))
    failed = any(finding.severity is Severity.ERROR for finding in findings)
    if json_output:
        listed = [{**asdict(finding), "severity": finding.severity.value} for finding in findings]
        sys.stdout.write(json.dumps({"ok": not failed, "findings": listed}, ensure_ascii=False, indent=2) + "\n")
    else:
        _show(findings)
    raise typer.Exit(EXIT_USAGE if failed else EXIT_OK)


def gather(configuration: Configuration, now: datetime) -> list[Finding]:
    """Every finding there is. `now`: with time zone."""
    settings, plan = configuration.settings, configuration.plan
    if settings.log.debezium is not None:
        found = check_debezium(settings, plan.selection)
        return [*found, *check_directories(settings), *_emc(settings, now)]
    report = check_source(settings, plan.selection)
    findings = list(report.findings)
    if report.columns:
        mapping = [
            Finding("MAP-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")
            for error in against_catalog(plan, report.columns)
        ]
        if mapping:
            # What is not there is named by the mapping, whose own finding has the line of the file.
            findings = [one for one in findings if not (one.check in ("PG-10", "PG-14") and "no such" in one.what)]
        findings += mapping
    findings += check_log(settings)
    findings += check_directories(settings)
    return [*findings, *_emc(settings, now)]


def _emc(settings: Settings, now: datetime) -> list[Finding]:
    found = check_emc(settings.emc, now)
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    return [*found, check_answer(settings.emc)]


def _show(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = _MARKS[finding.severity]
        console.print(f"{mark} [dim]{finding.check:7}[/] [bold]{escape(finding.subject)}[/]: {escape(finding.what)}")
        if finding.mend:
            console.print(f"          [green]→ {_RUNNERS[finding.who]}:[/]")
            for line in finding.mend:
                console.print(f"            {escape(line)}")
    counts = Counter(finding.severity for finding in findings)
    console.print(
        f"\nerrors: {counts[Severity.ERROR]}, warnings: {counts[Severity.WARNING]}, in order: {counts[Severity.OK]},"
        f" to be looked at by a person: {counts[Severity.UNKNOWN]}"
    )

"""`emc-cdc check`: what stands in the way, and what mends it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.markup import escape

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.errors import EXIT_LOST
from connector.mapping.plan import against_catalog
from connector.preflight.emc import check_emc
from connector.preflight.finding import Finding, Severity
from connector.preflight.log import check_log
from connector.preflight.postgres import check_source

_MARKS = {
    Severity.OK: "[green]✓[/]",
    Severity.NOTE: "[blue]·[/]",
    Severity.WARNING: "[yellow]![/]",
    Severity.ERROR: "[bold red]✗[/]",
}
_WHO = {"owner": "chủ sở hữu bảng chạy", "dba": "quản trị CSDL chạy", "operator": "người vận hành"}


def check(config: ConfigOption = DEFAULT_CONFIG, json_output: JsonOption = False) -> None:
    """Check database, log, mapping and EMC, reading only; say what mends each finding.

    Exit code 0: nothing in the way. 1: something stands in the way. 2: the check could not be made.

    Example: emc-cdc check --config emc-cdc.yml
    """
    configuration = configurations.load(config)
    settings, plan = configuration.settings, configuration.plan
    findings, columns = check_source(settings, plan.selection)
    if columns:
        findings += [
            Finding("MAP-01", Severity.ERROR, error.subject, error.cause, (error.mend,), "operator")
            for error in against_catalog(plan, columns)
        ]
    findings += check_log(settings)
    findings += check_emc(settings.emc, datetime.now(UTC))
    failed = any(finding.severity is Severity.ERROR for finding in findings)
    if json_output:
        listed = [{**asdict(finding), "severity": finding.severity.value} for finding in findings]
        sys.stdout.write(json.dumps({"ok": not failed, "findings": listed}, ensure_ascii=False, indent=2) + "\n")
    else:
        _show(findings)
    raise typer.Exit(EXIT_LOST if failed else 0)


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = _MARKS[finding.severity]
        console.print(f"{mark} [dim]{finding.check:7}[/] [bold]{escape(finding.subject)}[/]: {escape(finding.what)}")
        if finding.mend:
            console.print(f"          [green]→ {_WHO.get(finding.who, '')}:[/]")
            for line in finding.mend:
                console.print(f"            {escape(line)}")
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    console.print(f"\n{len(findings)} mục: {errors} lỗi, {warnings} cảnh báo.")

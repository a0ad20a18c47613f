"""`emc-cdc init`: looks at a database's catalog and drafts a configuration with its reasons and open questions."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import conninfo
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, JsonOption
from connector.drafting import candidates as drafting
from connector.drafting.candidates import Candidate
from connector.drafting.draft import Draft, from_parts, from_preset
from connector.drafting.inventory import Inventory, Shapes, Table
from connector.drafting.page import shown
from connector.drafting.parts import around, assign, catalogue
from connector.drafting.recognition import Recognised, recognise
from connector.drafting.vocabulary import TABLES, compact
from connector.errors import EXIT_LOST, EXIT_OK, ConfigError, SourceError
from connector.mapping.marks import nearest
from connector.preflight.inventory import Sampler, grant, read_inventory
from connector.settings import SourceSettings
from connector.source.connection import ask

OPERATION = "draft a configuration"
DSN = "${env:EMC_CDC_DSN}"
_SECRETS = ("password", "sslpassword")
_CALL = re.compile(r"\$\{(?:env|file):[^}]+\}")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Looked:
    """Everything that one look at the database gave."""

    draft: Draft
    inventory: Inventory
    candidates: tuple[Candidate, ...]
    recognised: Recognised | None
    unread: tuple[Table, ...]
    unsampled: dict[str, str]


def init(
    dsn: Annotated[
        str, typer.Option(help="Connection string; its password as ${env:…} or ${file:…}, PGPASSWORD or ~/.pgpass.")
    ] = DSN,
    schema: Annotated[str | None, typer.Option(help="Look at this schema only.")] = None,
    dossier: Annotated[str | None, typer.Option(help="schema.table of the dossiers, where the guess is wrong.")] = None,
    site_id: Annotated[
        int | None, typer.Option(min=1, max=999_999_999, help="The site id that EMC gave to the agency.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Look at a database and draft a configuration: mapping, reasons, open questions.

    It only reads, in small samples, and creates nothing but the file. What only names suggest is marked there «cần
    xác nhận»; what is not known stays unknown, and its dossiers are held, until its QUESTION is answered. A system
    that a preset is written for is recognised, unless --dossier names the table. docs/init.md tells more.
    Exit code 0: nothing is open. 1: there are questions, each at its line. 2: no draft could be made.

    Example: PGPASSWORD=… emc-cdc init --dsn 'host=db dbname=motcua user=emc_cdc' --schema motcua
    """
    if output.exists() and not force:
        raise ConfigError(OPERATION, str(output), "the file is there already", "give --force, or another --output")
    told = None if json_output else Console(stderr=True, highlight=False)
    looked = _look(_filled(dsn), schema, dossier, _without_secrets(dsn), site_id, told)
    _write(output, looked.draft)
    if json_output:
        sys.stdout.write(json.dumps(_data(output, looked), ensure_ascii=False, indent=2) + "\n")
    else:
        _show(output, looked)
    raise typer.Exit(EXIT_LOST if looked.draft.questions else EXIT_OK)


# --- the connection string ------------------------------------------------------------------------------------------


def _filled(dsn: str) -> str:
    """The connection string with its references resolved."""
    return configurations.fill(dsn, "--dsn")


def _without_secrets(dsn: str) -> str:
    """What the draft says: references stay references, a password that was written out is left out."""
    if _CALL.fullmatch(dsn):
        return dsn
    try:
        parameters = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        mend = "write host=… dbname=… user=… password=${env:NAME}, or the whole of it as one ${env:NAME}"
        raise ConfigError(OPERATION, "--dsn", "it is not a connection string", mend) from None
    written_out = [name for name in _SECRETS if parameters.get(name) and not _CALL.fullmatch(str(parameters[name]))]
    if not written_out:
        return dsn
    kept = {name: str(value) for name, value in parameters.items() if name not in written_out and value is not None}
    return conninfo.make_conninfo("", **kept)


# --- the look -------------------------------------------------------------------------------------------------------


def _look(
    dsn: str, schema: str | None, dossier: str | None, written: str, site_id: int | None, told: Console | None
) -> Looked:
    def say(text: str) -> None:
        if told is not None:
            told.print(f"[dim]{escape(text)}[/]")

    settings = SourceSettings(dsn=SecretStr(dsn), statement_timeout=15.0, lock_timeout=1.0)
    try:
        connection = ask(settings, application="emc-cdc init")
    except SourceError as error:
        mend = error.mend.replace("source.dsn", "--dsn")
        raise type(error)(error.operation, "--dsn", error.cause, mend) from None
    with connection:
        say("Đang đọc danh mục của cơ sở dữ liệu…")
        inventory = read_inventory(connection, schema)
        say(f"{len(inventory.tables)} bảng. Đang tìm bảng hồ sơ…")
        unread = tuple(table for table in inventory.tables if not table.readable and _of_interest(table))
        found = recognise(inventory, configurations.preset_texts()) if dossier is None else None
        if found is not None:
            _require_anchor(found.dossier)
            drafted = from_preset(inventory, found, written, site_id)
            unread = tuple(table for table in found.tables.values() if not table.readable)
            return Looked(drafted, inventory, (), found, unread, {})
        sampler = Sampler(connection)
        likely = [_chosen(inventory, dossier)] if dossier is not None else drafting.shortlist(inventory)
        shapes: dict[str, Shapes] = {}
        for number, table in enumerate(likely, 1):
            say(f"Xem mẫu {number}/{len(likely)}: {shown(table.full_name)}")
            shapes[table.full_name] = sampler.shapes(table)
        ranked = [one for one in drafting.rank(inventory, shapes) if one.table in likely]
        if not ranked or (dossier is None and ranked[0].score < drafting.ENOUGH):
            raise _none(inventory, ranked, unread)
        best = ranked[0].table
        _require_anchor(best)
        for table in around(inventory, best):
            if table.full_name not in shapes:
                shapes[table.full_name] = sampler.shapes(table)
        parts = assign(inventory, best, shapes)
        say("Đang đếm các từ trạng thái…")
        words = sampler.words(parts.worded())
        for place in parts.worded():
            if (named := catalogue(inventory, place)) is not None:
                labels = sampler.labels(*named)
                at = (place.table.full_name, place.column.name)
                words[at] = [replace(word, label=labels.get(word.text, "")) for word in words.get(at, ())]
        drafted = from_parts(inventory, parts, shapes, words, written, site_id)
    return Looked(drafted, inventory, tuple(ranked[:_SHOWN]), None, unread, sampler.unsampled)


def _of_interest(table: Table) -> bool:
    return any(pattern.search(compact(table.name)) for pattern in TABLES.values())


def _require_anchor(table: Table) -> None:
    """What is unknown is written over a column that always has a value."""
    if table.anchor is None:
        mend = f"the tables' owner gives {shown(table.full_name)} a primary key, or name another with --dossier"
        raise SourceError(OPERATION, shown(table.full_name), "it has no column that is never NULL", mend)


def _chosen(inventory: Inventory, name: str) -> Table:
    for table in inventory.tables:
        if table.full_name == name:
            if table.readable:
                return table
            mend = "\n".join(f"the tables' owner runs: {line}" for line in grant(table, inventory.role))
            raise SourceError(OPERATION, shown(name), f"{inventory.role} may not read it", mend)
    near = nearest(name, [table.full_name for table in inventory.tables])
    raise SourceError(OPERATION, "--dossier", f"there is no table {shown(name)}", near or "write schema.table")


def _none(inventory: Inventory, ranked: Sequence[Candidate], unread: Sequence[Table]) -> SourceError:
    """No table looks like dossiers: what may not be read is told, and how to go on."""
    lines = ["name the table yourself: --dossier schema.table"]
    if ranked:
        lines.append(f"the nearest: {', '.join(shown(one.table.full_name) for one in ranked[:_SHOWN])}")
    for table in unread[:_SHOWN]:
        lines += [f"not readable; the tables' owner runs: {line}" for line in grant(table, inventory.role)]
    cause = f"none of {len(inventory.tables)} tables looks like dossiers to the role {inventory.role}"
    return SourceError(OPERATION, f"database {inventory.database}", cause, "\n".join(lines))


# --- the file -------------------------------------------------------------------------------------------------------


def _write(output: Path, draft: Draft) -> None:
    """Put the draft in place, once it has proved to load."""
    beside = output.with_name(f".{output.name}.new")
    try:
        beside.write_text(draft.text, encoding="utf-8")
        configurations.load(beside)
        os.replace(beside, output)
    except OSError as error:
        mend = "give a place that can be written, with --output"
        raise ConfigError(OPERATION, str(output), (error.strerror or "it cannot be written").lower(), mend) from None
    finally:
        beside.unlink(missing_ok=True)


# --- what is told ---------------------------------------------------------------------------------------------------


def _next(output: Path) -> list[str]:
    given = "" if output == DEFAULT_CONFIG else f" --config {output}"
    return [f"emc-cdc check{given}", f"emc-cdc preview{given} --rows 20"]


def _data(output: Path, looked: Looked) -> dict[str, Any]:
    found = looked.recognised
    return {
        "draft": str(output),
        "tables": len(looked.inventory.tables),
        "preset": None
        if found is None
        else {
            "name": found.preset,
            "share": round(found.share, 3),
            "differences": [asdict(x) for x in found.differences],
        },
        "candidates": [
            {
                "table": one.table.full_name,
                "score": one.score,
                "reasons": [{"points": points, "vi": vi, "en": en} for points, vi, en in one.reasons],
            }
            for one in looked.candidates
        ],
        "questions": [asdict(question) for question in looked.draft.questions],
        "unreadable": [
            {"table": table.full_name, "mend": grant(table, looked.inventory.role)} for table in looked.unread
        ],
        "unsampled": looked.unsampled,
        "next": _next(output),
    }


def _show(output: Path, looked: Looked) -> None:
    console = Console(highlight=False)
    found = looked.recognised
    if found is not None:
        console.print(f"[green]✓[/] Nhận ra bản mẫu [bold]preset:{found.preset}[/] ({found.share:.0%} số cột có ở đây)")
    else:
        grid = Grid(header_style="bold")
        grid.add_column("Bảng có thể là hồ sơ", overflow="fold")
        grid.add_column("Điểm", justify="right")
        grid.add_column("Vì sao / why", overflow="fold")
        for one in looked.candidates:
            reasons = "\n".join(f"{points:+d} {shown(vi)} / {en}" for points, vi, en in one.reasons)
            grid.add_row(escape(shown(one.table.full_name)), str(one.score), escape(reasons))
        console.print(grid)
    for table in looked.unread:
        console.print(f"[yellow]![/] {escape(shown(table.full_name))}: không có quyền đọc. Chủ bảng chạy:")
        for line in grant(table, looked.inventory.role):
            console.print(f"    {escape(shown(line))}", soft_wrap=True)
    for name, why in looked.unsampled.items():
        console.print(f"[yellow]![/] {escape(shown(name))}: không xem được mẫu: {escape(shown(why))}")
    if looked.draft.questions:
        grid = Grid(header_style="bold")
        grid.add_column("Dòng", overflow="fold")
        grid.add_column("Câu hỏi / question", overflow="fold")
        for question in looked.draft.questions:
            told = f"{question.number}. {escape(question.vi)}\n[dim]{escape(question.en)}[/]"
            grid.add_row(escape(f"{output.name}:{question.line}"), told)
        console.print(grid)
    console.print(
        f"Đã viết {escape(str(output))}: {len(looked.draft.questions)} câu hỏi còn mở. Chưa có gì được gửi đi."
    )
    console.print("Tiếp theo:")
    for line in _next(output):
        console.print(f"  {escape(line)}", soft_wrap=True)

"""`emc-cdc status`: where everything stands, from the outside: slot, log, state. Works while the parts run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import psycopg
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connector import configuration as configurations
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption
from connector.configuration import Configuration
from connector.debezium.backlog import backlog
from connector.debezium.reader import DURABILITY
from connector.delivery.lag import lags
from connector.delivery.status import place
from connector.delivery.status import status as delivery_status
from connector.errors import EXIT_LOST, ConnectorError
from connector.log.kafka_topics import events_topic
from connector.log.opening import open_reader
from connector.settings import Settings
from connector.source.attachment import snapshot_progress
from connector.source.budget import Verdict
from connector.source.connection import ask
from connector.source.gap import GAP, unpermitted
from connector.source.hold import read_hold
from connector.source.index import remembered
from connector.source.oversize import TRUNCATED
from connector.source.retention import measure

# How much WAL the slot retains, and how far confirmation is behind, in bytes; on a standby, of what it has applied.
_SLOT = """
WITH server(lsn) AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)
SELECT active, confirmed_flush_lsn::text, pg_wal_lsn_diff(lsn, restart_lsn)::bigint,
       pg_wal_lsn_diff(lsn, confirmed_flush_lsn)::bigint
  FROM pg_replication_slots, server WHERE slot_name = %(slot)s
"""

_READING = {
    "first": "đang đọc các bảng lần đầu",
    "gap": "đang đọc lại các bảng sau khi luồng thay đổi bị gián đoạn",
    "again": "đang đọc lại bảng theo yêu cầu",
}


def status(config: ConfigOption = DEFAULT_CONFIG, json_output: JsonOption = False) -> None:
    """Show slot, log and delivery: lag, what waits, what is parked or held.

    Exit code 1 when something needs a person: a part cannot be reached, or dossiers are parked or held.

    Example: emc-cdc status --json
    """
    configuration = configurations.load(config)
    settings = configuration.settings
    delivery = _delivery(settings)
    if settings.log.debezium is not None:
        log, lag = _debezium(configuration)
    else:
        log, lag = _log(settings, {one["partition"]: one["offset"] for one in delivery.get("partitions", ())})
    for one in delivery.get("partitions", ()):
        one["lag"] = lag.get(one["partition"])
    found = {"name": settings.name, "source": _source(settings), "log": log, "delivery": delivery}
    if json_output:
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    else:
        _show(found)
    raise typer.Exit(EXIT_LOST if _needs_a_person(found) else 0)


def _source(settings: Settings) -> dict[str, Any]:
    if settings.log.debezium is not None:
        return {"debezium": settings.log.debezium.prefix}
    try:
        with ask(settings.source, application="emc-cdc status") as connection:
            row = connection.execute(_SLOT, {"slot": settings.slot}).fetchone()
            measured = measure(connection, settings.slot)
            verdict = Verdict() if measured is None else measured.judge(connection, settings.source)
    except ConnectorError as error:
        return {"slot": settings.slot, "error": error.cause, "mend": error.mend}
    except psycopg.Error as error:
        cause = error.diag.message_primary or type(error).__name__
        return {"slot": settings.slot, "error": cause, "mend": "run it again"}
    try:
        meta = remembered(settings.index)
    except ConnectorError as error:
        return {"slot": settings.slot, "error": error.cause, "mend": error.mend}
    if row is None:
        return {"slot": settings.slot, **_without_slot(settings, meta)}
    if measured is not None and measured.lost:
        return {"slot": settings.slot, "error": measured.lost, "mend": "see the runbook: emc-cdc snapshot --all"}
    active, confirmed, retained, behind = row
    hold = read_hold(meta)
    return {
        "slot": settings.slot,
        "active": active,
        "confirmed_lsn": confirmed,
        "retained_bytes": retained,
        "behind_bytes": behind,
        "held": None if hold is None else asdict(hold),
        "snapshot": _snapshot(meta),
        "truncated": json.loads(meta.get(TRUNCATED) or "{}"),
        "wal_budget": {
            "bytes": settings.source.wal_budget,
            "passed": verdict.passed,
            "cause": verdict.cause,
            "mend": verdict.mend,
        },
    }


def _snapshot(meta: dict[str, str]) -> dict[str, Any] | None:
    """How far a snapshot is, when one is under way."""
    told = snapshot_progress(meta)
    if told is None:
        return None
    tables = {
        name: {"rows": one["rows"], "estimate": one["estimate"], "finished": not one["pending"]}
        for name, one in told["tables"].items()
    }
    return {"begun": told["begun"], "gap": told["gap"], "reread": told["reread"], "tables": tables}


def _without_slot(settings: Settings, meta: Mapping[str, str]) -> dict[str, str]:
    gap = meta.get(GAP, "")
    if not gap:
        return {"error": "there is no slot", "mend": "start `emc-cdc run` or `emc-cdc capture`"}
    error = unpermitted(settings, meta, gap, slot_is_gone=True)
    mend = "capture makes a new one and reads the tables anew, as soon as the log takes again"
    return {"error": gap, "mend": mend if error is None else error.mend}


def _log(settings: Settings, folded: Mapping[int, int]) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The log, and how far each partition's fold is behind it."""
    try:
        reader = open_reader(settings)
        try:
            durability = reader.durability
            kafka = settings.log.kafka
            told = {
                "ends": dict(reader.ends()),
                "durability": durability.words,
                "sound": durability.sound,
                "concerns": [asdict(concern) for concern in reader.concerns],
                "events_topic": None if kafka is None or not kafka.events_topic else events_topic(settings.name),
            }
            return told, {number: asdict(lag) for number, lag in lags(reader, folded).items()}
        finally:
            reader.close()
    except ConnectorError as error:
        return {"error": error.cause, "mend": error.mend}, {}


def _debezium(configuration: Configuration) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """Debezium's topics, and how many of their records are not folded yet; nothing is read, so their age is unknown."""
    settings = configuration.settings
    try:
        found = backlog(settings, configuration.plan.selection, place(settings))
    except ConnectorError as error:
        return {"error": error.cause, "mend": error.mend}, {}
    told = {
        "topics": list(found.topics),
        "phase": found.phase,
        "records": found.records,
        "durability": DURABILITY.words,
    }
    return told, {0: {"records": found.records, "bytes": None, "seconds": None, "exact": False}}


def _delivery(settings: Settings) -> dict[str, Any]:
    try:
        return {"partitions": [asdict(partition) for partition in delivery_status(settings)]}
    except ConnectorError as error:
        return {"error": error.cause, "mend": error.mend}


def _needs_a_person(found: dict[str, Any]) -> bool:
    parts = (found["source"], found["log"], found["delivery"])
    if any("error" in part for part in parts):
        return True
    if "debezium" not in found["source"] and _source_needs_a_person(found["source"]):
        return True
    return any(partition["parked"] or partition["held"] for partition in found["delivery"]["partitions"])


def _source_needs_a_person(source: dict[str, Any]) -> bool:
    return source["held"] is not None or bool(source["wal_budget"]["passed"])


def _show(found: dict[str, Any]) -> None:
    console = Console(highlight=False)
    parts = (("PostgreSQL", found["source"]), ("Nhật ký", found["log"]), ("Gửi EMC", found["delivery"]))
    for title, part in parts:
        if "error" in part:
            console.print(f"[bold red]✗[/] {title}: {escape(part['error'])}\n    [green]→[/] {escape(part['mend'])}")
    source, log, delivery = found["source"], found["log"], found["delivery"]
    if "debezium" in source:
        console.print(f"[green]✓[/] Nguồn: các topic của Debezium, tiền tố {escape(source['debezium'])}")
    elif "error" not in source:
        state = "đang được đọc" if source["active"] else "không có ai đọc"
        console.print(
            f"[green]✓[/] PostgreSQL: slot {escape(source['slot'])} {state}, đã xác nhận {source['confirmed_lsn']},"
            f" chậm {_size(source['behind_bytes'])}, giữ lại {_size(source['retained_bytes'])} WAL"
        )
        if reading := source["snapshot"]:
            for name, one in reading["tables"].items():
                if not one["finished"]:
                    of = f" / khoảng {one['estimate']:,}" if one["estimate"] > 0 else ""
                    console.print(
                        f"[yellow]…[/] đang đọc {escape(name)} từ {reading['begun']}: {one['rows']:,}{of} dòng"
                    )
        if source["wal_budget"]["passed"]:
            console.print(
                f"[yellow]![/] vượt source.wal_budget: {escape(source['wal_budget']['cause'])}\n"
                f"    [green]→[/] {escape(source['wal_budget']['mend'])}"
            )
        for column, count in source["truncated"].items():
            console.print(f"[yellow]![/] {escape(column)}: đã bị cắt bớt trong {count} bản ghi (log.on_oversized)")
        if held := source["held"]:
            console.print(
                f"[yellow]![/] tạm giữ từ {held['since']}: {escape(held['subject'])}: {escape(held['cause'])}\n"
                f"    [green]→[/] {escape(held['mend'])}"
            )
    if "topics" in log:
        console.print(f"[green]✓[/] Nhật ký: {len(log['topics'])} topic; {escape(log['durability'])}")
    elif "error" not in log:
        mark = "[green]✓[/]" if log["sound"] else "[yellow]![/]"
        console.print(f"{mark} Nhật ký: {sum(log['ends'].values())} bản ghi; {escape(log['durability'])}")
        for concern in log["concerns"]:
            console.print(f"[yellow]![/] {escape(concern['subject'])}: {escape(concern['cause'])}")
            for line in concern["mend"]:
                console.print(f"    [green]→[/] {escape(line)}", soft_wrap=True)
        if log["events_topic"]:
            console.print(f"[green]✓[/] sự kiện cũng được ghi vào topic {escape(log['events_topic'])}")
    if "error" in delivery:
        return
    table = Table(
        "Phân vùng",
        "Đã xử lý",
        "Còn lại",
        "Chậm",
        "Chờ gửi",
        "Đã gửi",
        "Gửi bù",
        "Bị giữ lại",
        "Thiếu dữ kiện",
        "Chưa rõ",
    )
    ours = [one for one in delivery["partitions"] if not one["elsewhere"]]
    for one in ours:
        number = one["partition"]
        table.add_row(
            str(number),
            str(one["offset"]),
            *_behind(one["lag"]),
            str(one["waiting"]),
            str(one["delivered"]),
            str(one["recovered"]),
            str(one["parked_dossiers"]),
            str(one["held_dossiers"]),
            str(one["ambiguous"]),
        )
    console.print(table)
    if away := [str(one["partition"]) for one in delivery["partitions"] if one["elsewhere"]]:
        console.print(f"Phân vùng {', '.join(away)}: tiến trình deliver khác đang giữ")
    for kind in dict.fromkeys(one["reading"] for one in ours if one["reading"]):
        waiting = sum(one["at_end"] for one in ours)
        console.print(f"[yellow]![/] {_READING[kind]}: {waiting} hồ sơ sẽ được xét khi đọc xong")
    for one in ours:
        for parked in one["parked"]:
            console.print(f"[red]✗[/] bị giữ lại: {escape(parked['code'])}: {escape(parked['reason'])}")
        for held in one["held"]:
            console.print(f"[yellow]![/] thiếu dữ kiện: {escape(held['code'])}: {escape(held['reason'])}")


def _behind(lag: dict[str, Any] | None) -> tuple[str, str]:
    """Records with their size, and seconds."""
    if lag is None:
        return "?", "?"
    about = "" if lag["exact"] else "~"
    seconds = "?" if lag["seconds"] is None else f"{lag['seconds']:.1f} s"
    return f"{about}{lag['records']} ({about}{_size(lag['bytes'])})", seconds


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1048576:.1f} MiB" if count >= 1048576 else f"{count / 1024:.0f} KiB"

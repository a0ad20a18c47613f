"""`emc-cdc demo`: the whole way on this machine, from a legacy application to EMC, with pip only."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from connector import configuration as configurations
from connector.cli.terminal import JsonOption, stop_on_signals
from connector.delivery.status import ambiguous_attempts
from connector.demo import oracle
from connector.demo.scenario import Result, Scenario
from connector.demo.stage import Stage
from connector.errors import EXIT_LOST

_STATUS = {0: "khác", 1: "tiếp nhận", 2: "đang xử lý", 3: "trả kết quả"}
_RATE = 60.0
_OLD = 40


def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Play a bounded scenario with faults, and judge it.")] = False,
    dossiers: Annotated[int, typer.Option(min=10, max=100_000, help="Dossiers of the bounded scenario.")] = 300,
    rate: Annotated[float, typer.Option(min=1, help="Transactions a second of the legacy application.")] = _RATE,
    kafka: Annotated[str | None, typer.Option(help="HOST:PORT of a real Kafka, instead of the embedded log.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dossiers.")] = 1,
    json_output: JsonOption = False,
) -> None:
    """Start a PostgreSQL, a legacy one-stop application and a simulated EMC, and show dossiers on their way.

    Without --exit it works until Ctrl-C. With --exit it plays 300 dossiers, lets EMC fail, kills the pipeline once, and
    ends with the verdict of an oracle that reads the legacy database alone; exit code 1 when anything was lost or came
    out of order.

    Example: emc-cdc demo --exit --json
    """
    console = Console(stderr=json_output, highlight=False)
    with stop_on_signals() as stop, Stage(kafka, seed, _OLD) as stage:
        show = _Show(console, stage, live=console.is_terminal and not json_output)
        _set(stage, show)
        with show:
            if not exit_:
                _endless(stage, show, rate, stop)
                return
            result = Scenario(stage, dossiers, rate, show.tell, _ticking(show, stop)).play(lambda: _ambiguous(stage))
    _verdict(console, result)
    if json_output:
        sys.stdout.write(json.dumps(result.as_json(), ensure_ascii=False) + "\n")
    elif exit_:
        console.print_json(json.dumps(result.as_json()))
    raise typer.Exit(0 if result.kept else EXIT_LOST)


def _ambiguous(stage: Stage) -> int:
    """Attempts on record that EMC may have taken without our knowing."""
    return sum(one.times for one in ambiguous_attempts(configurations.load(stage.config).settings))


def _set(stage: Stage, show: _Show) -> None:
    for what, step in (
        ("Khởi động PostgreSQL riêng", stage.start_postgres),
        (f"Cài ứng dụng một cửa cũ, với {_OLD} hồ sơ có sẵn", stage.prepare_legacy),
        ("Khởi động EMC mô phỏng", stage.start_emc),
        ("Viết cấu hình", stage.write_config),
        ("Chủ sở hữu bảng chạy SQL của `emc-cdc setup`", stage.owner_runs_setup),
        ("Gắn emc-cdc vào cơ sở dữ liệu", stage.start_pipeline),
    ):
        began = time.monotonic()
        step()
        show.line(f"[green]✓[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")
    show.line(f"  Trang theo dõi:  [link]{stage.console_url}/[/link]")
    show.line(f"  EMC mô phỏng:    [link]{stage.emc_url}/[/link]")


def _endless(stage: Stage, show: _Show, rate: float, stop: threading.Event) -> None:
    since = oracle.last_action(stage.dsn)
    stage.start_legacy(None, rate)
    show.tell("Ứng dụng một cửa đang làm việc; Ctrl-C để dừng")
    while not stop.wait(0.25):
        show.tick(since)


def _ticking(show: _Show, stop: threading.Event) -> Any:
    def tick() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        show.tick(None)

    return tick


class _Show:
    """What is to be seen at the terminal: live where it is one, lines where it is not."""

    def __init__(self, console: Console, stage: Stage, live: bool) -> None:
        self._console = console
        self._stage = stage
        self._live = Live(console=console, refresh_per_second=8, transient=False) if live else None
        self._now = ""
        self._board: dict[str, Any] = {}
        self._looked_at = 0.0

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text)

    def tell(self, what: str) -> None:
        """What is happening now."""
        self._now = what
        self._console.print(f"[cyan]▸[/] {what}")

    def tick(self, _since: int | None) -> None:
        """Look again, a few times a second."""
        if self._live is None or time.monotonic() - self._looked_at < 0.25:
            return
        self._looked_at = time.monotonic()
        self._board = self._stage.board() or self._board
        received = self._stage.received()
        self._live.update(self._picture(received))

    def _picture(self, received: list[dict[str, Any]]) -> Panel:
        board = self._board
        flow = Table.grid(padding=(0, 3))
        latency = board.get("latency_ms", {})
        log, pushes = board.get("log", {}), board.get("pushes", {})
        flow.add_row("Đã ghi vào CSDL", f"{log.get('transactions', 0)} giao dịch, {log.get('changes', 0)} thay đổi")
        flow.add_row("EMC đã nhận", f"{sum(one['verdict'] == 'accepted' for one in received)} sự kiện")
        flow.add_row("Đang chờ", f"{board.get('waiting', 0)} sự kiện, {board.get('lag', 0)} bản ghi nhật ký")
        flow.add_row("Độ trễ", f"p50 {latency.get('p50') or '–'} ms, p99 {latency.get('p99') or '–'} ms")
        flow.add_row("Gửi lại", f"{pushes.get('retry', 0)} lần, {pushes.get('ambiguous', 0)} lần chưa rõ kết quả")
        events = Table("Mã hồ sơ", "Trạng thái", "Thủ tục", box=None, header_style="dim")
        for one in received[-8:][::-1]:
            parameters = one["parameters"]
            events.add_row(
                str(parameters.get("CodeProfile", "")),
                _STATUS.get(parameters.get("Status"), ""),
                Text(str(parameters.get("NameTTHC", "")), overflow="ellipsis", no_wrap=True),
            )
        return Panel(Group(flow, Text(), events), title=f"emc-cdc · {self._now}", border_style="cyan")


def _verdict(console: Console, result: Result) -> None:
    table = Table(title="Phán quyết của bên đối chứng (chỉ đọc cơ sở dữ liệu một cửa)", show_header=False)
    good = "[green]✓[/]"
    bad = "[bold red]✗[/]"
    table.add_row("", "Hồ sơ / giao dịch / thay đổi", f"{result.dossiers} / {result.commits} / {result.changes}")
    table.add_row("", "Sự kiện phải gửi", str(result.expected_events))
    table.add_row("", "EMC đã nhận", str(result.delivered))
    table.add_row(bad if result.lost else good, "Mất", str(result.lost))
    table.add_row(bad if result.out_of_order else good, "Sai thứ tự", str(result.out_of_order))
    table.add_row(bad if result.unexpected or result.refused else good, "Sai nội dung, bị EMC từ chối",
                  f"{result.unexpected}, {result.refused}")  # fmt: skip
    table.add_row(
        good if result.duplicates <= result.ambiguous else bad,
        "Trùng (chỉ khi câu trả lời bị mất)",
        f"{result.duplicates}; lần gửi chưa rõ kết quả đã ghi sổ: {result.ambiguous};"
        f" câu trả lời EMC đánh mất: {result.answers_lost}",
    )
    table.add_row("", "Độ trễ từ commit đến EMC, lúc không có sự cố", f"p50 {result.p50_ms} ms, p99 {result.p99_ms} ms")
    table.add_row("", "PostgreSQL, nhật ký", f"{result.postgres}, {result.log}")
    console.print(table)
    for finding in result.findings:
        console.print(f"  {finding}")

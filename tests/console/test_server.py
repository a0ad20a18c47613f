"""The console over real HTTP, and the page's own files."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from importlib import resources

import httpx
import pytest
from observed import CODE, HOSTILE, ONE_OF_EACH, fault
from prometheus_client.parser import text_string_to_metric_families

from connector.console.board import Board
from connector.console.metrics import Metrics
from connector.console.server import ConsoleServer
from connector.errors import ConnectorError
from connector.observe import Hub, SourceConnected, SourceDisconnected


class Console:
    """A running console with the hub that feeds it."""

    def __init__(self, listen: str) -> None:
        board, metrics = Board(), Metrics()
        self.hub = Hub()
        self.hub.subscribe(board.observe)
        self.hub.subscribe(metrics.observe)
        self.server = ConsoleServer(listen, board, metrics)
        self.server.start()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.server.url + path, trust_env=False)


@pytest.fixture
def console() -> Iterator[Console]:
    made = Console("127.0.0.1:0")
    yield made
    made.server.stop()


def test_everything_is_served(console: Console) -> None:
    """Page, style, script, board, metrics and health, each of its kind, none to be cached or framed."""
    kinds = {
        "/": "text/html; charset=utf-8",
        "/console.css": "text/css; charset=utf-8",
        "/console.js": "text/javascript; charset=utf-8",
        "/board.json": "application/json",
        "/metrics": "text/plain; version=0.0.4; charset=utf-8",
        "/healthz": "application/json",
    }
    for path, kind in kinds.items():
        answer = console.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    assert console.get("/khac").status_code == 404
    assert httpx.post(console.server.url + "/board.json", trust_env=False).status_code == 405


def test_it_shows_what_is_observed(console: Console) -> None:
    """The board and the metrics follow the hub."""
    for observation in ONE_OF_EACH:
        console.hub.emit(observation)
    board = console.get("/board.json").json()
    assert board["events"][0]["code"] == CODE
    assert board["parked"][0]["reason"] == HOSTILE
    families = {family.name for family in text_string_to_metric_families(console.get("/metrics").text)}
    assert "emc_cdc_commit_to_emc_seconds" in families


def test_health_over_http(console: Console) -> None:
    """200 while it works, 503 with the reason while it does not."""
    assert console.get("/healthz").json() == {"healthy": True, "reasons": []}
    console.hub.emit(SourceDisconnected("Connection refused"))
    answer = console.get("/healthz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["disconnected: Connection refused"])
    console.hub.emit(SourceConnected(150000, "s", 1))
    assert console.get("/healthz").status_code == 200
    console.hub.emit(fault("no slot", fatal=True))
    assert console.get("/healthz").json()["reasons"] == ["stopped: capture: no slot"]


def test_a_taken_port_is_told() -> None:
    """A port in use, and one that does not exist, are told with the setting that mends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for listen, cause in ((f"127.0.0.1:{port}", "Address already in use"), ("127.0.0.1:99999", "no such port")):
            with pytest.raises(ConnectorError) as refused:
                ConsoleServer(listen, Board(), Metrics()).start()
            assert cause in refused.value.cause
            assert "console.listen" in refused.value.mend


def test_stop_frees_the_port() -> None:
    """After `stop` nobody answers and the address can be had again; stopping what never started is nothing."""
    first = Console("127.0.0.1:0")
    address = first.server.url.removeprefix("http://")
    with httpx.Client(trust_env=False) as kept:
        assert kept.get(f"{first.server.url}/healthz").status_code == 200
        first.server.stop()
    again = Console(address)
    assert again.get("/healthz").status_code == 200
    again.server.stop()
    ConsoleServer("127.0.0.1:0", Board(), Metrics()).stop()


def test_the_sixth_version() -> None:
    """An IPv6 address is listened on, and the URL can be opened as it is."""
    console = Console("[::1]:0")
    try:
        assert console.server.url.startswith("http://[::1]:")
        assert console.get("/healthz").status_code == 200
    finally:
        console.server.stop()


def asset(name: str) -> str:
    return resources.files("connector.console").joinpath(name).read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No address of another host, and nothing inline that its own security policy would refuse."""
    for name in ("page.html", "console.css", "console.js"):
        assert not re.search(r"https?://|//cdn|@import|url\(", asset(name)), name
    page = asset("page.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", page)


def test_the_page_never_reads_text_as_html() -> None:
    """Texts of other systems are set as text: the script has no way to make HTML or code of them."""
    script = asset("console.js")
    for dangerous in (
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(",
        "DOMParser", "setAttribute", ".href", ".src",
    ):  # fmt: skip
        assert dangerous not in script


def test_page_and_script_agree() -> None:
    """Every element that the script fills is on the page, and every field that it reads is on the board."""
    page, script = asset("page.html"), asset("console.js")
    ids = set(re.findall(r'\sid="([^"]+)"', page))
    used = set(re.findall(r'(?:byId|set|stage)\("([^"]+)"', script))
    assert used - ids == set()
    board = Board()
    for observation in ONE_OF_EACH:
        board.observe(observation)
    shown = json.loads(json.dumps(board.snapshot()))
    assert set(re.findall(r"(?<!/)\bboard\.(\w+)", script)) - set(shown) == set()
    for variable, field in (("log", "log"), ("pushes", "pushes"), ("source", "source")):
        assert set(re.findall(rf"\b{variable}\.(\w+)", script)) - set(shown[field]) == set(), field
    for variable, field in (("event", "events"), ("fault", "faults")):
        assert set(re.findall(rf"\b{variable}\.(\w+)", script)) - set(shown[field][0]) == set(), field


def test_the_page_speaks_vietnamese() -> None:
    """The operator's words are on the page, with their diacritics."""
    page = asset("page.html") + asset("console.js")
    assert '<html lang="vi">' in page
    for words in (
        "Nhật ký thay đổi", "Trạng thái hồ sơ", "Hàng đợi chờ gửi", "Hồ sơ bị giữ lại", "Độ trễ", "Sự cố gần đây",
        "Đã tiếp nhận", "Đang xử lý", "Trả kết quả",
    ):  # fmt: skip
        assert words in page

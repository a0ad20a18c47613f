"""`emc-cdc snapshot` as its users meet it, on the demo's legacy schema with a capture that runs, or does not."""

from __future__ import annotations

import json
import threading

import psycopg
import pytest
from test_commands import Commands, commands  # noqa: F401 - a fixture

from connector import configuration as configurations
from connector import pipeline
from connector.errors import SourceError
from connector.observe import Hub, Observation, SourceConnected


@pytest.fixture
def set_up(commands: Commands) -> Commands:  # noqa: F811
    """The tables' owner has run what `setup` prints."""
    code, _ = commands.run("setup", "--apply", "--owner-dsn", commands.owner_dsn)
    assert code == 0
    return commands


class Capture:
    """`emc-cdc capture` on a thread."""

    def __init__(self, commands: Commands) -> None:  # noqa: F811
        self._stop, streaming = threading.Event(), threading.Event()
        hub = Hub()

        def observe(observation: Observation) -> None:
            if isinstance(observation, SourceConnected):
                streaming.set()

        hub.subscribe(observe)
        configuration = configurations.load(commands.config)
        self._thread = threading.Thread(target=pipeline.capture, args=(configuration, hub, self._stop))
        self._thread.start()
        assert streaming.wait(60)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_tables_are_read_again(set_up: Commands) -> None:
    """While capture runs the command waits for the end; without one it leaves the request for the next start."""
    set_up.run("check")
    capture = Capture(set_up)
    try:
        code, printed = set_up.run("snapshot", "--table", "motcua.ho_so", "--json")
        assert (code, json.loads(printed)) == (
            0,
            {"requested": ["motcua.ho_so"], "capture_running": True, "done": True},
        )
        assert "đã đọc lại xong" in set_up.run("snapshot", "--all")[1]
    finally:
        capture.end()
    code, printed = set_up.run("snapshot", "--all", "--json")
    assert (code, json.loads(printed)) == (0, {"requested": "all", "capture_running": False, "done": False})
    assert "chưa có capture nào" in set_up.run("snapshot", "--all")[1]
    capture = Capture(set_up)
    try:
        assert json.loads(set_up.run("snapshot", "--all", "--json")[1])["done"]
    finally:
        capture.end()


def test_a_gap_is_closed_by_the_command(set_up: Commands) -> None:
    """The slot is gone: capture stops and names the command, which is obeyed; status shows the slot again."""
    set_up.run("check")
    Capture(set_up).end()
    with psycopg.connect(set_up.attached.server.dsn("postgres", set_up.attached.database), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot('emc_cdc_mot_cua')")
    with pytest.raises(SourceError) as stopped:
        set_up.run("capture", "--listen", "127.0.0.1:0")
    assert "emc-cdc snapshot --all" in stopped.value.mend
    assert set_up.run("snapshot", "--all")[0] == 0
    Capture(set_up).end()
    source = json.loads(set_up.run("status", "--json")[1])["source"]
    assert source["slot"] == "emc_cdc_mot_cua"
    assert source["snapshot"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one of the two is needed"),
        (("--all", "--table", "motcua.ho_so"), "one of the two is needed"),
        (("--table", "motcua.hoso"), "write motcua.ho_so"),
        (("--all",), "start `emc-cdc capture` here first"),
    ],
    ids=["neither", "both", "unknown", "never attached"],
)
def test_what_cannot_be_asked_for(set_up: Commands, arguments: tuple[str, ...], says: str) -> None:
    """Neither flag or both, a table that is not captured, a database that was never attached."""
    with pytest.raises(SourceError) as refused:
        set_up.run("snapshot", *arguments)
    assert says in f"{refused.value.cause} {refused.value.mend}"

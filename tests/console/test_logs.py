"""Log lines: which there are, and what is never in them."""

from __future__ import annotations

import json

import pytest
from observed import CODE, HOSTILE, ONE_OF_EACH, answered, fault

from connector.console.logs import configure_logging, log_observations
from connector.observe import DossierParked, EventDue, SnapshotProgress, SourceConnected, SourceDisconnected


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The lines on standard error, as JSON; nothing is on standard output."""
    written = capsys.readouterr()
    assert written.out == ""
    return [json.loads(line) for line in written.err.splitlines()]


def test_a_line_for_what_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Connection, finished tables, faults and a parked dossier have a line each; a push or a batch has none."""
    configure_logging(as_json=True)
    observe = log_observations(Clock())
    for observation in ONE_OF_EACH:
        observe(observation)
    found = lines(capsys)
    assert [(one["level"], one["event"]) for one in found] == [
        ("info", "snapshot of a table read"),
        ("info", "streaming"),
        ("warning", "over source.wal_budget"),
        ("info", "delivery state made anew"),
        ("warning", "a dossier is parked: EMC rejected its event"),
        ("warning", "connect to PostgreSQL"),
        ("info", "not streaming"),
    ]
    assert (found[1]["slot"], found[1]["resumed_at"]) == ("emc_cdc_mot_cua", "16/B374D848")
    assert found[2]["mend"] == "SELECT pg_terminate_backend(4711);"
    assert found[5]["mend"] == "check host and port"


def test_no_dossier_number(capsys: pytest.CaptureFixture[str]) -> None:
    """A dossier number or EMC's reason for one dossier is in no line."""
    configure_logging(as_json=True)
    observe = log_observations(Clock(), summary_seconds=0.0)
    for observation in (answered("rejected", reason=HOSTILE), DossierParked(1, CODE, HOSTILE), EventDue(1, CODE, 1, 0)):
        observe(observation)
    text = json.dumps(lines(capsys), ensure_ascii=False)
    assert CODE not in text
    assert "onerror" not in text


def test_a_summary_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """What flows is summed up at most once a minute, and not at all while nothing flows."""
    configure_logging(as_json=True)
    clock = Clock()
    observe = log_observations(clock)
    for second in range(180):
        clock.now = float(second)
        if second < 90:
            observe(answered())
        else:
            observe(SnapshotProgress("t", 1, -1, finished=False))
    flow = [one for one in lines(capsys) if one["event"] == "flow"]
    assert [(one["seconds"], one["delivered"]) for one in flow] == [(60, 61), (60, 29)]


def test_what_repeats_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Failing attempts to connect and rejected dossiers by the thousand do not fill the disk."""
    configure_logging(as_json=True)
    observe = log_observations(Clock())
    for number in range(1000):
        observe(SourceDisconnected("refused"))
        observe(DossierParked(1, f"{CODE}{number}", "400"))
    assert len(lines(capsys)) == 2
    observe(SourceConnected(150000, "s", 1))
    observe(SourceDisconnected("refused"))
    assert len(lines(capsys)) == 2


def test_a_long_snapshot_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that takes long has a line every ten seconds, with the estimate where there is one."""
    configure_logging(as_json=True)
    clock = Clock()
    observe = log_observations(clock)
    for second in range(25):
        clock.now = float(second)
        observe(SnapshotProgress("motcua.ho_so", second * 1000, 50_000, finished=False))
    assert [(one["rows"], one["estimate"]) for one in lines(capsys)] == [(10_000, 50_000), (20_000, 50_000)]


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Without JSON a line reads as one, without colours when it goes to a file; a fatal fault is an error."""
    configure_logging(as_json=False)
    log_observations(Clock())(fault(fatal=True))
    written = capsys.readouterr().err
    assert "connect to PostgreSQL" in written
    assert "error" in written
    assert "\x1b[" not in written

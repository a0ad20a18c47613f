"""The demo itself: the whole way, with a crash and a failing EMC, judged by the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from plugins.kafka import KafkaBroker

from connector.demo.scenario import Result

KEYS = {
    "dossiers", "commits", "changes", "expected_events", "delivered", "lost", "out_of_order", "duplicates",
    "p50_ms", "p99_ms", "postgres", "log",
}  # fmt: skip
KEPT = Result(10, 20, 30, 40, 40, 0, 0, 2, 1.0, 2.0, "18", "embedded", 0, 3, 2, 0, ())


def played(*arguments: str) -> dict[str, Any]:
    """The last line of a bounded demo."""
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", "demo", "--exit", "--json", "--dossiers", "60", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def judged(result: dict[str, Any]) -> None:
    """Nothing lost, nothing out of order, nothing twice but where an answer was lost."""
    assert result.keys() >= KEYS
    assert (result["lost"], result["out_of_order"], result["unexpected"], result["refused"]) == (0, 0, 0, 0)
    assert result["delivered"] == result["expected_events"] > 60
    assert result["duplicates"] <= result["ambiguous"]
    assert result["answers_lost"] > 0


def test_the_whole_way_on_one_machine() -> None:
    """Embedded log: the scenario ends with a clean verdict."""
    result = played()
    judged(result)
    assert result["log"] == "embedded"


def test_the_whole_way_through_kafka(kafka: KafkaBroker) -> None:
    """The same through a real broker."""
    result = played("--kafka", kafka.bootstrap)
    judged(result)
    assert result["log"] == "kafka"


@pytest.mark.parametrize("fault", ["lost", "out_of_order", "unexpected", "refused"])
def test_a_broken_promise_is_told(fault: str) -> None:
    """One event lost, out of order, wrong or refused spoils the verdict; so does a repeat that is not on record."""
    assert KEPT.kept
    assert not replace(KEPT, **{fault: 1}).kept  # type: ignore[arg-type]
    assert not replace(KEPT, duplicates=4).kept

"""Metrics: what observations make of them, what Prometheus reads, and what the page tells of them."""

from __future__ import annotations

import re
from pathlib import Path

from observed import CODE, HOSTILE, ONE_OF_EACH, answered
from prometheus_client.parser import text_string_to_metric_families

from connector.console.metrics import DECLARED, PREFIX, Metrics
from connector.observe import SourceConnected, SourceDisconnected

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample as Prometheus' own parser reads it."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_one_of_each() -> None:
    """Every kind of observation moves its metric."""
    metrics = Metrics()
    for observation in ONE_OF_EACH:
        metrics.observe(observation)
    found = samples(metrics)
    expected = {
        ("emc_cdc_source_connected", ()): 0,
        ("emc_cdc_source_disconnects_total", ()): 1,
        ("emc_cdc_source_lsn", (("at", "confirmed"),)): 0x16_B374E000,
        ("emc_cdc_source_lsn", (("at", "server_end"),)): 0x16_B374F100,
        ("emc_cdc_slot_wal_bytes", (("part", "retained"),)): 9_000_000_000,
        ("emc_cdc_slot_wal_bytes", (("part", "unconfirmed"),)): 4096,
        ("emc_cdc_slot_over_budget", ()): 1,
        ("emc_cdc_snapshot_rows", (("table", "motcua.ho_so"),)): 410,
        ("emc_cdc_snapshot_age_seconds", ()): 1.5,
        ("emc_cdc_log_transactions_total", ()): 3,
        ("emc_cdc_log_changes_total", ()): 9,
        ("emc_cdc_log_records_total", ()): 11,
        ("emc_cdc_log_bytes_total", ()): 4000,
        ("emc_cdc_log_truncated_records_total", ()): 2,
        ("emc_cdc_log_waiting_bytes", ()): 70_000,
        ("emc_cdc_log_commit_time_seconds", ()): 1_795_000_000,
        ("emc_cdc_fold_records_total", (("partition", "1"),)): 10,
        ("emc_cdc_fold_lag_records", (("partition", "1"),)): 4,
        ("emc_cdc_fold_commit_time_seconds", (("partition", "1"),)): 1_795_000_000,
        ("emc_cdc_events_due_total", (("status", "2"),)): 1,
        ("emc_cdc_events_recovered_total", ()): 1,
        ("emc_cdc_events_unpublished", (("partition", "1"),)): 7,
        ("emc_cdc_state_unrecorded", (("partition", "1"),)): 3,
        ("emc_cdc_outbox_waiting", (("partition", "1"),)): 5,
        ("emc_cdc_outbox_parked_dossiers", (("partition", "1"),)): 2,
        ("emc_cdc_dossiers_parked_total", ()): 1,
        ("emc_cdc_pushes_total", (("outcome", "delivered"),)): 1,
        ("emc_cdc_pushes_total", (("outcome", "retry"),)): 1,
        ("emc_cdc_pushes_total", (("outcome", "rejected"),)): 1,
        ("emc_cdc_pushes_ambiguous_total", ()): 1,
        ("emc_cdc_push_seconds_count", (("outcome", "retry"),)): 1,
        ("emc_cdc_commit_to_emc_seconds_count", ()): 1,
        ("emc_cdc_faults_total", (("fatal", "false"), ("part", "capture"))): 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    # Nothing that is declared was forgotten above.
    assert {one.shown for one in DECLARED} == {re.sub("_count$", "", name) for name, _ in expected}


def test_no_dossier_and_no_text_of_others() -> None:
    """Neither a dossier number nor a reason ever reaches a label."""
    metrics = Metrics()
    for observation in ONE_OF_EACH:
        metrics.observe(observation)
    text = metrics.text().decode()
    assert CODE not in text
    assert HOSTILE not in text
    assert "onerror" not in text


def test_attempts_to_connect_are_no_disconnects() -> None:
    """Only a session that was there has ended, whatever the attempts before and after it say."""
    metrics = Metrics()
    refused = SourceDisconnected("refused")
    for observation in (refused, refused, SourceConnected(150000, "s", 1), refused, refused):
        metrics.observe(observation)
    assert samples(metrics)["emc_cdc_source_disconnects_total", ()] == 1


def test_a_clock_that_is_behind() -> None:
    """An answer that seems older than its commit counts as immediate, and breaks nothing."""
    metrics = Metrics()
    metrics.observe(answered(since_commit=-3.0))
    assert samples(metrics)["emc_cdc_commit_to_emc_seconds_sum", ()] == 0


def test_the_page_tells_of_every_metric() -> None:
    """docs/metrics.md and the code name the same metrics, of the same kinds, with the same labels."""
    rows = re.findall(r"^\| `(emc_cdc_\w+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {one.shown: (one.kind, one.labels) for one in DECLARED}
    assert all(name.startswith(PREFIX) for name in told)

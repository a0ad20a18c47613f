"""Prometheus metrics, declared once, made from observations; docs/metrics.md tells of each.

Contract: `DECLARED` is the only place that names a metric, and a test holds the page to it. No label ever holds a
row's value or a dossier number: labels are partitions, the guide's Status, outcomes, parts, and tables of the mapping.
Metrics of a part that does not run in this process stay at 0 or are absent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    EventsUnpublished,
    Fault,
    Observation,
    OutboxDepth,
    PartitionReleased,
    PushAnswered,
    SlotProgress,
    SlotRetained,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    StateUnrecorded,
    TransactionsLogged,
    WalBudget,
)

PREFIX = "emc_cdc_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60, 300, 3600)
"""Seconds: fine below the promise of 100 ms, coarse up to an outage of an hour."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric. `name` without prefix, and without the suffixes that Prometheus adds (`_total`, `_bucket`, …)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name as a query writes it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


DECLARED = (
    Declared("source_connected", "gauge", "1 while changes stream from PostgreSQL"),
    Declared("source_disconnects", "counter", "Streaming sessions that ended"),
    Declared("source_lsn", "gauge", "Where the replication stream stands, bytes", ("at",)),
    Declared("slot_wal_bytes", "gauge", "WAL that the slot holds back on the server, bytes", ("part",)),
    Declared("slot_over_budget", "gauge", "1 while the slot holds back more than source.wal_budget"),
    Declared("snapshot_rows", "gauge", "Rows read by the snapshot", ("table",)),
    Declared("snapshot_age_seconds", "gauge", "For how long the oldest snapshot has been held"),
    Declared("log_transactions", "counter", "Source transactions made durable in the log"),
    Declared("log_changes", "counter", "Row changes made durable in the log"),
    Declared("log_records", "counter", "Records written to the log"),
    Declared("log_bytes", "counter", "Bytes written to the log"),
    Declared("log_truncated_records", "counter", "Records written of which values were cut to fit"),
    Declared("log_waiting_bytes", "gauge", "Changes in memory that the log has not taken yet, bytes"),
    Declared("log_commit_time_seconds", "gauge", "Commit time of the last durable transaction, Unix time"),
    Declared("fold_records", "counter", "Records folded into the state", ("partition",)),
    Declared("fold_lag_records", "gauge", "Records in the log that are not folded yet", ("partition",)),
    Declared("fold_commit_time_seconds", "gauge", "Commit time of the last folded record, Unix time", ("partition",)),
    Declared("events_due", "counter", "Events that judgements owed EMC", ("status",)),
    Declared("events_recovered", "counter", "Events among them that a snapshot found due, after a gap of the stream"),
    Declared("events_unpublished", "gauge", "Events that the topic of events does not have yet", ("partition",)),
    Declared("state_unrecorded", "gauge", "Changes of delivery's state that are in its file only", ("partition",)),
    Declared("outbox_waiting", "gauge", "Events that wait to be pushed", ("partition",)),
    Declared("outbox_parked_dossiers", "gauge", "Dossiers that are parked", ("partition",)),
    Declared("dossiers_parked", "counter", "Times that EMC's answer parked a dossier (told again at a start)"),
    Declared("pushes", "counter", "Push attempts that ended", ("outcome",)),
    Declared("pushes_ambiguous", "counter", "Push attempts whose event EMC may have taken"),
    Declared("push_seconds", "histogram", "Duration of one push attempt", ("outcome",)),
    Declared("commit_to_emc_seconds", "histogram", "From the source's commit to EMC's acceptance"),
    Declared("faults", "counter", "Faults that a part met", ("part", "fatal")),
)

_KNOWN = {"pushes": ("delivered", "retry", "rejected"), "push_seconds": ("delivered", "retry", "rejected")}
"""Label values that are there from the start, so that a rate over them begins at 0."""


class Metrics:
    """A registry of its own, so that several parts can live in one process. `observe` is safe from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for one in DECLARED:
            name = f"{PREFIX}{one.name}"
            match one.kind:
                case "counter":
                    self._counters[one.name] = Counter(name, one.help, one.labels, registry=self.registry)
                case "gauge":
                    self._gauges[one.name] = Gauge(name, one.help, one.labels, registry=self.registry)
                case "histogram":
                    made = Histogram(name, one.help, one.labels, buckets=_BUCKETS, registry=self.registry)
                    self._histograms[one.name] = made
        self._connected = False
        for value in _KNOWN["pushes"]:
            self._counters["pushes"].labels(value)
        for value in _KNOWN["push_seconds"]:
            self._histograms["push_seconds"].labels(value)

    def observe(self, observation: Observation) -> None:
        """Take one observation."""
        counters, gauges = self._counters, self._gauges
        match observation:
            case SourceConnected():
                self._connected = True
                gauges["source_connected"].set(1)
            case SourceDisconnected():
                # An attempt that fails says so, too; only a session that was there has ended.
                counters["source_disconnects"].inc(int(self._connected))
                self._connected = False
                gauges["source_connected"].set(0)
            case SlotProgress(received, durable, confirmed, server_end, waiting):
                gauges["log_waiting_bytes"].set(waiting)
                lsns = {"received": received, "durable": durable, "confirmed": confirmed, "server_end": server_end}
                for at, lsn in lsns.items():
                    gauges["source_lsn"].labels(at).set(lsn)
            case SlotRetained(retained, own_distance):
                gauges["slot_wal_bytes"].labels("retained").set(retained)
                gauges["slot_wal_bytes"].labels("unconfirmed").set(own_distance)
            case WalBudget(passed):
                gauges["slot_over_budget"].set(int(passed))
            case SnapshotProgress(table, rows, _, _, _, age):
                gauges["snapshot_rows"].labels(table).set(rows)
                gauges["snapshot_age_seconds"].set(age)
            case TransactionsLogged(transactions, changes, records, size, _, commit_time_us, truncated):
                counters["log_truncated_records"].inc(truncated)
                counters["log_transactions"].inc(transactions)
                counters["log_changes"].inc(changes)
                counters["log_records"].inc(records)
                counters["log_bytes"].inc(size)
                gauges["log_commit_time_seconds"].set(commit_time_us / 1e6)
            case BatchFolded(partition, records, offset, log_end, commit_time_us, _):
                counters["fold_records"].labels(partition).inc(records)
                gauges["fold_lag_records"].labels(partition).set(max(0, log_end - offset))
                if records:
                    gauges["fold_commit_time_seconds"].labels(partition).set(commit_time_us / 1e6)
            case EventDue():
                counters["events_due"].labels(observation.status).inc()
                counters["events_recovered"].inc(int(observation.recovered))
            case OutboxDepth(partition, waiting, parked):
                gauges["outbox_waiting"].labels(partition).set(waiting)
                gauges["outbox_parked_dossiers"].labels(partition).set(parked)
            case EventsUnpublished(partition, waiting):
                gauges["events_unpublished"].labels(partition).set(waiting)
            case PartitionReleased(partition):
                for one in DECLARED:
                    if one.kind == "gauge" and one.labels == ("partition",):
                        with suppress(KeyError):
                            gauges[one.name].remove(partition)
            case StateUnrecorded(partition, unrecorded):
                gauges["state_unrecorded"].labels(partition).set(unrecorded)
            case PushAnswered():
                self._push(observation)
            case DossierParked():
                counters["dossiers_parked"].inc()
            case Fault():
                counters["faults"].labels(observation.part, str(observation.fatal).lower()).inc()

    def _push(self, answer: PushAnswered) -> None:
        self._counters["pushes"].labels(answer.outcome).inc()
        self._counters["pushes_ambiguous"].inc(int(answer.ambiguous))
        self._histograms["push_seconds"].labels(answer.outcome).observe(answer.seconds)
        if answer.outcome == "delivered":
            # The source's clock may run a little before ours.
            self._histograms["commit_to_emc_seconds"].observe(max(0.0, answer.since_commit))

    def text(self) -> bytes:
        """The exposition format, of `CONTENT_TYPE`."""
        return generate_latest(self.registry)

"""Prometheus metrics, declared once, made from observations. No label ever holds a row's value or a dossier number."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    Fault,
    Observation,
    OutboxDepth,
    PushAnswered,
    SlotProgress,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    TransactionsLogged,
)

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60, 300, 3600)


class Metrics:
    """A registry of its own, so that several parts can live in one process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._connected = Gauge("emc_cdc_source_connected", "1 while streaming from PostgreSQL", registry=registry)
        self._disconnects = Counter("emc_cdc_source_disconnects", "Streaming sessions that ended", registry=registry)
        self._lsn = Gauge("emc_cdc_source_lsn", "LSNs of the replication stream, bytes", ["kind"], registry=registry)
        self._snapshot = Gauge("emc_cdc_snapshot_rows", "Rows read by the snapshot", ["table"], registry=registry)
        self._transactions = Counter("emc_cdc_log_transactions", "Source transactions made durable", registry=registry)
        self._changes = Counter("emc_cdc_log_changes", "Row changes made durable", registry=registry)
        self._records = Counter("emc_cdc_log_records", "Records written to the log", registry=registry)
        self._bytes = Counter("emc_cdc_log_bytes", "Bytes written to the log", registry=registry)
        self._folded = Counter(
            "emc_cdc_fold_records", "Records folded into the state", ["partition"], registry=registry
        )
        self._lag = Gauge("emc_cdc_fold_lag_records", "Records not folded yet", ["partition"], registry=registry)
        self._due = Counter("emc_cdc_events_due", "Events that judgements owed", ["status"], registry=registry)
        self._waiting = Gauge("emc_cdc_outbox_waiting", "Events waiting to be pushed", ["partition"], registry=registry)
        self._parked = Gauge("emc_cdc_outbox_parked_dossiers", "Dossiers parked", ["partition"], registry=registry)
        self._rejections = Counter("emc_cdc_dossiers_parked", "Dossiers that EMC's answer parked", registry=registry)
        self._pushes = Counter("emc_cdc_pushes", "Push attempts by outcome", ["outcome"], registry=registry)
        self._ambiguous = Counter("emc_cdc_pushes_ambiguous", "Attempts that EMC may have taken", registry=registry)
        self._seconds = Histogram(
            "emc_cdc_push_seconds", "Duration of a push attempt", buckets=_SECONDS, registry=registry
        )
        self._since = Histogram(
            "emc_cdc_commit_to_emc_seconds", "From source commit to EMC's answer", buckets=_SECONDS, registry=registry
        )
        self._faults = Counter("emc_cdc_faults", "Faults met", ["part", "fatal"], registry=registry)

    def observe(self, observation: Observation) -> None:
        """Take one observation."""
        match observation:
            case SourceConnected():
                self._connected.set(1)
            case SourceDisconnected():
                self._connected.set(0)
                self._disconnects.inc()
            case SnapshotProgress(table, rows, _, _):
                self._snapshot.labels(table).set(rows)
            case TransactionsLogged(transactions, changes, records, size, _, _):
                self._transactions.inc(transactions)
                self._changes.inc(changes)
                self._records.inc(records)
                self._bytes.inc(size)
            case SlotProgress(received, durable, confirmed, server_end):
                for kind, lsn in (
                    ("received", received),
                    ("durable", durable),
                    ("confirmed", confirmed),
                    ("server_end", server_end),
                ):
                    self._lsn.labels(kind).set(lsn)
            case BatchFolded(partition, records, offset, log_end, _, _):
                self._folded.labels(partition).inc(records)
                self._lag.labels(partition).set(max(0, log_end - offset))
            case EventDue(_, _, status, _):
                self._due.labels(status).inc()
            case OutboxDepth(partition, waiting, parked):
                self._waiting.labels(partition).set(waiting)
                self._parked.labels(partition).set(parked)
            case PushAnswered():
                self._pushes.labels(observation.outcome).inc()
                self._ambiguous.inc(observation.ambiguous)
                self._seconds.observe(observation.seconds)
                if observation.outcome == "delivered":
                    self._since.observe(max(0.0, observation.since_commit))
            case DossierParked():
                self._rejections.inc()
            case Fault():
                self._faults.labels(observation.part, str(observation.fatal).lower()).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

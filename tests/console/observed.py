"""Observations as the core would send them, with texts that would like to be something else."""

from __future__ import annotations

from connector.observe import (
    BatchFolded,
    DossierParked,
    EventDue,
    EventsUnpublished,
    Fault,
    Observation,
    OutboxDepth,
    PushAnswered,
    SlotProgress,
    SlotRetained,
    SnapshotProgress,
    SourceConnected,
    SourceDisconnected,
    StateRebuilt,
    StateUnrecorded,
    TransactionsLogged,
    WalBudget,
)

CODE = "000.00.11.H56-261123-1508"
HOSTILE = "<img src=x onerror=\"document.title='bị chiếm'\"></script><script>document.title='bị chiếm'</script>&amp;'\""

COMMIT_US = 1_795_000_000_000_000


def answered(outcome: str = "delivered", **more: object) -> PushAnswered:
    """One answered attempt."""
    values: dict[str, object] = {
        "partition": 1,
        "code": CODE,
        "status": 2,
        "outcome": outcome,
        "reason": "",
        "attempt": 1,
        "ambiguous": False,
        "seconds": 0.006,
        "since_commit": 0.012,
    }
    return PushAnswered(**{**values, **more})  # type: ignore[arg-type]


def fault(cause: str = "Connection refused", *, fatal: bool = False) -> Fault:
    """A fault of capture."""
    return Fault("capture", "connect to PostgreSQL", "source.dsn", cause, "check host and port", fatal)


def folded(offset: int, log_end: int, partition: int = 1) -> BatchFolded:
    """A batch in the state."""
    return BatchFolded(partition, 10, offset, log_end, COMMIT_US, 1)


ONE_OF_EACH: tuple[Observation, ...] = (
    SnapshotProgress("motcua.ho_so", 100, 400, finished=False),
    SnapshotProgress("motcua.ho_so", 410, 400, finished=True, rate=250.0, age=1.5),
    SourceConnected(180003, "emc_cdc_mot_cua", 0x16_B374D848),
    TransactionsLogged(3, 9, 11, 4000, 0x16_B374E000, COMMIT_US, truncated=2),
    SlotProgress(0x16_B374F000, 0x16_B374E000, 0x16_B374E000, 0x16_B374F100, 70_000),
    SlotRetained(9_000_000_000, 4096),
    WalBudget(True, "emc_cdc_mot_cua", HOSTILE, "SELECT pg_terminate_backend(4711);"),
    folded(40, 44),
    EventDue(1, CODE, 2, COMMIT_US),
    EventDue(1, CODE, 3, COMMIT_US, recovered=True),
    EventsUnpublished(1, 7),
    StateUnrecorded(1, 3),
    StateRebuilt(1, 20, 20),
    OutboxDepth(1, 5, 2),
    answered(),
    answered("retry", reason=HOSTILE, attempt=3, ambiguous=True, recovered=True),
    answered("rejected", reason=HOSTILE, status=3),
    DossierParked(1, CODE, HOSTILE),
    fault(HOSTILE),
    SourceDisconnected("the server is shutting down"),
)

"""The demo's bounded scenario, and its verdict.

The legacy application lives so many dossiers to their ends. On the way EMC fails for a while (busy, cut off before and
after taking an event), and the pipeline is killed with SIGKILL and started again. In the end the oracle, which reads
the legacy database alone, says what EMC must have heard, and compares.

Latency is that of commits at times when nothing was failing: outside of the windows from the beginning of a fault until
everything owed had arrived again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from connector.demo import oracle
from connector.demo.stage import SITE_ID, Stage

FAULTS = [
    {"kind": "drop_answer", "rate": 0.15},
    {"kind": "drop_before", "rate": 0.15},
    {"kind": "status", "status": 503, "rate": 0.4},
    {"kind": "delay", "seconds": 0.2, "rate": 0.1},
]
FAULT_SECONDS = 4.0
_SETTLE = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What `emc-cdc demo --exit --json` prints. `ambiguous`: attempts on record that EMC may have taken."""

    dossiers: int
    commits: int
    changes: int
    expected_events: int
    delivered: int
    lost: int
    out_of_order: int
    duplicates: int
    p50_ms: float | None
    p99_ms: float | None
    postgres: str
    log: str
    unexpected: int
    ambiguous: int
    answers_lost: int
    refused: int
    findings: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the promises were kept."""
        return not (self.lost or self.out_of_order or self.unexpected or self.refused) and (
            self.duplicates <= self.ambiguous
        )

    def as_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


Tell = Callable[[str], None]
"""Shows what is happening now."""
Ambiguous = Callable[[], int]
"""Counts the ambiguous attempts on record, once the pipeline has ended."""


class Scenario:
    """Plays on a stage whose pipeline runs. `tick` is called several times a second while it waits."""

    def __init__(self, stage: Stage, dossiers: int, rate: float, tell: Tell, tick: Callable[[], None]) -> None:
        self._stage = stage
        self._dossiers = dossiers
        self._rate = rate
        self._tell = tell
        self._tick = tick
        self._troubles: list[tuple[float, float]] = []

    def play(self, ambiguous: Ambiguous) -> Result:
        """The whole of it."""
        stage = self._stage
        since = oracle.last_action(stage.dsn)
        changes_before = oracle.changes(stage.dsn)
        stage.start_legacy(self._dossiers, self._rate)
        steps = self._steps()
        started = 0
        while stage.legacy_works:
            started = oracle.activity(stage.dsn, since).dossiers
            if started >= self._dossiers * next_share(len(self._troubles)):
                next(steps, None)
            self._pause(0.2)
        stage.require_legacy_success()
        for _ in steps:  # what a short run had no time for
            pass
        self._tell("Chờ EMC nhận nốt")
        self._settle(since)
        stage.stop_pipeline()
        return self._judge(since, changes_before, ambiguous)

    def _steps(self) -> Iterator[None]:
        """The troubles, one at a time."""
        stage = self._stage
        began = time.time()
        self._tell("EMC trục trặc: bận, đứt kết nối, mất trả lời")
        stage.set_faults(FAULTS)
        self._pause(FAULT_SECONDS)
        stage.set_faults([])
        self._tell("EMC hoạt động lại")
        self._recover(began)
        yield
        began = time.time()
        self._tell("kill -9 tiến trình emc-cdc")
        stage.kill_pipeline()
        self._pause(1.0)
        self._tell("Khởi động lại emc-cdc")
        stage.start_pipeline()
        self._recover(began)
        self._tell("Chạy bình thường")
        yield

    def _recover(self, began: float) -> None:
        """The trouble is over when nothing waits any more; what is committed until then is not timed."""
        deadline = time.monotonic() + _SETTLE
        calm = 0
        while calm < 3 and time.monotonic() < deadline:
            board = self._stage.board()
            calm = calm + 1 if board and board["waiting"] <= 2 and board["lag"] <= 5 else 0
            self._pause(0.1)
        self._troubles.append((began - 1.0, time.time()))

    def _settle(self, since: int) -> None:
        deadline = time.monotonic() + _SETTLE
        while time.monotonic() < deadline:
            owed = oracle.expected(self._stage.dsn, since, SITE_ID)
            if oracle.verdict(owed, self._arrivals()).lost == 0:
                return
            self._pause(0.5)

    def _arrivals(self) -> list[oracle.Arrival]:
        return [
            oracle.Arrival(one["parameters"], one["at"])
            for one in self._stage.received()
            if one["verdict"] == "accepted"
        ]

    def _judge(self, since: int, changes_before: int, ambiguous: Ambiguous) -> Result:
        stage = self._stage
        received = stage.received()
        verdict = oracle.verdict(oracle.expected(stage.dsn, since, SITE_ID), self._arrivals())
        calm = [
            seconds
            for committed, seconds in verdict.latencies
            if not any(begin <= committed <= end for begin, end in self._troubles)
        ]
        activity = oracle.activity(stage.dsn, since)
        p50, p99 = oracle.percentile_ms(calm, 50), oracle.percentile_ms(calm, 99)
        return Result(
            dossiers=activity.dossiers,
            commits=activity.commits,
            changes=oracle.changes(stage.dsn) - changes_before,
            expected_events=verdict.owed,
            delivered=verdict.owed - verdict.lost,
            lost=verdict.lost,
            out_of_order=verdict.out_of_order,
            duplicates=verdict.duplicates,
            p50_ms=None if p50 is None else round(p50, 1),
            p99_ms=None if p99 is None else round(p99, 1),
            postgres=stage.postgres_version,
            log="embedded" if stage.kafka is None else "kafka",
            unexpected=verdict.unexpected,
            ambiguous=ambiguous(),
            answers_lost=sum(one["answer"]["lost"] for one in received),
            refused=sum(one["verdict"] == "refused" for one in received),
            findings=verdict.findings,
        )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tick()
            time.sleep(min(0.1, left))


def next_share(troubles: int) -> float:
    """At which share of the dossiers the next trouble comes."""
    return (0.3, 0.6, 2.0)[min(troubles, 2)]

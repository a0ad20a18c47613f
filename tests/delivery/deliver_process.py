"""Delivery over a real log against a real simulator: on a thread of the test, or as a process that can be killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from delivery_story import MAPPING, plan
from emc.simulator_process import RunningSimulator

from connector.delivery.deliverer import Deliverer
from connector.log.opening import open_reader
from connector.observe import Hub, Observation
from connector.settings import Settings

PATIENCE = 60.0
Seen = TypeVar("Seen", bound=Observation)


class Delivering:
    """A Deliverer on a thread. What it tells is kept; `until` waits for something to be told."""

    def __init__(self, settings: Settings) -> None:
        self.seen: list[Observation] = []
        self._told = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        hub = Hub()
        hub.subscribe(self._observe)
        self._reader = open_reader(settings)
        self._deliverer = Deliverer(settings, plan(), self._reader, hub, time.time)
        self._thread = threading.Thread(target=self._run, name="deliver under test")
        self._thread.start()

    def of(self, kind: type[Seen]) -> list[Seen]:
        """What was told of one kind, in order."""
        return [each for each in list(self.seen) if isinstance(each, kind)]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was told fulfils the condition; fails when delivery ends before."""
        deadline = time.monotonic() + PATIENCE
        with self._told:
            while not condition():
                if self._failure is not None:
                    raise self._failure
                left = deadline - time.monotonic()
                assert left > 0, f"not told in time: {self.seen[-20:]}"
                self._told.wait(left)

    def end(self) -> BaseException | None:
        """Stop it as an operator does; what had ended it before."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._reader.close()
        return self._failure

    def _run(self) -> None:
        try:
            self._deliverer.run(self._stop)
        except BaseException as failure:
            self._failure = failure
        with self._told:
            self._told.notify_all()

    def _observe(self, observation: Observation) -> None:
        with self._told:
            self.seen.append(observation)
            self._told.notify_all()


@contextmanager
def delivering(settings: Settings) -> Iterator[Delivering]:
    """Deliver while the block runs."""
    running = Delivering(settings)
    try:
        yield running
    except BaseException:
        running.end()
        raise
    failure = running.end()
    if failure is not None:
        raise failure


class DeliverProcess:
    """`emc-cdc deliver`, as an operator starts it. Its log lines go to a file beside its configuration."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        config = directory / "emc-cdc.yml"
        config.write_text(_configuration(settings), encoding="utf-8")
        self.lines = directory / "deliver.log"
        with self.lines.open("a", encoding="utf-8") as lines:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "connector.cli", "deliver", "--config", str(config)],
                cwd=Path(__file__).parents[2],
                stdout=lines,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """As the kernel kills it: nothing is tidied up."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def ended(self) -> int:
        """Its exit code, when it ends by itself."""
        return self.process.wait(PATIENCE)

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.ended()


@contextmanager
def deliver_process(settings: Settings, directory: Path) -> Iterator[DeliverProcess]:
    """A process that is gone after the block, whatever happened."""
    running = DeliverProcess(settings, directory)
    try:
        yield running
    finally:
        running.kill()


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Look at another process until the condition holds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.02)


def accepted(simulator: RunningSimulator, client: httpx.Client, after: int = 0) -> dict[str, list[int]]:
    """What EMC took, in order of arrival: dossier number → statuses. An event that came twice is there twice."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in simulator.received(client, after):
        if record["verdict"] == "accepted":
            found[record["parameters"]["CodeProfile"]].append(record["parameters"]["Status"])
    return dict(found)


def _configuration(settings: Settings) -> str:
    sections: dict[str, Any] = {
        "name": settings.name,
        "source": {"dsn": "host=unused"},
        "log": settings.log.model_dump(mode="json", exclude_none=True),
        "emc": {"url": settings.emc.url},
        "delivery": settings.delivery.model_dump(mode="json"),
        "console": None,
    }
    return yaml.safe_dump(sections) + MAPPING

"""Pushes on an event loop in a thread of its own: attempts in, answers out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from connector.delivery.intake import Failed, defect
from connector.delivery.outbox import Attempt
from connector.delivery.outcome import Outcome
from connector.delivery.push import Pusher
from connector.settings import Settings

PROOF: Final = 4.0
"""Seconds for which a partition is surely ours after it was proven: less than Kafka's shortest session timeout, 6 s."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended. seconds: how long it took; at: when, seconds since the epoch."""

    attempt: Attempt
    outcome: Outcome
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Unsent:
    """An attempt that was not sent: the proof that its partition is ours has become too old."""

    attempt: Attempt


class Dispatch:
    """Every attempt is answered by exactly one call of `take`, on the thread, unless `stop` comes first."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], take: Callable[[Answer | Unsent | Failed], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._take = take
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pusher: Pusher | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="push", daemon=True)

    def start(self) -> None:
        """Begin. DeliveryError when the settings cannot be used."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def push(self, attempts: list[Attempt], proven: float | None = None) -> None:
        """Send these, all at once. proven: when their partition was known to be ours, by the steady clock.

        What is not on its way `PROOF` seconds later is answered with `Unsent`: this process stood still, and another
        may have the partition by now.
        """
        self._loop.call_soon_threadsafe(self._begin, attempts, proven)

    def stop(self) -> None:
        """End the thread; what is on its way is given up, and gets no answer."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._pusher = Pusher(self._settings.emc, self._settings.delivery, self._clock)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pusher is not None:
            await self._pusher.__aexit__(None, None, None)

    def _begin(self, attempts: list[Attempt], proven: float | None) -> None:
        for attempt in attempts:
            task = self._loop.create_task(self._push(attempt, proven))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _push(self, attempt: Attempt, proven: float | None) -> None:
        assert self._pusher is not None
        if proven is not None and monotonic() > proven + PROOF:
            self._take(Unsent(attempt))
            return
        began = self._loop.time()
        try:
            outcome = await self._pusher.push(attempt.event)
        except Exception as error:  # a defect of ours: stop loudly, the attempt stays on record as sent
            self._take(Failed(defect("push to EMC", error), answered=True))
            return
        self._take(Answer(attempt, outcome, self._loop.time() - began, self._clock()))

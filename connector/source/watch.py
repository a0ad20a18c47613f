"""Looks at the publication while the stream runs: a table taken out of it leaves no trace in the stream itself.

Contract: a thread with an ordinary connection of its own asks every `interval` seconds; `failure` is the SourceError
that ends the session, set once. A database that cannot be asked is no finding: the stream notices that by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from connector.change.selection import Selection
from connector.errors import SourceError, SourceUnavailable
from connector.settings import SourceSettings
from connector.source import catalog as catalogs
from connector.source.connection import ask

INTERVAL = 3.0
"""Seconds between two looks: what is amiss is known within five."""


class Watch:
    """See the module's contract. wake: called when there is a failure, from the watch's thread."""

    def __init__(
        self,
        settings: SourceSettings,
        publication: str,
        selection: Selection,
        wake: Callable[[], None],
        interval: float = INTERVAL,
    ) -> None:
        self.failure: SourceError | None = None
        self._settings = settings
        self._publication = publication
        self._selection = selection
        self._wake = wake
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Does not wait for a question that is under way: a lost server would hold it up."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with ask(self._settings, application="emc-cdc capture (watch)") as connection:
                    while not self._stop.wait(self._interval):
                        catalogs.require_publication(connection, self._publication, self._selection)
            except (psycopg.Error, SourceUnavailable):
                self._stop.wait(self._interval)
            except SourceError as error:
                self.failure = SourceError(
                    "stream",
                    error.subject,
                    f"{error.cause} any more; what is changed there meanwhile is missing in the log",
                    f"{error.mend} then attach anew: choose a new `name` (a new log, slot and state)",
                )
                self._wake()
                return

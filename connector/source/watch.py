"""Looks at what leaves no trace in the stream itself: a table taken out of the publication, a standby's promotion.

Contract: a thread with an ordinary connection of its own asks every `interval` seconds; `failure` is the error
that ends the session, set once: SourceGap for a table, SourceWaits for a promotion, after which the next session goes
on under a new epoch. A database that cannot be asked is no finding: the stream notices that by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from connector.change.selection import Selection
from connector.errors import SourceError, SourceGap, SourceWaits
from connector.settings import SourceSettings
from connector.source.connection import ask
from connector.source.slot import in_recovery

# Captured tables of which the publication has neither themselves nor any partition. A table that was renamed is an
# error here and no finding: the stream tells of it. Before 12 there is no pg_partition_tree, and so no watch.
_ABSENT = """
WITH p AS MATERIALIZED ( -- first of all, lest the planner looks up names that this role may not
    SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %(publication)s)
SELECT format('%%I.%%I', w.schema, w.name)
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
 WHERE NOT EXISTS (
    SELECT FROM p
     WHERE format('%%I.%%I', p.schemaname, p.tablename)::regclass IN (
           SELECT format('%%I.%%I', w.schema, w.name)::regclass
           UNION ALL SELECT relid FROM pg_partition_tree(format('%%I.%%I', w.schema, w.name)::regclass)))
"""
INTERVAL = 3.0
"""Seconds between two looks: what is amiss is known within five."""


class Watch:
    """See the module's contract. wake: called when there is a failure, from the watch's thread; standby: it was one."""

    def __init__(
        self,
        settings: SourceSettings,
        publication: str,
        selection: Selection,
        wake: Callable[[], None],
        standby: bool,
        interval: float = INTERVAL,
    ) -> None:
        self.failure: SourceError | None = None
        self._settings = settings
        self._publication = publication
        self._selection = selection
        self._wake = wake
        self._standby = standby
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
                        self._look(connection)
            except (psycopg.Error, SourceError):
                self._stop.wait(self._interval)
            if self.failure is not None:
                return

    def _look(self, connection: psycopg.Connection) -> None:
        tables = self._selection.tables
        values = {
            "schemas": [table.schema for table in tables],
            "names": [table.name for table in tables],
            "publication": self._publication,
        }
        if self._standby and not in_recovery(connection):
            mend = "nothing is to be done: the next session goes on under a new epoch"
            self._fail(SourceWaits("stream", "source.dsn", "the standby was promoted", mend))
            return
        absent = [row[0] for row in connection.execute(_ABSENT, values).fetchall()]
        if absent:
            self._fail(self._missing(", ".join(absent)))

    def _missing(self, listed: str) -> SourceGap:
        return SourceGap(
            "stream",
            f"publication {self._publication}",
            f"it does not publish {listed} any more; what is changed there meanwhile is missing in the log",
            "run what `emc-cdc setup` prints to mend the publication",
        )

    def _fail(self, failure: SourceError) -> None:
        self.failure = failure
        self._stop.set()
        self._wake()

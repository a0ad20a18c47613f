"""The present rows of the legacy database → a tally: faults of the data, and the online share.

Contract: reads only, in batches (`preflight.live`), as the role of `source.dsn`, which needs nothing but SELECT on the
mapped columns. Between two batches nothing is held in the database, and `pause` seconds pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import psycopg

from connector.emc.history import NO_PAST, step
from connector.errors import SourceError
from connector.mapping.facts import Facts
from connector.mapping.plan import Plan
from connector.preflight.live import VIETNAM_ZONE, Dates, LiveReader
from connector.quality.faults import faults, of_history
from connector.quality.online import standing
from connector.report.tally import Tally
from connector.settings import Settings
from connector.source.basetypes import type_options
from connector.source.connection import ask, command_error

Tell = Callable[[int, int], None]
"""Hears how many rows were looked at, and about how many there are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dossiers. column: by which they are dated, None for the one date that the mapping uses."""

    column: str | None = None
    zone: str = VIETNAM_ZONE
    since: date | None = None
    until: date | None = None
    unit: str | None = None
    service: str | None = None

    @property
    def everything(self) -> bool:
        return (self.since, self.until, self.unit, self.service) == (None, None, None, None)

    def takes(self, facts: Facts) -> bool:
        """Whether unit and service are the wanted ones."""
        if self.unit is not None and facts.user.location != self.unit:
            return False
        return self.service is None or facts.code_tthc == self.service


def gather(settings: Settings, plan: Plan, wanted: Wanted, tally: Tally, pause: float, tell: Tell) -> str:
    """Add every wanted dossier to the tally. Returns the column by which they were dated."""
    more = () if wanted.column is None else (wanted.column,)
    with ask(settings.source, application="emc-cdc report") as connection:
        _require_zone(connection, wanted.zone)
        options = type_options(settings.source.types)
        reader = LiveReader(connection, plan, settings.publication, options, more)
        dates = Dates(_column(reader, plan, wanted.column), wanted.zone, wanted.since, wanted.until)
        passed = 0
        for batch in reader.all(dates, pause):
            for dossier, facts in zip(batch.dossiers, reader.facts(batch.dossiers), strict=True):
                if not wanted.takes(facts):
                    continue
                tally.summary.read += 1
                if facts.code_profile is None:
                    tally.summary.unnumbered += bool(facts.reached)
                elif facts.reached:
                    found = [*faults(facts, plan.needs), *map(of_history, step(NO_PAST, facts)[1])]
                    tally.add(dossier.key, dossier.month, facts, standing(facts, settings.emc), found)
            tally.save()
            passed += batch.passed
            tell(passed, max(reader.estimate, passed))
        return dates.column


def _require_zone(connection: psycopg.Connection, zone: str) -> None:
    try:
        connection.execute("SELECT now() AT TIME ZONE %s", [zone])
    except psycopg.errors.InvalidParameterValue:
        cause = f"PostgreSQL knows no time zone '{zone}'"
        mend = f"write {VIETNAM_ZONE}, or another name of pg_timezone_names"
        raise SourceError("make the report", "--zone", cause, mend) from None
    except psycopg.Error as error:
        raise command_error("make the report", "source.dsn", error, "run it again") from None


def _column(reader: LiveReader, plan: Plan, asked: str | None) -> str:
    table, dates = plan.selection.dossier.full_name, reader.date_columns()
    if asked in dates:
        return asked
    if asked is not None:
        cause = f"column {asked} of {table} is no date or time"
        raise SourceError("make the report", "--date", cause, f"dates that are read: {', '.join(dates) or 'none'}")
    if len(dates) == 1:
        return dates[0]
    cause = f"the mapping uses {len(dates)} dates of {table}" if dates else f"the mapping uses no date of {table}"
    mend = f"--date COLUMN, one of: {', '.join(dates)}" if dates else "--date COLUMN, a column that the role may read"
    raise SourceError("make the report", "--date", f"{cause}, so the month of a dossier is not known", mend)

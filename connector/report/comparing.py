"""Two mappings over the same dossiers: the live rows, or the history in the log.

Contract: reads only, sends nothing. Over live rows both mappings see a dossier at the same moment, as if nothing had
been told of it yet. Over the log both are folded side by side, and compared after each source transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from connector.delivery.fold import Due
from connector.emc.judgement import judge
from connector.errors import ConfigError
from connector.log.contract import LogReader
from connector.mapping.plan import Plan
from connector.preflight.live import LiveReader
from connector.quality.difference import Difference, differences
from connector.report.replay import Replay, history
from connector.settings import EmcSettings, Settings
from connector.source.basetypes import type_options
from connector.source.connection import ask

_OPERATION = "compare two mappings"


@dataclass(frozen=True, slots=True)
class Compared:
    """One dossier, or one transaction of its history. code: the number by either mapping, else empty.

    commit_time_us: of the transaction, None for live rows; events: how many are due, here and there.
    """

    key: str
    code: str
    commit_time_us: int | None
    events: tuple[int, int]
    differences: tuple[Difference, ...]


def compare_live(settings: Settings, here: Plan, there: Plan, rows: int) -> Iterator[Compared]:
    """The newest dossiers, each."""
    ours, theirs = here.selection.dossier.full_name, there.selection.dossier.full_name
    if ours != theirs:
        raise ConfigError(_OPERATION, "--against", f"its dossiers are {theirs}, not {ours}", "compare with another")
    with ask(settings.source, application="emc-cdc preview") as connection:
        options = type_options(settings.source.types)
        reader, other = (LiveReader(connection, plan, settings.publication, options) for plan in (here, there))
        for batch in reader.newest(rows):
            keys = [dossier.key for dossier in batch.dossiers]
            found = other.these(keys)
            facts = zip(reader.facts(batch.dossiers), other.facts([found[key] for key in keys]), strict=True)
            for key, (one, another) in zip(keys, facts, strict=True):
                a, b = judge(None, one, settings.emc), judge(None, another, settings.emc)
                told = tuple(differences(a.due, b.due, a.held, b.held))
                code = one.code_profile or another.code_profile or ""
                yield Compared(key, code, None, (len(a.due), len(b.due)), told)


def compare_log(
    reader: LogReader, emc: EmcSettings, here: Plan, there: Plan, tell: Callable[[int, int], None]
) -> Iterator[Compared]:
    """Each transaction of each dossier after which either mapping owes something."""
    _require_logged(here, there)
    owed: tuple[dict[str, list[Due]], dict[str, list[Due]]] = ({}, {})

    def note(side: int) -> Callable[[Due], None]:
        return lambda due: owed[side].setdefault(due.dossier, []).append(due)

    replays: list[Replay] = []
    try:
        replays += (Replay(reader.partitions, plan, emc, note(side)) for side, plan in enumerate((here, there)))
        for record in history(reader, tell):
            for replay in replays:
                replay.apply(record)
            if owed[0] or owed[1]:
                for dossier in dict.fromkeys((*owed[0], *owed[1])):
                    yield _compared(dossier, *(side.get(dossier, []) for side in owed))
                owed[0].clear()
                owed[1].clear()
    finally:
        for replay in replays:
            replay.close()


def _compared(dossier: str, here: list[Due], there: list[Due]) -> Compared:
    first = (here or there)[0]
    told = tuple(differences([due.event for due in here], [due.event for due in there]))
    return Compared(dossier, first.event.CodeProfile, first.commit_time_us, (len(here), len(there)), told)


def _require_logged(here: Plan, there: Plan) -> None:
    """The log holds the columns of our mapping and no others, so what the other one needs has to be among them."""
    logged = {table.full_name: table for table in here.selection.tables}
    lacking = []
    for table in there.selection.tables:
        ours = logged.get(table.full_name)
        if ours is None or (ours.role, ours.link) != (table.role, table.link):
            lacking.append(table.full_name)
        else:
            lacking += [f"{table.full_name}.{column}" for column in table.columns if column not in ours.columns]
    if lacking:
        raise ConfigError(
            _OPERATION,
            "--log",
            f"the log does not hold (in the same part) what the other mapping uses: {', '.join(lacking)}",
            "compare over the live rows: leave --log out",
        )

"""A ledger as deliver leaves it, and the extract that EMC would hand out for it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path

from connector.delivery.directory import partition_path
from connector.delivery.fold import Due
from connector.delivery.outbox import Outbox
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent, EmcUser
from connector.emc.wire import PARAMETERS, user_json
from connector.settings import Settings

EVENT = EmcEvent("", 327, "2.000082", "Cấp đổi", 1, 1, 0, 4, 0, 0, "", EmcUser(None, "QG-1", 2, "000.00.02.H10"))
HEADINGS = (*PARAMETERS, "Thời gian tiếp nhận")


def event(number: int, status: int = 1, **changes: object) -> EmcEvent:
    return replace(EVENT, CodeProfile=f"000.00.11.H56-260105-{number:06}", Status=status, **changes)  # type: ignore[arg-type]


def write_ledger(
    directory: Path,
    delivered: Iterable[EmcEvent],
    now: float,
    parked: Iterable[EmcEvent] = (),
    lost: Iterable[EmcEvent] = (),
    waiting: Iterable[EmcEvent] = (),
) -> None:
    """All of it at `now`. lost: pushed once, without an answer."""
    path = partition_path(directory, "demo", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(PartitionState(path, "demo", 0)) as state:
        outbox = Outbox(state)
        for events, what in ((delivered, "delivered"), (parked, "parked"), (lost, "lost"), (waiting, "")):
            for number, each in enumerate(events):
                dossier = f"{what}{each.CodeProfile}"
                outbox.owe(Due(dossier, each, f"1/0/{number}.0", "7:1", int((now - 1) * 1e6), "m"))
                if what:
                    (attempt,) = outbox.begin(1, now, now)
                    outbox.save()
                    if what == "delivered":
                        outbox.delivered(attempt, now)
                    elif what == "parked":
                        outbox.park(attempt, "HTTP 400", "", now)
                    else:
                        outbox.again(attempt, "timeout", True, now + 1e9)
        outbox.save()
        state.commit()


def row(each: EmcEvent, at: str = "") -> list[str]:
    """A row of the extract, as the simulator writes it."""
    values = (user_json(each.User) if name == "User" else getattr(each, name) for name in PARAMETERS)
    return [*map(str, values), at]


def as_csv(rows: Iterable[Sequence[str]], headings: Sequence[str] = HEADINGS, delimiter: str = ",") -> str:
    text = StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def settings_of(state: Path) -> Settings:
    return Settings.model_validate({"name": "demo", "source": {"dsn": ""}, "delivery": {"state": state}})

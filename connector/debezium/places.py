"""Where a Debezium event stands in its database's log, and which events have come before.

Contract: within one topic-partition Debezium writes events in commit order, and after a restart writes some of the last
ones again; `Marks` tells these apart without ever taking a new event for an old one. Places are told by connector:

| connector      | line                   | commit             | unit | fine                  | identity besides |
|----------------|------------------------|--------------------|------|-----------------------|------------------|
| postgresql     |                        | last commit's LSN  | txId | lsn                   |                  |
| mysql, mariadb | server id, binlog name | number of the file |      | pos, row              |                  |
| sqlserver      | database               | commit_lsn         |      | change_lsn, serial no |                  |
| oracle         | database               | commit_scn         | txId | scn                   | rs_id, ssn       |

Places are compared within one line only: what comes on another one (a failover of MySQL) is new. Several events may
stand at one place (a COPY's page, a changed key), so operation and key belong to an event's identity. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

CONNECTORS = ("postgresql", "mysql", "mariadb", "sqlserver", "oracle")

_POSTGRESQL_ID = re.compile(r"\d+:\d+")

Numbers = tuple[int, ...]


class Unplaced(ValueError):
    """A source block that does not tell a place; the text names the field, never a value."""


@dataclass(frozen=True, slots=True)
class Place:
    """See the module's table. group: events of one source transaction have the same, as far as `source` tells."""

    line: str
    commit: Numbers
    unit: str
    fine: Numbers
    group: str
    lsn: int = 0
    detail: str = ""


def place_of(source: Mapping[str, Any]) -> Place:
    """The place of a streamed event. Raises Unplaced."""
    connector = source.get("connector")
    try:
        match connector:
            case "postgresql":
                return _postgresql(source)
            case "mysql" | "mariadb":
                return _binlog(source)
            case "sqlserver":
                commit = _hex(source["commit_lsn"])
                fine = (*_hex(source["change_lsn"]), int(source.get("event_serial_no") or 0))
                return Place(str(source["db"]), commit, "", fine, f"{source['db']} {source['commit_lsn']}")
            case "oracle":
                scn = int(source.get("commit_scn") or source["scn"])
                unit = str(source.get("txId") or "")
                detail = f"{source.get('rs_id') or ''} {source.get('ssn') or 0}"
                return Place(str(source["db"]), (scn,), unit, (int(source["scn"]),), f"{scn} {unit}", 0, detail)
    except (KeyError, TypeError, ValueError) as error:
        named = f"'{error.args[0]}'" if isinstance(error, KeyError) else "a field"
        raise Unplaced(f"source lacks {named} of connector {connector}, or it is of another form") from None
    raise Unplaced(f"it is of connector {str(connector)[:40]!r}; known are {', '.join(CONNECTORS)}")


def transaction_of(identity: str) -> str:
    """What a transaction is known again by: PostgreSQL's connector appends each event's LSN to the id."""
    return identity.partition(":")[0] if _POSTGRESQL_ID.fullmatch(identity) else identity


def _postgresql(source: Mapping[str, Any]) -> Place:
    before, _ = json.loads(source["sequence"])
    lsn = int(source["lsn"])
    commit = int(before) if before is not None else 0
    unit = str(source["txId"])
    return Place("", (commit,), unit, (lsn,), f"{commit} {unit}", lsn)


def _binlog(source: Mapping[str, Any]) -> Place:
    name, _, number = str(source["file"]).rpartition(".")
    pos, row = int(source["pos"]), int(source.get("row") or 0)
    gtid = source.get("gtid")
    # Without GTIDs nothing but the transaction topic tells which events belong together.
    group = str(gtid) if gtid else f"{number} {pos} {row}"
    return Place(f"{source.get('server_id')} {name}", (int(number),), "", (pos, row), group)


def _hex(lsn: str) -> Numbers:
    """SQL Server's LSN, 00000027:00000758:0005."""
    return tuple(int(part, 16) for part in lsn.split(":"))


def fingerprint(*parts: object) -> str:
    """A short name for an event among those at its place."""
    return blake2b(json.dumps(parts, default=str).encode(), digest_size=9).hexdigest()


class Marks:
    """How far a topic-partition was delivered."""

    def __init__(self, stored: list[Any] | None = None) -> None:
        self._line: str | None = None
        self._commit: Numbers = ()
        self._units: dict[str, tuple[Numbers, set[str]]] = {}
        if stored is not None:
            self._line, commit, units = stored
            self._commit = tuple(commit)
            self._units = {unit: (tuple(fine), set(found)) for unit, fine, found in units}

    def dump(self) -> list[Any]:
        """As JSON; `Marks(dumped)` goes on from it."""
        units = [[unit, list(fine), sorted(found)] for unit, (fine, found) in self._units.items()]
        return [self._line, list(self._commit), units]

    def new(self, place: Place, identity: str) -> bool:
        """Whether an event was not delivered before; it is from now on."""
        if place.line != self._line:
            self._line, self._commit, self._units = place.line, place.commit, {}
        elif place.commit < self._commit:
            return False
        elif place.commit > self._commit:
            self._commit, self._units = place.commit, {}
        fine, found = self._units.get(place.unit, ((), set()))
        if place.fine < fine or (place.fine == fine and identity in found):
            return False
        if place.fine > fine:
            found = set()
        found.add(identity)
        self._units[place.unit] = (place.fine, found)
        return True

"""Gaps of the stream: how they are remembered, who permits that the tables are read anew, and how it is asked for.

A gap is remembered in the index's meta from the moment it is known until a new read of all tables is durable. It is
closed by that read, under a new epoch; the fold then reports what had changed meanwhile. It is permitted by

| the gap                                  | permitted by                                                     |
|------------------------------------------|------------------------------------------------------------------|
| any, another cluster included            | `emc-cdc snapshot --all`                                         |
| any but another cluster                  | `source.on_gap: reread`                                          |
| the slot is gone: `source.wal_budget`,   | `source.on_wal_budget: drop_slot`: who wants it dropped in need  |
| `emc-cdc guard` or somebody dropped it   | has chosen beforehand what follows                               |

Without, capture stops and says what happened, what is safe and what to run: a slot that somebody made anew or a server
that was restored are questions for a person (DESIGN promise 3).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from connector.errors import SourceError
from connector.observe import Fault
from connector.settings import Settings
from connector.source.slot import GONE

GAP = "gap"
"""The index's memory of why the tables must be read anew; empty, or absent, when they need not."""
REQUEST = "request"
"""The index's memory of a read that a person has asked for, as `request_text` makes it; empty when it is done."""

_RESUME = "resume from the replication slot"
_DROPPED = "it was dropped to keep within source.wal_budget, so changes since then are missing"


def request_text(tables: list[str] | None) -> str:
    """What is remembered of a request. tables: full names; None for all, which also permits to close a gap."""
    return json.dumps({"tables": tables}, ensure_ascii=False)


def joined(waiting: str, more: str) -> str:
    """One request for what two ask for."""
    if not waiting:
        return more
    tables, others = (json.loads(each)["tables"] for each in (waiting, more))
    return request_text(None if tables is None or others is None else sorted({*tables, *others}))


def asked_tables(meta: Mapping[str, str], captured: Sequence[str]) -> tuple[str, ...]:
    """The captured tables that a person wants read, in the order given; empty when there is no request."""
    request = meta.get(REQUEST, "")
    tables: list[str] | None = json.loads(request)["tables"] if request else []
    return tuple(name for name in captured if tables is None or name in tables)


def asks_for_all(meta: Mapping[str, str]) -> bool:
    """Whether a person wants everything read, which permits to close a gap."""
    request = meta.get(REQUEST, "")
    return bool(request) and json.loads(request)["tables"] is None


def unpermitted(settings: Settings, meta: Mapping[str, str], gap: str, slot_is_gone: bool) -> SourceError | None:
    """The error that stops the start, unless somebody has permitted to read the tables anew."""
    if asks_for_all(meta) or settings.source.on_gap == "reread":
        return None
    if settings.source.on_wal_budget == "drop_slot" and (gap == GONE or gap.startswith(_DROPPED)):
        return None
    slot = "" if slot_is_gone else "; it also replaces the slot, which until then holds WAL on the server"
    return SourceError(
        _RESUME,
        settings.slot,
        gap,
        "what is in the log, the outbox and the ledger is safe, and delivery goes on with it; run"
        f" `emc-cdc snapshot --all` and start again: the tables are read anew, and what had changed is reported{slot}",
    )


def over_budget(cause: str) -> str:
    """The gap after our own slot was dropped. cause: the verdict's."""
    return f"{_DROPPED} ({cause})"


def told(slot: str, gap: str) -> Fault:
    """What is told when the tables are read anew because of a gap."""
    mend = "nothing is to be done: the tables are read anew, and what had changed is reported"
    return Fault("capture", _RESUME, slot, gap, mend, fatal=False)

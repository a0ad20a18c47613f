"""A check's result, as data. Printing is somebody else's business."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """OK and NOTE are for information; a WARNING should be mended; an ERROR stands in the way.

    UNKNOWN is what SQL does not show to us: its mend is the command with which a person looks.
    """

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    check: a stable id such as PG-03. subject: what was looked at. what: what was found, without values of rows.
    mend: exact SQL or configuration lines, in order; empty when there is nothing to mend. who: owner (of the tables),
    dba (superuser), kafka (its administrator), operator (of the connector), or nobody when there is nothing to mend.
    """

    check: str
    severity: Severity
    subject: str
    what: str
    mend: tuple[str, ...] = ()
    who: str = ""


def ok(check: str, subject: str, what: str) -> Finding:
    """Nothing to mend."""
    return Finding(check, Severity.OK, subject, what)

"""A request, examined: may EMC take it? Pure.

Contract: first the request must say exactly the guide's parameters (`parsing`), then the event must keep the guide's
rules (`connector.emc.rules`). Errors refuse the request; warnings go along with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connector.emc.rules import check
from connector.emc.simulator.parsing import Objection, parse

BODY_LIMIT = 64 * 1024
"""Bytes; no event comes near it."""


@dataclass(frozen=True, slots=True)
class Examination:
    """`faults` refuse the request, `warnings` do not. `parameters` are what could be read, by the guide's names."""

    parameters: dict[str, Any]
    faults: tuple[Objection, ...]
    warnings: tuple[Objection, ...]


def examine(method: str, content_type: str, body: bytes) -> Examination:
    """Examine one request to TrackingMCDT."""
    if method != "POST":
        return _refused(Objection("REQ-01", "", "Phương thức phải là POST", "the method must be POST"))
    if len(body) > BODY_LIMIT:
        return _refused(Objection("REQ-13", "", "Thân yêu cầu quá lớn", "the body is too large"))
    parsed = parse(content_type, body)
    if parsed.event is None:
        return Examination(parsed.parameters, parsed.objections, ())
    found = check(parsed.event)
    return Examination(
        parsed.parameters,
        tuple(Objection(f.rule, f.parameter, f.vi, f.en) for f in found if f.severity == "error"),
        tuple(Objection(f.rule, f.parameter, f.vi, f.en) for f in found if f.severity == "warning"),
    )


def _refused(objection: Objection) -> Examination:
    return Examination({}, (objection,), ())

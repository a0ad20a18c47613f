"""What the simulator got: every request with its verdict, in the order in which it was decided.

Contract: ids count from 1 without gaps. A kept request is in memory, and, with a file, with the operating system
before its answer is sent: the simulator may be killed, the machine may not. On start the file is read back; a last
line that a kill cut short is dropped. Memory grows by about a kilobyte a request and is not bounded: this is a tool
for tests, demos and rehearsals.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from connector.emc.simulator.examination import Examination
from connector.errors import ConnectorError


class Verdict(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    """EMC took the event, whether or not its answer arrived."""
    REFUSED = "refused"
    """The guide does not allow it."""
    FAILED = "failed"
    """A scripted fault: EMC did not take it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the HTTP status, None for none; `lost`: EMC took the event but the answer never left."""

    status: int | None
    lost: bool = False


class Arrivals:
    """The kept requests."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises ConnectorError when the file cannot be read, is something else, or cannot be written."""
        self._lines: list[bytes] = []
        self._codes: list[str] = []
        self._verdicts: list[Verdict] = []
        self.counts: Counter[Verdict] = Counter()
        self.lost = 0
        self._dossiers: set[str] = set()
        self._file: BinaryIO | None = None
        if file is not None:
            self._file = self._reload(file)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def dossiers(self) -> int:
        """How many dossiers have an accepted event."""
        return len(self._dossiers)

    def keep(self, at: float, verdict: Verdict, examined: Examination, answer: Answer, scripted: str | None) -> int:
        """Keep a request; `at`: seconds since the epoch. Returns its id."""
        record = {
            "id": len(self._lines) + 1,
            "at": at,
            "verdict": verdict,
            "parameters": examined.parameters,
            "faults": [asdict(fault) for fault in examined.faults],
            "warnings": [asdict(warning) for warning in examined.warnings],
            "answer": asdict(answer),
            "scripted": scripted,
        }
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        if self._file is not None:
            self._file.write(line + b"\n")
            self._file.flush()
        self._add(line, record)
        return len(self._lines)

    def after(self, last: int) -> bytes:
        """A JSON list of the requests whose id is larger than `last`."""
        return b"[" + b",".join(self._lines[max(last, 0) :]) + b"]"

    def accepted(self) -> Iterator[dict[str, Any]]:
        """The requests that EMC took, in order."""
        for line, verdict in zip(self._lines, self._verdicts, strict=True):
            if verdict is Verdict.ACCEPTED:
                yield json.loads(line)

    def latest(self, limit: int, code: str = "", verdict: Verdict | None = None) -> Iterator[dict[str, Any]]:
        """The last requests, newest first, at most `limit`: of dossiers whose number contains `code`, any case."""
        wanted = code.casefold()
        for index in range(len(self._lines) - 1, -1, -1):
            if limit == 0:
                return
            if verdict in (None, self._verdicts[index]) and wanted in self._codes[index].casefold():
                limit -= 1
                yield json.loads(self._lines[index])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, line: bytes, record: dict[str, Any]) -> None:
        code, verdict = str(record["parameters"].get("CodeProfile") or ""), Verdict(record["verdict"])
        self._lines.append(line)
        self._codes.append(code)
        self._verdicts.append(verdict)
        self.counts[verdict] += 1
        self.lost += bool(record["answer"]["lost"])
        if verdict is Verdict.ACCEPTED:
            self._dossiers.add(code)

    def _reload(self, file: Path) -> BinaryIO:
        try:
            kept = file.open("a+b")
        except OSError as error:
            raise _unusable(file, error.strerror or str(error), "name a file in a writable directory") from None
        try:
            kept.seek(0)
            whole = 0
            for line in kept:
                if not line.endswith(b"\n"):
                    break
                self._add(line[:-1], json.loads(line))
                whole += len(line)
            kept.truncate(whole)
        except (ValueError, KeyError, TypeError, AttributeError):
            kept.close()
            cause = f"line {len(self._lines) + 1} is not a request that a simulator kept"
            raise _unusable(file, cause, "name another file, or remove this one") from None
        return kept


def _unusable(file: Path, cause: str, mend: str) -> ConnectorError:
    return ConnectorError("keep what the simulator gets", str(file), cause, mend)

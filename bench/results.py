"""bench/results.json: one line for each figure; a bench replaces its own lines and leaves the others'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


def store(bench: str, lines: Sequence[dict[str, Any]]) -> None:
    """Put these lines in the place of those that the same bench wrote before. Lines without a name are drain's."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    kept = [line for line in before if line.get("bench", "drain") != bench]
    mine = [{"bench": bench, **line} for line in lines]
    ordered = [*mine, *kept] if bench == "drain" else [*kept, *mine]
    RESULTS.write_text(json.dumps(ordered, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

"""Primary keys as texts of the state, and their order. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence


def key_text(key: Sequence[str]) -> str:
    """A primary key as one text: itself, or a JSON list where that could be mistaken (several columns, a bracket)."""
    if len(key) == 1 and not key[0].startswith("["):
        return key[0]
    return json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))


def key_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts key texts as their columns do: numbers by value, before anything else, which sorts by text."""
    parts: list[str] = json.loads(text) if text.startswith("[") else [text]
    return tuple((0, int(part), part) if _whole(part) else (1, 0, part) for part in parts)


def _whole(part: str) -> bool:
    digits = part.removeprefix("-")
    return digits.isascii() and digits.isdecimal()

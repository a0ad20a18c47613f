"""One line of COPY's text format → the texts of a row (PostgreSQL, COPY, File Formats; pure)."""

from __future__ import annotations

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def copy_row(line: bytes) -> list[bytes | None]:
    """A line without its end: tab-separated, backslash-escaped."""
    fields = line.split(b"\t")
    if b"\\" not in line:
        return fields  # type: ignore[return-value]
    return [None if field == b"\\N" else _unescape(field) if b"\\" in field else field for field in fields]


def _unescape(field: bytes) -> bytes:
    first, *parts = field.split(b"\\")
    out = [first]
    pairs = iter(parts)
    for part in pairs:
        if part:
            out.append(_ESCAPES.get(part[:1], part[:1]) + part[1:])
        else:  # two backslashes in a row: one of them escapes the other
            out.append(b"\\" + next(pairs, b""))
    return b"".join(out)

"""Names as SQL writes them. Always quoted: a mixed-case or Vietnamese name stays what it is."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql


def quote(name: str) -> str:
    """One identifier."""
    return sql.Identifier(name).as_string(None)


def qualified(schema: str, name: str) -> str:
    """`"schema"."name"`."""
    return sql.Identifier(schema, name).as_string(None)


def listed(names: Iterable[str]) -> str:
    """Identifiers with commas between them."""
    return ", ".join(map(quote, names))


def literal(text: str) -> str:
    """A string constant."""
    return sql.Literal(text).as_string(None)

"""What the types of one database come down to: domains to their base, arrays to their elements, enums, hstore, citext.

Contract: `column_type` (room `change`) knows built-in types by their fixed oids and everything else by the oids below
zero; `BaseTypes.resolve` tells which of them an oid of this database is. It asks the catalog once for each type that is
not built in: what a type is based on cannot be altered. A type that was dropped in the meantime is OTHER, and its
values are PostgreSQL's text. How many decimals money has is not in its type but in lc_monetary, so that is asked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import psycopg

from connector.change.columntype import ARRAYS, ENUM, HSTORE, MONEY, MONEY_ARRAY, OTHER, OTHER_ARRAY, TypeOptions
from connector.settings import TypeSettings

_TEXT = 25
_FIRST_UNFIXED = 10_000
"""PostgreSQL gives lower oids by hand, and for ever (FirstGenbkiObjectId)."""

# The asked types, and those below them. An array is what has elements and the length of a varlena.
_TYPES = """
WITH RECURSIVE found(oid) AS (
    SELECT unnest(%(oids)s::oid[])
    UNION
    SELECT below.oid FROM found JOIN pg_type t ON t.oid = found.oid, unnest(ARRAY[t.typbasetype, t.typelem]) below(oid)
     WHERE below.oid >= 10000)
SELECT oid::bigint, typname::text, typtype::text, typbasetype::bigint, typtypmod,
       CASE WHEN typtype = 'b' AND typcategory = 'A' AND typlen = -1 THEN typelem::bigint ELSE 0 END, typdelim::text
  FROM pg_type WHERE oid IN (SELECT oid FROM found)
"""
_MONEY_DECIMALS = "SELECT scale('1'::text::money::numeric)"


def type_options(settings: TypeSettings) -> TypeOptions:
    """The representation that the settings ask for."""
    return TypeOptions(settings.decimal, settings.interval, settings.binary, settings.hstore)


class BaseType(NamedTuple):
    """What `column_type` takes. `typmod`: of a domain's base type, else the column's own counts (-1)."""

    oid: int
    typmod: int


class BaseTypes:
    """See the module's contract. `ask` answers `read_base_types` for these oids, over a connection of its choice."""

    def __init__(self, ask: Callable[[Collection[int]], Mapping[int, BaseType]]) -> None:
        self._ask = ask
        self._known: dict[int, BaseType] = {}

    def learn(self, oids: Collection[int]) -> None:
        """Ask for those that are not known yet, all at once."""
        if unknown := {oid for oid in oids if _is_unfixed(oid)} - self._known.keys():
            self._known |= self._ask(unknown)

    def resolve(self, oid: int, typmod: int) -> BaseType:
        """The base of a column's type."""
        if not _is_unfixed(oid):
            return BaseType(oid, typmod)
        self.learn((oid,))
        base = self._known[oid]
        return base if base.typmod != -1 else BaseType(base.oid, typmod)


def read_base_types(connection: psycopg.Connection, oids: Collection[int]) -> dict[int, BaseType]:
    """What each of the oids comes down to. psycopg.Error when it is not answered."""
    rows = connection.execute(_TYPES, {"oids": list(oids)}).fetchall()
    types = {oid: tuple(rest) for oid, *rest in rows}
    decimals = -1
    if any(oid in (MONEY, MONEY_ARRAY) for oid in (*oids, *(below for row in types.values() for below in row[2:5:2]))):
        [(decimals,)] = connection.execute(_MONEY_DECIMALS).fetchall()

    def base(oid: int) -> BaseType:
        if oid in (MONEY, MONEY_ARRAY):
            return BaseType(oid, decimals)
        if oid not in types:
            return BaseType(OTHER if oid >= _FIRST_UNFIXED else oid, -1)
        name, kind, below, typmod, element, delimiter = types[oid]
        if kind == "d":
            found = base(below)
            return found if found.typmod != -1 else BaseType(found.oid, typmod)
        if element:
            found = base(element)
            return BaseType(ARRAYS.get(found.oid, OTHER_ARRAY) if delimiter == "," else OTHER, found.typmod)
        if kind == "e":
            return BaseType(ENUM, -1)
        if kind == "b" and name in _EXTENSIONS:
            return BaseType(_EXTENSIONS[name], -1)
        return BaseType(OTHER, -1)

    return {oid: base(oid) for oid in oids}


_EXTENSIONS = {"hstore": HSTORE, "citext": _TEXT}


def _is_unfixed(oid: int) -> bool:
    return oid >= _FIRST_UNFIXED or oid in (MONEY, MONEY_ARRAY)

"""What one record may take, and what is done with a change that takes more: stop, or cut what the operator named.

Contract: a record is measured when it is made, so before anything of it is appended; key, value and what a log adds to
them (`RECORD_OVERHEAD`) are no more than `log.largest_record`. A change that is larger is never dropped: its record is
cut by `decode.cutting` and carries the columns' names in `source.truncated`, or RecordTooLarge ends capture. The keyed
index remembers what the log has, so what is restored from it later is cut, and marked, alike (`CUT`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from connector.catalog.identifier import qualified, quote
from connector.change.json_encoding import compact
from connector.change.shape import Shape
from connector.errors import RecordTooLarge, SourceError
from connector.log.contract import RECORD_OVERHEAD
from connector.settings import LARGEST_RECORD, Settings
from connector.source.catalog import CatalogTable
from connector.source.decode.cutting import CUTTABLE, LEAST, Fitted, RowParts
from connector.source.relation import CapturedRelation

OPERATION = "log a change"
CUT = ""
"""In an index's texts, in the place of a column: the names of those that were cut, as JSON."""
TRUNCATED = "truncated"
"""The index's memory of how many records were cut: column → count, as JSON."""

_SHOWN = 4
"""Columns that an error names."""
_MEBIBYTE = 1024 * 1024


class RecordBound:
    """See the module's contract. largest: bytes of a record's key and value together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bound = settings.log.largest_record
        self.largest = self._bound - RECORD_OVERHEAD
        self._named: dict[str, set[str]] = {}
        for name in settings.log.truncate:
            table, column = split(name)
            self._named.setdefault(table, set()).add(column)
        self._parts: dict[Shape, RowParts] = {}

    def fit(
        self,
        table: CapturedRelation,
        before: bytes | None,
        after: bytes | None,
        size: int,
        known: Collection[str],
        where: str,
    ) -> Fitted:
        """The rows of a record of `size` bytes, cut so that it fits with its mark. RecordTooLarge when it cannot be.

        known: columns that are cut already; where: the change's place, for the error; empty for a read of the table.
        """
        if self._settings.log.format == "json":
            raise self._too_large(table, _sizes_in_json(before, after), size, where)
        parts = self._parts.get(table.shape)
        if parts is None:
            parts = RowParts(table.shape, self._named.get(table.name, ()))
            self._parts[table.shape] = parts
        rows = len(before or b"") + len(after or b"")
        fitted = parts.fit(before, after, self.largest - (size - rows) - parts.longest_mark)
        if fitted is None:
            raise self._too_large(table, parts.sizes(before, after), size, where)
        names = {*fitted.names, *known}
        return Fitted(
            fitted.before,
            fitted.after,
            tuple(column.name for column in table.shape.columns if column.name in names),
            fitted.texts,
        )

    def require(self, prefix: str, size: int, where: str) -> None:
        """RecordTooLarge for a message that is larger than a record may be."""
        if size > self.largest:
            raise RecordTooLarge(
                OPERATION,
                f"a logical message {prefix}",
                f"{self._how_large(size)}; {where}",
                f"{_SAFE}. {self._larger(size)}",
            )

    def _too_large(
        self, table: CapturedRelation, sizes: Sequence[tuple[str, int]], size: int, where: str
    ) -> RecordTooLarge:
        key = ", ".join(column.name for column in table.shape.key)
        largest = ", ".join(f"{name} {taken:,}" for name, taken in sizes[:_SHOWN])
        named = self._named.get(table.name, set())
        cause = f"{self._how_large(size)}; its largest columns, in bytes: {largest}"
        if named:
            cause += f"; cutting {', '.join(sorted(named))} to {LEAST:,} bytes each would not make it fit"
        cause += f"; {where or 'the row was read from its table'}"
        keys = {column.name for column in table.shape.key}
        open_ = [
            column.name
            for column in table.shape.columns
            if column.type_oid in CUTTABLE and column.name not in keys | named
        ]
        cut = next((name for name, _ in sizes if name in open_), None)
        ways = [self._larger(size)] if size + RECORD_OVERHEAD <= LARGEST_RECORD else []
        if cut is not None and self._settings.log.format == "avro":
            columns = [*self._settings.log.truncate, f"{table.name}.{cut}"]
            ways.append(f"or log.on_oversized: truncate with log.truncate: {json.dumps(columns, ensure_ascii=False)}")
        ways.append("or leave its largest column out of the mapping; then start again (docs/runbook.md has more ways)")
        safe = _SAFE if where else "nothing is lost: the table is read again"
        return RecordTooLarge(
            OPERATION,
            f"{table.name} (key: {key})",
            cause,
            f"{safe}. {'; '.join(ways)}. The rows: {self._find(table, sizes)}",
        )

    def _how_large(self, size: int) -> str:
        return f"its record of {size + RECORD_OVERHEAD:,} bytes is larger than log.largest_record ({self._bound:,})"

    def _larger(self, size: int) -> str:
        """The setting at which a record of this size fits."""
        way = f"log.largest_record: {-(-(size + RECORD_OVERHEAD) // _MEBIBYTE)}MB"
        if self._settings.log.kafka is not None:
            way += f" (and no less as max.message.bytes of {self._settings.name}.changes; capture makes it 16777216)"
        return way

    @staticmethod
    def _find(table: CapturedRelation, sizes: Sequence[tuple[str, int]]) -> str:
        keys = ", ".join(quote(column.name) for column in table.shape.key)
        name = qualified(table.shape.schema, table.shape.table)
        column, size = sizes[0]
        return f"SELECT {keys} FROM {name} WHERE octet_length({quote(column)}::text) >= {size // 2};"  # noqa: S608 — to be read


_SAFE = (
    "nothing is lost: the slot keeps the place and PostgreSQL the WAL since, which counts towards source.wal_budget;"
    " nothing after it is read, what was before it is in the log"
)


def _sizes_in_json(*rows: bytes | None) -> list[tuple[str, int]]:
    """Columns with the bytes that they take in all rows, the largest first."""
    sums: Counter[str] = Counter()
    for row in rows:
        for column, value in json.loads(row or b"{}").items():
            sums[column] += len(compact(value).encode())
    return sums.most_common()


def split(name: str) -> tuple[str, str]:
    """`schema.table.column` → the table's full name, and the column; empty where it is no such name."""
    schema, _, rest = name.partition(".")
    table, _, column = rest.partition(".")
    return (f"{schema}.{table}", column) if schema and table and column else ("", "")


def require_cuttable(settings: Settings, tables: Mapping[str, CatalogTable]) -> None:
    """SourceError when `log.truncate` names what must not, or cannot, be cut."""
    for name in settings.log.truncate:
        full_name, column_name = split(name)
        table = tables.get(full_name)
        column = next((each for each in table.shape.columns if each.name == column_name), None) if table else None
        if table is None or column is None:
            raise _refused(name, "no such column is captured", f"captured are: {_captured(tables)}")
        if column.key or column.name == table.selection.link:
            raise _refused(name, "it tells which row it is, or whose", "take it out of log.truncate")
        if column.type_oid not in CUTTABLE:
            kinds = ", ".join(CUTTABLE.values())
            raise _refused(name, f"only these types can be cut: {kinds}", "take it out of log.truncate")


def _captured(tables: Mapping[str, CatalogTable]) -> str:
    return ", ".join(f"{name}.{column.name}" for name, table in tables.items() for column in table.shape.columns)


def _refused(name: str, cause: str, mend: str) -> SourceError:
    return SourceError("attach to PostgreSQL", f"log.truncate: {name}", cause, mend)

"""Which of Debezium's topics hold which tables. Pure."""

from __future__ import annotations

from connector.change.selection import Selection, TableSelection
from connector.settings import DebeziumSettings


def table_topics(settings: DebeziumSettings, selection: Selection) -> dict[str, TableSelection]:
    """Topic → table, for every table of the mapping."""
    middle = f"{settings.database}." if settings.database is not None else ""
    return {
        settings.topics.get(table.full_name, f"{settings.prefix}.{middle}{table.full_name}"): table
        for table in selection.tables
    }


def transaction_topic(settings: DebeziumSettings) -> str:
    """Where Debezium tells of transactions, if it does."""
    return settings.transactions or f"{settings.prefix}.transaction"

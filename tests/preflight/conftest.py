"""The attached database of this directory's tests."""

from __future__ import annotations

import pytest
from attached_database import TABLES, Attached, attach
from plugins.postgres import Database


@pytest.fixture
def attached(database: Database) -> Attached:
    """A database on which nothing is to be said: tables, grants, publication, a bound for WAL."""
    made = Attached(database.server, database.name)
    made.by_dba("ALTER SYSTEM SET max_slot_wal_keep_size = '1000TB';\nSELECT pg_reload_conf()")
    made.by_owner(TABLES)
    attach(made)
    return made

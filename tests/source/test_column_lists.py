"""Capture under `publish_columns: mapped`: the publication lists what is mapped, and the stream holds nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from attached_source import Attached
from plugins.postgres import Database

from connector.preflight.postgres import survey_over
from connector.preflight.setup import setup_statements

_LISTS = "SELECT count(*)::int FROM pg_publication_rel WHERE prattrs IS NOT NULL"
_SEEN = r"""
SELECT string_agg(encode(data, 'escape'), '') FROM pg_logical_slot_peek_binary_changes(
    'dem', NULL, NULL, 'proto_version', '1', 'publication_names', %s)
"""


@pytest.fixture
def attached(database: Database, tmp_path: Path) -> Attached:
    """A connector whose settings ask for column lists, set up."""
    made = Attached(database, tmp_path)
    made.settings = made.settings_with(publish_columns="mapped")
    made.set_up()
    return made


def test_it_is_exact_and_unmapped_values_never_leave(attached: Attached) -> None:
    """Snapshot and stream are exact, and what the server sends does not hold the private column's value."""
    assert attached.ask(_LISTS) == [(3,)]
    attached.ask("SELECT pg_create_logical_replication_slot('dem', 'pgoutput')")
    with attached.capturing():
        attached.owner.execute(
            """UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'xong', rieng_tu = 'kín lắm' WHERE id = 7"""
        )
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET rieng_tu = 'kín nữa' WHERE id = 8""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 3""")
    attached.assert_exact()
    (sent,) = attached.ask(_SEEN, attached.settings.publication)[0]
    attached.ask("SELECT pg_drop_replication_slot('dem')")
    attached.close()
    assert "xong" in sent
    assert "k\\303\\255n" not in sent


def test_lists_are_taken_away_for_a_migration(attached: Attached) -> None:
    """What check names before a migration (no lists), the migration, and setup again: capture streams on, exactly."""
    with attached.capturing() as running:
        found = survey_over(attached.owner, "emc_cdc", attached.settings, attached.selection)
        tables = ", ".join(f'"{table.selection.schema}"."{table.selection.name}"' for table in found.present)
        attached.owner.execute(f'ALTER PUBLICATION "{found.publication_name}" SET TABLE {tables}'.encode())
        assert attached.ask(_LISTS) == [(0,)]
        attached.owner.execute("""ALTER TABLE "mot cua".thanh_toan ALTER so_tien TYPE numeric(20,4)""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 7 WHERE id = 1""")
        attached.set_up()
        assert attached.ask(_LISTS) == [(3,)]
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 8.25 WHERE id = 2""")
        attached.settle(running)
        assert running.faults == []
    attached.assert_exact()
    found = survey_over(attached.owner, "emc_cdc", attached.settings, attached.selection)
    assert setup_statements(found) == []
    attached.close()

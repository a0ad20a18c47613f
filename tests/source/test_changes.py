"""What applications do to tables, and the records that come of it."""

from __future__ import annotations

from attached_source import BIG, DOSSIER, PARTITIONS, PAYMENT, UNIT, Attached, fold_partition

from connector.change.record import SNAPSHOT_BEGIN, SNAPSHOT_END, Op


def test_the_snapshot_is_whole_in_every_partition(attached: Attached) -> None:
    """Begin, reads, end; each row once; reference rows in every partition; children beside their dossier."""
    with attached.capturing():
        pass
    records = attached.records()
    for partition in records:
        assert (partition[0].marker, partition[-1].marker) == (SNAPSHOT_BEGIN, SNAPSHOT_END)
        assert {change.op for change in partition[1:-1]} == {Op.READ}
        assert [change.key for change in partition if change.table == UNIT] == [("1",)]
        dossiers = {change.key[0] for change in partition if change.table == DOSSIER}
        payments = {str(c.after["ho_so_id"]) for c in partition if c.table == PAYMENT and c.after is not None}
        assert payments == dossiers
    for table in (DOSSIER, PAYMENT):
        keys = [int(change.key[0]) for partition in records for change in partition if change.table == table]
        assert sorted(keys) == list(range(1, 31))
    attached.assert_exact()


def test_the_connector_s_role_may_do_no_more_than_it_needs(attached: Attached) -> None:
    """Capture runs as a role with LOGIN and REPLICATION that may read mapped columns and write nothing."""
    with attached.capturing():
        pass
    role = attached.ask(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication, rolcanlogin"
        " FROM pg_roles WHERE rolname = 'emc_cdc'"
    )
    assert role == [(False, False, False, False, True, True)]
    rights = attached.ask(
        "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges"
        " WHERE grantee = 'emc_cdc' AND table_schema = 'mot cua' ORDER BY 1, 2"
    )
    assert {kind for _, _, kind in rights} == {"SELECT"}
    assert {(table, column) for table, column, _ in rights} == {
        *(("Hồ sơ", column) for column in ("id", "Mã", "trang_thai", "noi_dung")),
        *(("thanh_toan", column) for column in ("id", "ho_so_id", "so_tien")),
        *(("don_vi", column) for column in ("id", "ten")),
    }


def test_a_new_primary_key_is_another_row(attached: Attached) -> None:
    """The old row is deleted (sub 0) and the new one created (sub 1), by one and the same message."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 700 WHERE id = 7""")
    gone, made = sorted(attached.streamed(DOSSIER), key=lambda change: change.position)
    assert (gone.op, gone.key, gone.position.sub) == (Op.DELETE, ("7",), 0)
    assert (made.op, made.key, made.position.sub) == (Op.CREATE, ("700",), 1)
    assert gone.position[:3] == made.position[:3]
    assert made.after is not None
    assert made.after["Mã"] == "M7"
    attached.assert_exact()


def test_reference_rows_go_to_every_partition(attached: Attached) -> None:
    """A catalogue's changes and a TRUNCATE are told to every partition."""
    with attached.capturing():
        attached.owner.execute("""INSERT INTO "mot cua".don_vi VALUES (2, 'Sở Y tế')""")
        attached.owner.execute("""UPDATE "mot cua".don_vi SET ten = 'Sở Nội vụ' WHERE id = 1""")
        attached.owner.execute("""DELETE FROM "mot cua".don_vi WHERE id = 2""")
        attached.owner.execute("""TRUNCATE "mot cua".don_vi, "mot cua".thanh_toan""")
        attached.owner.execute("""INSERT INTO "mot cua".don_vi VALUES (3, 'Sở Tài chính')""")
    for partition in attached.records():
        told = [change.op for change in partition if change.table == UNIT and change.op is not Op.READ]
        assert told == [Op.CREATE, Op.UPDATE, Op.DELETE, Op.TRUNCATE, Op.CREATE]
        assert [change.op for change in partition if change.table == PAYMENT][-1] is Op.TRUNCATE
        assert list(fold_partition(partition, UNIT)) == ["3"]
    attached.assert_exact()


def test_a_child_without_a_dossier_is_known_everywhere(attached: Attached) -> None:
    """A NULL link goes to every partition, and so does its end; once linked the row stands with its dossier only."""
    with attached.capturing():
        attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (98, NULL, 1, ''), (99, NULL, 2, '')""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 5 WHERE id = 98""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 99""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = NULL WHERE id = 6""")
    records = attached.records()
    holders = [sorted(fold_partition(partition, PAYMENT)) for partition in records]
    assert sum("98" in rows for rows in holders) == 1
    assert not any("99" in rows for rows in holders)
    assert all("6" in rows for rows in holders)
    home = next(partition for partition in records if "5" in fold_partition(partition, DOSSIER))
    assert "98" in fold_partition(home, PAYMENT)
    attached.assert_exact()


def test_replica_identity_full_tells_what_was_before(attached: Attached) -> None:
    """Where the owner has set it, records carry the old row; partitions and large values are as ever."""
    for name in ('"Hồ sơ"', "thanh_toan"):
        attached.owner.execute(f'ALTER TABLE "mot cua".{name} REPLICA IDENTITY FULL'.encode())
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id = 7""", (BIG,))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x' WHERE id = 7""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 2 WHERE id = 1""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id = 3""")
        attached.owner.execute("""DELETE FROM "mot cua"."Hồ sơ" WHERE id = 8""")
    _, update, delete = sorted(attached.streamed(DOSSIER), key=lambda change: change.position)
    assert update.before == {"id": 7, "Mã": "M7", "trang_thai": "moi", "noi_dung": BIG}
    assert update.after == {"id": 7, "Mã": "M7", "trang_thai": "x", "noi_dung": BIG}
    assert delete.before is not None
    assert delete.before["Mã"] == "M8"
    attached.assert_exact()


def test_a_large_value_is_known_within_one_transaction(attached: Attached) -> None:
    """Inserted, touched, rekeyed and deleted in one transaction: no record has a hole."""
    with attached.capturing(), attached.owner.transaction():
        attached.owner.execute("""INSERT INTO "mot cua"."Hồ sơ" VALUES (50, 'M50', 'a', %s)""", (BIG,))
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b' WHERE id = 50""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET id = 51 WHERE id = 50""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'c' WHERE id = 51""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = NULL WHERE id = 51""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'd' WHERE id = 51""")
    changes = sorted(attached.streamed(DOSSIER), key=lambda change: change.position)
    told = [change.after["noi_dung"] for change in changes if change.after is not None]
    assert told == [BIG, BIG, BIG, BIG, None, None]
    attached.assert_exact()


def test_only_our_own_messages_are_kept(attached: Attached) -> None:
    """Logical messages with our prefix go to every partition; those of others, and rolled back ones, leave no trace."""
    emit = "SELECT pg_logical_emit_message(true, %s, %s)"
    with attached.capturing():
        attached.owner.execute(emit, ("emc-cdc.thu", "xin chào"))
        attached.owner.execute(emit, ("khac", "bí mật"))
        with attached.owner.transaction(force_rollback=True):
            attached.owner.execute(emit, ("emc-cdc.bo", "never"))
    for partition in attached.records():
        kept = [
            (change.marker, change.content.decode(), change.last) for change in partition if change.op is Op.MESSAGE
        ]
        assert [one for one in kept if one[0] not in (SNAPSHOT_BEGIN, SNAPSHOT_END)] == [
            ("emc-cdc.thu", "xin chào", True)
        ]


def test_interleaved_transactions_stand_in_commit_order(attached: Attached) -> None:
    """What began first and committed last comes last, whole."""
    other = attached.connect()
    with attached.capturing(), attached.owner.transaction():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'late' WHERE id <= 10""")
        with other.transaction():
            other.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'early' WHERE id > 10""")
        attached.owner.execute("""UPDATE "mot cua".thanh_toan SET so_tien = 1 WHERE id <= 10""")
    other.close()
    for partition in attached.records():
        told = [
            change.after["trang_thai"]
            for change in partition
            if change.table == DOSSIER and change.transaction and change.after is not None
        ]
        assert told == sorted(told)
        assert {"early", "late"} == set(told)
    attached.assert_exact()


def test_a_column_added_while_running_changes_nothing(attached: Attached) -> None:
    """A migration that adds columns goes through; the log goes on with the mapped ones."""
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a' WHERE id = 1""")
        attached.owner.execute("""ALTER TABLE "mot cua"."Hồ sơ" ADD COLUMN moi int DEFAULT 5, DROP COLUMN khac""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b' WHERE id = 1""")
    told = [change.after for change in attached.streamed(DOSSIER)]
    assert told == [{"id": 1, "Mã": "M1", "trang_thai": state, "noi_dung": None} for state in ("a", "b")]


def test_a_table_renamed_while_running_is_not_passed_over(attached: Attached) -> None:
    """Changes under another name are ours as before; capture says so and waits until the name is back."""
    with attached.capturing() as running:
        attached.owner.execute("""ALTER TABLE "mot cua".thanh_toan RENAME TO thu_phi""")
        attached.owner.execute("""UPDATE "mot cua".thu_phi SET so_tien = 3 WHERE id = 1""")
        running.until(lambda: any("is now called mot cua.thu_phi" in f.cause for f in running.faults), "it is told")
        attached.owner.execute("""ALTER TABLE "mot cua".thu_phi RENAME TO thanh_toan""")
    attached.assert_exact()


def test_the_number_of_partitions_is_the_log_s(attached: Attached) -> None:
    """Every partition has records, none beyond."""
    with attached.capturing():
        pass
    assert [bool(partition) for partition in attached.records()] == [True] * PARTITIONS

"""Every type and value of cases.md through capture, on every server: as golden/types.json has it.

That file is what the real Debezium confirms (test_debezium_types.py), but for what docs/types.md lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attached_source import Attached
from plugins.postgres import Database
from test_debezium_types import STREAMED, our_events
from torture import CASES, COLUMNS, insert_sql, make_types, table_sql

from connector.change.columntype import ELEMENTS
from connector.change.record import Op
from connector.change.selection import Role, Selection, TableSelection
from connector.preflight.postgres import survey_over

GOLDEN = Path(__file__).with_name("golden") / "types.json"
TABLE = "kieu.mac_dinh"


def attached_to(database: Database, directory: Path, tables: str, *columns: str) -> Attached:
    """A connector set up for `kieu.mac_dinh` and these columns."""
    make_types(database)
    attached = Attached(database, directory, tables)
    attached.selection = Selection((TableSelection("kieu", "mac_dinh", Role.DOSSIER, columns),))
    attached.set_up()
    return attached


def test_every_value_is_what_it_was(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Read and streamed alike, on every server."""
    attached = attached_to(database, tmp_path, table_sql("mac_dinh"), "hang", *COLUMNS)
    request.addfinalizer(attached.close)
    for case in range(CASES):
        attached.owner.execute(insert_sql("mac_dinh", case, case).encode())
    with attached.capturing(selection=attached.selection):
        for case in range(CASES):
            attached.owner.execute(insert_sql("mac_dinh", STREAMED + case, case).encode())
    found: dict[str, dict[str, list[Any]]] = {"r": {}, "c": {}}
    for event, _ in our_events(attached.settings)[TABLE]:
        row = event["after"]
        for column, (_, literals) in COLUMNS.items():
            if row["hang"] < len(literals):
                found[event["op"]].setdefault(column, []).append(row[column])
            else:
                assert row[column] is None
    assert found["r"] == found["c"]
    del found["r"]["c_big"]
    assert found["r"] == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_an_enum_gets_values_while_capture_runs(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """New and renamed labels arrive, of the enum, of a domain over it and of its array, under the same schema."""
    tables = "CREATE DOMAIN kieu.trang AS kieu.tam_trang; CREATE TABLE kieu.mac_dinh (id bigint PRIMARY KEY,"
    tables += " e kieu.tam_trang, d kieu.trang, a kieu.tam_trang[])"
    attached = attached_to(database, tmp_path, tables, "e", "d", "a")
    request.addfinalizer(attached.close)
    run = attached.owner.execute
    run("INSERT INTO kieu.mac_dinh VALUES (1, 'vui', 'buồn', '{vui}')")
    with attached.capturing(selection=attached.selection):
        run("INSERT INTO kieu.mac_dinh VALUES (2, 'vui', 'buồn', '{vui}')")
        run("ALTER TYPE kieu.tam_trang ADD VALUE 'mệt' BEFORE 'vui'")
        run("INSERT INTO kieu.mac_dinh VALUES (3, 'mệt', 'mệt', '{mệt,NULL}')")
        run("ALTER TYPE kieu.tam_trang RENAME VALUE 'vui' TO 'vui vẻ'")
        run("UPDATE kieu.mac_dinh SET id = id WHERE id = 2")
    rows = [(c.op, c.after) for partition in attached.records() for c in partition if c.table == TABLE]
    old = {"e": "vui", "d": "buồn", "a": ["vui"]}
    assert sorted(rows, key=repr) == sorted(
        [
            (Op.READ, {"id": 1, **old}),
            (Op.CREATE, {"id": 2, **old}),
            (Op.CREATE, {"id": 3, "e": "mệt", "d": "mệt", "a": ["mệt", None]}),
            (Op.UPDATE, {"id": 2, "e": "vui vẻ", "d": "buồn", "a": ["vui vẻ"]}),
        ],
        key=repr,
    )
    schemas = {json.dumps(schema) for _, schema in our_events(attached.settings)[TABLE]}
    assert len(schemas) == 1


def test_a_type_made_while_capture_runs(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A mapped column that becomes another type, of the application's and made since, is told by its new base."""
    tables = "CREATE TABLE kieu.mac_dinh (id bigint PRIMARY KEY, x text)"
    attached = attached_to(database, tmp_path, tables, "x")
    request.addfinalizer(attached.close)
    run = attached.owner.execute
    with attached.capturing(selection=attached.selection):
        run("INSERT INTO kieu.mac_dinh VALUES (1, '2.5')")
        run("CREATE DOMAIN kieu.moi AS numeric(6,1)")
        run("ALTER TABLE kieu.mac_dinh ALTER x TYPE kieu.moi USING x::kieu.moi")
        run("INSERT INTO kieu.mac_dinh VALUES (2, 7)")
    images = [event["after"] for event, _ in our_events(attached.settings)[TABLE]]
    assert [image["x"] for image in images] == ["2.5", "Rg=="]


def test_modes_count_for_later_records(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """After a change of `source.types` old and new records stand side by side, and a decimal is a decimal in both."""
    tables = "CREATE TABLE kieu.mac_dinh (id bigint PRIMARY KEY, n numeric(8,2), h hstore, i interval, b bytea)"
    attached = attached_to(database, tmp_path, tables, "n", "h", "i", "b")
    request.addfinalizer(attached.close)
    values = "VALUES ({}, 1.50, '\"a\"=>\"1\"', '1 day', '\\x00ff')"
    attached.owner.execute(f"INSERT INTO kieu.mac_dinh {values.format(1)}".encode())
    with attached.capturing(selection=attached.selection):
        pass
    modes = {"decimal": "string", "hstore": "map", "interval": "string", "binary": "hex"}
    with attached.capturing(selection=attached.selection, settings=attached.settings_with(types=modes)):
        attached.owner.execute(f"INSERT INTO kieu.mac_dinh {values.format(2)}".encode())
    images = [event["after"] for event, _ in our_events(attached.settings)[TABLE]]
    assert images == [
        {"id": 1, "n": "AJY=", "h": '{"a":"1"}', "i": 86_400_000_000, "b": "AP8="},
        {"id": 2, "n": "1.50", "h": {"a": "1"}, "i": "P0Y0M1DT0H0M0S", "b": "00ff"},
    ]
    numbers = [c.after["n"] for partition in attached.records() for c in partition if c.after is not None]
    assert [repr(number) for number in numbers] == ["Decimal('1.50')", "Decimal('1.50')"]


def test_a_small_value_stored_large_is_remembered(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """PostgreSQL leaves out jsonb and arrays whose text is shorter than a pointer, but not what is stored."""
    # Texts of 15 bytes are never moved out; so many of them are too much for a row.
    many = [f"t{number}" for number in range(140)]
    texts = ", ".join(f"{name} text DEFAULT repeat('x', 15)" for name in many)
    tables = f"CREATE TABLE kieu.mac_dinh (id bigint PRIMARY KEY, j jsonb, a int[], n int, {texts})"
    attached = attached_to(database, tmp_path, tables, "j", "a", "n")
    request.addfinalizer(attached.close)
    with attached.capturing(selection=attached.selection):
        attached.owner.execute(b"INSERT INTO kieu.mac_dinh VALUES (1, '{\"a\": [1, 2]}', '{1,2,3,4}', 1)")
        attached.owner.execute(b"UPDATE kieu.mac_dinh SET n = 2")
    [*_, last] = [event["after"] for event, _ in our_events(attached.settings)[TABLE]]
    assert last == {"id": 1, "j": '{"a": [1, 2]}', "a": [1, 2, 3, 4], "n": 2}


def test_a_domain_is_told_as_its_base(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`check` judges a column by what is logged of it, not by the domain's name."""
    tables = "CREATE DOMAIN kieu.han AS kieu.ngay; CREATE TABLE kieu.mac_dinh (id bigint PRIMARY KEY, d kieu.han)"
    attached = attached_to(database, tmp_path, tables, "d")
    request.addfinalizer(attached.close)
    [table] = survey_over(attached.owner, "emc_cdc", attached.settings, attached.selection).present
    assert [(column.name, column.type) for column in table.columns] == [("id", "bigint"), ("d", "date")]


def test_elements_are_the_servers(database: Database) -> None:
    """The fixed oids of arrays and their elements are those of the catalog."""
    with psycopg.connect(database.dsn("postgres")) as admin:
        rows = admin.execute("SELECT oid::bigint, typelem::bigint FROM pg_type WHERE typcategory = 'A'").fetchall()
    assert {array: element for array, element in ELEMENTS.items() if array > 0}.items() <= dict(rows).items()

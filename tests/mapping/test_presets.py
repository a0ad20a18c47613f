"""The shipped mappings fit the schemas they are made for, on a real server."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import psycopg
import pytest
from plugins.postgres import Database

from connector.configuration import presets
from connector.mapping.compile import compile_mapping, unwrap
from connector.mapping.document import MapNode, read
from connector.mapping.extend import extend
from connector.mapping.marks import Problems
from connector.mapping.plan import Plan, against_catalog
from connector.preflight.live import LiveReader

SCHEMAS = {
    "one-stop-generic": resources.files("connector.demo.legacy") / "schema.sql",
    "opencps-v2": Path(__file__).parent / "opencps" / "schema.sql",
}
GONE = {
    "one-stop-generic": ("motcua.thu_tuc", "ma", "28:13"),
    "opencps-v2": ("public.opencps_dossier", "systemid", "98:21"),
}
"""A column of each that may be missing, and where the preset names it."""

COLUMNS = """
SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r' AND n.nspname IN ('motcua', 'public')"""


def preset(name: str, upper_text: bytes = b"SiteId: 327") -> Plan:
    """A preset's plan, with a site id and what else is laid over it."""
    problems = Problems()
    data = (resources.files("connector.mapping") / "presets" / f"{name}.yml").read_bytes()
    lower, upper = unwrap(read(data, name), problems), read(upper_text, "upper")
    assert isinstance(lower, MapNode)
    assert isinstance(upper, MapNode)
    plan = compile_mapping(extend(lower, upper), problems)
    problems.raise_found()
    assert plan is not None
    return plan


def test_every_preset_has_a_schema_here() -> None:
    """A new preset comes with the schema that it is tested on."""
    assert set(presets()) == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_preset_fits_its_schema(name: str, database: Database) -> None:
    """Every table and column that it names is there, and of a type that can be sent."""
    with psycopg.connect(database.dsn()) as connection:
        connection.execute(SCHEMAS[name].read_text("utf-8").encode())
        catalog: dict[str, dict[str, str]] = {}
        for table, column, type_name in connection.execute(COLUMNS):
            catalog.setdefault(table, {})[column] = type_name
    plan = preset(name)
    assert against_catalog(plan, catalog) == []
    table, column, place = GONE[name]
    del catalog[table][column]
    assert [str(error.subject) for error in against_catalog(plan, catalog)] == [f"{name}:{place}"]


def test_the_level_of_each_agency_can_be_used(database: Database) -> None:
    """The lines that the preset offers in a comment give the level of procedure and agency together."""
    text = (resources.files("connector.mapping") / "presets" / "opencps-v2.yml").read_text("utf-8")
    offered = "".join(f"{line[8:]}\n" for line in text.splitlines() if line.startswith("  #     "))
    plan = preset("opencps-v2", f"SiteId: 327\n{offered}".encode())
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMAS["opencps-v2"].read_text("utf-8").encode())
        connection.execute(
            """INSERT INTO opencps_serviceinfo (serviceinfoid, servicecode, maxlevel) VALUES (1, '1.000001', 4);
            INSERT INTO opencps_serviceconfig (serviceconfigid, serviceinfoid, govagencycode, servicelevel)
                VALUES (1, 1, 'H02', 3), (2, 2, 'H01', 4), (3, 1, 'H01', 2);
            INSERT INTO opencps_dossier (dossierid, servicecode, govagencycode)
                VALUES (1, '1.000001', 'H01'), (2, '1.000001', 'H02'), (3, '1.000001', 'H03')"""
        )
        reader = LiveReader(connection, plan, "nothing")
        told = [facts for batch in reader.newest(3) for facts in reader.facts(batch.dossiers)]
    assert [(facts.level, len(facts.missing)) for facts in told] == [(None, 1), (3, 0), (0, 0)]

"""A table with a column of every type that cases.md names, and the values that have broken connectors.

A row of it is a case number: column `hang` holds it, and every other column the value of that number in its list, or
NULL past the list's end. So the literal behind any value of any event is known.
"""

from __future__ import annotations

import string
from random import Random

import psycopg
from plugins.postgres import Database

TYPES = """
CREATE SCHEMA kieu;
CREATE TYPE kieu.tam_trang AS ENUM ('vui', 'buồn', 'a,b', 'có "nháy"');
CREATE DOMAIN kieu.so_tien AS numeric(10,2);
CREATE DOMAIN kieu.so_tien_duong AS kieu.so_tien CHECK (VALUE > -1000000);
CREATE DOMAIN kieu.ma AS text;
CREATE DOMAIN kieu.ngay AS date;
CREATE DOMAIN kieu.luc AS timestamp(3);
CREATE DOMAIN kieu.kho AS hstore;
CREATE DOMAIN kieu.cac_so AS int[];
CREATE TYPE kieu.dia_chi AS (duong text, so int);
CREATE TYPE kieu.khoang AS RANGE (subtype = float8);
"""

_BIG = "".join(Random(1).choices(string.ascii_letters + string.digits, k=20_000))

# Column → type and SQL literals; NULL is the last case of every column.
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "c_bool": ("boolean", ("true", "false")),
    "c_int2": ("smallint", ("1", "-32768")),
    "c_int4": ("integer", ("2", "-2147483648")),
    "c_int8": ("bigint", ("3", "-9223372036854775808")),
    "c_oid": ("oid", ("4000000000",)),
    "c_real": ("real", ("1.5", "'NaN'", "'Infinity'", "1e10", "'-0'", "1e-5")),
    "c_double": ("double precision", ("2.5", "'NaN'", "'-Infinity'", "1e22", "'-0'", "0.1")),
    "c_numeric_14_2": ("numeric(14,2)", ("12.34", "-0.10", "'NaN'", "-1.28", "0")),
    "c_numeric_5": ("numeric(5)", ("77", "-128")),
    "c_numeric_40_10": ("numeric(40,10)", ("1.5", "-0.0000000001", "123456789012345678901234567890.0123456789")),
    "c_numeric": ("numeric", ("1.2340", "-0.10", "'NaN'", "'Infinity'", "'-Infinity'", "1e30", "1e-20", "7", "0")),
    "c_numeric_5_m2": ("numeric(5,-2)", ("12300",)),
    "c_numeric_3_5": ("numeric(3,5)", ("0.00123",)),
    "c_money": ("money", ("12.34", "-1234.56", "0", "-92233720368547758.08")),
    "c_date": (
        "date",
        ("'2024-02-29'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'20000-01-01'", "'1600-02-29'"),
    ),
    "c_time": ("time", ("'12:34:56.789123'", "'24:00:00'", "'00:00:00'", "'12:34:56.5'")),
    "c_time_3": ("time(3)", ("'12:34:56.789'", "'24:00:00'")),
    "c_time_0": ("time(0)", ("'12:34:56'",)),
    "c_timetz": (
        "timetz",
        ("'12:34:56.789123+07'", "'24:00:00+07'", "'00:00:00-15:59'", "'01:00:00.5+07'", "'12:00:00+00'"),
    ),
    "c_timetz_3": ("timetz(3)", ("'12:34:56.789-03:30'",)),
    "c_timestamp": (
        "timestamp",
        (
            "'2024-02-29 12:34:56.789123'",
            "'0044-03-15 10:00:00.5 BC'",
            "'infinity'",
            "'-infinity'",
            "'20000-01-01 00:00:00'",
            "'1600-02-29 23:59:59.999999'",
            "'1969-12-31 23:59:59.999999'",
            "'1970-01-01 00:00:00'",
        ),
    ),
    "c_timestamp_3": (
        "timestamp(3)",
        ("'2024-02-29 12:34:56.789'", "'0044-03-15 10:00:00.5 BC'", "'infinity'", "'1969-12-31 23:59:59.999'"),
    ),
    "c_timestamp_0": ("timestamp(0)", ("'2024-02-29 12:34:56'",)),
    "c_timestamptz": (
        "timestamptz",
        (
            "'2024-02-29 12:34:56.789123+07'",
            "'0044-03-15 10:00:00.5+00 BC'",
            "'infinity'",
            "'-infinity'",
            "'20000-01-01 00:00:00+00'",
            "'0001-01-01 00:00:00.1+00'",
            "'1999-12-31 23:59:59+00'",
            "'0001-01-01 00:00:00+00 BC'",
        ),
    ),
    "c_timestamptz_3": ("timestamptz(3)", ("'2024-02-29 12:34:56.78+07'", "'2024-02-29 12:34:56+07'")),
    "c_timestamptz_0": ("timestamptz(0)", ("'2024-02-29 12:34:56+07'",)),
    "c_interval": (
        "interval",
        (
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 year -2 mons +3 days -04:05:06.789'",
            "'178000000 years'",
            "'0'",
            "'1 mon'",
            "'-00:00:00.000001'",
            "'100:00:00'",
            "'1 mon -1 day'",
        ),
    ),
    "c_interval_ds": ("interval day to second(3)", ("'1 day 02:03:04.567'",)),
    "c_uuid": ("uuid", ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",)),
    "c_json": ("json", ("'{\"a\" : 1}'", "'null'")),
    "c_jsonb": ("jsonb", ('\'{"a": [1, "đ"]}\'', "'\"x\"'")),
    "c_xml": ("xml", ("convert_to('<a>đ</a>', 'UTF8')::xml",)),
    "c_bytea": ("bytea", ("'\\x00ff10'", "''")),
    "c_bit_1": ("bit(1)", ("B'1'", "B'0'")),
    "c_bit_12": ("bit(12)", ("B'101000000001'", "B'000000000000'", "B'000000000101'")),
    "c_bit_70": ("bit(70)", (f"B'1{'0' * 68}1'",)),
    "c_varbit": ("varbit", ("B'10101'", "B'00101'", "B''")),
    "c_varbit_5": ("varbit(5)", ("B'101'", "B'00101'")),
    "c_varbit_1": ("varbit(1)", ("B'1'", "B'0'", "B''")),
    "c_char": ("char(5)", ("'ab'", "''")),
    "c_varchar": ("varchar(10)", ("'văn bản'", "''")),
    "c_text": ("text", ("'văn bản'", "''", "'__debezium_unavailable_value'")),
    "c_name": ("name", ("'ten'",)),
    "c_letter": ('"char"', ("'c'",)),
    "c_enum": ("kieu.tam_trang", ("'vui'", "'a,b'", "'có \"nháy\"'")),
    "c_domain_numeric": ("kieu.so_tien", ("1.50", "-0.10")),
    "c_domain_domain": ("kieu.so_tien_duong", ("2.5",)),
    "c_domain_text": ("kieu.ma", ("'mã'",)),
    "c_domain_date": ("kieu.ngay", ("'2024-02-29'",)),
    "c_domain_timestamp": ("kieu.luc", ("'2024-02-29 12:34:56.789'",)),
    "c_domain_hstore": ("kieu.kho", ('\'"a"=>"1"\'',)),
    "c_domain_array": ("kieu.cac_so", ("'{1,2}'",)),
    "c_hstore": ("hstore", (r"""'"a"=>"1", "b"=>NULL, "c d"=>"x\"y"'""", "''", r"""'"đ"=>"\\ /"'""")),
    "c_citext": ("citext", ("'Citext'",)),
    "c_inet": ("inet", ("'192.168.0.1/24'", "'::1/128'", "'10.0.0.1'")),
    "c_cidr": ("cidr", ("'10.0.0.0/8'",)),
    "c_macaddr": ("macaddr", ("'08:00:2b:01:02:03'",)),
    "c_macaddr8": ("macaddr8", ("'08:00:2b:01:02:03:04:05'",)),
    "c_int4range": ("int4range", ("'[1,5)'", "'empty'")),
    "c_int8range": ("int8range", ("'[1,5]'",)),
    "c_numrange": ("numrange", ("'(1.5,2.5]'",)),
    "c_tsrange": ("tsrange", ("'[2024-01-01,2024-02-01)'",)),
    "c_tstzrange": ("tstzrange", ("'[2024-01-01 00:00+07,)'",)),
    "c_daterange": ("daterange", ("'[2024-01-01,2024-01-05]'",)),
    "c_own_range": ("kieu.khoang", ("'[1.5,2.5)'",)),
    "c_int4multirange": ("int4multirange", ("'{[1,3),[5,9)}'",)),
    "c_point": ("point", ("'(1.5,-2.25)'", "'(1e300,-0)'", "'(NaN,Infinity)'")),
    "c_line": ("line", ("'{1,2,3}'",)),
    "c_polygon": ("polygon", ("'((0,0),(1,1),(1,0))'",)),
    "c_tsvector": ("tsvector", ("'a:1 fat:2'",)),
    "c_tsquery": ("tsquery", ("'fat & rat'",)),
    "c_composite": ("kieu.dia_chi", ("ROW('Phố Huế, 1', 5)",)),
    "c_pg_lsn": ("pg_lsn", ("'0/16B374D8'",)),
    "a_int2": ("smallint[]", ("'{1,NULL,-3}'",)),
    "a_int4": ("int[]", ("'{1,NULL,-3}'", "'[0:2]={1,2,3}'", "'{{1,2},{3,4}}'", "'{}'")),
    "a_int8": ("bigint[]", ("'{1,NULL}'",)),
    "a_bool": ("boolean[]", ("'{t,f,NULL}'",)),
    "a_real": ("real[]", ("'{1.5,NULL}'",)),
    "a_double": ("double precision[]", ("'{2.5,NULL,NaN}'",)),
    "a_numeric": ("numeric[]", ("'{1.50,NULL,2}'", "'{NaN,1}'")),
    "a_numeric_10_2": ("numeric(10,2)[]", ("'{1.50,NULL}'",)),
    "a_money": ("money[]", ("'{1.50,NULL}'",)),
    "a_date": ("date[]", ("'{2024-02-29,NULL}'",)),
    "a_time": ("time[]", ("'{12:34:56,NULL}'", "'{12:34:56.789123}'")),
    "a_time_3": ("time(3)[]", ("'{12:34:56.789}'",)),
    "a_timetz": ("timetz[]", ("'{12:34:56+07}'", "'{12:34:56.5+07}'")),
    "a_timestamp": ("timestamp[]", ("'{2024-02-29 12:34:56.789123,NULL}'",)),
    "a_timestamp_3": ("timestamp(3)[]", ("'{2024-02-29 12:34:56.789}'",)),
    "a_timestamptz": ("timestamptz[]", ("'{2024-02-29 12:34:56.789123+07}'", "'{2024-02-29 12:34:56+07}'")),
    "a_interval": ("interval[]", ("'{1 day,NULL}'",)),
    "a_uuid": ("uuid[]", ("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'",)),
    "a_jsonb": ("jsonb[]", ("ARRAY['{\"a\":1}'::jsonb]",)),
    "a_xml": ("xml[]", ("ARRAY[convert_to('<a/>', 'UTF8')::xml]",)),
    "a_bytea": ("bytea[]", ("ARRAY['\\x00ff'::bytea, NULL]",)),
    "a_bit": ("bit(3)[]", ("'{101,NULL}'",)),
    "a_char": ("char(3)[]", ("'{ab}'",)),
    "a_varchar": ("varchar(5)[]", ("'{vc,NULL}'",)),
    "a_text": (
        "text[]",
        (
            r"""'{a,NULL,"NULL","q\"uo","b\\s","c,d",""," "}'""",
            "'{{a,b},{c,NULL}}'",
            "'{}'",
            "'[-1:0]={x,y}'",
        ),
    ),
    "a_name": ("name[]", ("'{x}'",)),
    "a_oid": ("oid[]", ("'{1,4000000000}'",)),
    "a_inet": ("inet[]", ("'{1.2.3.4}'",)),
    "a_int4range": ("int4range[]", ("'{\"[1,2)\"}'",)),
    "a_point": ("point[]", ("ARRAY[point(1,2)]",)),
    "a_box": ("box[]", ("ARRAY[box(point(1,1),point(0,0)), box(point(3,3),point(2,2))]",)),
    "a_enum": ("kieu.tam_trang[]", ("'{vui,NULL,\"a,b\"}'",)),
    "a_domain": ("kieu.so_tien[]", ("'{1.50,2.5}'",)),
    "a_hstore": ("hstore[]", ('ARRAY[\'"a"=>"1"\'::hstore, NULL]',)),
    "a_citext": ("citext[]", ("'{Ab,NULL}'",)),
    "a_composite": ("kieu.dia_chi[]", ("ARRAY[ROW('x', 1)::kieu.dia_chi]",)),
    "c_big": ("text", (f"'{_BIG}'",)),
}
CASES = max(len(literals) for _, literals in COLUMNS.values()) + 1
"""Case numbers; the last has only NULLs."""


def literal(column: str, case: int) -> str:
    """The SQL literal of a column in a case."""
    literals = COLUMNS[column][1]
    return literals[case] if case < len(literals) else "NULL"


def table_sql(table: str) -> str:
    """CREATE TABLE with every column."""
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    return f"CREATE TABLE kieu.{table} (id bigint PRIMARY KEY, hang int, {columns});"


def insert_sql(table: str, key: int, case: int) -> str:
    """INSERT of a case."""
    values = ", ".join(literal(name, case) for name in COLUMNS)
    return f"INSERT INTO kieu.{table} VALUES ({key}, {case}, {values});"


def update_sql(table: str, key: int, case: int) -> str:
    """UPDATE of every column to another case."""
    values = ", ".join(f"{name} = {literal(name, case)}" for name in COLUMNS)
    return f"UPDATE kieu.{table} SET hang = {case}, {values} WHERE id = {key};"


# What the servers without contrib have in the place of an extension's type: the same name, and text as its form.
_STAND_IN = """
CREATE TYPE {name};
CREATE FUNCTION {name}in(cstring) RETURNS {name} LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION {name}out({name}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE {name} (INPUT = {name}in, OUTPUT = {name}out, LIKE = text);
"""


def make_types(database: Database) -> None:
    """The extensions, or stand-ins for them, and the types of the application."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as admin:
        # A server without libxml has the type, but takes no text for it.
        admin.execute(b"CREATE CAST (bytea AS xml) WITHOUT FUNCTION")
        for name in ("hstore", "citext"):
            there = admin.execute("SELECT FROM pg_available_extensions WHERE name = %s", [name]).fetchone()
            admin.execute((_STAND_IN if there is None else "CREATE EXTENSION {name}").format(name=name).encode())
    with psycopg.connect(database.dsn("owner"), autocommit=True, client_encoding="utf8") as owner:
        owner.execute(TYPES.encode())

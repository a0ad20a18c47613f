"""Change events as the documentation of each of Debezium's connectors describes them, made for our own small table."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from connector.change.selection import Role, TableSelection

COLUMNS = ("id", "ma", "le_phi", "ngay", "xong")


def table(schema: str = "motcua", name: str = "ho_so") -> TableSelection:
    return TableSelection(schema, name, Role.DOSSIER, COLUMNS)


def amount(unscaled: int) -> str:
    """A precise decimal as JsonConverter writes it."""
    return b64encode(unscaled.to_bytes(4, "big", signed=True)).decode()


ROW = {"id": 7, "ma": "000.00.11.H56-261127-0007", "le_phi": amount(1234550), "ngay": 1764201600000000, "xong": True}
FIELDS: list[dict[str, Any]] = [
    {"type": "int64", "optional": False, "field": "id"},
    {"type": "string", "optional": True, "field": "ma"},
    {
        "type": "bytes",
        "optional": True,
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2", "connect.decimal.precision": "12"},
        "field": "le_phi",
    },
    {"type": "int64", "optional": True, "name": "io.debezium.time.MicroTimestamp", "version": 1, "field": "ngay"},
    {"type": "boolean", "optional": True, "field": "xong"},
]
KEY = {"id": 7}

POSTGRESQL = {
    "version": "3.0.8.Final", "connector": "postgresql", "name": "p", "ts_ms": 1764201600123, "snapshot": "false",
    "db": "motcua", "sequence": '["25694240","25694304"]', "ts_us": 1764201600123456, "ts_ns": 1764201600123456000,
    "schema": "motcua", "table": "ho_so", "txId": 742, "lsn": 25694304, "xmin": None,
}  # fmt: skip
MYSQL = {
    "version": "3.0.8.Final", "connector": "mysql", "name": "p", "ts_ms": 1764201600000, "snapshot": "false",
    "db": "motcua", "sequence": None, "table": "ho_so", "server_id": 223344, "gtid": None, "file": "mysql-bin.000003",
    "pos": 484, "row": 0, "thread": 7, "query": None,
}  # fmt: skip
SQLSERVER = {
    "version": "3.0.8.Final", "connector": "sqlserver", "name": "p", "ts_ms": 1764201600123, "snapshot": "false",
    "db": "MotCua", "sequence": None, "schema": "motcua", "table": "ho_so", "change_lsn": "00000027:00000758:0003",
    "commit_lsn": "00000027:00000758:0005", "event_serial_no": 2,
}  # fmt: skip
ORACLE = {
    "version": "3.0.8.Final", "connector": "oracle", "name": "p", "ts_ms": 1764201600000, "snapshot": "false",
    "db": "ORCLPDB1", "sequence": None, "schema": "motcua", "table": "ho_so", "txId": "06000a00f1020000",
    "scn": "2122185", "commit_scn": "2122190", "lcr_position": None, "rs_id": "001234.00000a12.0010", "ssn": 0,
    "redo_thread": 1, "user_name": None,
}  # fmt: skip
SOURCES = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlserver": SQLSERVER, "oracle": ORACLE}
TRANSACTIONS = {
    "postgresql": ("742:25694304", "742"),
    "mysql": ("file=mysql-bin.000003,pos=397", "file=mysql-bin.000003,pos=397"),
    "sqlserver": ("00000027:00000758:0005", "00000027:00000758:0005"),
    "oracle": ("06000a00f1020000", "06000a00f1020000"),
}
"""Connector → an id as it stands in an event, and what it is known again by."""


def envelope(source: dict[str, Any], op: str = "u", **parts: Any) -> dict[str, Any]:
    return {
        "before": None,
        "after": None if op in "dt" else ROW,
        "source": source,
        "op": op,
        "ts_ms": 1764201600500,
        "transaction": None,
        **parts,
    }


def schema() -> dict[str, Any]:
    """The part of an envelope's Connect schema that tells the row's types."""
    row = {"type": "struct", "fields": FIELDS, "optional": True, "name": "p.motcua.ho_so.Value"}
    fields = [{**row, "field": "before"}, {**row, "field": "after"}]
    return {"type": "struct", "fields": fields, "optional": False, "name": "p.motcua.ho_so.Envelope"}


def with_schema(payload: dict[str, Any]) -> bytes:
    return json.dumps({"schema": schema(), "payload": payload}).encode()


def key_with_schema() -> bytes:
    return json.dumps({"schema": {"type": "struct", "fields": FIELDS[:1]}, "payload": KEY}).encode()


def bare(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload).encode()

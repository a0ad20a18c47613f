"""schemas/*.avsc are what the code makes, and Avro takes them."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro

from connector.change.avsc import files
from connector.emc import avsc as emc

SCHEMAS = Path(__file__).parents[1] / "schemas"


def test_the_files_are_what_the_code_makes() -> None:
    """Both commands have been run since the envelope or the event changed; no other .avsc is there."""
    assert {path.name: path.read_text("utf-8") for path in SCHEMAS.glob("*.avsc")} == files() | {emc.FILE: emc.text()}


def test_avro_takes_the_files() -> None:
    """Another Avro implementation parses each as it lies there."""
    for path in SCHEMAS.glob("*.avsc"):
        fastavro.parse_schema(json.loads(path.read_text("utf-8")))

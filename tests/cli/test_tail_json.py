"""What the commands show of a log whose records are JSON."""

from __future__ import annotations

import json
from pathlib import Path

from delivery.delivery_story import DOSSIER, PAYMENT, SERVICE, create, dossier, payment, service, truncate
from logged import PARTITIONS, Logged

from connector.delivery.lag import lags
from connector.log.opening import open_reader


def test_records_in_json_are_shown_as_those_in_avro(tmp_path: Path) -> None:
    """The same short lines and lags; with --json the record as it stands in the log, its key Debezium's."""
    shown: dict[str, list[str]] = {}
    for form in ("avro", "json"):
        (tmp_path / form).mkdir()
        logged = Logged(tmp_path / form, None, form)
        try:
            logged.story.snapshot((SERVICE, service(1)))
            logged.story.transaction(create(DOSSIER, dossier(7, "mới\x1b[2J")), create(PAYMENT, payment(1, 7)))
            logged.story.transaction(truncate(PAYMENT))
            shown[form] = [*logged.lines("--from-beginning", "--values")]
            reader = open_reader(logged.settings)
            one = lags(reader, dict.fromkeys(range(PARTITIONS), 0))
            reader.close()
            assert [lag.records for lag in one.values()] == [reader_end(logged, number) for number in one]
        finally:
            logged.story.close()
    assert shown["avro"] == shown["json"]
    documents = [json.loads(line) for line in logged.lines("--json", "-n", "500")]
    [one_document] = [each for each in documents if each["key"].get("id") == 7]
    assert one_document["key"] == {
        "id": 7,
        "__dbz__physicalTableIdentifier": f"{logged.settings.name}.{DOSSIER}",
    }
    assert one_document["value"]["after"] == dossier(7, "mới\x1b[2J")
    assert one_document["value"]["source"]["key"] == [DOSSIER, "7"]


def reader_end(logged: Logged, partition: int) -> int:
    """How many records a partition of an embedded log holds."""
    reader = open_reader(logged.settings)
    try:
        return reader.ends()[partition]
    finally:
        reader.close()

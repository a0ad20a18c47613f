"""One database, four connectors: EMC hears the same, whichever log is between and however its records are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from deliver_process import delivering, eventually
from delivery_story import code, plan, settings_in
from emc.simulator_process import RunningSimulator
from plugins.kafka import KafkaBroker
from plugins.postgres import Database
from test_after_wal_budget import CREATE, MOVE, TABLES, Away, admin, capturing

from connector.change.decoding import ChangeDecoder
from connector.delivery.status import status
from connector.log.opening import open_reader
from connector.observe import SourceConnected
from connector.preflight.postgres import survey_over
from connector.preflight.setup import setup_statements
from connector.settings import Settings

WORK = (
    (CREATE, (2, code(2), "moi")),
    ("INSERT INTO m.thanh_toan VALUES (20, 2, 'xong', 'mang'), (21, 2, 'cho', 'quay')", ()),
    (MOVE, ("dang_xu_ly", 2)),
    (CREATE, (3, code(3), "moi")),
    ("UPDATE m.thu_tuc SET ten = E'Cấp \"mới\"\\\\' WHERE id = 1", ()),
    ("UPDATE m.thanh_toan SET trang_thai = 'xong' WHERE id = 21", ()),
    (MOVE, ("da_tra", 2)),
    ("UPDATE m.thanh_toan SET ho_so_id = 3 WHERE id = 20", ()),
    (MOVE, ("da_tra", 3)),
    ("TRUNCATE m.thanh_toan", ()),
    (CREATE, (4, code(4), "da_tra")),
    ("DELETE FROM m.ho_so WHERE id = 4", ()),
)


@contextmanager
def connectors(database: Database, kafka: KafkaBroker, directory: Path, url: str) -> Iterator[list[Settings]]:
    """Their settings; the tables are there, and each captures while the block runs."""
    found: list[Settings] = []
    with psycopg.connect(database.dsn("owner"), autocommit=True) as owner, ExitStack() as stack:
        owner.execute(TABLES.encode())
        owner.execute(CREATE, (1, code(1), "dang_xu_ly"))
        for log in ("embedded", "kafka"):
            for form in ("avro", "json"):
                name = f"{database.name}-{log}-{form}".replace("_", "-")
                place = directory / name
                place.mkdir()
                written = settings_in(place, url, form=form).model_dump(exclude={"source"})
                if log == "kafka":
                    written["log"] |= {
                        "embedded": None,
                        "kafka": {"brokers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1},
                    }
                source = {"dsn": database.dsn("emc_cdc"), "data": place / "capture", "feedback_interval": 0.2}
                settings = Settings.model_validate(written | {"name": name, "source": source})
                for statement in setup_statements(survey_over(owner, "emc_cdc", settings, plan().selection)):
                    owner.execute(statement.sql.encode())
                found.append(settings)
        for settings in found:
            seen = stack.enter_context(capturing(settings, Away(settings)))
            eventually(lambda seen=seen: any(isinstance(one, SourceConnected) for one in seen))  # type: ignore[misc]
        yield found


def events(simulator: RunningSimulator, client: httpx.Client, before: int) -> dict[str, list[dict[str, Any]]]:
    """What EMC took: dossier → its events' parameters, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in simulator.received(client, before):
        assert record["verdict"] == "accepted"
        found.setdefault(record["parameters"]["CodeProfile"], []).append(record["parameters"])
    return found


def everything(settings: Settings) -> bool:
    """Whether all of the log is folded, and all that was due is pushed."""
    reader = open_reader(settings)
    try:
        decoder = ChangeDecoder(reader.schema)
        tails = {number: str(decoder.decode(b'["tail"]', value).position) for number, value in reader.tails().items()}
    finally:
        reader.close()
    state = {one.partition: one for one in status(settings)}
    return tails.keys() <= state.keys() and all(
        state[number].position == position and state[number].waiting == 0 for number, position in tails.items()
    )


def test_emc_hears_the_same_over_either_log_in_either_format(
    database: Database, kafka: KafkaBroker, tmp_path: Path, simulator: RunningSimulator, client: httpx.Client
) -> None:
    """Dossiers with payments, a reference that changes, a TRUNCATE, a dossier that goes: equal events, in order."""
    with connectors(database, kafka, tmp_path, simulator.api) as every:
        with psycopg.connect(database.dsn("owner"), autocommit=True) as owner:
            for statement, values in WORK:
                owner.execute(statement.encode(), values)
        [(end,)] = admin(database, "SELECT pg_current_wal_lsn()::text")
        behind = f"SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn < '{end}'"
        eventually(lambda: admin(database, f"{behind} AND database = current_database()") == [])
    told = []
    for settings in every:
        before: int = client.get(f"{simulator.url}/healthz").json()["received"]
        with delivering(settings):
            eventually(lambda settings=settings: everything(settings))  # type: ignore[misc]
        told.append(events(simulator, client, before))
    statuses = {dossier: [event["Status"] for event in found] for dossier, found in told[0].items()}
    # The catalogue's new name and a payment that comes or goes correct what was told.
    assert statuses == {code(2): [1, 2, 2, 3, 3], code(3): [1, 1, 3, 3], code(4): [1, 3]}
    assert told[1:] == told[:1] * 3

"""docker-compose.yml: Compose takes it, its schema does, and its configuration and SQL are what the connector needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from plugins.postgres import Database

from connector import configuration
from connector.demo.legacy.installation import prepare
from connector.source.catalog import attach_refusal, captured_tables, survey_source

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
ONE_SHOT = {"legacy-install", "owner-setup"}
UNSEEN = {"legacy"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its anchors resolved."""
    loaded = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def configured(tmp_path: Path) -> configuration.Configuration:
    """config/compose.yml, with the secret in another place than a container has it."""
    (tmp_path / "secret").write_text("pass word\n", encoding="utf-8")
    text = (ROOT / "config/compose.yml").read_text(encoding="utf-8")
    assert "/run/secrets/emc_cdc_password" in text
    path = tmp_path / "compose.yml"
    path.write_text(text.replace("/run/secrets/emc_cdc_password", str(tmp_path / "secret")), encoding="utf-8")
    return configuration.load(path)


def command() -> list[str]:
    """The Compose of this machine."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True).returncode == 0:
            return words
    pytest.fail("there is no Docker Compose; install it: apt-get install docker-compose", pytrace=False)


def test_compose_takes_the_file() -> None:
    """`config` of this machine's Compose accepts it and finds every service."""
    words = [*command(), "--file", str(FILE), "config"]
    done = subprocess.run([*words, "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([*words, "--services"], capture_output=True, text=True, check=True).stdout.split()
    assert {"postgres", "kafka", "simulator", "capture", "deliver"} <= set(listed)


def test_the_file_follows_the_schema(compose: dict[str, Any]) -> None:
    """The Compose specification's JSON schema accepts it, and refuses a misspelt key."""
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8")
    validator = jsonschema.validators.validator_for(json.loads(text))(json.loads(text))
    assert [error.message for error in validator.iter_errors(compose)] == []
    misspelt = {**compose, "services": {"capture": {"image": "emc-cdc", "port": ["8088:8088"]}}}
    assert not validator.is_valid(misspelt)


def test_what_runs_on_is_watched_and_waited_for(compose: dict[str, Any]) -> None:
    """Every lasting service has a health check, and nobody starts before what it needs is ready."""
    for name, service in compose["services"].items():
        if name not in ONE_SHOT:
            assert service["restart"] == "unless-stopped", name
        assert ("healthcheck" in service) == (name not in ONE_SHOT | UNSEEN), name
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, (name, other)


def test_consoles_are_on_different_ports_of_this_machine_only(compose: dict[str, Any]) -> None:
    """Capture, delivery and simulator can be looked at side by side, and from nowhere else."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert len({port.split(":")[1] for port in ports}) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_kept_is_in_volumes(compose: dict[str, Any]) -> None:
    """Every named volume is declared and used, and every file that is mounted is there, read-only."""
    named = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
                assert rest.endswith(":ro"), volume
            else:
                named.add(source)
    assert named == set(compose["volumes"])


def test_secrets_are_files_only(compose: dict[str, Any]) -> None:
    """Every secret that a service asks for is a file, and no service has a password in its environment."""
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for name in service.get("environment", {}):
            assert "PASSWORD" not in name or name.endswith("_FILE")


def test_the_configuration_names_the_services(compose: dict[str, Any], configured: configuration.Configuration) -> None:
    """config/compose.yml loads, and reaches Kafka, the simulator and the volumes by the names Compose gives them."""
    settings = configured.settings
    parameters = psycopg.conninfo.conninfo_to_dict(settings.source.dsn.get_secret_value())
    assert parameters == {"host": "postgres", "dbname": "motcua", "user": "emc_cdc", "password": "pass word"}
    assert settings.log.kafka is not None
    assert settings.log.kafka.brokers.split(":")[0] in compose["services"]
    assert settings.emc.url == "http://simulator:8043/TrackingMCDT"
    assert f"capture:{settings.source.data}" in compose["services"]["capture"]["volumes"]
    assert f"delivery:{settings.delivery.state}" in compose["services"]["deliver"]["volumes"]


def test_the_owners_sql_is_enough(database: Database, configured: configuration.Configuration) -> None:
    """After the application's installation and owner.sql, run twice, `emc_cdc` may do what capture needs."""
    prepare(database.dsn("owner"), 0, 1)
    text = (ROOT / "config/compose/owner.sql").read_text(encoding="utf-8")
    text = text.replace("DATABASE motcua", f"DATABASE {database.name}")
    with psycopg.connect(database.dsn("owner"), autocommit=True) as owner:
        owner.execute(text.encode())
        owner.execute(text.encode())
    selection = configured.plan.selection
    with psycopg.connect(database.dsn("emc_cdc")) as connection:
        found = survey_source(
            connection, "emc_cdc", selection, configured.settings.publication, configured.settings.slot
        )
        assert attach_refusal(found) is None
        assert captured_tables(connection, found, {}).keys() == {table.full_name for table in selection.tables}

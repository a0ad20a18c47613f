"""Kafka that asks who one is and what one may: TLS, SASL, client certificates and ACLs, on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import yaml
from plugins.kafka_secure import PASSWORD, SecureKafka
from plugins.kafka_tools import KafkaTools

from connector.errors import LogError, LogUnavailable, retryable
from connector.log.contract import Entry
from connector.log.kafka import KafkaReader, KafkaWriter
from connector.log.kafka_cluster import Patience
from connector.settings import KafkaSettings

HASTY = Patience(connect=3, append=3)
WRONG = "sai-mật-khẩu"
_numbers = count(1)

# As docs/log.md has them.
CAPTURE = {
    "topic {0}.changes": ("create", "describe", "describe_configs", "read", "write"),
    "topic {0}.schemas": ("create", "describe", "describe_configs", "read", "write"),
    "transactional_id {0}.capture": ("describe", "write"),
    "group {0}.capture": ("describe", "read"),
}
DELIVER = {
    "topic {0}.changes": ("describe", "describe_configs", "read"),
    "topic {0}.schemas": ("describe", "describe_configs", "read"),
    "group {0}.reader": ("describe", "read"),
}


@pytest.fixture
def name() -> str:
    """A log that is not there yet."""
    return f"secure-{next(_numbers)}"


@pytest.fixture
def opened() -> Iterator[list[KafkaWriter | KafkaReader]]:
    """Everything in it is closed after the test."""
    opened: list[KafkaWriter | KafkaReader] = []
    yield opened
    for one in reversed(opened):
        one.close()


def by_password(
    kafka: SecureKafka, user: str = "capture", mechanism: str = "PLAIN", password: str = PASSWORD, **more: str
) -> KafkaSettings:
    return settings(kafka, kafka.login, {
        "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism,
        "sasl.username": user, "sasl.password": password, **more,
    })  # fmt: skip


def settings(kafka: SecureKafka, brokers: str, given: dict[str, str]) -> KafkaSettings:
    return KafkaSettings.model_validate({
        "brokers": brokers, "replication_factor": 1, "min_insync_replicas": 1,
        "settings": {"ssl.ca.location": str(kafka.authority), **given},
    })  # fmt: skip


def grant(kafka: SecureKafka, principal: str, name: str, rights: dict[str, tuple[str, ...]]) -> None:
    for resource, operations in rights.items():
        kind, named = resource.format(name).split(" ")
        kafka.grant(principal, kind, named, *operations)


def write_and_read(
    opened: list[KafkaWriter | KafkaReader], name: str, capture: KafkaSettings, deliver: KafkaSettings
) -> None:
    """One record through the log, from capture's user to deliver's, and on with the log that is there."""
    writer = KafkaWriter(name, 2, capture)
    opened.append(writer)
    writer.open()
    number = writer.register('"string"')
    writer.append([Entry(1, b"key", b"value")])
    reader = KafkaReader(name, deliver)
    opened.append(reader)
    reader.assign({0: 0, 1: 0})
    while not (records := reader.poll(20, 10)):
        pass
    assert [(record.key, record.value) for record in records] == [(b"key", b"value")]
    assert reader.schema(number) == '"string"'
    again = KafkaWriter(name, 2, capture)
    opened.append(again)
    assert again.open() == {1: b"value"}
    assert again.concerns == reader.concerns == ()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_documented_rights_are_enough(
    secure_kafka: SecureKafka, name: str, opened: list[KafkaWriter | KafkaReader], mechanism: str
) -> None:
    """Two users log in over TLS; with the ACLs of docs/log.md one makes and fills the log, the other reads it."""
    grant(secure_kafka, "User:capture", name, CAPTURE)
    grant(secure_kafka, "User:deliver", name, DELIVER)
    write_and_read(
        opened, name, by_password(secure_kafka, "capture", mechanism), by_password(secure_kafka, "deliver", mechanism)
    )


def test_a_client_certificate_is_enough(
    secure_kafka: SecureKafka, name: str, kafka_tools: KafkaTools, opened: list[KafkaWriter | KafkaReader]
) -> None:
    """Without a password, by certificate; the lines that grant the rights find the user's name in the certificate."""
    mine = secure_kafka.issue("một cửa, Sở", "emc-cdc.test")
    given = {
        "security.protocol": "SSL",
        "ssl.certificate.location": str(mine.certificate),
        "ssl.key.location": str(mine.key),
    }
    asked = settings(secure_kafka, secure_kafka.certificate, given)
    with pytest.raises(LogError, match="authorization failed") as caught:
        KafkaWriter(name, 2, asked).open()
    # The administrator comes in at the broker's other door.
    lines = caught.value.mend.replace(secure_kafka.certificate, secure_kafka.login).splitlines()
    secure_kafka.admin_file(kafka_tools.directory)
    reading = [line.replace(f"{name}.capture", f"{name}.reader") for line in lines if "--group" in line]
    kafka_tools.run([*lines, *reading])
    write_and_read(opened, name, asked, asked)


@pytest.mark.parametrize("without", [*CAPTURE, "Write on {0}.schemas"])
def test_a_right_that_is_missing_is_named_with_the_line_that_grants_it(
    secure_kafka: SecureKafka, name: str, opened: list[KafkaWriter | KafkaReader], without: str
) -> None:
    """Capture without one of its rights ends, and says which kafka-acls.sh line gives it; given, capture goes on."""
    rights = {resource: operations for resource, operations in CAPTURE.items() if resource != without}
    resource = without
    if without.startswith("Write"):
        resource = "topic {0}.schemas"
        # The topic has to be there: who may make it may write to it as soon as it is.
        grant(secure_kafka, "User:capture", name, CAPTURE)
        maker = KafkaWriter(name, 2, by_password(secure_kafka))
        opened.append(maker)
        maker.open()
        secure_kafka.revoke_all()
        rights[resource] = ("describe", "describe_configs", "read")
    grant(secure_kafka, "User:capture", name, rights)
    with pytest.raises(LogError) as caught:
        KafkaWriter(name, 2, by_password(secure_kafka)).open()
    assert not retryable(caught.value)
    kind, named = resource.format(name).split(" ")
    line = next(line for line in caught.value.mend.splitlines() if f"--{kind.replace('_', '-')} {named}" in line)
    assert line.startswith(
        f"kafka-acls.sh --bootstrap-server {secure_kafka.login} --command-config admin.properties --add"
        " --allow-principal User:capture --operation "
    )
    assert "--operation Write" in line or kind == "group"
    grant(secure_kafka, "User:capture", name, CAPTURE)
    writer = KafkaWriter(name, 2, by_password(secure_kafka))
    opened.append(writer)
    writer.open()
    writer.register('"string"')


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_without_it(secure_kafka: SecureKafka, name: str, mechanism: str) -> None:
    """The broker's refusal is told with the settings to mend, and the password is in no text."""
    asked = by_password(secure_kafka, mechanism=mechanism, password=WRONG)
    with pytest.raises(LogUnavailable, match=r"[Aa]uthentication failed") as caught:
        KafkaWriter(name, 2, asked, HASTY).open()
    assert "sasl.*" in caught.value.mend
    assert WRONG not in f"{caught.value!r}{caught.value}{caught.value.mend}"


def test_a_broker_that_cannot_prove_who_it_is_is_told_nothing(secure_kafka: SecureKafka, name: str) -> None:
    """A certificate for another host, and one of an unknown authority: no password is sent to it."""
    grant(secure_kafka, "User:capture", name, CAPTURE)
    elsewhere = by_password(secure_kafka).model_copy(
        update={"brokers": secure_kafka.login.replace("127.0.0.1", "localhost")}
    )
    other_authority = secure_kafka.issue("nobody").certificate
    unknown = by_password(secure_kafka, **{"ssl.ca.location": str(other_authority)})
    for asked in (elsewhere, unknown):
        with pytest.raises(LogUnavailable, match="certificate verify failed") as caught:
            KafkaWriter(name, 2, asked, HASTY).open()
        assert "ssl.ca.location" in caught.value.mend


def test_no_command_shows_the_password(secure_kafka: SecureKafka, name: str, tmp_path: Path) -> None:
    """`check` and `status`, in words and as JSON, with a password that fits and one that does not."""
    grant(secure_kafka, "User:capture", name, CAPTURE)
    (tmp_path / "password").write_text(WRONG, encoding="utf-8")
    kafka = by_password(secure_kafka, password="${file:password}").model_dump()
    written = {
        "name": name,
        "source": {"dsn": "host=127.0.0.1 port=9 dbname=x user=y"},
        "log": {"kafka": kafka, "partitions": 2},
        "mapping": {"extends": "preset:one-stop-generic", "SiteId": 327},
        "emc": {"url": "https://127.0.0.1:9/TrackingMCDT"},
    }
    (tmp_path / "emc-cdc.yml").write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
    for command in (["check"], ["status", "--json"]):
        ran = subprocess.run(
            [sys.executable, "-m", "connector.cli", *command, "--config", "emc-cdc.yml"],
            cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "uthentication" in ran.stdout, ran.stderr
        assert WRONG not in ran.stdout + ran.stderr
        with suppress(json.JSONDecodeError):
            assert "sasl.*" in json.loads(ran.stdout)["log"]["mend"]

"""librdkafka's settings from the configuration: what is refused, what is not understood, and that no value is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connector.configuration import load
from connector.errors import ConfigErrors, LogError
from connector.log.kafka import KafkaReader, KafkaWriter
from connector.log.kafka_cluster import faults_of
from connector.log.kafka_settings import Value
from connector.log.librdkafka_names import NAMES
from connector.settings import KafkaSettings

SECRET = "s3cret-giữ-kín"


def settings(**given: Value) -> KafkaSettings:
    """Settings whose names have dots for underscores."""
    return KafkaSettings(brokers="127.0.0.1:9", settings={name.replace("__", "."): v for name, v in given.items()})


@pytest.mark.parametrize(
    "key",
    [
        "bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence",
        "enable.gapless.guarantee", "transactional.id", "transaction.timeout.ms", "message.timeout.ms",
        "delivery.timeout.ms", "partitioner", "partitioner_cb", "queuing.strategy", "isolation.level",
        "auto.offset.reset", "enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store",
        "enable.partition.eof", "check.crcs", "allow.auto.create.topics", "topic.blacklist", "message.max.bytes",
        "error_cb", "log.queue", "opaque", "default.topic.config",
    ],
)  # fmt: skip
def test_what_a_promise_rests_on_cannot_be_set(key: str) -> None:
    """A setting that a promise rests on is refused by name, for reader and writer, before anybody is connected to."""
    refused = KafkaSettings(brokers="127.0.0.1:9", settings={key: "0"})
    for make in (lambda: KafkaWriter("log", 1, refused), lambda: KafkaReader("log", refused)):
        with pytest.raises(LogError, match=rf"log\.kafka\.settings\.{key}: ") as caught:
            make()
        assert caught.value.mend


@pytest.mark.parametrize(
    ("name", "value"),
    [("max.in.flight", 6), ("max.in.flight.requests.per.connection", 1000), ("message.send.max.retries", 0)],
)
def test_what_would_undo_the_order_is_refused(name: str, value: Value) -> None:
    """What librdkafka itself does not allow an idempotent producer is told at load, by its name."""
    (fault,) = faults_of(KafkaSettings(brokers="127.0.0.1:9", settings={name: value}))
    assert fault.name == name


@pytest.mark.parametrize("allowed", [{"max.in.flight": 5}, {"retries": 3}, {"linger.ms": 5}, {"client.id": "g"}])
def test_what_harms_nothing_is_taken(allowed: dict[str, Value]) -> None:
    """Whatever no promise rests on is the operator's."""
    assert faults_of(KafkaSettings(brokers="127.0.0.1:9", settings=allowed)) == []


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("enable.ssl.certificate.verification", False, True),
        ("enable.ssl.certificate.verification", "false", True),
        ("enable.ssl.certificate.verification", "0", True),
        ("enable.ssl.certificate.verification", True, False),
        ("enable.ssl.certificate.verification", "TRUE", False),
        ("ssl.endpoint.identification.algorithm", "none", True),
        ("ssl.endpoint.identification.algorithm", "", True),
        ("ssl.endpoint.identification.algorithm", "https", False),
    ],
)
def test_the_brokers_certificate_is_always_verified(name: str, value: Value, refused: bool) -> None:
    """TLS's proof of who is there cannot be turned off, in whatever way it is written; the error says what to do."""
    faults = faults_of(KafkaSettings(brokers="127.0.0.1:9", settings={name: value}))
    assert [fault.name for fault in faults] == ([name] if refused else [])
    assert all("ssl.ca.location" in fault.mend for fault in faults)


@pytest.mark.parametrize(
    ("given", "name", "mend"),
    [
        (settings(lingr__ms=5), "lingr.ms", "did you mean 'linger.ms'?"),
        (settings(sasl__user="x"), "sasl.user", "did you mean 'sasl.username'?"),
        (settings(SSL__CA__LOCATION="x"), "SSL.CA.LOCATION", "did you mean 'ssl.ca.location'?"),
        (settings(linger__ms="soon"), "linger.ms", "CONFIGURATION.md"),
        (settings(linger__ms=99_999_999), "linger.ms", "write a number in 0..900000"),
        (settings(compression__type="lz5"), "compression.type", "none, gzip, snappy, lz4, zstd"),
        (settings(compression__codec="lz5"), "compression.codec", "none, gzip, snappy, lz4, zstd"),
        (settings(security__protocol="TLS"), "security.protocol", "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        (settings(socket__keepalive__enable="maybe"), "socket.keepalive.enable", "write true or false"),
        (settings(security__protocol="SASL_SSL"), "sasl.mechanism", "PLAIN, SCRAM-SHA-256"),
        (
            settings(
                security__protocol="SASL_SSL", sasl__mechanism="SCRAM-512", sasl__username="u", sasl__password="p"
            ),
            "sasl.mechanism",
            "PLAIN, SCRAM-SHA-256",
        ),
        (settings(security__protocol="SSL", ssl__ca__location="/nowhere/ca.pem"), "ssl.ca.location", ""),
    ],
)
def test_what_librdkafka_does_not_take_is_named(given: KafkaSettings, name: str, mend: str) -> None:
    """A misspelt name, a value that is none, a file that is not there: named as written, with what is right."""
    (fault,) = faults_of(given)
    assert fault.name == name
    assert mend in fault.mend
    with pytest.raises(LogError, match=rf"log\.kafka\.settings\.{name}: "):
        KafkaReader("log", given)


def test_everything_wrong_is_told_at_once() -> None:
    """Refused, misspelt and out of range: three settings, three faults."""
    faults = faults_of(settings(acks="all", lingr__ms=5, batch__size=0))
    assert sorted(fault.name for fault in faults) == ["acks", "batch.size", "lingr.ms"]


@pytest.mark.parametrize(
    "bad",
    [
        {"sasl.mechanism": SECRET, "security.protocol": "SASL_PLAINTEXT"},
        {"security.protocol": SECRET},
        {"ssl.key.pem": SECRET, "security.protocol": "SSL"},
        {"plugin.library.paths": SECRET},
        {"linger.ms": SECRET},
        {"acks": SECRET},
        {SECRET.encode("ascii", "replace").decode(): SECRET},
    ],
)
def test_no_value_is_ever_shown(bad: dict[str, Value]) -> None:
    """Whatever is wrong with a setting, its value, which may be a secret, is in no text."""
    given = KafkaSettings(brokers="127.0.0.1:9", settings=bad)
    assert SECRET not in repr(given)
    faults = faults_of(given)
    assert faults
    assert SECRET not in repr(faults)
    with pytest.raises(LogError) as caught:
        KafkaReader("log", given)
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.mend}"


def test_the_names_are_librdkafkas() -> None:
    """Each name that may be proposed is one that librdkafka knows."""
    for name in NAMES - {"plugin.library.paths"}:
        told = ""
        try:
            AdminClient({name: "\x01", "log_level": 0})
        except KafkaException as error:
            told = error.args[0].str()
        assert "No such configuration property" not in told, name


CONFIGURATION = """\
name: mot-cua
source: {dsn: host=x}
log:
  kafka:
    brokers: k:9092
    settings:
      security.protocol: SASL_SSL
      sasl.mechanism: PLAIN
      sasl.username: ${env:KAFKA_USER}
      sasl.password: ${file:password}
%s
mapping: {extends: preset:one-stop-generic, SiteId: 327}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a configuration is written; its secrets are in a file and in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_USER", "emc-cdc")
    Path("password").write_text(f"{SECRET}\n", encoding="utf-8")
    return tmp_path / "emc-cdc.yml"


def test_faults_are_told_at_their_lines_when_the_file_is_read(written: Path) -> None:
    """Each setting's error has its line in the file and none of the secrets around it."""
    more = "      lingr.ms: 5\n      enable.ssl.certificate.verification: false\n      acks: 1"
    written.write_text(CONFIGURATION % more, encoding="utf-8")
    with pytest.raises(ConfigErrors) as caught:
        load(written)
    told = {error.subject.rsplit(":", 2)[1]: error for error in caught.value.problems}
    assert list(told) == ["11", "12", "13"]
    assert "'log.kafka.settings.lingr.ms': librdkafka has no such setting" in told["11"].cause
    assert told["11"].mend == "did you mean 'linger.ms'?"
    assert "can only be true" in told["12"].cause
    assert "promises rest on" in told["13"].cause
    assert SECRET not in f"{caught.value!r} {caught.value}"


def test_secrets_come_by_reference_and_stay_out_of_sight(written: Path) -> None:
    """The values behind ${env:} and ${file:} are librdkafka's, and in no text of the settings."""
    written.write_text(CONFIGURATION % "", encoding="utf-8")
    kafka = load(written).settings.log.kafka
    assert kafka is not None
    assert (kafka.settings["sasl.username"], kafka.settings["sasl.password"]) == ("emc-cdc", SECRET)
    assert SECRET not in f"{load(written)!r} {load(written)}"


def test_a_secret_that_is_not_there_is_the_only_fault(written: Path) -> None:
    """What a missing file would have held is not known, so nothing else is said of the settings."""
    Path("password").unlink()
    written.write_text(CONFIGURATION % "      lingr.ms: 5", encoding="utf-8")
    with pytest.raises(ConfigErrors) as caught:
        load(written)
    (error,) = caught.value.problems
    assert "the file password cannot be read" in error.cause

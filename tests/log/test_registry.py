"""The client of a schema registry, and the log in Kafka with one, against a real HTTP(S) server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest
import trustme
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from logs_under_test import Log, kafka_settings
from plugins.registry import RegistryServer, registry_server
from pydantic import ValidationError

from connector.change.decoding import ChangeDecoder
from connector.change.encoding import Context, Encoder
from connector.change.envelope import message_schema, row_key, table_schema
from connector.change.position import Position
from connector.change.record import Op, Row
from connector.change.shape import Column, Shape
from connector.errors import LogError, LogUnavailable, retryable
from connector.log.contract import Entry
from connector.log.registry import Registry
from connector.settings import RegistrySettings

TEXT, INTEGER, BIGINT = 25, 23, 20


def table(**columns: int) -> str:
    """The schema of public.ho_so with the key `id` and these columns."""
    rest = [Column(name, oid, -1, False) for name, oid in columns.items()]
    return table_schema("mot-cua", "motcua", Shape("public", "ho_so", (Column("id", BIGINT, -1, True), *rest)))


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """A registry without TLS."""
    with registry_server() as running:
        yield running


@pytest.fixture
def clients() -> Iterator[list[Registry]]:
    """Clients to be closed after the test."""
    made: list[Registry] = []
    yield made
    for each in made:
        each.close()


def client(clients: list[Registry], url: str, patience: float = 20, **more: object) -> Registry:
    """A client of the registry at `url`."""
    made = Registry(RegistrySettings.model_validate({"url": url} | more), "mot-cua.changes", patience)
    clients.append(made)
    return made


def test_ids_and_schemas_are_asked_for_once(server: RegistryServer, clients: list[Registry]) -> None:
    """Each schema is registered once and each id resolved once, however often they are wanted."""
    registry = client(clients, server.url)
    first, second = table(ten=TEXT), message_schema("mot-cua")
    assert [registry.register(text) for text in (first, second, first)] == [1, 2, 1]
    assert [registry.schema(number) for number in (1, 2, 1)] == [first, second, first]
    assert len(server.asked) == 4


@pytest.mark.parametrize(("subjects", "before"), [("RecordName", ""), ("TopicRecordName", "mot-cua.changes-")])
def test_subjects_are_named_as_asked(
    server: RegistryServer, clients: list[Registry], subjects: str, before: str
) -> None:
    """Both of Confluent's strategies for a topic with several kinds of records."""
    client(clients, server.url, subjects=subjects).register(table(ten=TEXT))
    assert list(server.subjects) == [f"{before}mot_u002d_cua.public.ho_so.Envelope"]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_may_pass_is_a_pause(server: RegistryServer, clients: list[Registry], status: int) -> None:
    """A registry that is overloaded, or whose leader changes (409), is tried again, and then gives the id."""
    registry = client(clients, server.url)
    server.storm = [status, status]
    for _ in range(2):
        with pytest.raises(LogUnavailable, match=str(status)) as caught:
            registry.register(table(ten=TEXT))
        assert retryable(caught.value)
    assert registry.register(table(ten=TEXT)) == 1


def test_no_answer_is_a_pause(clients: list[Registry]) -> None:
    """A registry that is not there, or takes the connection and says nothing, is tried again."""
    with registry_server() as gone:
        url = gone.url
    with pytest.raises(LogUnavailable):
        client(clients, url).schema(1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(LogUnavailable):
        client(clients, f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.5).schema(1)


def test_an_answer_that_trickles_ends_at_the_deadline(clients: list[Registry]) -> None:
    """Each byte comes in time, the whole does not: it is a pause, and not waited for."""
    stop = Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _ in range(100):
                connection.sendall(b" ")
                if stop.wait(0.05):
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=trickle, args=(server,))
        thread.start()
        try:
            with pytest.raises(LogUnavailable, match="longer"):
                client(clients, f"http://127.0.0.1:{server.getsockname()[1]}", patience=0.5).schema(1)
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("status", [302, 401, 403, 422])
def test_what_a_person_must_mend_is_an_error(server: RegistryServer, clients: list[Registry], status: int) -> None:
    """A refusal is not tried again, and a redirect is not followed."""
    server.always = status
    with pytest.raises(LogError, match=str(status)) as caught:
        client(clients, server.url).register(table(ten=TEXT))
    assert not retryable(caught.value)
    assert ("username" in caught.value.mend) == (status in (401, 403))
    assert not any("elsewhere" in each for each in server.asked)


def test_an_incompatible_schema_names_the_column_and_the_ddl(server: RegistryServer, clients: list[Registry]) -> None:
    """The pause says table, column, old and new type, the kind of DDL, and the commands that end it."""
    registry = client(clients, server.url)
    registry.register(table(ten=TEXT, phi=TEXT))
    with pytest.raises(LogUnavailable, match="409") as caught:
        registry.register(table(ten=TEXT, phi=INTEGER))
    error = caught.value
    assert retryable(error)
    assert error.subject.startswith("public.ho_so, subject mot-cua.changes-")
    assert "column phi was null|string and is null|int (ALTER COLUMN … TYPE" in error.cause
    assert "column ten" not in error.cause
    assert f"{server.url}/config/mot-cua.changes-mot_u002d_cua.public.ho_so.Envelope" in error.mend
    server.level = "NONE"
    assert registry.register(table(ten=TEXT, phi=INTEGER)) == 2


def test_columns_that_come_go_and_widen_are_compatible(server: RegistryServer, clients: list[Registry]) -> None:
    """ADD COLUMN, DROP COLUMN, RENAME COLUMN and integer → bigint pass the registry's default level."""
    registry = client(clients, server.url)
    shapes = [{"a": INTEGER}, {"a": INTEGER, "b": TEXT}, {"a": INTEGER}, {"c": INTEGER}, {"c": BIGINT}]
    for columns in shapes:
        registry.register(table(**columns))
    assert len(server.schemas) == 4


def test_basic_auth_is_sent_and_never_told(server: RegistryServer, clients: list[Registry]) -> None:
    """The right password is let in; the error about a wrong one does not show it."""
    server.user = ("emc-cdc", "bí mật")
    assert client(clients, server.url, username="emc-cdc", password="bí mật").register(table(ten=TEXT)) == 1
    with pytest.raises(LogError) as caught:
        client(clients, server.url, username="emc-cdc", password="geheim").register(table(ten=TEXT))
    assert "geheim" not in f"{caught.value}{caught.value.mend}"


def test_tls_is_verified_with_the_authority_of_the_settings(clients: list[Registry], tmp_path: Path) -> None:
    """The named authority's certificate is taken; another authority's and another host's are refused for good."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with registry_server(authority.issue_cert("127.0.0.1")) as right:
        assert client(clients, right.url, ca_file=tmp_path / "ca.pem").register(table(ten=TEXT)) == 1
    for wrong in (trustme.CA().issue_cert("127.0.0.1"), authority.issue_cert("registry.example")):
        with registry_server(wrong) as other:
            with pytest.raises(LogError, match="certificate") as caught:
                client(clients, other.url, ca_file=tmp_path / "ca.pem").register(table(ten=TEXT))
            assert not retryable(caught.value)
            assert not other.asked


# --- the log in Kafka ------------------------------------------------------------------------------------------------


@pytest.fixture
def logs(request: pytest.FixtureRequest, server: RegistryServer) -> Iterator[tuple[Log, Log]]:
    """One log in Kafka, seen with settings without and with the registry."""
    plain = Log(kafka_settings(request.getfixturevalue("kafka").bootstrap))
    assert plain.settings.log.kafka is not None
    brokers = plain.settings.log.kafka.brokers
    registered = Log(kafka_settings(brokers, plain.settings.name, registry={"url": server.url}))
    yield plain, registered
    for part in reversed(plain.opened + registered.opened):
        part.close()


def test_a_registry_can_be_added_and_taken_away(logs: tuple[Log, Log], server: RegistryServer) -> None:
    """Ids of either origin are resolved by readers with and without the registry, also while it is away."""
    plain, registered = logs
    schemas = [table(a=TEXT), table(a=TEXT, b=TEXT), table(a=TEXT, b=TEXT, c=TEXT)]
    ids = []
    for log, schema in zip((plain, registered, plain), schemas, strict=True):
        writer = log.writer()
        writer.open()
        ids.append(writer.register(schema))
        writer.append([Entry(0, b"key", b"\0" + ids[-1].to_bytes(4, "big"))])
        writer.close()
    assert len(set(ids)) == 3
    assert server.schemas == {ids[1]: schemas[1]}
    server.always = 503
    for log in logs:
        reader = log.reader()
        assert [reader.schema(number) for number in ids] == schemas


def test_an_id_that_only_the_registry_has_is_asked_of_it(logs: tuple[Log, Log], server: RegistryServer) -> None:
    """A reader with the registry resolves what the schemas topic lacks; one without it says so."""
    plain, registered = logs
    registered.writer().open()
    server.schemas[7] = table(a=TEXT)
    reader = registered.reader()
    assert reader.schema(7) == table(a=TEXT)
    for other, number in ((plain.reader(), 7), (reader, 8)):
        with pytest.raises(LogError, match=str(number)) as caught:
            other.schema(number)
        assert not retryable(caught.value)


def test_a_storm_of_the_registry_leaves_the_writer_whole(logs: tuple[Log, Log], server: RegistryServer) -> None:
    """503 and 409 pause `register`; nothing is written meanwhile, and what follows has the registry's id."""
    _, registered = logs
    server.storm = [503, 409, 503]
    writer = registered.writer()
    writer.open()
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            writer.register(table(a=TEXT))
    number = writer.register(table(a=TEXT))
    assert server.schemas == {number: table(a=TEXT)}
    assert registered.contents() == []


def test_an_id_that_the_log_knows_for_another_schema_is_refused(logs: tuple[Log, Log], server: RegistryServer) -> None:
    """A registry that was emptied would give an old id to a new schema; no record is written under it."""
    _, registered = logs
    writer = registered.writer()
    writer.open()
    writer.register(table(a=TEXT))
    writer.close()
    server.schemas.clear()
    server.subjects.clear()
    writer = registered.writer()
    writer.open()
    with pytest.raises(LogError, match="another schema") as caught:
        writer.register(table(b=TEXT))
    assert not retryable(caught.value)


def test_confluents_own_deserializer_reads_our_records(logs: tuple[Log, Log], server: RegistryServer) -> None:
    """confluent-kafka's AvroDeserializer and our decoder read the same row out of one record."""
    _, registered = logs
    writer = registered.writer()
    writer.open()
    schema = table(ten=TEXT)
    row: Row = {"id": 17, "ten": "Hồ sơ một cửa"}
    encoder = Encoder(writer.register(schema), schema)
    context = Context("mot-cua", "motcua", 1, 2, 3, 4, 5)
    writer.append(
        [
            Entry(
                1,
                row_key("public.ho_so", ("17",)),
                encoder.row(context, Op.CREATE, None, row, Position(1, 2, 3), 4, 1, True),
            )
        ]
    )
    [record] = registered.contents()
    field = SerializationContext(f"{registered.settings.name}.changes", MessageField.VALUE)
    with SchemaRegistryClient({"url": server.url}) as theirs:
        envelope = AvroDeserializer(theirs)(record.value, field)
    assert envelope["after"] == row
    assert envelope["op"] == "c"
    assert "GET /schemas/ids/1" in server.asked
    assert ChangeDecoder(registered.reader().schema).decode(record.key, record.value).after == row


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "https://emc-cdc:geheim@registry:8081"},
        {"url": "https://emc-cdc@registry:8081"},
        {"url": "https://registry:99999"},
        {"url": "https://registry:8081?normalize=true"},
        {"url": "https://registry:8081", "username": "emc-cdc"},
        {"url": "https://registry:8081", "password": "geheim"},
        {"url": "http://registry:8081", "username": "emc-cdc", "password": "geheim"},
    ],
)
def test_settings_that_would_tell_the_password_or_miss_the_address_are_refused(wrong: dict[str, str]) -> None:
    """No password in the address or over plain http, no half of a pair, no address that is none."""
    with pytest.raises(ValidationError):
        RegistrySettings.model_validate(wrong)

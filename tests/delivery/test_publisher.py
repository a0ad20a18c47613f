"""The topic of events: every judgement once, in order, whatever EMC, Kafka or a death does; and whose topic it is."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from deliver_process import Delivering, accepted, delivering, eventually
from delivery_story import (
    LIFE,
    SERVICE,
    LoggedStory,
    code,
    kafka_settings_in,
    lives,
    service,
    settings_in,
)
from emc.simulator_process import RunningSimulator
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from plugins.kafka import KafkaBroker
from plugins.registry import registry_server
from published_events import events, ids, ledger, published, read_topic, statuses

from connector.change.partitioner import partition_of
from connector.change.position import Position, parse_position
from connector.delivery import publisher as publisher_module
from connector.delivery.directory import partition_files
from connector.delivery.event_record import SCHEMA, Judged, Place, encode
from connector.delivery.outbox import dump_event
from connector.delivery.publisher import Publisher, _Ledger
from connector.delivery.state import PartitionState
from connector.emc.event import EmcEvent, EmcUser
from connector.errors import LogError, LogUnavailable
from connector.log.deliveries import deliveries_topic
from connector.log.kafka_topic_writer import KafkaTopicWriter
from connector.log.kafka_topics import events_topic
from connector.log.pair import Pair
from connector.observe import EventsUnpublished, Fault, PushAnswered
from connector.settings import KafkaSettings, RegistrySettings, Settings


@pytest.fixture
def settings(tmp_path: Path, simulator: RunningSimulator, kafka: KafkaBroker) -> Settings:
    return kafka_settings_in(tmp_path, simulator.api, kafka.bootstrap)


def answers(run: Delivering, word: str) -> int:
    return sum(each.outcome == word for each in run.of(PushAnswered))


def all_are_published(settings: Settings, count: int) -> None:
    """Wait for so many events in the topic; they are what the ledger has, in its order."""
    eventually(lambda: len(ids(settings)) >= count)
    assert events(settings) == ledger(settings)
    assert len(set(ids(settings))) == count


def kafka_of(settings: Settings) -> KafkaSettings:
    assert settings.log.kafka is not None
    return settings.log.kafka


def writer_of(settings: Settings, partition: int) -> KafkaTopicWriter:
    name = settings.name
    return KafkaTopicWriter(name, events_topic(name), partition, settings.log.partitions, kafka_of(settings))


def without_events(settings: Settings) -> Settings:
    """The same connector, which publishes nothing."""
    kafka = kafka_of(settings).model_copy(update={"events_topic": False})
    return settings.model_copy(update={"log": settings.log.model_copy(update={"kafka": kafka})})


def test_every_judgement_is_published_once_in_order(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Another client finds what EMC was told, why it was due, and each dossier in the partition its key makes."""
    with delivering(settings) as run:
        lives(log, *range(1, 9))
        run.until(lambda: answers(run, "delivered") == 24)
        all_are_published(settings, 24)
        run.until(lambda: {each.partition: each.waiting for each in run.of(EventsUnpublished)} == {0: 0, 1: 0})
    assert statuses(settings) == {code(number): LIFE for number in range(1, 9)} == accepted(simulator, client, before)
    for record in published(settings):
        assert code(int(record.key)) == record.event["CodeProfile"]
        assert record.partition == partition_of(record.key.encode(), settings.log.partitions)


def test_the_topic_is_made_as_documented(settings: Settings, log: LoggedStory) -> None:
    """As many partitions as the log has, compacted after 14 days: the last record of each stays."""
    with delivering(settings):
        lives(log, 1)
        all_are_published(settings, 3)
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{settings.name}.emc-events")
    admin = AdminClient({"bootstrap.servers": kafka_of(settings).brokers, "log_level": 0})
    config = {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result().items()}
    assert (config["cleanup.policy"], config["min.compaction.lag.ms"]) == ("compact", str(14 * 86_400_000))
    assert config["unclean.leader.election.enable"] == "false"
    assert len(admin.list_topics(timeout=20).topics[resource.name].partitions) == settings.log.partitions


def test_what_emc_rejects_is_published_too(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client
) -> None:
    """A parked dossier's events are facts for others all the same, those that wait behind it too."""
    simulator.set_faults(client, {"kind": "status", "status": 400})
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: answers(run, "rejected") == 1)
        all_are_published(settings, 3)


def test_nothing_is_published_where_it_is_turned_off(settings: Settings, log: LoggedStory) -> None:
    """There is no such topic then."""
    with delivering(without_events(settings)) as run:
        lives(log, 1)
        run.until(lambda: answers(run, "delivered") == 3)
        assert "publisher" not in {thread.name for thread in threading.enumerate()}
    assert published(settings) == []
    assert run.of(EventsUnpublished) == []


def test_pushing_goes_on_while_events_cannot_be_published(
    settings: Settings, log: LoggedStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once; publishing catches up, batch by batch, with what the ledger kept."""
    back = threading.Event()

    class Away(KafkaTopicWriter):
        def open(self) -> bytes | None:
            if not back.is_set():
                raise LogUnavailable("open", self.topic, "away", "wait")
            return super().open()

    monkeypatch.setattr(publisher_module, "KafkaTopicWriter", Away)
    monkeypatch.setattr(publisher_module, "_PAUSE", 0.05)
    monkeypatch.setattr(publisher_module, "_MOST", 2)
    with delivering(settings) as run:
        lives(log, *range(1, 6))
        run.until(lambda: answers(run, "delivered") == 15)
        assert published(settings) == []
        assert [fault.cause for fault in run.of(Fault)] == ["away"]
        back.set()
        all_are_published(settings, 15)


def test_an_append_whose_answer_is_lost_is_looked_for(
    settings: Settings, log: LoggedStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the transaction was committed or not, its events are there once."""
    lock = threading.Lock()
    troubles = iter(("before", "after") * 3)

    class Losing(KafkaTopicWriter):
        def append(self, pairs: Sequence[Pair], committed: int | None = None) -> None:
            with lock:
                trouble = next(troubles, None)
            if trouble != "before":
                super().append(pairs, committed)
            if trouble is not None:
                raise LogUnavailable("append", self.topic, f"lost {trouble} the commit", "wait")

    monkeypatch.setattr(publisher_module, "KafkaTopicWriter", Losing)
    monkeypatch.setattr(publisher_module, "_PAUSE", 0.01)
    monkeypatch.setattr(publisher_module, "_MOST", 3)
    with delivering(settings) as run:
        lives(log, *range(1, 7))
        run.until(lambda: answers(run, "delivered") == 18)
        all_are_published(settings, 18)
    assert next(troubles, None) is None


def test_a_registry_that_refuses_holds_up_publishing_only(
    settings: Settings, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMC hears everything meanwhile; then records have the registry's id, and Confluent's own client reads them."""
    monkeypatch.setattr(publisher_module, "_PAUSE", 0.05)
    with registry_server() as registry:
        kafka = kafka_of(settings).model_copy(update={"registry": RegistrySettings(url=registry.url)})
        registered = settings.model_copy(update={"log": settings.log.model_copy(update={"kafka": kafka})})
        log = LoggedStory(registered)
        log.snapshot((SERVICE, service(1)))
        lives(log, 1)
        log.close()
        registry.always = 503
        with delivering(registered) as run:
            run.until(lambda: answers(run, "delivered") == 3 and bool(run.of(Fault)))
            assert [fault.operation for fault in run.of(Fault)] == ["register a schema"]
            registry.always = None
            all_are_published(registered, 3)
        [*_, last] = read_topic(registered, f"{settings.name}.emc-events")
        assert list(registry.subjects)[-1] == f"{settings.name}.emc-events-emc.EmcEvent"
        field = SerializationContext(f"{settings.name}.emc-events", MessageField.VALUE)
        with SchemaRegistryClient({"url": registry.url}) as theirs:
            event = AvroDeserializer(theirs)(last[-1], field)
        assert (event["CodeProfile"], event["Status"]) == (code(1), 3)


def attach_anew(settings: Settings) -> None:
    """Forget the state, and what is recorded of it."""
    shutil.rmtree(settings.delivery.state)
    admin = AdminClient({"bootstrap.servers": kafka_of(settings).brokers, "log_level": 0})
    topic = deliveries_topic(settings.name)
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=30).topics)


def test_a_state_made_anew_publishes_nothing_twice(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """EMC hears again what is judged again; the topic knows its place, and goes on with what is new."""
    with delivering(settings) as run:
        lives(log, 1, 2)
        run.until(lambda: answers(run, "delivered") == 6)
        all_are_published(settings, 6)
    attach_anew(settings)
    with delivering(settings) as run:
        lives(log, 3)
        run.until(lambda: answers(run, "delivered") == 9)
        all_are_published(settings, 9)
    assert accepted(simulator, client, before)[code(1)] == LIFE + LIFE
    assert statuses(settings) == {code(number): LIFE for number in (1, 2, 3)}


def test_an_older_copy_of_the_state_publishes_nothing_twice(
    tmp_path: Path, settings: Settings, log: LoggedStory
) -> None:
    """A backup that is put back has forgotten judgements; made again they have the same names."""
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: answers(run, "delivered") == 3)
    shutil.copytree(settings.delivery.state, tmp_path / "copy")
    with delivering(settings) as run:
        lives(log, 2)
        run.until(lambda: answers(run, "delivered") == 3)
        all_are_published(settings, 6)
    attach_anew(settings)
    shutil.copytree(tmp_path / "copy", settings.delivery.state)
    ledgers = [
        _Ledger(settings, kafka_of(settings), number, path)
        for number, path in partition_files(settings.delivery.state, settings.name)
    ]
    for judged_again in ledgers:
        assert not judged_again.publish()
    with delivering(without_events(settings)) as run:
        lives(log, 3)
        run.until(lambda: answers(run, "delivered") == 6)
    for judged_again in ledgers:
        assert not judged_again.publish()
        judged_again.close()
    all_are_published(settings, 9)


def test_a_topic_made_anew_gets_all_that_the_ledger_holds(settings: Settings, log: LoggedStory) -> None:
    """So does one that is turned on later."""
    with delivering(without_events(settings)) as run:
        lives(log, 1, 2)
        run.until(lambda: answers(run, "delivered") == 6)
    with delivering(settings):
        all_are_published(settings, 6)


def ended_with(settings: Settings) -> LogError:
    """What ends deliver, and all of what it says."""
    run = Delivering(settings)
    run._thread.join(60)
    failure = run.end()
    assert isinstance(failure, LogError), failure
    return failure


def judged(position: Position, ordinal: int = 1) -> Judged:
    event = EmcEvent(code(1), 327, "2.0", "Cấp đổi", 1, 1, 0, 4, 0, 0, "", EmcUser(None, "QG-1", 2, "000"))
    return Judged(1, "1", dump_event(event), str(position), ordinal, "7:1", 0, "m", 0)


def test_the_topic_of_another_log_is_refused(settings: Settings, log: LoggedStory) -> None:
    """Its last event is of a change that this log does not have: later events would seem to be there already."""
    lives(log, 1)
    with closing(writer_of(settings, 0)) as other:
        other.open()
        later = judged(Position(9, 1, 1))
        other.append([Pair(b"1", encode(settings.name, 0, other.register(SCHEMA), later))])
    refused = ended_with(settings)
    assert "of another log" in refused.cause
    assert "delete this topic" in refused.mend


@pytest.mark.parametrize("value", [b"", b"no event", b"\0\0\0\0\1x"], ids=["empty", "text", "unknown schema"])
def test_a_topic_that_others_write_to_is_refused(settings: Settings, log: LoggedStory, value: bytes) -> None:
    """Where publishing stands cannot be known then."""
    with closing(writer_of(settings, 1)) as other:
        other.open()
        other.append([Pair(b"1", value)])
    assert "made anew" in ended_with(settings).mend


def test_whoever_is_superseded_publishes_nothing_more(settings: Settings, log: LoggedStory) -> None:
    """Another deliver has opened the partitions: this one ends, and says so."""
    run = Delivering(settings)
    run.until(lambda: {each.partition for each in run.of(EventsUnpublished)} == {0, 1})
    others = [writer_of(settings, number) for number in range(settings.log.partitions)]
    for other in others:
        with closing(other):
            assert other.open() is None
    lives(log, 1, 2, 3)
    run._thread.join(60)
    failure = run.end()
    assert isinstance(failure, LogError)
    assert "fenced" in failure.cause
    assert published(settings) == []


def test_a_stop_is_never_overlooked(tmp_path: Path) -> None:
    """Not even one that comes as the publisher begins to look for work."""
    connector = kafka_settings_in(tmp_path, "http://127.0.0.1:9/", "127.0.0.1:9")
    publisher = Publisher(connector, False, lambda _: None)

    class Late(threading.Event):
        def clear(self) -> None:
            publisher._stopping.set()
            super().set()
            super().clear()

    publisher._work = Late()
    publisher.start()
    publisher._thread.join(60)
    assert not publisher._thread.is_alive()


positions = st.builds(
    Position, st.integers(0, 99), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 99)
)


@given(positions)
def test_positions_survive_their_text(position: Position) -> None:
    """They are read back from the ledger and the topic."""
    assert parse_position(str(position)) == position


@hypothesis(max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
    st.integers(0, 5),
    st.integers(-1, 41),
    st.integers(0, 9),
)
def test_the_place_is_found_in_any_ledger(
    rows: list[tuple[bool, int]], first: int, reached_at: int, forgotten: int
) -> None:
    """Ids have holes where published events were pruned; the id up to which all is published is found all the same."""
    here, places = (1, 1), []
    for same, step in rows:
        here = (here[0], here[1] + 1) if same else (here[0] + 1 + step, 1)
        places.append(Place(Position(1, here[0] * 0x100, 3), here[1]))
    ids = [first + 1 + at for at in range(len(places))]
    reached = places[reached_at] if 0 <= reached_at < len(places) else None
    following = first + len(places) + 1
    with TemporaryDirectory() as directory:
        path = Path(directory) / "s.sqlite"
        state = PartitionState(path, "demo", 0)
        state.save_meta({"next event": str(following)})
        for at, (number, place) in enumerate(zip(ids, places, strict=True)):
            if reached is not None and place <= reached and at % 10 >= forgotten:
                continue
            values = judged(place.position, place.ordinal)
            state.write().execute(
                "INSERT INTO events VALUES (?, '1', '', 1, ?, 'waiting', ?, '', '', 0, 0, 0, NULL, NULL, '', '', 0, ?)",
                (number, values.event, values.position, values.ordinal),
            )
        state.commit()
        settings = settings_in(Path(directory), "http://127.0.0.1:9/")
        found = _Ledger(settings, KafkaSettings(brokers="127.0.0.1:9"), 0, path)
        try:
            up_to = found._last_up_to(reached)
            unpublished = [Judged(*row).place for row in found._file().execute(publisher_module._READ, (up_to, 99))]
        finally:
            found.close()
            state.close()
    assert unpublished == [place for place in places if reached is None or place > reached]
    if not unpublished:
        assert up_to == following - 1

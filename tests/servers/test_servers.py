"""The servers that the other tests rest on."""

from __future__ import annotations

import time

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from plugins.kafka import BrokerFailed, KafkaBroker, libraries
from plugins.kafka_cluster import KafkaCluster
from plugins.postgres import Database, chosen
from psycopg.errors import InsufficientPrivilege

ROLES = "SELECT rolname, rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user"


def test_a_database_is_its_versions_and_its_owners(database: Database) -> None:
    """The database is on the version it says, belongs to `owner`, and decodes."""
    with psycopg.connect(database.dsn("owner")) as connection:
        assert connection.info.server_version // 10_000 == database.version
        assert connection.execute(ROLES).fetchone() == ("owner", False, False)
        connection.execute("CREATE TABLE made (id int PRIMARY KEY)")
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)


def test_the_runtime_role_may_replicate_only(database: Database) -> None:
    """`emc_cdc` makes a slot, and neither reads the owner's table nor creates one."""
    with psycopg.connect(database.dsn("owner")) as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
    with psycopg.connect(database.dsn("emc_cdc"), autocommit=True) as connection:
        assert connection.execute(ROLES).fetchone() == ("emc_cdc", False, True)
        connection.execute("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
        with pytest.raises(InsufficientPrivilege):
            connection.execute("TABLE kept")
        with pytest.raises(InsufficientPrivilege):
            connection.execute("CREATE TABLE public.mine (id int)")


def test_slots_do_not_outlive_their_database(database: Database) -> None:
    """The slot that the test before left behind is gone, as is that test's table."""
    with psycopg.connect(database.dsn("postgres")) as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)


def test_every_server_has_its_share_of_the_tests() -> None:
    """A test always falls to the same server, and each has about as many; or a test runs on all of them."""
    servers = [15, 16, 18]
    tests = [f"tests/source/test_rows.py::test_{number}" for number in range(300)]
    falls = [chosen(test, servers, everywhere=False) for test in tests]
    assert falls == [chosen(test, servers, everywhere=False) for test in tests]
    assert all(falls.count([server]) > 60 for server in servers)
    assert chosen(tests[0], servers, everywhere=True) == servers


def test_the_broker_keeps_its_topics_over_stop_and_crash(kafka: KafkaBroker) -> None:
    """Stopped, killed and started again, the broker has its address and its topics still."""
    before = kafka.bootstrap
    client = AdminClient({"bootstrap.servers": before, "log_level": 0})
    client.create_topics([NewTopic("kept", 1, 1)])["kept"].result(20)
    kafka.restart()
    kafka.kill()
    assert not kafka.running
    kafka.start()
    assert kafka.bootstrap == before
    assert "kept" in client.list_topics(timeout=20).topics


def test_the_cluster_goes_on_without_one_and_is_whole_for_the_next_test(kafka_cluster: KafkaCluster) -> None:
    """A topic's leader is killed: another leads, and after `heal` all three replicas are in sync again."""
    client = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap, "log_level": 0})
    client.create_topics([NewTopic("led", 1, 3)])["led"].result(20)
    first = kafka_cluster.leader("led", 0)
    first.kill()
    kafka_cluster.leader("led", 0, other_than=first).pause()
    kafka_cluster.heal()
    deadline = time.monotonic() + 60
    while True:
        # The broker that answers may not have heard of it yet.
        whole = client.list_topics("led", timeout=20)
        if sorted(whole.topics["led"].partitions[0].isrs) == sorted(whole.brokers) == [1, 2, 3]:
            return
        assert time.monotonic() < deadline, "all three are in sync again"


def test_a_missing_broker_is_an_error_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the jars there is no skip but an error that says how to get them."""
    monkeypatch.setenv("EMC_CDC_KAFKA_LIBS", "/nonexistent")
    with pytest.raises(BrokerFailed, match="tests/install"):
        libraries()

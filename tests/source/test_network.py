"""The network between the database and us: cut at any byte, silent, full of what no PostgreSQL would send."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from attached_source import DOSSIER, PAYMENT, Attached, assert_ordered
from plugins.proxy import Cut, Proxy

from connector.change.record import Op
from connector.errors import ProtocolViolation

CUTS = 12


@pytest.fixture
def proxy(attached: Attached) -> Iterator[Proxy]:
    """A proxy to the test's server; capture comes to the server through it."""
    with Proxy(attached.database.server.port) as made:
        attached.settings = attached.settings_with(dsn=made.dsn(attached.database.dsn("emc_cdc")))
        yield made


class Application:
    """The legacy side: seeded transactions on both tables, and what they did, in commit order."""

    def __init__(self, attached: Attached, random: Random) -> None:
        self.owner = attached.owner
        self.random = random
        self.done: list[tuple[str, Op, str, str]] = []
        """Table, operation, key and the transaction's own mark."""

    def commit(self) -> None:
        """One transaction of one to sixty changes."""
        number = len(self.done) + 1000
        mark = f"t{number}"
        with self.owner.transaction():
            for key in range(number, number + self.random.randint(1, 20)):
                padding = self.random.randbytes(self.random.randint(0, 700)).hex()
                self.owner.execute(
                    """INSERT INTO "mot cua"."Hồ sơ" (id, "Mã", noi_dung) VALUES (%s, %s, %s)""", (key, mark, padding)
                )
                self.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (%s, %s, 1, %s)""", (key, key, mark))
                self.done += [(DOSSIER, Op.CREATE, str(key), mark), (PAYMENT, Op.CREATE, str(key), "")]
                if self.random.random() < 0.5:
                    mark_now = f"{mark}b"
                    self.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET "Mã" = %s WHERE id = %s""", (mark_now, key))
                    self.done.append((DOSSIER, Op.UPDATE, str(key), mark_now))


def test_a_connection_cut_at_random_bytes(attached: Attached, proxy: Proxy) -> None:
    """Cut again and again at any byte while the application commits: its changes are in the log once, in its order."""
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    random = Random(seed)
    application = Application(attached, random)

    def plan(_: int) -> Cut | None:
        if proxy.cuts >= CUTS:
            return None
        # One in six early, where a session begins; the others mostly in the stream.
        return Cut(random.randrange(3_000 if random.random() < 1 / 6 else 60_000), reset=random.random() < 0.5)

    active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    with attached.capturing() as running, attached.connect("postgres") as admin:
        proxy.plan = plan
        proxy.cut_all()
        while proxy.cuts < CUTS:
            application.commit()
            if running.failure is not None:
                raise running.failure
            # No faster than capture comes back: else everything is one backlog, and the cuts hit nothing else.
            seen = proxy.cuts
            running.until(
                lambda: proxy.cuts > seen or admin.execute(active, (attached.settings.slot,)).fetchone() == (True,),  # noqa: B023
                "capture comes back",
            )
    attached.assert_exact()
    records = attached.records()
    told = [
        (change.table, change.op, change.key[0], (change.after or {}).get("Mã", ""))
        for partition in records
        for change in partition
        if change.op is not Op.READ and change.transaction
    ]
    assert Counter(told) == Counter(application.done)
    place = {done: number for number, done in enumerate(application.done)}
    for partition in records:
        assert_ordered(partition)
        order = [
            place[change.table, change.op, change.key[0], (change.after or {}).get("Mã", "")]
            for change in partition
            if change.op is not Op.READ and change.transaction
        ]
        assert order == sorted(order)
    assert not any(fault.fatal for fault in running.faults)


def test_a_black_hole_is_left(attached: Attached, proxy: Proxy) -> None:
    """Nothing passes any more and nobody says so: capture connects anew, one walsender is left, nothing is missing."""
    with attached.capturing() as running:
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
        attached.settle(running)
        assert proxy.black_hole()
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'b'""")
        running.until_streaming(2)
        walsenders = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'emc-cdc capture'"
        assert attached.ask(walsenders) == [(1,)]
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 60


def test_a_slow_network_changes_nothing(attached: Attached, proxy: Proxy) -> None:
    """Every chunk comes late: the log is the same."""
    proxy.delay = 0.05
    with attached.capturing():
        for state in "abc":
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = %s""", (state,))
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 90


def copy_data(payload: bytes) -> bytes:
    """A CopyData message of the frontend/backend protocol."""
    return b"d" + struct.pack(">I", len(payload) + 4) + payload


HEADER = b"w" + bytes(24)
GARBAGE = {
    "no such stream message": b"Z12345",
    "no message": b"w",
    "half a header": HEADER[:12],
    "a header alone": HEADER,
    "half a keepalive": b"k" + bytes(7),
    "an unknown message": HEADER + b"?" + bytes(20),
    "half a begin": HEADER + b"B" + bytes(11),
    "a commit without a begin": HEADER + b"C" + bytes(25),
    "an insert into nothing": HEADER + b"I" + bytes(7),
    "an insert without an oid": HEADER + b"I\0",
    "half a relation": HEADER + b"R" + bytes(4) + b"public\0x",
    "half a truncate": HEADER + b"T" + b"\xff" * 5,
    "half a message": HEADER + b"M\1" + bytes(8) + b"emc-cdc.x\0" + b"\xff\xff\xff\xff",
    "a type in no encoding": HEADER + b"Y" + bytes(4) + b"\xff\0\xfe\0",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_the_stream_is_told(attached: Attached, proxy: Proxy, garbage: bytes) -> None:
    """Well framed bytes that are no pgoutput stop capture with the documented error; afterwards nothing is missing."""
    running = attached.start()
    try:
        running.until_streaming()
        attached.settle(running)
        proxy.inject(copy_data(garbage))
        with pytest.raises(ProtocolViolation) as raised:
            running.until(lambda: False, "capture gives up")
    finally:
        running.end()
    assert "nothing is lost" in raised.value.mend
    attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
    with attached.capturing():
        pass
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 30


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 64, b"\0" * 64, b"d\0\0\0\0", b"E\0\0\0\x07??", b"HTTP/1.1 400 Bad\r\n\r\n"]
)
def test_garbage_instead_of_the_protocol_is_survived(attached: Attached, proxy: Proxy, garbage: bytes) -> None:
    """Bytes that are no message at all end the session with a documented error, and the next one goes on."""
    with attached.capturing() as running:
        attached.settle(running)
        proxy.inject(garbage)
        proxy.cut_all()
        running.until_streaming(2)
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'a'""")
    attached.assert_exact()
    assert len(attached.streamed(DOSSIER)) == 30
    assert running.faults

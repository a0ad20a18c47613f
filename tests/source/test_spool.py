"""The spool: streamed transactions come out as they would have come without streaming."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connector.errors import ProtocolViolation, SourceUnavailable
from connector.source.decode.messages import (
    Begin,
    Commit,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    parse,
)
from connector.source.protocol import PAYLOAD
from connector.source.spool import Spool

Y2K = 946_684_800_000_000


def data(payload: bytes, lsn: int = 1) -> bytes:
    """An XLogData message."""
    return struct.pack(">cQQq", b"w", lsn, lsn, 0) + payload


def start(xid: int, first: bool) -> bytes:
    return data(struct.pack(">cIB", b"S", xid, first))


def commit(xid: int, lsn: int) -> bytes:
    return data(struct.pack(">cIBQQq", b"c", xid, 0, lsn, lsn + 8, 7))


def abort(xid: int, subxid: int) -> bytes:
    return data(struct.pack(">cII", b"A", xid, subxid))


def row(subxid: int, content: bytes, lsn: int) -> bytes:
    """A row message of a streamed block; what stands in the row is not the spool's business."""
    return data(struct.pack(">cI", b"I", subxid) + content, lsn)


STOP = data(b"E")


class Streams(RuleBasedStateMachine):
    """Transactions with subtransactions, in blocks that come in any order, against a plain list of each."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.directory.name), memory=2000)
        self.lsn = 0
        self.last_xid = 0
        self.open: dict[int, list[tuple[int, bytes]]] = {}
        self.subtransactions: dict[int, list[int]] = {}

    def teardown(self) -> None:
        self.spool.close()
        self.directory.cleanup()

    def new_xid(self) -> int:
        self.last_xid += 1
        return self.last_xid

    @rule(
        which=st.integers(0, 3),
        rows=st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=300)), max_size=8),
        origin=st.booleans(),
    )
    def block(self, which: int, rows: list[tuple[int, bytes]], origin: bool) -> None:
        """A block of a transaction, old or new, some rows by subtransactions."""
        known = list(self.open)
        xid = known[which] if which < len(known) else self.new_xid()
        assert self.spool.take(start(xid, xid not in self.open)) is None
        mine = self.open.setdefault(xid, [])
        subtransactions = self.subtransactions.setdefault(xid, [xid])
        if origin:
            message = data(b"O" + struct.pack(">Q", 1) + b"khac\0")
            assert self.spool.take(message) is None
            mine.append((xid, message))
        for sub, content in rows:
            if sub >= len(subtransactions):
                subtransactions.append(self.new_xid())
            subxid = subtransactions[min(sub, len(subtransactions) - 1)]
            self.lsn += 1
            assert self.spool.within
            assert self.spool.take(row(subxid, content, self.lsn)) is None
            mine.append((subxid, data(b"I" + content, self.lsn)))
        assert self.spool.take(STOP) is None

    @precondition(lambda self: any(len(subs) > 1 for subs in self.subtransactions.values()))
    @rule(which=st.integers(0, 10))
    def roll_back_to_savepoint(self, which: int) -> None:
        """A subtransaction is rolled back: it writes no more."""
        choices = [(xid, sub) for xid, subs in self.subtransactions.items() for sub in subs[1:]]
        xid, subxid = choices[which % len(choices)]
        assert self.spool.take(abort(xid, subxid)) is None
        self.subtransactions[xid].remove(subxid)
        self.open[xid] = [(sub, message) for sub, message in self.open[xid] if sub != subxid]

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 3))
    def roll_back(self, which: int) -> None:
        """A whole transaction is rolled back."""
        xid = list(self.open)[which % len(self.open)]
        assert self.spool.take(abort(xid, xid)) is None
        del self.open[xid], self.subtransactions[xid]

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 3))
    def commit(self, which: int) -> None:
        """What survives comes out in order, between a begin and a commit."""
        xid = list(self.open)[which % len(self.open)]
        self.lsn += 10
        transaction = self.spool.take(commit(xid, self.lsn))
        assert transaction is not None
        begin, *messages, end = transaction
        assert parse(begin[PAYLOAD:]) == Begin(self.lsn, Y2K + 7, xid)
        assert messages == [message for _, message in self.open.pop(xid)]
        assert parse(end[PAYLOAD:]) == Commit(self.lsn, self.lsn + 8, Y2K + 7)
        del self.subtransactions[xid]

    @invariant()
    def nothing_has_a_name(self) -> None:
        """What is on disk is gone with the process."""
        assert os.listdir(self.directory.name) == []

    @invariant()
    def memory_is_bounded(self) -> None:
        """However much is open, and it is counted right."""
        kept = sum(streamed.size for streamed in self.spool._open.values())
        assert kept == self.spool._size <= 2000


TestStreams = Streams.TestCase


OUT_OF_PLACE = {
    "stop without start": [STOP],
    "start in a block": [start(1, True), start(2, True)],
    "commit in a block": [start(1, True), commit(1, 9)],
    "commit of what never began": [commit(1, 9)],
    "a second first block": [start(1, True), STOP, start(1, True)],
    "a later block without the first": [start(1, False)],
    "a row without a block": [row(1, b"", 1)],
    "a row cut short": [start(1, True), data(b"I\0\0\0")],
}


@pytest.mark.parametrize("messages", OUT_OF_PLACE.values(), ids=OUT_OF_PLACE.keys())
def test_what_is_out_of_place_is_a_violation(tmp_path: Path, messages: list[bytes]) -> None:
    """Nothing is guessed."""
    spool = Spool(tmp_path)
    for message in messages[:-1]:
        spool.take(message)
    with pytest.raises(ProtocolViolation):
        list(spool.take(messages[-1]) or ())
    spool.close()


@given(st.sampled_from([start(3, True), STOP, commit(3, 99), abort(3, 4)]), st.data())
def test_a_streaming_message_cut_at_any_byte(message: bytes, draw: st.DataObject) -> None:
    """Only a violation comes of it, in the decoder and in the spool."""
    cut = message[: draw.draw(st.integers(PAYLOAD + 1, len(message)))]
    for whole in (cut, message + b"\0"):
        if whole == message:
            continue
        with pytest.raises(ProtocolViolation):
            parse(whole[PAYLOAD:])
        with pytest.raises(ProtocolViolation):
            list(Spool(Path("/")).take(whole) or ())


def test_streaming_messages_are_read() -> None:
    """Field by field (PostgreSQL section 55.9)."""
    assert parse(start(5, True)[PAYLOAD:]) == StreamStart(5, True)
    assert parse(start(5, False)[PAYLOAD:]) == StreamStart(5, False)
    assert parse(STOP[PAYLOAD:]) == StreamStop()
    assert parse(commit(5, 64)[PAYLOAD:]) == StreamCommit(5, 64, 72, Y2K + 7)
    assert parse(abort(5, 6)[PAYLOAD:]) == StreamAbort(5, 6)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """The message says that nothing is lost; the session ends, and another begins."""
    spool = Spool(tmp_path / "khong-co", memory=10)
    spool.take(start(1, True))
    with pytest.raises(SourceUnavailable) as told:
        spool.take(row(1, b"x" * 100, 1))
    assert "source.data" in told.value.mend
    spool.close()

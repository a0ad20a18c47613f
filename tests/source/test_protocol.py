"""The streaming protocol's own messages, byte by byte (PostgreSQL section 55.4)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import ProtocolViolation
from connector.source.protocol import Keepalive, parse_keepalive, payload_lsn, status_update

LSN = st.integers(0, 2**64 - 1)
# 2000-01-01, the epoch of PostgreSQL's clocks, in microseconds since 1970-01-01.
Y2K = 946_684_800_000_000


@given(LSN, st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_a_keepalive_is_read(end: int, clock: int, reply: bool) -> None:
    """'k', the server's end, its clock, and whether it wants an answer at once."""
    assert parse_keepalive(struct.pack(">cQqB", b"k", end, clock, reply)) == Keepalive(end, reply)


@given(st.binary(max_size=40).filter(lambda data: len(data) != 18))
def test_a_keepalive_of_another_length_is_a_violation(data: bytes) -> None:
    """Too short or too long: never half understood."""
    with pytest.raises(ProtocolViolation):
        parse_keepalive(data)


@given(LSN, LSN, st.integers(Y2K, Y2K + 10**17))
def test_a_status_update_tells_written_flushed_and_applied(received: int, flushed: int, now_us: int) -> None:
    """'r', three LSNs (what is flushed is applied, too), PostgreSQL's clock, no answer wanted."""
    kind, written, durable, applied, clock, reply = struct.unpack(">cQQQqB", status_update(received, flushed, now_us))
    assert (kind, written, durable, applied, reply) == (b"r", received, flushed, flushed, 0)
    assert clock == now_us - Y2K


@given(LSN, LSN, st.binary(min_size=1, max_size=20))
def test_the_lsn_of_a_message_is_its_start(start: int, end: int, payload: bytes) -> None:
    """'w', the WAL position, the server's end, its clock, then pgoutput's bytes."""
    assert payload_lsn(struct.pack(">cQQq", b"w", start, end, 0) + payload) == start


def test_a_message_without_a_payload_is_a_violation() -> None:
    """An XLogData header alone holds nothing that could be decoded."""
    with pytest.raises(ProtocolViolation):
        payload_lsn(struct.pack(">cQQq", b"w", 1, 2, 0))

"""The streaming replication protocol's own messages (PostgreSQL section 55.4), inside CopyData.

Pure: bytes to values and back. XLogData is not made an object: the stream hands out its LSN and the offset of the
payload. Raises ProtocolViolation for anything else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from connector.source.decode.messages import PG_EPOCH_US, violation

XLOG_DATA = 0x77
KEEPALIVE = 0x6B
PAYLOAD = 25
"""Offset of pgoutput's bytes in an XLogData message."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`server_end`: everything decodable before it has been sent. `reply`: the server wants an answer at once."""

    server_end: int
    reply: bool


_KEEPALIVE = struct.Struct(">cQqB")
_STATUS = struct.Struct(">cQQQqB")
_LSN = struct.Struct(">Q")


def parse_keepalive(data: bytes) -> Keepalive:
    """A primary keepalive message."""
    if len(data) != _KEEPALIVE.size:
        raise violation(f"a keepalive of {len(data)} bytes")
    _, end, _, reply = _KEEPALIVE.unpack(data)
    return Keepalive(end, bool(reply))


def payload_lsn(data: bytes) -> int:
    """The WAL position of an XLogData message."""
    if len(data) < PAYLOAD + 1:
        raise violation(f"an XLogData message of {len(data)} bytes")
    lsn: int = _LSN.unpack_from(data, 1)[0]
    return lsn


def status_update(received: int, flushed: int, now_us: int, reply: bool = False) -> bytes:
    """A standby status update. `flushed` frees WAL, so it must be durable; it is told as applied, too.

    reply: the server shall answer at once, with a keepalive.
    """
    return _STATUS.pack(b"r", received, flushed, flushed, now_us - PG_EPOCH_US, reply)

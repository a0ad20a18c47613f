"""A row and what is said of it, joined to one record of the log.

Contract: `join_record` gives `change.envelope.table_schema`'s bytes of a change whose parts are encoded already;
`record` is the same function, compiled where that could be built (`decode.accelerator`).
"""

from __future__ import annotations

from collections.abc import Callable

from connector.source.decode.accelerator import native
from connector.source.decode.converters import base128, zigzag

_ZIGZAG = [zigzag(number) for number in range(4096)]
_from_bytes = int.from_bytes


def join_record(
    head: bytes,
    row: bytes,
    second: bytes,
    context: bytes,
    data: bytes,
    ordinal: int,
    op: bytes,
    identity: bytes,
    order: int,
) -> bytes:
    """One record, not marked as its transaction's last.

    head: header and union branch of `before`; row, second: the rows' bytes; context: from `source` to the LSN;
    data: the XLogData message, which begins with the LSN of the change; op, identity: constant parts between the
    numbers; ordinal, order: the change's number in its transaction, and among those of its table.
    """
    number = _ZIGZAG[ordinal] if ordinal < 4096 else zigzag(ordinal)
    return b"".join(
        (
            head,
            row,
            second,
            context,
            base128(_from_bytes(data[1:9]) << 1),
            number,
            op,
            identity,
            number,
            _ZIGZAG[order] if order < 4096 else zigzag(order),
            b"\0",
        )
    )


record: Callable[[bytes, bytes, bytes, bytes, bytes, int, bytes, bytes, int], bytes] = (
    join_record if native is None else native.record
)

"""Which LSN may be confirmed: the one place that decides it.

Invariant: `confirmed` never passes a commit whose changes are not durable in the log and the keyed index, and never
falls. The server's own end is adopted only outside an open transaction and with nothing undurable, so that an idle
table lets WAL go and a busy one loses nothing.
"""

from __future__ import annotations


class Progress:
    """LSNs of one streaming session; used from the capture thread only."""

    __slots__ = ("_handed_over", "began", "confirmed", "durable", "in_transaction", "received", "server_end")

    def __init__(self, confirmed: int) -> None:
        self.began = confirmed
        self.received = confirmed
        self.durable = confirmed
        self.confirmed = confirmed
        self.server_end = confirmed
        self._handed_over = confirmed
        self.in_transaction = False
        """Whether a transaction is open: nothing of the server's may be adopted then."""

    def committed(self, end_lsn: int) -> None:
        """A transaction ended at `end_lsn` and is on its way to the log."""
        self.in_transaction = False
        self._handed_over = max(self._handed_over, end_lsn)
        self.received = max(self.received, end_lsn)

    def made_durable(self, end_lsn: int) -> None:
        """Everything up to `end_lsn` is durable in log and index."""
        self.durable = max(self.durable, end_lsn)
        self.confirmed = max(self.confirmed, self.durable)

    def server_at(self, end: int) -> None:
        """The server has sent everything before `end`."""
        self.server_end = max(self.server_end, end)
        self.received = max(self.received, end)
        if not self.in_transaction and self.durable >= self._handed_over:
            self.confirmed = max(self.confirmed, end)

    @property
    def pending(self) -> bool:
        """Something was received that is not durable yet."""
        return self.in_transaction or self.durable < self._handed_over

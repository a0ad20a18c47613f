"""Proof that a server's WAL is the one that the log was made from (pure).

Contract: a slot that stands before the last logged commit makes the server send that commit again. A server that does
not (another commit comes, or the server is past it without) has another history: it was restored to an earlier moment
and went on from there, on the same timeline and with an older copy of our slot. LSN and commit time together are proof
enough: two histories may well have commits of equal length, but not at the same microsecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connector.change.position import lsn_text
from connector.change.record import EPOCH, Change
from connector.errors import SourceGap


@dataclass(frozen=True, slots=True)
class Proof:
    """The commit that has to come. `commit_time_us`: None when it is not known."""

    commit_lsn: int
    commit_time_us: int | None

    def begun(self, commit_lsn: int, commit_time_us: int) -> Proof | None:
        """A transaction has come: None when it is the proof. SourceGap when it proves the contrary."""
        if commit_lsn < self.commit_lsn:
            return self
        if commit_lsn == self.commit_lsn and self.commit_time_us in (None, commit_time_us):
            return None
        raise self._refuted()

    def passed(self, server_end: int) -> Proof:
        """The server has sent everything before `server_end`. SourceGap when the commit was not in it."""
        if server_end > self.commit_lsn:
            raise self._refuted()
        return self

    def _refuted(self) -> SourceGap:
        return SourceGap(
            "resume from the replication slot",
            "source.dsn",
            f"the server's WAL does not have the transaction that the log has of {lsn_text(self.commit_lsn)}: it was"
            " restored to an earlier moment and went on from there",
            "what is in the log is safe; the next start says how to go on",
        )


def proof_of(tails: Mapping[int, Change], confirmed: int) -> Proof | None:
    """What a slot that stands at `confirmed` has to send again; None when that is nothing that the log has."""
    last = max(tails.values(), key=lambda change: (change.position, change.transaction is not None), default=None)
    if last is None or last.position.ordinal == 0 or last.position.commit_lsn < confirmed:
        return None
    timed = last.transaction is not None or last.marker == EPOCH
    return Proof(last.position.commit_lsn, last.commit_time_us if timed else None)

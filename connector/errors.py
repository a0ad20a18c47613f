"""Errors an operator reads.

Contract: whatever goes wrong for a reason outside the program is raised as a `ConnectorError` that says what was
being done (`operation`), to what (`subject`), what happened (`cause`) and how to go on (`mend`: the exact SQL, command
or line to change). None of the four ever holds a secret or a row's value. `transient` says whether trying again
unchanged can help; `retryable` is the one function that decides it. What is not a ConnectorError is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_LOST = 1
"""The command ran and found what a person must look at (a lost event, a parked dossier)."""
EXIT_USAGE = 2
"""The command could not do its work, or a check found what keeps others from theirs: it says why and what mends it."""


class ConnectorError(Exception):
    """Something outside the program is wrong; see the module's contract for the four parts."""

    transient = False

    def __init__(self, operation: str, subject: str, cause: str, mend: str) -> None:
        super().__init__(f"{operation}: {subject}: {cause}")
        self.operation = operation
        self.subject = subject
        self.cause = cause
        self.mend = mend


class ConfigError(ConnectorError):
    """The configuration or mapping cannot be used. `subject` is `file:line:column` where one is known."""


class ConfigErrors(ConfigError):
    """Everything that is wrong with a configuration, at once; `problems` has them one by one, never empty."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        if len(errors) == 1:
            super().__init__(first.operation, first.subject, first.cause, first.mend)
        else:
            told = "\n".join(f"{error.subject}: {error.cause}\n      → {error.mend}" for error in errors)
            super().__init__(
                first.operation,
                first.subject.rsplit(":", 2)[0],
                f"{len(errors)} errors\n{told}",
                "correct the lines shown; each says how",
            )
        self.problems = tuple(errors)


class SourceError(ConnectorError):
    """PostgreSQL refused, or is not what the connector needs; trying again unchanged cannot help."""


class SourceUnavailable(SourceError):
    """PostgreSQL cannot be reached, is starting or stopping, or the slot is held by another process."""

    transient = True


class SourceWaits(SourceUnavailable):
    """PostgreSQL is there and is the right one, and this capture has to wait; never a mistake of the address."""


class SlotBusy(SourceWaits):
    """Another process reads the slot: this one waits for its turn."""


class SourceHeld(SourceError):
    """The database and the mapping do not fit together now: the place is kept, and capture goes on when they do."""

    transient = True


class SourceGap(SourceError):
    """The stream lacks changes, or does not tell them whole: capture reads the tables anew, under a new epoch."""

    transient = True


class ProtocolViolation(SourceError):
    """Bytes of the replication stream that PostgreSQL's chapter 55 does not allow."""


class LogError(ConnectorError):
    """The change log refused, or holds what it should not hold."""


class LogUnavailable(LogError):
    """The change log cannot be reached or answers too late."""

    transient = True


class RecordTooLarge(LogError):
    """A change is larger than a record of the log may be, and may not be cut."""


class LogFenced(LogError):
    """A later process has taken over what this one wrote; nothing of this one is written any more."""


class DeliveryError(ConnectorError):
    """The delivery state or EMC's settings are unusable."""


def retryable(error: BaseException) -> bool:
    """Whether the same step may be tried again unchanged. The unknown stops and asks."""
    return isinstance(error, ConnectorError) and error.transient

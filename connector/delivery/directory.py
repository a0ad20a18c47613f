"""The state directory: one deliver process, one file per partition, and a note of which files there were."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import IO

from connector.errors import DeliveryError


class StateDirectory:
    """Holds the directory against a second process, and knows where the partitions' files are."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._attached = path / f"{name}.attached.json"
        self._lock: IO[str] = self._take_lock()

    def known(self, partitions: int) -> frozenset[int]:
        """The partitions whose files were there before.

        DeliveryError when they are of a log that does not have so many partitions.
        """
        of, files = self._known()
        if of not in (0, partitions):
            # More would not do either: dossiers are in other partitions then, whose files know nothing of them.
            raise DeliveryError(
                "open the delivery state",
                str(self._path),
                f"it is of a log with {of} partitions, this log has {partitions}",
                "put that log back, or attach anew (docs/delivery.md#attach-anew): the log's changes are judged again"
                " then, so EMC hears them again",
            )
        return files

    def file(self, partition: int) -> Path:
        """Where the state of a partition is."""
        return partition_path(self._path, self._name, partition)

    def note(self, partitions: int, files: Collection[int]) -> None:
        """Remember which files there must be from now on; survives a power loss as a whole."""
        draft = self._attached.with_suffix(".tmp")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"partitions": partitions, "files": sorted(files)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._attached)
        except OSError as error:
            raise self._unwritable(self._attached, error) from None

    def close(self) -> None:
        """Let another process have it. Never raises."""
        self._lock.close()

    def _known(self) -> tuple[int, frozenset[int]]:
        try:
            found = json.loads(self._attached.read_text(encoding="utf-8"))
            if isinstance(found, list):  # of a version before, which had all of them
                return len(found), frozenset(found)
            return found["partitions"], frozenset(found["files"])
        except FileNotFoundError:
            return 0, frozenset()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DeliveryError(
                "open the delivery state", str(self._attached), str(error), "delete it if all partition files are there"
            ) from None

    def _take_lock(self) -> IO[str]:
        path = self._path / f"{self._name}.lock"
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(path, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise DeliveryError(
                "open the delivery state",
                str(self._path),
                f"another deliver process uses it (pid {holder})",
                "stop that one, or set delivery.state to another directory",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    @staticmethod
    def _unwritable(path: Path, error: OSError) -> DeliveryError:
        return DeliveryError(
            "open the delivery state", str(path), os.strerror(error.errno or 0), "make delivery.state writable"
        )


def partition_path(directory: Path, name: str, partition: int) -> Path:
    """The file of one partition."""
    return directory / f"{name}-{partition:04}.sqlite"


def partition_files(directory: Path, name: str) -> list[tuple[int, Path]]:
    """The files that are there, by partition."""
    pattern = f"{name}-{'[0-9]' * 4}.sqlite"
    return sorted((int(path.stem[-4:]), path) for path in directory.glob(pattern))

"""One capture per data directory, on one machine: a lock that the operating system lets go with the process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from connector.errors import SourceError
from connector.settings import Settings

_TRIES = 5
_PAUSE = 0.05


def locked(settings: Settings) -> bool:
    """Whether a capture of this data directory runs on this machine."""
    try:
        with _path(settings).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _path(settings: Settings) -> Path:
    return settings.source.data / f"{settings.name}.lock"


class DirectoryLock:
    """Holds the data directory of a connector against a second capture on the same machine."""

    def __init__(self, settings: Settings) -> None:
        self._path = _path(settings)
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
            self._lock(self._file)
        except BlockingIOError:
            if self._file is not None:
                self._file.close()
            raise SourceError(
                "start capture", str(self._path), "another capture uses this directory", "stop it, or set source.data"
            ) from None
        except OSError as error:
            raise SourceError(
                "start capture", str(self._path), os.strerror(error.errno or 0), "make source.data writable"
            ) from None

    def _lock(self, file: IO[str]) -> None:
        """Again for a moment: whoever only asks (`locked`) holds it, too."""
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            else:
                return
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

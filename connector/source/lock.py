"""One capture per data directory, on one machine: a lock that the operating system lets go with the process."""

from __future__ import annotations

import fcntl
import os
from typing import IO

from connector.errors import SourceError
from connector.settings import Settings


class DirectoryLock:
    """Holds the data directory of a connector against a second capture on the same machine."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.source.data / f"{settings.name}.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

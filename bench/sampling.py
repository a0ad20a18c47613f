"""Watching one process drain a backlog: how far it is, its processor time and its memory.

Contract: the clock starts when the first changes can be read and ends when the last can, so that neither the start of
a virtual machine nor the server's own decoding of the first transaction counts; rate and processor time per change are
of the changes in between. Processor time is the watched process's own and its child processes' (all their threads,
from /proc); memory is the sum of their peaks, from their start.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchFailed(Exception):
    """A reader did not do its work; the text says how far it came."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog drained: changes, seconds and processor seconds between the first and the last readable change."""

    changes: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        """Changes per second."""
        return self.changes / self.seconds

    @property
    def cpu_per_change(self) -> float:
        """Microseconds of processor time."""
        return self.cpu_seconds / self.changes * 1e6


@dataclass(frozen=True, slots=True)
class _Sample:
    progress: int
    at: float
    cpu: float


@dataclass(slots=True)
class Watched:
    """A running reader: what to look at, and where it writes what it has to say."""

    process: subprocess.Popen[bytes]
    output: Path
    attached: Callable[[], bool]
    """Whether its replication slot is in use."""
    progress: Callable[[], int]
    """A number that rises with what can be read of its output, and stops rising when everything is there."""
    finished: Callable[[], bool]
    """Whether it is done, by the slot's position or the number of records."""


def watch(reader: Watched, changes: int, timeout: float) -> Drain:
    """Wait until the backlog is drained. BenchFailed with the reader's last words when it ends early or is too slow."""
    deadline = time.monotonic() + timeout
    wait_until_attached(reader, deadline)
    nothing = reader.progress()
    # One for every different progress.
    samples: list[_Sample] = []
    finished = False
    while not finished:
        finished = reader.finished()
        progress = reader.progress()
        if progress > (samples[-1].progress if samples else nothing):
            samples.append(_Sample(progress, time.monotonic(), _cpu(reader.process.pid)))
        if not finished:
            _pause(reader, deadline, f"its progress is {progress}, after {nothing} at the start")
    if len(samples) < 2:
        raise BenchFailed("too few changes to measure: all were there at once")
    first, last = samples[0], samples[-1]
    share = (last.progress - first.progress) / (last.progress - nothing)
    return Drain(changes * share, last.at - first.at, last.cpu - first.cpu, _peak(reader.process.pid))


def wait_until_attached(reader: Watched, deadline: float) -> None:
    """Wait until the reader streams from its slot; `deadline` is a value of time.monotonic."""
    while not reader.attached():
        _pause(reader, deadline, "it does not stream from its slot")


def _pause(reader: Watched, deadline: float, state: str) -> None:
    """Let some time go by. BenchFailed when the reader ended or the time is over."""
    try:
        code = reader.process.wait(_INTERVAL)
    except subprocess.TimeoutExpired:
        if time.monotonic() < deadline:
            return
        raise BenchFailed(f"too slow: {state}\n{last_words(reader.output)}") from None
    raise BenchFailed(f"it ended with {code}: {state}\n{last_words(reader.output)}")


def last_words(output: Path, lines: int = 15) -> str:
    """The end of what a process wrote."""
    return "\n".join(output.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _cpu(pid: int) -> float:
    """Processor time of a process, its threads and its children, seconds (proc(5), stat fields 14 and 15)."""
    seconds = 0.0
    for each in _family(pid):
        fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / _TICKS
    return seconds


def _peak(pid: int) -> int:
    """Peak resident memory of a process and its children, bytes (proc(5), status VmHWM)."""
    kibibytes = 0
    for each in _family(pid):
        status = Path(f"/proc/{each}/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        kibibytes += int(line.split()[1])
    return kibibytes * 1024


def _family(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in children.read_text(encoding="utf-8").split()]
    return found

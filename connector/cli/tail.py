"""`emc-cdc tail`: what the change log holds, as it is or as it grows, on either kind of log.

Contract: reads only. Records of one partition are shown in its order; the last records of several partitions in the
order of their positions. `-n` counts records that pass the filter, looked for backwards in windows that grow fourfold,
so the end of a long log costs little. Every record is one line, flushed before the next; text from a row never reaches
the terminal with a control character. A reader of the output that went away ends the command quietly.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from connector import configuration as configurations
from connector.change.decoding import HEADER, ChangeDecoder
from connector.change.envelope import dossier_key
from connector.change.json_decoding import FIRST_BYTE
from connector.change.json_form import JsonForm
from connector.change.partitioner import partition_of
from connector.change.position import lsn_text
from connector.change.record import EPOCH, SNAPSHOT_BEGIN, SNAPSHOT_END, Change, Op
from connector.change.selection import Role, Selection
from connector.cli.terminal import DEFAULT_CONFIG, ConfigOption, stop_on_signals
from connector.errors import LogError
from connector.log.contract import LogReader, Record
from connector.log.opening import open_reader
from connector.mapping.marks import nearest

_LAST = 20
_WINDOW = 64
_LIMIT = 500
_WAIT = 0.2
_EPOCH_BEGAN = datetime(1970, 1, 1, tzinfo=UTC)
_MARKERS = {SNAPSHOT_BEGIN: "snapshot begins", SNAPSHOT_END: "snapshot ends", EPOCH: "a new epoch begins"}

Shown = tuple[Record, Change]


def tail(
    config: ConfigOption = DEFAULT_CONFIG,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    last: Annotated[
        int | None, typer.Option("--last", "-n", min=0, help=f"How many of the last records.  [default: {_LAST}]")
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Everything the log holds.")] = False,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table, schema.table; may be given several times.")
    ] = None,
    dossier: Annotated[
        str | None,
        typer.Option("--dossier", help="Only this dossier: its primary key (a JSON list if of several columns)."),
    ] = None,
    references: Annotated[
        bool, typer.Option("--references", help="With --dossier: the rows of reference tables, too.")
    ] = False,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this partition.")] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document a line, the rows' values in it (personal data).")
    ] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Show what each row became (personal data), not its key alone.")
    ] = False,
) -> None:
    """Show the change log's records, one a line: commit time, partition/offset, op, table, key, LSN.

    Op is c (created), u (updated), d (deleted), r (read by a snapshot), t (truncated) or m (marker, message). Rows are
    personal data: keys are shown and no values, unless --values or --json asks for them.

    Example: emc-cdc tail --follow

    Example: emc-cdc tail --dossier 10423 --from-beginning --values

    Example: emc-cdc tail -n 1000 --table public.opencps_dossier --json | jq .value.after
    """
    configuration = configurations.load(config)
    selection = configuration.plan.selection
    _require_captured(table or [], selection)
    if from_beginning and last is not None:
        raise _refused("--from-beginning, --last", "one excludes the other", "leave one of them out")
    if dossier is not None and partition is not None:
        raise _refused("--dossier, --partition", "a dossier is in one partition, which is found", "leave one out")
    wanted = _Filter(selection, frozenset(table or ()), None if dossier is None else dossier.encode(), references)
    with stop_on_signals() as stop:
        reader = open_reader(configuration.settings)
        try:
            partitions = _partitions(reader, partition, wanted.dossier)
            line = _Lines(reader, json_output, values)
            shown = _Reading(reader, partitions, wanted, stop)
            _write(map(line.of, shown.records(_LAST if last is None else last, from_beginning, follow)))
        finally:
            reader.close()


def _partitions(reader: LogReader, partition: int | None, dossier: bytes | None) -> list[int]:
    if dossier is not None:
        return [partition_of(dossier, reader.partitions)]
    if partition is None:
        return list(range(reader.partitions))
    if partition >= reader.partitions:
        told = f"the log has partitions 0 to {reader.partitions - 1}"
        raise _refused(f"--partition {partition}", told, "give one of these")
    return [partition]


def _require_captured(tables: list[str], selection: Selection) -> None:
    captured = [one.full_name for one in selection.tables]
    for name in tables:
        if name not in captured:
            near = nearest(name, captured)
            mend = f"{near + ' ' if near else ''}captured are: {', '.join(captured)}"
            raise _refused(f"--table {name}", "no such table is captured", mend)


def _refused(subject: str, cause: str, mend: str) -> LogError:
    return LogError("show the log", subject, cause, mend)


@dataclass(slots=True)
class _Filter:
    """Which records are shown. Remembers whose the children are: a child's delete may hold its key alone."""

    selection: Selection
    tables: frozenset[str]
    dossier: bytes | None
    references: bool
    _ours: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)

    def passes(self, change: Change) -> bool:
        table = change.table
        if self.tables and table not in self.tables:
            return False
        return self.dossier is None or self._of_dossier(change, table)

    def _of_dossier(self, change: Change, table: str) -> bool:
        known = next((one for one in self.selection.tables if one.full_name == table), None)
        if known is None:
            return False
        if known.role is Role.REFERENCE:
            return self.references
        if change.op is Op.TRUNCATE:
            return True
        if known.role is Role.DOSSIER:
            return dossier_key(change.key) == self.dossier
        row = change.after or change.before or {}
        link = row.get(known.link or "")
        child = (table, change.key)
        if link is None:
            return change.op is Op.DELETE and child in self._ours
        if dossier_key((str(link),)) != self.dossier:
            self._ours.discard(child)
            return False
        self._ours.add(child)
        return True


class _Reading:
    """The records to show, in order, until there are no more or `stop` is set."""

    def __init__(self, reader: LogReader, partitions: list[int], wanted: _Filter, stop: threading.Event) -> None:
        self._reader = reader
        self._partitions = partitions
        self._wanted = wanted
        self._stop = stop
        self._decoder = ChangeDecoder(reader.schema)

    def records(self, last: int, from_beginning: bool, follow: bool) -> Iterator[Shown]:
        """The last ones or all, then what comes."""
        if from_beginning:
            self._assign(self._reader.beginnings())
            yield from filter(self._passes, self._up_to_end())
        elif last:
            yield from self._last(last)
        else:
            self._assign(self._reader.ends())
        while follow and not self._stop.is_set():
            records = self._reader.poll(_WAIT, _LIMIT)
            if not records and _nobody_reads():
                return
            yield from filter(self._passes, map(self._decoded, records))

    def _assign(self, offsets: Mapping[int, int]) -> None:
        self._reader.assign({number: offsets[number] for number in self._partitions})

    def _last(self, count: int) -> list[Shown]:
        """The last `count` that pass, by position. Certain once nothing unread can be later than the first of them."""
        beginnings, ends = self._reader.beginnings(), self._reader.ends()
        window = max(_WINDOW, 2 * count)
        while True:
            starts = {p: max(beginnings[p], ends[p] - window) for p in self._partitions}
            self._assign(starts)
            kept: list[Shown] = []
            oldest: dict[int, Change] = {}
            for shown in self._up_to_end():
                oldest.setdefault(shown[0].partition, shown[1])
                if self._passes(shown):
                    kept.append(shown)
                    if len(kept) > 4 * count + _LIMIT:
                        kept = _latest(kept, count)
            kept = _latest(kept, count)
            unread = [p for p in self._partitions if starts[p] > beginnings[p]]
            known = len(kept) == count and all(
                p in oldest and oldest[p].position <= kept[0][1].position for p in unread
            )
            if known or not unread or self._stop.is_set():
                return kept
            window *= 4

    def _up_to_end(self) -> Iterator[Shown]:
        """From what is assigned up to the log's end as it is now."""
        ends = self._reader.ends()
        while not self._stop.is_set() and any(at < ends[p] for p, at in self._reader.positions().items()):
            yield from map(self._decoded, self._reader.poll(_WAIT, _LIMIT))

    def _decoded(self, record: Record) -> Shown:
        return record, self._decoder.decode(record.key, record.value)

    def _passes(self, shown: Shown) -> bool:
        return self._wanted.passes(shown[1])


def _latest(shown: list[Shown], count: int) -> list[Shown]:
    return sorted(shown, key=lambda one: (one[1].position, one[0].partition, one[0].offset))[-count:]


class _Lines:
    """A record as a line."""

    def __init__(self, reader: LogReader, as_json: bool, values: bool) -> None:
        self._reader = reader
        self._as_json = as_json
        self._values = values
        self._forms: dict[int, JsonForm] = {}

    def of(self, shown: Shown) -> str:
        record, change = shown
        if self._as_json:
            document = {"partition": record.partition, "offset": record.offset, "key": json.loads(record.key)}
            return _printable(json.dumps(document | {"value": self._form(record.value)}, ensure_ascii=False))
        time = (_EPOCH_BEGAN + timedelta(microseconds=change.commit_time_us)).astimezone()
        about = [change.table, *change.key]
        if change.marker is not None:
            about = [f"-- {_MARKERS.get(change.marker, change.marker)} --"]
        parts = [
            time.isoformat(" ", "milliseconds"),
            f"{record.partition}/{record.offset}",
            change.op.value,
            *about,
            lsn_text(change.lsn),
        ]
        if change.truncated:
            parts.append(f"(cut: {', '.join(change.truncated)})")
        if self._values and change.after is not None:
            parts.append(json.dumps(self._form(record.value)["after"], ensure_ascii=False))
        return _printable(" ".join(parts))

    def _form(self, value: bytes) -> dict[str, Any]:
        if value[0] == FIRST_BYTE:
            found: dict[str, Any] = json.loads(value)
            return found
        number = int.from_bytes(value[1:HEADER], "big")
        if number not in self._forms:
            self._forms[number] = JsonForm(self._reader.schema(number))
        return self._forms[number].record(value)


def _printable(line: str) -> str:
    """What is not printable as JSON writes it, so that no row's text moves the cursor or ends the line."""
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in line)


def _write(lines: Iterable[str]) -> None:
    """One by one. A pipe that nobody reads any more is the end, not an error."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose other end was closed: an idle log would never find out by writing."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))

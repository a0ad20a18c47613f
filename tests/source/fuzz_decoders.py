"""Foreign bytes into every decoder of the replication stream: `python tests/source/fuzz_decoders.py RUNS [SEED]`.

Contract of what is tested: parse, both transcoders, the assembler and the spool raise ProtocolViolation or another
SourceError for bytes that no PostgreSQL would send, never anything else; and both transcoders say the same.
With atheris installed (`make chaos` does so) it chooses the inputs by the code they reach; without it they are
mutations of the golden messages by a seeded random. Ends with 1 and the input at the first other exception.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1]), str(HERE.parent)]

ATHERIS = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
if ATHERIS:
    import atheris  # type: ignore[import-not-found,unused-ignore]

    # Each needs its own import under the instrumentation: what is imported before is not seen.
    _instrumented: Any = atheris.instrument_imports(
        include=["connector.source.decode", "connector.source.assembler", "connector.source.spool"]
    )
    _instrumented.__enter__()

from attached_source import SELECTION  # noqa: E402

from connector.change.columntype import OTHER  # noqa: E402
from connector.change.shape import Column, Shape  # noqa: E402
from connector.errors import SourceError  # noqa: E402
from connector.settings import Settings  # noqa: E402
from connector.source.assembler import Assembler  # noqa: E402
from connector.source.basetypes import BaseType, BaseTypes  # noqa: E402
from connector.source.catalog import CatalogTable  # noqa: E402
from connector.source.decode import native  # noqa: E402
from connector.source.decode.messages import Relation, parse  # noqa: E402
from connector.source.decode.transcoder import PADDING, Transcoder, compile_transcoder  # noqa: E402
from connector.source.index import KeyedIndex  # noqa: E402
from connector.source.json_records import JSON  # noqa: E402
from connector.source.oversize import RecordBound  # noqa: E402
from connector.source.recordform import AVRO  # noqa: E402
from connector.source.spool import STREAM_MESSAGES, Spool  # noqa: E402

if ATHERIS:
    _instrumented.__exit__(None, None, None)

GOLDEN = HERE.parent / "golden"
HEADER = b"w" + bytes(24)
_ROUND = 2000
"""Inputs between two fresh starts of whatever remembers."""


def golden(version: int) -> list[list[bytes]]:
    """The recorded messages of a server, one list for each protocol version. Stream messages come with the later."""
    readings: list[list[bytes]] = []
    for line in (GOLDEN / f"pg{version}.hex").read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            readings.append([])
        else:
            readings[-1].append(bytes.fromhex(line))
    return readings


VERSIONS = tuple(sorted(int(path.stem[2:]) for path in GOLDEN.glob("pg*.hex")))
SEEDS = sorted({message for version in VERSIONS for reading in golden(version) for message in reading})


def _outcome(action: Callable[[], object]) -> object:
    """What it gives, or that it refused as documented."""
    try:
        return action()
    except SourceError:
        return SourceError


class Decoders:
    """Everything that reads pgoutput, with the tables of attached_source. Used in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._index: KeyedIndex | None = None
        self._given = 0
        self._form = JSON
        first = golden(VERSIONS[0])[0]
        self._begin = next(message for message in first if message[0] == ord("B"))
        self._relations: dict[str, bytes] = {}
        for message in first:
            if message[0] == ord("R"):
                relation = parse(message)
                assert isinstance(relation, Relation)
                self._relations.setdefault(f"{relation.schema}.{relation.table}", message)
        self._catalog: dict[str, CatalogTable] = {}
        self._transcoders: list[list[Transcoder]] = []
        for table in SELECTION.tables:
            relation = parse(self._relations[table.full_name])
            assert isinstance(relation, Relation)
            kept = {"id", *table.columns, *([table.link] if table.link else [])}
            columns = tuple(Column(c.name, c.type_oid, c.typmod, c.key) for c in relation.columns if c.name in kept)
            shape = Shape(relation.schema, relation.table, columns)
            names = [column.name for column in relation.columns]
            self._transcoders.append([compile_transcoder(names, shape, table.link, one) for one in (None, native)])
            numbers = {name: at + 1 for at, name in enumerate(names)}
            self._catalog[table.full_name] = CatalogTable(
                table, shape, relation.oid, "d", -1, numbers, (), numbers, ("id",)
            )
        self._fresh()

    def one(self, message: bytes) -> None:
        """One pgoutput message of anybody's making. Raises what no decoder may raise."""
        self._given += 1
        if self._given % _ROUND == 0:
            self._fresh()
        _outcome(lambda: parse(message))
        for portable, compiled in self._transcoders:
            for at in (6, 1):
                if len(message) > at:
                    rows = [
                        _outcome(lambda t=t: t.tuple_row(message + PADDING, at))  # type: ignore[misc] # noqa: B023
                        for t in (portable, compiled)
                    ]
                    assert rows[0] == rows[1], "the transcoders differ"
        if not self.assembler.in_transaction:
            self.assembler.feed(HEADER + self._begin + PADDING)
        _outcome(lambda: self.assembler.feed(HEADER + message + PADDING))
        if self.spool.within or message[:1] in STREAM_SEEDS:
            _outcome(lambda: self._spool(message))

    def _spool(self, message: bytes) -> None:
        transaction = self.spool.take(HEADER + message)
        for found in transaction or ():
            _outcome(lambda found=found: self.assembler.feed(found + PADDING))  # type: ignore[misc]

    def _fresh(self) -> None:
        """New assembler, index and spool, as at the start of a session; each writes the other format."""
        self.close()
        self._form = JSON if self._form is AVRO else AVRO
        self._index = KeyedIndex(self._directory / "index.sqlite")
        self.spool = Spool(self._directory, memory=4096)
        form = "avro" if self._form is AVRO else "json"
        settings = Settings.model_validate({"name": "thu", "source": {"dsn": "x"}, "log": {"format": form}})
        self.assembler = Assembler(
            "thu", "d", 1, self._catalog, 3, {}, self._index, lambda _: 1, lambda: 1_700_000_000_000, lambda _: [],
            known_at=1 << 63, fits=lambda _: None, begins_at=0,
            types=BaseTypes(lambda oids: dict.fromkeys(oids, BaseType(OTHER, -1))), bound=RecordBound(settings),
            form=self._form,
        )  # fmt: skip
        for relation in self._relations.values():
            self.assembler.feed(HEADER + relation + PADDING)

    def close(self) -> None:
        """Let go of files."""
        if self._index is not None:
            self._index.close()
            self.spool.close()


STREAM_SEEDS = frozenset(bytes((kind,)) for kind in STREAM_MESSAGES)


def mutations(seed: int) -> Iterator[bytes]:
    """Golden messages, damaged: cut, joined, bits and bytes and lengths changed. Without end."""
    random = Random(seed)
    while True:
        data = bytearray(random.choice(SEEDS))
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(data) + 1)
            match random.randrange(6):
                case 0:
                    del data[at:]
                case 1:
                    data[at : at + random.randint(1, 8)] = b""
                case 2:
                    data[at:at] = random.randbytes(random.randint(1, 8))
                case 3 if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
                case 4:
                    data[at : at + 4] = random.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1"))
                case _:
                    other = random.choice(SEEDS)
                    data[at:] = other[random.randrange(len(other)) :]
        yield bytes(data)


def run(decoders: Decoders, runs: int, seed: int) -> None:
    """So many mutations. The message that is not refused as documented is part of the error."""
    for _, message in zip(range(runs), mutations(seed), strict=False):
        try:
            decoders.one(message)
        except Exception as error:
            error.add_note(f"seed {seed}; the message: {message.hex()}")
            raise


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """As the module says."""
    runs = int(sys.argv[1])
    with TemporaryDirectory(prefix="emc-cdc-fuzz-") as name:
        directory = Path(name)
        decoders = Decoders(directory)
        began = time.monotonic()
        if not ATHERIS:
            seed = int(sys.argv[2]) if len(sys.argv) > 2 else Random().randrange(1 << 32)
            _tell(f"no atheris; mutations of {len(SEEDS)} golden messages, seed {seed}")
            run(decoders, runs, seed)
            taken = time.monotonic() - began
            _tell(f"{runs} inputs, {runs / taken:.0f} a second: only documented errors")
            return
        corpus = directory / "corpus"
        corpus.mkdir()
        for number, message in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(message)
        count = 0

        def target(data: bytes) -> None:
            nonlocal count
            count += 1
            decoders.one(data)
            if count >= runs:
                taken = time.monotonic() - began
                _tell(f"{count} inputs, {count / taken:.0f} a second: only documented errors")

        seeded = [f"-seed={sys.argv[2]}"] if len(sys.argv) > 2 else []
        options = [
            "-max_len=600",
            f"-artifact_prefix={HERE.parents[2]}/.cache/",
            "-print_final_stats=0",
            "-verbosity=0",
        ]
        atheris.Setup([sys.argv[0], f"-runs={runs}", *options, *seeded, str(corpus)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Imports run one way, as the table in docs/architecture.md says; pure rooms reach for nothing outside.

A room is a package or module directly below `connector`. The table is the only place that says who may import whom;
which rooms are pure is said there, too, by the word "(pure)".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYTHING = "everything"
# `emc` is pure but for the simulator, which is a server.
IMPURE = ("emc.simulator",)
OUTSIDE = frozenset(
    {
        "asyncio",
        "concurrent",
        "logging",
        "multiprocessing",
        "os",
        "random",
        "selectors",
        "signal",
        "socket",
        "ssl",
    }
    | {"structlog", "subprocess", "threading", "time", "urllib.request"}
    | {"confluent_kafka", "httpx", "psycopg", "sqlite3"}
)
CLOCKS = frozenset({"now", "utcnow", "today"})


@dataclass(frozen=True, slots=True)
class Room:
    """One line of the table. `may` is None where everything may be imported, but for `but`."""

    name: str
    pure: bool
    may: frozenset[str] | None
    but: frozenset[str] = frozenset()

    def allows(self, other: str) -> bool:
        if other == self.name:
            return True
        return other not in self.but if self.may is None else other in self.may


def rooms(page: str) -> dict[str, Room]:
    """The table's rooms by name."""
    found = {}
    for name, holds, may in re.findall(r"^\| `(\w+)` \| (.*?) \| ?(.*?) ?\|$", page, re.MULTILINE):
        words = frozenset(re.findall(r"[a-z_]+", may))
        if EVERYTHING in words:
            found[name] = Room(name, False, None, words - {EVERYTHING, "but", "and"})
        else:
            found[name] = Room(name, "(pure)" in holds, words)
    return found


def violations(package: Path, table: dict[str, Room]) -> list[str]:
    """What the files of `package` import against the table, each as `file:line: reason`."""
    found = []
    for file in sorted(package.rglob("*.py")):
        module = ".".join(file.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if not module:
            continue
        room = table.get(module.split(".")[0])
        where = file.relative_to(package.parent)
        if room is None:
            found.append(f"{where}:1: the table has no room '{module.split('.')[0]}'")
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        pure = room.pure and not any(f"{module}.".startswith(f"{impure}.") for impure in IMPURE)
        home = file.relative_to(package.parent).parts[:-1]
        for line, name in imported(tree, home):
            other = room_of(name, package.name, table)
            if other is not None and not room.allows(other):
                found.append(f"{where}:{line}: '{room.name}' may not import '{other}'")
            if other is not None and pure and any(f"{name}.".startswith(f"{package.name}.{i}.") for i in IMPURE):
                found.append(f"{where}:{line}: a pure room may not import {name}")
            if pure and any(f"{name}.".startswith(f"{outside}.") for outside in OUTSIDE):
                found.append(f"{where}:{line}: a pure room may not import {name}")
        if pure:
            found += [f"{where}:{line}: a pure room may not ask the clock" for line in clock_readings(tree)]
    return found


def imported(tree: ast.AST, home: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a module in package `home` imports, wherever the import stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, each.name) for each in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*home[: len(home) - level + 1]] if level else []
                base += [module] if module else []
                yield from ((node.lineno, ".".join([*base, each.name])) for each in names)


def room_of(name: str, package: str, table: dict[str, Room]) -> str | None:
    """The room that an imported name is from; None for what is not ours, or is the package itself."""
    parts = name.split(".")
    if parts[0] != package or len(parts) < 2:
        return None
    return parts[1] if parts[1] in table else None


def clock_readings(tree: ast.AST) -> Iterator[int]:
    """Lines that call `datetime.now()` and its like."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name)) if name in CLOCKS:
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="datetime" | "date"), attr=name)) if (
                name in CLOCKS
            ):
                yield node.lineno


def test_the_rooms_import_as_the_table_says() -> None:
    """No module of the connector imports a room that its own may not, and pure ones stay pure."""
    table = rooms((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert violations(ROOT / "connector", table) == []


def test_the_table_is_read_whole() -> None:
    """Every room that exists has a line, the pure ones say so, and the lines name only rooms."""
    table = rooms((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    there = {path.stem for path in (ROOT / "connector").glob("[a-z]*") if path.is_dir() or path.suffix == ".py"}
    assert there <= table.keys()
    assert {"change", "mapping", "emc"} <= {room.name for room in table.values() if room.pure}
    for room in table.values():
        assert (room.may or frozenset()) | room.but <= table.keys(), room.name


PAGE = """\
| room | holds | may import |
|---|---|---|
| `low` | values (pure) | |
| `emc` | rules (pure); simulator | low |
| `high` | servers | low emc |
| `top` | all of it | everything but cli |
| `cli` | commands | everything |
"""


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("low/a.py", "from package.high import x", "package/low/a.py:1: 'low' may not import 'high'"),
        ("low/a.py", "import package.high.b", "package/low/a.py:1: 'low' may not import 'high'"),
        ("low/a.py", "from package import high", "package/low/a.py:1: 'low' may not import 'high'"),
        ("low/a.py", "from ..high.b import x", "package/low/a.py:1: 'low' may not import 'high'"),
        ("low/a.py", "def f():\n    from .. import high", "package/low/a.py:2: 'low' may not import 'high'"),
        ("low.py", "from . import high", "package/low.py:1: 'low' may not import 'high'"),
        ("low/a.py", "import os.path", "package/low/a.py:1: a pure room may not import os.path"),
        ("low/a.py", "from os import environ", "package/low/a.py:1: a pure room may not import os.environ"),
        ("low/a.py", "import structlog", "package/low/a.py:1: a pure room may not import structlog"),
        ("low/a.py", "\ndatetime.now()", "package/low/a.py:2: a pure room may not ask the clock"),
        ("low/a.py", "dt.datetime.utcnow()", "package/low/a.py:1: a pure room may not ask the clock"),
        (
            "emc/rules.py",
            "from package.emc.simulator import x",
            "package/emc/rules.py:1: a pure room may not import package.emc.simulator.x",
        ),
        ("top.py", "import package.cli.run", "package/top.py:1: 'top' may not import 'cli'"),
        ("attic/a.py", "", "package/attic/a.py:1: the table has no room 'attic'"),
    ],
)
def test_what_is_not_allowed_is_found(tmp_path: Path, file: str, text: str, expected: str) -> None:
    """Each way to import, at its file and line, in a made-up package."""
    assert violations(made_up(tmp_path, file, text), rooms(PAGE)) == [expected]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("__init__.py", "import socket"),
        ("low/a.py", "from datetime import datetime\nimport timeit\nfrom package.low.b import x"),
        ("low/a.py", "from package import __version__"),
        ("high/a.py", "import socket, time\nfrom package.emc.simulator import x\ndatetime.now()"),
        ("emc/simulator/page.py", "import asyncio\nfrom package.low import x"),
        ("emc/simulator.py", "import asyncio"),
        ("cli/run.py", "from package.top import x\nfrom package import high"),
    ],
)
def test_what_is_allowed_is_not(tmp_path: Path, file: str, text: str) -> None:
    """Imports downwards, of the standard library's values, and of anything where the table says so."""
    assert violations(made_up(tmp_path, file, text), rooms(PAGE)) == []


def made_up(directory: Path, file: str, text: str) -> Path:
    """A package with one file."""
    path = directory / "package" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return directory / "package"

"""The legacy application knows nothing of the connector, and the oracle shares no code with either."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest


def imported(file: Path) -> set[str]:
    """Every module that a source file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively"
            found.add(node.module or "")
    return found


def test_the_application_imports_only_its_own_package(repository: Path) -> None:
    """No source file of the legacy application names another module of ours."""
    for file in sorted((repository / "connector/demo/legacy").rglob("*.py")):
        foreign = {
            name
            for name in imported(file)
            if name.split(".")[0] == "connector" and not name.startswith("connector.demo.legacy")
        }
        assert not foreign, f"{file.name} imports {foreign}"


def test_the_oracle_imports_nothing_of_ours(repository: Path) -> None:
    """The oracle stands on PostgreSQL and the standard library only."""
    names = imported(repository / "connector/demo/oracle.py")
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"psycopg"}


@pytest.mark.parametrize("module", ["connector.demo.legacy.__main__", "connector.demo.oracle"])
def test_nothing_else_is_loaded_while_it_runs(module: str, repository: Path) -> None:
    """A fresh interpreter that imports the program has loaded none of the connector's rooms."""
    script = f"import json, sys, {module}; print(json.dumps([m for m in sys.modules if m.startswith('connector.')]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if not name.startswith("connector.demo.legacy")}
    assert loaded - {module} == {"connector.demo"}

"""docs/dependencies.md and constraints.txt know every dependency of pyproject.toml, and no more."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def asked_for() -> list[str]:
    """The requirements of pyproject.toml, without our own extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups += project["project"]["optional-dependencies"].values()
    return [requirement for group in groups for requirement in group if not requirement.startswith("emc-cdc")]


def test_every_dependency_has_its_reason_and_licence() -> None:
    """The page's tables list exactly what pyproject.toml asks for, each with a reason and a licence."""
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([^`]+)` \| (\S.*\S) \| (\S.*\S) \|$", page, re.MULTILINE)
    names = [re.match(r"[A-Za-z0-9_.\[\]-]+", requirement) for requirement in asked_for()]
    assert sorted(name for name, _, _ in lines) == sorted(name[0] for name in names if name)


def test_every_dependency_is_pinned() -> None:
    """constraints.txt holds one exact version of each, and nothing but versions."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert all(pins), lines
    pinned = {pin[1].lower().replace("_", "-") for pin in pins if pin}
    wanted = {re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower() for requirement in asked_for()} - {"setuptools"}
    assert wanted <= pinned

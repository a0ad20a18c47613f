"""docs/emc.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from connector.emc.rules import RULES
from connector.emc.simulator import examination, parsing
from connector.emc.simulator.faults import FAULTS
from connector.emc.wire import PARAMETERS
from connector.settings import EmcSettings

PAGE = Path(__file__).parents[2].joinpath("docs/emc.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]


def rows(first: str) -> list[list[str]]:
    """The table rows whose first cell fits a pattern."""
    return [row for row in ROWS if re.fullmatch(first, row[0])]


def test_the_rules_are_told_as_they_are() -> None:
    """Number, severity, parameter, both texts and source, in order."""
    told = [[rule.id, rule.severity, rule.parameter, rule.vi, rule.en, rule.source] for rule in RULES]
    assert rows(r"EMC-\d+") == told


def test_every_objection_to_a_request_is_told() -> None:
    """Neither one too few nor one too many."""
    code = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (parsing, examination))
    assert sorted(row[0] for row in rows(r"REQ-\d+")) == sorted(set(re.findall(r"REQ-\d+", code)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_told(name: str) -> None:
    """In the table of parameters."""
    assert rows(name)


def test_the_open_points_name_settings_and_their_defaults() -> None:
    """Every setting of the open points exists, and its default is the one told."""
    defaults = EmcSettings()
    named = [row for row in ROWS if len(row) == 4 and row[1].startswith("`") and not row[0].startswith("`")]
    assert len(named) == 10
    for _, settings, default, _ in named:
        for setting in re.findall(r"`(\w+)`", settings):
            value = getattr(defaults, setting)
            assert not isinstance(value, str) or default.startswith(f"`{value}`"), setting


def test_the_scripted_faults_can_be_set() -> None:
    """The example is a script, and every kind is told."""
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    FAULTS.validate_python(yaml.safe_load(example))
    kinds = FAULTS.json_schema()["$defs"]["Fault"]["properties"]["kind"]["enum"]
    assert sorted(row[0].strip("`") for row in rows(r"`(status|delay|drop\w+|garbage|failure_body)`")) == sorted(kinds)

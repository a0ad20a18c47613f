"""The script of faults: sequences, shares, durations, whom it concerns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.emc.simulator.faults import FAULTS, Fault, Script


def script(*faults: Fault, seed: int = 1) -> Script:
    made = Script(seed)
    made.set(list(faults), 100.0)
    return made


def meets(made: Script, times: int, code: str = "A", now: float = 100.0) -> list[str | None]:
    kinds = []
    for _ in range(times):
        _, fault = made.meet(code, now)
        kinds.append(fault.kind if fault is not None else None)
    return kinds


def test_counted_faults_are_a_sequence() -> None:
    """Each happens as often as it says, in the order of the list, then nothing does."""
    made = script(Fault(kind="status", status=503, count=2), Fault(kind="drop_answer", count=1))
    assert meets(made, 5) == ["status", "status", "drop_answer", None, None]
    assert made.active(100.0) == []


def test_a_delay_goes_before_another_fault() -> None:
    """Delays add up; the first other fault ends the search."""
    made = script(
        Fault(kind="delay", seconds=1.5),
        Fault(kind="delay", seconds=0.5, count=1),
        Fault(kind="garbage", count=1),
        Fault(kind="failure_body"),
    )
    told = [made.meet("A", 100.0) for _ in range(2)]
    assert [(delay, fault.kind if fault else None) for delay, fault in told] == [
        (2.0, "garbage"),
        (1.5, "failure_body"),
    ]


def test_a_fault_for_one_dossier_spares_the_others() -> None:
    """Others neither meet it nor use it up."""
    made = script(Fault(kind="status", status=400, match="A", count=1))
    assert meets(made, 3, "B") == [None, None, None]
    assert meets(made, 2, "A") == ["status", None]


def test_a_fault_ends_when_its_time_is_over() -> None:
    """`for_seconds` counts from when the script was set."""
    made = script(Fault(kind="drop_before", for_seconds=10.0))
    assert meets(made, 1, now=109.9) == ["drop_before"]
    assert meets(made, 1, now=110.0) == [None]
    assert made.active(109.9)
    assert not made.active(110.0)


def test_setting_a_script_replaces_the_one_before() -> None:
    """An empty list ends all faults."""
    made = script(Fault(kind="garbage"))
    made.set([], 200.0)
    assert meets(made, 1) == [None]


@given(st.integers(0, 2**32), st.floats(0.05, 1.0), st.integers(0, 60))
def test_the_same_seed_draws_the_same_faults(seed: int, rate: float, times: int) -> None:
    """Also when the script is set anew; a rate of 1 is always."""
    made = script(Fault(kind="drop_answer", rate=rate), seed=seed)
    first = meets(made, times)
    made.set([Fault(kind="drop_answer", rate=rate)], 100.0)
    assert meets(made, times) == first
    if rate == 1.0:
        assert None not in first


def test_a_rate_is_about_the_share_it_says() -> None:
    """A fifth of a thousand requests, give or take; seeded, so always the same."""
    assert 150 < meets(script(Fault(kind="drop_answer", rate=0.2)), 1000).count("drop_answer") < 250


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "status"},
        {"kind": "status", "status": 200},
        {"kind": "status", "status": 503, "seconds": 1},
        {"kind": "status", "status": 429, "retry_after": 1, "retry_after_date": 1},
        {"kind": "delay"},
        {"kind": "delay", "seconds": 0},
        {"kind": "garbage", "status": 503},
        {"kind": "garbage", "retry_after": 1},
        {"kind": "explode"},
        {"kind": "garbage", "rate": 0},
        {"kind": "garbage", "rate": 1.5},
        {"kind": "garbage", "count": 0},
        {"kind": "garbage", "every": 2},
        "garbage",
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: object) -> None:
    """A script with a mistake must not quietly do something else."""
    with pytest.raises(ValidationError):
        FAULTS.validate_python([wrong])

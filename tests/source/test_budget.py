"""The budget's judgement: whose account it is, and that nothing is dropped which dropping would not mend."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from connector.source.budget import Holder, Pace, Policy, judge, size_text

GB = 1024**3
SIZES = st.integers(0, 64 * GB)
POLICIES = st.sampled_from(("alert", "drop_slot"))
IDLE = Holder(False, "4711", "motcua", 1200, 7200, "idle in transaction", "mot-cua web")
PREPARED = Holder(True, "o'hop", "khac", 9000, 3600, None, "")


@given(SIZES, SIZES, st.integers(1, 64 * GB), POLICIES, st.sampled_from(((), (IDLE,), (PREPARED, IDLE))))
def test_what_is_dropped(retained: int, own: int, budget: int, policy: Policy, holders: tuple[Holder, ...]) -> None:
    """Only over the budget, on our own account, and where the operator chose it; within it nothing is said."""
    verdict = judge(retained, own, budget, policy, holders)
    assert verdict.passed == (retained > budget)
    assert verdict.drop == (policy == "drop_slot" and retained > budget and own > budget)
    assert bool(verdict.cause) == bool(verdict.mend) == verdict.passed
    assert verdict.holders == (holders if verdict.passed and own <= budget else ())


def test_the_holder_is_named_with_what_ends_it() -> None:
    """A transaction by its process, age, state and application; a prepared one by its name, quoted as SQL wants it."""
    verdict = judge(9 * GB, GB, 8 * GB, "drop_slot", [PREPARED, IDLE])
    assert "the slot holds back 9 GB of WAL, more than source.wal_budget (8 GB)" in verdict.cause
    assert "server process 4711 (of mot-cua web, in database motcua" in verdict.cause
    assert "for 7200 s, idle in transaction)" in verdict.cause
    assert verdict.cause.endswith("the slot is kept")
    assert "SELECT pg_terminate_backend(4711);" in verdict.mend.splitlines()
    assert "ROLLBACK PREPARED 'o''hop';  -- or COMMIT PREPARED, in database khac" in verdict.mend.splitlines()


def test_what_our_role_may_not_see_is_left_out() -> None:
    """Without pg_read_all_stats there is no state and no duration: the age in transactions remains."""
    verdict = judge(9 * GB, GB, 8 * GB, "alert", [replace(IDLE, seconds=None, state=None, application="")])
    assert "server process 4711 (in database motcua, open while 1200 others began)" in verdict.cause


def test_what_is_worth_telling_again() -> None:
    """More bytes are not; another holder, another account or the end are."""
    first = judge(9 * GB, GB, 8 * GB, "alert", [IDLE])
    assert judge(11 * GB, GB, 8 * GB, "alert", [replace(IDLE, seconds=9000)]).told_as == first.told_as
    others = [
        judge(9 * GB, GB, 8 * GB, "alert", [PREPARED]),
        judge(9 * GB, 9 * GB, 8 * GB, "alert", []),
        judge(7 * GB, GB, 8 * GB, "alert", [IDLE]),
    ]
    assert first.told_as not in [one.told_as for one in others]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_a_distance_that_shrinks_is_no_standstill(distances: list[int]) -> None:
    """Time counts from the last look at which less was left than ever before."""
    pace = Pace()
    for now, distance in enumerate(distances):
        seen = distances[: now + 1]
        assert pace.standing_for(distance, float(now)) == now - seen.index(min(seen))
    pace.forget()
    assert pace.standing_for(1000, 50.0) == 0


def test_sizes_are_written_as_postgresql_writes_them() -> None:
    """In powers of 1024, with at most one decimal."""
    assert [size_text(size) for size in (0, 1023, 1024, 1536 * 1024, 8 * GB, 3000 * GB)] == (
        ["0 bytes", "1023 bytes", "1 kB", "1.5 MB", "8 GB", "2.9 TB"]
    )

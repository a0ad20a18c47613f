"""When to try again, and when to try at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.delivery.pacing import LIMIT, Breaker, backoff
from connector.settings import RetrySettings

SETTINGS = RetrySettings(initial=0.5, maximum=60.0)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_full_jitter(attempt: int, chance: float) -> None:
    """Between nothing and the doubled bound, never above the maximum, also after years of attempts."""
    assert 0 <= backoff(attempt, SETTINGS, chance) < min(60.0, 0.5 * 2 ** min(attempt - 1, 20)) + 1e-9


def broken(now: float = 100.0) -> Breaker:
    """A breaker that `LIMIT` dossiers have just opened."""
    breaker = Breaker(SETTINGS)
    told = [breaker.failed(f"d{number}", now, 0.5) for number in range(LIMIT)]
    assert told == [False] * (LIMIT - 1) + [True]
    return breaker


def test_one_dossier_never_opens_it() -> None:
    """A dossier at which EMC stumbles again and again holds up nobody else."""
    breaker = Breaker(SETTINGS)
    assert not any(breaker.failed("d", float(now), 0.5) for now in range(100))
    assert breaker.allowed(100.0, 32) == 32


def test_an_answer_between_failures_keeps_it_closed() -> None:
    """EMC is there when it takes or rejects something."""
    breaker = Breaker(SETTINGS)
    for number in range(LIMIT * 3):
        breaker.failed(f"d{number}", 100.0, 0.5)
        if number % (LIMIT - 1) == 0:
            breaker.answered()
    assert breaker.allowed(100.0, 32) == 32


def test_open_lets_one_probe_through_after_the_pause() -> None:
    """Nothing before, one at a time after, everything once it was answered."""
    breaker = broken()
    assert breaker.opens_at > 100.0
    assert breaker.allowed(breaker.opens_at - 0.001, 32) == 0
    assert breaker.allowed(breaker.opens_at, 32) == 1
    breaker.began("d0")
    assert breaker.probing
    assert breaker.allowed(breaker.opens_at, 32) == 0
    breaker.answered()
    assert breaker.allowed(breaker.opens_at, 32) == 32


def test_failed_probes_make_the_pauses_longer() -> None:
    """Up to the maximum, and no shorter than half of it, so that chance cannot make a burst."""
    breaker = broken()
    pauses = []
    for _ in range(12):
        now = breaker.opens_at
        breaker.began("d0")
        assert not breaker.failed("d0", now, 0.0)
        pauses.append(breaker.opens_at - now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0


def test_stragglers_do_not_lengthen_the_pause() -> None:
    """Pushes that were out when the breaker opened fail too, and say nothing new."""
    breaker = broken()
    opens_at = breaker.opens_at
    for number in range(100):
        breaker.failed(f"straggler{number}", 100.0, 0.99)
    assert breaker.opens_at == opens_at


def test_a_straggler_that_is_answered_closes_it() -> None:
    """EMC is there after all."""
    breaker = broken()
    breaker.began("d0")
    breaker.answered()
    assert not breaker.open
    assert not breaker.probing


def test_emc_s_own_pause_holds_a_closed_breaker() -> None:
    """Retry-After of a 429: nothing goes out until then, then everything."""
    breaker = Breaker(SETTINGS)
    breaker.pause(107.0)
    breaker.pause(103.0)
    assert (breaker.allowed(106.9, 32), breaker.allowed(107.0, 32)) == (0, 32)

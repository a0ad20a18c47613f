"""Which LSN may be confirmed, whatever the order of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.source.progress import Progress

steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("commit"), st.integers(1, 50)),
        st.tuples(st.just("durable"), st.integers(0, 50)),
        st.tuples(st.just("server"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(steps)
def test_confirmed_never_passes_what_is_durable(story: list[tuple[str, int]]) -> None:
    """Whatever the order of events: confirmed never falls, and never passes a commit that is not durable."""
    progress = Progress(0)
    end = durable = adopted = highest = 0
    inside = False
    for step, amount in story:
        match step:
            case "begin":
                inside = True
                progress.in_transaction = True
            case "commit":
                inside = False
                end += amount
                progress.committed(end)
            case "durable":
                durable = min(end, durable + amount)
                progress.made_durable(durable)
            case _:
                progress.server_at(end + amount)
                if not inside and durable == end:
                    adopted = max(adopted, end + amount)
        assert highest <= progress.confirmed <= max(durable, adopted)
        highest = progress.confirmed
        assert progress.pending == (inside or durable < end)


def test_an_idle_stream_adopts_the_server_s_end() -> None:
    """Nothing of ours is on its way, so the server's end is confirmed and WAL is let go."""
    progress = Progress(100)
    progress.server_at(500)
    assert (progress.confirmed, progress.received, progress.pending) == (500, 500, False)


def test_a_server_end_behind_a_commit_waits_for_the_commit() -> None:
    """A keepalive after a commit that is not durable yet confirms nothing; the commit's durability does."""
    progress = Progress(100)
    progress.in_transaction = True
    progress.server_at(300)
    assert progress.confirmed == 100
    progress.committed(200)
    progress.server_at(400)
    assert (progress.confirmed, progress.pending) == (100, True)
    progress.made_durable(200)
    assert (progress.confirmed, progress.pending) == (200, False)
    progress.server_at(400)
    assert progress.confirmed == 400


def test_old_news_change_nothing() -> None:
    """LSNs that were passed already never bring the confirmed one back."""
    progress = Progress(100)
    progress.server_at(50)
    progress.made_durable(70)
    assert (progress.confirmed, progress.durable, progress.server_end) == (100, 100, 100)

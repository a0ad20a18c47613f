"""The pure comparison of one dossier: nothing is told twice or not at all, and what is paired fits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from connector.reconcile.comparison import Finding, Kind, Ours, Theirs, compare

_values = st.tuples(st.just("A-1"), st.sampled_from("123"), st.sampled_from("xyz"))
_ours = st.builds(
    lambda values, state, attempts, ambiguous, inside: Ours(
        values, values[1], state, max(attempts, ambiguous, state != "waiting"), ambiguous, inside, "p"
    ),
    _values,
    st.sampled_from(("delivered", "delivered", "waiting", "sent", "parked", "discarded")),
    st.integers(0, 2),
    st.integers(0, 1),
    st.booleans(),
)
_theirs = st.builds(lambda values, inside: Theirs(values, values[1], 0, inside), _values, st.booleans())


def kinds(found: list[Finding]) -> Counter[Kind]:
    return Counter(each.kind for each in found)


@given(st.lists(_ours, max_size=6), st.lists(_theirs, max_size=6))
def test_each_is_told_once(ours: list[Ours], theirs: list[Theirs]) -> None:
    """Every event and every row stands in exactly one finding, of a kind that fits it."""
    theirs = [replace(row, row=number) for number, row in enumerate(theirs)]
    ours = [replace(event, position=str(number)) for number, event in enumerate(ours)]
    found = compare(ours, theirs)
    assert sorted(each.ours.position for each in found if each.ours) == sorted(event.position for event in ours)
    assert sorted(each.theirs.row for each in found if each.theirs) == [row.row for row in theirs]
    for each in found:
        one, other = each.ours, each.theirs
        match each.kind:
            case Kind.EQUAL:
                assert one
                assert other
                assert one.state == "delivered"
                assert one.values == other.values
            case Kind.DIFFERENT:
                assert one
                assert other
                assert one.status == other.status
                assert each.differing
            case Kind.MISSING:
                assert one
                assert not other
                assert one.state == "delivered"
                assert one.inside
            case Kind.UNKNOWN:
                assert other
                assert not one
                assert other.inside
            case Kind.DUPLICATE:
                assert other
                assert not one
                assert sum(row.values == other.values for row in theirs) > 1
            case Kind.EDGE:
                side = one or other
                assert side
                assert not side.inside
                assert not (one and other)
            case Kind.WAITING | Kind.PARKED | Kind.DISCARDED:
                assert one
                assert one.state != "delivered"


@given(st.lists(_values, max_size=6), st.randoms())
def test_what_was_delivered_and_is_there_is_equal(values: list[tuple[str, ...]], random: object) -> None:
    """However often the same event was due and in whatever order EMC tells them, nothing is found."""
    rows = list(values)
    random.shuffle(rows)  # type: ignore[attr-defined]
    found = compare([_delivered(*each) for each in values], [Theirs(each, each[1], 0, True) for each in rows])
    assert kinds(found) == Counter({Kind.EQUAL: len(values)} if values else {})


def test_a_lost_answer_is_settled_by_the_row() -> None:
    """An attempt without an answer whose event EMC has is no difference; a second row of it is a duplicate."""
    event = Ours(("A-1", "1", "x"), "1", "waiting", 1, 1, True, "p")
    row = Theirs(event.values, "1", 2, True)
    assert [(each.kind, each.at_emc) for each in compare([event], [row])] == [(Kind.WAITING, True)]
    assert kinds(compare([event], [row, row])) == {Kind.WAITING: 1, Kind.DUPLICATE: 1}
    assert [(each.kind, each.at_emc) for each in compare([event], [])] == [(Kind.WAITING, False)]


def test_the_fewest_differences_are_paired() -> None:
    """Of two events of one Status, one missing and one altered at EMC, the altered one is the one told as different."""
    first, second = _delivered("A-1", "1", "x", "a", "b"), _delivered("A-1", "1", "y", "c", "d")
    found = compare([first, second], [Theirs(("A-1", "1", "y", "c", "z"), "1", 2, True)])
    assert {each.kind: (each.ours, each.differing) for each in found} == {
        Kind.DIFFERENT: (second, (4,)),
        Kind.MISSING: (first, ()),
    }


def test_an_event_that_was_never_sent_is_not_paired() -> None:
    """EMC has a row with the values of an event that waits: it is unknown to us."""
    event = Ours(("A-1", "1"), "1", "waiting", 0, 0, True, "p")
    assert kinds(compare([event], [Theirs(event.values, "1", 2, True)])) == {Kind.WAITING: 1, Kind.UNKNOWN: 1}


def _delivered(*values: str) -> Ours:
    return Ours(values, values[1], "delivered", 1, 0, True, "p")

"""What came before is known again; what is new never is."""

from __future__ import annotations

import json

from debezium.envelopes import MYSQL, ORACLE, POSTGRESQL, SQLSERVER
from hypothesis import given
from hypothesis import strategies as st

from connector.debezium.places import Marks, Place, place_of

PLACES = st.builds(
    lambda commit, unit, fine: Place("", (commit,), str(unit), (fine,), ""),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 3),
)
EVENTS = st.lists(st.tuples(PLACES, st.sampled_from("abc")), unique=True, max_size=12)


@given(events=EVENTS, again=st.data())
def test_any_run_may_be_delivered_again(events: list[tuple[Place, str]], again: st.DataObject) -> None:
    """In the order of the log, some of it from an earlier point on, over a restart of ours or not: each is new once."""
    events.sort(key=lambda event: (event[0].commit, event[0].unit, event[0].fine))
    marks = Marks()
    new: list[tuple[Place, str]] = []
    at = 0
    while at < len(events):
        if again.draw(st.integers(0, 3)) == 0:
            at = again.draw(st.integers(0, at))
        if again.draw(st.booleans()):
            marks = Marks(json.loads(json.dumps(marks.dump())))
        if marks.new(*events[at]):
            new.append(events[at])
        at += 1
    assert new == events


def test_a_changed_key_and_a_copied_page_stand_at_one_place() -> None:
    """The events have one position, and are told apart by what they are."""
    place = place_of(POSTGRESQL)
    marks = Marks()
    assert [marks.new(place, identity) for identity in ("d 1", "c 2", "d 1", "c 3")] == [True, True, False, True]


def test_another_server_is_another_line() -> None:
    """After a failover of MySQL nothing is taken for old because its numbers are lower."""
    marks = Marks()
    assert marks.new(place_of({**MYSQL, "file": "mysql-bin.000900"}), "a")
    assert not marks.new(place_of(MYSQL), "b")
    assert marks.new(place_of({**MYSQL, "server_id": 7}), "b")


def test_what_belongs_together() -> None:
    """As far as the source block tells; a binlog without GTIDs does not."""
    assert place_of({**POSTGRESQL, "lsn": 9}).group == place_of(POSTGRESQL).group
    assert place_of({**SQLSERVER, "event_serial_no": 9}).group == place_of(SQLSERVER).group
    assert place_of({**ORACLE, "scn": "9"}).group == place_of(ORACLE).group
    assert place_of({**ORACLE, "txId": "1"}).group != place_of(ORACLE).group
    gtid = {**MYSQL, "gtid": "3E11FA47-71CA-11E1-9E33-C80AA9429562:23"}
    assert place_of({**gtid, "pos": 9}).group == place_of(gtid).group
    assert place_of({**MYSQL, "pos": 9}).group != place_of(MYSQL).group

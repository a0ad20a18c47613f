"""The oracle: what it owes for lives worked out by hand, and that no fault escapes its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from legacy_run import Run

from connector.demo.legacy.actions import Case, Desk
from connector.demo.legacy.lives import Act, Life, Step
from connector.demo.oracle import Arrival, Owed, activity, expected, last_action, normalised, percentile_ms, verdict

Lives = Callable[[Sequence[Sequence[Step]]], list[dict[str, Any]]]


def stage(status: str) -> Step:
    return Step(Act.STAGE, status)


def pay(method: str) -> Step:
    return Step(Act.PAY, method)


def result(way: str) -> Step:
    return Step(Act.RESULT, way)


ONLINE = [[Step(Act.DRAFT)], [Step(Act.SUBMIT)], [Step(Act.ACCEPT)]]
AT_DESK = [[Step(Act.RECEIVE)], [stage("dang_xu_ly")]]


@pytest.fixture(scope="module")
def live(legacy_database: Callable[[str, int], str]) -> Lives:
    """Lives a dossier through the given transactions, and returns the parameters that the oracle owes for it."""
    dsn = legacy_database("by_hand", 0)
    desk_random = Random(1)

    def transactions(steps: Sequence[Sequence[Step]]) -> list[dict[str, Any]]:
        online = steps[0][0].act is Act.DRAFT
        case = Case(Life(0, online, online, 7, None, 1, 2, 4 if online else 10, 10_000, ()))
        since = last_action(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            desk = Desk(connection, desk_random)
            for together in steps:
                with connection.transaction():
                    for step in together:
                        desk.perform(case, step, None)
        owed = expected(dsn, since)
        assert len(owed) <= 1
        return [event.parameters for events in owed.values() for event in events]

    return transactions


def told(events: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(event[name] for name in names) for event in events]


def test_acceptance_owes_received_and_in_process(live: Lives) -> None:
    """An accepted online dossier reaches two milestones in one commit; the draft owes nothing."""
    events = live(ONLINE)
    assert told(events, "Status", "FormsReception", "FormsPayments", "IsDVCBC") == [(1, 1, 0, 0), (2, 1, 0, 0)]
    assert told(events, "SiteId", "CodeTTHC", "Level", "IsFromDVCQG", "Data")[0] == (327, "2.000815", 3, 1, "")
    assert events[0]["NameTTHC"] == "Chứng thực bản sao từ bản chính giấy tờ, văn bản"
    user = events[0]["User"]
    assert (user["TYPE"], user["LOCATION"], set(user)) == (2, "000.00.02.H56", {"ID_QG", "TYPE", "LOCATION"})


def test_an_officer_at_the_desk_is_type_3(live: Lives) -> None:
    """A dossier that an officer entered at the desk: in person, with the officer's local id."""
    events = live(AT_DESK)
    assert told(events, "Status", "FormsReception", "IsFromDVCQG") == [(1, 2, 0), (2, 2, 0)]
    assert (events[0]["User"]["TYPE"], set(events[0]["User"])) == (3, {"ID_local", "TYPE", "LOCATION"})


def test_nothing_is_owed_before_reception(live: Lives) -> None:
    """Withdrawn, declined or deleted before it was received: EMC never hears of it."""
    assert live([*ONLINE[:2], [stage("huy")]]) == []
    assert live([*ONLINE[:2], [stage("tra_lai")]]) == []
    assert live([*ONLINE[:1], [Step(Act.DELETE_DRAFT)]]) == []


def test_refused_or_cancelled_after_reception_is_status_0(live: Lives) -> None:
    """A dossier that ends without a result owes Status 0."""
    assert told(live([*AT_DESK, [stage("tra_lai")]]), "Status") == [(1,), (2,), (0,)]
    assert told(live([*ONLINE, [stage("huy")]]), "Status") == [(1,), (2,), (0,)]


def test_another_stage_owes_nothing_and_supplement_owes_status_2_again(live: Lives) -> None:
    """From stage to stage the dossier stays in process; after a supplement it is in process anew."""
    assert told(live([*AT_DESK, [stage("cho_ky")], [stage("cho_tra")]]), "Status") == [(1,), (2,)]
    assert told(live([*AT_DESK, [stage("cho_bo_sung")], [stage("dang_xu_ly")]]), "Status") == [(1,), (2,), (2,)]


def test_a_transaction_is_judged_as_a_whole(live: Lives) -> None:
    """What was there in between, inside a transaction, was never there."""
    assert told(live([*AT_DESK, [stage("cho_bo_sung"), stage("dang_xu_ly")]]), "Status") == [(1,), (2,)]
    assert told(live([[Step(Act.RECEIVE), result("mot_cua")]]), "Status") == [(1,), (3,)]


@pytest.mark.parametrize(
    ("way", "reception", "post"), [("mot_cua", 2, 0), ("dien_tu", 1, 0), ("vnpost", 1, 1), ("buu_chinh_khac", 1, 2)]
)
def test_the_result_tells_how_it_was_returned(live: Lives, way: str, reception: int, post: int) -> None:
    """At Status 3, and only there, FormsReception and IsDVCBC are the way of returning the result."""
    events = live([*AT_DESK, [result(way)]])
    assert told(events, "Status", "FormsReception", "IsDVCBC") == [(1, 2, 0), (2, 2, 0), (3, reception, post)]


def test_a_payment_is_told_with_the_result(live: Lives) -> None:
    """Paid before or with the result: one Status 3, with the form of payment; in cash it is 2."""
    before = live([*ONLINE, [pay("dvcqg")], [result("dien_tu")]])
    assert told(before, "Status", "FormsPayments") == [(1, 0), (2, 0), (3, 1)]
    together = live([*AT_DESK, [pay("tien_mat"), result("mot_cua")]])
    assert told(together, "Status", "FormsPayments") == [(1, 0), (2, 0), (3, 2)]


def test_a_later_payment_or_refund_corrects_the_result(live: Lives) -> None:
    """After the result every change of the form of payment owes Status 3 again; an equal payment owes nothing."""
    events = live(
        [*ONLINE, [result("dien_tu")], [pay("vi_dien_tu")], [pay("dvcqg")], [pay("tien_mat")], [Step(Act.REFUND)]]
    )
    assert told(events, "Status", "FormsPayments")[2:] == [(3, 0), (3, 1), (3, 2), (3, 1)]
    deleted = live([*ONLINE, [pay("dvcqg")], [result("dien_tu")], [Step(Act.DELETE_PAYMENT)]])
    assert told(deleted, "Status", "FormsPayments")[2:] == [(3, 1), (3, 0)]


def test_a_waiting_payment_is_none(live: Lives) -> None:
    """An invoice counts only when it is confirmed."""
    events = live([*ONLINE, [Step(Act.INVOICE, "dvcqg")], [result("dien_tu")], [Step(Act.CONFIRM)]])
    assert told(events, "Status", "FormsPayments")[2:] == [(3, 0), (3, 1)]


def test_another_unit_in_charge_corrects_the_last_status(live: Lives) -> None:
    """Handing over changes LOCATION, so the last told status is owed again."""
    events = live([*AT_DESK, [Step(Act.HAND_OVER)]])
    assert [(event["Status"], event["User"]["LOCATION"]) for event in events][1:] == [
        (2, "000.00.02.H56"),
        (2, "000.00.05.H56"),
    ]


def test_columns_nobody_maps_owe_nothing(live: Lives) -> None:
    """Notes and dates of the office are not EMC's business."""
    assert told(live([*AT_DESK, [Step(Act.NOTE)], [Step(Act.NOTE), Step(Act.NOTE)]]), "Status") == [(1,), (2,)]


def test_a_whole_run_owes_every_kind_of_event(run: Run) -> None:
    """300 lives owe all statuses, payments, ways, levels and user types; each dossier ends as its table says."""
    owed = expected(run.dsn, run.since)
    events = [event for its in owed.values() for event in its]
    for name, values in {
        "Status": {0, 1, 2, 3},
        "FormsReception": {1, 2},
        "FormsPayments": {0, 1, 2},
        "IsDVCBC": {0, 1, 2},
        "Level": {0, 3, 4},
        "IsFromDVCQG": {0, 1},
    }.items():
        assert {event.parameters[name] for event in events} == values
    assert {event.parameters["User"]["TYPE"] for event in events} == {1, 2, 3}
    assert any(a.parameters["Status"] == b.parameters["Status"] for its in owed.values() for a, b in pairwise(its))
    for its in owed.values():
        assert [event.committed for event in its] == sorted(event.committed for event in its)
    with psycopg.connect(run.dsn) as connection:
        ends = connection.execute("SELECT ma_ho_so, trang_thai FROM motcua.ho_so WHERE ma_ho_so IS NOT NULL").fetchall()
    last = {"da_tra_ket_qua": 3, "tra_lai": 0, "huy": 0}
    status: dict[str, str] = dict(ends)
    assert {code: its[-1].parameters["Status"] for code, its in owed.items()} == {
        code: last[status[code]] for code in owed
    }
    new = [code for code, its in owed.items() if its[0].parameters["Status"] == 1]
    assert 200 < len(new) < len(owed)


def test_old_dossiers_owe_only_what_happens_now(run: Run) -> None:
    """A finished dossier that gets a note owes nothing; one that was in process owes its result, not its past."""
    owed = expected(run.dsn, run.since)
    with psycopg.connect(run.dsn) as connection:
        query = """
            SELECT h.ma_ho_so, h.cap_nhat < h.ngay_tra + interval '1 s', array_agg(j.hanh_dong ORDER BY j.id)
            FROM motcua.ho_so h JOIN motcua.hanh_dong j ON j.ho_so_id = h.id AND j.id > %(since)s
            WHERE h.id IN (SELECT ho_so_id FROM motcua.hanh_dong WHERE id <= %(since)s) GROUP BY h.id"""
        touched = connection.execute(query, {"since": run.since}).fetchall()
    finished = {code for code, _, acts in touched if set(acts) == {"ghi_chu"}}
    continued = {code for code, _, acts in touched if "tra_ket_qua" in acts}
    assert finished
    assert not finished & owed.keys()
    assert continued
    assert {owed[code][0].parameters["Status"] for code in continued} == {3}


def test_attaching_in_the_middle_of_a_life_tells_only_the_rest(
    legacy_database: Callable[[str, int], str],
) -> None:
    """What a dossier had reached before `since` counts as told, and later changes correct it."""
    dsn = legacy_database("attached", 0)
    case = Case(Life(0, True, True, 7, None, 1, 2, 4, 10_000, ()))
    moments: list[int] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        desk = Desk(connection, Random(1))
        for step in [*(its[0] for its in ONLINE), stage("cho_ky"), Step(Act.HAND_OVER), result("vnpost"), pay("dvcqg")]:
            moments.append(last_action(dsn))
            desk.perform(case, step, None)
    statuses = [
        [event.parameters["Status"] for its in expected(dsn, moment).values() for event in its] for moment in moments
    ]
    whole = [1, 2, 2, 3, 3]
    assert statuses == [whole, whole, whole, whole[2:], whole[2:], whole[3:], whole[4:]]


def test_the_truth_is_accepted(run: Run) -> None:
    """What is owed, arriving in order 5 ms after each commit, has no fault, and the latency is 5 ms."""
    owed = expected(run.dsn, run.since)
    due = sorted((event for its in owed.values() for event in its), key=lambda event: event.committed)
    found = verdict(owed, [Arrival(event.parameters, event.committed + 0.005) for event in due])
    assert (found.lost, found.out_of_order, found.duplicates, found.unexpected) == (0, 0, 0, 0)
    assert found.kept
    assert found.owed == found.arrived == len(found.latencies) == len(due)
    assert found.p50_ms == pytest.approx(5, abs=0.01)
    assert found.p99_ms == pytest.approx(5, abs=0.01)
    assert activity(run.dsn, run.since).dossiers >= found.dossiers


def event(code: str, status: int, payment: int) -> Owed:
    user = {"ID_QG": "x", "TYPE": 2, "LOCATION": "000.00.02.H56"}
    body = {"CodeProfile": code, "SiteId": 327, "CodeTTHC": "2.000082", "NameTTHC": "Cấp giấy bưu chính"}
    numbers = {
        "Status": status,
        "FormsReception": 1,
        "FormsPayments": payment,
        "Level": 4,
        "IsFromDVCQG": 0,
        "IsDVCBC": 0,
    }
    return Owed({**body, **numbers, "Data": "", "User": user}, 100.0)


def lives() -> st.SearchStrategy[dict[str, list[Owed]]]:
    """Dossiers with one to six events each; equal ones may follow each other, as Status 2 does after a supplement."""
    states = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6)
    dossiers = st.dictionaries(st.sampled_from("ABCDE"), states, min_size=1)
    return dossiers.map(lambda found: {code: [event(code, *state) for state in its] for code, its in found.items()})


def arrive(owed: dict[str, list[Owed]], draw: st.DataObject) -> list[Arrival]:
    """All events, each dossier's in order, the dossiers interleaved at will."""
    waiting = {code: list(its) for code, its in owed.items()}
    arrived: list[Arrival] = []
    while waiting:
        code = draw.draw(st.sampled_from(sorted(waiting)))
        arrived.append(Arrival(waiting[code].pop(0).parameters, 100.0 + len(arrived)))
        waiting = {code: its for code, its in waiting.items() if its}
    return arrived


@given(lives(), st.data())
def test_any_interleaving_of_dossiers_is_in_order(owed: dict[str, list[Owed]], data: st.DataObject) -> None:
    """Order is promised within a dossier only."""
    found = verdict(owed, arrive(owed, data))
    assert found.kept
    assert found.duplicates == 0


@given(lives(), st.data())
def test_a_dropped_event_is_lost(owed: dict[str, list[Owed]], data: st.DataObject) -> None:
    """One event less is one lost, and nothing else."""
    arrived = arrive(owed, data)
    del arrived[data.draw(st.integers(0, len(arrived) - 1))]
    found = verdict(owed, arrived)
    assert (found.lost, found.out_of_order, found.duplicates, found.unexpected) == (1, 0, 0, 0)
    assert not found.kept


@given(lives(), st.data())
def test_a_repeated_event_is_a_duplicate(owed: dict[str, list[Owed]], data: st.DataObject) -> None:
    """An event that arrives again before the next one of its dossier is a duplicate, and nothing else."""
    arrived = arrive(owed, data)
    at = data.draw(st.integers(0, len(arrived) - 1))
    arrived.insert(at + 1, arrived[at]._replace(at=10_000.0))
    found = verdict(owed, arrived)
    assert (found.lost, found.out_of_order, found.duplicates, found.unexpected) == (0, 0, 1, 0)
    assert found.kept


def test_the_first_arrival_counts() -> None:
    """A repeat does not make an event later than it was; nor may it stand for an equal event of a later commit."""
    first, second = event("A", 2, 0), event("A", 2, 0)._replace(committed=200.0)
    times = [100.5, 101.0, 200.25]
    found = verdict({"A": [first, second]}, [Arrival(first.parameters, at) for at in times])
    assert (found.lost, found.out_of_order, found.duplicates, found.unexpected) == (0, 0, 1, 0)
    assert found.latencies == ((100.0, 0.5), (200.0, 0.25))
    assert verdict({"A": [first, second]}, [Arrival(first.parameters, at) for at in times[:2]]).lost == 1


@given(lives(), st.data())
def test_two_swapped_events_are_out_of_order(owed: dict[str, list[Owed]], data: st.DataObject) -> None:
    """Two different neighbours of one dossier in the wrong order are never accepted."""
    owed = {**owed, "Z": [event("Z", 1, 0), event("Z", 2, 0), *owed[min(owed)][:2]]}
    arrived = arrive(owed, data)
    places = [at for at, arrival in enumerate(arrived) if arrival.parameters["CodeProfile"] == "Z"]
    pairs = [(a, b) for a, b in pairwise(places) if arrived[a].parameters != arrived[b].parameters]
    a, b = data.draw(st.sampled_from(pairs))
    arrived[a], arrived[b] = arrived[b], arrived[a]
    found = verdict(owed, arrived)
    assert found.out_of_order >= 1
    assert not found.kept


@given(lives(), st.data())
def test_an_outdated_repeat_is_out_of_order(owed: dict[str, list[Owed]], data: st.DataObject) -> None:
    """An old event that arrives again after a newer one would be EMC's last word, and wrong."""
    owed = {**owed, "Z": [event("Z", 1, 0), event("Z", 2, 0)]}
    arrived = arrive(owed, data)
    arrived.append(Arrival(owed["Z"][0].parameters, 10_000.0))
    found = verdict(owed, arrived)
    assert (found.lost, found.out_of_order, found.duplicates, found.unexpected) == (0, 1, 0, 0)


@given(lives(), st.data(), st.sampled_from(["NameTTHC", "FormsPayments", "CodeProfile"]))
def test_a_wrong_parameter_is_lost_and_unexpected(owed: dict[str, list[Owed]], data: st.DataObject, name: str) -> None:
    """An event with one wrong value is not the event that was owed."""
    arrived = arrive(owed, data)
    at = data.draw(st.integers(0, len(arrived) - 1))
    wrong = {**arrived[at].parameters, name: 7}
    arrived[at] = arrived[at]._replace(parameters=wrong)
    found = verdict(owed, arrived)
    assert (found.lost, found.unexpected) == (1, 1)
    assert not found.kept


@given(st.lists(st.floats(0, 1e3), min_size=1), st.integers(1, 100))
def test_percentiles_are_the_nearest_rank(seconds: list[float], percent: int) -> None:
    """At least `percent` of the values are at or below the percentile, and fewer are below it."""
    found = percentile_ms(seconds, percent)
    assert found is not None
    values = [value * 1000 for value in seconds]
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)
    assert percentile_ms([], percent) is None


def test_any_encoding_is_the_same_event() -> None:
    """Texts of a form, a User as JSON text, and the guide's Null for no payment all mean the same parameters."""
    plain = event("A", 3, 0).parameters
    form = {name: str(value) for name, value in plain.items() if name not in ("User", "FormsPayments")}
    form |= {"user": json.dumps(plain["User"]), "FormsPayments": ""}
    assert normalised(form) == normalised(plain) == plain

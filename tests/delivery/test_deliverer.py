"""Delivery end to end: a real log, real files, a real EMC (the simulator) over HTTP that fails on purpose."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from deliver_process import Delivering, accepted, delivering, eventually
from delivery_story import (
    DOSSIER,
    LIFE,
    PAYMENT,
    SERVICE,
    LoggedStory,
    code,
    create,
    dossier,
    lives,
    payment,
    service,
    settings_in,
)
from emc.simulator_process import RunningSimulator
from emc.simulator_process import simulator as running_simulator

from connector.delivery.status import ambiguous_attempts, status
from connector.errors import DeliveryError
from connector.observe import BatchFolded, DossierParked, EventDue, Fault, OutboxDepth, PushAnswered
from connector.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, simulator: RunningSimulator) -> Settings:
    return settings_in(tmp_path, simulator.api)


def answers(run: Delivering, word: str) -> list[PushAnswered]:
    return [each for each in run.of(PushAnswered) if each.outcome == word]


def delivered(settings: Settings) -> int:
    return sum(partition.delivered for partition in status(settings))


def test_lives_are_told_in_order(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Every event once, each dossier's in the order of its commits; what is observed agrees with what EMC got."""
    log.snapshot((SERVICE, service(1)), (DOSSIER, dossier(1, "da_tra")))
    with delivering(settings) as run:
        lives(log, *range(2, 12))
        run.until(lambda: len(answers(run, "delivered")) == 30)
    assert accepted(simulator, client, before) == {code(number): LIFE for number in range(2, 12)}
    assert len(run.of(EventDue)) == 30
    assert run.of(OutboxDepth)[-1].waiting == 0
    assert {each.offset - each.log_end <= 0 for each in run.of(BatchFolded)} == {True}
    assert all(each.since_commit > 0 and not each.ambiguous for each in run.of(PushAnswered))
    assert ambiguous_attempts(settings) == []


def test_what_a_gap_hid_is_recovered(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """The tables were read again while the stream flows: EMC hears what it missed, once, and all can see why."""
    with delivering(settings) as run:
        lives(log, 2, 3)
        run.until(lambda: len(answers(run, "delivered")) == 6)
        story = log.story
        story.gap()
        log.append([story.begin(gap="the slot was lost"), *story.reads((SERVICE, service(1)))])
        log.append(story.reads((DOSSIER, dossier(2, "da_tra")), (PAYMENT, payment(2, 2)), (PAYMENT, payment(3, 3))))
        log.transaction(create(DOSSIER, dossier(5)))
        log.append(story.reads((DOSSIER, dossier(3, "da_tra")), (DOSSIER, dossier(4, "da_tra")), (DOSSIER, dossier(5))))
        log.append([story.end()])
        run.until(lambda: len(answers(run, "delivered")) == 9)
    assert accepted(simulator, client, before) == {code(2): LIFE, code(3): LIFE, code(4): [1, 3], code(5): [1]}
    assert [(each.code, each.status) for each in run.of(EventDue) if each.recovered] == [(code(4), 1), (code(4), 3)]
    assert [(each.code, each.status) for each in run.of(PushAnswered) if each.recovered] == [(code(4), 1), (code(4), 3)]
    assert sum(partition.recovered for partition in status(settings)) == 2


def test_dossier_and_payment_of_one_transaction_are_one_event(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """The result carries the payment that was committed with it; a payment that comes later corrects the result."""
    with delivering(settings) as run:
        log.transaction(create(DOSSIER, dossier(1, "da_tra")), create(PAYMENT, payment(1, 1, how="mang")))
        log.transaction(create(DOSSIER, dossier(2, "da_tra")))
        log.transaction(create(PAYMENT, payment(2, 2, how="quay")))
        run.until(lambda: [each.status for each in run.of(EventDue) if each.code == code(2)].count(3) == 2)
        run.until(lambda: len(answers(run, "delivered")) == len(run.of(EventDue)))
    told = [
        (each["parameters"]["CodeProfile"], each["parameters"]["FormsPayments"])
        for each in simulator.received(client, before)
        if each["parameters"]["Status"] == 3
    ]
    assert [paid for number, paid in told if number == code(1)] == [1]
    assert [paid for number, paid in told if number == code(2)] == [0, 2]


def test_a_lost_answer_is_asked_for_again_and_counted(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """EMC took the event and the connection was cut: it goes out once more, and is on record as ambiguous."""
    simulator.set_faults(client, {"kind": "drop_answer", "count": 1, "match": code(1)})
    with delivering(settings) as run:
        lives(log, 1, 2)
        run.until(lambda: len(answers(run, "delivered")) == 6)
    assert accepted(simulator, client, before) == {code(1): [1, 1, 2, 3], code(2): LIFE}
    assert [(one.code, one.status, one.times) for one in ambiguous_attempts(settings)] == [(code(1), 1, 1)]
    [retried] = answers(run, "retry")
    assert (retried.ambiguous, retried.attempt) == (True, 1)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "count": 7},
        {"kind": "status", "status": 429, "retry_after": 1, "count": 2},
        {"kind": "status", "status": 503, "retry_after_date": 1, "count": 2},
        {"kind": "status", "status": 500, "count": 3},
        {"kind": "garbage", "count": 3},
        {"kind": "drop_before", "count": 3},
    ],
    ids=["503", "429", "503 until a date", "500", "a page in HTML", "reset"],
)
def test_a_fault_that_passes_loses_nothing(
    settings: Settings,
    log: LoggedStory,
    simulator: RunningSimulator,
    client: httpx.Client,
    before: int,
    fault: dict[str, object],
) -> None:
    """Events wait, go out in order, and none of them comes twice, because none of these takes an event."""
    simulator.set_faults(client, fault)
    with delivering(settings) as run:
        lives(log, *range(1, 6))
        run.until(lambda: len(answers(run, "delivered")) == 15)
    assert accepted(simulator, client, before) == {code(number): LIFE for number in range(1, 6)}
    assert len(answers(run, "retry")) == fault["count"]
    assert run.of(DossierParked) == []


def test_emc_s_own_pause_is_everybody_s(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """After a 429 nobody is pushed before the time EMC named, also not a dossier that EMC said nothing of."""
    settings = settings_in(tmp_path, simulator.api, max_in_flight=1)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    simulator.set_faults(client, {"kind": "status", "status": 429, "retry_after": 1, "count": 1})
    with delivering(settings) as run:
        lives(log, 1, 2, 3)
        run.until(lambda: len(answers(run, "delivered")) == 9)
    log.close()
    first, second = simulator.received(client, before)[:2]
    assert first["verdict"] != "accepted"
    assert second["at"] - first["at"] >= 1.0


def test_a_redirect_is_never_followed(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """No GET, nothing parked, a word to the operator; everything arrives when the address is right again."""
    simulator.set_faults(client, {"kind": "status", "status": 302, "count": 3})
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: len(answers(run, "delivered")) == 3)
    assert accepted(simulator, client, before) == {code(1): LIFE}
    assert all(
        "REQ-01" not in [fault["rule"] for fault in each["faults"]] for each in simulator.received(client, before)
    )
    assert len(simulator.received(client, before)) == 6
    assert run.of(DossierParked) == []
    assert any("emc.url" in fault.mend for fault in run.of(Fault))


def test_a_rejected_dossier_holds_up_nobody_else(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """It is parked with its reason, its later events queue behind it, also over a restart; the others go on."""
    simulator.set_faults(client, {"kind": "status", "status": 400, "match": code(1)})
    with delivering(settings) as run:
        lives(log, 1, 2, 3)
        run.until(lambda: len(answers(run, "delivered")) == 6 and len(run.of(DossierParked)) == 1)
    assert accepted(simulator, client, before) == {code(2): LIFE, code(3): LIFE}
    with delivering(settings) as again:
        lives(log, 4)
        again.until(lambda: len(answers(again, "delivered")) == 3)
    assert [parked.code for parked in again.of(DossierParked)] == [code(1)]
    attempts = [each for each in simulator.received(client, before) if each["parameters"]["CodeProfile"] == code(1)]
    assert len(attempts) == 1
    [parked] = [each for partition in status(settings) for each in partition.parked]
    assert (parked.code, parked.status, parked.reason, parked.behind) == (code(1), 1, "HTTP 400", 2)
    assert sum(partition.waiting for partition in status(settings)) == 0


def test_a_slow_answer_ends_at_the_deadline(
    tmp_path: Path, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """The attempt is given up and counted as ambiguous: EMC may take it yet."""
    settings = settings_in(tmp_path, simulator.api, deadline=0.3)
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    simulator.set_faults(client, {"kind": "delay", "seconds": 30, "count": 1})
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: len(answers(run, "delivered")) == 3)
    log.close()
    assert accepted(simulator, client, before) == {code(1): LIFE}
    first = run.of(PushAnswered)[0]
    assert (first.outcome, first.ambiguous, "deadline" in first.reason) == ("retry", True, True)


def test_an_emc_that_is_away_gets_everything_when_it_is_back(tmp_path: Path, client: httpx.Client) -> None:
    """Nothing is lost, order is kept, nothing comes twice, and the operator heard of it once, not every time."""
    with running_simulator() as gone:
        settings = settings_in(tmp_path, gone.api)
        address = gone.url.removeprefix("http://")
    log = LoggedStory(settings)
    log.snapshot((SERVICE, service(1)))
    with delivering(settings) as run:
        lives(log, *range(1, 21))
        run.until(lambda: len(answers(run, "retry")) >= 8 and len(run.of(EventDue)) == 60)
        assert len({fault.cause for fault in run.of(Fault)}) == len(run.of(Fault)) == 1
        with running_simulator("--listen", address) as back:
            run.until(lambda: len(answers(run, "delivered")) == 60)
            assert accepted(back, client) == {code(number): LIFE for number in range(1, 21)}
    log.close()
    assert ambiguous_attempts(settings) == []


def test_a_held_dossier_goes_out_when_its_reference_arrives(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client, before: int
) -> None:
    """Until then the reason is shown and others are not held up."""
    with delivering(settings) as run:
        log.transaction(create(DOSSIER, dossier(1, service=9)))
        lives(log, 2)
        run.until(lambda: len(answers(run, "delivered")) == 3)
        eventually(lambda: [held.code for each in status(settings) for held in each.held] == [code(1)])
        log.transaction(create(SERVICE, service(9, "Khai sinh")))
        run.until(lambda: len(answers(run, "delivered")) == 4)
        eventually(lambda: sum(each.held_dossiers for each in status(settings)) == 0)
    assert accepted(simulator, client, before) == {code(2): LIFE, code(1): [1]}


def test_status_is_told_while_deliver_runs(
    settings: Settings, log: LoggedStory, simulator: RunningSimulator, client: httpx.Client
) -> None:
    """Files are read without disturbing their owner: waiting while EMC is away, delivered afterwards."""
    simulator.set_faults(client, {"kind": "status", "status": 503})
    with delivering(settings) as run:
        lives(log, 1)
        run.until(lambda: len(answers(run, "retry")) >= 1 and len(run.of(EventDue)) == 3)
        eventually(lambda: sum(each.waiting for each in status(settings)) == 3)
        assert min(each.oldest for each in status(settings) if each.oldest is not None) > 0
        simulator.set_faults(client)
        eventually(lambda: delivered(settings) == 3)
    assert sum(each.waiting for each in status(settings)) == 0


def test_a_second_process_on_the_same_directory_is_refused(settings: Settings, log: LoggedStory) -> None:
    """Two would push everything twice."""
    with delivering(settings) as run:
        run.until(lambda: bool(run.of(BatchFolded)))
        with pytest.raises(DeliveryError, match="another deliver process"), delivering(settings):
            pass

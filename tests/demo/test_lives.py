"""The planned lives are lives that a dossier can have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.demo.legacy.lives import Act, Step, Transaction, Trouble, go_on, plan

BEFORE_RECEPTION = {Act.DRAFT, Act.EDIT_DRAFT, Act.DELETE_DRAFT, Act.SUBMIT}
PAYMENT_NEEDED = {Act.CONFIRM, Act.REFUND, Act.DELETE_PAYMENT}


def steps(transactions: tuple[Transaction, ...]) -> list[Step]:
    return [step for transaction in transactions for step in transaction.steps]


@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_the_same_seed_is_the_same_life(seed: int, number: int) -> None:
    """A life depends on seed and number alone."""
    assert plan(seed, number) == plan(seed, number)


@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_a_life_is_in_a_possible_order(seed: int, number: int) -> None:
    """Received once at most, drafts before that, results after it, and no payment is touched that is not there."""
    life = plan(seed, number)
    acts = [step.act for step in steps(life.transactions)]
    received = [at for at, act in enumerate(acts) if act in (Act.ACCEPT, Act.RECEIVE)]
    assert len(received) <= 1
    assert acts[0] is (Act.DRAFT if life.online else Act.RECEIVE)
    end = received[0] if received else len(acts)
    assert all(at < end for at, act in enumerate(acts) if act in BEFORE_RECEPTION)
    assert all(at > end for at, act in enumerate(acts) if act in (Act.RESULT, Act.HAND_OVER, Act.CHANGE_RETURN))
    assert Act.DELETE_DRAFT not in acts[:-1]
    payments = 0
    for act in acts:
        assert payments > 0 or act not in PAYMENT_NEEDED
        payments += (act in (Act.INVOICE, Act.PAY, Act.MOVE_PAYMENT)) - (act is Act.DELETE_PAYMENT)
    assert life.unit != life.next_unit


@given(st.integers(0, 2**32), st.integers(1, 10**6), st.booleans(), st.sampled_from((0, 50_000)))
def test_a_dossier_from_before_the_run_reaches_its_result(seed: int, number: int, online: bool, fee: int) -> None:
    """An old dossier's remaining life has one result, and payments only where a fee is due."""
    acts = [step.act for step in steps(go_on(seed, number, online, fee))]
    assert acts.count(Act.RESULT) == 1
    assert fee or Act.PAY not in acts


def test_three_hundred_lives_hold_everything_that_can_happen() -> None:
    """The demo's default size meets every act, every status, and every trouble."""
    lives = [plan(1, number) for number in range(300)]
    every = [step for life in lives for step in steps(life.transactions)]
    assert {step.act for step in every} == set(Act)
    assert {transaction.trouble for life in lives for transaction in life.transactions} == set(Trouble)
    stages = {step.detail for step in every if step.act is Act.STAGE}
    assert stages == {"dang_xu_ly", "cho_bo_sung", "cho_ky", "cho_tra", "tra_lai", "huy"}
    assert any(life.late for life in lives)
    assert {type(life.account) for life in lives} == {int, str}
    assert {life.online for life in lives} == {life.national for life in lives} == {True, False}

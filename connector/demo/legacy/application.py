"""The application at work: several connections, many dossiers at once, transactions that interleave.

Contract: `Application.run` returns when all lives are over or `stop` was called; a life goes on in its own order, by
one worker at a time but any worker, and the transactions of different lives interleave. The first database error
ends the run and is raised. `dossiers` None means: until stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random

import psycopg

from connector.demo.legacy.actions import Case, Connection, Desk, local_time
from connector.demo.legacy.catalogue import SERVICES
from connector.demo.legacy.lives import Act, Life, Step, Transaction, Trouble, go_on, plan

OPEN_LIVES = 40
_BULK = (Act.STAGE, Act.RESULT)
"""What an officer does to several dossiers at once."""

_IN_PROCESS = """
SELECT h.id, h.kenh_nop = 'truc_tuyen', t.le_phi FROM motcua.ho_so h JOIN motcua.thu_tuc t ON t.id = h.thu_tuc_id
WHERE h.trang_thai = 'dang_xu_ly' ORDER BY h.id LIMIT %s"""
_FINISHED = "SELECT id FROM motcua.ho_so WHERE trang_thai = 'da_tra_ket_qua' ORDER BY id LIMIT 1000"

_CHORES = (
    "UPDATE motcua.nhat_ky_dang_nhap SET ra_luc = %(now)s WHERE ra_luc IS NULL",
    "INSERT INTO motcua.nhat_ky_dang_nhap VALUES (%(account)s, '10.0.0.7', %(now)s)",
    "INSERT INTO motcua.phien_in (ho_so_id, mau_in, in_luc) VALUES (%(account)s, 'Giấy tiếp nhận hồ sơ', %(now)s)",
    "UPDATE motcua.thu_tuc SET le_phi = le_phi + 1000 WHERE id = %(account)s %% 20 + 1 AND le_phi > 0",
    "UPDATE motcua.don_vi SET dien_thoai = '0237 3000 ' || %(account)s WHERE id = %(account)s %% 10 + 1",
    "UPDATE motcua.tai_khoan SET so_dien_thoai = '0900000' || %(account)s WHERE id = %(account)s",
)
"""What goes on beside the dossiers: rows nobody captures, and columns nobody maps."""


@dataclass(frozen=True, slots=True)
class Result:
    """`transactions` were committed, `rolled_back` were not; `dossiers` got a row."""

    transactions: int
    rolled_back: int
    dossiers: int
    seconds: float


class Application:
    """See the module. `rate`: transactions a second over all workers, 0 for as many as possible."""

    def __init__(self, dsn: str, dossiers: int | None, seed: int, rate: float, workers: int) -> None:
        self._dsn = dsn
        self._dossiers = dossiers
        self._seed = seed
        self._pause = 1.0 / rate if rate > 0 else 0.0
        self._workers = workers
        self._random = Random(seed)  # noqa: S311 - nothing secret
        self._stop = threading.Event()
        self._changed = threading.Condition()
        # Everything below is guarded by the condition.
        self._ready: list[_Open] = []
        self._held = 0
        self._started = 0
        self._next_at = 0.0
        self._received: list[int] = []
        self._finished: Sequence[int] = ()
        self._committed = 0
        self._rolled_back = 0
        self._error: BaseException | None = None

    def stop(self) -> None:
        """End the run after the transactions in hand. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> Result:
        began = time.monotonic()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            self._take_over(connection)
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return Result(self._committed, self._rolled_back, self._started, time.monotonic() - began)

    def _take_over(self, connection: Connection) -> None:
        """Go on with what was in process before us: at most one for every five new dossiers."""
        limit = 200 if self._dossiers is None else self._dossiers // 5
        for row in connection.execute(_IN_PROCESS, (limit,)).fetchall():
            dossier, online, fee = int(str(row[0])), bool(row[1]), int(float(str(row[2])))
            rest = go_on(self._seed, dossier, online, fee)
            life = Life(-dossier, online, False, SERVICES[0].id, None, 1, 1, "", fee, rest)
            self._ready.append(_Open(Case(life, dossier)))
        self._finished = [int(str(row[0])) for row in connection.execute(_FINISHED).fetchall()]

    def _work(self, number: int) -> None:
        random = Random(f"{self._seed}:worker:{number}")  # noqa: S311
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                desk = Desk(connection, random)
                while lives := self._take():
                    self._transact(connection, desk, lives)
                    self._give_back(lives)
                    if random.random() < 0.05:
                        self._chore(connection, desk, random)
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
            self._stop.set()
        finally:
            with self._changed:
                self._changed.notify_all()

    def _take(self) -> list[_Open]:
        """The next lives to go on with, one mostly; empty at the end. Waits for its turn."""
        with self._changed:
            while not self._stop.is_set():
                while len(self._ready) + self._held < OPEN_LIVES and self._more():
                    self._ready.append(_Open(Case(plan(self._seed, self._started))))
                    self._started += 1
                if self._ready:
                    lives = self._choose()
                    self._held += len(lives)
                    now = time.monotonic()
                    self._next_at = max(self._next_at, now) + self._pause
                    wait = self._next_at - self._pause - now
                    break
                if not self._held:
                    return []
                self._changed.wait(0.5)
            else:
                return []
        self._stop.wait(wait)
        return lives

    def _more(self) -> bool:
        return self._dossiers is None or self._started < self._dossiers

    def _choose(self) -> list[_Open]:
        lives = [self._ready.pop(self._random.randrange(len(self._ready)))]
        if lives[0].bulk and self._random.random() < 0.3:
            more = [life for life in self._ready if life.bulk][: self._random.randint(1, 3)]
            self._ready = [life for life in self._ready if life not in more]
            lives += more
        return lives

    def _give_back(self, lives: Sequence[_Open]) -> None:
        with self._changed:
            self._held -= len(lives)
            for life in lives:
                if life.newly_received and life.case.dossier is not None:
                    self._received.append(life.case.dossier)
                life.done += 1
                if life.done < len(life.case.life.transactions):
                    self._ready.append(life)
            self._changed.notify()

    def _transact(self, connection: Connection, desk: Desk, lives: Sequence[_Open]) -> None:
        """One transaction of every life in `lives`, all in one transaction of the database."""
        trouble = lives[0].next.trouble
        if trouble is Trouble.ROLLED_BACK:
            with connection.transaction(force_rollback=True):
                self._perform(connection, desk, lives, [life.case.copy() for life in lives], Trouble.NONE)
        cases = [life.case.copy() for life in lives]
        with connection.transaction():
            self._perform(connection, desk, lives, cases, trouble)
        with self._changed:
            self._committed += 1
            self._rolled_back += trouble is Trouble.ROLLED_BACK
        for life, case in zip(lives, cases, strict=True):
            life.case = case

    def _perform(
        self, connection: Connection, desk: Desk, lives: Sequence[_Open], cases: Sequence[Case], trouble: Trouble
    ) -> None:
        steps = [life.next.steps for life in lives]
        other = self._somebody_else(cases[0]) if any(s.act is Act.PAY_FOR_ANOTHER for s in steps[0]) else None
        known = {case.dossier for case in cases} | {case.mistaken[1] for case in cases if case.mistaken} | {other}
        # All locks first and at once: a second lock later could wait for somebody who waits for us.
        desk.lock([dossier for dossier in known if dossier is not None])
        if trouble is Trouble.SAVEPOINT_LOST and cases[0].dossier is not None:
            with connection.transaction(force_rollback=True):
                desk.err(cases[0])
        with connection.transaction() if trouble is Trouble.SAVEPOINT_KEPT else nullcontext():
            for case, its in zip(cases, steps, strict=True):
                for step in its:
                    desk.perform(case, step, other)

    def _somebody_else(self, case: Case) -> int | None:
        with self._changed:
            others = [dossier for dossier in self._received[-OPEN_LIVES:] if dossier != case.dossier]
            return self._random.choice(others) if others else None

    def _chore(self, connection: Connection, desk: Desk, random: Random) -> None:
        connection.execute(random.choice(_CHORES).encode(), {"now": local_time(), "account": random.randrange(1, 100)})
        if self._finished and random.random() < 0.3:
            old = random.choice(self._finished)
            with connection.transaction():
                desk.lock([old])
                desk.note_on_old(old)
            with self._changed:
                self._committed += 1


class _Open:
    """A life that is going on, and how many of its transactions are done."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.done = 0

    @property
    def next(self) -> Transaction:
        return self.case.life.transactions[self.done]

    @property
    def bulk(self) -> bool:
        steps: tuple[Step, ...] = self.next.steps
        return len(steps) == 1 and steps[0].act in _BULK and self.next.trouble is Trouble.NONE

    @property
    def newly_received(self) -> bool:
        return any(step.act in (Act.ACCEPT, Act.RECEIVE) for step in self.next.steps)

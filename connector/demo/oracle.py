"""What EMC must have been told, recomputed from the legacy database alone.

Contract: `expected` reads the legacy application's tables and its journal, nothing of the connector's, and follows
the guide (Appendix 1, part III) by itself: it shares no code with `mapping`, `emc` or `delivery`, so that a mistake
of theirs is not made twice. It relies on three things of the journal `motcua.hanh_dong`: rows are never updated, so
`pg_xact_commit_timestamp(xmin)` is the commit time; they are written while the dossier is locked, so within one
dossier the ids are in commit order; and they say how dossier and payment stood after the act.

The rules it follows: an event is owed for every milestone (1 received, 2 in process, 3 result, 0 other, in this
order) that holds after a transaction and did not hold before it. When there is none, but the parameters of the last
owed event are others by now, that event is owed again. A dossier that was there before `since` counts as told of
what it had reached then, the last of it as the last event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import psycopg

SITE_ID = 327
"""The demo's website id; the guide's own example."""

CAPTURED = ("ho_so", "thanh_toan", "thu_tuc", "don_vi", "tai_khoan")
"""The legacy tables that a mapping of this schema needs."""

_JOURNAL = """
SELECT ho_so_id, giao_dich, id, extract(epoch FROM pg_xact_commit_timestamp(xmin)), trang_thai_sau, da_tiep_nhan,
       don_vi_sau, hinh_thuc_tra_sau, thanh_toan_id, thanh_toan_sau, thanh_toan_hinh_thuc
FROM motcua.hanh_dong
WHERE ho_so_id IN (SELECT ho_so_id FROM motcua.hanh_dong WHERE id > %(since)s)
ORDER BY ho_so_id, id"""

_DOSSIERS = """
SELECT h.id, h.ma_ho_so, t.ma, t.ten, t.muc_do, h.kenh_nop, h.tu_dvcqg, a.loai, a.id_dvcqg, a.id_dia_phuong
FROM motcua.ho_so h
JOIN motcua.thu_tuc t ON t.id = h.thu_tuc_id
JOIN motcua.tai_khoan a ON a.id = h.tai_khoan_id
WHERE h.ma_ho_so IS NOT NULL AND h.id IN (SELECT ho_so_id FROM motcua.hanh_dong WHERE id > %(since)s)"""

_CHANGES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
WHERE schemaname = 'motcua' AND relname = ANY(%(tables)s)"""

CLOCK_STEP = 0.001
"""Arrival times may be given in whole milliseconds."""

_UNDER_WORK = ("dang_xu_ly", "cho_ky", "cho_tra")
_ENDED_OTHERWISE = ("tra_lai", "huy")
_INTEGERS = ("SiteId", "Status", "FormsReception", "FormsPayments", "Level", "IsFromDVCQG", "IsDVCBC")
_TEXTS = ("CodeProfile", "CodeTTHC", "NameTTHC", "Data")

Parameters = dict[str, Any]
"""The guide's parameters by their names: text as str, numbers as int, User as a dict."""


class Owed(NamedTuple):
    """An event that EMC must be told. `committed`: commit time of its transaction, seconds since the epoch."""

    parameters: Parameters
    committed: float


class Arrival(NamedTuple):
    """A request that EMC accepted. `at`: when it arrived, seconds since the epoch, by the database's clock."""

    parameters: Mapping[str, Any]
    at: float


class Activity(NamedTuple):
    """What the legacy application did: committed transactions and the dossiers they touched."""

    commits: int
    dossiers: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of what was owed with what arrived, over all dossiers.

    lost: owed, and never arrived. out_of_order: arrived, but not in its place (an outdated repeat too).
    duplicates: arrived again right after itself. unexpected: never owed (a wrong parameter makes one lost and one
    unexpected). An event that arrives before its commit is not the one that was owed. Latency is from commit to first
    arrival, of all events that arrived in order; None when there is none.
    `findings` names the first few faults, by dossier number and status.
    """

    dossiers: int
    owed: int
    arrived: int
    lost: int
    out_of_order: int
    duplicates: int
    unexpected: int
    p50_ms: float | None
    p99_ms: float | None
    latencies: tuple[tuple[float, float], ...]
    """(commit time, seconds until arrival) of every event that arrived in order."""
    findings: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the promises were kept; a repeat of a request whose answer was lost is allowed."""
        return not (self.lost or self.out_of_order or self.unexpected)


def last_action(dsn: str) -> int:
    """The `since` of now: the id of the journal's last row, 0 when it is empty."""
    with psycopg.connect(dsn) as connection:
        return int(connection.execute("SELECT coalesce(max(id), 0) FROM motcua.hanh_dong").fetchall()[0][0])


def activity(dsn: str, since: int) -> Activity:
    """What was committed after `since`, by the journal."""
    query = "SELECT count(DISTINCT giao_dich), count(DISTINCT ho_so_id) FROM motcua.hanh_dong WHERE id > %s"
    with psycopg.connect(dsn) as connection:
        commits, dossiers = connection.execute(query, (since,)).fetchall()[0]
        return Activity(int(commits), int(dossiers))


def changes(dsn: str, tables: Sequence[str] = CAPTURED) -> int:
    """Rows written to these tables since the server was installed, those of rolled back transactions included.

    The difference of two calls is what a run wrote; the server's counters may be a second late for open connections.
    """
    with psycopg.connect(dsn) as connection:
        return int(connection.execute(_CHANGES, {"tables": list(tables)}).fetchall()[0][0])


def expected(dsn: str, since: int, site_id: int = SITE_ID) -> dict[str, list[Owed]]:
    """What EMC must be told of transactions after the journal's row `since`: events by CodeProfile, in order."""
    with psycopg.connect(dsn) as connection:
        # One snapshot for all three, in case the application still works.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        dossiers = {row[0]: row for row in connection.execute(_DOSSIERS, {"since": since})}
        units: dict[int, str] = dict(connection.execute("SELECT id, ma_dinh_danh FROM motcua.don_vi").fetchall())
        journal = connection.execute(_JOURNAL, {"since": since}).fetchall()
    owed: dict[str, list[Owed]] = {}
    for dossier, rows in groupby(journal, key=lambda row: row[0]):
        if dossier in dossiers:
            events = list(_life(_Dossier(dossiers[dossier], units, site_id), list(rows), since))
            if events:
                owed[dossiers[dossier][1]] = events
    return owed


def verdict(owed: Mapping[str, Sequence[Owed]], arrived: Sequence[Arrival]) -> Verdict:
    """Compare. `arrived` in the order of arrival, all dossiers together."""
    by_code: dict[str, list[_Told]] = {}
    for parameters, at in arrived:
        told = _Told.of(normalised(parameters), at)
        by_code.setdefault(told.code, []).append(told)
    lost = out_of_order = duplicates = unexpected = 0
    latencies: list[tuple[float, float]] = []
    findings: list[str] = []
    for code in sorted({*owed, *by_code}):
        due = [_Told.of(event.parameters, event.committed) for event in owed.get(code, ())]
        came = by_code.get(code, [])
        matched, missing, extra = _align(due, came)
        latencies += [(due[i].at, came[j].at - due[i].at) for i, j in matched]
        known = {event.body for event in due}
        for j in extra:
            event = came[j]
            late = next((i for i in missing if due[i].may_be(event)), None)
            if late is None and j > 0 and came[j - 1].body == event.body:
                duplicates += 1
            elif late is not None or event.body in known:
                out_of_order += 1
                findings.append(f"out of order: {code} Status {event.status}")
                missing = [i for i in missing if i != late]
            else:
                unexpected += 1
                findings.append(f"unexpected: {code} Status {event.status}")
        lost += len(missing)
        findings += [f"lost: {code} Status {due[i].status}" for i in missing]
    seconds = [latency for _, latency in latencies]
    return Verdict(
        dossiers=len(owed),
        owed=sum(len(events) for events in owed.values()),
        arrived=len(arrived),
        lost=lost,
        out_of_order=out_of_order,
        duplicates=duplicates,
        unexpected=unexpected,
        p50_ms=percentile_ms(seconds, 50),
        p99_ms=percentile_ms(seconds, 99),
        latencies=tuple(latencies),
        findings=tuple(findings[:20]),
    )


def percentile_ms(seconds: Iterable[float], percent: int) -> float | None:
    """The nearest-rank percentile, 1 to 100, in milliseconds; None of nothing."""
    ranked = sorted(seconds)
    if not ranked:
        return None
    return ranked[-(-percent * len(ranked) // 100) - 1] * 1000


def normalised(parameters: Mapping[str, Any]) -> Parameters:
    """A request's parameters with the types of `Parameters`, whatever their encoding; unknown ones are kept."""
    plain = dict(parameters)
    if "user" in plain:
        plain["User"] = plain.pop("user")
    user = plain.get("User")
    plain["User"] = json.loads(user) if isinstance(user, str) else user
    for name in _INTEGERS:
        # The guide's Null, for no payment, may come as nothing at all.
        plain[name] = int(plain.get(name) or 0)
    for name in _TEXTS:
        plain[name] = str(plain.get(name) or "")
    return plain


class _Dossier:
    """One dossier while its journal is replayed."""

    def __init__(self, row: Sequence[Any], units: Mapping[int, str], site_id: int) -> None:
        _, self.code, self.service, self.name, self.level, channel, self.national, *account = row
        self.online = channel == "truc_tuyen"
        self.account = account
        self.units = units
        self.site_id = site_id
        self.payments: dict[int, tuple[str, str]] = {}
        self.status = ""
        self.received = False
        self.unit = 0
        self.way = ""

    def apply(self, row: Sequence[Any]) -> None:
        self.status, self.received, self.unit, self.way, payment, state, method = row[4:]
        if payment is not None and state == "khong_con":
            self.payments.pop(payment, None)
        elif payment is not None:
            self.payments[payment] = (state, method)

    def reached(self) -> list[int]:
        """The statuses that hold now, in the order they are told."""
        if not self.received:
            return []
        if self.status in _UNDER_WORK:
            return [1, 2]
        if self.status == "da_tra_ket_qua":
            return [1, 3]
        return [1, 0] if self.status in _ENDED_OTHERWISE else [1]

    def parameters(self, status: int) -> Parameters:
        """The guide's parameters for this status, as things stand now."""
        result = status == 3
        # The guide's FormsReception is the reception channel, but at Status 3 the way the result is returned.
        over_the_network = self.way != "mot_cua" if result else self.online and self.level != 0
        post = {"vnpost": 1, "buu_chinh_khac": 2}.get(self.way, 0) if result else 0
        return {
            "CodeProfile": self.code,
            "SiteId": self.site_id,
            "CodeTTHC": self.service,
            "NameTTHC": self.name,
            "Status": status,
            "FormsReception": 1 if over_the_network else 2,
            "FormsPayments": self._payment() if result else 0,
            "Level": self.level,
            "IsFromDVCQG": 1 if self.national else 0,
            "IsDVCBC": post,
            "Data": "",
            "User": self._user(),
        }

    def _payment(self) -> int:
        paid = [payment for payment, (state, _) in self.payments.items() if state == "da_thanh_toan"]
        if not paid:
            return 0
        return 2 if self.payments[max(paid)][1] == "tien_mat" else 1

    def _user(self) -> dict[str, Any]:
        kind, national_id, local_id = self.account
        location = self.units[self.unit]
        if kind == "ca_nhan":
            return {"ID_QG": national_id, "TYPE": 2, "LOCATION": location}
        return {"ID_local": local_id, "TYPE": 1 if kind == "doanh_nghiep" else 3, "LOCATION": location}


def _life(dossier: _Dossier, rows: Sequence[Sequence[Any]], since: int) -> Iterator[Owed]:
    """The events of one dossier; `rows` are its whole journal."""
    for row in rows:
        if row[2] <= since:
            dossier.apply(row)
    before = dossier.reached()
    told = dossier.parameters(before[-1]) if before else None
    for _, together in groupby((row for row in rows if row[2] > since), key=lambda row: row[1]):
        transaction = list(together)
        for row in transaction:
            dossier.apply(row)
        now = dossier.reached()
        due = [dossier.parameters(status) for status in now if status not in before]
        if not due and told is not None:
            corrected = dossier.parameters(told["Status"])
            due = [corrected] if corrected != told else []
        before = now
        if due:
            told = due[-1]
        for parameters in due:
            yield Owed(parameters, float(transaction[0][3]))


class _Told(NamedTuple):
    """An event in a form that compares: owed (`at` its commit) or arrived."""

    code: str
    status: int
    body: str
    at: float

    @classmethod
    def of(cls, parameters: Parameters, at: float) -> _Told:
        body = json.dumps(parameters, sort_keys=True, ensure_ascii=False)
        return cls(parameters["CodeProfile"], parameters["Status"], body, at)

    def may_be(self, arrival: _Told) -> bool:
        """Whether this owed event can be what arrived: the same, and not before it was committed."""
        return self.body == arrival.body and self.at <= arrival.at + CLOCK_STEP


def _align(due: Sequence[_Told], came: Sequence[_Told]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """The longest common subsequence, matched as early as possible, and what it leaves over on either side."""
    longest = [[0] * (len(came) + 1) for _ in range(len(due) + 1)]
    for i in reversed(range(len(due))):
        for j in reversed(range(len(came))):
            if due[i].may_be(came[j]):
                longest[i][j] = longest[i + 1][j + 1] + 1
            else:
                longest[i][j] = max(longest[i + 1][j], longest[i][j + 1])
    matched: list[tuple[int, int]] = []
    missing: list[int] = []
    extra: list[int] = []
    i = j = 0
    while i < len(due) or j < len(came):
        if i < len(due) and j < len(came) and due[i].may_be(came[j]):
            matched.append((i, j))
            i, j = i + 1, j + 1
        elif j == len(came) or (i < len(due) and longest[i + 1][j] >= longest[i][j + 1]):
            missing.append(i)
            i += 1
        else:
            extra.append(j)
            j += 1
    return matched, missing, extra

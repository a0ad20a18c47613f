"""Answers of EMC, and their lack, mean what the table in connector.delivery.outcome says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.delivery.outcome import LONGEST_RETRY_AFTER, Delivered, Outcome, Reject, Retry, of_answer, of_failure
from connector.settings import EmcSettings

NOW = 1_790_000_000.0
PLAIN = EmcSettings()
JSON_FAILURE = EmcSettings(failure_field="success", failure_values=("false", "0"))


def meaning(status: int, body: bytes = b"", settings: EmcSettings = PLAIN, **headers: str) -> Outcome:
    return of_answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, settings, NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    """Field systems see 200 or 204; the guide names none."""
    assert meaning(status) == Delivered()
    assert meaning(status, b'{"success":false}') == Delivered()


@pytest.mark.parametrize(("body", "told"), [(b'{"success":false}', "false"), (b'{"success":0,"x":1}', "0")])
def test_a_200_that_says_failure_is_rejected(body: bytes, told: str) -> None:
    """The configured field with a configured value: EMC's words are kept as the detail."""
    assert meaning(200, body, JSON_FAILURE) == Reject(f"EMC answered that success is {told}", body.decode())


@pytest.mark.parametrize("body", [b'{"success":true}', b"{}", b"[]", b"", b"  \n", b'{"success":null}', b"7"])
def test_a_2xx_that_does_not_say_failure_is_delivered(body: bytes) -> None:
    """Also an empty one: a 204 cannot say anything, and must not be repeated for ever."""
    assert meaning(200, body, JSON_FAILURE) == Delivered()


@pytest.mark.parametrize("body", [b"OK", b"{", b"\xff", b"[" * 60_000])
def test_a_body_that_is_not_the_promised_json_asks_for_a_person(body: bytes) -> None:
    """Neither taken nor refused for sure: repeated, counted as ambiguous, and told."""
    found = meaning(200, body, JSON_FAILURE)
    assert isinstance(found, Retry)
    assert (found.ambiguous, bool(found.operator)) == (True, True)


def test_an_html_page_is_not_emc() -> None:
    """A portal's or proxy's page with 200 says nothing about the event."""
    found = meaning(200, b"<html>", content_type="Text/HTML; charset=utf-8")
    assert isinstance(found, Retry)
    assert (found.ambiguous, bool(found.operator)) == (True, True)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407])
def test_what_the_configuration_gets_wrong_asks_for_a_person(status: int) -> None:
    """No dossier is to blame for a redirect or a password: nothing is parked, everything waits."""
    found = meaning(status, location="/elsewhere")
    assert isinstance(found, Retry)
    assert (found.ambiguous, bool(found.operator), found.everyone) == (False, True, False)


@pytest.mark.parametrize(
    ("status", "ambiguous"),
    [(408, False), (425, False), (500, False), (501, False), (502, True), (503, False), (504, True), (599, False)],
)
def test_later_may_help(status: int, ambiguous: bool) -> None:
    """Only a gateway's answer leaves open whether EMC took the event."""
    assert meaning(status) == Retry(f"HTTP {status}", ambiguous=ambiguous)


def test_too_many_pauses_everyone() -> None:
    """429 speaks of the whole connector, with or without a time."""
    assert meaning(429) == Retry("HTTP 429", everyone=True)
    assert meaning(429, retry_after="7") == Retry("HTTP 429", after=7.0, everyone=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("99999999999999999999", LONGEST_RETRY_AFTER),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("Monday, 21-Sep-26 14:13:30 GMT", 10.0),
        ("Mon Sep 21 14:13:30 2026", 10.0),
        ("Mon, 21 Sep 2026 14:13:00 GMT", 0.0),
        ("Mon, 21 Sep 2099 14:13:00 GMT", LONGEST_RETRY_AFTER),
        ("soon", None),
        ("-5", None),
        ("٣", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds or one of HTTP's three forms of a date (RFC 9110, 10.2.3 and 5.6.7); nonsense is no time at all."""
    expected = Retry("HTTP 503", after=seconds, everyone=seconds is not None)
    assert meaning(503, retry_after=value) == expected


@pytest.mark.parametrize("status", [400, 402, 406, 409, 410, 413, 415, 422, 451])
def test_other_4xx_reject_the_event(status: int) -> None:
    """EMC refuses this event: the reason is fit for log lines, EMC's own words are apart from it."""
    assert meaning(status, b"LOCATION:\r\n  sai") == Reject(f"HTTP {status}", "LOCATION: sai")


def test_the_detail_is_bounded() -> None:
    """A page of errors is cut, wherever a character of several bytes stands."""
    found = meaning(400, "ệ".encode() * 5000)
    assert isinstance(found, Reject)
    assert found.detail == "ệ" * 300


@pytest.mark.parametrize("sent", [False, True])
def test_no_answer(sent: bool) -> None:
    """Whether the request went out decides whether EMC may have it."""
    assert of_failure("cannot connect", sent) == Retry("cannot connect", ambiguous=sent)


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["retry-after", "content-type"]), st.text()),
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(lambda v: repr(v).encode()),
    st.sampled_from([PLAIN, JSON_FAILURE]),
)
@example(503, {"retry-after": "Mon, 1 Jan 0000 00:00:00 -9999"}, b"", PLAIN)
@example(503, {"retry-after": "Mon, 1 Jan 99999999999999999999 00:00:00 GMT"}, b"", PLAIN)
@example(503, {"retry-after": "Mon, 31 Dec 9999 23:59:59 -2359"}, b"", PLAIN)
def test_every_answer_has_a_meaning(status: int, headers: dict[str, str], body: bytes, settings: Any) -> None:
    """Whatever EMC answers, nothing is raised and no wait is endless."""
    found = of_answer(status, headers, body, settings, NOW)
    if isinstance(found, Retry) and found.after is not None:
        assert 0 <= found.after <= LONGEST_RETRY_AFTER

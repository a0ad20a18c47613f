"""The simulator's own reading of requests, strict to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from emc_events import RECEIVED, allowed_events, settings_variants
from hypothesis import given
from hypothesis import strategies as st

from connector.emc.event import EmcEvent
from connector.emc.simulator.examination import BODY_LIMIT, examine
from connector.emc.simulator.parsing import parse
from connector.emc.wire import encode
from connector.settings import EmcSettings

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

PLAIN: dict[str, Any] = {
    "CodeProfile": "000.00.11.H56-191203-1508",
    "SiteId": 327,
    "CodeTTHC": "2.000082",
    "NameTTHC": "Cấp giấy bưu chính",
    "Status": 1,
    "FormsReception": 1,
    "FormsPayments": 0,
    "Level": 4,
    "IsFromDVCQG": 0,
    "IsDVCBC": 0,
    "Data": "",
    "User": '{"ID_QG":"cd-0001","TYPE":2,"LOCATION":"000.00.02.H10"}',
}


def form(values: dict[str, Any]) -> tuple[str, bytes]:
    return FORM, "&".join(f"{key}={quote(str(value))}" for key, value in values.items()).encode()


def as_json(values: dict[str, Any]) -> tuple[str, bytes]:
    return JSON, json.dumps(values, ensure_ascii=False).encode()


def rules(content_type: str, body: bytes) -> list[str]:
    return [objection.rule for objection in parse(content_type, body).objections]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PLAIN.items() if key != name}


def camel(values: dict[str, Any]) -> dict[str, Any]:
    return {key[0].lower() + key[1:]: value for key, value in values.items()}


Write = Callable[[dict[str, Any]], tuple[str, bytes]]
either = pytest.mark.parametrize("write", [form, as_json])


@given(allowed_events(), settings_variants)
def test_what_the_encoder_writes_is_read_as_it_was_meant(event: EmcEvent, settings: EmcSettings) -> None:
    """In every variant the guide leaves open, and nothing is objected to."""
    body = encode(event, settings)
    assert parse(body.content_type, body.content).event == event
    assert examine("POST", body.content_type, body.content).faults == ()


def test_a_form_may_write_a_blank_in_two_ways() -> None:
    """As a plus and as %20; a plus itself is %2B."""
    _, body = form(PLAIN)
    for blank in (b"%20", b"+"):
        assert parse(FORM, body.replace(b"%20", blank)).event == RECEIVED
    parsed = parse(FORM, body.replace(b"&Data=", b"&Data=1%2B1"))
    assert parsed.parameters["Data"] == "1+1"


@given(st.sampled_from((FORM, JSON, f"{JSON}; charset=utf-8", "text/plain", "")), st.binary(max_size=200))
def test_any_bytes_get_an_answer(content_type: str, body: bytes) -> None:
    """Reading never fails, and there is an event exactly when there is no objection."""
    parsed = parse(content_type, body)
    assert (parsed.event is None) is bool(parsed.objections)
    json.dumps(parsed.parameters, ensure_ascii=False).encode()


@given(settings_variants, st.data())
def test_a_request_cut_short_is_refused(settings: EmcSettings, data: st.DataObject) -> None:
    """Every prefix of a body is refused (User stands last, and is not whole)."""
    body = encode(RECEIVED, settings)
    cut = data.draw(st.integers(0, len(body.content) - 1))
    assert parse(body.content_type, body.content[:cut]).event is None


@either
@pytest.mark.parametrize("name", without("FormsPayments"))
def test_every_parameter_is_required(write: Write, name: str) -> None:
    """Each missing one is named."""
    [objection] = parse(*write(without(name))).objections
    assert (objection.rule, objection.parameter) == ("REQ-05", name)


@either
def test_the_null_of_payment_may_be_left_out(write: Write) -> None:
    """Left out, empty and (in JSON) null mean no payment."""
    for values in (without("FormsPayments"), {**PLAIN, "FormsPayments": ""}, PLAIN):
        assert parse(*write(values)).event == RECEIVED
    assert parse(*as_json({**PLAIN, "FormsPayments": None})).event == RECEIVED


@either
def test_an_unknown_parameter_is_refused(write: Write) -> None:
    """A misspelt name is unknown, and the right one is missing."""
    assert rules(*write({**PLAIN, "Extra": "1"})) == ["REQ-06"]
    assert rules(*write({**without("SiteId"), "SiteID": 327})) == ["REQ-06", "REQ-05"]
    assert rules(*write({**without("SiteId"), "siteid": 327})) == ["REQ-06", "REQ-05"]


def test_a_repeated_parameter_is_refused() -> None:
    """Twice the same name, or both names of User, in a form and in JSON."""
    content_type, body = form(PLAIN)
    assert rules(content_type, body + b"&Status=1") == ["REQ-07"]
    assert rules(content_type, body + b"&user={}") == ["REQ-07"]
    content_type, body = as_json(PLAIN)
    assert rules(content_type, body[:-1] + b', "Status": 2}') == ["REQ-07"]


@either
def test_names_are_in_one_case(write: Write) -> None:
    """All in the guide's case (`User` or `user`) or all in camel case; never mixed."""
    assert parse(*write(camel(PLAIN))).event == RECEIVED
    assert parse(*write({**without("User"), "user": PLAIN["User"]})).event == RECEIVED
    assert rules(*write({**without("Status"), "status": 1})) == ["REQ-09"]
    assert rules(*write({**camel(without("User")), "User": PLAIN["User"]})) == ["REQ-09"]


@either
@pytest.mark.parametrize("value", ["", "x", "1.0", " 1", "1 ", "+1", "01", "1e0", "0x1", "١", "9" * 19])
def test_numbers_are_whole_numbers(write: Write, value: str) -> None:
    """Text that is not plainly a whole number is of the wrong type."""
    [objection] = parse(*write({**PLAIN, "Level": value})).objections
    assert (objection.rule, objection.parameter) == ("REQ-08", "Level")


@pytest.mark.parametrize("value", [True, 4.0, None, [4], {"a": 4}, 10**18])
def test_json_numbers_are_whole_numbers(value: Any) -> None:
    """Neither true nor 4.0 nor null is a level."""
    assert rules(*as_json({**PLAIN, "Level": value})) == ["REQ-08"]


def test_numbers_may_be_text_in_json() -> None:
    """`numbers: string` is one of the open points."""
    numbers = {key: str(value) if isinstance(value, int) else value for key, value in PLAIN.items()}
    assert parse(*as_json(numbers)).event == RECEIVED


@pytest.mark.parametrize("value", [1, None, True, ["x"], {"x": "y"}])
@pytest.mark.parametrize("name", ["CodeProfile", "CodeTTHC", "NameTTHC", "Data"])
def test_texts_are_texts(name: str, value: Any) -> None:
    """A number is not a dossier number."""
    assert rules(*as_json({**PLAIN, name: value})) == ["REQ-08"]


@either
@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\x7f", "\ufffd", "\x85"])
def test_texts_hold_no_control_characters(write: Write, text: str) -> None:
    """Nor the replacement character, which shows that something was broken before."""
    assert rules(*write({**PLAIN, "NameTTHC": text})) == ["REQ-10"]


def test_half_a_surrogate_pair_is_no_text() -> None:
    """JSON can escape it, UTF-8 cannot hold it; what is kept can be written."""
    content_type, body = as_json({**PLAIN, "NameTTHC": "@"})
    parsed = parse(content_type, body.replace(b'"@"', b'"\\ud800"'))
    assert [objection.rule for objection in parsed.objections] == ["REQ-10"]
    assert parsed.parameters["NameTTHC"] == "\ufffd"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ["REQ-11"]),
        ("abc", ["REQ-11"]),
        ("[]", ["REQ-11"]),
        ('{"ID_QG":"a","TYPE":2,"LOCATION":"x"', ["REQ-11"]),
        ('{"ID_QG":"a","TYPE":NaN,"LOCATION":"x"}', ["REQ-11"]),
        ("{}", ["REQ-05", "REQ-05"]),
        ('{"ID_QG":"a","TYPE":2}', ["REQ-05"]),
        ('{"ID_QG":"a","LOCATION":"x"}', ["REQ-05"]),
        ('{"ID_QG":"a","TYPE":2,"LOCATION":"x","NAME":"y"}', ["REQ-12"]),
        ('{"id_qg":"a","TYPE":2,"LOCATION":"x"}', ["REQ-12"]),
        ('{"ID_QG":"a","ID_QG":"b","TYPE":2,"LOCATION":"x"}', ["REQ-12"]),
        ('{"ID_QG":"a","TYPE":"2","LOCATION":"x"}', ["REQ-08"]),
        ('{"ID_QG":"a","TYPE":true,"LOCATION":"x"}', ["REQ-08"]),
        ('{"ID_QG":null,"TYPE":2,"LOCATION":"x"}', ["REQ-08"]),
        ('{"ID_QG":7,"TYPE":2,"LOCATION":"x"}', ["REQ-08"]),
        ('{"ID_QG":"a","TYPE":2,"LOCATION":[]}', ["REQ-08"]),
        ('{"ID_QG":"a\\u0000","TYPE":2,"LOCATION":"x"}', ["REQ-10"]),
    ],
)
@either
def test_the_user_has_exactly_its_keys(write: Write, user: str, expected: list[str]) -> None:
    """A JSON text of one object, with the guide's keys, each once, each of its type."""
    parsed = parse(*write({**PLAIN, "User": user}))
    assert [objection.rule for objection in parsed.objections] == expected
    assert {objection.parameter.split(".")[0] for objection in parsed.objections} == {"User"}


def test_the_user_is_a_text_in_json_too() -> None:
    """The guide calls it a JSON string."""
    assert rules(*as_json({**PLAIN, "User": json.loads(PLAIN["User"])})) == ["REQ-11"]


@pytest.mark.parametrize(
    ("content_type", "body", "rule"),
    [
        ("", form(PLAIN)[1], "REQ-02"),
        ("text/plain", form(PLAIN)[1], "REQ-02"),
        ("multipart/form-data; boundary=x", b"--x--", "REQ-02"),
        (f"{FORM}; charset=windows-1258", form(PLAIN)[1], "REQ-03"),
        (FORM, form(PLAIN)[1] + b"&x=%E1%BA", "REQ-03"),
        (JSON, '{"NameTTHC": "Cấp"}'.encode("utf-16"), "REQ-03"),
        (FORM, b"", "REQ-04"),
        (FORM, b"CodeProfile", "REQ-04"),
        (FORM, b"a=%", "REQ-04"),
        (FORM, b"a=%zz", "REQ-04"),
        (FORM, "a=ấ".encode(), "REQ-04"),
        (FORM, as_json(PLAIN)[1], "REQ-04"),
        (JSON, b"", "REQ-04"),
        (JSON, b"[]", "REQ-04"),
        (JSON, b"[" * 100_000, "REQ-04"),
        (JSON, b'{"SiteId": Infinity}', "REQ-04"),
        (JSON, form(PLAIN)[1], "REQ-04"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(content_type: str, body: bytes, rule: str) -> None:
    """Wrong media type, charset, encoding or syntax: one objection, about the body as a whole."""
    assert rules(content_type, body) == [rule]


def test_media_types_are_read_as_http_has_them() -> None:
    """Case, blanks and quotes do not matter."""
    body = form(PLAIN)[1]
    for content_type in ("Application/X-WWW-Form-URLencoded", f'{FORM} ; charset="UTF-8"', f"{FORM};charset=utf8"):
        assert parse(content_type, body).event == RECEIVED


def test_several_faults_are_told_together() -> None:
    """Whoever integrates sees everything at once."""
    wrong = {**without("CodeTTHC"), "Status": "x", "Extra": "1", "User": "{}"}
    assert sorted(rules(*form(wrong))) == ["REQ-05", "REQ-05", "REQ-05", "REQ-06", "REQ-08"]


def test_no_objection_holds_a_value() -> None:
    """An answer may end in somebody's log."""
    secret = "0912345678"
    parsed = parse(*form({**PLAIN, secret: secret, "Status": secret, "User": f'{{"{secret}":"{secret}"}}'}))
    assert parsed.objections
    assert secret not in repr(parsed.objections)


def test_the_guides_rules_are_applied_to_what_was_read() -> None:
    """Errors refuse, warnings do not."""
    content_type, body = form({**PLAIN, "Level": 0, "Data": "a;b"})
    examined = examine("POST", content_type, body)
    assert [fault.rule for fault in examined.faults] == ["EMC-12"]
    assert [warning.rule for warning in examined.warnings] == ["EMC-20"]


def test_only_posts_of_a_sensible_size_are_examined() -> None:
    """The method and the size come before all else."""
    assert [fault.rule for fault in examine("GET", *form(PLAIN)).faults] == ["REQ-01"]
    assert [fault.rule for fault in examine("POST", FORM, b"a" * (BODY_LIMIT + 1)).faults] == ["REQ-13"]

"""The wire form, read back by means that share nothing with the encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

import pytest
from emc_events import RECEIVED, any_event, settings_variants
from hypothesis import given

from connector.emc.event import EmcEvent, EmcUser
from connector.emc.wire import encode
from connector.settings import EmcSettings

NUMBERS = ["SiteId", "Status", "FormsReception", "FormsPayments", "Level", "IsFromDVCQG", "IsDVCBC"]
NAMES = ["CodeProfile", "SiteId", "CodeTTHC", "NameTTHC", *NUMBERS[1:], "Data", "User"]
CAMEL = [name[0].lower() + name[1:] for name in NAMES]


def settings(**changes: Any) -> EmcSettings:
    return EmcSettings.model_validate(changes)


def read(content_type: str, content: bytes) -> dict[str, Any]:
    """The parameters by the names they were sent under."""
    header = Message()
    header["Content-Type"] = content_type
    assert header.get_content_charset() == "utf-8"
    if header.get_content_type() == "application/json":
        parameters: dict[str, Any] = json.loads(content.decode("utf-8"))
        return parameters
    assert header.get_content_type() == "application/x-www-form-urlencoded"
    pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def rebuilt(parameters: dict[str, Any]) -> EmcEvent:
    """The event that the parameters tell of, whatever their variant."""
    named = {dict(zip(CAMEL, NAMES, strict=True)).get(key, key): value for key, value in parameters.items()}
    user = json.loads(named.pop("User"))
    numbers = {name: int(named.pop(name, None) or 0) for name in NUMBERS}
    assert set(user) <= {"ID_local", "ID_QG", "TYPE", "LOCATION"}
    return EmcEvent(
        **named,
        **numbers,
        User=EmcUser(user.get("ID_local"), user.get("ID_QG"), user["TYPE"], user["LOCATION"]),
    )


@given(any_event, settings_variants)
def test_what_is_sent_tells_the_event(event: EmcEvent, variant: EmcSettings) -> None:
    """In every variant, an independent reader gets the event back."""
    body = encode(event, variant)
    assert rebuilt(read(body.content_type, body.content)) == event


def test_the_default_is_the_guides_form() -> None:
    """Names, order and escapes of the default form, letter by letter."""
    body = encode(RECEIVED, settings())
    assert body.content_type == "application/x-www-form-urlencoded; charset=utf-8"
    assert body.content == (
        b"CodeProfile=000.00.11.H56-191203-1508&SiteId=327&CodeTTHC=2.000082"
        b"&NameTTHC=C%E1%BA%A5p+gi%E1%BA%A5y+b%C6%B0u+ch%C3%ADnh&Status=1&FormsReception=1&FormsPayments=0&Level=4"
        b"&IsFromDVCQG=0&IsDVCBC=0&Data="
        b"&User=%7B%22ID_QG%22%3A%22cd-0001%22%2C%22TYPE%22%3A2%2C%22LOCATION%22%3A%22000.00.02.H10%22%7D"
    )


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (EmcUser("abc", None, 1, "000.00.02.H10"), '{"ID_local":"abc","TYPE":1,"LOCATION":"000.00.02.H10"}'),
        (EmcUser(None, "abc", 2, "000.00.02.H10"), '{"ID_QG":"abc","TYPE":2,"LOCATION":"000.00.02.H10"}'),
    ],
)
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_the_user_is_written_as_in_the_guides_samples(user: EmcUser, text: str, encoding: str) -> None:
    """User is a JSON text, in a JSON body too."""
    body = encode(replace(RECEIVED, User=user), settings(encoding=encoding))
    assert read(body.content_type, body.content)["User"] == text


@pytest.mark.parametrize("encoding", ["form", "json"])
def test_camel_case_names_every_parameter(encoding: str) -> None:
    """The names that systems in the field use, User among them whatever `user_key` says."""
    body = encode(RECEIVED, settings(encoding=encoding, key_case="camel"))
    assert list(read(body.content_type, body.content)) == CAMEL


def test_the_user_key_alone_may_be_small() -> None:
    """The letter's sample writes `user` beside names in the guide's case."""
    body = encode(RECEIVED, settings(user_key="user"))
    assert list(read(body.content_type, body.content)) == [*NAMES[:-1], "user"]


def test_json_is_plain_utf_8() -> None:
    """Vietnamese stands in the body as itself, not as escapes; inside User too."""
    body = encode(replace(RECEIVED, User=EmcUser("tài-khoản", None, 1, "000.00.02.H10")), settings(encoding="json"))
    assert "Cấp giấy bưu chính".encode() in body.content
    assert "tài-khoản".encode() in body.content


def test_json_has_numbers_or_text() -> None:
    """`numbers` decides, and leaves TYPE inside User as the guide writes it."""
    as_numbers = json.loads(encode(RECEIVED, settings(encoding="json")).content)
    as_text = json.loads(encode(RECEIVED, settings(encoding="json", numbers="string")).content)
    assert {name: as_numbers[name] for name in NUMBERS} == {name: getattr(RECEIVED, name) for name in NUMBERS}
    assert {name: as_text[name] for name in NUMBERS} == {name: str(getattr(RECEIVED, name)) for name in NUMBERS}
    assert json.loads(as_text["User"])["TYPE"] == 2


@pytest.mark.parametrize(
    ("encoding", "null_payment", "sent"),
    [
        ("form", "zero", {"FormsPayments": "0"}),
        ("form", "empty", {"FormsPayments": ""}),
        ("form", "omit", {}),
        ("json", "zero", {"FormsPayments": 0}),
        ("json", "empty", {"FormsPayments": None}),
        ("json", "omit", {}),
    ],
)
def test_no_payment_is_sent_as_the_setting_says(encoding: str, null_payment: str, sent: dict[str, Any]) -> None:
    """The guide's Null, in its six forms; a payment is always sent."""
    variant = settings(encoding=encoding, null_payment=null_payment)
    body = encode(RECEIVED, variant)
    parameters = read(body.content_type, body.content)
    assert {name: value for name, value in parameters.items() if name == "FormsPayments"} == sent
    paid = encode(replace(RECEIVED, Status=3, FormsPayments=2), variant)
    assert str(read(paid.content_type, paid.content)["FormsPayments"]) == "2"

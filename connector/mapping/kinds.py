"""What each EMC parameter may hold: its closed words or numbers, and how a column's value is read as one.

Invariant: a value that does not fit its parameter is None (unknown), never an error: rows are not ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from unicodedata import normalize

from connector.change.record import Value
from connector.mapping.document import ScalarNode
from connector.mapping.facts import Channel, PaymentChannel, ResultChannel, UserType


class Unfit(Enum):
    """The value of a value map that has no line for what it was given, and no `else`."""

    UNFIT = "unfit"


UNFIT = Unfit.UNFIT


def canonical(value: Value) -> str:
    """The text by which values are compared: trimmed text, `true`/`false`, numbers without needless zeros,
    arrays and maps as JSON of such text.

    Text is trimmed because `character(n)` columns are padded, and legacy text columns often are.
    """
    match value:
        case str():
            return value.strip()
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            number = value if isinstance(value, Decimal) else Decimal(repr(value))
            if not number.is_finite():
                return str(number).lower()
            digits = f"{number:f}"
            if "." in digits:
                digits = digits.rstrip("0").rstrip(".")
            return digits if number else "0"
        case bytes():
            return value.hex()
        case list():
            return json.dumps([None if item is None else canonical(item) for item in value], ensure_ascii=False)
        case dict():
            return json.dumps(
                {key: None if item is None else canonical(item) for key, item in value.items()}, ensure_ascii=False
            )
    return str(value)


def spelt(text: str) -> str:
    """Text as it is compared: trimmed, and each letter in one piece.

    Old Vietnamese code pages write a letter and its tone apart, which looks the same and is other characters.
    """
    return text.strip() if text.isascii() else normalize("NFC", text.strip())


def comparable(value: Value) -> str:
    """`canonical`, spelt as it is compared."""
    return spelt(canonical(value))


def blank(value: Value) -> bool:
    """Whether a value counts as not there: NULL, no fitting line, or text of blanks only."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value is UNFIT


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is for.

    words: the closed words, none when any text will do.
    wrong: says why a constant of the YAML does not fit (cause, mend), or None when it does.
    read: a column's value as the fact's; None when it does not fit.
    prose: plain words for people, of which the beginning would do.
    """

    name: str
    words: tuple[str, ...]
    wrong: Callable[[ScalarNode], tuple[str, str] | None]
    read: Callable[[Value], object]
    guide: Mapping[object, str] = field(default_factory=dict)
    prose: bool = False


_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_LEVELS = {"0": 0, "3": 3, "4": 4}
_SITE = re.compile(r"[1-9][0-9]{0,8}\Z")


def _read_text(value: Value) -> object:
    return None if value is None or value is UNFIT else canonical(value) or None


def _read_truth(value: Value) -> object:
    return None if value is None or value is UNFIT else _TRUTH.get(canonical(value))


def _read_level(value: Value) -> object:
    return None if value is None or value is UNFIT else _LEVELS.get(canonical(value))


def _read_site(value: Value) -> object:
    if value is None or value is UNFIT:
        return None
    text = canonical(value)
    return int(text) if _SITE.match(text) else None


def _read_data(value: Value) -> object:
    return "" if value is None or value is UNFIT else canonical(value)


def _any(scalar: ScalarNode) -> tuple[str, str] | None:
    if scalar.value is None:
        return "a constant cannot be nothing", "write a value, '' for empty text, or leave the line out"
    return None


def _truth(scalar: ScalarNode) -> tuple[str, str] | None:
    if isinstance(scalar.value, bool):
        return None
    return f"'{scalar.written}' is neither true nor false", "allowed here: true, false"


def _level(scalar: ScalarNode) -> tuple[str, str] | None:
    if not isinstance(scalar.value, bool) and scalar.value in (0, 3, 4):
        return None
    return (
        f"'{scalar.written}' is not a level of the guide",
        "allowed here: 4 (fully online), 3 (partly online), 0 (information only)",
    )


def _site(scalar: ScalarNode) -> tuple[str, str] | None:
    if isinstance(scalar.value, int) and not isinstance(scalar.value, bool) and 0 < scalar.value < 10**9:
        return None
    return f"'{scalar.written}' is not a site id", "write the number that EMC gave to the agency, e.g. 327"


def _closed(
    name: str, words: Mapping[str, Enum], guide: Mapping[object, str], read: Callable[[Value], object] | None = None
) -> Kind:
    listed = ", ".join(words)

    def wrong(scalar: ScalarNode) -> tuple[str, str] | None:
        if scalar.value in words:
            return None
        told = f"'{scalar.written}' is not a word for {name}"
        word = guide.get(scalar.value) if not isinstance(scalar.value, bool) else None
        if word is not None:
            return told, f"the guide's {scalar.written} is written '{word}' here; allowed here: {listed}"
        return told, f"allowed here: {listed}"

    def plainly(value: Value) -> object:
        return None if value is None or value is UNFIT else words.get(comparable(value))

    return Kind(name, tuple(words), wrong, read or plainly, guide)


def _read_payment(value: Value) -> object:
    # Nothing paid is known: it is the guide's Null. A form of payment that no line knows is not.
    if value is None:
        return PaymentChannel.NONE
    return None if value is UNFIT else _PAYMENTS.get(canonical(value))


_PAYMENTS = {word.value: word for word in PaymentChannel}

TEXT = Kind("text", (), _any, _read_text)
PROSE = Kind("text", (), _any, _read_text, prose=True)
DATA = Kind("text", (), _any, _read_data, prose=True)
TRUTH = Kind("true or false", (), _truth, _read_truth)
LEVEL = Kind("level", (), _level, _read_level)
SITE = Kind("site id", (), _site, _read_site)
RECEPTION = _closed("FormsReception", {word.value: word for word in Channel}, {1: "online", 2: "in_person"})
RESULT = _closed("Result", {word.value: word for word in ResultChannel}, {})
PAYMENT = _closed("FormsPayments", _PAYMENTS, {0: "none", 1: "online", 2: "in_person"}, _read_payment)
USER_TYPE = _closed(
    "User type", {word.name.lower(): word for word in UserType}, {1: "business", 2: "citizen", 3: "officer"}
)

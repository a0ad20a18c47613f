"""Values mean what a plain reading of them says, and constants are checked wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import ConfigError
from connector.mapping import kinds
from connector.mapping.document import read
from connector.mapping.facts import Channel, PaymentChannel, ResultChannel, UserType
from connector.mapping.kinds import Kind
from connector.mapping.marks import Problems
from connector.mapping.names import Names
from connector.mapping.values import Values


def value_of(text: str, row: dict[str, object], kind: Kind = kinds.TEXT) -> object:
    """Compile a value's YAML for a parameter and read it from a row."""
    problems = Problems()
    getter = Values(Names(problems), problems).compile(read(text.encode(), "v.yml"), kind)
    problems.raise_found()
    return kind.read(getter([row]))


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("a", {"a": " x "}, "x"),
        ("a", {"a": " "}, None),
        ("a", {"a": None}, None),
        ("a", {}, None),
        ("a", {"a": 7}, "7"),
        ("a", {"a": Decimal("7.50")}, "7.5"),
        ("a", {"a": True}, "true"),
        ("2.000082", {}, "2.000082"),
        ("1.000100", {}, "1.000100"),
        ("{constant: ' x '}", {}, "x"),
        ("{constant: Cấp mới}", {}, "Cấp mới"),
        ("{column: a}", {"a": "x"}, "x"),
        ("{column: 'Mã hồ sơ'}", {"Mã hồ sơ": "x"}, "x"),
        ("{of: a, is: {1: Một, 2: Hai}}", {"a": 2}, "Hai"),
        ("{of: a, is: {1: Một, 2: Hai}}", {"a": "2"}, "Hai"),
        ("{of: a, is: {1: Một}}", {"a": 3}, None),
        ("{of: a, is: {1: Một}, else: Khác}", {"a": 3}, "Khác"),
        ("{of: a, is: {1: Một}, else: Khác}", {"a": None}, "Khác"),
        ("{of: a, is: {null: Chưa}, else: Khác}", {"a": None}, "Chưa"),
        ("{of: a, is: {true: Có, false: Không}}", {"a": False}, "Không"),
        ("{of: a, is: {1.000100: X}}", {"a": "1.000100"}, "X"),
        ("{of: a, is: {1.000100: X}}", {"a": "1.0001"}, None),
        ("{of: a, is: {1: {column: b}}}", {"a": 1, "b": "x"}, "x"),
        ("{of: {of: a, is: {1: k}}, is: {k: x}}", {"a": 1}, "x"),
        ("{of: {constant: 4}, is: {4: x}}", {}, "x"),
        ("{cases: [{when: {a: 1}, then: b}, {when: {a: 2}, then: c}], else: d}", {"a": 2, "c": "x"}, "x"),
        ("{cases: [{when: {a: 1}, then: b}], else: d}", {"a": 2, "d": "x"}, "x"),
        ("{cases: [{when: {a: 1}, then: b}]}", {"a": 2, "b": "x"}, None),
        ("{cases: [{when: {a: 1}, then: {constant: x}}, {when: {b: 1}, then: {constant: y}}]}", {"a": 1, "b": 1}, "x"),
        ("{coalesce: [a, b, {constant: x}]}", {"a": " ", "b": None}, "x"),
        ("{coalesce: [a, b]}", {"a": None, "b": 0}, "0"),
        ("{coalesce: [{of: a, is: {1: x}}, b]}", {"a": 2, "b": "y"}, "y"),
        ("{template: '{a}-{b}'}", {"a": "H56", "b": 7}, "H56-7"),
        ("{template: '{{{a}}}'}", {"a": "x"}, "{x}"),
        ("{template: '{a}-{b}'}", {"a": "H56", "b": None}, None),
        ("{template: chữ}", {}, "chữ"),
        ("{substring: a, from: 1, length: 3}", {"a": " H56.01 "}, "H56"),
        ("{substring: a, from: 5}", {"a": "H56.01"}, "01"),
        ("{substring: a, from: 9}", {"a": "H56.01"}, None),
        ("{substring: a, from: 2, length: 2}", {"a": 2024}, "02"),
        ("{substring: a, from: 1}", {"a": None}, None),
        ("{extract: a, pattern: '-([0-9]{6})-'}", {"a": "000.00.11.H56-191203-1508"}, "191203"),
        ("{extract: a, pattern: '[0-9]+$'}", {"a": "000.00.11.H56-191203-1508"}, "1508"),
        ("{extract: a, pattern: '[0-9]+'}", {"a": "không số"}, None),
        ("{extract: a, pattern: x}", {"a": None}, None),
        ("{of: {substring: a, from: 1, length: 3}, is: {H56: x}}", {"a": "H56.01"}, "x"),
        (
            "{date: a, type: timestamp, format: dd/MM/yyyy HH:mm:ss}",
            {"a": 1_706_686_245_000_000},
            "31/01/2024 07:30:45",
        ),
        ("{date: a, type: date, format: yyMMdd}", {"a": None}, None),
        ("{coalesce: [{date: a, type: date, format: yyMMdd}, b]}", {"a": 2**31, "b": "x"}, "x"),
        ("{of: a, is: {Hải Phòng: HP}}", {"a": normalize("NFD", "Hải Phòng")}, "HP"),
        ("{of: a, is: {" + normalize("NFD", "Hải Phòng") + ": HP}}", {"a": "Hải Phòng"}, "HP"),
    ],
)
def test_a_value_means_what_it_says(text: str, row: dict[str, object], expected: object) -> None:
    """One line per rule of the language reference."""
    assert value_of(text, row) == expected


@pytest.mark.parametrize(
    ("kind", "text", "row", "expected"),
    [
        (kinds.SITE, "327", {}, 327),
        (kinds.SITE, "a", {"a": "327"}, 327),
        (kinds.SITE, "a", {"a": -1}, None),
        (kinds.SITE, "a", {"a": "x"}, None),
        (kinds.SITE, "{of: a, is: {x: 327, y: 328}}", {"a": "y"}, 328),
        (kinds.LEVEL, "4", {}, 4),
        (kinds.LEVEL, "a", {"a": Decimal("3.0")}, 3),
        (kinds.LEVEL, "a", {"a": 2}, None),
        (kinds.LEVEL, "{of: a, is: {4: 4, 3: 3}, else: 0}", {"a": "2"}, 0),
        (kinds.TRUTH, "true", {}, True),
        (kinds.TRUTH, "a", {"a": 1}, True),
        (kinds.TRUTH, "a", {"a": "false"}, False),
        (kinds.TRUTH, "a", {"a": "x"}, None),
        (kinds.TRUTH, "{of: a, is: {dvcqg: true}, else: false}", {"a": None}, False),
        (kinds.DATA, "a", {"a": None}, ""),
        (kinds.DATA, "{constant: ''}", {}, ""),
        (kinds.DATA, "{of: a, is: {1: x}}", {"a": 2}, ""),
        (kinds.RECEPTION, "online", {}, Channel.ONLINE),
        (kinds.RECEPTION, "a", {"a": "in_person"}, Channel.IN_PERSON),
        (kinds.RECEPTION, "{column: online}", {"online": "in_person"}, Channel.IN_PERSON),
        (kinds.RECEPTION, "a", {"a": "x"}, None),
        (kinds.RECEPTION, "{cases: [{when: {a: 1}, then: online}], else: in_person}", {}, Channel.IN_PERSON),
        (kinds.RECEPTION, "{coalesce: [a, online]}", {"a": None}, Channel.ONLINE),
        (kinds.RESULT, "{constant: desk}", {}, ResultChannel.DESK),
        (kinds.RESULT, "{of: a, is: {b: other_post}}", {"a": "b"}, ResultChannel.OTHER_POST),
        (kinds.PAYMENT, "none", {}, PaymentChannel.NONE),
        (kinds.PAYMENT, "{of: a, is: {1: online}}", {"a": None}, PaymentChannel.NONE),
        (kinds.PAYMENT, "{of: a, is: {1: online}}", {"a": 1}, PaymentChannel.ONLINE),
        (kinds.PAYMENT, "{of: a, is: {1: online}}", {"a": 2}, None),
        (kinds.PAYMENT, "{coalesce: [{of: a, is: {1: online}}]}", {"a": 2}, None),
        (kinds.USER_TYPE, "{of: a, is: {1: business, 2: citizen, 3: officer}}", {"a": 3}, UserType.OFFICER),
    ],
)
def test_a_parameter_reads_its_value(kind: Kind, text: str, row: dict[str, object], expected: object) -> None:
    """Each parameter takes what the guide allows and knows nothing else."""
    read_value = value_of(text, row, kind)
    assert read_value == expected
    assert type(read_value) is type(expected)


KEYS = st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["x", "07", "moi nhan"])
LOOKED_UP = KEYS | st.sampled_from([" x ", "4", "-3", "true", " ", "1.0"]) | st.decimals(-3, 9, places=1)


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.sampled_from(["p", "q", "r"])), min_size=1, unique_by=lambda line: str(line[0])),
    st.none() | st.just("other"),
    LOOKED_UP,
)
def test_value_maps_and_naive_reading_agree(
    lines: list[tuple[object, str]], otherwise: str | None, value: object
) -> None:
    """Any value map on any value gives the first line that is equal, else `else`, else nothing."""
    told = "".join(f"  {json.dumps(key)}: {word}\n" for key, word in lines)
    text = f"of: a\nis:\n{told}" + (f"else: {otherwise}\n" if otherwise else "")

    def same(key: object) -> bool:
        if key is None or value is None:
            return key is value
        if isinstance(value, str) or isinstance(key, str):
            mine = json.dumps(key) if isinstance(key, bool | int) else str(key)
            other = (
                json.dumps(value) if isinstance(value, bool) else f"{value:g}" if isinstance(value, Decimal) else value
            )
            return mine == str(other).strip()
        if isinstance(value, bool) or isinstance(key, bool):
            return value is key
        return value == key

    expected = next((word for key, word in lines if same(key)), otherwise)
    assert value_of(text, {"a": value}) == expected


BROKEN = [
    ("FormsReception: onlin e", "19:19", "is not a column path", "{constant: 'text'}"),
    ("FormsReception: [a, b]", "19:19", "a list is no value", "coalesce"),
    ("FormsReception: 1", "19:19", "'1' is not a word for FormsReception", "the guide's 1 is written 'online'"),
    ("FormsReception: {}", "19:19", "an empty mapping is no value", "constant, column, of"),
    ("FormsReception: {off: kenh}", "19:20", "no form of value has 'off'", "did you mean 'of'?"),
    ("FormsReception: {of: kenh}", "19:19", "lacks 'is'", "add `is: …`"),
    ("FormsReception: {of: kenh, is: {}}", "19:34", "'is' takes", "is: {value: word, …}"),
    ("FormsReception: {of: kenh, is: [a]}", "19:34", "'is' takes", "is: {value: word, …}"),
    ("FormsReception: {of: kenh, is: {a: onlin}}", "19:38", "'onlin' is not a word", "did you mean 'online'?"),
    ("FormsReception: {of: kenh, is: {a: vnpost}}", "19:38", "'vnpost' is not a word", "online, in_person"),
    ("FormsReception: {of: kenh, is: {a: 2}}", "19:38", "'2' is not a word", "the guide's 2 is written 'in_person'"),
    ("FormsReception: {of: kenh, is: {a: online}, else: desk}", "19:53", "'desk' is not a word", "online, in_person"),
    ("FormsReception: {of: kenh, is: {a: {constant: x}}}", "19:49", "'x' is not a word", "online, in_person"),
    ("FormsReception: {constant: x}", "19:30", "'x' is not a word", "online, in_person"),
    ("FormsReception: {cases: [{when: {a: 1}, then: inperson}]}", "19:49", "'inperson'", "did you mean 'in_person'?"),
    ("FormsReception: {cases: [{when: {a: 1}, then: online}], else: x}", "19:65", "'x'", "online, in_person"),
    ("FormsReception: {cases: [{if: x, when: {a: 1}, then: online}]}", "19:29", "a case has no 'if'", "when, then"),
    ("FormsReception: {cases: {when: {a: 1}}}", "19:27", "'cases' takes a list", "- when:"),
    ("FormsReception: {coalesce: a}", "19:30", "'coalesce' takes a list", "[a, b]"),
    ("FormsReception: {of: kenh, is: {4: online, '4': in_person}}", "19:46", "stands here twice", "keep one"),
    ("FormsReception: {column: {a: b}}", "19:28", "'column' takes a column", "column: name"),
    ("FormsReception: {column: a, else: online}", "19:31", "has no 'else'", "column"),
    ("FormsReception: {template: [a]}", "19:30", "'template' takes text", "{reference.column}"),
    ("FormsReception: {template: '{a'}", "19:30", "a single '{'", "{{ or }}"),
    ("FormsReception: {template: '{servce.ma}'}", "19:30", "no reference is named 'servce'", "'service'"),
    ("FormsReception: {last: payment, column: x}", "19:26", "no child table is named 'payment'", "'payments'"),
    ("FormsReception: {last: [payments], column: x}", "19:26", "not a list", "last: payments"),
    ("FormsReception: {last: payments}", "19:19", "lacks 'column'", "add `column: …`"),
    ("FormsReception: {last: payments, column: service.ma}", "19:44", "not a column of the child", "without a dot"),
    ("FormsReception: {last: payments, where: {a.b: 1}, column: x}", "19:44", "not a column of the child", "without"),
    ("FormsReception: {last: payments, column: x, is: {a: online}}", "19:47", "'is' cannot stand", "inside `of`"),
    ("FormsReception: {count: payment}", "19:27", "no child table is named 'payment'", "'payments'"),
    ("FormsReception: {count: payments, column: x}", "19:37", "has no 'column'", "count, where"),
    ("FormsReception: {substring: a, from: 0}", "19:40", "'from' takes a whole number", "from: 1"),
    ("FormsReception: {substring: a, from: 1, length: x}", "19:51", "'length' takes a whole number", "length: 1"),
    ("FormsReception: {substring: a}", "19:19", "lacks 'from'", "add `from: …`"),
    ("FormsReception: {extract: a, pattern: '('}", "19:41", "no regular expression", "in quotes"),
    ("FormsReception: {extract: a, pattern: '(a)(b)'}", "19:41", "has 2 groups", "in quotes"),
    ("FormsReception: {extract: a, pattern: [a]}", "19:41", "'pattern' takes text", "pattern: '"),
    ("FormsReception: {date: a, type: dates, format: yy}", "19:35", "a type of date or time", "timestamptz"),
    ("FormsReception: {date: a, type: date, format: YYYY}", "19:49", "a pattern of a date", "yyyy yy MM"),
    ("FormsReception: {date: [a], type: date, format: yy}", "19:26", "'date' takes a column", "date: column"),
    (
        "FormsReception: {cases: [{when: {a: [x, y]}, then: online}, {when: {a: y}, then: in_person}]}",
        "19:74",
        "'y' never reaches this case: line 19 takes it",
        "asks for more first",
    ),
    (
        "FormsReception: {cases: [{when: {a: 1, b: 2}, then: online}, {when: {b: 2, a: 1}, then: in_person}]}",
        "19:71",
        "never reached: line 19 has the same condition",
        "remove one",
    ),
    ("Level: 2", "19:10", "'2' is not a level", "4 (fully online)"),
    ("Level: true", "19:10", "'true' is not a level", "4 (fully online)"),
    ("Level: {of: a, is: {x: bốn}}", "19:26", "'bốn' is not a level", "4 (fully online)"),
    ("SiteId: 0", "19:11", "'0' is not a site id", "327"),
    ("SiteId: {constant: '327'}", "19:22", "'327' is not a site id", "327"),
    ("IsFromDVCQG: 1", "19:16", "'1' is neither true nor false", "true, false"),
    ("CodeProfile: {constant: null}", "19:27", "cannot be nothing", "''"),
    ("CodeProfile:", "19:15", "cannot be nothing", "leave the line out"),
    ("CodeProfile: payments.id", "19:16", "a child table with many rows", "{last: payments, column: id}"),
]


@pytest.mark.parametrize(("line", "place", "cause", "mend"), BROKEN)
def test_a_broken_value_is_told_at_its_place(
    mapping: str, errors_of: Callable[[str], list[ConfigError]], line: str, place: str, cause: str, mend: str
) -> None:
    """Every wrong constant, name or shape in a value has its line, column, cause and mend."""
    parameter = line.split(":")[0]
    lines = [each for each in mapping.splitlines() if not each.startswith(f"  {parameter}:")]
    row = int(place.split(":")[0]) - 1
    found = errors_of("\n".join([*lines[:row], f"  {line}", *lines[row:]]))
    assert [error.subject for error in found] == [f"m.yml:{place}"]
    assert cause in found[0].cause
    assert mend in found[0].mend

"""YAML text becomes nodes that know their place, and everything doubtful is refused with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import ConfigErrors
from connector.mapping.document import MAX_BYTES, ListNode, MapNode, Node, ScalarNode, read


def failures(data: bytes) -> list[tuple[str, str, str]]:
    """Place, cause and mend of everything that is wrong with a file."""
    with pytest.raises(ConfigErrors) as caught:
        read(data, "f.yml")
    return [(error.subject, error.cause, error.mend) for error in caught.value.problems]


def plain(node: Node) -> object:
    """A node as Python values."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key.value: plain(value) for key, value in node.entries}


BROKEN = [
    (b"a: 1\na: 2\n", "f.yml:2:1", "'a' stands here twice; the first is on line 1", "keep one"),
    (b"a: {b: 1, b: 2}\n", "f.yml:1:11", "'b' stands here twice", "keep one"),
    (b"a: &x 1\n", "f.yml:1:4", "anchors (&x)", "write the value out"),
    (b"a: *x\n", "f.yml:1:4", "aliases (*x)", "write the value out"),
    (b"a: !!str 3\n", "f.yml:1:4", "tags", "without '!'"),
    (b"a: !!python/object:os.system {}\n", "f.yml:1:4", "tags", "without '!'"),
    (b"a: {<<: {b: 1}}\n", "f.yml:1:5", "merge keys", "write the lines out"),
    (b"[1, 2]: 3\n", "f.yml:1:1", "a key cannot be a list", "a word"),
    (b"? {a: 1}\n: 3\n", "f.yml:1:3", "a key cannot be a mapping", "a word"),
    (b"a: 1\n---\nb: 2\n", "f.yml:2:1", "a second document", "one document"),
    (b"a:\n\tb: 1\n", "f.yml:2:1", "'\\t'", "spaces"),
    (b"a: 1\nb: 'x\nc: 2\n", "f.yml:2:4", "unexpected end of stream", "close the quote"),
    (b"a: {b: 1\nc: 2\n", "f.yml:2:2", "expected ',' or '}'", "close the '{'"),
    (b"a: [b, 1\nc: 2\n", "f.yml:2:2", "expected ',' or ']'", "close the '['"),
    (b"a: b: c\n", "f.yml:1:5", "mapping values are not allowed", "in quotes"),
    (b"a: 1\n  b: 2\n", "f.yml:2:4", "mapping values are not allowed", "indentation"),
    (b"a:\n  b: 1\n c: 2\n", "f.yml:3:2", "expected <block end>", "same column"),
    (b"a: 1\nb\n", "f.yml:3:1", "could not find expected ':'", "key: value"),
    (b'a: "\\q"\n', "f.yml:1:6", "escape character 'q'", "single quotes"),
    (b"a: @b\n", "f.yml:1:4", "cannot start any token", "in quotes"),
    (b"", "f.yml:1:1", "empty", "config/emc-cdc.yml"),
    (b"# only a comment\n", "f.yml:1:1", "empty", "config/emc-cdc.yml"),
    ("tên: ".encode() + b"\xff\n", "f.yml:1:6", "not UTF-8", "UTF-8"),
    ("a: 1\nb: phố".encode("utf-16"), "f.yml:1:1", "not UTF-8", "UTF-8"),
    (b"a: 1\nb: \x01\n", "f.yml:2:4", "U+0001", "remove"),
    (b"a: " + b"[" * 51, "f.yml:1:53", "more than 50 levels", "right file"),
    (b"a: " + b"{a: " * 60, "f.yml:1:200", "more than 50 levels", "right file"),
    (b"#" * (MAX_BYTES + 1), "f.yml:1:1", "larger than", "right file"),
]


@pytest.mark.parametrize(("data", "place", "cause", "mend"), BROKEN)
def test_a_broken_file_is_refused_at_its_place(data: bytes, place: str, cause: str, mend: str) -> None:
    """Every kind of broken YAML names file, line and column, the cause, and how to mend it."""
    ((subject, told, way),) = failures(data)
    assert subject == place
    assert cause in told
    assert mend in way


def test_everything_doubtful_is_told_at_once() -> None:
    """Several anchors, tags and doubles give several errors, in the order of the file."""
    places = [place for place, _, _ in failures(b"a: &x 1\nb: !t 2\na: 3\nc: *x\n")]
    assert places == ["f.yml:1:4", "f.yml:2:4", "f.yml:3:1", "f.yml:4:4"]


def test_what_was_doubtful_before_a_syntax_error_is_told_too() -> None:
    """A syntax error ends the reading but hides nothing found before it."""
    assert [place for place, _, _ in failures(b"a: &x 1\nb: 'x\n")] == ["f.yml:1:4", "f.yml:2:4"]


def test_the_line_is_shown_with_a_caret_under_the_word() -> None:
    """A person sees the line and where in it; wide and combining characters do not move the caret."""
    ((_, cause, _),) = failures("hồ: {sơ: 1, sơ: 2}\n".encode())
    assert cause.splitlines()[1:] == ["    1 | hồ: {sơ: 1, sơ: 2}", "      |             ^^"]
    ((_, cause, _),) = failures("{ho\u0302: 1, ho\u0302: 2}\n".encode())
    assert cause.splitlines()[2] == "      |         ^^"


def test_a_long_line_is_cut_around_the_place() -> None:
    """A line of a thousand characters is shown as a hundred, with the place in them."""
    ((_, cause, _),) = failures(b"a: {" + b"x: 1, y: [" + b"1, " * 300 + b"1], x: 2}\n")
    line, caret = cause.splitlines()[1:]
    assert len(line) <= 108
    assert line[caret.index("^")] == "x"


@pytest.mark.parametrize(
    "text",
    [
        "source:\n  dsn: postgresql://u:geheim@h/db: x\n",
        "source:\n  dsn: >\n    host=h\n    password=geheim: x: y\n  : b: c\n",
        "emc:\n  headers:\n    X-Own: geheim: x\n",
        "emc: {headers: {X-Own: geheim: x}}\n",
        "log:\n  kafka:\n    settings:\n      whatever: geheim: x\n",
        "a: b: postgresql://u:geheim@h/db\n",
        "api-key: geheim: x\n",
        "my.sasl.password: geheim: x\n",
        "a: b: host=h password=geheim\n",
        "source:\n  dns: geheim: x\n",
        "passwrd: geheim: x\n",
    ],
)
def test_a_secret_is_not_shown_with_its_line(text: str) -> None:
    """The line of an error is shown without what may be a secret."""
    assert all("geheim" not in f"{cause}{mend}" for _, cause, mend in failures(text.encode()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("True", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"),
        ("null", None), ("~", None), ("", None), ("nil", "nil"),
        ("4", 4), ("-4", -4), ("+4", 4), ("0", 0), ("00", "00"), ("0912", "0912"), ("1.5", 1.5), (".5", 0.5),
        ("1e3", 1000.0), ("01.5", "01.5"), ("1_000", "1_000"), ("0x1F", "0x1F"), ("12:30", "12:30"),
        ("2024-03-25", "2024-03-25"), ("2.000.082", "2.000.082"), (".inf", ".inf"), ("'4'", "4"), ('"true"', "true"),
        ("9" * 50, "9" * 50),
    ],
)  # fmt: skip
def test_an_unquoted_scalar_means_what_a_reader_sees(text: str, value: object) -> None:
    """Only true, false, null and plain numbers are more than text."""
    node = read(f"a: {text}\n".encode(), "f.yml")
    read_value = plain(node)["a"]  # type: ignore[index]
    assert read_value == value
    assert type(read_value) is type(value)


def test_a_byte_order_mark_does_not_move_columns() -> None:
    """Windows editors write one; the first key is still in column 1."""
    node = read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yml")
    assert isinstance(node, MapNode)
    assert [str(key.mark) for key, _ in node.entries] == ["f.yml:1:1", "f.yml:2:1"]


def test_fifty_levels_are_allowed() -> None:
    """The bound is on more than fifty."""
    assert plain(read(b"[" * 50 + b"]" * 50, "f.yml")) is not None


TREES = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="ascii", categories=["L", "N"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(TREES)
def test_json_is_read_as_it_was_written(tree: object) -> None:
    """JSON is YAML: any tree written as JSON comes back the same."""
    assert plain(read(json.dumps(tree).encode(), "f.yml")) == tree


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No bytes make the reader fail with anything but ConfigErrors."""
    try:
        read(data, "f.yml")
    except ConfigErrors as caught:
        places = [error.subject for error in caught.problems]
    else:
        places = []
    assert all(place.startswith("f.yml:") for place in places)


@settings(deadline=None)
@given(st.text("ab:-{}[],'\"&*!|>#%@` \n\t?<0", max_size=40))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    """The same for text made of YAML's own signs, which gets further into the parser."""
    try:
        read(text.encode(), "f.yml")
    except ConfigErrors as caught:
        places = [error.subject for error in caught.problems]
    else:
        places = []
    assert all(place.startswith("f.yml:") for place in places)

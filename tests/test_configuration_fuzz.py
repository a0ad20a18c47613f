"""Files that are no configurations: each is refused clearly, within seconds and in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_configuration import plain

from connector.configuration import load, presets
from connector.errors import ConfigError, ConfigErrors
from connector.mapping.document import ScalarNode, read
from connector.mapping.marks import MOST_TOLD

EXAMPLE = Path(__file__).parents[1] / "config" / "emc-cdc.yml"
HEAD = "name: motcua\nsource: {dsn: host=db dbname=motcua password=geheim}\n"
VALID = HEAD + "mapping: {extends: preset:one-stop-generic, SiteId: 327}\n"
MEGABYTES = 600
SECONDS = 60
"""Of processor time: far more than is needed on a busy machine, and far less than the square of anything would take."""

_LIMITED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20, {MEGABYTES} << 20))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
from connector.cli import main
main()
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMC_CDC_DSN", "host=db dbname=motcua password=geheim")
    monkeypatch.chdir(tmp_path)


def refused(folder: Path, data: bytes | str) -> list[ConfigError]:
    """What is wrong with a file, each error fit to be shown."""
    path = folder / "emc-cdc.yml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    for error in caught.value.problems:
        _is_fit(error)
    return list(caught.value.problems)


def _is_fit(error: ConfigError) -> None:
    """An error says where, what and how to mend it, in a few lines that a terminal can show."""
    assert error.subject
    assert error.cause
    assert error.mend
    told = f"{error.cause}{error.mend}"
    assert len(told) < 20_000
    assert all(sign.isprintable() or sign in "\t\n" for sign in told)
    told.encode()


def lines(form: str, count: int) -> str:
    """So many lines of one form, each with its number."""
    return "".join(form.format(number) for number in range(count))


OWN = HEAD + "mapping:\n  extends: preset:one-stop-generic\n  SiteId: 327\n"
HUGE = {
    "100,000 lines": VALID + lines("key{}: 1\n", 100_000),
    "100,000 times one key": VALID + "key: 1\n" * 100_000,
    "100,000 aliases": VALID + "a: &a 1\n" + "b: *a\n" * 100_000,
    "300,000 anchors on one line": VALID + "x: [" + "&a 1," * 300_000 + "]\n",
    "40,000 unknown settings": VALID + lines("key{}: 1\n", 40_000),
    "40,000 unknown settings in a section": VALID + "source2:\n" + "emc:\n" + lines("  key{}: 1\n", 40_000),
    "24,000 headers that are no text": VALID + "emc:\n  headers:\n" + lines("    key{}: [1]\n", 24_000),
    "40,000 settings of librdkafka": VALID
    + "log:\n  kafka:\n    brokers: k\n    settings:\n"
    + lines("      key{}: 1\n", 40_000),
    "30,000 words that are none": OWN + "  FormsReception:\n    of: kenh\n    is:\n" + lines("      k{}: on\n", 30_000),
    "10,000 cases that are none": OWN + "  NameTTHC:\n    cases:\n" + lines("    - {{wen: {{a: {}}}}}\n", 10_000),
    "10,000 paths that lead nowhere": OWN + "  NameTTHC: {coalesce: [" + lines("no{}.name, ", 10_000) + "]}\n",
    "a template of 5,000 paths that lead nowhere": OWN + "  NameTTHC: {template: '" + "{a.b}" * 3_900 + "'}\n",
    "10,000 references of which none is meant": OWN
    + "  references:\n"
    + lines("    r{0}: {{table: a.b{0}, match: {{a: x{0}.b}}}}\n", 10_000),
    "5,000 circles of references": OWN
    + "  references:\n"
    + "".join(
        f"    r{n}: {{table: a.r{n}, match: {{a: s{n}.b}}}}\n    s{n}: {{table: a.s{n}, match: {{a: r{n}.b}}}}\n"
        for n in range(5_000)
    ),
    "a word of two million letters": VALID + "x: " + "a.b-" * 500_000 + ": b: c\n",
    "a value of two million letters": OWN + "  NameTTHC: " + "x" * 1_900_000 + "\n",
    "two million blanks and letters": VALID + "x: " + "a b " * 480_000 + "\n",
    "50,000 lists in lists": VALID + "x: " + "[" * 50_000,
    "50,000 mappings in mappings": VALID + "x: " + "{a: " * 50_000,
    "50,000 dashes": VALID + "x:\n" + "- " * 50_000,
    "50,000 question marks": "? " * 50_000,
    "1,800 levels of lines": "".join(f"{' ' * level}a:\n" for level in range(1_800)),
    "a billion laughs": "a: &a [ha, ha]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 9}]\n" for n in range(20)),
    "a mapping without an end": HEAD + "mapping: /dev/zero\n",
    "a secret without an end": VALID + "console: {listen: '${file:/dev/zero}'}\n",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every third of the huge files, all of them with --full."""
    if "huge" in metafunc.fixturenames:
        names = list(HUGE)
        metafunc.parametrize("huge", names if metafunc.config.getoption("--full") else names[::3])


def test_a_huge_file_is_refused_within_seconds_and_in_bounded_memory(tmp_path: Path, huge: str) -> None:
    """`check` says what is wrong and exits with 2, whatever there is very much of."""
    (tmp_path / "emc-cdc.yml").write_text(HUGE[huge], "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, "check", "--config", "emc-cdc.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr + done.stdout
    assert "geheim" not in done.stderr + done.stdout
    assert "emc-cdc.yml:" in done.stderr + done.stdout or "/dev/zero" in done.stderr + done.stdout
    assert len(done.stderr + done.stdout) < 2_000_000


def test_of_very_many_errors_the_first_are_told_and_that_there_are_more(tmp_path: Path) -> None:
    """A hundred are enough to begin with; the last line says where the next one is."""
    found = refused(tmp_path, VALID + lines("key{}: 1\n", MOST_TOLD + 5))
    assert len(found) == MOST_TOLD + 1
    assert "there are more errors" in found[-1].cause
    assert found[-1].subject.endswith(f":{MOST_TOLD + 4}:1")
    assert len(refused(tmp_path, VALID + lines("key{}: 1\n", MOST_TOLD))) == MOST_TOLD


VIETNAMESE = VALID + "# Một cửa, hồ sơ, kết quả\nx: password=geheim\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_file_in_utf_16_is_recognised_and_not_shown(tmp_path: Path, encoding: str) -> None:
    """What Notepad calls Unicode: the mend says how to save it; no line of it is shown, because secrets hide in it."""
    (error,) = refused(tmp_path, VIETNAMESE.encode(encoding))
    assert "looks like UTF-16" in error.cause
    assert "UTF-8" in error.mend
    assert "g" not in error.cause.split("\n", 1)[1]


@pytest.mark.parametrize("encoding", ["cp1258", "latin-1", "gb18030", "utf-8-nul"])
def test_a_file_in_another_code_page_is_refused_at_its_place(tmp_path: Path, encoding: str) -> None:
    """Old Vietnamese code pages and others: file, line and column of the first character that is none."""
    if encoding == "utf-8-nul":
        data = VALID.encode() + b"# t\0n\n"
    else:
        data = VALID.encode() + "# tên: Đà Nẵng\n".encode(encoding, "ignore")
    (error,) = refused(tmp_path, data)
    assert error.subject.endswith(("emc-cdc.yml:4:4", "emc-cdc.yml:4:5"))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('x: "\\UFFFFFFFF"', "cannot be"),
        ('x: "\\U00110000"', "cannot be"),
        ('x: "\\ud800"', "half a character"),
        ('"x\\ud800": 1', "half a character"),
        ('x: "a\\0b"', "character 0"),
        ('console: {listen: "${file:a\\0b}"}', "character 0"),
        ('console: {listen: "${env:\\udfff}"}', "half a character"),
        ("x: !%FF%FE y", "not YAML"),
    ],
)
def test_what_only_yaml_can_write_is_refused(tmp_path: Path, line: str, cause: str) -> None:
    """Characters that cannot be, or that neither a path nor a database can hold."""
    assert cause in refused(tmp_path, VALID + line + "\n")[0].cause


def test_a_version_of_yaml_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Python reads no number of five thousand digits; that is the file's fault."""
    assert "not YAML" in refused(tmp_path, f"%YAML 1.{'1' * 5000}\n---\n{VALID}")[0].cause


def test_a_number_that_is_too_large_is_text(tmp_path: Path) -> None:
    """1e999 would be infinite, and a wait without an end."""
    node = read(b"1e999", "f.yml")
    assert isinstance(node, ScalarNode)
    assert node.value == "1e999"


def test_what_a_terminal_would_obey_is_not_shown_as_it_is(tmp_path: Path) -> None:
    """A key with an escape sequence in it is told without it."""
    (error,) = refused(tmp_path, VALID + '"\\e[2Jx": 1\n')
    assert "has no '\N{REPLACEMENT CHARACTER}[2Jx'" in error.cause


def test_a_mapping_that_comes_back_to_itself_on_another_way_is_refused(tmp_path: Path) -> None:
    """`../here/m.yml` names the same file each time, by a longer path."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "m.yml").write_text("mapping: {extends: ../here/m.yml, SiteId: 327}\n")
    (error,) = refused(tmp_path, HEAD + "mapping: here/m.yml\n")
    assert "extends itself" in error.cause


def test_a_long_row_of_mappings_is_refused(tmp_path: Path) -> None:
    """Two thousand files, each extending the next, are told at the eleventh."""
    for number in range(2000):
        (tmp_path / f"m{number}.yml").write_text(f"mapping: {{extends: m{number + 1}.yml}}\n")
    (error,) = refused(tmp_path, HEAD + "mapping: m0.yml\n")
    assert "more than 10 mappings" in error.cause


def test_bytes_in_the_environment_that_are_no_text_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable in an old code page would fail much later, in an event."""
    monkeypatch.setitem(os.environ, "SITE", os.fsdecode(b"\xff\xfe"))
    (error,) = refused(tmp_path, HEAD + "mapping: {extends: preset:one-stop-generic, SiteId: '${env:SITE}'}\n")
    assert "not UTF-8 text" in error.cause


# --- mutations of files that are right -----------------------------------------------------------------------------


def _whole(preset: str) -> bytes:
    text = (resources.files("connector.mapping") / "presets" / f"{preset}.yml").read_text("utf-8")
    body = text[text.index("\nmapping:") + 1 :]
    return f"{HEAD}{body}  SiteId: 327\n".encode()


FILES = [EXAMPLE.read_bytes(), VALID.encode(), *map(_whole, presets())]
TREES = [plain(read(data, "valid")) for data in FILES]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from(
        [
            "${env:NONE}", "${file:none}", "${", "$${", "a.b.c", "a.", ".", "{", "{}", "{{a}", "(", "a{9999999999}",
            "[", "preset:", "preset:opencps-v2", "..", "/", "/dev/null", "~", "<<", "of", "is", "when", "all", "not",
            "1e999", "2024-13-45", "online", "yyyy-MM", "timestamp(9)", "service.ma", "payments",
        ]
    )
)  # fmt: skip
KEYS = st.text(max_size=6) | st.sampled_from(
    [
        "of", "is", "else", "cases", "when", "then", "coalesce", "template", "last", "first", "count", "exists",
        "where", "column", "constant", "substring", "from", "length", "extract", "pattern", "date", "type", "format",
        "all", "any", "not", "set", "gt", "lt", "table", "match", "belongs_to", "order_by", "extends", "mapping",
    ]
)  # fmt: skip
HOSTILE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
BYTES = [b"\0", b"\xff", b"\xe1\xbb", b"\xed\xa0\x80", b"\t", b"\r", b"'", b'"', b"&a ", b"*a", b"!t ", b"<<: ",
         b"---\n", b"{", b"}", b"[", b"]", b": ", b"- ", b"? ", b"| ", b"> ", b"%", b"@", b"#", b"\n", b"${",
         b"\xc2\x85", b"\xe2\x80\xa8", b"\x1b[2J", b'"\\UFFFFFFFF"', b"9" * 30]  # fmt: skip


def loaded_or_refused(data: bytes) -> None:
    """A file is taken, or refused with errors that are fit to be shown."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "emc-cdc.yml"
        path.write_bytes(data)
        try:
            load(path)
        except ConfigErrors as caught:
            found = caught.problems
        else:
            found = ()
    for error in found:
        _is_fit(error)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every collection of a tree with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest:
        node = rest.pop()
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inside:
            found.append((node, key))
            rest.append(value)
    return found


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_change_of_a_right_file_is_taken_or_refused(data: st.DataObject) -> None:
    """Parts put in, taken out and exchanged, of the text as bytes: nothing but ConfigErrors comes out."""
    text = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.sampled_from([0, 0, 1, 3, 40, 400])))
        text[start:end] = data.draw(st.sampled_from(BYTES) | st.binary(max_size=4) | st.just(bytes(text[:start][-60:])))
    loaded_or_refused(bytes(text))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_value_in_any_place_of_a_right_file_is_taken_or_refused(data: st.DataObject) -> None:
    """Anything in the place of any value, and any key in the place of any other: nothing but ConfigErrors comes out."""
    tree = json.loads(json.dumps(data.draw(st.sampled_from(TREES))))
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from(places(tree)))
        if isinstance(node, dict) and data.draw(st.booleans()):
            node[data.draw(KEYS)] = node.pop(key)
        else:
            node[key] = data.draw(HOSTILE)
        if not places(tree):
            break
    loaded_or_refused(json.dumps(tree, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))

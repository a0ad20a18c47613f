"""The configuration file: read as a whole, with every error at its place and no secret in any of them."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from connector.configuration import json_schema, load, presets
from connector.errors import ConfigError, ConfigErrors
from connector.mapping.document import ListNode, MapNode, Node, ScalarNode, read
from connector.settings import DebeziumSettings, KafkaSettings, RegistrySettings, Settings

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config" / "emc-cdc.yml"
MINIMAL = """\
name: motcua
source:
  dsn: host=db dbname=motcua
mapping: {extends: preset:one-stop-generic, SiteId: 327}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMC_CDC_DSN", "host=db dbname=motcua password=geheim")
    monkeypatch.chdir(tmp_path)


def written(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    path = folder / "emc-cdc.yml"
    path.write_text(text, "utf-8")
    return path


def errors(folder: Path, text: str) -> dict[str, ConfigError]:
    """What is wrong with a configuration, by line:column."""
    with pytest.raises(ConfigErrors) as caught:
        load(written(folder, text))
    found = caught.value.problems
    assert all("geheim" not in f"{error.subject}{error.cause}{error.mend}" for error in found)
    return {error.subject.split("emc-cdc.yml:")[-1]: error for error in found}


def plain(node: Node) -> Any:
    """A node as JSON values."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key.text: plain(value) for key, value in node.entries}


def leaves(model: BaseModel, prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted name."""
    found: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def test_the_smallest_configuration_has_the_defaults(tmp_path: Path) -> None:
    """Name, source and mapping are enough."""
    configuration = load(written(tmp_path, MINIMAL))
    assert configuration.path == tmp_path / "emc-cdc.yml"
    assert configuration.settings == Settings.model_validate(
        {"name": "motcua", "source": {"dsn": "host=db dbname=motcua"}}
    )
    assert configuration.plan.selection.dossier.full_name == "motcua.ho_so"


def test_the_example_shows_every_setting_with_its_default() -> None:
    """config/emc-cdc.yml loads, means the defaults, and leaves no setting out."""
    settings = load(EXAMPLE).settings
    defaults = Settings.model_validate({"name": "motcua", "source": {"dsn": "x"}})
    shown = leaves(settings)
    shown.pop("source.dsn")
    expected = leaves(defaults)
    assert shown == {
        **{name: value for name, value in expected.items() if name not in ("source.dsn", "log.embedded")},
        "log.embedded.path": Path("data/log/changes.sqlite"),
        "log.embedded.compaction_lag": 1_209_600.0,
    }
    document = plain(read(EXAMPLE.read_bytes(), "x"))
    for name in shown:
        *sections, last = name.split(".")
        if name in ("log.kafka", "log.debezium"):  # shown as comments: see the next tests
            continue
        part = document
        for section in sections:
            part = part[section]
        assert last in part, name


def test_the_examples_kafka_lines_work_when_they_are_taken_out_of_the_comment(tmp_path: Path) -> None:
    """The Kafka part of the example is shown in comments; without the '#' it loads and leaves nothing out."""
    text = EXAMPLE.read_text("utf-8")
    text = re.sub(r"  embedded:\n(    .*\n)+", "", text)
    start = text.index("  # kafka:")
    end = text.index("  # Số phân vùng")
    text = text[:start] + re.sub(r"^  # ", "  ", text[start:end], flags=re.M) + text[end:]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "kafka-password").write_text("00123\n")
    (tmp_path / "secrets" / "registry-password").write_text("geheim\n")
    kafka = load(written(tmp_path, text)).settings.log.kafka
    assert kafka is not None
    assert set(kafka.model_fields_set) == set(KafkaSettings.model_fields)
    assert kafka.registry is not None
    assert set(kafka.registry.model_fields_set) == set(RegistrySettings.model_fields)
    assert (kafka.replication_factor, kafka.min_insync_replicas) == (3, 2)
    assert kafka.settings["sasl.password"] == "00123"


def test_the_examples_debezium_lines_work_when_they_are_taken_out_of_the_comment(tmp_path: Path) -> None:
    """Beside a Kafka they need no `source`; the lines leave nothing out and show the defaults."""
    lines = EXAMPLE.read_text("utf-8").split("  # debezium:\n")[1].split("\n\n")[0]
    text = MINIMAL.replace("source:\n  dsn: host=db dbname=motcua\n", "")
    assert "source" not in text
    text += "log:\n  kafka: {brokers: k}\n  debezium:\n" + re.sub(r"^  # ", "  ", lines, flags=re.M) + "\n"
    debezium = load(written(tmp_path, text)).settings.log.debezium
    assert debezium is not None
    assert set(debezium.model_fields_set) == set(DebeziumSettings.model_fields)
    assert debezium == DebeziumSettings(prefix="legacy")
    jsonschema.validate(plain(read(text.encode(), "x")), json_schema(), jsonschema.Draft202012Validator)


def test_text_comes_out_of_environment_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${env:}` and `${file:}` may stand inside text, also for numbers and in the mapping; `$${` is itself."""
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("SITE", "4711")
    (tmp_path / "token").write_text("a${env:PORT}b\r\n", newline="")
    text = MINIMAL.replace("327", "'${env:SITE}'").replace("dbname=motcua", "password=${env:PORT}")
    text += "console: {listen: '0.0.0.0:${env:PORT}'}\nlog: {partitions: '${env:PORT}'}\n"
    text += "emc: {headers: {X: 'Bearer ${file:token}', Y: '$${env:PORT}'}}\n"
    monkeypatch.setenv("PORT", "900")
    configuration = load(written(tmp_path, text))
    settings = configuration.settings
    assert settings.source.dsn.get_secret_value() == "host=db password=900"
    assert settings.console is not None
    assert (settings.console.listen, settings.log.partitions) == ("0.0.0.0:900", 900)
    # What a file holds is text as it is: it is not looked into again.
    assert settings.emc.headers["X"].get_secret_value() == "Bearer a${env:PORT}b"
    assert settings.emc.headers["Y"].get_secret_value() == "${env:PORT}"

    class View:
        dossier: dict[str, object] = {}  # noqa: RUF012 — read only

        def children(self, table: str) -> list[dict[str, object]]:
            return []

        def reference(self, table: str, column: str, value: object) -> None:
            return None

    assert configuration.plan.facts(View()).site_id == 4711


def test_a_mapping_in_a_file_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is relative to the file that names it, wherever the connector runs; its errors name it."""
    (tmp_path / "maps" / "deep").mkdir(parents=True)
    (tmp_path / "maps" / "ours.yml").write_text("mapping: {extends: deep/base.yml, SiteId: 5}\n")
    base = tmp_path / "maps" / "deep" / "base.yml"
    base.write_text("mapping:\n  extends: preset:one-stop-generic\n  Data: noi_dung\n")
    text = MINIMAL.split("mapping:")[0] + "mapping: maps/ours.yml\n"
    monkeypatch.chdir("/")
    plan = load(written(tmp_path, text)).plan
    assert "noi_dung" in plan.selection.dossier.columns
    base.write_text("mapping:\n  extends: preset:one-stop-generic\n  Dat: noi_dung\n")
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path / "emc-cdc.yml")
    assert caught.value.subject == f"{base}:3:3"


def test_every_preset_needs_nothing_but_a_site_id(tmp_path: Path) -> None:
    """A shipped mapping is complete except for what belongs to one agency."""
    assert "one-stop-generic" in presets()
    for preset in presets():
        load(written(tmp_path, MINIMAL.replace("one-stop-generic", preset)))
        found = errors(tmp_path, f"name: a\nsource: {{dsn: x}}\nmapping: preset:{preset}\n")
        (error,) = found.values()
        assert "the mapping lacks 'SiteId'" in error.cause


def test_columns_that_may_be_cut(tmp_path: Path) -> None:
    """Plain words, and what is only asked for being there: in place, behind a reference, in a template, of a child."""
    text = (
        MINIMAL.split("mapping:")[0]
        + """\
log: {on_oversized: truncate, truncate: [motcua.thu_tuc.ten, motcua.ho_so.noi_dung, motcua.ho_so.tep, \
motcua.thanh_toan.ghi_chu]}
mapping:
  extends: preset:one-stop-generic
  SiteId: 327
  NameTTHC: {coalesce: [service.ten, {last: payments, column: ghi_chu}]}
  Data: {cases: [{when: {tep: {set: true}, ngay_huy: null}, then: {template: '{noi_dung}'}}], else: noi_dung}
"""
    )
    assert len(load(written(tmp_path, text)).settings.log.truncate) == 4
    text = text.replace("tep: {set: true}", "tep: {not: {set: false}}")
    load(written(tmp_path, text))
    for worse in ("{not: x}", "[x, y]", "{gt: 5}", "{set: true, not: x}", "{not: {gt: 5}}"):
        found = errors(tmp_path, text.replace("tep: {not: {set: false}}", f"tep: {worse}"))
        assert [error.cause.split(":")[0] for error in found.values()] == ["all of 'motcua.ho_so.tep' is needed"]


BROKEN = [
    ("name: motcua\n", "", "1:1", "the configuration lacks 'name'", "prefix of topics"),
    ("name: motcua", "name: Một cửa", "1:7", "'name': string should match pattern", "prefix of topics"),
    ("  dsn: host=db dbname=motcua", "  dns: geheim", "2:1", "'source' lacks 'dsn'", "add `dsn: …`"),
    ("  dsn: host=db dbname=motcua", "  dsn: x\n  dns: geheim", "4:3", "'source' has no 'dns'", "did you mean 'dsn'?"),
    ("  dsn: host=db dbname=motcua", "  dsn: x\n  pw: geheim", "4:3", "'source' has no 'pw'", "dsn, slot, publication"),
    ("  dsn: host=db dbname=motcua", "  dsn: 5", "3:8", "'source.dsn': input should be a valid string", "libpq"),
    ("  dsn: host=db dbname=motcua", "  dsn: ${env:EMC_CDC_DNS}", "3:8", "EMC_CDC_DNS is not set", "'EMC_CDC_DSN'?"),
    (
        "  dsn: host=db dbname=motcua",
        "  dsn: ${file:no/such}",
        "3:8",
        "no/such cannot be read: no such file",
        "begins at",
    ),
    ("  dsn: host=db dbname=motcua", "  dsn: ${EMC_CDC_DSN}", "3:8", "neither ${env:NAME} nor", "$${"),
    ("  dsn: host=db dbname=motcua", "  dsn: '${env:X'", "3:8", "'${env:X' is neither", "$${"),
    ("mapping:", "sorce: {}\nmapping:", "4:1", "the configuration has no 'sorce'", "did you mean 'source'?"),
    ("mapping:", "log: {partitions: ${env:X}}\nmapping:", "4:20", "expected ',' or '}'", "in quotes: '${env:NAME}'"),
    ("mapping:", "log: {partitions: 0}\nmapping:", "4:19", "greater than or equal to 1", "default: 4"),
    ("mapping:", "log: {largest_record: 17MB}\nmapping:", "4:23", "less than or equal to 16777216", "64kB to 16MB"),
    ("mapping:", "log: {largest_record: 2kB}\nmapping:", "4:23", "greater than or equal to 65536", "64kB to 16MB"),
    ("mapping:", "log: {on_oversized: drop}\nmapping:", "4:21", "'halt' or 'truncate'", "beyond largest_record"),
    ("mapping:", "log: {on_oversized: truncate}\nmapping:", "4:6", "only columns that 'truncate' names", "correct"),
    (
        "mapping:",
        "log: {truncate: [motcua.thu_tuc.ten]}\nmapping:",
        "4:6",
        "nothing is cut without on_oversized: truncate",
        "correct",
    ),
    (
        "mapping:",
        "log: {on_oversized: truncate, truncate: [motcua.thu_tuc.te]}\nmapping:",
        "4:42",
        "the mapping captures no column 'motcua.thu_tuc.te'",
        "did you mean 'motcua.thu_tuc.ten'?",
    ),
    (
        "mapping:",
        "log: {on_oversized: truncate, truncate: [motcua.thu_tuc.ten, motcua.thu_tuc.ma]}\nmapping:",
        "4:62",
        "all of 'motcua.thu_tuc.ma' is needed",
        "cut another column",
    ),
    (
        "mapping:",
        "log: {on_oversized: truncate, truncate: [motcua.ho_so.trang_thai]}\nmapping:",
        "4:42",
        "the mapping decides by it",
        "cut another column",
    ),
    (
        "mapping:",
        "log: {on_oversized: truncate, truncate: [motcua.thanh_toan.ho_so_id]}\nmapping:",
        "4:42",
        "all of 'motcua.thanh_toan.ho_so_id' is needed",
        "cut another column",
    ),
    ("mapping:", "log: {partitions: vier}\nmapping:", "4:19", "'log.partitions': input should be a valid integer", "4"),
    ("mapping:", "log: {embedded: {}, kafka: {brokers: b}}\nmapping:", "4:6", "choose one of", "correct"),
    ("mapping:", "log: {format: xml}\nmapping:", "4:15", "'log.format': input should be 'avro' or 'json'", "avro"),
    (
        "mapping:",
        "log: {format: json, kafka: {brokers: b, registry: {url: 'https://r/'}}}\nmapping:",
        "4:6",
        "a registry is for 'format: avro'",
        "correct",
    ),
    ("mapping:", "log: {debezium: {prefix: a}}\nmapping:", "4:6", "'debezium' needs 'kafka'", ""),
    (
        "mapping:",
        "log: {kafka: {brokers: k}, debezium: {prefix: a, format: avro}}\nmapping:",
        "4:6",
        "with format avro needs 'kafka.registry'",
        "",
    ),
    (
        "mapping:",
        "log: {kafka: {brokers: k}, debezium: {prefix: a, types: {s.t: {c: number}}}}\nmapping:",
        "4:57",
        "the type of c must be decimal(scale), bytes or nanoseconds",
        "",
    ),
    ("mapping:", "log: {kafka: {}}\nmapping:", "4:7", "'log.kafka' lacks 'brokers'", "bootstrap servers"),
    ("mapping:", "log:\nmapping:", "4:5", "'log': this is nothing, not a mapping of settings", "correct"),
    ("mapping:", "log: [a]\nmapping:", "4:6", "'log': this is a list, not a mapping of settings", "correct"),
    ("mapping:", "emc: {encoding: xml}\nmapping:", "4:17", "'emc.encoding': input should be 'form' or 'json'", "form"),
    ("mapping:", "emc: {url: 'http://emc.vn/'}\nmapping:", "4:6", "url must begin with https://", "correct"),
    ("mapping:", "emc: {headers: {X: 5}}\nmapping:", "4:20", "'emc.headers.X': input should be a valid string", "corr"),
    (
        "mapping:",
        "delivery: {retry: {maximun: 3}}\nmapping:",
        "4:20",
        "'delivery.retry' has no 'maximun'",
        "'maximum'?",
    ),
    ("mapping:", "console: {listen: abc}\nmapping:", "4:19", "'console.listen': string should match", "127.0.0.1:8088"),
    ("preset:one-stop-generic", "preset:one-stop", "4:20", "names no preset", "one-stop-generic"),
    ("preset:one-stop-generic", "no/such.yml", "4:20", "cannot be read: no such file", "preset:NAME"),
    ("preset:one-stop-generic", "[a]", "4:20", "'extends' names one mapping, not a list", "preset:NAME"),
    ("preset:one-stop-generic", "emc-cdc.yml", "1:1", "a mapping file lacks 'mapping'", "mapping"),
    ("SiteId: 327", "SiteId: 327, Levl: 4", "4:58", "no parameter of the guide is named 'Levl'", "'Level'?"),
    ("mapping: {extends: preset:one-stop-generic, SiteId: 327}", "", "1:1", "lacks 'mapping'", "preset:NAME"),
    ("{extends: preset:one-stop-generic, SiteId: 327}", "", "4:9", "'mapping' names nothing", "preset:NAME"),
]


@pytest.mark.parametrize(("part", "instead", "place", "cause", "mend"), BROKEN)
def test_a_broken_configuration_is_told_at_its_place(
    tmp_path: Path, part: str, instead: str, place: str, cause: str, mend: str
) -> None:
    """Every wrong setting has its line, column, cause and mend, and shows no secret."""
    if cause == "a mapping file lacks 'mapping'":
        (tmp_path / "emc-cdc.yml").write_text("x: 1\n")
        part, instead = "preset:one-stop-generic", "other.yml"
        (tmp_path / "other.yml").write_text("{}\n")
        with pytest.raises(ConfigErrors) as caught:
            load(written(tmp_path, MINIMAL.replace(part, instead)))
        found = {error.subject.rsplit("yml:")[-1]: error for error in caught.value.problems}
    else:
        assert part in MINIMAL
        found = errors(tmp_path, MINIMAL.replace(part, instead))
    assert place in found
    assert cause in found[place].cause
    assert mend in found[place].mend


def test_errors_of_settings_and_mapping_come_at_once(tmp_path: Path) -> None:
    """One reading tells everything, in the order of the file, and the one message holds them all."""
    text = "name: A\nsource: {}\nemc: {encoding: xml}\nmapping: {extends: preset:one-stop-generic, Level: 5}\n"
    with pytest.raises(ConfigErrors) as caught:
        load(written(tmp_path, text))
    places = [error.subject.rsplit("yml:")[-1] for error in caught.value.problems]
    assert places == ["1:7", "2:1", "3:17", "4:10", "4:52"]
    assert caught.value.subject == str(tmp_path / "emc-cdc.yml")
    assert "5 errors" in caught.value.cause
    assert "'5' is not a level of the guide" in caught.value.cause


def test_a_mapping_file_that_is_no_yaml_does_not_hide_the_rest(tmp_path: Path) -> None:
    """A syntax error in the mapping's file is told beside the errors of the settings."""
    (tmp_path / "ours.yml").write_text("mapping: {a: b\n")
    with pytest.raises(ConfigErrors) as caught:
        load(written(tmp_path, "name: A\nsource: {dsn: x}\nmapping: ours.yml\n"))
    places = [error.subject.rsplit("/")[-1] for error in caught.value.problems]
    assert places == ["emc-cdc.yml:1:7", "ours.yml:2:1"]


def test_a_setting_whose_variable_is_not_set_is_told_once(tmp_path: Path) -> None:
    """What it would have been is not known, so no second error follows from it."""
    with pytest.raises(ConfigErrors) as caught:
        load(written(tmp_path, MINIMAL + "log: {partitions: '${env:NO_SUCH_VARIABLE_HERE}'}\n"))
    assert [error.subject.rsplit("yml:")[-1] for error in caught.value.problems] == ["5:19"]


def test_a_mapping_that_extends_itself_is_refused(tmp_path: Path) -> None:
    """Two files that extend each other end in an error, not in a circle."""
    (tmp_path / "a.yml").write_text("mapping: {extends: b.yml}\n")
    (tmp_path / "b.yml").write_text("mapping: {extends: a.yml}\n")
    with pytest.raises(ConfigErrors, match="a mapping extends itself"):
        load(written(tmp_path, MINIMAL.replace("preset:one-stop-generic", "a.yml")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A wrong path, a directory and an empty file each say what is wrong."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "no.yml")
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigErrors, match="the file is empty"):
        load(written(tmp_path, ""))
    with pytest.raises(ConfigErrors, match="a configuration is a mapping, not a list"):
        load(written(tmp_path, "[a]"))


def test_no_secret_prints_with_the_configuration() -> None:
    """Neither str nor repr of what was read shows a secret."""
    assert "geheim" not in repr(load(EXAMPLE))


SCHEMA = ROOT / "schemas" / "config.schema.json"


def test_the_schema_for_editors_is_current() -> None:
    """schemas/config.schema.json is what `python -m connector.configuration` writes."""
    command = [sys.executable, "-m", "connector.configuration"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert made.stdout.decode() == SCHEMA.read_text("utf-8"), "run: python -m connector.configuration > schemas/…"


def test_the_schema_is_valid_and_fits_the_example_and_the_presets() -> None:
    """The example and every shipped mapping are valid under the schema, which itself is a JSON Schema."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(plain(read(EXAMPLE.read_bytes(), "x")), schema, jsonschema.Draft202012Validator)
    for preset in presets():
        path = ROOT / "connector" / "mapping" / "presets" / f"{preset}.yml"
        mapping = plain(read(path.read_bytes(), "x"))["mapping"] | {"SiteId": 327}
        jsonschema.validate({"name": "a", "source": {"dsn": "x"}, "mapping": mapping}, schema)


def test_the_schema_fits_every_example_of_the_language() -> None:
    """What docs/mapping.md shows is valid under the schema; its wrong example is not."""
    schema = json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    page = (ROOT / "docs" / "mapping.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml( wrong)?\n((?:.*\n)*?)```", page, re.M)
    whole = plain(read(blocks[0][1].encode(), "x"))["mapping"]
    assert len(blocks) >= 10
    for wrong, block in blocks:
        part = plain(read(block.encode(), "x"))
        mapping = copy.deepcopy(whole)
        for name, value in part.items():
            joined = isinstance(value, dict) and name in ("references", "milestones", "User")
            mapping[name] = mapping[name] | value if joined else value
        document = {"name": "a", "source": {"dsn": "x"}, "mapping": part.get("mapping", mapping)}
        assert validator.is_valid(document) is not bool(wrong), block


@pytest.mark.parametrize(
    "change",
    [
        {"naem": "x"},
        {"mapping": {"extends": "preset:a", "Levl": 4}},
        {"mapping": {"extends": "preset:a", "Level": 5}},
        {"mapping": {"extends": "preset:a", "User": {"type": {"constant": "person"}}}},
        {"mapping": {"extends": "preset:a", "milestones": {"received": {"a": {"sett": True}}}}},
        {"mapping": {"SiteId": 1}},
        {"log": {"partitions": "four"}},
        {"source": {"dsn": "x", "wal_budget": "8GiB"}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(change: dict[str, Any]) -> None:
    """An editor marks the commonest slips."""
    document = {"name": "a", "source": {"dsn": "x"}, "mapping": "preset:a"}
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid(document)
    assert not validator.is_valid(document | change)


@pytest.mark.parametrize(
    "url", ["https://", "https://h:x/", "https://h:0/", "https://h:99999/", "https://[::1/", "https://a..b/"]
)
def test_an_address_of_emc_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    """When the file is read and at its line, not when the first event is pushed."""
    path = tmp_path / "c.yml"
    path.write_text(f"name: n\nsource: {{dsn: host=x}}\nemc:\n  url: '{url}'\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    problems = caught.value.problems if isinstance(caught.value, ConfigErrors) else (caught.value,)
    assert any(problem.subject == f"{path}:4:8" and "host[:port]" in str(problem) for problem in problems), problems


@pytest.mark.parametrize(
    ("written", "size"),
    [("8GB", 8 * 1024**3), ("512 MB", 512 * 1024**2), ("64kB", 65536), ("1TB", 1024**4), ("7B", 7), (4096, 4096)],
)
def test_sizes_are_written_as_postgresql_writes_them(written: str | int, size: int) -> None:
    """A number of bytes or one with a unit, for the reader and for editors."""
    document = {"name": "a", "source": {"dsn": "x", "wal_budget": written}, "mapping": "preset:a"}
    jsonschema.validate(document, json_schema())
    assert Settings.model_validate({k: v for k, v in document.items() if k != "mapping"}).source.wal_budget == size


@pytest.mark.parametrize("size", ["8GiB", "8gb", "-1", "0", "1.5GB", "GB", ""])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    """At its line, with the units there are."""
    path = tmp_path / "c.yml"
    path.write_text(f"name: n\nsource:\n  dsn: host=x\n  wal_budget: '{size}'\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    problems = caught.value.problems if isinstance(caught.value, ConfigErrors) else (caught.value,)
    assert any(problem.subject == f"{path}:4:15" and "8GB" in f"{problem} {problem.mend}" for problem in problems)

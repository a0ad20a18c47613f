"""`emc-cdc init` as its users meet it, on real databases: known systems, an ugly one, none, and missing rights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from plugins.postgres import Database
from typer.testing import CliRunner

from connector import configuration
from connector.cli import app
from connector.emc.judgement import Told, judge
from connector.errors import ConfigError, SourceError
from connector.mapping.compile import compile_text
from connector.preflight.inventory import read_inventory
from connector.preflight.live import LiveReader
from connector.settings import EmcSettings, SourceSettings
from connector.source.connection import ask

LEGACY = resources.files("connector.demo.legacy").joinpath("schema.sql").read_text(encoding="utf-8")
OPENCPS = Path(__file__).parents[1] / "mapping" / "opencps" / "schema.sql"
PRESET = (resources.files("connector.mapping") / "presets" / "one-stop-generic.yml").read_text("utf-8")
# What is in a database beside its rows: everything that the command must not make.
_MADE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_publication),
       (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),
       (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables)
"""

Init = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def init(database: Database, tmp_path: Path) -> Init:
    """Runs the command as a role, with --json: exit code, what it printed, the draft's text."""

    def run(*arguments: str, role: Any = "owner") -> tuple[int, dict[str, Any], str]:
        output = tmp_path / "draft.yml"
        given = ["init", "--dsn", database.dsn(role), "--output", str(output), "--json", *arguments]
        done = CliRunner().invoke(app, given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        configuration.load(output)
        return done.exit_code, json.loads(done.stdout), output.read_text("utf-8")

    return run


def execute(database: Database, *statements: str) -> None:
    """Run SQL as the tables' owner."""
    with psycopg.connect(database.dsn("owner"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def made(database: Database) -> tuple[Any, ...]:
    """How many objects, slots and changed rows there are."""
    with psycopg.connect(database.dsn("postgres")) as connection:
        return connection.execute(_MADE).fetchall()[0]


def test_opencps_is_recognised(init: Init, database: Database) -> None:
    """Its tables give a draft that extends the preset; with the site id nothing is open, and nothing was made."""
    execute(database, OPENCPS.read_text("utf-8"))
    before = made(database)
    code, told, text = init("--site-id", "327")
    assert (code, told["preset"]["name"], told["preset"]["share"], told["questions"]) == (0, "opencps-v2", 1.0, [])
    assert "extends: preset:opencps-v2" in text
    assert made(database) == before
    code, told, text = init("--force")
    assert code == 1
    assert text.splitlines()[told["questions"][0]["line"] + 1].startswith("  SiteId: ")


def test_what_differs_from_the_preset_is_a_question(init: Init, database: Database) -> None:
    """OpenCPS in another schema, with a renamed column and a missing table: each named, with the nearest name."""
    execute(
        database,
        OPENCPS.read_text("utf-8"),
        "CREATE SCHEMA ops",
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP"
        " EXECUTE format('ALTER TABLE public.%I SET SCHEMA ops', t); END LOOP; END $$",
        "ALTER TABLE ops.opencps_dossier RENAME COLUMN viapostal TO viapostal2",
        "ALTER TABLE ops.opencps_serviceinfo RENAME TO opencps_serviceinfos",
    )
    code, told, text = init("--site-id", "327")
    found = {(one["table"], one["column"]): one["near"] for one in told["preset"]["differences"]}
    assert code == 1
    assert found[("ops.opencps_dossier", "viapostal")][0] == "viapostal2"
    assert found[("ops.opencps_serviceinfo", "")][0] == "opencps_serviceinfos"
    assert len(told["questions"]) == 2
    assert "dossier: {table: ops.opencps_dossier}" in text


WORDS = (
    "moi",
    "cho_tiep_nhan",
    "da_tiep_nhan",
    "dang_xu_ly",
    "cho_ky",
    "cho_tra",
    "cho_bo_sung",
    "da_tra_ket_qua",
    "tra_lai",
    "huy",
)
LIFE = """
INSERT INTO motcua.thu_tuc VALUES (900, '1.000123', 'Cấp đổi', NULL, 4), (901, '2.000082', 'Cấp mới', NULL, 0);
INSERT INTO motcua.don_vi VALUES (900, '000.00.02.H10', 'Sở Tư pháp');
INSERT INTO motcua.tai_khoan (id, loai, id_dvcqg, id_dia_phuong, ho_ten, tao_luc) VALUES
    (900, 'ca_nhan', 'QG-1', NULL, 'Nguyễn Văn An', now()), (901, 'doanh_nghiep', NULL, 'DN-1', 'Trần Thị Bình', now());
"""
# Lines of the draft, and what the one-stop system's people answer.
ANSWERS = {
    '  SiteId: {of: id, is: {"(chưa biết)": 1}}': "  SiteId: 327",
    "    account: account.id_dvcqg": "    account: {cases: [{when: {account.loai: ca_nhan}, then: account.id_dvcqg}],"
    " else: account.id_dia_phuong}",
}


def test_the_answered_draft_tells_what_the_preset_tells(init: Init, database: Database) -> None:
    """The demo's system without its preset: once answered, a life of dossiers owes the same events, at each step."""
    execute(database, LEGACY, LIFE, *(_dossier(number) for number in range(10)))
    _, told, text = init("--dossier", "motcua.ho_so")
    assert told["preset"] is None
    assert len(told["questions"]) == 3
    for line, answer in ANSWERS.items():
        assert text.count(line) == 1
        text = text.replace(line, answer)
    mapping = text[text.index("mapping:") :]
    plans = [compile_text(mapping), compile_text(PRESET + "  SiteId: 327\n")]
    settings = SourceSettings.model_validate({"dsn": database.dsn("owner")})
    states: list[dict[Any, Told]] = [{}, {}]
    owed = 0
    for step in (None, *_steps()):
        if step is not None:
            execute(database, step)
        told_now: list[list[Any]] = [[], []]
        for plan, state, events in zip(plans, states, told_now, strict=True):
            with ask(settings) as connection:
                reader = LiveReader(connection, plan, "none")
                dossiers = [dossier for batch in reader.newest(50) for dossier in batch.dossiers]
                for dossier, facts in zip(dossiers, reader.facts(dossiers), strict=True):
                    number = dossier.dossier["ma_ho_so"]
                    verdict = judge(state.get(number), facts, EmcSettings())
                    state[number] = verdict.told
                    events.append((number, verdict.due, verdict.held))
        assert told_now[0] == told_now[1]
        owed += sum(len(due) for _, due, _ in told_now[1])
    assert owed > 20


def _dossier(number: int) -> str:
    received = "now()" if number % 3 else "NULL"
    channel = "truc_tuyen" if number % 2 else "truc_tiep"
    returned = ("mot_cua", "dien_tu", "vnpost", "buu_chinh_khac")[number % 4]
    return (
        "INSERT INTO motcua.ho_so (id, ma_ho_so, thu_tuc_id, don_vi_id, tai_khoan_id, trang_thai, kenh_nop, tu_dvcqg,"
        f" hinh_thuc_tra, ngay_tiep_nhan, ho_ten, cap_nhat) VALUES ({number}, '000.00.11.H56-191203-{number}',"
        f" {900 + number % 2}, 900, {900 + number % 2}, '{WORDS[number]}', '{channel}', {number % 5 == 0},"
        f" '{returned}', {received}, 'Lê Thị Hoa', now())"
    )


def _steps() -> list[str]:
    """Each dossier through every status, with payments on the way."""
    steps = []
    for turn, word in enumerate(WORDS):
        steps.append(f"UPDATE motcua.ho_so SET trang_thai = '{word}'")
        if turn == 3:
            steps.append("UPDATE motcua.ho_so SET ngay_tiep_nhan = now() WHERE id % 2 = 0")
            steps.append(
                "INSERT INTO motcua.thanh_toan (ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem) SELECT id, 1,"
                " CASE id % 3 WHEN 0 THEN 'dvcqg' WHEN 1 THEN 'tien_mat' ELSE 'vi_dien_tu' END,"
                " CASE id % 4 WHEN 0 THEN 'cho' ELSE 'da_thanh_toan' END, now() FROM motcua.ho_so WHERE id < 8"
            )
        if turn == 7:
            steps.append("UPDATE motcua.thanh_toan SET trang_thai = 'hoan_tien' WHERE ho_so_id = 5")
    return steps


UGLY = """
CREATE SCHEMA "Một Cửa";
CREATE TABLE "Một Cửa"."DM_TrangThai" ("ID" int PRIMARY KEY, "TenTrangThai" text);
INSERT INTO "Một Cửa"."DM_TrangThai" VALUES (1, 'Mới đăng ký'), (2, 'Đang xử lý'), (3, 'Đã trả kết quả'), (4, 'Khác');
CREATE TABLE "Một Cửa"."DM_ThuTuc" ("ID" int PRIMARY KEY, "MaThuTuc" text, "TenThuTuc" text, "MucDo" text);
INSERT INTO "Một Cửa"."DM_ThuTuc" VALUES (1, '1.000123', 'Cấp đổi', 'Toàn trình'), (2, '1.000124', 'Cấp', 'Một phần');
CREATE TABLE "Một Cửa"."tblHồSơ" (
    "ID" bigint PRIMARY KEY, "SoHoSo" text, "ThuTucID" int REFERENCES "Một Cửa"."DM_ThuTuc",
    "TrangThaiID" int REFERENCES "Một Cửa"."DM_TrangThai", "NgayTiepNhan" timestamp, "Người nộp" text, "Ghi chú" text
);
INSERT INTO "Một Cửa"."tblHồSơ" SELECT g, '000.00.11.H56-191203-' || g, 1 + g % 2, 1 + g % 4, now(),
    'Phạm Văn Bí', 'mật' FROM generate_series(1, 200) g;
CREATE TABLE "Một Cửa"."tblHồSơ_DinhKem" ("ID" int PRIMARY KEY, "HoSoID" bigint REFERENCES "Một Cửa"."tblHồSơ");
ANALYZE;
"""


def test_an_ugly_vendors_schema_is_understood(init: Init, database: Database) -> None:
    """Quoted, mixed-case Vietnamese names; statuses as numbers that a catalogue names; no personal value anywhere."""
    execute(database, UGLY)
    code, told, text = init()
    assert code == 1
    assert told["candidates"][0]["table"] == "Một Cửa.tblHồSơ"
    plan = compile_text(text[text.index("mapping:") :])
    assert plan.selection.dossier.full_name == "Một Cửa.tblHồSơ"
    for line in (
        "CodeProfile: SoHoSo",
        "processing: {TrangThaiID: [2], NgayTiepNhan: {set: true}}",
        "result: {TrangThaiID: [3], NgayTiepNhan: {set: true}}",
        "CodeTTHC: service.MaThuTuc",
        "NameTTHC: service.TenThuTuc",
        '"Toàn trình": 4',
        "4 «Khác» (50) → ?",
    ):
        assert line in text
    for secret in ("Phạm", "mật,", "191203"):
        assert secret not in text.replace("191203-1508", "") + json.dumps(told)


def test_no_candidate_is_told_with_the_way_on(init: Init, database: Database) -> None:
    """A database of something else gives no draft and says how to name the table."""
    execute(database, "CREATE TABLE kho (id int PRIMARY KEY, ten text)")
    with pytest.raises(SourceError) as caught:
        init()
    assert "none of 1 tables looks like dossiers" in caught.value.cause
    assert "--dossier schema.table" in caught.value.mend


def test_what_may_not_be_read_is_named_with_its_grant(init: Init, database: Database) -> None:
    """A role without rights hears the GRANTs that help; once they are run, the draft is made."""
    execute(database, UGLY)
    with pytest.raises(SourceError) as caught:
        init(role="emc_cdc")
    grants = [line.partition("runs: ")[2] for line in caught.value.mend.splitlines() if "runs: " in line]
    assert 'GRANT SELECT ON "Một Cửa"."tblHồSơ" TO "emc_cdc";' in grants
    execute(database, *(line for line in grants if "DM_ThuTuc" not in line))
    _, told, text = init(role="emc_cdc")
    assert [one["table"] for one in told["unreadable"]] == ["Một Cửa.DM_ThuTuc"]
    assert "CodeTTHC: {of: ID, is: " in text
    execute(database, *told["unreadable"][0]["mend"])
    assert init("--force", role="emc_cdc")[1]["unreadable"] == []


def test_empty_tables_give_a_draft_of_names_and_constraints(init: Init, database: Database) -> None:
    """Without a row, words come from CHECKs alone, and the rest is asked."""
    execute(database, LEGACY)
    _, _, text = init("--dossier", "motcua.ho_so")
    assert "truc_tuyen: online" in text
    assert "processing: {id: null}" in text


HOSTILE = """
CREATE TABLE "ho_so" ("id" int PRIMARY KEY, "ma_ho_so" text, "trang_thai" text, "kenh_nop" text, "a\nb: [" text,
    "${env:HOME}" text, "thu_tuc_id" int);
CREATE TABLE "thu_tuc: ""x"" #
{y}" ("id" int PRIMARY KEY, "ma" text, "ten" text, "muc_do" text);
INSERT INTO ho_so VALUES (1, '000.00.11.H56-191203-1', E'- {a: "b"}\\n#', '${env:HOME}', 'x', 'y', 1), (2, NULL, '%s',
    E'\\x1b[31mred', 'x', 'y', 1), (3, NULL, 'null', 'true', '', '', NULL),
    (4, NULL, '007', '[bold]x[/bold]', '', '', 1);
"""


def test_hostile_names_and_words_do_no_harm(init: Init, database: Database, tmp_path: Path) -> None:
    """Quotes, line ends, YAML's signs, escapes of a terminal, references to the environment: the draft loads."""
    execute(database, HOSTILE)
    code, _, text = init()
    assert code == 1
    assert "\x1b" not in text
    output = str(tmp_path / "again.yml")
    done = CliRunner().invoke(app, ["init", "--dsn", database.dsn("owner"), "--output", output])
    assert done.exit_code == 1
    assert "\x1b[31m" not in done.stdout


def test_passwords_are_not_written_and_files_not_overwritten(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that was written out is left out; a reference stays one; without --force a file stays as it is."""
    execute(database, OPENCPS.read_text("utf-8"))
    monkeypatch.setenv("EMC_PW", "mậtkhẩu")
    output = tmp_path / "x.yml"
    for given, kept in ((" password=s3cret", False), (" password=${env:EMC_PW}", True)):
        dsn = database.dsn("owner") + given
        done = CliRunner().invoke(app, ["init", "--dsn", dsn, "--output", str(output), "--force"])
        assert done.exit_code == 1, done.exception
        for secret in ("s3cret", "mậtkhẩu"):
            assert secret not in output.read_text("utf-8") + done.output
        assert ("${env:EMC_PW}" in output.read_text("utf-8").partition("dsn: ")[2]) is kept
    monkeypatch.setenv("EMC_CDC_DSN", database.dsn("owner"))
    with pytest.raises(ConfigError, match="there already"):
        CliRunner().invoke(app, ["init", "--output", str(output)], catch_exceptions=False)
    output.unlink()
    assert CliRunner().invoke(app, ["init", "--output", str(output)]).exit_code == 1
    assert 'dsn: "${env:EMC_CDC_DSN}"' in output.read_text("utf-8")


class Counting(psycopg.Connection[Any]):
    """A connection that counts its statements."""

    count = 0

    def execute(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        return super().execute(*arguments, **named)


def test_thousands_of_tables_are_asked_for_at_once(init: Init, database: Database) -> None:
    """Three thousand tables around the dossiers: as many questions of the catalog as for ten, and the same draft."""
    execute(database, UGLY)
    counts = []
    for more in (10, 3000):
        execute(
            database,
            *(
                f"DO $$ BEGIN FOR i IN {first}..{min(first + 499, more)} LOOP EXECUTE format("
                "'CREATE TABLE IF NOT EXISTS t%s (id int PRIMARY KEY, ten text, ngay date)', i); END LOOP; END $$"
                for first in range(1, more + 1, 500)
            ),
        )
        with Counting.connect(database.dsn("owner")) as connection:
            inventory = read_inventory(connection, None)
            counts.append((len(inventory.tables) - more, connection.count))
    assert counts[0] == counts[1]
    _, told, _ = init()
    assert told["candidates"][0]["table"] == "Một Cửa.tblHồSơ"
    assert told["tables"] > 3000


def test_a_large_table_is_sampled_and_a_locked_one_not_waited_for(init: Init, database: Database) -> None:
    """Of 60,000 rows some thousand are read, from all over it; a locked table is told and left out."""
    execute(
        database,
        UGLY,
        """INSERT INTO "Một Cửa"."tblHồSơ"
           SELECT g, '000.00.11.H56-191203-' || g, 1, 2 + (g > 41000)::int, now(), '', ''
           FROM generate_series(1000, 61000) g""",
        "ANALYZE",
    )
    _, told, text = init()
    sampled = int(text.partition("Các từ của TrangThaiID trong ")[2].partition(" ")[0])
    assert 1000 < sampled <= 10_000
    assert re.search(r"3 «Đã trả kết quả» \(\d+\)", text), "nothing of the last third was sampled"
    with psycopg.connect(database.dsn("owner")) as holder:
        holder.execute('LOCK TABLE "Một Cửa"."tblHồSơ" IN ACCESS EXCLUSIVE MODE')
        _, told, text = init("--force")
    assert "lock timeout" in told["unsampled"]["Một Cửa.tblHồSơ"]
    assert "CodeProfile: SoHoSo" in text


def test_a_table_whose_rows_nothing_tells_apart_is_refused(init: Init, database: Database) -> None:
    """Without a column that is never NULL there is no draft, and the mend says what is needed."""
    execute(database, "CREATE TABLE ho_so (ma_ho_so text, trang_thai text)", OPENCPS.read_text("utf-8"))
    with pytest.raises(SourceError, match="never NULL") as caught:
        init("--dossier", "public.ho_so")
    assert "primary key" in caught.value.mend
    execute(
        database,
        "ALTER TABLE opencps_dossier DROP CONSTRAINT opencps_dossier_pkey",
        "ALTER TABLE opencps_dossier ALTER dossierid DROP NOT NULL",
    )
    with pytest.raises(SourceError, match="never NULL"):
        init()

"""A plan names what it needs and turns rows into facts; declarations and the catalog are checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stop import MAPPING, Rows

from connector.change.selection import Role
from connector.errors import ConfigError
from connector.mapping.compile import compile_text
from connector.mapping.document import MapNode, read
from connector.mapping.extend import extend
from connector.mapping.facts import Channel, Facts, Milestone, PaymentChannel, ResultChannel, UserFacts, UserType
from connector.mapping.plan import Child, against_catalog

Errors = Callable[[str], list[ConfigError]]


def test_facts_of_a_whole_dossier(mapping: str, rows: Any) -> None:
    """Every parameter, chained references, the picked payment and two milestones at once."""
    assert compile_text(mapping).facts(rows) == Facts(
        code_profile="000.00.11.H56-191203-1508",
        site_id=327,
        code_tthc="2.000082",
        name_tthc="Cấp đổi",
        level=4,
        from_dvcqg=False,
        reception=Channel.ONLINE,
        result=ResultChannel.VNPOST,
        payment=PaymentChannel.ONLINE,
        user=UserFacts(UserType.CITIZEN, "QG-1", "000.00.02.H10"),
        data="",
        reached=frozenset({Milestone.RECEIVED, Milestone.PROCESSING}),
    )


def test_the_selection_names_what_is_used_and_nothing_else(mapping: str) -> None:
    """Capture learns exactly the tables and columns of the mapping, with their roles."""
    selection = compile_text(mapping).selection
    assert {
        table.full_name: (table.role, table.link, set(table.columns), len(table.columns)) for table in selection.tables
    } == {
        "motcua.ho_so": (
            Role.DOSSIER,
            None,
            {"ma_ho_so", "ngay_tiep_nhan", "trang_thai", "thu_tuc_id", "tai_khoan_id", "kenh_nop", "hinh_thuc_tra"}
            | {"tu_dvcqg"},
            8,
        ),
        "motcua.thanh_toan": (Role.CHILD, "ho_so_id", {"ho_so_id", "id", "trang_thai", "hinh_thuc"}, 4),
        "motcua.thu_tuc": (Role.REFERENCE, None, {"id", "ma", "ten", "muc_do", "don_vi_id"}, 5),
        "motcua.don_vi": (Role.REFERENCE, None, {"id", "ma_dinh_danh"}, 2),
        "motcua.tai_khoan": (Role.REFERENCE, None, {"id", "loai", "ten", "ma"}, 4),
    }
    assert selection.dossier.full_name == "motcua.ho_so"


def test_lookups_and_children(mapping: str) -> None:
    """The delivery state learns by which columns it will be asked."""
    plan = compile_text(mapping)
    assert plan.lookups == (("motcua.thu_tuc", "id"), ("motcua.tai_khoan", "id"), ("motcua.don_vi", "id"))
    assert plan.children == (Child("motcua.thanh_toan", "ho_so_id", "id"),)


def test_what_no_value_uses_is_not_captured(mapping: str, rows: Any) -> None:
    """A reference or child that only stands there is left out, a reference that another one needs is not."""
    text = re.sub(r"    type: .*\n    account: .*\n", "    type: citizen\n    account: tai_khoan\n", mapping)
    text = re.sub(r"  FormsPayments:\n.*\n.*\n", "  FormsPayments: none\n", text)
    text = text.replace("CodeTTHC: service.ma", "CodeTTHC: x").replace("NameTTHC: service.ten", "NameTTHC: x")
    plan = compile_text(text.replace("service.muc_do", "muc_do"))
    names = {table.full_name for table in plan.selection.tables}
    assert names == {"motcua.ho_so", "motcua.thu_tuc", "motcua.don_vi"}
    assert plan.children == ()
    plan.facts(rows)
    assert rows.asked == [("motcua.thu_tuc", "id", 7), ("motcua.don_vi", "id", 5)]


def test_two_references_to_one_table(mapping: str, rows: Any) -> None:
    """The unit that received and the unit in charge are two rows of one table, captured once."""
    text = mapping.replace("  milestones:", "    desk: {table: motcua.don_vi, match: {id: don_vi_nhan}}\n  milestones:")
    plan = compile_text(text.replace("IsFromDVCQG:", "Data: {template: '{desk.ma}'}\n  IsFromDVCQG:"))
    (unit,) = [table for table in plan.selection.tables if table.full_name == "motcua.don_vi"]
    assert set(unit.columns) == {"id", "ma_dinh_danh", "ma"}
    assert plan.lookups.count(("motcua.don_vi", "id")) == 1
    rows.dossier["don_vi_nhan"] = 9
    rows.references["motcua.don_vi", "id", 9] = {"id": 9, "ma": "MC-01"}
    facts = plan.facts(rows)
    assert (facts.data, facts.user.location) == ("MC-01", "000.00.02.H10")


def test_a_missing_reference_row_is_named_without_its_value(mapping: str, rows: Any) -> None:
    """What hangs on the missing row is unknown and is not looked up; no key appears in the text."""
    del rows.references["motcua.thu_tuc", "id", 7]
    del rows.references["motcua.tai_khoan", "id", 3]
    facts = compile_text(mapping).facts(rows)
    assert facts.missing == ("service: no row in motcua.thu_tuc", "account: no row in motcua.tai_khoan")
    assert (facts.code_tthc, facts.user.account, facts.user.location) == (None, None, None)


@pytest.mark.parametrize("key", [None, "", "  "])
def test_a_reference_that_is_not_named_is_not_missing(mapping: str, rows: Any, key: object) -> None:
    """A dossier without an account names no account."""
    rows.dossier["tai_khoan_id"] = key
    facts = compile_text(mapping).facts(rows)
    assert facts.missing == ()
    assert facts.user.type is None
    assert all(table != "motcua.tai_khoan" for table, _, _ in rows.asked)


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        ([], PaymentChannel.NONE),
        ([(1, "cho", "qua_mang")], PaymentChannel.NONE),
        ([(1, "da_thanh_toan", "qua_mang"), (2, "da_thanh_toan", "tai_quay")], PaymentChannel.IN_PERSON),
        ([(10, "da_thanh_toan", "qua_mang"), (9, "da_thanh_toan", "tai_quay")], PaymentChannel.ONLINE),
        ([(None, "da_thanh_toan", "qua_mang"), (1, "da_thanh_toan", "tai_quay")], PaymentChannel.IN_PERSON),
        ([(None, "da_thanh_toan", "qua_mang"), (-1, "da_thanh_toan", "tai_quay")], PaymentChannel.IN_PERSON),
        ([(1, "da_thanh_toan", "qua_mang"), (2, "hoan_tien", "tai_quay")], PaymentChannel.ONLINE),
        ([(1, "da_thanh_toan", "vi_moi")], None),
        ([(1, "da_thanh_toan", None)], PaymentChannel.NONE),
    ],
)
def test_the_last_payment_that_counts(
    mapping: str, rows: Any, payments: list[tuple[int | None, str, str | None]], expected: PaymentChannel | None
) -> None:
    """The last row by `order_by` that fits `where`; nothing paid is none, a form nobody knows is unknown."""
    rows.child_rows["motcua.thanh_toan"] = [
        {"id": key, "trang_thai": state, "hinh_thuc": form} for key, state, form in payments
    ]
    assert compile_text(mapping).facts(rows).payment is expected


def test_the_first_row_and_a_row_without_a_condition(mapping: str, rows: Any) -> None:
    """`first` counts from the other end, and `where` may be left out."""
    text = mapping.replace("last: payments, where: {trang_thai: da_thanh_toan},", "first: payments,")
    rows.child_rows["motcua.thanh_toan"].reverse()
    assert compile_text(text).facts(rows).payment is PaymentChannel.ONLINE
    assert compile_text(text.replace("first:", "last:")).facts(rows).payment is PaymentChannel.IN_PERSON


@settings(deadline=None)
@given(st.sets(st.sampled_from(list(Milestone))))
def test_every_set_of_milestones_can_be_reached(reached: set[Milestone]) -> None:
    """Each condition is its own: any combination comes out as it is in the row."""
    lines = "".join(f"    {m.name.lower()}: {{{m.name}: true}}\n" for m in Milestone)
    text = (
        f"mapping:\n  dossier: {{table: a.b}}\n  milestones:\n{lines}"
        "  CodeProfile: x\n  SiteId: 1\n  CodeTTHC: x\n  NameTTHC: x\n  Level: 4\n  FormsReception: online\n"
        "  Result: desk\n  FormsPayments: none\n  IsFromDVCQG: false\n"
        "  User: {type: citizen, account: x, location: x}\n"
    )

    class View:
        dossier = {m.name: m in reached for m in Milestone}  # noqa: RUF012 — read only
        children = reference = None

    assert compile_text(text).facts(View()).reached == reached  # type: ignore[arg-type]


PLAN = compile_text(MAPPING)
NUMERICS = st.decimals(allow_nan=False) | st.just(Decimal("NaN"))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["ma_ho_so", "ngay_tiep_nhan", "trang_thai", "thu_tuc_id", "kenh_nop", "tu_dvcqg"]),
        st.none() | st.booleans() | st.integers() | st.floats() | NUMERICS | st.text() | st.binary(),
    ),
    st.lists(st.dictionaries(st.sampled_from(["id", "trang_thai"]), st.none() | NUMERICS), max_size=3),
)
def test_no_row_makes_facts_fail(dossier: dict[str, object], payments: list[dict[str, object]]) -> None:
    """Rows are the legacy system's: whatever they hold, facts come out."""
    view = Rows(dossier=dossier, child_rows={"motcua.thanh_toan": payments})  # type: ignore[dict-item]
    assert isinstance(PLAN.facts(view), Facts)


def test_the_version_follows_the_meaning(mapping: str) -> None:
    """Comments, order of keys and quotes around text change nothing; a word does."""
    version = compile_text(mapping).version
    assert re.fullmatch("[0-9a-f]{12}", version)
    lines = mapping.replace("  SiteId: 327\n", "").replace("ma_ho_so\n", "'ma_ho_so' # mã\n")
    assert compile_text(f"{lines}  SiteId: 327\n").version == version
    assert compile_text(mapping.replace("327", "328")).version != version
    assert compile_text(mapping.replace("muc_do, is: {4: 4", "muc_do, is: {'4': 4")).version != version


BROKEN = [
    ("CodeTTHC:", "CodeTHC:", "m.yml:16:3", "no parameter of the guide is named 'CodeTHC'", "did you mean 'CodeTTHC'?"),
    ("CodeTTHC: service.ma\n", "\n", "m.yml:2:3", "the mapping lacks 'CodeTTHC'", "docs/mapping.md#codetthc"),
    ("SiteId: 327", "SiteId: 327\n  Status: 1", "m.yml:16:3", "'Status' is not written", "milestones"),
    ("SiteId: 327", "SiteId: 327\n  IsDVCBC: 1", "m.yml:16:3", "'IsDVCBC' is not written", "Result"),
    ("SiteId: 327", "SiteId: 327\n  user: x", "m.yml:16:3", "'user' is not written", "User"),
    ("{table: motcua.ho_so}", "{table: ho_so}", "m.yml:2:20", "'ho_so' is not schema.table", "public.ho_so"),
    ("{table: motcua.ho_so}", "{table: a.b.c}", "m.yml:2:20", "'a.b.c' is not schema.table", "the schema"),
    ("{table: motcua.ho_so}", "motcua.ho_so", "m.yml:2:12", "dossier must be a mapping, not a value", "{table: …}"),
    ("{table: motcua.ho_so}", "{tabel: motcua.ho_so}", "m.yml:2:13", "no 'tabel'", "did you mean 'table'?"),
    (", order_by: id", "", "m.yml:4:15", "child 'payments' lacks 'order_by'", "add `order_by: …`"),
    ("{id: thu_tuc_id}", "thu_tuc_id", "m.yml:6:45", "takes `its column: our column`", "match: {id:"),
    ("{id: thu_tuc_id}", "{}", "m.yml:6:45", "takes `its column: our column`", "match: {id:"),
    ("{id: thu_tuc_id}", "{id: thu_tuc_id, 2: b}", "m.yml:6:62", "'2' is not a column", "match: {id:"),
    ("{id: thu_tuc_id}", "{id: [a]}", "m.yml:6:50", "must be a name, not a list", "one word"),
    ("{id: thu_tuc_id}", "{1: a}", "m.yml:6:46", "'1' is not a column", "match: {id:"),
    ("{id: thu_tuc_id}", "{id: servce.id}", "m.yml:6:50", "no reference is named 'servce'", "'service'"),
    (
        "{id: thu_tuc_id}",
        "{id: unit.id}",
        "m.yml:6:50",
        "references go in a circle: service → unit → service",
        "dossier",
    ),
    ("{id: tai_khoan_id}", "{id: account.id}", "m.yml:8:52", "references go in a circle: account → account", "dossier"),
    ("table: motcua.don_vi", "table: motcua.ho_so", "m.yml:7:19", "motcua.ho_so is already the dossier table", "one"),
    ("table: motcua.thanh_toan", "table: motcua.don_vi", "m.yml:4:23", "already a reference table", "one part"),
    ("    service:", "    a.b: {}\n    service:", "m.yml:6:5", "'a.b' is not a name", "without a dot"),
    ("milestones:", "milestones: x\n  Data:", "m.yml:9:15", "milestones must be a mapping, not a value", "received: …"),
    ("    processing:", "    procesing:", "m.yml:11:5", "milestones has no 'procesing'", "'processing'"),
    ("    location: unit.ma_dinh_danh", "", "m.yml:26:5", "User lacks 'location'", "location: …"),
    ("    location:", "    LOCATION:", "m.yml:28:5", "User has no 'LOCATION'", "did you mean 'location'?"),
]


@pytest.mark.parametrize(("part", "instead", "place", "cause", "mend"), BROKEN)
def test_a_broken_declaration_is_told_at_its_place(
    mapping: str, errors_of: Errors, part: str, instead: str, place: str, cause: str, mend: str
) -> None:
    """Every wrong name or shape of a mapping's frame has its line, column, cause and mend."""
    assert part in mapping
    found = {error.subject: error for error in errors_of(mapping.replace(part, instead, 1))}
    assert place in found
    assert cause in found[place].cause
    assert mend in found[place].mend
    assert len(found) <= 2  # a wrong key is also a missing one; nothing else follows from it


def test_all_errors_of_a_mapping_come_at_once(mapping: str, errors_of: Errors) -> None:
    """Ten slips give ten errors in the order of the file, not one at a time."""
    text = (
        mapping.replace("service.ma", "servic.ma").replace("vnpost: vnpost", "vnpost: vn").replace("SiteId", "SideId")
    )
    text = (
        text.replace("location: unit", "location: unt").replace("last: payments", "last: pay").replace("set:", "sett:")
    )
    found = [error.subject for error in errors_of(text)]
    assert found == [
        "m.yml:2:3", "m.yml:10:33", "m.yml:10:57", "m.yml:13:67", "m.yml:15:3", "m.yml:16:13",
        "m.yml:20:59", "m.yml:22:16", "m.yml:28:15",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["mapping: 3", "mapping: [a]", "x: 1", "[]", "mapping:"])
def test_a_file_that_is_no_mapping_is_refused(errors_of: Errors, text: str) -> None:
    """Anything but one `mapping` with a mapping under it is an error with a place."""
    assert all(error.subject.startswith("m.yml:1:") for error in errors_of(text))


CATALOG = {
    "motcua.ho_so": dict.fromkeys(["ma_ho_so", "trang_thai", "kenh_nop", "hinh_thuc_tra"], "character varying(30)")
    | dict.fromkeys(["ngay_tiep_nhan"], "timestamp without time zone")
    | dict.fromkeys(["thu_tuc_id", "tai_khoan_id"], "bigint")
    | {"tu_dvcqg": "boolean"},
    "motcua.thanh_toan": {"id": "bigint", "ho_so_id": "bigint", "trang_thai": "text", "hinh_thuc": "text"},
    "motcua.thu_tuc": {"id": "int4", "ma": "text", "ten": "text", "muc_do": "int2", "don_vi_id": "numeric(10,0)"},
    "motcua.don_vi": {"id": "integer", "ma_dinh_danh": "text"},
    "motcua.tai_khoan": {"id": "int8", "loai": "text", "ten": "text", "ma": "text"},
}


def test_a_catalog_that_has_everything_gives_no_error(mapping: str) -> None:
    """Names are all there, and values are text, numbers and booleans."""
    assert against_catalog(compile_text(mapping), CATALOG) == []


def test_what_the_catalog_lacks_is_told_at_its_place(mapping: str) -> None:
    """A missing table and a missing column: line, column and the nearest name."""
    catalog = {name: dict(columns) for name, columns in CATALOG.items()}
    catalog["motcua.donvi"] = catalog.pop("motcua.don_vi")
    catalog["motcua.thu_tuc"]["ma1"] = catalog["motcua.thu_tuc"].pop("ma")
    catalog["motcua.ho_so"]["trangthai"] = catalog["motcua.ho_so"].pop("trang_thai")
    found = against_catalog(compile_text(mapping, "m.yml"), catalog)
    assert [(error.subject, error.mend) for error in found] == [
        ("m.yml:7:19", "did you mean 'motcua.donvi'?"),
        ("m.yml:11:18", "did you mean 'trangthai'?"),
        ("m.yml:12:14", "did you mean 'trangthai'?"),
        ("m.yml:13:20", "did you mean 'trangthai'?"),
        ("m.yml:16:13", "did you mean 'ma1'?"),
    ]


@pytest.mark.parametrize(
    "type_name",
    [
        "timestamp without time zone",
        "timestamptz",
        "date",
        "bytea",
        "jsonb",
        "text[]",
        "_text",
        "interval",
        "point",
        "bit(12)",
        "bit varying(5)",
        "hstore",
        "public.hstore",
    ],
)
def test_a_date_or_a_document_is_no_value(mapping: str, type_name: str) -> None:
    """What the log holds as a count of days or as bytes cannot go to EMC; to ask whether it is there is fine."""
    text = mapping.replace("IsFromDVCQG:", "Data: ngay_tiep_nhan\n  IsFromDVCQG:")
    catalog = {name: dict(columns) for name, columns in CATALOG.items()}
    catalog["motcua.ho_so"]["ngay_tiep_nhan"] = type_name
    (error,) = against_catalog(compile_text(text, "m.yml"), catalog)
    assert error.subject == "m.yml:24:9"
    assert f"is of type {type_name}" in error.cause
    dated = type_name.startswith(("date", "timestamp"))
    assert ("{date: column" if dated else "{set: true}") in error.mend


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("Data: {date: ngay_tiep_nhan, type: timestamp, format: yyMMdd}", "m.yml:24:16"),
        ("Data: {cases: [{when: {ngay_tiep_nhan: {type: timestamp, ge: 2024-01-01}}, then: ma_ho_so}]}", "m.yml:24:26"),
    ],
)
def test_the_type_of_a_date_is_the_database_s(mapping: str, line: str, place: str) -> None:
    """A timestamp read as another type would be another time, so both are compared."""
    plan = compile_text(mapping.replace("IsFromDVCQG:", f"{line}\n  IsFromDVCQG:"), "m.yml")
    catalog = {name: dict(columns) for name, columns in CATALOG.items()}
    catalog["motcua.ho_so"]["ngay_tiep_nhan"] = "timestamp without time zone"
    assert against_catalog(plan, catalog) == []
    catalog["motcua.ho_so"]["ngay_tiep_nhan"] = "timestamp(3) without time zone"
    (error,) = against_catalog(plan, catalog)
    assert error.subject == place
    assert "is of type timestamp(3) without time zone, not timestamp" in error.cause


def test_extending_joins_sections_and_replaces_values(mapping: str) -> None:
    """The upper mapping's lines win; sections are joined entry by entry; places stay where they were written."""
    lower, upper = (
        read(text.encode(), name)
        for text, name in [
            ("a: 1\nSiteId: {of: x, is: {a: 1}}\nreferences: {s: {table: a.b}, u: {table: c.d}}\nUser: {type: x}", "l"),
            ("SiteId: 5\nreferences: {u: {table: e.f}, n: {table: g.h}}\nUser: {account: y}\nb: 2", "u"),
        ]
    )
    assert isinstance(lower, MapNode)
    assert isinstance(upper, MapNode)
    joined = extend(lower, upper)
    assert [(key.text, key.mark.source.name) for key, _ in joined.entries] == [
        ("a", "l"), ("SiteId", "u"), ("references", "u"), ("User", "u"), ("b", "u"),
    ]  # fmt: skip
    references = joined.get("references")
    assert isinstance(references, MapNode)
    assert [(key.text, str(key.mark)) for key, _ in references.entries] == [
        ("s", "l:3:14"),
        ("u", "u:2:14"),
        ("n", "u:2:31"),
    ]
    user = joined.get("User")
    assert isinstance(user, MapNode)
    assert [key.text for key, _ in user.entries] == ["type", "account"]

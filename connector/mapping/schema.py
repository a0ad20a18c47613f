"""The mapping's part of the JSON Schema that gives editors completion. Pure.

It is looser than `compile`, which knows the names a mapping declares; whatever compiles is valid under it
(tests/mapping/test_schema.py).
"""

from __future__ import annotations

from typing import Any

from connector.mapping.compile import OPTIONAL_PARAMETERS, PARAMETERS, REQUIRED_MILESTONES, USER
from connector.mapping.conditions import ORDERS
from connector.mapping.facts import Milestone
from connector.mapping.kinds import LEVEL, SITE, TEXT, TRUTH, Kind

Schema = dict[str, Any]

_ABOUT = {
    "CodeProfile": "Mã hồ sơ. Dossier number.",
    "SiteId": "Mã site do EMC cấp. The agency's site id.",
    "CodeTTHC": "Mã thủ tục. Procedure code.",
    "NameTTHC": "Tên thủ tục. Procedure name.",
    "Level": "Mức độ: 4 toàn trình, 3 một phần, 0 cung cấp thông tin. Level of the online service.",
    "FormsReception": "Kênh tiếp nhận. Reception: online or in_person.",
    "Result": "Cách trả kết quả. How the result is returned: desk, online, vnpost, other_post.",
    "FormsPayments": "Hình thức thanh toán. Payment: online, in_person, none.",
    "IsFromDVCQG": "Có nhận từ Cổng DVCQG không. Whether it came from the national portal.",
    "Data": "Dữ liệu khác. Other data.",
    "type": "Loại người dùng. Who acted: business, citizen, officer.",
    "account": "Tài khoản (ID_local hoặc ID_QG). The account.",
    "location": "Mã định danh đơn vị xử lý. Identifier of the unit in charge.",
}
_MILESTONES = {
    "received": "Status 1: đã tiếp nhận. Received.",
    "processing": "Status 2: đang xử lý. Being processed.",
    "result": "Status 3: đã trả kết quả. Result returned.",
    "other": "Status 0: khác (trả lại, hủy…). Other (returned, withdrawn, …).",
}
_PATH: Schema = {"type": "string", "description": "cột hoặc bảng_tham_chiếu.cột; column or reference.column"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_FROM_ONE: Schema = {"type": "integer", "minimum": 1}
_OR_NULL: Schema = {"type": ["string", "number", "boolean", "null"]}


def mapping_schema() -> tuple[Schema, Schema]:
    """The schema of `mapping`, and the definitions it refers to."""
    definitions: Schema = {"test": _test(), "condition": _condition()}
    for kind in {**PARAMETERS, **USER}.values():
        definitions[_name(kind)] = _value(kind, words=False)
        if kind.words:
            definitions[_name(kind, words=True)] = _value(kind, words=True)
    parameters = {name: _ref(_name(kind)) | {"description": _ABOUT[name]} for name, kind in PARAMETERS.items()}
    properties: Schema = {
        "extends": {"type": "string", "description": "preset:tên hoặc đường dẫn; preset:name or a path"},
        "dossier": _object({"table": _table()}, ("table",)),
        "children": _named(
            _object({"table": _table(), "belongs_to": {"type": "string"}, "order_by": {"type": "string"}}, None)
        ),
        "references": _named(
            _object(
                {
                    "table": _table(),
                    "match": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": _PATH,
                    },
                },
                None,
            )
        ),
        "milestones": _object(
            {m.name.lower(): _ref("condition") | {"description": _MILESTONES[m.name.lower()]} for m in Milestone}, ()
        ),
        **parameters,
        "User": _object({name: _ref(_name(kind)) | {"description": _ABOUT[name]} for name, kind in USER.items()}, ()),
    }
    whole = ["dossier", "milestones", *(p for p in PARAMETERS if p not in OPTIONAL_PARAMETERS), "User"]
    complete = {
        "required": whole,
        "properties": {"milestones": {"required": list(REQUIRED_MILESTONES)}, "User": {"required": list(USER)}},
    }
    schema = {
        "description": "preset:tên, đường dẫn tệp, hoặc viết ngay tại đây; preset:name, a file, or written here",
        "anyOf": [
            {"type": "string"},
            _object(properties, ()) | {"anyOf": [{"required": ["extends"]}, complete]},
        ],
    }
    return schema, definitions


def _object(properties: Schema, required: tuple[str, ...] | None) -> Schema:
    """A closed object; `required` None means all of its keys."""
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": needed}


def _named(entry: Schema) -> Schema:
    return {"type": "object", "additionalProperties": entry}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _table() -> Schema:
    return {"type": "string", "pattern": r"^[^.]+\.[^.]+$", "description": "schema.table"}


def _test() -> Schema:
    tests: Schema = {"set": {"type": "boolean"}, "not": _ref("test"), **{order: {"type": "number"} for order in ORDERS}}
    dates: Schema = {"type": _moment_type(), **{order: {"type": "string"} for order in ORDERS}}
    return {
        "anyOf": [
            _OR_NULL,
            {"type": "array", "minItems": 1, "items": _OR_NULL},
            _object(tests, ()) | {"minProperties": 1},
            _object(dates, ("type",)) | {"minProperties": 2},
        ]
    }


def _moment_type() -> Schema:
    return {
        "type": "string",
        "pattern": r"^(date|timestamp(\([0-6]\))?|timestamptz(\([0-6]\))?)$",
        "description": "kiểu của cột như trong CSDL; the column's type: date, timestamp, timestamp(3), timestamptz",
    }


def _condition() -> Schema:
    several = {"type": "array", "minItems": 1, "items": _ref("condition")}
    child: Schema = {"type": "string", "description": "tên bảng con; the name of a child table"}
    where: Schema = {"where": _ref("condition")}
    return {
        "anyOf": [
            _object({"exists": child, **where}, ("exists",)),
            _object({"count": child, **where, "is": _ref("test")}, ("count", "is")),
            {
                "type": "object",
                "minProperties": 1,
                "properties": {"all": several, "any": several, "not": _ref("condition")},
                "additionalProperties": _ref("test"),
            },
        ]
    }


def _constant(kind: Kind) -> Schema:
    if kind.words:
        return {"enum": list(kind.words)}
    if kind is LEVEL:
        return {"enum": [0, 3, 4]}
    if kind is SITE:
        return {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return {"type": "boolean"} if kind is TRUTH else _SCALAR


def _name(kind: Kind, *, words: bool = False) -> str:
    return f"{'words' if words else 'value'} of {kind.name}".replace(" ", "_")


def _value(kind: Kind, *, words: bool) -> Schema:
    """A value of this kind; `words`: one that stands in `is`, `then` or `else`, where closed words are complete."""
    own, text = _ref(_name(kind)), _ref(_name(TEXT))
    result = _ref(_name(kind, words=True)) if kind.words else own
    pick: Schema = {"where": _ref("condition"), "column": {"type": "string"}}
    case = _object({"when": _ref("condition"), "then": result}, None)
    forms = [
        _object({"constant": _constant(kind)}, None),
        _object({"column": _PATH}, None),
        _object(
            {
                "of": text,
                "is": {"type": "object", "minProperties": 1, "additionalProperties": result},
                "else": result,
            },
            ("of", "is"),
        ),
        _object(
            {"cases": {"type": "array", "minItems": 1, "items": case}, "else": result},
            ("cases",),
        ),
        _object({"coalesce": {"type": "array", "minItems": 1, "items": own}}, None),
        _object({"template": {"type": "string"}}, None),
        _object({"last": {"type": "string"}, **pick}, ("last", "column")),
        _object({"first": {"type": "string"}, **pick}, ("first", "column")),
        _object({"count": {"type": "string"}, "where": _ref("condition")}, ("count",)),
        _object({"substring": text, "from": _FROM_ONE, "length": _FROM_ONE}, ("substring", "from")),
        _object({"extract": text, "pattern": {"type": "string"}}, None),
        _object({"date": {"type": "string"}, "type": _moment_type(), "format": {"type": "string"}}, None),
    ]
    return {"anyOf": [_constant(kind), *([] if words and kind.words else [_PATH]), *forms]}

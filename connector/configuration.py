"""Reads a configuration file: settings and mapping plan, with every error at its place.

Contract: `load` does all the reading; it raises ConfigErrors with everything that is wrong in one go. Text may hold
`${env:NAME}` (an environment variable) and `${file:PATH}` (a file's text without the last line end, for secrets);
`$${` is a plain `${`. Neither the values behind them nor other secrets are ever shown.
`mapping` is written in place, or names a file (relative to the file that names it) or `preset:NAME`; a written one may
`extends:` another. Paths in settings and in `${file:…}` are relative to the directory the connector runs in.

    python -m connector.configuration > schemas/config.schema.json
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connector.errors import ConfigError, ConfigErrors
from connector.log.kafka_cluster import faults_of
from connector.mapping.compile import compile_mapping, unwrap
from connector.mapping.document import MAX_BYTES, ListNode, MapNode, Node, ScalarNode, plain_value, read, shape
from connector.mapping.extend import extend
from connector.mapping.marks import OPERATION, Mark, Problems, Source, nearest
from connector.mapping.plan import Plan, check_truncation
from connector.mapping.schema import mapping_schema
from connector.settings import KafkaSettings, Settings

PRESET = "preset:"
_MOST_EXTENDED = 10
_LONGEST_FILE = 1024 * 1024
"""Bytes of what `${file:…}` names: a secret, a key, a chain of certificates."""
_BYTES = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in the environment that are not text."""
_CALL = re.compile(r"\$\$\{|\$\{([^}]*)\}?")


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration file, read and checked."""

    settings: Settings
    plan: Plan
    path: Path


def load(path: Path) -> Configuration:
    """Read and check everything a connector needs. Raises ConfigErrors, or ConfigError when there is no file."""
    problems = Problems()
    root = read(_bytes(path), str(path))
    if not isinstance(root, MapNode):
        problems.fail(root.mark, f"a configuration is a mapping, not {shape(root)}", "start from config/emc-cdc.yml")
    settings = _settings(root, problems)
    mapping = root.get("mapping")
    plan = None
    if mapping is None:
        mend = "add `mapping: preset:NAME`, a file or the mapping itself (docs/mapping.md)"
        problems.add(root.mark, "the configuration lacks 'mapping'", mend)
    else:
        try:
            resolved = resolve_mapping(mapping, path, problems, ())
        except ConfigErrors as unreadable:  # a mapping file that is not YAML; the settings' errors are told too
            raise ConfigErrors([*problems.errors(), *unreadable.problems]) from None
        plan = compile_mapping(resolved, problems) if resolved is not None else None
    if settings is not None and plan is not None:
        check_truncation(plan, _truncated(root, settings), problems)
    problems.raise_found()
    assert settings is not None
    assert plan is not None
    return Configuration(settings, plan, path)


def load_mapping(path: Path) -> Plan:
    """The mapping of another file: a mapping file, or a whole configuration, of which nothing else is read."""
    problems = Problems()
    root = read(_bytes(path), str(path))
    mapping = root.get("mapping") if isinstance(root, MapNode) else None
    if mapping is None:
        problems.fail(root.mark, "there is no 'mapping' in this file", "write `mapping:` and the mapping below it")
    resolved = resolve_mapping(mapping, path, problems, ())
    plan = compile_mapping(resolved, problems) if resolved is not None else None
    problems.raise_found()
    assert plan is not None
    return plan


def presets() -> list[str]:
    """The names of the presets that are shipped."""
    folder = resources.files("connector.mapping") / "presets"
    return sorted(entry.name.removesuffix(".yml") for entry in folder.iterdir() if entry.name.endswith(".yml"))


def _read(path: Path, most: int) -> bytes:
    """A file's bytes, one more than `most` at most: a wrong path may name what has no end."""
    with path.open("rb") as file:
        return file.read(most + 1)


def preset_texts() -> dict[str, str]:
    """The text of each preset that is shipped."""
    folder = resources.files("connector.mapping") / "presets"
    return {name: (folder / f"{name}.yml").read_text("utf-8") for name in presets()}


def fill(text: str, subject: str) -> str:
    """`text` with the values of `${env:…}` and `${file:…}`; `subject` says in errors where it was given."""
    problems = Problems()
    # Without its line, which may hold a password.
    node = ScalarNode(text, text, plain=False, mark=Mark(Source(subject, ()), 1, 1), written=subject)
    filled = substitute(node, problems, retype=False)
    if problems:
        error = problems.errors()[0]
        raise ConfigError(OPERATION, subject, error.cause.partition("\n")[0], error.mend)
    assert isinstance(filled, ScalarNode)
    return filled.text


def _bytes(path: Path) -> bytes:
    try:
        return _read(path, MAX_BYTES)
    except FileNotFoundError:
        mend = "give the right path with --config, or start from config/emc-cdc.yml"
        raise ConfigError(OPERATION, str(path), "there is no such file", mend) from None
    except OSError as error:
        raise ConfigError(OPERATION, str(path), _reason(error), "make the file readable") from None


def _reason(error: OSError) -> str:
    return (error.strerror or "it cannot be read").lower()


# --- the mapping: in place, from a file, from a preset -------------------------------------------------------------


def resolve_mapping(node: Node, path: Path | None, problems: Problems, seen: tuple[str, ...]) -> Node | None:
    """The mapping a node states or names, with what it extends below it. None after a problem was noted."""
    if isinstance(node, ScalarNode):
        return _named_mapping(node, path, problems, seen)
    resolved = substitute(node, problems, retype=True)
    if not isinstance(resolved, MapNode):
        return resolved
    base = resolved.get("extends")
    if base is None:
        return resolved
    upper = replace(resolved, entries=tuple(e for e in resolved.entries if e[0].value != "extends"))
    if not isinstance(base, ScalarNode):
        problems.add(base.mark, f"'extends' names one mapping, not {shape(base)}", "write preset:NAME or a path")
        return None
    lower = _named_mapping(base, path, problems, seen)
    return extend(lower, upper) if isinstance(lower, MapNode) else lower


def _named_mapping(name: ScalarNode, path: Path | None, problems: Problems, seen: tuple[str, ...]) -> Node | None:
    where = substitute(name, problems, retype=False)
    assert isinstance(where, ScalarNode)
    text = where.text.strip()
    if not isinstance(where.value, str) or not text:
        problems.add(name.mark, "'mapping' names nothing", "write preset:NAME, a path, or the mapping itself")
        return None
    file = None if path is None or text.startswith(PRESET) else path.parent / text
    shown = text if file is None else str(file)
    itself = shown if file is None else os.path.realpath(file)  # a path may go round and come back to its file
    if itself in seen:
        problems.add(name.mark, "a mapping extends itself", "remove one of the `extends` lines")
        return None
    if len(seen) == _MOST_EXTENDED:
        told = f"more than {_MOST_EXTENDED} mappings extend one another"
        problems.add(name.mark, told, "write what they say into fewer files")
        return None
    data = _preset(text, name, problems) if file is None else _mapping_file(file, name, problems)
    inner = unwrap(read(data, shown), problems) if data is not None else None
    return None if inner is None else resolve_mapping(inner, file, problems, (*seen, itself))


def _preset(text: str, name: ScalarNode, problems: Problems) -> bytes | None:
    preset = text.removeprefix(PRESET).strip()
    if preset in presets():
        return (resources.files("connector.mapping") / "presets" / f"{preset}.yml").read_bytes()
    problems.choose(name.mark, f"'{name.written}' names no preset", preset, presets())
    return None


def _mapping_file(file: Path, name: ScalarNode, problems: Problems) -> bytes | None:
    try:
        return _read(file, MAX_BYTES)
    except OSError as error:
        mend = f"the path is relative to {file.parent}; for a shipped mapping write {PRESET}NAME"
        problems.add(name.mark, f"the mapping file cannot be read: {_reason(error)}", mend)
        return None


# --- ${env:NAME} and ${file:PATH} ----------------------------------------------------------------------------------


def substitute(node: Node, problems: Problems, *, retype: bool) -> Node:
    """Put the values of `${env:…}` and `${file:…}` in their places.

    retype: what is not quoted, or nothing but a call, becomes what its new text means (a number, true); else text.
    """
    match node:
        case ListNode(items=items):
            return replace(node, items=tuple(substitute(item, problems, retype=retype) for item in items))
        case MapNode(entries=entries):
            told = tuple((key, substitute(value, problems, retype=retype)) for key, value in entries)
            return replace(node, entries=told)
        case ScalarNode(value=str(), text=text) if "${" in text:
            filled = _CALL.sub(lambda call: _called(call, node.mark, problems), text)
            whole = node.plain or _CALL.fullmatch(text) is not None  # inside { } a call must be in quotes
            value = plain_value(filled) if retype and whole else filled
            return replace(node, text=filled, value=value)
    return node


def _called(call: re.Match[str], mark: Mark, problems: Problems) -> str:
    if call[1] is None:
        return "${"
    kind, colon, name = call[1].partition(":")
    if not call[0].endswith("}") or not colon or not name or kind not in ("env", "file"):
        told = f"'{call[0]}' is neither ${{env:NAME}} nor ${{file:PATH}}"
        problems.add(mark, told, "write one of the two, or $${ for the characters ${ themselves")
        return call[0]
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            near = nearest(name, os.environ)
            mend = f"set it before the start: export {name}=…"
            problems.add(mark, f"the environment variable {name} is not set", f"{near} {mend}" if near else mend)
            return call[0]
        if not value.isascii() and _BYTES.search(value):
            problems.add(mark, f"the environment variable {name} is not UTF-8 text", "set it in a UTF-8 terminal")
            return call[0]
        return value
    try:
        return _text(_read(Path(name), _LONGEST_FILE)).removesuffix("\n")
    except (OSError, ValueError) as error:
        told = _reason(error) if isinstance(error, OSError) else "it is not UTF-8 text of at most 1 MiB"
        problems.add(mark, f"the file {name} cannot be read: {told}", f"a relative path begins at {Path.cwd()}")
        return call[0]


def _text(data: bytes) -> str:
    """What a file holds, with one kind of line ends. Raises ValueError when that is no text, or too much."""
    if len(data) > _LONGEST_FILE or b"\0" in data:
        raise ValueError
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


# --- settings ------------------------------------------------------------------------------------------------------


def _settings(root: MapNode, problems: Problems) -> Settings | None:
    own = replace(root, entries=tuple(entry for entry in root.entries if entry[0].value != "mapping"))
    unresolved = Problems()
    filled = substitute(own, unresolved, retype=False)
    problems.join(unresolved)
    try:
        settings = Settings.model_validate(_plain(filled))
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            if problems.full:
                break
            _explain(error, own, problems, unresolved)
        return None
    if settings.log.kafka is not None:
        _kafka(settings.log.kafka, own, problems, unresolved)
    return settings


def _kafka(settings: KafkaSettings, root: MapNode, problems: Problems, unresolved: Problems) -> None:
    """What cannot be used of librdkafka's settings, each at its line."""
    section = ("log", "kafka", "settings")
    if not settings.settings or (unresolved and _unresolved_below(_find(root, section)[1], unresolved)):
        return  # what a value would have been is not known, so nothing can be said of them
    for fault in faults_of(settings):
        key, node, _ = _find(root, (*section, fault.name) if fault.name else section)
        place = ".".join((*section, fault.name) if fault.name else section)
        problems.add((key or node).mark, f"'{place}': {fault.cause}", fault.mend, hide=True)


def _unresolved_below(node: Node, unresolved: Problems) -> bool:
    return isinstance(node, MapNode) and any(unresolved.at(value.mark) for _, value in node.entries)


def _truncated(root: MapNode, settings: Settings) -> list[tuple[str, Mark]]:
    """The columns of `log.truncate`, each with its place."""
    names = []
    for number, name in enumerate(settings.log.truncate):
        _, node, _ = _find(root, ("log", "truncate", str(number)))
        names.append((name, node.mark))
    return names


def _plain(node: Node) -> Any:
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [_plain(item) for item in node.items]
        case MapNode():
            return {key.text: _plain(value) for key, value in node.entries}


def _explain(error: ErrorDetails, root: MapNode, problems: Problems, unresolved: Problems) -> None:
    """Turn one pydantic error into a problem at the place it is about."""
    location = tuple(str(part) for part in error["loc"])
    key, node, depth = _find(root, location)
    section = ".".join(location[: depth if error["type"] != "extra_forbidden" else -1])
    match error["type"]:
        case "extra_forbidden" if key is not None:
            allowed = [*_model(location[:-1]).model_fields, *(["mapping"] if len(location) == 1 else [])]
            place = f"'{section}'" if section else "the configuration"
            problems.choose(key.mark, f"{place} has no '{key.text}'", key.text, allowed, hide=True)
        case "missing":
            place = f"'{section}'" if section else "the configuration"
            mark = key.mark if key is not None else node.mark
            about = _about(location)
            mend = f"add `{location[-1]}: …`{about and f' ({about})'}"
            problems.add(mark, f"{place} lacks '{location[-1]}'", mend, hide=key is not None)
        case _:
            if unresolved.at(node.mark):
                return  # what it would have been is not known, so nothing more can be said of it
            said = error["msg"].removeprefix("Value error, ")
            if error["type"] in ("model_type", "dict_type"):
                said = f"this is {shape(node)}, not a mapping of settings"
            about = _about(location[:depth])
            problems.add(node.mark, f"'{section}': {said[:1].lower()}{said[1:]}", about or "correct the value")


def _find(root: MapNode, location: tuple[str, ...]) -> tuple[ScalarNode | None, Node, int]:
    """The deepest node on a pydantic location, its key, and how many parts led there."""
    key: ScalarNode | None = None
    node: Node = root
    for depth, part in enumerate(location):
        if isinstance(node, MapNode):
            found = next(((k, v) for k, v in node.entries if k.text == part), None)
            if found is None:
                return key, node, depth
            key, node = found
        elif isinstance(node, ListNode) and part.isdecimal():
            node = node.items[int(part)]
        else:
            return key, node, depth
    return key, node, len(location)


def _model(location: tuple[str, ...]) -> type[BaseModel]:
    """The section at a location; the whole when there is none."""
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields.get(part)
        inner = _section(field.annotation) if field is not None else None
        if inner is None:
            break
        model = inner
    return model


def _section(annotation: object) -> type[BaseModel] | None:
    candidates = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _about(location: tuple[str, ...]) -> str:
    """What a setting is for and its default, in words."""
    field = _model(location[:-1]).model_fields.get(location[-1]) if location else None
    if field is None:
        return ""
    told = [field.description] if field.description else []
    default = field.default
    if not field.is_required() and isinstance(default, str | int | float | Path):
        told.append(f"default: {str(default).lower() if isinstance(default, bool) else default}")
    return "; ".join(told)


# --- the schema for editors ----------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a whole configuration file."""
    schema = Settings.model_json_schema()
    for definition in [schema, *schema.get("$defs", {}).values()]:
        for name, field in definition.get("properties", {}).items():
            definition["properties"][name] = _or_call(field)
    mapping, definitions = mapping_schema()
    schema["properties"]["mapping"] = mapping
    schema["$defs"] |= definitions
    schema["required"] = [*(name for name in schema["required"] if name != "source"), "mapping"]
    # Debezium's topics need no database of ours.
    schema["anyOf"] = [
        {"required": ["source"]},
        {"required": ["log"], "properties": {"log": {"required": ["debezium"]}}},
    ]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "emc-cdc"}


def _or_call(field: dict[str, Any]) -> dict[str, Any]:
    """A number or true/false may also come out of ${env:…}."""
    if field.get("type") not in ("integer", "number", "boolean"):
        return field
    told = {key: field[key] for key in ("title", "description", "default") if key in field}
    bare = {key: value for key, value in field.items() if key not in told}
    return told | {"anyOf": [bare, {"type": "string", "pattern": r"^\$\{(env|file):"}]}


def main() -> None:
    """Write the JSON Schema to standard output."""
    sys.stdout.write(json.dumps(json_schema(), ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()

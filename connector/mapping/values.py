"""Values: YAML → a function from a scope to a value.

    ma_ho_so                                             a column of the dossier
    service.ma                                           a column of a reference
    327, true                                            a constant
    {constant: text}   {column: path}
    {of: VALUE, is: {word: constant}, else: constant}    a value map; the key null is NULL
    {cases: [{when: CONDITION, then: VALUE}], else: VALUE}
    {coalesce: [VALUE, VALUE]}                           the first that is there
    {template: "{don_vi.ma}-{so}"}                       text with columns in it; nothing when one is not there
    {last: child, where: CONDITION, column: column}      of the last (first) row of a child table that fits
    {count: child, where: CONDITION}                     how many rows of a child table fit
    {substring: VALUE, from: 1, length: 3}               characters of a text, counted from 1
    {extract: VALUE, pattern: '-([0-9]{6})-'}            what a regular expression's group, or the whole of it, finds
    {date: column, type: timestamp, format: yyMMdd}      a date or time as text

Where a parameter has closed words, such a word is always the word itself, and `is`, `then` and `else` take nothing
but words, constants and the forms in braces. In `is`, and in the `else` beside it, a bare string is a constant;
everywhere else it is a column path.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from connector.change.record import Row, Value
from connector.mapping import moments
from connector.mapping.cases import Earlier
from connector.mapping.conditions import Condition, compile_condition, constant_text
from connector.mapping.document import ListNode, MapNode, Node, ScalarNode, shape
from connector.mapping.kinds import TEXT, UNFIT, Kind, blank, canonical, comparable, spelt
from connector.mapping.marks import Problems
from connector.mapping.names import ChildPaths, Paths, Scope, entries
from connector.mapping.patterns import BadPattern, compile_pattern, find

Getter = Callable[[Scope], Value]

FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("constant",), ("constant",)),
    "column": (("column",), ("column",)),
    "of": (("of", "is", "else"), ("of", "is")),
    "cases": (("cases", "else"), ("cases",)),
    "coalesce": (("coalesce",), ("coalesce",)),
    "template": (("template",), ("template",)),
    "last": (("last", "where", "column"), ("last", "column")),
    "first": (("first", "where", "column"), ("first", "column")),
    "count": (("count", "where"), ("count",)),
    "substring": (("substring", "from", "length"), ("substring", "from")),
    "extract": (("extract", "pattern"), ("extract", "pattern")),
    "date": (("date", "type", "format"), ("date", "type", "format")),
}
"""Each form by the key that tells it: the keys allowed and those required."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def nothing(_: Scope) -> Value:
    """A value that is not there."""
    return None


def always(value: Value) -> Getter:
    """A constant."""
    return lambda _: value


class Values:
    """Compiles the values of one mapping."""

    def __init__(self, paths: Paths, problems: Problems) -> None:
        self._paths = paths
        self._problems = problems

    def compile(self, node: Node, kind: Kind, *, words: bool = False, literal: bool = False) -> Getter:
        """The value a node states, for a parameter of this kind.

        words: bare strings must be one of the kind's closed words. literal: bare strings are constants.
        """
        match node:
            case ScalarNode():
                return self._scalar(node, kind, words=words, literal=literal)
            case ListNode():
                told = "a list is no value"
                self._problems.add(node.mark, told, "for the first value that is there write {coalesce: [a, b]}")
                return nothing
            case MapNode():
                return self._form(node, kind)

    def _scalar(self, node: ScalarNode, kind: Kind, *, words: bool, literal: bool) -> Getter:
        if literal or node.value in kind.words or not isinstance(node.value, str) or (words and kind.words):
            return self._constant(node, kind)
        if re.search(r"\s", node.text.strip()) or not node.text.strip():
            told = f"'{node.written}' is not a column path"
            self._problems.add(node.mark, told, "for text of your own write {constant: 'text'}")
            return nothing
        return self._column(node, kind)

    def _constant(self, node: ScalarNode, kind: Kind) -> Getter:
        wrong = kind.wrong(node)
        if wrong is not None:
            if isinstance(node.value, str) and kind.words:
                self._problems.choose(node.mark, wrong[0], node.text, kind.words)
            else:
                self._problems.add(node.mark, *wrong)
            return nothing
        # Text keeps the characters that were written: 1.000100 is a code, not a number.
        return always(node.text if kind.read is TEXT.read or isinstance(node.value, str) else node.value)

    def _column(self, path: ScalarNode, kind: Kind) -> Getter:
        place = self._paths.resolve(path, value=True, whole=not kind.prose)
        if place is None:
            return nothing
        slot, column = place
        return lambda scope: scope[slot].get(column)

    def _form(self, node: MapNode, kind: Kind) -> Getter:
        present = [key for key, _ in node.entries if key.value in FORMS and key.value != "column"]
        present = present or [key for key, _ in node.entries if key.value == "column"]
        if not present:
            keys = [key for key, _ in node.entries]
            if keys:
                told = f"no form of value has '{keys[0].text}'"
                self._problems.choose(keys[0].mark, told, keys[0].text, FORMS)
            else:
                self._problems.add(node.mark, "an empty mapping is no value", f"allowed here: {', '.join(FORMS)}")
            return nothing
        form = present[0].text
        allowed, required = FORMS[form]
        odd = [key for key, _ in node.entries if key.value not in allowed]
        if form in ("last", "first") and any(key.value in ("is", "else") for key in odd):
            told = f"'{odd[0].text}' cannot stand beside '{form}'"
            mend = f"put the pick inside `of`: {{of: {{{form}: …, column: …}}, is: {{…}}}}"
            self._problems.add(odd[0].mark, told, mend)
            return nothing
        found = entries(node, self._problems, f"a value with '{form}'", allowed, required)
        if found is None or odd or any(key not in found for key in required):
            return nothing
        parts = {key: value for key, (_, value) in found.items()}
        match form:
            case "constant":
                return self.compile(parts["constant"], kind, literal=True)
            case "column":
                return self._named_column(parts["column"], self._paths, kind)
            case "of":
                return self._map(parts, kind)
            case "cases":
                return self._cases(parts, kind)
            case "coalesce":
                return self._coalesce(parts["coalesce"], kind)
            case "template":
                return self._template(parts["template"], kind)
            case "count":
                return self._count(parts)
            case "substring":
                return self._substring(parts)
            case "extract":
                return self._extract(parts)
            case "date":
                return self._date(parts)
            case _:
                return self._pick(parts, form, kind)

    def _named_column(self, node: Node, paths: Paths, kind: Kind) -> Getter:
        if not isinstance(node, ScalarNode):
            self._problems.add(node.mark, f"'column' takes a column, not {shape(node)}", "write column: name")
            return nothing
        place = paths.resolve(node, value=True, whole=not kind.prose)
        if place is None:
            return nothing
        slot, column = place
        return lambda scope: scope[slot].get(column)

    def _map(self, parts: dict[str, Node], kind: Kind) -> Getter:
        given = self.compile(parts["of"], TEXT)
        lines = parts["is"]
        texts: dict[str, Getter] = {}
        others: dict[str, Getter] = {}
        fallback = self.compile(parts["else"], kind, words=True, literal=True) if "else" in parts else None
        null = fallback or nothing
        if not isinstance(lines, MapNode) or not lines.entries:
            self._problems.add(lines.mark, "'is' takes `value: word` lines", "write is: {value: word, …}")
            return nothing
        for key, node in lines.entries:
            result = self.compile(node, kind, words=True, literal=True)
            if key.value is None:
                null = result
                continue
            text, other = spelt(key.text), constant_text(key)
            if text in texts:
                told = f"'{key.text}' stands here twice: as text and as a number or word"
                self._problems.add(key.mark, told, "keep one of the two; columns of both types fit it")
            texts[text] = result
            others.setdefault(other, result)
        unfit: Getter = fallback or always(UNFIT)

        def look_up(scope: Scope) -> Value:
            value = given(scope)
            if value is None:
                return null(scope)
            if isinstance(value, str):
                return texts.get(spelt(value), unfit)(scope)
            return others.get(comparable(value), unfit)(scope)

        return look_up

    def _cases(self, parts: dict[str, Node], kind: Kind) -> Getter:
        listed = parts["cases"]
        if not isinstance(listed, ListNode) or not listed.items:
            told = f"'cases' takes a list of {{when: …, then: …}}, not {shape(listed)}"
            self._problems.add(listed.mark, told, "begin each case with '- when:'")
            return nothing
        told_cases = []
        earlier = Earlier(self._problems)
        for item in listed.items:
            found = entries(item, self._problems, "a case", ("when", "then"), ("when", "then")) or {}
            if len(found) == 2:
                earlier.add(found["when"][1])
                when = compile_condition(found["when"][1], self._paths, self._problems)
                told_cases.append((when, self.compile(found["then"][1], kind, words=True)))
        otherwise = self.compile(parts["else"], kind, words=True) if "else" in parts else nothing
        cases = tuple(told_cases)

        def first_that_holds(scope: Scope) -> Value:
            for when, then in cases:
                if when(scope):
                    return then(scope)
            return otherwise(scope)

        return first_that_holds

    def _coalesce(self, node: Node, kind: Kind) -> Getter:
        if not isinstance(node, ListNode) or not node.items:
            self._problems.add(node.mark, "'coalesce' takes a list of values", "write coalesce: [a, b]")
            return nothing
        candidates = tuple(self.compile(item, kind) for item in node.items)

        def first_there(scope: Scope) -> Value:
            last: Value = None
            for candidate in candidates:
                value = candidate(scope)
                if not blank(value):
                    return value
                last = UNFIT if value is UNFIT else last
            return last

        return first_there

    def _template(self, node: Node, kind: Kind) -> Getter:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            mend = "write template: '{reference.column}-{column}'"
            self._problems.add(node.mark, f"'template' takes text, not {shape(node)}", mend)
            return nothing
        parts: list[Getter] = []
        end = 0
        for found in _PLACEHOLDER.finditer(node.text):
            parts.append(always(node.text[end : found.start()]))
            end = found.end()
            if found[0] in ("{{", "}}"):
                parts.append(always(found[0][0]))
            elif found[1] is None:
                told = f"a single '{found[0]}' in a template"
                self._problems.add(node.mark, told, "write {column}, and {{ or }} for a brace itself")
                return nothing
            else:
                path = found[1].strip()
                parts.append(self._column(ScalarNode(path, path, plain=True, mark=node.mark, written=path), kind))
        parts.append(always(node.text[end:]))

        def fill(scope: Scope) -> Value:
            filled = []
            for part in parts:
                value = part(scope)
                if value is None or value is UNFIT:
                    return None
                filled.append(value if isinstance(value, str) else canonical(value))
            return "".join(filled)

        return fill

    def _child(self, name: Node, parts: dict[str, Node], form: str) -> tuple[int, ChildPaths, Condition | None] | None:
        """A child table's slot, the paths inside of its rows, and which of them fit (None: all)."""
        if not isinstance(name, ScalarNode):
            told = f"'{form}' takes the name of a child table, not {shape(name)}"
            self._problems.add(name.mark, told, f"write {form}: payments")
            return None
        child = self._paths.child(name)
        if child is None:
            return None
        slot, inside = child
        return slot, inside, compile_condition(parts["where"], inside, self._problems) if "where" in parts else None

    def _pick(self, parts: dict[str, Node], form: str, kind: Kind) -> Getter:
        child = self._child(parts[form], parts, form)
        if child is None:
            return nothing
        slot, inside, where = child
        column = self._named_column(parts["column"], inside, kind)
        backwards = form == "last"

        def pick(scope: Scope) -> Value:
            rows: list[Row] = scope[slot]
            for row in reversed(rows) if backwards else rows:
                if where is None or where([row]):
                    return column([row])
            return None

        return pick

    def _count(self, parts: dict[str, Node]) -> Getter:
        child = self._child(parts["count"], parts, "count")
        if child is None:
            return nothing
        slot, _, where = child
        if where is None:
            return lambda scope: len(scope[slot])
        fits = where
        return lambda scope: sum(fits([row]) for row in scope[slot])

    def _substring(self, parts: dict[str, Node]) -> Getter:
        text = self.compile(parts["substring"], TEXT)
        start = self._whole(parts["from"], "from")
        length = self._whole(parts["length"], "length") if "length" in parts else None
        if start is None or ("length" in parts and length is None):
            return nothing
        first, end = start - 1, None if length is None else start - 1 + length

        def cut(scope: Scope) -> Value:
            value = text(scope)
            return value if value is None or value is UNFIT else canonical(value)[first:end]

        return cut

    def _whole(self, node: Node, key: str) -> int | None:
        if isinstance(node, ScalarNode) and type(node.value) is int and node.value >= 1:
            return node.value
        self._problems.add(node.mark, f"'{key}' takes a whole number from 1 on", f"write e.g. {key}: 1")
        return None

    def _extract(self, parts: dict[str, Node]) -> Getter:
        text = self.compile(parts["extract"], TEXT)
        node = parts["pattern"]
        if not isinstance(node, ScalarNode) or not node.text:
            self._problems.add(node.mark, f"'pattern' takes text, not {shape(node)}", "write pattern: '-([0-9]{6})-'")
            return nothing
        try:
            pattern = compile_pattern(node.text)
        except BadPattern as error:
            told = f"'{node.written}' cannot be used as a pattern: {error}"
            self._problems.add(node.mark, told, "write it in quotes, e.g. pattern: '-([0-9]{6})-'")
            return nothing

        def extracted(scope: Scope) -> Value:
            value = text(scope)
            if value is None or value is UNFIT:
                return value
            found = find(pattern, canonical(value))
            return UNFIT if found is None else found

        return extracted

    def _date(self, parts: dict[str, Node]) -> Getter:
        column, told, pattern = parts["date"], parts["type"], parts["format"]
        read = moments.reader(told.text) if isinstance(told, ScalarNode) else None
        write = moments.writer(pattern.text) if isinstance(pattern, ScalarNode) else None
        if read is None:
            self._problems.add(told.mark, "'type' takes a type of date or time", f"allowed here: {moments.TYPES}")
        if write is None:
            self._problems.add(pattern.mark, "'format' takes a pattern of a date", f"allowed here: {moments.LETTERS}")
        if not isinstance(column, ScalarNode):
            self._problems.add(column.mark, f"'date' takes a column, not {shape(column)}", "write date: column")
            return nothing
        place = self._paths.resolve(column, moment=told.text if isinstance(told, ScalarNode) else None)
        if place is None or read is None or write is None:
            return nothing
        slot, name = place
        at, as_text = read, write

        def dated(scope: Scope) -> Value:
            value = scope[slot].get(name)
            if value is None:
                return None
            moment = at(value)
            return UNFIT if moment is None else as_text(moment)

        return dated

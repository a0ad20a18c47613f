"""A whole configuration from what was found: YAML that loads, each line with its reason, open questions marked. Pure.

Contract: what is not known is written so that the parameter is *unknown* (the dossier is held and shown, nothing is
sent), and never as a guess; what names or words only suggest carries `cần xác nhận`. No value of a row is written but
words of a status-like column, few and short, that do not look like a person's data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from re import Pattern

from connector.drafting import vocabulary
from connector.drafting.inventory import NUMBERS, TRUTHS, Column, Inventory, Shapes, Table, Word
from connector.drafting.page import Page, Question, condition_key, key, path, quoted, scalar, shown
from connector.drafting.parts import Parts, Place
from connector.drafting.recognition import Recognised
from connector.mapping.document import MapNode, Node, ScalarNode, plain_value, read
from connector.mapping.kinds import canonical, spelt

FEW = 30
"""A column with more words than this is no status."""
SHORT = 40
"""A longer word is no word of a status."""
CONFIRM = "cần xác nhận"
NOT_KNOWN = "(chưa biết)"
"""Stands in a value map for words that nobody has told yet: no column holds it, so the parameter stays unknown."""

Words = Mapping[tuple[str, str], Sequence[Word]]
"""Sampled words by (`schema.table`, column)."""
Vocabulary = tuple[tuple[str, Pattern[str]], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of the file, and the questions in it with their lines."""

    text: str
    questions: tuple[Question, ...]


def from_preset(inventory: Inventory, found: Recognised, dsn: str, site_id: int | None) -> Draft:
    """A draft that extends a preset."""
    page = _opening(inventory, dsn)
    page.add(0, "mapping:")
    share = f"{found.share:.0%}"
    page.say(
        1, f"Nhận ra hệ thống: {share} số cột mà bản mẫu dùng có ở đây.", f"{share} of the preset's columns are here."
    )
    page.add(1, f"extends: preset:{found.preset}")
    _site(page, found.dossier, site_id)
    for one in found.differences:
        near = f"; gần nhất: {', '.join(one.near)}" if one.near else ""
        close = f"; nearest: {', '.join(one.near)}" if one.near else ""
        if one.column:
            vi = f"bảng {one.table} không có cột {one.column}{near}. Cột nào thay, hay viết lại tham số dùng cột đó?"
            en = f"{one.table} has no column {one.column}{close}; which one stands for it?"
        else:
            vi = f"không có bảng {one.table}{near}. Dữ liệu ấy nằm ở bảng nào?"
            en = f"there is no table {one.table}{close}; where does it stand?"
        page.ask(1, vi, en)
    _moved(page, found)
    return Draft(page.text, tuple(page.questions))


def from_parts(
    inventory: Inventory, parts: Parts, shapes: Mapping[str, Shapes], words: Words, dsn: str, site_id: int | None
) -> Draft:
    """A draft out of names, keys, shapes and words. The dossier table must have an `anchor`."""
    return _Writer(inventory, parts, shapes, words, dsn, site_id).write()


def known_words(column: Column, sampled: Sequence[Word]) -> tuple[Word, ...] | None:
    """A column's words, most frequent first; None where they must not or cannot be listed."""
    if column.category in TRUTHS:
        counts = {word.text: word.count for word in sampled}
        return tuple(Word(text, counts.get(text)) for text in ("true", "false"))
    found: dict[str, Word] = {}
    for word in (*sampled, *(Word(text) for text in column.words)):
        text = _spelt(word.text, column)
        if text and text not in found:
            found[text] = replace(word, text=text)
    if len(found) > FEW:
        return None
    for word in found.values():
        if any(len(text) > SHORT or vocabulary.looks_personal(text) for text in (word.text, word.label)):
            return None
    return tuple(sorted(found.values(), key=lambda word: (-(word.count or 0), word.text)))


def _spelt(text: str, column: Column) -> str:
    if column.category in NUMBERS:
        try:
            return canonical(Decimal(text))
        except InvalidOperation:
            return spelt(text)
    return spelt(text)


def _literal(text: str) -> str:
    """A word as a scalar: numbers and truth values bare."""
    value = plain_value(text)
    if isinstance(value, bool) or (isinstance(value, int) and str(value) == text):
        return text
    return scalar(text)


def _literal_key(text: str) -> str:
    literal = _literal(text)
    return literal if "${" not in text else quoted(text)


def _opening(inventory: Inventory, dsn: str) -> Page:
    page = Page()
    page.say(
        0,
        f"Bản nháp do `emc-cdc init` viết sau khi xem cơ sở dữ liệu {inventory.database}; chưa có gì được gửi đi.",
        f"A draft that `emc-cdc init` wrote after a look at the database {inventory.database}.",
    )
    page.say(
        0,
        f"Dòng ghi «{CONFIRM}» là suy từ tên, phải đối chiếu. Dòng CÂU HỎI: chỉ cơ quan mới trả lời được; chừng nào "
        "chưa trả lời, tham số ấy coi như chưa biết và hồ sơ được giữ lại, không gửi đi.",
        "What is marked so follows from names only. Until a QUESTION is answered its parameter is unknown: dossiers "
        "are held, nothing is sent. Then: emc-cdc check, emc-cdc preview.",
    )
    slug = re.sub(r"[^a-z0-9]+", "-", vocabulary.folded(inventory.database)).strip("-")[:40].strip("-")
    name = slug if re.match(r"[a-z]", slug) else f"mot-cua-{slug}"[:40].strip("-")
    page.add(0, f"name: {key(name)}", "tiền tố của slot, publication, topic; theo tên cơ sở dữ liệu")
    page.add(0, "source:")
    page.say(
        1,
        "Không ghi mật khẩu ở đây: dùng password=${env:TÊN}, ${file:…}, PGPASSWORD hoặc ~/.pgpass.",
        "No password here: password=${env:NAME}, ${file:…}, PGPASSWORD or ~/.pgpass.",
    )
    page.add(1, f"dsn: {quoted(dsn)}")
    page.add(0, "emc:")
    page.say(
        1,
        "Bộ giả lập (emc-cdc simulator). Khi đã sẵn sàng: https://f-emc.ngsp.gov.vn/TrackingMCDT",
        "The simulator; when all is ready, the address above.",
    )
    page.add(1, "url: http://127.0.0.1:8043/TrackingMCDT")
    return page


def _site(page: Page, dossier: Table, site_id: int | None) -> None:
    if site_id is not None:
        page.add(1, f"SiteId: {site_id}", "theo --site-id")
        return
    page.ask(
        1,
        "EMC đã cấp cho cơ quan mã site nào? Thay cả dòng dưới bằng SiteId: <mã>.",
        "which site id did EMC give to the agency? Write SiteId: <number>.",
    )
    page.add(1, f"SiteId: {_unknown(dossier, '1')}")


def _unknown(dossier: Table, word: str) -> str:
    """A value that is never known, whatever the row holds."""
    assert dossier.anchor is not None
    return f"{{of: {path('', dossier.anchor)}, is: {{{quoted(NOT_KNOWN)}: {word}}}}}"


def _moved(page: Page, found: Recognised) -> None:
    """The preset's tables where they are here, if that is another schema."""
    if all(preset == table.full_name for preset, table in found.tables.items()):
        return
    root = read(found.text.encode(), found.preset)
    mapping = root.get("mapping") if isinstance(root, MapNode) else None
    assert isinstance(mapping, MapNode)
    page.say(1, "Bảng ở schema khác với bản mẫu.", "The tables stand in another schema than the preset's.")
    page.add(1, f"dossier: {{table: {scalar(found.dossier.full_name)}}}")
    for section in ("children", "references"):
        node = mapping.get(section)
        if not isinstance(node, MapNode):
            continue
        page.add(1, f"{section}:")
        for name, entry in node.entries:
            page.add(2, f"{key(name.text)}: {_flow(entry, found.dossier.schema)}")


def _flow(node: Node, schema: str) -> str:
    assert isinstance(node, MapNode)
    parts = []
    for name, value in node.entries:
        if isinstance(value, MapNode):
            parts.append(f"{key(name.text)}: {_flow(value, schema)}")
        else:
            assert isinstance(value, ScalarNode)
            text = f"{schema}.{value.text.partition('.')[2]}" if name.value == "table" else value.text
            parts.append(f"{key(name.text)}: {scalar(text)}")
    return "{" + ", ".join(parts) + "}"


class _Writer:
    """Writes one draft, top to bottom."""

    def __init__(
        self,
        inventory: Inventory,
        parts: Parts,
        shapes: Mapping[str, Shapes],
        words: Words,
        dsn: str,
        site_id: int | None,
    ) -> None:
        self.page = _opening(inventory, dsn)
        self.parts = parts
        self.shapes = shapes
        self.sampled = words
        self.site_id = site_id

    def write(self) -> Draft:
        page = self.page
        page.add(0, "mapping:")
        self._tables()
        self._milestones()
        self._number()
        _site(page, self.parts.dossier, self.site_id)
        self._column("CodeTTHC", "service_code", "mã thủ tục", "the procedure's code")
        self._column("NameTTHC", "service_name", "tên thủ tục", "the procedure's name")
        self._mapped(
            1,
            "Level",
            "level",
            vocabulary.LEVEL,
            "4",
            "mức độ dịch vụ công (4, 3, 0)",
            "the level of the online service",
        )
        self._mapped(
            1,
            "FormsReception",
            "reception",
            vocabulary.RECEPTION,
            "online",
            "kênh tiếp nhận: online hay in_person",
            "how the dossier was received",
        )
        self._mapped(
            1,
            "Result",
            "returning",
            vocabulary.RETURNING,
            "desk",
            "cách trả kết quả: desk, online, vnpost hay other_post",
            "how the result is returned",
        )
        self._payments()
        self._portal()
        page.add(1, "User:")
        self._mapped(
            2,
            "type",
            "user_type",
            vocabulary.USER_TYPE,
            "citizen",
            "loại người nộp: business, citizen hay officer",
            "who acted",
        )
        self._account()
        self._column(
            "location",
            "unit_code",
            "mã định danh đơn vị đang xử lý (như 000.00.02.H10)",
            "the identifier of the unit in charge",
            2,
        )
        return Draft(page.text, tuple(page.questions))

    def _tables(self) -> None:
        page, dossier = self.page, self.parts.dossier
        if len(dossier.key) != 1:
            told = ", ".join(dossier.key) or "không có"
            page.ask(
                1,
                f"khóa chính của {dossier.full_name} không phải một cột ({told}); `emc-cdc check` nêu cách sửa.",
                "the dossier table's primary key is not one column; `emc-cdc check` says what mends it.",
            )
        page.add(1, f"dossier: {{table: {scalar(dossier.full_name)}}}", f"{CONFIRM}: mỗi dòng là một hồ sơ?")
        payments = self.parts.payments
        if payments is not None:
            page.add(1, "children:")
            how = "khóa ngoại" if payments.declared else f"{CONFIRM}: theo tên cột"
            page.add(
                2,
                f"payments: {{table: {scalar(payments.table.full_name)}, belongs_to: {scalar(payments.link)}, "
                f"order_by: {scalar(payments.order_by)}}}",
                how,
            )
        if self.parts.references:
            page.add(1, "references:")
        for name, one in self.parts.references.items():
            how = "khóa ngoại" if one.declared else f"{CONFIRM}: theo tên cột"
            if more := self.parts.others.get(f"reference {name}"):
                page.ask(
                    2,
                    f"{name}: còn có thể là {'; '.join(more)}. Đúng là {one.source} chứ?",
                    f"{name} could also be one of these; is {one.source} the right one?",
                )
            page.add(
                2,
                f"{name}: {{table: {scalar(one.table.full_name)}, match: {{{key(one.key)}: {scalar(one.source)}}}}}",
                how,
            )

    # --- milestones ---

    def _milestones(self) -> None:
        page, places = self.page, self.parts.places
        anchor = self.parts.dossier.anchor
        assert anchor is not None
        never = f"{{{condition_key('', anchor)}: null}}"
        status, date, number = places.get("status"), places.get("received"), places.get("number")
        words = self._words(status) if status is not None else None
        sense = {word.text: vocabulary.meant(word.label or word.text, vocabulary.STATUS) for word in words or ()}
        by = {
            milestone: [word for word, meaning in sense.items() if meaning == milestone]
            for milestone in ("received", "processing", "result", "other")
        }
        left = [word for word in words or () if sense[word.text] not in by]
        filled = [
            f"{condition_key('', place.column.name)}: {{set: true}}" for place in (date, number) if place is not None
        ]
        if status is None:
            page.ask(1, "cột nào giữ trạng thái hồ sơ?", "which column holds the dossier's status?")
        elif not words:
            self._no_words(1, status)
        else:
            self._list(1, status, words, sense)
        if status is not None and words and (left or not (by["processing"] and by["result"])):
            told = ", ".join(word.text for word in left)
            page.ask(
                1,
                (f"các từ [{told}] thuộc mốc nào, hay không mốc nào (bản nháp, chờ bổ sung)? " if told else "")
                + "Mốc nào còn thiếu thì thêm.",
                (f"to which milestone do [{told}] belong, if any? " if told else "") + "Add what is missing.",
            )
        page.add(1, "milestones:")
        everything = [*by["received"], *by["processing"], *by["result"]]
        if date is not None:
            page.add(2, f"received: {{{', '.join(filled)}}}", f"{CONFIRM}: có ngày tiếp nhận và mã thì đã tiếp nhận")
        elif status is not None and by["received"]:
            test = self._test(status, everything)
            page.add(2, f"received: {{{', '.join([test, *filled])}}}", f"{CONFIRM}: không thấy cột ngày tiếp nhận")
        else:
            page.ask(2, "khi nào hồ sơ là đã tiếp nhận?", "when is a dossier received?")
            page.add(2, f"received: {never}", "không bao giờ, cho đến khi trả lời")
        for milestone in ("processing", "result", "other"):
            if status is not None and by[milestone]:
                since = filled[:1] if date is not None else []
                test = self._test(status, by[milestone])
                page.add(2, f"{milestone}: {{{', '.join([test, *since])}}}", CONFIRM)
            elif milestone != "other":
                page.add(2, f"{milestone}: {never}", "không bao giờ, cho đến khi trả lời câu hỏi trên")

    def _test(self, place: Place, words: Sequence[str]) -> str:
        return f"{condition_key(place.owner, place.column.name)}: [{', '.join(map(_literal, words))}]"

    def _list(self, depth: int, place: Place, words: Sequence[Word], sense: Mapping[str, str | None]) -> None:
        rows = self._rows(place)
        self.page.say(depth, f"Các từ của {place.column.name}{f' trong {rows} dòng mẫu' if rows else ''}:")
        for word in words:
            told = " ".join(
                part for part in (f"{_literal(word.text)}", _counted(word), f"→ {sense[word.text] or '?'}") if part
            )
            self.page.say(depth, f"  {told}")

    def _rows(self, place: Place) -> int:
        sampled = self.sampled.get((place.table.full_name, place.column.name), ())
        return sum(word.count or 0 for word in sampled)

    def _no_words(self, depth: int, place: Place) -> None:
        name = place.column.name
        self.page.ask(
            depth,
            f"{place.table.full_name}, cột {name}: không liệt kê được các từ (bảng trống, không có quyền, quá nhiều, "
            "hoặc giống dữ liệu cá nhân). Có những từ nào, nghĩa là gì?",
            f"the words of {name} could not be listed (no rows, no right, too many, or personal); what are they?",
        )

    def _words(self, place: Place) -> tuple[Word, ...] | None:
        if place not in self.parts.worded():
            return None
        return known_words(place.column, self.sampled.get((place.table.full_name, place.column.name), ()))

    # --- parameters ---

    def _number(self) -> None:
        place = self.parts.places.get("number")
        if place is None:
            self.page.ask(
                1, "cột nào chứa mã hồ sơ (như 000.00.11.H56-191203-1508)?", "which column has the dossier number?"
            )
            self.page.add(1, f"CodeProfile: {_unknown(self.parts.dossier, quoted('?'))}")
            return
        told = self.shapes.get(place.table.full_name)
        alike = told.numbers.get(place.column.name, 0) if told else 0
        filled = told.filled.get(place.column.name, 0) if told else 0
        why = f"{alike}/{filled} dòng mẫu có dạng mã hồ sơ" if filled else f"{CONFIRM}: theo tên cột"
        if filled and alike < 0.8 * filled:
            self.page.ask(
                1,
                f"{why}; EMC chờ dạng 000.00.11.H56-191203-1508. Đúng là cột {place.column.name} chứ?",
                f"{alike} of {filled} sampled values look like dossier numbers; is it this column?",
            )
        self.page.add(1, f"CodeProfile: {path(place.owner, place.column.name)}", why)

    def _column(self, parameter: str, part: str, vi: str, en: str, depth: int = 1) -> None:
        place = self.parts.places.get(part)
        if place is None:
            self.page.ask(depth, f"{parameter}: cột nào có {vi}?", f"{parameter}: which column has {en}?")
            self.page.add(depth, f"{parameter}: {_unknown(self.parts.dossier, quoted('?'))}")
            return
        why = f"{CONFIRM}: {vi}, theo tên cột"
        told = self.shapes.get(place.table.full_name)
        alike = {"service_code": told.procedures, "unit_code": told.units}.get(part, {}) if told else {}
        if alike.get(place.column.name):
            why = f"{alike[place.column.name]} dòng mẫu có dạng mã này"
        if part in self.parts.others:
            why += f"; còn có {', '.join(self.parts.others[part])}"
        self.page.add(depth, f"{parameter}: {path(place.owner, place.column.name)}", why)

    def _account(self) -> None:
        place = self.parts.places.get("account")
        others = self.parts.others.get("account", ())
        if place is None:
            self._column("account", "account", "mã tài khoản", "the account", 2)
            return
        self.page.ask(
            2,
            f"account thành ID_local (doanh nghiệp, cán bộ) hoặc ID_QG (công dân). {place.column.name} đúng cho "
            "cả ba loại chứ?" + (f" Còn có: {', '.join(others)}." if others else ""),
            f"account becomes ID_local or ID_QG by the type; is {place.column.name} right for all of them?",
        )
        self.page.add(2, f"account: {path(place.owner, place.column.name)}", CONFIRM)

    def _mapped(self, depth: int, parameter: str, part: str, among: Vocabulary, example: str, vi: str, en: str) -> None:
        place = self.parts.places.get(part)
        if place is None:
            self.page.ask(
                depth, f"{parameter}: không thấy cột nào cho {vi}.", f"{parameter}: no column seems to tell {en}."
            )
            self.page.add(depth, f"{parameter}: {_unknown(self.parts.dossier, example)}")
            return
        words = self._words(place)
        if not words:
            self._no_words(depth, place)
        self._lines(depth, parameter, path(place.owner, place.column.name), place, words or (), among, example)

    def _lines(
        self,
        depth: int,
        parameter: str,
        of: str,
        place: Place,
        words: Sequence[Word],
        among: Vocabulary,
        example: str,
    ) -> None:
        sense = {word.text: vocabulary.meant(word.label or word.text, among) for word in words}
        left = [word.text for word in words if sense[word.text] is None]
        if left:
            self.page.ask(
                depth,
                f"{parameter}: các từ [{', '.join(left)}] của {place.column.name} nghĩa là gì?",
                f"{parameter}: what do these words of {place.column.name} mean?",
            )
        self.page.add(depth, f"{parameter}:")
        self.page.add(depth + 1, f"of: {of}")
        self.page.add(depth + 1, "is:")
        if len(left) == len(words):
            self.page.add(depth + 2, f"{quoted(NOT_KNOWN)}: {example}", "giữ chỗ; xóa khi đã điền")
        for word in words:
            if (meaning := sense[word.text]) is not None:
                why = " ".join(part for part in (f"{CONFIRM};" if word.text != meaning else "", _counted(word)) if part)
                self.page.add(depth + 2, f"{_literal_key(word.text)}: {meaning}", why.strip(";"))
            else:
                self.page.say(depth + 2, f"{_literal_key(word.text)}: ?  {_counted(word)}")

    def _payments(self) -> None:
        page, places = self.page, self.parts.places
        payments, status, method = self.parts.payments, places.get("paid"), places.get("paid_by")
        paid = [
            word.text
            for word in (self._words(status) if status is not None else None) or ()
            if vocabulary.meant(word.label or word.text, vocabulary.PAID) == "paid"
        ]
        if payments is None or method is None or status is None or not paid:
            where = f" Bảng {payments.table.full_name}" if payments is not None else ""
            lacks = (
                "không thấy bảng thanh toán"
                if payments is None
                else f"{where}: không rõ trạng thái nào là đã nộp, hoặc cột hình thức"
            )
            if status is not None:
                found = ", ".join(
                    f"{_literal(word.text)} {_counted(word)}".strip() for word in self._words(status) or ()
                )
                lacks += f" ({status.column.name}: {found})" if found else ""
            page.ask(
                1,
                f"FormsPayments: {lacks.strip()}. Hồ sơ đã nộp phí ở đâu, bằng hình thức nào?",
                "how is it told that a fee was paid, and how?",
            )
            page.add(1, f"FormsPayments: {_unknown(self.parts.dossier, 'none')}")
            return
        page.say(1, f"Lần nộp cuối cùng đã thành công; {CONFIRM} các từ là đã nộp: {', '.join(paid)}.")
        where = self._test(replace(status, owner=""), paid)
        of = f"{{last: payments, where: {{{where}}}, column: {scalar(method.column.name)}}}"
        words = self._words(method)
        if not words:
            self._no_words(1, method)
        self._lines(1, "FormsPayments", of, method, words or (), vocabulary.PAID_BY, "online")

    def _portal(self) -> None:
        place = self.parts.places.get("portal")
        if place is not None and place.column.category in TRUTHS:
            self.page.add(1, f"IsFromDVCQG: {path(place.owner, place.column.name)}", f"{CONFIRM}: nhận từ Cổng DVCQG")
            return
        told = f" (có cột {place.column.name})" if place is not None else ""
        self.page.ask(
            1,
            f"IsFromDVCQG: hồ sơ từ Cổng DVCQG được đánh dấu thế nào{told}?",
            "how is it told that a dossier came from the national portal?",
        )
        self.page.add(1, f"IsFromDVCQG: {_unknown(self.parts.dossier, 'true')}")


def _counted(word: Word) -> str:
    label = f"«{shown(word.label)}»" if word.label else ""
    count = f"({word.count})" if word.count is not None else ""
    return " ".join(part for part in (label, count) if part)

"""What a transaction changes in the keyed index is found again, in memory or on disk, and saved in its order."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attached_source import BIG, DOSSIER, Attached
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change.record import Op
from connector.source import index as index_module
from connector.source.index import IndexChanges, KeyedIndex, Texts
from connector.source.overflow import Overflow

_KEYS = st.integers(0, 5).map(lambda number: b'["t","%d"]' % number)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("child"), _KEYS, st.binary(max_size=3), st.booleans()),
        st.tuples(st.just("texts"), _KEYS, st.text(max_size=3), st.booleans()),
        st.tuples(st.just("no child"), _KEYS),
        st.tuples(st.just("no texts"), _KEYS),
        st.tuples(st.just("commit")),
        st.tuples(st.just("take")),
        st.tuples(st.just("save")),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps=_STEPS, bound=st.sampled_from([0, 1000, 1 << 30]))
def test_the_index_is_a_dict(steps: list[tuple[object, ...]], bound: int) -> None:
    """Whatever is put, forgotten, committed, taken and saved: the last word on a key is found, then and afterwards."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "OPEN_BYTES", bound)
        patch.setattr(index_module, "_REMEMBERED", 3)
        index = KeyedIndex(Path(name) / "index.sqlite")
        children: dict[bytes, bytes] = {}
        texts: dict[bytes, Texts] = {}
        taken: deque[IndexChanges] = deque()
        seen: set[bytes] = set()
        for step in [*steps, ("commit",), ("take",), *([("save",)] * len(steps)), ("save",)]:
            match step:
                case "child", bytes(key), bytes(dossier), bool(fresh):
                    index.put_child(key, dossier, fresh and key not in seen)
                    children[key] = dossier
                    seen.add(key)
                case "texts", bytes(key), str(text), bool(fresh):
                    index.put_texts(key, {"a": text.encode()}, fresh and key not in seen)
                    texts[key] = {"a": text.encode()}
                    seen.add(key)
                case "no child", bytes(key):
                    index.forget_child(key)
                    children.pop(key, None)
                    seen.add(key)
                case "no texts", bytes(key):
                    index.forget_texts(key)
                    texts.pop(key, None)
                    seen.add(key)
                case ("commit",):
                    index.committed()
                case ("take",):
                    taken.append(index.take())
                case ("save",) if taken:
                    index.save([taken.popleft()], {})
                    index.saved(1)
            for key in seen:
                assert index.dossier_of(key) == children.get(key)
                assert index.texts_of(key) == texts.get(key, {})
        index.close()
        again = KeyedIndex(Path(name) / "index.sqlite")
        for key in seen:
            assert again.dossier_of(key) == children.get(key)
            assert again.texts_of(key) == texts.get(key, {})
        again.close()


def test_an_open_transaction_takes_a_bounded_part_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the index's own count: however much a transaction changes, no more than OPEN_BYTES and one row stay."""
    monkeypatch.setattr(index_module, "OPEN_BYTES", 100_000)
    index = KeyedIndex(tmp_path / "index.sqlite")
    held = 0
    for number in range(3000):
        index.put_texts(b"%d" % number, {"a": b"x" * 1000}, inserted=False)
        index.forget_child(b"%d" % number)
        held = max(held, index.open_footprint)
    assert 90_000 < held < 102_000
    index.committed()
    changes = index.take()
    assert changes.footprint < 2_000
    calls: list[int] = []
    index.save([changes], {}, lambda: calls.append(1))
    assert len(calls) > 3000
    index.saved(1)
    assert index.texts_of(b"2999") == {"a": b"x" * 1000}
    index.close()


def test_pieces_hold_the_last_word() -> None:
    """Of a key the last change is told, once; deletions are told as None."""
    overflow = Overflow()
    overflow.add({b"a": b"1", b"b": b"1"}, {b"a": b"x"})
    overflow.add({b"a": None, b"c": b"2"}, {})
    told = list(overflow.pieces())
    assert [row for children, _ in told for row in children] == [(b"a", None), (b"b", b"1"), (b"c", b"2")]
    assert [row for _, texts in told for row in texts] == [(b"a", b"x")]
    overflow.close()


def test_a_large_transaction_is_told_exactly(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that move and go, large values that stay and change, in one transaction that is on disk at its end."""
    monkeypatch.setattr(index_module, "OPEN_BYTES", 20_000)
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = %s WHERE id <= 5""", (BIG[:9000],))
        with attached.owner.transaction():
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET noi_dung = id || %s WHERE id <= 4""", (BIG[:9000],))
            attached.owner.execute("""UPDATE "mot cua".thanh_toan SET ho_so_id = 31 - ho_so_id""")
            attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'x'""")
            attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id > 20""")
            attached.owner.execute("""INSERT INTO "mot cua".thanh_toan VALUES (21, 3, 1, '')""")
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'y'""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id IN (2, 21)""")
    with attached.capturing():
        attached.owner.execute("""UPDATE "mot cua"."Hồ sơ" SET trang_thai = 'z'""")
        attached.owner.execute("""DELETE FROM "mot cua".thanh_toan WHERE id IN (3, 4)""")
    attached.assert_exact()
    told = {c.key: c.after for c in attached.streamed(DOSSIER) if c.op is Op.UPDATE and c.after is not None}
    assert [told[(str(number),)]["noi_dung"] for number in (1, 5)] == ["1" + BIG[:9000], BIG[:9000]]
    # A child's delete tells no dossier: only the index knows its partition.
    gone = [[c.key for c in p if c.op is Op.DELETE and c.key in (("2",), ("3",), ("4",))] for p in attached.records()]
    where = {c.key: number for number, p in enumerate(attached.records()) for c in p if c.table == DOSSIER}
    for number, keys in enumerate(gone):
        # Each moved once in its own transaction's middle, from its old dossier, and went from its new one at the end.
        assert sorted(keys) == sorted(
            (str(child),) for child in (2, 3, 4) for dossier in (child, 31 - child) if where[(str(dossier),)] == number
        )

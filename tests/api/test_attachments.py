"""Files that belong to messages: written, found again, shared, erased, saved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.api import attachments
from mlog.api.attachments import Attached, safe_name, state_of
from mlog.api.home import Home
from mlog.api.import_target import ChatReport, Target
from mlog.api.matching import Run
from mlog.api.windows import prune, set_window
from mlog.errors import LimitExceeded, StoreError, UserError
from mlog.formats import Chat, File, Provenance, Record, Skipped
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId
from mlog.log.store import BodyState

from .conftest import Clock

_LARGE = bytes(range(256)) * 2000
"""512,000 bytes: three chunks."""

_PHOTO = random.Random(21).randbytes(600_000)
"""Three chunks that are unlike each other."""


@pytest.fixture
def log(opened: Home) -> int:
    return opened.new("trip").n


def _file(folder: Path, content: bytes, name: str = "map.pdf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _count(home: Home, kind: Kind, state: BodyState = BodyState.OPENED) -> int:
    sql = "SELECT count(*) FROM entries WHERE kind = ? AND state = ?"
    return home.store._one(sql, (int(kind), int(state)))


def test_a_file_that_was_sent_is_saved_with_the_same_bytes(opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "the map", attach=[_file(tmp_path, _LARGE)])
    [message] = opened.messages(log)
    [attached] = message.attachments
    assert (message.text, attached.name, attached.type) == ("the map", "map.pdf", "application/pdf")
    assert (attached.size, len(attached.chunks)) == (len(_LARGE), 3)
    assert opened.save(attached, tmp_path / "out").read_bytes() == _LARGE
    assert list(opened.attachments()) == [attached]
    assert state_of(opened, attached) == "here"
    assert opened.verify() == []


@pytest.mark.parametrize("content", [b"", b"x", bytes(limits.CHUNK_SIZE_MAX_BYTES)])
def test_files_of_any_size_are_kept(content: bytes, opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "", attach=[_file(tmp_path, content)])
    [attached] = opened.attachments(log)
    assert opened.save(attached, tmp_path / "out").read_bytes() == content


def test_chunks_are_no_messages_and_are_not_found(opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "look", attach=[_file(tmp_path, b"needle in the file")])
    assert [message.text for message in opened.messages(log)] == ["look"]
    assert opened.search("needle") == []
    chunk = next(entry for entry in opened.entries(log) if entry.kind == Kind.CHUNK)
    assert chunk.body is not None
    assert chunk.body["size"] == 18


def test_the_same_file_twice_is_stored_once_in_a_conversation(opened: Home, log: int, tmp_path: Path) -> None:
    path = _file(tmp_path, _LARGE)
    opened.send(log, "one", attach=[path])
    opened.send(log, "two", attach=[path])
    one, two = opened.attachments(log)
    assert one.chunks == two.chunks
    assert _count(opened, Kind.CHUNK) == 3
    opened.send(opened.new("other").n, "three", attach=[path])
    assert _count(opened, Kind.CHUNK) == 6


def _in_two_logs(home: Home, log: int, folder: Path) -> tuple[Attached, Attached]:
    """The same picture, sent into two conversations."""
    path = _file(folder, _PHOTO, "photo.jpg")
    other = home.new("other").n
    for n in (log, other):
        home.send(n, "look", attach=[path])
    [one], [two] = home.attachments(log), home.attachments(other)
    return one, two


def _size_of_pieces(home: Home) -> int:
    return home.store._one("SELECT coalesce(sum(length(data)), 0) FROM pieces")


def _assert_saved(home: Home, attached: Attached, target: Path) -> None:
    assert home.save(attached, target, force=True).read_bytes() == _PHOTO


def test_the_same_file_in_two_conversations_takes_its_space_once(
    opened: Home, log: int, tmp_path: Path
) -> None:
    one, two = _in_two_logs(opened, log, tmp_path)
    assert (_count(opened, Kind.CHUNK), _size_of_pieces(opened)) == (6, len(_PHOTO))
    pages = opened.store._one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    assert pages < 1.5 * len(_PHOTO)
    # Nobody outside sees that they are equal.
    assert not set(one.chunks) & set(two.chunks)
    for attached in (one, two):
        _assert_saved(opened, attached, tmp_path / "out")
    assert opened.verify(signatures=True) == []


def test_a_file_that_was_erased_in_one_conversation_stays_in_the_other(
    opened: Home, log: int, tmp_path: Path
) -> None:
    one, two = _in_two_logs(opened, log, tmp_path)
    opened.erase(next(opened.messages(log)))
    _assert_saved(opened, two, tmp_path / "out")
    with pytest.raises(UserError, match="erased"):
        opened.save(one, tmp_path / "gone")
    assert _size_of_pieces(opened) == len(_PHOTO)
    opened.erase(next(opened.messages(two.log)))
    assert _size_of_pieces(opened) == 0
    assert _PHOTO[:512] not in opened.database.read_bytes()
    assert opened.verify(signatures=True) == []


def test_a_file_that_was_pruned_in_one_conversation_stays_in_the_other(
    opened: Home, log: int, tmp_path: Path, clock: Clock
) -> None:
    _, two = _in_two_logs(opened, log, tmp_path)
    clock.ms += 60 * 86_400_000
    set_window(opened, log, 1)
    prune(opened, log, force=True)
    assert _count(opened, Kind.CHUNK) == 3
    _assert_saved(opened, two, tmp_path / "out")
    set_window(opened, two.log, 1)
    prune(opened, two.log, force=True)
    assert _size_of_pieces(opened) == 0
    assert _PHOTO[:512] not in opened.database.read_bytes()


@pytest.mark.parametrize("damage", ["UPDATE pieces SET data = zeroblob(length(data))", "DELETE FROM pieces"])
def test_damage_to_a_shared_piece_is_found_at_each_chunk_and_healed(
    damage: str, opened: Home, log: int, tmp_path: Path
) -> None:
    one, two = _in_two_logs(opened, log, tmp_path)
    store, chunks = opened.store, {log: one.chunks, two.log: two.chunks}
    whole = {
        n: opened.replica.sealed_of(n, list(store.find(n, ids).values()), bodies=True)
        for n, ids in chunks.items()
    }
    with store.transaction():
        store._run(f"{damage} WHERE n = 2")
    found = opened.verify()
    assert [(finding.log, finding.id, finding.part) for finding in found] == [
        (log, one.chunks[1], "body"),
        (two.log, two.chunks[1], "body"),
    ]
    for n in chunks:
        opened.replica.receive(n, whole[n], opened.now_ms())
        if "UPDATE" in damage:
            # What was fetched for one heals the other.
            assert opened.verify() == []
    assert opened.verify(signatures=True) == []
    assert _size_of_pieces(opened) == len(_PHOTO)
    for attached in (one, two):
        _assert_saved(opened, attached, tmp_path / "out")


def test_erasing_a_message_forgets_its_file(opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "oops", attach=[_file(tmp_path, _LARGE)])
    [message] = opened.messages(log)
    [attached] = message.attachments
    opened.erase(message)
    assert _count(opened, Kind.CHUNK) == 0
    assert _count(opened, Kind.CHUNK, BodyState.ERASED) == 3
    assert list(opened.attachments(log)) == []
    assert opened.verify() == []
    with pytest.raises(UserError, match="erased"):
        opened.save(attached, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert _LARGE[:512] not in opened.database.read_bytes()


def test_a_file_that_another_message_has_stays_with_it(opened: Home, log: int, tmp_path: Path) -> None:
    path = _file(tmp_path, _LARGE)
    opened.send(log, "one", attach=[path])
    opened.send(log, "two", attach=[path])
    first, second = opened.messages(log)
    opened.erase(first)
    [left] = opened.attachments(log)
    assert left.mid == second.mid
    assert opened.save(left, tmp_path / "out").read_bytes() == _LARGE
    opened.erase(second)
    assert _count(opened, Kind.CHUNK) == 0
    assert opened.verify() == []


def test_a_file_may_be_sent_again_after_it_was_erased(opened: Home, log: int, tmp_path: Path) -> None:
    path = _file(tmp_path, _LARGE)
    opened.send(log, "one", attach=[path])
    opened.erase(next(opened.messages(log)))
    opened.send(log, "again", attach=[path])
    [attached] = opened.attachments(log)
    assert opened.save(attached, tmp_path / "out").read_bytes() == _LARGE


def test_a_damaged_part_is_found_and_nothing_is_written(opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "", attach=[_file(tmp_path, _LARGE)])
    [attached] = opened.attachments(log)
    row = opened.store.find(log, [attached.chunks[1]])[attached.chunks[1]]
    assert row.body is not None
    with opened.store.transaction():
        opened.store._run("UPDATE bodies SET body = ? WHERE n = ?", (row.body[:-1] + b"?", row.n))
    with pytest.raises(StoreError, match="damaged"):
        opened.save(attached, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "map.pdf"]
    assert [finding.part for finding in opened.verify()] == ["body"]


def test_what_exists_is_replaced_only_by_force(opened: Home, log: int, tmp_path: Path) -> None:
    opened.send(log, "", attach=[_file(tmp_path, b"new")])
    [attached] = opened.attachments(log)
    target = _file(tmp_path, b"old", "out")
    with pytest.raises(UserError, match="--force"):
        opened.save(attached, target)
    assert target.read_bytes() == b"old"
    assert opened.save(attached, target, force=True).read_bytes() == b"new"


def test_a_name_chooses_no_path(
    opened: Home, log: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _import(opened, [_record(1, File(name="../../.bashrc", data=b"x"))])
    [attached] = opened.attachments()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert opened.save(attached) == Path("bashrc")
    assert (here / "bashrc").read_bytes() == b"x"


def test_a_missing_file_and_one_too_large_are_refused(
    opened: Home, log: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no such file"):
        opened.send(log, "x", attach=[tmp_path / "none"])
    monkeypatch.setattr(limits, "ATTACHMENT_SIZE_MAX_BYTES", 10)
    with pytest.raises(LimitExceeded, match="larger than"):
        opened.send(log, "x", attach=[_file(tmp_path, b"12345678901")])
    assert list(opened.messages(log)) == []


def test_a_message_names_its_only_attachment(opened: Home, log: int, tmp_path: Path) -> None:
    id_ = opened.send(log, "", attach=[_file(tmp_path, b"1"), _file(tmp_path, b"2", "other")])
    with pytest.raises(UserError, match="2 attachments"):
        attachments.attachment(opened, id_.hex())
    id_ = opened.send(log, "x")
    with pytest.raises(UserError, match="no attachment"):
        attachments.attachment(opened, id_.hex())
    id_ = opened.send(log, "", attach=[_file(tmp_path, b"3")])
    assert attachments.attachment(opened, id_.hex()).size == 1


# -- imported --------------------------------------------------------------------------------


def _record(number: int, *files: File, text: str = "see") -> Record:
    return Record(
        kind=Kind.MESSAGE,
        mid=MessageId(number.to_bytes(16, "big")),
        author="ann",
        text=f"{text} {number}",
        time_ms=1_600_000_000_000 + number,
        position=number,
        files=files,
    )


def _import(
    home: Home, records: list[Record], *, stop: int | None = None
) -> tuple[ChatReport, list[Skipped]]:
    counts, skipped = ChatReport(title="chat"), list[Skipped]()
    target = Target(
        home.replica,
        Chat(key="test:chat", title="chat"),
        Provenance(format="test"),
        None,
        counts,
        home.now_ms,
        lambda _: None,
        (None, "", set()),
        skipped.append,
        Run(home.replica),
        dry_run=False,
    )
    for record in records:
        target.add(record)
    target.finish()
    return counts, skipped


def test_an_import_keeps_files_and_the_same_again_adds_nothing(opened: Home, tmp_path: Path) -> None:
    records = [_record(1, File(name="a.jpg", data=b"a" * 300_000), File(name="b", data=b"b")), _record(2)]
    first, _ = _import(opened, records)
    assert (first.new, first.attachments, first.messages) == (2, 2, 2)
    entries = opened.store.next_n()
    again, _ = _import(opened, records)
    assert (again.new, again.known, again.attachments) == (0, 2, 2)
    assert opened.store.next_n() == entries
    one, two = opened.messages(first.n)
    assert [attached.name for attached in one.attachments] == ["a.jpg", "b"]
    assert two.attachments == ()
    assert opened.save(one.attachments[0], tmp_path / "out").read_bytes() == b"a" * 300_000
    assert opened.verify() == []


def test_the_order_of_an_import_stays_with_files_between(opened: Home) -> None:
    records = [_record(n, File(name=f"{n}", data=bytes([n]) * 1000)) for n in (5, 4, 3, 2, 1)]
    counts, _ = _import(opened, records)
    assert [message.text for message in opened.messages(counts.n)] == [record.text for record in records]


def test_an_interrupted_import_goes_on_with_the_chunks_that_it_wrote(
    opened: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(251)) * 40_000  # 10 MB: several batches
    record = _record(1, File(name="film", data=content))

    class Power(Exception):
        pass

    written = 0
    write_run = opened.replica.write_run

    def failing(*args: Any, **options: Any) -> object:
        nonlocal written
        written += 1
        if written == 3:
            raise Power
        return write_run(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(opened.replica, "write_run", failing)
        with pytest.raises(Power):
            _import(opened, [record])
    before = _count(opened, Kind.CHUNK)
    assert before > 0
    counts, _ = _import(opened, [record])
    assert _count(opened, Kind.CHUNK) == -(-len(content) // limits.CHUNK_SIZE_MAX_BYTES)
    [message] = opened.messages(counts.n)
    assert opened.save(message.attachments[0], tmp_path / "out").read_bytes() == content


def test_a_file_of_which_only_the_name_is_known_may_come_later(opened: Home, tmp_path: Path) -> None:
    counts, _ = _import(opened, [_record(1, File(name="a.jpg", size=3))])
    assert (counts.attachments, counts.attachments_absent) == (0, 1)
    [attached] = opened.attachments(counts.n)
    assert state_of(opened, attached) == "name only"
    with pytest.raises(UserError, match="only its name"):
        opened.save(attached, tmp_path / "out")
    _import(opened, [_record(1, File(name="a.jpg", data=b"abc"))])
    [message] = opened.messages(counts.n)
    [whole] = message.attachments
    assert opened.save(whole, tmp_path / "out").read_bytes() == b"abc"


def test_an_erased_message_gets_no_files_by_another_import(opened: Home) -> None:
    records = [_record(1, File(name="a", data=b"secret content"))]
    counts, _ = _import(opened, records)
    opened.erase(next(opened.messages(counts.n)))
    _import(opened, records)
    assert _count(opened, Kind.CHUNK) == 0
    assert list(opened.attachments(counts.n)) == []


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\evil.exe", "evil.exe"),
        (".bashrc", "bashrc"),
        ("...", "attachment"),
        ("", "attachment"),
        ("CON.txt", "_CON.txt"),
        ("lpt1", "_lpt1"),
        ("a\0b\nc", "a_b_c"),
        ("gpj.\u202eexe", "gpj._exe"),
        ("-rf", "rf"),
        ("a:b", "a_b"),
        ("trailing. ", "trailing"),
    ],
)
def test_a_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text())
def test_a_safe_name_is_safe_on_every_system(name: str) -> None:
    safe = safe_name(name)
    assert safe == safe_name(safe)
    assert 0 < len(safe.encode()) <= 200
    assert safe[0] not in ".- "
    assert safe[-1] not in ". "
    assert not set(safe) & set('<>:"/\\|?*\0\n\r\t')

"""Files that belong to messages: written, found again, shared, erased, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.api import attachments
from mlog.api.attachments import safe_name, state_of
from mlog.api.home import Home
from mlog.api.import_target import ChatReport, Target
from mlog.api.matching import Run
from mlog.errors import LimitExceeded, StoreError, UserError
from mlog.formats import Chat, File, Provenance, Record, Skipped
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId
from mlog.log.store import BodyState

_LARGE = bytes(range(256)) * 2000
"""512,000 bytes: three chunks."""


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

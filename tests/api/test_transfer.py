"""Chats in and out again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest

from mlog.adapters.keystore import SystemEntropy, make_keys
from mlog.api.home import Home
from mlog.api.importing import import_chat
from mlog.errors import InvalidInput, UserError
from mlog.formats import Chat, File, Hints, Item, Provenance, Record, Source, Tree, detection
from mlog.formats.tree import Folder
from mlog.limits import LINE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed, seal_body
from mlog.log.ids import Incarnation, MessageId
from mlog.log.memory import MemoryStore
from mlog.log.people import People
from mlog.log.replica import Replica
from mlog.log.store import EpochRow, LogRow
from mlog.log.view import Attached
from tests.api.conftest import Clock, read

GARDEN = """\
--- Log opened Mon May 04 09:00:00 2020
09:00 -!- ann [ann@example.org] has joined #garden
09:01 < ann> beans?
09:01 < bob> peas
09:01 < bob> peas
09:02  * ann waves
"""


def texts(home: Home, log: int) -> list[str]:
    return [message.text for message in home.messages(log)]


def exported(home: Home, log: int) -> bytes:
    return b"".join(home.export_chat(log))


def test_equal_lines_in_one_minute_are_several_messages(opened: Home) -> None:
    report = read(opened, GARDEN)
    n = report.chats[0].n
    assert texts(opened, n).count("peas") == 2
    assert [m.kind for m in opened.messages(n)][-1] == Kind.ACTION


def test_the_same_file_again_adds_nothing(opened: Home) -> None:
    first = read(opened, GARDEN).chats[0]
    again = read(opened, GARDEN).chats[0]
    assert (again.n, again.new, again.known) == (first.n, 0, first.new)
    assert opened.status(first.n)[0].entries == first.new + 3


def test_a_longer_export_adds_only_what_is_new_in_its_place(opened: Home) -> None:
    n = read(opened, GARDEN).chats[0].n
    longer = GARDEN + "09:02 < bob> bye\n09:00 < ann> a clock that stepped back\n"
    again = read(opened, longer).chats[0]
    assert (again.n, again.new) == (n, 2)
    assert texts(opened, n)[-2:] == ["bye", "a clock that stepped back"]
    assert opened.verify(signatures=True) == []


def test_an_erased_message_is_not_brought_back(opened: Home) -> None:
    n = read(opened, GARDEN).chats[0].n
    beans = next(m for m in opened.messages(n) if m.text == "beans?")
    opened.erase(beans)
    again = read(opened, GARDEN).chats[0]
    assert (again.new, again.erased) == (0, 1)
    assert "beans?" not in texts(opened, n)


def test_into_chooses_the_conversation(opened: Home) -> None:
    n = opened.new("Everything").n
    assert read(opened, GARDEN, into=n).chats[0].n == n
    assert "peas" in texts(opened, n)


def test_a_dry_run_counts_and_writes_nothing(opened: Home) -> None:
    before = opened.store.next_n()
    would_be_new = read(opened, GARDEN, dry_run=True).chats[0].new
    assert opened.store.next_n() == before
    assert read(opened, GARDEN).chats[0].new == would_be_new
    assert read(opened, GARDEN, dry_run=True).chats[0].new == 0


def test_provenance_stays_with_each_message(opened: Home) -> None:
    n = read(opened, GARDEN).chats[0].n
    message = next(m for m in opened.messages(n) if m.text == "beans?")
    source = opened.provenance(message)
    assert source is not None
    assert (source.format, source.name, source.position) == ("irc", "#garden.log", 3)
    assert message.author.claimed
    assert message.author.name == "ann"


class Pipe(BytesIO):
    """A stream that cannot be read twice."""

    def seekable(self) -> bool:
        return False


def test_a_pipe_leaves_the_same_provenance_as_a_file(opened: Home, tmp_path: Path) -> None:
    read(opened, GARDEN)
    with Home(tmp_path / "other") as other:
        other.import_chat(Source(Pipe(GARDEN.encode()), "#garden.log"))
        n = other.conversations()[0].n
        piped = [line for line in exported(other, n).splitlines() if b'"source"' in line]
    read_twice = exported(opened, opened.conversations()[0].n).splitlines()
    assert piped == [line for line in read_twice if b'"source"' in line] != []


def test_a_broken_file_keeps_what_came_before(opened: Home) -> None:
    lines = '{"kind":"conversation","format":"mlog","format_version":1,"key":"k","title":"T"}\n'
    lines += '{"kind":"message","id":"00000000000000000000000000000007","text":"one"}\n'
    with pytest.raises(InvalidInput, match=r"chat.jsonl:3"):
        read(opened, lines + "{broken\n", "chat.jsonl")
    assert texts(opened, opened.conversation("T").n) == ["one"]


def test_an_interrupted_import_goes_on_without_loss_or_doubles(opened: Home, tmp_path: Path) -> None:
    log = "".join(f"[10:{i // 60:02}] <ann> line {i % 700}\n" for i in range(3500))

    class Cut(Source):
        def lines(self, size_max_bytes: int = LINE_SIZE_MAX_BYTES) -> Iterator[tuple[int, bytes]]:
            for number, line in super().lines(size_max_bytes):
                if number == 2345:
                    raise KeyboardInterrupt
                yield number, line

    with pytest.raises(KeyboardInterrupt):
        opened.import_chat(Cut(BytesIO(log.encode()), "#garden.log"))
    partly = opened.store.count(3, frozenset({Kind.MESSAGE}))
    assert 0 < partly < 2345
    report = read(opened, log)
    assert (report.chats[0].new, report.chats[0].known) == (3500 - partly, partly)
    with Home(tmp_path / "other") as other:
        read(other, log)
        assert texts(other, 3) == texts(opened, 3)
    assert opened.verify(signatures=True) == []


def test_two_importers_of_one_chat_fold_into_one(opened: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other replica has nothing but the secrets.
    monkeypatch.setattr(People, "has_begun", lambda *_: True)
    n = read(opened, GARDEN).chats[0].n
    shown = texts(opened, n)
    # A second device's claims of the same messages arrive: written by a replica with its own keys.
    keys = make_keys(SystemEntropy())
    store = MemoryStore()
    mine = opened.replica.log(n)
    store.add_log(LogRow(1, mine.keys.topic, mine.kind, keys.vault.seal("log", mine.keys.secret)))
    store.add_epoch(EpochRow(1, 1, keys.vault.seal("epoch", mine.keys.current.secret)))
    other = Replica(store, keys.device, keys.vault, SystemEntropy(), Incarnation(b"o" * 8))
    import_chat(
        other,
        Source(BytesIO(GARDEN.encode()), "mine.txt"),
        format_name=None,
        into=1,
        dry_run=False,
        now_ms=lambda: 1_800_000_000_000,
        progress=lambda _: None,
    )
    for chain in store.chains(1):
        for row in store.scan(chain.n, -1, 1000):
            assert row.body is not None
            sealed = seal_body(mine.keys.current, row.outer, row.body, row.kind)
            opened.replica.receive(n, [Sealed(row.id, row.outer, sealed, row.signature)], 0)
    assert texts(opened, n) == shown
    assert opened.status(n)[0].entries > 2 * len(shown)
    assert opened.verify(signatures=True) == []


def test_json_lines_survive_export_import_and_export(opened: Home, tmp_path: Path) -> None:
    n = read(opened, GARDEN).chats[0].n
    opened.set_title(n, "Orchard")
    first = opened.send(n, "native\nwith two lines")
    opened.edit(opened.message(first.hex()), "edited")
    opened.react(opened.message(first.hex()), "🌱")
    opened.react(opened.message(first.hex()), "🌱", remove=True)
    opened.send(n, "answer", reply_to=opened.message(first.hex()).mid)
    opened.erase(opened.message(opened.send(n, "to be erased").hex()))
    opened.erase(next(m for m in opened.messages(n) if m.text == "beans?"))
    once = exported(opened, n)
    with Home(tmp_path / "other", person="bob") as other:
        m = read(other, once.decode(), "orchard.jsonl").chats[0].n
        assert exported(other, m) == once
        assert [x.text for x in other.messages(m)] == texts(opened, n)
        assert other.conversation("Orchard").n == m
        assert read(other, once.decode(), "orchard.jsonl").chats[0].new == 0
        assert other.verify(signatures=True) == []
    # Back in the home where it was written, all of it is known.
    assert read(opened, once.decode(), "orchard.jsonl").chats[0].new == 0


def test_every_exported_line_carries_the_identity(opened: Home) -> None:
    n = read(opened, GARDEN).chats[0].n
    mids = {message.mid.hex() for message in opened.messages(n)}
    lines = [json.loads(line) for line in exported(opened, n).splitlines()]
    assert mids <= {line.get("id") for line in lines}


def test_damage_is_left_out_of_an_export_and_named(opened: Home) -> None:
    n = opened.new("Garden").n
    row = opened.find_entry(opened.send(n, "beans").hex())
    opened.send(n, "peas")
    with opened.store.transaction():
        opened.store._run("UPDATE bodies SET body = '{}' WHERE n = ?", (row.n,))
    damaged: list[bytes] = []
    export = b"".join(opened.export_chat(n, damaged=lambda r: damaged.append(r.id)))
    assert damaged == [row.id]
    assert b"peas" in export
    assert b"beans" not in export


# -- folders and archives --------------------------------------------------------------------

_IRC = "[10:00] <ada> hello\n[10:01] <bo> hi\n"


def _tree(folder: Path, files: dict[str, bytes | str]) -> Folder:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Folder(folder)


def test_files_of_a_folder_are_read_one_by_one_and_unknown_ones_named(opened: Home, tmp_path: Path) -> None:
    tree = _tree(tmp_path / "logs", {"2020-01-01.txt": _IRC, "sub/#b.log": _IRC, "noise.bin": b"\0\1\2" * 9})
    report = opened.import_tree(tree, Hints())
    assert report.format == "irc"
    assert sum(chat.new for chat in report.chats) == 4
    assert [(skipped.file, skipped.position) for skipped in report.skipped] == [("noise.bin", 0)]
    again = opened.import_tree(_tree(tmp_path / "logs", {}), Hints())
    assert sum(chat.new for chat in again.chats) == 0


def test_a_folder_of_nothing_known_is_refused(opened: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing in a format"):
        opened.import_tree(_tree(tmp_path / "logs", {"noise": b"\0\1\2"}), Hints())
    assert opened.conversations() == []


def test_a_bad_file_in_a_folder_keeps_the_others_in(opened: Home, tmp_path: Path) -> None:
    head = '{"kind":"conversation","format":"mlog","format_version":1,"key":"x:1","title":"one"}\n'
    tree = _tree(tmp_path / "logs", {"a.jsonl": head + "{broken", "b.log": _IRC})
    report = opened.import_tree(tree, Hints())
    assert [skipped.file for skipped in report.skipped] == ["a.jsonl"]
    assert sum(chat.new for chat in report.chats) == 2


def test_a_dry_run_of_a_folder_writes_nothing(opened: Home, tmp_path: Path) -> None:
    report = opened.import_tree(_tree(tmp_path / "logs", {"b.log": _IRC}), Hints(), dry_run=True)
    assert [(chat.new, chat.messages, chat.people) for chat in report.chats] == [(2, 2, 2)]
    assert opened.conversations() == []


def _of_one_chat(number: int) -> str:
    head = {"kind": "conversation", "format": "mlog", "format_version": 1, "key": "x:1", "title": "tea"}
    said = {
        "kind": "message",
        "id": f"{number:032x}",
        "author": "ann",
        "time_ms": 1,
        "text": f"said {number}",
    }
    return f"{json.dumps(head)}\n{json.dumps(said)}\n"


def test_a_folder_of_many_files_of_one_chat_takes_few_chains(opened: Home, tmp_path: Path) -> None:
    # Each write reads all chains of its log, and a peer with more than 512 is compared in another way.
    tree = _tree(tmp_path / "mail", {f"{number:03}.jsonl": _of_one_chat(number) for number in range(260)})
    report = opened.import_tree(tree, Hints())
    [chat] = report.chats
    assert (chat.new, chat.known) == (260, 0)
    assert [m.text.split()[-1] for m in opened.messages(chat.n)] == [str(number) for number in range(260)]
    assert len(opened.store.chains(chat.n)) == 3
    [again] = opened.import_tree(tree, Hints()).chats
    assert (again.new, again.known) == (0, 260)
    assert opened.verify() == []


def test_files_are_found_beside_the_file_of_the_folder_that_names_them(opened: Home, tmp_path: Path) -> None:
    head = {"kind": "conversation", "format": "mlog", "format_version": 1, "key": "x:1", "title": "one"}
    line = {
        "kind": "message",
        "author": "ann",
        "time_ms": 1,
        "text": "look",
        "files": [{"name": "a", "path": "a"}],
    }
    chats = {
        f"{name}/chat.jsonl": f"{json.dumps(head)}\n{json.dumps(line | {'id': name * 16})}\n"
        for name in ("aa", "bb")
    }
    files: dict[str, bytes | str] = {"aa/a": b"of aa", "bb/a": f"{json.dumps(head)}\n"}
    report = opened.import_tree(_tree(tmp_path / "both", chats | files), Hints())
    assert report.skipped == []
    kept = [
        opened.save(attached, tmp_path / attached.mid.hex()).read_bytes() for attached in opened.attachments()
    ]
    assert kept == [b"of aa", f"{json.dumps(head)}\n".encode()]


class _Turns:
    """A format whose chats come in turns, from several files."""

    name = "turns"

    def __init__(self, count: int):
        self._count = count

    def claim(self, tree: Tree) -> list[str]:
        return [name for name in tree.names if name.endswith(".turns")]

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        for number in range(self._count):
            key = f"turns:{number % 2}"
            yield Chat(key=key, title=key)
            yield Provenance(format="turns", name=f"day {number}.turns")
            yield Record(
                kind=Kind.MESSAGE,
                mid=MessageId(number.to_bytes(16, "big")),
                author="ann",
                uid="tel:+49301",
                text=f"said {number}",
                time_ms=1_600_000_000_000 - number,
                position=1,
                files=(File(name="a.jpg", path="media/a.jpg"),) if number == 0 else (),
            )


def test_chats_may_come_in_turns_from_many_files(
    opened: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "TREE_IMPORTERS", (_Turns(1400),))
    tree = _tree(tmp_path / "export", {"x.turns": b"", "media/a.jpg": b"jpg", "media/other.jpg": b"x"})
    report = opened.import_tree(tree, Hints())
    assert report.format == "turns"
    assert [(chat.title, chat.new, chat.people) for chat in report.chats] == [
        ("turns:0", 700, 1),
        ("turns:1", 700, 1),
    ]
    assert [skipped.file for skipped in report.skipped] == ["media/other.jpg"]
    # Clocks go backwards in these files: the order of the file counts, also across chains.
    for parity, chat in enumerate(report.chats):
        messages = list(opened.messages(chat.n))
        assert [m.text for m in messages] == [f"said {n}" for n in range(parity, 1400, 2)]
        named = [source.name for m in messages if (source := opened.provenance(m)) is not None]
        assert named == [f"day {n}.turns" for n in range(parity, 1400, 2)]
    [attached] = opened.attachments()
    assert opened.save(attached, tmp_path / "out").read_bytes() == b"jpg"
    again = opened.import_tree(tree, Hints())
    assert [(chat.new, chat.known) for chat in again.chats] == [(0, 700), (0, 700)]
    assert opened.verify() == []


def test_an_export_with_its_files_beside_it_comes_back_whole(
    opened: Home, tmp_path: Path, clock: Clock
) -> None:
    log = opened.new("trip").n
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(b"meow" * 100_000)
    opened.send(log, "look", attach=[picture])
    folder = tmp_path / "out"
    (folder / "files").mkdir(parents=True)

    def write_file(attached: Attached) -> str:
        return f"files/{opened.save(attached, folder / 'files' / 'one').name}"

    exported = b"".join(opened.export_chat(log, write_file=write_file))
    (folder / "trip.jsonl").write_bytes(exported)
    with Home(tmp_path / "second", person="bo", clock_ms=clock) as second:
        report = second.import_tree(Folder(folder), Hints())
        assert report.skipped == []
        [message] = second.messages(report.chats[0].n)
        [attached] = message.attachments
        assert second.save(attached, tmp_path / "back").read_bytes() == b"meow" * 100_000
        again = b"".join(second.export_chat(report.chats[0].n, write_file=lambda _: "files/one"))
        assert again == exported


def test_what_the_program_knows_an_author_by_is_kept_and_tells_no_claims_apart(
    opened: Home, tmp_path: Path
) -> None:
    line = '{{"kind":"message","id":"{0}","author":"ann","time_ms":5,"text":"hi"{1}}}\n'
    head = '{"kind":"conversation","format":"mlog","format_version":1,"key":"x:1","title":"one"}\n'
    text = head + line.format("00" * 16, ',"uid":"tel:+4930"')
    report = read(opened, text, "x.jsonl")
    exported = b"".join(opened.export_chat(report.chats[0].n)).decode()
    assert '"uid":"tel:+4930"' in exported

"""The view: what is shown of a message, and that damage is shown as damage."""

from __future__ import annotations

import pytest

from mlog.errors import InvalidInput
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId
from mlog.log.memory import MemoryStore
from mlog.log.replica import Draft, Replica
from mlog.log.store import EntryRow, TimelineQuery
from mlog.log.view import Message, View

from .support import LOG, START_MS, device_keys, make_log, make_replica, message, text

MID = MessageId(b"m" * 16)


@pytest.fixture
def replica() -> Replica:
    replica = make_replica(MemoryStore())
    make_log(replica)
    return replica


def write(replica: Replica, *drafts: Draft) -> list[EntryRow]:
    return replica.write(LOG, drafts, START_MS)


def shown(replica: Replica, *, named: bool = True) -> list[Message]:
    view = View(replica, {device_keys(0).id: "Ann"} if named else {})
    return view.of_rows(LOG, replica.store.timeline(TimelineQuery(log=LOG, limit=100)))


def changed_in_store(replica: Replica, row: EntryRow, **fields: object) -> None:
    assert isinstance(replica.store, MemoryStore)
    for name, value in fields.items():
        setattr(replica.store._t.entries[row.n], name, value)


def test_a_message_shows_who_said_what_and_when(replica: Replica):
    [row] = write(replica, message("hello"))
    [seen] = shown(replica)
    assert (seen.text, seen.time_ms, seen.kind, seen.id, seen.mid) == (
        "hello",
        START_MS,
        Kind.MESSAGE,
        row.id,
        row.message,
    )
    assert (seen.author.name, seen.author.device, seen.author.claimed) == ("Ann", device_keys(0).id, False)
    assert (seen.edited, seen.erased, seen.absent, seen.damage) == (False, False, False, "")
    assert (seen.reactions, seen.to) == ((), ())


def test_a_device_without_a_name_is_shown_by_its_key(replica: Replica):
    write(replica, message("hello"))
    assert shown(replica, named=False)[0].author.name == device_keys(0).id.hex()[:8]


def test_an_imported_message_is_a_claim_of_its_importer(replica: Replica):
    body = bodies.Text(text="said there", by="nick", at=7, src=1)
    source = bodies.Import(format="irc", chat="#c", name="a.log", hash="ab" * 32, src=1)
    run = replica.begin_run(LOG)
    replica.write_run(
        run,
        [Draft(Kind.MESSAGE, body, START_MS, MID)],
        START_MS,
        preface=lambda _: [Draft(Kind.IMPORT, source, START_MS)],
    )
    [seen] = shown(replica)
    assert (seen.author.name, seen.author.claimed, seen.mid) == ("nick", True, MID)
    found = View(replica, {}).source(seen)
    assert found is not None
    assert (found.format, found.name, found.file_hash, found.position) == ("irc", "a.log", "ab" * 32, 7)


def test_a_later_import_entry_replaces_what_was_said_of_the_file(replica: Replica):
    run = replica.begin_run(LOG)
    for hash_ in ("", "cd" * 32):
        body = bodies.Import(format="irc", chat="#c", hash=hash_)
        replica.write_run(run, [Draft(Kind.IMPORT, body, START_MS)], START_MS)
    [chain] = [c.n for c in replica.store.chains(LOG) if c.incarnation == run.incarnation]
    assert View(replica, {}).sources(chain)[0].hash == "cd" * 32


def test_an_edited_message_reads_as_its_latest_edit(replica: Replica):
    [row] = write(replica, message("frist"))
    write(replica, Draft(Kind.EDIT, bodies.Edit(of=row.message.hex(), text="first"), START_MS))
    [seen] = shown(replica)
    assert (seen.text, seen.edited, seen.id) == ("first", True, row.id)


def test_an_erased_message_keeps_its_place_and_nothing_else(replica: Replica):
    row, answer = write(replica, message("secret"), message("next"))
    of = row.message.hex()
    write(replica, Draft(Kind.EDIT, bodies.Edit(of=of, text="edited secret"), START_MS))
    write(replica, Draft(Kind.ERASURE, bodies.Erasure(of=of), START_MS))
    seen, after = shown(replica)
    assert (seen.id, seen.text, seen.erased, seen.edited) == (row.id, "", True, False)
    assert (after.id, after.text) == (answer.id, "next")


def test_a_reply_names_what_it_answers(replica: Replica):
    [row] = write(replica, message("question"))
    write(replica, Draft(Kind.REPLY, text("answer", row.message, MID), START_MS))
    assert shown(replica)[1].to == (row.message, MID)


def test_reactions_are_counted_by_person_and_taken_back(replica: Replica):
    [row] = write(replica, message("hello"))
    of = row.message.hex()

    def react(emoji: str, *, removed: bool = False) -> Draft:
        return Draft(Kind.REACTION, bodies.Reaction(of=of, emoji=emoji, removed=removed), START_MS)

    write(replica, react("👍"), react("👍"), react("🎉"), react("🎉", removed=True), react("❤"))
    imported = bodies.Reaction(of=of, emoji="👍", by="nick")
    replica.write_run(replica.begin_run(LOG), [Draft(Kind.REACTION, imported, START_MS, MID)], START_MS)
    [seen] = shown(replica)
    assert {(reacted.emoji, *sorted(reacted.authors)) for reacted in seen.reactions} == {
        ("❤", "Ann"),
        ("👍", "Ann", "nick"),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"body": b'{"text":"forged"}'},
        {"body": None},
        {"time_ms": START_MS + 1},
        {"outer": bytes(200)},
        {"kind": Kind.NOTICE},
        {"state": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_damage_is_shown_as_damage_and_never_as_text(replica: Replica, change: dict[str, object]):
    row, _ = write(replica, message("as it was"), message("whole"))
    changed_in_store(replica, row, **change)
    damaged, whole = sorted(shown(replica), key=lambda seen: not seen.damage)
    assert damaged.damage
    assert damaged.text == ""
    assert (whole.text, whole.damage) == ("whole", "")
    with pytest.raises(InvalidInput):
        View(replica, {}).opened(replica.store.rows([row.n])[row.n])


def test_a_damaged_edit_does_not_show_the_old_text(replica: Replica):
    [row] = write(replica, message("old"))
    [edit] = write(replica, Draft(Kind.EDIT, bodies.Edit(of=row.message.hex(), text="new"), START_MS))
    changed_in_store(replica, edit, body=b'{"of":"","text":"forged"}')
    [seen] = shown(replica)
    assert seen.damage
    assert seen.text == ""


def test_a_damaged_reaction_is_left_out(replica: Replica):
    [row] = write(replica, message("hello"))
    body = bodies.Reaction(of=row.message.hex(), emoji="👍")
    [reaction] = write(replica, Draft(Kind.REACTION, body, START_MS))
    changed_in_store(replica, reaction, body=b"{}")
    assert shown(replica)[0].reactions == ()

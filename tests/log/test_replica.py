"""Replica: what it writes, what it takes, and what it makes of it; orders are test_convergence.py's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from mlog import limits
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import LimitExceeded, StoreError
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import Kind
from mlog.log.crypto import wrap_info
from mlog.log.entry import NO_ENTRY, Sealed
from mlog.log.ids import EntryId, MessageId, week_of
from mlog.log.memory import MemoryStore
from mlog.log.message_fold import chat_target
from mlog.log.replica import Draft, Replica, Run, Taken
from mlog.log.store import BodyState, EntryRow, LogKind, Store, TimelineQuery
from mlog.log.verify import verify_search
from mlog.log.view import View

from .support import (
    LOG,
    START_MS,
    History,
    device_keys,
    facts,
    findings,
    join,
    make_log,
    make_replica,
    message,
    rows_of,
    seal_again,
    take,
    text,
)

WEEK_MS = 7 * 24 * 3600_000


@pytest.fixture
def replica() -> Replica:
    replica = make_replica(MemoryStore())
    make_log(replica)
    return replica


def write(replica: Replica, *drafts: Draft, now_ms: int = START_MS) -> list[EntryRow]:
    return replica.write(LOG, drafts, now_ms)


def erasure(of: EntryRow) -> Draft:
    return Draft(Kind.ERASURE, bodies.Erasure(of=of.message.hex()), START_MS)


def edit(of: EntryRow, words: str, time_ms: int = START_MS) -> Draft:
    return Draft(Kind.EDIT, bodies.Edit(of=of.message.hex(), text=words), time_ms)


def line(n: int, words: str = "", time_ms: int = 0) -> Draft:
    """A line of an imported chat."""
    return message(words or f"line {n}", time_ms or START_MS - 10_000 + n, MessageId(bytes([n]) * 16))


def header(replica: Replica, row: EntryRow) -> entry.Header:
    return entry.open_header(replica.log(LOG).keys, row.outer)[0]


def pair() -> tuple[Replica, Replica]:
    """Two devices that share a log and have heard of nothing else yet."""
    history = History(2)
    first, second = history.replicas
    for row in rows_of(first.store):
        take(second, history.entries[row.id])
    return first, second


def send(from_: Replica, to: Replica, *rows: EntryRow) -> None:
    for row in rows:
        take(to, seal_again(from_.log(LOG).keys, row))


# -- logs ------------------------------------------------------------------------------------


def test_a_log_begins_with_a_key_entry_under_an_epoch_of_the_log_s_secret(replica: Replica):
    [key] = rows_of(replica.store)
    keys = replica.log(LOG).keys
    first, epoch = entry.open_header(keys, key.outer)
    assert (first.kind, first.seq, first.prev, epoch.number) == (Kind.KEY, 0, NO_ENTRY, 0)
    assert key.body is not None
    body = bodies.decode(Kind.KEY, key.body)
    assert isinstance(body, bodies.Key)
    assert (body.epoch, body.log) == (1, "conversation")
    assert body.commitment == crypto.commitment(keys.current.secret).hex()
    assert [wrap.device for wrap in body.wraps] == [replica.device_id]
    [said] = write(replica, message("hello"))
    assert entry.open_header(keys, said.outer)[1].number == 1


def test_what_a_wrap_is_bound_to_has_one_form():
    infos = {
        wrap_info(crypto.LogKeys(bytes([log]) * 32).topic, device_keys(a).id, epoch, device_keys(b).id)
        for log in (0, 1)
        for a in (0, 1)
        for b in (0, 1)
        for epoch in (1, 2)
    }
    assert len(infos) == 16
    assert {len(info) for info in infos} == {19 + 16 + 32 + 8 + 32}


def test_a_reopened_replica_knows_its_logs():
    store = MemoryStore()
    first = make_replica(store)
    make_log(first, LogKind.PERSON)
    make_log(first, LogKind.CONVERSATION)
    again = make_replica(store)
    assert [(log.n, log.kind) for log in again.logs()] == [(1, "person"), (2, "conversation")]
    assert [log.n for log in again.logs(LogKind.CONVERSATION)] == [2]
    assert again.log(2).keys.topic == first.log(2).keys.topic


def test_a_log_that_another_process_made_appears():
    store = MemoryStore()
    one, other = make_replica(store, 0, "one"), make_replica(store, 0, "other")
    assert one.logs() == []
    make_log(other)
    assert [log.n for log in one.logs()] == [LOG]


def test_a_log_that_was_undone_is_forgotten():
    replica = make_replica(MemoryStore())

    def undone() -> None:
        with replica.store.transaction():
            make_log(replica)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    assert replica.logs() == []
    assert make_log(replica, LogKind.PERSON) == LOG
    assert [log.kind for log in replica.logs()] == [LogKind.PERSON]


def test_the_keys_of_another_device_do_not_open_a_store(replica: Replica):
    with pytest.raises(StoreError, match="another key file"):
        make_replica(replica.store, 1).logs()


# -- writing ---------------------------------------------------------------------------------


def test_a_chain_counts_and_links_and_names_all_heads(replica: Replica):
    one, two = write(replica, message("one"), message("two"))
    [three] = write(replica, message("three"))
    assert [header(replica, row).seq for row in (one, two, three)] == [1, 2, 3]
    assert [header(replica, row).prev for row in (two, three)] == [one.id, two.id]
    assert replica.store.heads(LOG) == [three.id]
    assert all(row.signature for row in (one, two, three))
    other = make_replica(replica.store, 0, "restored")
    [beside] = write(other, message("after a restore"))
    assert header(replica, beside).parents == (three.id,)
    assert replica.store.heads(LOG) == [beside.id]


def test_more_heads_than_an_entry_names_are_merged_by_the_next_ones(replica: Replica):
    for n in range(limits.PARENTS_MAX + 5):
        other = make_replica(replica.store, 0, f"branch {n}")
        state, draft = other.log(LOG), message(f"branch {n}")
        # A branch that has heard of nothing.
        heads = replica.store.heads(LOG)
        with replica.store.transaction():
            replica.store.change_heads(LOG, [], heads)
            other.appender.append(state, other.incarnation, [draft], START_MS, state.keys.current)
            replica.store.change_heads(LOG, heads, [])
    assert len(replica.store.heads(LOG)) > limits.PARENTS_MAX
    [merge] = write(replica, message("merge"))
    assert len(header(replica, merge).parents) == limits.PARENTS_MAX
    write(replica, message("merge the rest"))
    assert len(replica.store.heads(LOG)) == 1
    assert findings(replica) == []


def test_a_wrong_clock_never_puts_an_answer_before_what_it_answers(replica: Replica):
    [early] = write(replica, message("from the future", START_MS + 10**10))
    [late] = write(replica, message("an hour ago", START_MS - 3600_000))
    order = [row.id for row in rows_of(replica.store)]
    assert order.index(early.id) < order.index(late.id)


def test_a_week_is_the_clock_s_or_that_of_the_other_chains(replica: Replica):
    assert write(replica, message("now"))[0].week == week_of(START_MS)
    later = START_MS + 10 * WEEK_MS
    write(make_replica(replica.store, 0, "ahead"), message("ahead"), now_ms=later)
    write(make_replica(replica.store, 0, "ahead too"), message("ahead"), now_ms=later)
    [behind] = write(replica, message("a clock that is behind"), now_ms=START_MS - 50 * WEEK_MS)
    assert behind.week == week_of(later)


def test_nothing_is_written_when_one_of_the_drafts_cannot_be(replica: Replica):
    before = facts(replica)
    with pytest.raises(LimitExceeded):
        write(replica, message("fine"), message("x" * limits.BODY_SIZE_MAX_BYTES))
    assert facts(replica) == before


# -- admitting -------------------------------------------------------------------------------


def test_an_entry_is_taken_once():
    one, other = pair()
    [said] = write(one, message("hello"))
    sealed = seal_again(one.log(LOG).keys, said)
    assert take(other, sealed).stored
    assert not take(other, sealed).stored
    assert facts(one) == facts(other)


@pytest.mark.parametrize("part", ["outer", "log"])
def test_an_entry_that_does_not_match_is_refused(part: str):
    one, other = pair()
    [said] = write(one, message("hello"))
    sealed = seal_again(one.log(LOG).keys, said)
    before = facts(other)
    changed = sealed
    if part == "log":
        history = History(1)
        history.replicas[0] = make_replica(MemoryStore(), 0, "another log")
        make_log(history.replicas[0])
        other_keys = history.replicas[0].log(LOG).keys
        changed = seal_again(other_keys, rows_of(history.replicas[0].store)[0])
    else:
        outer = sealed.outer[:-1] + bytes([sealed.outer[-1] ^ 1])
        changed = msgspec.structs.replace(sealed, outer=outer)
    taken = take(other, changed)
    assert taken.stored == 0
    assert [id_ for id_, _ in taken.refused] == [changed.id]
    assert facts(other) == before


@pytest.mark.parametrize("part", ["body", "signature", "signer"])
def test_a_part_that_does_not_match_is_left_off_and_wanted(part: str):
    one, other = pair()
    [said] = write(one, message("hello"))
    sealed = seal_again(one.log(LOG).keys, said)
    if part == "signer":
        other.appender._sign(other.log(LOG).keys.current, said)
        changed = msgspec.structs.replace(sealed, signature=said.signature)
    else:
        value = getattr(sealed, part)
        changed = msgspec.structs.replace(sealed, **{part: value[:-1] + bytes([value[-1] ^ 1])})
    taken = take(other, changed)
    assert (taken.stored, [id_ for id_, _ in taken.refused]) == (1, [sealed.id])
    assert other.lacking(LOG, 10) == [sealed.id]
    assert take(other, sealed) == Taken(completed=1)
    assert take(other, sealed) == Taken(known=1)
    assert other.lacking(LOG, 10) == other.missing(LOG, 10) == []
    assert facts(other) == facts(one)


def test_a_late_parent_moves_what_was_here_behind_it_along_every_path():
    """A diamond, and the long way round it first."""
    one, other = pair()
    [top] = write(one, message("top", START_MS + 10_000))
    rows = [top]
    for n in range(4):
        rows += write(one, message(f"way {n}", START_MS))
    side = make_replica(one.store, 0, "side")
    rows += side.write(LOG, [Draft(Kind.MESSAGE, text("names two"), START_MS, after=(top.id,))], START_MS)
    send(one, other, *rows[:0:-1])
    send(one, other, top)
    assert facts(other) == facts(one)
    assert findings(other) == []


def test_an_erased_body_is_refused_from_then_on():
    one, other = pair()
    [said] = write(one, message("a secret"))
    sealed = seal_again(one.log(LOG).keys, said)
    send(one, other, *write(one, erasure(said)))
    assert take(other, sealed).stored
    assert not take(other, sealed).stored
    [kept] = other.store.find(LOG, [said.id]).values()
    assert (kept.state, kept.body) == (BodyState.ERASED, None)
    assert other.store.search('"secret"', None, 10) == []
    assert facts(one) == facts(other)


def test_every_copy_by_the_eraser_is_erased_and_what_others_said_stays():
    one, other = pair()
    keys = one.log(LOG).keys
    first = one.write_run(one.begin_run(LOG), [line(1, "theirs")], START_MS).rows[0]
    write(one, erasure(first))
    # A second import of the line by the same person that had not heard of the first.
    twin = make_replica(MemoryStore(), 0, "twin")
    join(twin, keys)
    again = twin.write_run(twin.begin_run(LOG), [line(1, "theirs")], START_MS).rows
    claim = other.write_run(other.begin_run(LOG), [line(1, "theirs")], START_MS).rows[0]
    send(twin, one, *again)
    send(other, one, claim)
    states = {row.id: (row.state, row.hidden) for row in rows_of(one.store) if row.mid == first.mid}
    assert states == {
        first.id: (BodyState.ERASED, True),
        again[0].id: (BodyState.ERASED, True),
        claim.id: (BodyState.OPENED, False),
    }
    assert findings(one) == []


def test_only_its_author_edits_or_erases_a_message():
    one, other = pair()
    [said] = write(one, message("mine"))
    send(one, other, said)
    changes = [*write(other, edit(said, "yours")), *write(other, erasure(said))]
    send(other, one, *changes)
    for replica in (one, other):
        [kept] = replica.store.find(LOG, [said.id]).values()
        assert (kept.edit, kept.state, kept.body) == (0, BodyState.OPENED, said.body)


def test_only_messages_can_be_erased(replica: Replica):
    [title] = write(replica, Draft(Kind.TITLE, bodies.Title(title="stays"), START_MS))
    [key, *_] = rows_of(replica.store)
    write(replica, edit(title, "no"), erasure(title), erasure(key))
    kept = replica.store.rows([title.n, key.n]).values()
    assert {(row.state, row.edit) for row in kept} == {(BodyState.OPENED, 0)}
    assert replica.store.logs()[0].title == "stays"


def test_an_erased_message_takes_its_edits_and_files_with_it(replica: Replica):
    [said] = write(replica, message("first words"))
    manifest = bodies.Manifest(of=said.message.hex(), name="picture", size=1)
    write(replica, edit(said, "second words"), Draft(Kind.MANIFEST, manifest, START_MS))
    write(replica, erasure(said))
    [late] = write(replica, edit(said, "third words"))
    erased = {row.kind for row in rows_of(replica.store) if row.state == BodyState.ERASED}
    assert erased == {Kind.MESSAGE, Kind.EDIT, Kind.MANIFEST}
    assert replica.store.rows([late.n])[late.n].body is None
    assert replica.store.rows([said.n])[said.n].edit == 0
    assert replica.store.search('"words"', None, 10) == []
    assert findings(replica) == []


def test_an_erased_group_takes_its_chunks_also_those_that_come_later(replica: Replica):
    group = MessageId(b"sixteen bytes :)")

    def chunk(index: int) -> Draft:
        return Draft(Kind.CHUNK, bodies.Chunk(group=group, index=index, data=b"part"), START_MS)

    [said, early] = write(replica, message("look"), chunk(0))
    manifest = bodies.Manifest(of=said.message.hex(), name="a", size=4, group=group.hex(), chunks=(early.id,))
    [named] = write(replica, Draft(Kind.MANIFEST, manifest, START_MS))
    other = Draft(Kind.CHUNK, bodies.Chunk(group=bytes(16), index=0, data=b"stays"), START_MS)
    write(replica, other, Draft(Kind.ERASURE, bodies.Erasure(of=group.hex()), START_MS))
    [late] = write(replica, chunk(1))
    erased = {row.n for row in rows_of(replica.store) if row.state == BodyState.ERASED}
    assert erased == {early.n, late.n, named.n}
    assert findings(replica) == []


@pytest.mark.parametrize("column", ["body", "outer"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_damaged_message_is_erased_and_its_words_go_with_a_new_index(
    tmp_path: Path, kind: str, column: str
):
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "mlog.db")
    replica = make_replica(store)
    make_log(replica)
    said, kept, lost = write(replica, message("secret words"), message("words"), message("lost words"))
    for row in (said, lost):
        damage(store, row, column)
    write(replica, erasure(said))
    assert store.rows([said.n])[said.n].body is None
    assert store.words_distrusted()
    replica.rebuild_search()
    assert not store.words_distrusted()
    assert store.search('"secret"', None, 10) == []
    # What is damaged is not indexed, and what nobody knows of is not missed.
    assert store.search('"words"', None, 10) == [kept.n]
    assert list(verify_search(replica, thorough=True)) == []
    if isinstance(store, SqliteStore):
        assert store.check_index()
        store.close()


def damage(store: Store, row: EntryRow, column: str) -> None:
    if isinstance(store, MemoryStore):
        value = getattr(row, column)
        changed = value[:-1] + bytes([value[-1] ^ 1]) if column == "outer" else b'{"text":"other words"}'
        store._t.entries[row.n] = msgspec.structs.replace(store._t.entries[row.n], **{column: changed})
        return
    assert isinstance(store, SqliteStore)
    with store.transaction():
        if column == "body":
            store._run("UPDATE bodies SET body = replace(body, 'secret', 'secreu') WHERE n = ?", (row.n,))
            store._run("UPDATE bodies SET body = replace(body, 'lost', 'lots') WHERE n = ?", (row.n,))
        else:
            changed = row.outer[17:-1] + bytes([row.outer[-1] ^ 1])
            store._run("UPDATE entries SET tail = ? WHERE n = ?", (changed, row.n))


def test_a_whole_message_is_erased_without_a_new_index(replica: Replica):
    [said] = write(replica, message("secret words"))
    write(replica, erasure(said))
    assert not replica.store.words_distrusted()
    assert list(verify_search(replica)) == []


def test_the_latest_edit_and_title_hold(replica: Replica):
    [said] = write(replica, message("one"))
    edits = write(replica, edit(said, "two"), edit(said, "three", START_MS - 10**9))
    write(replica, *(Draft(Kind.TITLE, bodies.Title(title=t), START_MS) for t in ("old", "new")))
    assert replica.store.rows([said.n])[said.n].edit == edits[-1].n
    assert replica.store.logs()[0].title == "new"


def test_a_device_s_latest_record_holds_in_whatever_order_it_comes():
    names = ("before", "after")
    records = [
        bodies.Device(
            name=name, person="Ann", noise=device_keys(0).noise_public, hpke=device_keys(0).hpke_public
        )
        for name in names
    ]
    one = make_replica(MemoryStore())
    make_log(one, LogKind.PERSON, *(Draft(Kind.DEVICE, record, START_MS) for record in records))
    other = make_replica(MemoryStore(), 1)
    join(other, one.log(LOG).keys, LogKind.PERSON)
    send(one, other, *rows_of(one.store)[::-1])
    for replica in (one, other):
        assert [device.name for device in replica.store.devices()] == ["after"]
    assert findings(other) == []


# -- imports ---------------------------------------------------------------------------------


def run_of(replica: Replica, *drafts: Draft, run: Run | None = None) -> tuple[Run, Sequence[EntryRow]]:
    run = run or replica.begin_run(LOG)
    return run, replica.write_run(run, drafts, START_MS).rows


def test_an_import_is_a_chain_of_its_own_that_names_the_heads_once(replica: Replica):
    [said] = write(replica, message("before"))
    run, rows = run_of(replica, line(1), line(2))
    _, more = run_of(replica, line(3), run=run)
    headers = [header(replica, row) for row in (*rows, *more)]
    assert [h.seq for h in headers] == [0, 1, 2]
    assert {h.incarnation for h in headers} == {run.incarnation} != {replica.incarnation}
    assert [h.parents for h in headers] == [(said.id,), (), ()]
    assert replica.store.heads(LOG) == [more[-1].id]


def test_importing_again_adds_only_what_is_new_and_says_where(replica: Replica):
    _, first = run_of(replica, line(1), line(2), line(3))
    written = replica.write_run(
        replica.begin_run(LOG), [line(1), line(2), line(9), line(3), line(4), line(4)], START_MS
    )
    nine, four = written.rows
    assert written.known.keys() == {line(n).mid for n in (1, 2, 3)}
    # Each names the known line that it follows in the file, so that the order is the file's.
    assert set(header(replica, nine).parents) >= {first[1].id}
    assert header(replica, four).parents == (first[2].id,)
    assert written.after is None
    assert replica.write_run(replica.begin_run(LOG), [line(1), line(4)], START_MS).rows == []


def test_a_batch_that_ends_with_what_is_known_hands_that_to_the_next(replica: Replica):
    _, first = run_of(replica, line(1), line(2))
    run = replica.begin_run(LOG)
    written = replica.write_run(run, [line(1), line(2)], START_MS)
    assert (written.rows, written.after) == ([], first[1].id)
    [new] = replica.write_run(run, [line(5)], START_MS, after=written.after).rows
    assert first[1].id in header(replica, new).parents
    order = [row.mid for row in rows_of(replica.store) if row.mid is not None]
    assert order == [line(n).mid for n in (1, 2, 5)]


def test_lines_keep_the_file_s_order_where_clocks_step_back(replica: Replica):
    drafts = [line(n, time_ms=START_MS - n * 1000) for n in range(1, 6)]
    run_of(replica, *drafts)
    assert [row.mid for row in rows_of(replica.store) if row.mid] == [draft.mid for draft in drafts]


def test_retold_lines_stand_at_their_own_time_and_not_at_that_of_the_import(replica: Replica):
    [said] = write(replica, message("written here", START_MS - 5))
    run_of(replica, line(1))
    order = [row.id for row in rows_of(replica.store) if row.kind == Kind.MESSAGE]
    assert order[-1] == said.id


def test_an_import_signs_its_first_and_last_entry_and_the_last_of_each_week(replica: Replica):
    weeks = [0, 0, 0, 1, 1, 3]
    drafts = [line(n, time_ms=START_MS - 100 * WEEK_MS + week * WEEK_MS) for n, week in enumerate(weeks)]
    run, rows = run_of(replica, *drafts)
    assert [row.signature is not None for row in rows] == [True, False, True, False, True, True]
    assert [row.week - rows[0].week for row in rows] == weeks
    _, more = run_of(replica, line(10), line(11), line(12), run=run)
    assert [row.signature is not None for row in more] == [False, False, True]
    assert findings(replica) == []


def test_a_preface_comes_before_what_is_new_and_not_without(replica: Replica):
    source = Draft(Kind.IMPORT, bodies.Import(format="f", chat="key"), START_MS)
    run = replica.begin_run(LOG)
    seen: list[list[MessageId | None]] = []

    def preface(new: Sequence[Draft]) -> list[Draft]:
        seen.append([draft.mid for draft in new])
        return [source]

    first = replica.write_run(run, [line(1), line(2)], START_MS, preface=preface)
    assert [row.kind for row in first.rows] == [Kind.IMPORT, Kind.MESSAGE, Kind.MESSAGE]
    replica.write_run(run, [line(1)], START_MS, preface=preface)
    assert seen == [[line(1).mid, line(2).mid]]
    [reference] = replica.store.references_to(None, [chat_target("key")])
    assert reference.n == first.rows[0].n


def test_two_runs_at_once_add_each_line_once(tmp_path):
    """Two processes import the same chat, batch by batch in turn."""
    store = SqliteStore(tmp_path / "mlog.db")
    make_log(make_replica(store))
    stores = [SqliteStore(tmp_path / "mlog.db") for _ in range(2)]
    replicas = [make_replica(opened, 0, f"process {n}") for n, opened in enumerate(stores)]
    runs = [replica.begin_run(LOG) for replica in replicas]
    after: list[EntryId | None] = [None, None]
    for start in range(0, 9, 3):
        batch = [line(n) for n in range(start + 1, start + 4)]
        for n in (0, 1) if start % 2 else (1, 0):
            after[n] = replicas[n].write_run(runs[n], batch, START_MS, after=after[n]).after
    mids = [row.mid for row in rows_of(store) if row.mid is not None]
    assert mids == [line(n).mid for n in range(1, 10)]
    assert findings(make_replica(store)) == []
    for opened in (store, *stores):
        opened.close()


def test_two_people_who_import_one_chat_get_messages_that_fold_into_one():
    one, other = pair()
    for replica in (one, other):
        run_of(replica, line(1), line(2))
    send(one, other, *rows_of(one.store))
    send(other, one, *rows_of(other.store))
    assert facts(one) == facts(other)
    assert len(one.store.timeline(TimelineQuery(log=LOG, limit=10))) == 2


def test_different_claims_of_one_message_stay_apart():
    one, other = pair()
    run_of(one, line(1, "said this"))
    run_of(other, line(1, "said that"))
    send(one, other, *rows_of(one.store))
    assert len(other.store.timeline(TimelineQuery(log=LOG, limit=10))) == 2


@pytest.mark.parametrize("erased_first", [False, True])
def test_a_claim_that_its_text_was_erased_folds_with_the_text(tmp_path: Path, erased_first: bool):
    one, other = pair()
    said = bodies.Text(text="said this", by="Ann")
    erased = bodies.Text(text="", by="Ann", erased=True)
    run_of(one, Draft(Kind.MESSAGE, said, START_MS, MessageId(bytes(16))))
    run_of(other, Draft(Kind.MESSAGE, erased, START_MS, MessageId(bytes(16))))
    store = SqliteStore(tmp_path / "mlog.db")
    reader = make_replica(store, 2)
    join(reader, one.log(LOG).keys)
    for replica in (other, one) if erased_first else (one, other):
        send(replica, reader, *rows_of(replica.store))
    [shown] = View(reader, {}).of_rows(LOG, store.timeline(TimelineQuery(log=LOG, limit=10)))
    assert (shown.author.name, shown.text, shown.erased) == ("Ann", "said this", False)
    views = sqlite3.connect(store.path)
    assert views.execute("SELECT author, text, erased FROM messages").fetchall() == [("Ann", "said this", 0)]
    views.close()
    assert findings(reader) == []
    send(one, other, *rows_of(one.store))
    assert facts(other) == facts(reader)
    store.close()


def test_what_was_written_here_stands_for_its_own_import(replica: Replica):
    [said] = write(replica, message("native"))
    own = message("native", START_MS, said.message)
    assert replica.write_run(replica.begin_run(LOG), [own], START_MS).rows == []
    other = make_replica(MemoryStore(), 1)
    join(other, replica.log(LOG).keys)
    send(replica, other, *rows_of(replica.store))
    [copy] = other.write_run(other.begin_run(LOG), [own], START_MS).rows
    assert other.store.rows([copy.n])[copy.n].hidden
    assert not other.store.find(LOG, [said.id])[said.id].hidden


def test_an_erased_message_is_not_brought_back_by_importing_again(replica: Replica):
    _, [first] = run_of(replica, line(1))
    write(replica, erasure(first))
    written = replica.write_run(replica.begin_run(LOG), [line(1)], START_MS)
    assert written.rows == []
    assert [row.state for row in written.known.values()] == [BodyState.ERASED]


def test_a_header_alone_is_taken_and_its_body_is_absent():
    one, other = pair()
    [said] = write(one, message("later"))
    sealed = seal_again(one.log(LOG).keys, said)
    assert take(other, Sealed(sealed.id, sealed.outer, None, sealed.signature)).stored
    [kept] = other.store.find(LOG, [said.id]).values()
    assert (kept.state, kept.body, kept.rank) == (BodyState.NOT_FETCHED, None, said.rank)
    assert findings(other) == []


def test_an_entry_of_a_later_version_s_kind_is_kept_and_not_read():
    one, other = pair()
    state = one.log(LOG)
    body = b'{"later":true}'
    later = entry.Header(
        99, one.device_id, one.incarnation, 2, one.store.chains(LOG)[0].id, START_MS, len(body)
    )
    sealed = entry.seal_entry(state.keys, state.keys.current, 1000, later, body)
    sealed = entry.sign_entry(device_keys(0), state.keys.current, sealed)
    for replica in (one, other):
        assert take(replica, sealed).stored
        assert replica.store.heads(LOG) == [sealed.id]
        assert findings(replica) == []
    assert facts(one) == facts(other)


def test_to_settle_nothing_takes_no_transaction(monkeypatch: pytest.MonkeyPatch):
    replica = make_replica(MemoryStore())
    log = make_log(replica)

    def fail() -> None:
        raise AssertionError("a transaction")

    monkeypatch.setattr(replica.store, "transaction", fail)
    assert not replica.settle(log, START_MS)


def test_what_another_process_sealed_under_a_newer_epoch_is_handed_on_whole() -> None:
    store = MemoryStore()
    served, command = make_replica(store), make_replica(store)
    log = make_log(served, LogKind.PERSON)
    assert served.log(log).keys.epochs
    # As a command does while the home is served.
    command.learn_epochs(log, [crypto.EpochKeys(9, bytes(32))])
    record = bodies.Device(name="desk", person="ann", noise=bytes(32), hpke=bytes(1216))
    [row] = command.write(log, [Draft(Kind.DEVICE, record, START_MS)], START_MS)
    [handed] = served.sealed_of(log, [row], bodies=True)
    assert handed.body is not None
    assert handed == command.sealed_of(log, [row], bodies=True)[0]
    assert store.gaps(log) == []

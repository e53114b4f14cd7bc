"""What is pruned was proven to be elsewhere, and what is left is whole by itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mlog import limits
from mlog.adapters.sqlite import SqliteStore
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys
from mlog.log.fold import Draft
from mlog.log.ids import EntryId, MessageId, week_of
from mlog.log.memory import MemoryStore
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.missing import missing
from mlog.log.peers import PeerRow, ReceiptRow
from mlog.log.receipts import Statement, make_receipts
from mlog.log.replica import Replica
from mlog.log.scope import bodies_root, entries_root
from mlog.log.store import EntryRow, LogKind, Reason, Store, TimelineQuery
from mlog.log.window import plan, proven_weeks, prune, set_window
from tests.log.support import (
    LOG,
    START_MS,
    chat_line,
    device_keys,
    findings,
    join,
    make_log,
    make_replica,
    text,
)

_WEEK_MS = 7 * 24 * 3600 * 1000
_NOW = START_MS + 10 * _WEEK_MS
_HOLDER = device_keys(2)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = SqliteStore(tmp_path / "mlog.db")
    yield opened
    opened.close()


def _write(replica: Replica, kind: Kind, body: bodies.Body, week: int) -> EntryRow:
    now = START_MS + week * _WEEK_MS + replica.store.next_n()
    return replica.write(LOG, [Draft(kind, body, now)], now)[0]


def _say(replica: Replica, words: str, week: int) -> EntryRow:
    return _write(replica, Kind.MESSAGE, text(words), week)


def _chat(store: Store, weeks: int = 10) -> Replica:
    """A conversation with two messages in each of some weeks."""
    replica = make_replica(store)
    make_log(replica, LogKind.CONVERSATION, Draft(Kind.TITLE, bodies.Title(title="t"), START_MS))
    for week in range(weeks):
        for n in range(2):
            _say(replica, f"week {week} message {n}", week)
    return replica


def _trust(replica: Replica, device: DeviceKeys = _HOLDER) -> None:
    peer = PeerRow(device=device.id, name="d", noise=bytes(32), hpke=bytes(1216), own=True)
    with replica.store.transaction():
        replica.store.put_peer(peer)


def _receipt(
    replica: Replica,
    *,
    first_week: int = 0,
    with_bodies: bool = True,
    time_ms: int = _NOW,
    device: DeviceKeys = _HOLDER,
    change: Callable[[Statement], Statement] = lambda statement: statement,
) -> ReceiptRow:
    """What a holder of the same entries would sign now; kept here, and its device trusted."""
    store = replica.store
    digests = [digest for digest in refresh_digests(store, LOG) if digest.week >= first_week]
    statement = change(
        Statement(
            topic=replica.log(LOG).keys.topic,
            first_week=first_week,
            entries=sum(digest.entries for digest in digests),
            bodies=sum(digest.bodies for digest in digests) if with_bodies else 0,
            entries_root=entries_root(digests, first_week),
            bodies_root=bodies_root(digests if with_bodies else [], first_week),
            time_ms=time_ms,
            expires_ms=time_ms + limits.RECEIPT_LIFE_MS,
        )
    )
    (proof,) = make_receipts(device, [statement])
    fields = {name: getattr(statement, name) for name in statement.__struct_fields__ if name != "topic"}
    row = ReceiptRow(log=LOG, device=device.id, proof=proof, **fields)
    _trust(replica, device)
    with store.transaction():
        store.put_receipt(row)
    return row


def _prune(replica: Replica, days: int = 30, *, force: bool = False, now_ms: int = _NOW) -> int:
    set_window(replica.store, LOG, days, fetch_bodies=True, now_ms=now_ms)
    return sum(prune(replica, plan(replica, LOG, now_ms, force=force), now_ms))


def _texts(replica: Replica) -> list[str]:
    rows = replica.store.timeline(TimelineQuery(log=LOG, limit=1000))
    stands = [replica.store.rows([row.edit])[row.edit] if row.edit else row for row in rows]
    said = [bodies.decode(row.kind, row.body) for row in stands if row.body is not None]
    return [body.text for body in said if isinstance(body, bodies.Text | bodies.Edit)]


# -- the rule --------------------------------------------------------------------------------


def test_nothing_goes_without_a_proof(store: Store) -> None:
    replica = _chat(store)
    before = log_root(refresh_digests(store, LOG))
    assert _prune(replica) == 0
    assert plan(replica, LOG, _NOW).unproven
    assert log_root(refresh_digests(store, LOG)) == before


def test_what_a_holder_has_proven_goes(store: Store) -> None:
    replica = _chat(store)
    _receipt(replica)
    assert _prune(replica) > 6
    left = _texts(replica)
    assert "week 9 message 1" in left
    assert "week 0 message 0" not in left
    assert findings(replica) == []
    assert plan(replica, LOG, _NOW).unproven == ()


def test_what_came_since_a_receipt_does_not_weaken_it(store: Store) -> None:
    replica = _chat(store, 9)
    receipt = _receipt(replica)
    for n in range(20):
        _say(replica, f"later {n}", 9)
    row = store.logs()[0]
    assert week_of(START_MS) in proven_weeks(store, row, receipt)
    assert week_of(START_MS + 9 * _WEEK_MS) not in proven_weeks(store, row, receipt)
    assert _prune(replica) > 6


def test_an_entry_that_came_late_to_an_old_week_keeps_that_week(store: Store) -> None:
    replica = _chat(store)
    _receipt(replica)
    run = replica.begin_run(LOG)
    late = Draft(Kind.MESSAGE, text("late"), START_MS + 1, MessageId(bytes(16)))
    replica.write_run(run, [late], _NOW)
    _say(replica, "the newest", 9)
    _prune(replica)
    left = _texts(replica)
    assert "late" in left
    assert "week 0 message 1" in left, "its week is not what the holder stated"
    assert "week 1 message 1" not in left
    assert week_of(START_MS) in plan(replica, LOG, _NOW).unproven
    assert findings(replica) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: _receipt(r, time_ms=_NOW - limits.RECEIPT_LIFE_MS),
        lambda r: _receipt(r, device=device_keys(0)),
        lambda r: _receipt(r, first_week=week_of(_NOW)),
        lambda r: _receipt(r, change=lambda s: msgspec.structs.replace(s, entries=s.entries + 1)),
        lambda r: _receipt(r, change=lambda s: msgspec.structs.replace(s, entries=s.entries - 1)),
        lambda r: _receipt(r, change=lambda s: msgspec.structs.replace(s, entries_root=bytes(32))),
        lambda r: _receipt(r, with_bodies=False),
        lambda r: _receipt(r, change=lambda s: msgspec.structs.replace(s, bodies_root=bytes(32))),
    ],
    ids=["expired", "our own", "too recent", "more", "fewer", "other root", "no bodies", "other bodies"],
)
def test_a_receipt_that_proves_too_little_frees_nothing(spoil: Callable[[Replica], ReceiptRow]) -> None:
    replica = _chat(MemoryStore())
    spoil(replica)
    assert _prune(replica) == 0


def test_a_receipt_of_another_log_or_a_stranger_or_with_a_changed_row_frees_nothing() -> None:
    for spoil in ("stranger", "row", "topic"):
        replica = _chat(MemoryStore())
        topic = {"topic": bytes(16)} if spoil == "topic" else {}
        row = _receipt(replica, change=lambda s, t=topic: msgspec.structs.replace(s, **t))
        with replica.store.transaction():
            if spoil == "stranger":
                replica.store.remove_peer(_HOLDER.id)
            elif spoil == "row":
                replica.store.put_receipt(msgspec.structs.replace(row, expires_ms=row.expires_ms + 1))
        assert _prune(replica) == 0, spoil


def test_a_receipt_for_entries_alone_frees_weeks_without_bodies() -> None:
    replica = _chat(MemoryStore())
    for row in replica.store.arrivals(LOG, 0, 1000):
        replica.store.erase_body(row.n, None)
    receipt = _receipt(replica, with_bodies=False)
    assert len(proven_weeks(replica.store, replica.store.logs()[0], receipt)) == 10


def test_an_older_receipt_still_proves_what_left_the_window_since() -> None:
    replica = _chat(MemoryStore())
    _receipt(replica, first_week=0, time_ms=_NOW - 5)
    _receipt(replica, first_week=week_of(_NOW) - 4, time_ms=_NOW)
    assert _prune(replica) > 6


def test_force_drops_what_nobody_has_proven(store: Store) -> None:
    replica = _chat(store)
    assert _prune(replica, force=True) > 6
    assert findings(replica) == []


def test_a_dry_run_counts_and_changes_nothing(store: Store) -> None:
    replica = _chat(store)
    _receipt(replica)
    set_window(store, LOG, 30, fetch_bodies=True, now_ms=_NOW)
    before = store.next_n(), log_root(refresh_digests(store, LOG)), store.pruned(LOG)
    counted = sum(prune(replica, plan(replica, LOG, _NOW), _NOW, dry_run=True))
    assert (store.next_n(), log_root(refresh_digests(store, LOG)), store.pruned(LOG)) == before
    assert counted == _prune(replica)


# -- what is left ----------------------------------------------------------------------------


def test_what_carries_the_log_stays(store: Store) -> None:
    replica = _chat(store)
    _prune(replica, force=True)
    kinds = [row.kind for row in store.arrivals(LOG, 0, 1000)]
    assert kinds.count(Kind.KEY) == 1
    assert kinds.count(Kind.TITLE) == 1
    assert store.logs()[0].title == "t"
    _say(replica, "goes on", 10)
    assert findings(replica) == []


def test_digests_of_what_went_are_kept_as_they_were(store: Store) -> None:
    replica = _chat(store)
    before = {digest.week: digest for digest in refresh_digests(store, LOG)}
    last = store.next_n() - 1
    _prune(replica, force=True)
    assert store.pruned(LOG)
    for dropped in store.pruned(LOG):
        was = before[dropped.week]
        assert (dropped.entries, dropped.entries_hash, dropped.bodies_hash) == (
            was.entries,
            was.entries_hash,
            was.bodies_hash,
        )
        assert dropped.last_n == last


def test_search_finds_no_word_of_what_went(store: Store) -> None:
    replica = _chat(store)
    assert len(store.search('"week"', LOG, 100)) == 20
    gone = _prune(replica, force=True)
    assert len(store.search('"week"', LOG, 100)) == 20 - gone
    assert store.holds_words(replica.words(checked=True))


def test_an_edit_stays_with_its_message_and_an_erasure_always() -> None:
    replica = _chat(MemoryStore())
    new = _say(replica, "new", 9)
    old = _say(replica, "old", 9)
    # By a clock that was slow, all that changes them is of an early week.
    slow = START_MS + 1
    for kind, body in (
        (Kind.EDIT, bodies.Edit(of=new.message.hex(), text="new, edited")),
        (Kind.ERASURE, bodies.Erasure(of=old.message.hex())),
    ):
        run = replica.begin_run(LOG)
        mid = MessageId(bytes([kind]) * 16)
        replica.write_run(run, [Draft(kind, body, slow, mid)], slow)
        # Not the last entry of its chain, which stays anyway.
        replica.write_run(run, [Draft(Kind.MESSAGE, text("x"), slow, MessageId(bytes([kind, 1]) * 8))], slow)
    _say(replica, "the newest", 9)
    _prune(replica, force=True)
    assert "new, edited" in _texts(replica)
    assert "old" not in _texts(replica)
    assert findings(replica) == []


def test_what_a_later_signature_vouches_for_keeps_all_between_them() -> None:
    replica = _chat(MemoryStore())
    run = replica.begin_run(LOG)
    week = START_MS + _WEEK_MS
    source = Draft(Kind.IMPORT, bodies.Import(format="test", chat="of old"), week, MessageId(b"t" * 16))
    lines = [Draft(Kind.MESSAGE, text(f"line {n}"), week, MessageId(bytes([n]) * 16)) for n in range(6)]
    replica.write_run(run, [*lines[:2], source, *lines[2:]], _NOW)
    replica.write_run(run, [chat_line(0)], _NOW)
    _say(replica, "the newest", 9)
    _prune(replica, force=True)
    left = _texts(replica)
    # Where it came from is not signed: the lines up to the next signature stay for its sake.
    assert [line for line in left if line.startswith("line")] == [f"line {n}" for n in range(2, 6)]
    assert findings(replica) == []


def test_another_claim_of_a_dropped_message_is_shown_again() -> None:
    replica = _chat(MemoryStore())
    other = make_replica(MemoryStore(), 1)
    join(other, replica.log(LOG).keys)
    mid = MessageId(b"m" * 16)
    for writer, time in ((replica, START_MS + 1), (other, START_MS + 9 * _WEEK_MS)):
        run = writer.begin_run(LOG)
        writer.write_run(run, [Draft(Kind.MESSAGE, text("said twice"), time, mid)], _NOW)
        more = Draft(Kind.MESSAGE, text("more"), time, MessageId(writer.device_id[:16]))
        writer.write_run(run, [more], _NOW)
    rows = other.store.arrivals(LOG, 0, 1000)
    replica.receive(LOG, other.sealed_of(LOG, rows, bodies=True), _NOW)
    _say(replica, "the newest", 9)
    assert _texts(replica).count("said twice") == 1
    _prune(replica, force=True)
    assert _texts(replica).count("said twice") == 1
    assert findings(replica) == []


def test_a_dropped_parent_has_a_reason_and_is_not_asked_for(store: Store) -> None:
    replica, other = _chat(store, 5), make_replica(MemoryStore(), 1)
    join(other, replica.log(LOG).keys)

    def give(giver: Replica, taker: Replica) -> None:
        rows = giver.store.arrivals(LOG, 0, 1000)
        assert not taker.receive(LOG, giver.sealed_of(LOG, rows, bodies=True), _NOW).refused

    for week in range(5, 10):
        give(replica, other)
        _say(other, f"other {week}", week)
        give(other, replica)
        _say(replica, f"week {week}", week)
    assert _prune(replica, force=True) > 6
    assert findings(replica) == []
    assert replica.lacking(LOG, 100) == []
    row = store.logs()[0]
    reasons = {found.reason for found in missing(store, row, replica.log(LOG).keys, 100)}
    assert reasons == {Reason.PRUNED}
    _say(replica, "goes on", 10)
    assert findings(replica) == []


def test_a_longer_window_wants_the_weeks_again_and_they_come_back_the_same(store: Store) -> None:
    replica, other = _chat(store), make_replica(MemoryStore(), 1)
    join(other, replica.log(LOG).keys)
    other.receive(LOG, replica.sealed_of(LOG, store.arrivals(LOG, 0, 1000), bodies=True), _NOW)
    before = log_root(refresh_digests(store, LOG)), _texts(replica), store.heads(LOG)
    _prune(replica, force=True)
    assert log_root(refresh_digests(store, LOG)) != before[0]
    set_window(store, LOG, 0, fetch_bodies=True, now_ms=_NOW)
    assert store.pruned(LOG) == []
    replica.receive(LOG, other.sealed_of(LOG, other.store.arrivals(LOG, 0, 1000), bodies=True), _NOW)
    while replica.settle(LOG, _NOW):
        pass
    assert (log_root(refresh_digests(store, LOG)), _texts(replica), store.heads(LOG)) == before
    assert findings(replica) == []


def test_a_shorter_window_forgets_no_record_of_what_went() -> None:
    replica = _chat(MemoryStore())
    _prune(replica, 30, force=True)
    dropped = replica.store.pruned(LOG)
    set_window(replica.store, LOG, 7, fetch_bodies=True, now_ms=_NOW)
    assert replica.store.pruned(LOG) == dropped


def test_pruning_that_stopped_half_way_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = _chat(store)
    _receipt(replica)
    set_window(store, LOG, 30, fetch_bodies=True, now_ms=_NOW)
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", 3)
    steps = prune(replica, plan(replica, LOG, _NOW), _NOW)
    first = next(steps)
    steps.close()
    monkeypatch.undo()
    assert findings(replica) == []
    # What came to such a week since is not what the holder has.
    run = replica.begin_run(LOG)
    replica.write_run(run, [Draft(Kind.MESSAGE, text("late"), START_MS + 1, MessageId(bytes(16)))], _NOW)
    _say(replica, "the newest", 9)
    again = sum(prune(replica, plan(replica, LOG, _NOW), _NOW))
    assert first + again > 6
    left = _texts(replica)
    assert "late" in left
    assert "week 0 message 1" not in left
    assert findings(replica) == []


def test_a_failure_amid_a_step_leaves_everything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = _chat(store)
    before = log_root(refresh_digests(store, LOG)), store.heads(LOG), store.runs(LOG)

    def fail(*_: object) -> None:
        raise ArithmeticError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(replica, "refold_messages", fail)
        with pytest.raises(ArithmeticError):
            _prune(replica, force=True)
    assert (log_root(refresh_digests(store, LOG)), store.heads(LOG), store.runs(LOG)) == before
    assert store.pruned(LOG) == []
    assert findings(replica) == []


@pytest.mark.parametrize("seed", range(25))
def test_any_history_is_whole_after_any_pruning(seed: int) -> None:
    """Ranks, heads, runs, links, words and folds are those of what is left."""
    chance = random.Random(seed)
    replicas = [make_replica(MemoryStore(), index) for index in range(3)]
    make_log(replicas[0])
    for replica in replicas[1:]:
        join(replica, replicas[0].log(LOG).keys)
    said: list[EntryRow] = []
    for _ in range(60):
        replica = chance.choice(replicas)
        week = chance.randrange(10)
        if chance.random() < 0.4:
            giver = chance.choice(replicas)
            rows = giver.store.arrivals(LOG, 0, chance.randrange(1, 60))
            replica.receive(LOG, giver.sealed_of(LOG, rows, bodies=True), _NOW)
        elif said and chance.random() < 0.4:
            of = chance.choice(said).message.hex()
            kind = chance.choice([Kind.EDIT, Kind.ERASURE, Kind.REACTION, Kind.REPLY])
            body: bodies.Body = {
                Kind.EDIT: bodies.Edit(of=of, text="edited"),
                Kind.ERASURE: bodies.Erasure(of=of),
                Kind.REACTION: bodies.Reaction(of=of, emoji="+"),
                Kind.REPLY: bodies.Text(text="reply", to=(of,)),
            }[kind]
            _write(replica, kind, body, week)
        elif chance.random() < 0.3:
            run = replica.begin_run(LOG)
            for _ in range(2):
                lines = [chat_line(chance.randrange(8)) for _ in range(chance.randrange(1, 6))]
                replica.write_run(run, lines, START_MS + week * _WEEK_MS)
        else:
            said.append(_say(replica, f"words {chance.random()}", week))
    for replica in replicas:
        while replica.settle(LOG, _NOW):
            pass
        assert findings(replica) == []
        _prune(replica, chance.choice([7, 30, 60]), force=True)
        assert findings(replica) == []
        _say(replica, "goes on", 10)
        assert findings(replica) == []
        assert replica.store.holds_words(replica.words(checked=True))
    everything: list[EntryId] = sorted(
        {row.id for replica in replicas for row in replica.store.arrivals(LOG, 0, 1000)}
    )
    # What one dropped and others hold comes back once it is wanted.
    taker = replicas[0]
    set_window(taker.store, LOG, 0, fetch_bodies=True, now_ms=_NOW)
    for giver in replicas[1:]:
        taker.receive(LOG, giver.sealed_of(LOG, giver.store.arrivals(LOG, 0, 1000), bodies=True), _NOW)
    while taker.settle(LOG, _NOW):
        pass
    assert sorted(row.id for row in taker.store.arrivals(LOG, 0, 1000)) == everything
    assert findings(taker) == []

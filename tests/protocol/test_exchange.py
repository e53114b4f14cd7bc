"""Every message in every state and for each role; and the bytes and round trips that a session takes."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from mlog import limits
from mlog.log.entry import to_tail
from mlog.log.ids import EntryId
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.events import Ask, Committed, Fetch
from mlog.protocol.exchange import Exchange, _slices
from mlog.protocol.vector import encode_ranges
from tests.log.support import START_MS, device_keys, message

from .pair import (
    ROUND_TRIP_MS,
    Pair,
    Puppet,
    drafts,
    give,
    ids_of,
    pair_of_logs,
    replica,
    share,
    trust,
)

KINDS: tuple[type[Any], ...] = get_args(wire.Message)
ID = bytes(31) + b"\1"


def plain(kind: type[Any], tag: bytes = bytes(6)) -> Any:
    """A message of this kind that is well formed, about a log with this tag."""
    match kind.__name__:
        case "Hello":
            return wire.Hello(1, 0, START_MS)
        case "Offer":
            return wire.Offer(1, b"")
        case "Answer":
            return wire.Answer(1, b"\0")
        case "Have":
            return wire.Have(tag, b"")
        case "Want":
            return wire.Want(1, tag)
        case "Entries":
            return wire.Entries(1, tag, ())
        case "Ack":
            return wire.Ack(1)
        case "Done":
            return wire.Done(1)
        case "Receipt":
            return wire.Receipt(1, START_MS, START_MS, bytes(64))
        case "Grant":
            return wire.Grant(b"")
        case "Again":
            return wire.Again()
        case "AskWeeks":
            return wire.AskWeeks(tag, 0, 1)
        case "Weeks":
            return wire.Weeks(tag, 1, 0, b"")
        case "AskCells":
            return wire.AskCells(tag, 1, b"\0\1", 0, 1)
        case "Cells":
            return wire.Cells(tag, 1, 0, 0, b"")
        case "AskIds":
            return wire.AskIds(tag, 0, bytes(32))
        case "Ids":
            return wire.Ids(tag, 0, bytes(32), b"", more=False)
        case "Query":
            return wire.Query(1, tag, 0, bytes(32), 8191, 10)
        case "AskCarried":
            return wire.AskCarried(tag, 0, bytes(32), bytes(32))
        case "Same":
            return wire.Same(tag)
        case "Parting":
            return wire.Parting(tag, ())
        case "Parted":
            return wire.Parted(tag)
        case _:
            assert kind is wire.Page
            return wire.Page(1, 0, bytes(32), True, b"", ())


def puppet(*, leads: bool) -> tuple[Puppet, bytes]:
    """A peer of a node that holds one log, greeted and at rest; and the log's tag."""
    real = replica(0)
    log = real.create_log(LogKind.CONVERSATION, drafts("one", "two"), START_MS)
    made = Puppet(real, leads=leads).greet()
    link = made.session._link
    assert link is not None
    tag = link.tag_of(real.log(log).keys.topic)
    if not leads:
        made.say(wire.Answer(made.take(wire.Offer).serial, b"\1"))
    assert not made.closed
    return made, tag


def test_the_table_names_every_message_once():
    assert set(Exchange._HANDLERS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leads", [True, False], ids=["to the follower", "to the leader"])
def test_a_message_that_is_not_for_this_side_closes_the_session(kind: type[Any], leads: bool):
    made, tag = puppet(leads=leads)
    for_leader, for_follower = Exchange._HANDLERS[kind]
    taken = for_follower if leads else for_leader
    made.say(plain(kind, tag))
    if taken is None:
        assert made.closed == [f"{kind.__name__} is not for this side of a session"]
    else:
        assert f"{kind.__name__} is not for this side of a session" not in made.closed


# What is for this side and closes the session all the same, since nothing of the kind is due.
OUT_OF_TURN = {
    True: {"Hello", "Ack", "Done", "Receipt", "Grant", "Page"},
    False: {"Hello", "Answer", "Ack", "Done", "Receipt", "Grant", "Weeks", "Cells", "Ids", "Same", "Page"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leads", [True, False], ids=["to the follower", "to the leader"])
def test_a_message_for_this_side_is_taken_only_when_it_is_due(kind: type[Any], leads: bool):
    for_leader, for_follower = Exchange._HANDLERS[kind]
    if (for_follower if leads else for_leader) is None:
        return
    made, tag = puppet(leads=leads)
    made.say(plain(kind, tag))
    assert bool(made.closed) == (kind.__name__ in OUT_OF_TURN[leads])
    if not made.closed:
        # It still works afterwards.
        assert made.say(wire.Query(77, tag, 0, bytes(32), 8191, 10))[-1].request == 77  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not wire.Hello], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("leads", [True, False])
def test_nothing_comes_before_the_greeting(kind: type[Any], leads: bool):
    made = Puppet(replica(0), leads=leads)
    made.say(plain(kind))
    assert made.closed == ["a greeting comes first, and once"]


@pytest.mark.parametrize("version", [1, 2, 1000])
def test_a_later_version_is_spoken_to_as_this_one(version: int):
    made = Puppet(replica(0), leads=True)
    made.say(wire.Hello(version, 2**40 - 2, START_MS))
    assert not made.closed
    assert made.session.greeted


def test_an_earlier_version_is_refused():
    made = Puppet(replica(0), leads=True)
    made.say(wire.Hello(0, 0, START_MS))
    assert made.closed == ["it speaks version 0 of the protocol, we 1"]


# -- questions of a leader -------------------------------------------------------------------


def test_an_offer_that_names_a_log_twice_or_half_closes_the_session():
    for logs, scopes in [
        (bytes(38) * 2, ()),
        (bytes(37), ()),
        (bytes(38), (wire.Scoped(1, 0, True),)),
        (b"", (wire.Scoped(0, 0, True),)),
    ]:
        made, _ = puppet(leads=True)
        made.say(wire.Offer(1, logs, scopes))
        assert made.closed == ["an offer that names a log twice, or none"]


def test_logs_that_are_not_held_are_neither_equal_nor_different():
    made, tag = puppet(leads=True)
    answer, *_ = made.say(wire.Offer(5, b"unknow" + bytes(32) + tag + bytes(32), (), True))
    assert isinstance(answer, wire.Answer)
    assert (answer.serial, answer.equal) == (5, b"\0")
    assert [differs.index for differs in answer.differs] == [1]


@pytest.mark.parametrize(
    "question",
    [
        lambda tag: wire.AskWeeks(b"unknow", 0, 1),
        lambda tag: wire.AskIds(b"unknow", 0, bytes(32)),
        lambda tag: wire.AskCells(b"unknow", 1, b"\0\1", 0, 1),
        lambda tag: wire.AskCells(tag, 1, b"\0\1", 1, 1),
        lambda tag: wire.AskCells(tag, 1, b"\0\1", 0, 2**18 + 1),
        lambda tag: wire.AskCells(tag, 1, b"\0\1", 0, limits.ASKED_CELLS_MAX + 1),
        lambda tag: wire.AskCells(tag, 1, b"\0", 0, 1),
        lambda tag: wire.AskCells(tag, 1, b"\0\1\0\1", 0, 1),
        lambda tag: wire.AskCells(tag, 1, b"\x20\0", 0, 1),
        lambda tag: wire.AskCells(tag, 1, b"", 0, 1),
        lambda tag: wire.Want(1, tag, chains=b"x"),
        lambda tag: wire.Want(1, tag, ids=b"x"),
        lambda tag: wire.Want(1, tag, ids=bytes(32 * (limits.WANTED_IDS_MAX + 1))),
        lambda tag: wire.Want(1, tag, shorts=bytes(7)),
        lambda tag: wire.Have(tag, b"x"),
        lambda tag: wire.Entries(1, b"unknow", ()),
    ],
)
def test_a_question_that_cannot_be_answered_closes_the_session(question: Any):
    made, tag = puppet(leads=True)
    made.say(question(tag))
    assert len(made.closed) == 1


def test_short_ids_out_of_order_close_the_session():
    made, tag = puppet(leads=True)
    made.say(wire.AskCells(tag, 1, START_WEEK, 0, 8))
    made.say(wire.Want(1, tag, shorts=bytes(6) + b"\2" + bytes(6) + b"\1"))
    assert made.closed == ["short ids: short ids are not in ascending order"]


START_WEEK = (1245).to_bytes(2, "big")


def test_cells_go_on_where_they_ended_and_only_of_the_last_attempt():
    made, tag = puppet(leads=True)
    whole = made.say(wire.AskCells(tag, 1, START_WEEK, 0, 8))[-1]
    made.say(wire.AskCells(tag, 2, START_WEEK, 0, 4))
    rest = made.say(wire.AskCells(tag, 2, b"", 4, 8))[-1]
    assert isinstance(whole, wire.Cells)
    assert isinstance(rest, wire.Cells)
    assert (len(whole.cells), len(rest.cells), rest.count) == (72, 36, 3)
    # Another attempt has another key: the same ids give other cells.
    assert whole.cells[36:] != rest.cells
    made.say(wire.AskCells(tag, 1, b"", 8, 16))
    assert made.closed == ["cells of a sketch that was not begun"]


# -- asking for entries ----------------------------------------------------------------------


def test_what_is_wanted_and_not_here_is_counted():
    made, tag = puppet(leads=True)
    said = made.say(wire.Want(9, tag, ids=ID + bytes(31) + b"\2"))
    assert said == [wire.Done(9, 2)]


def test_what_is_wanted_of_a_log_that_is_not_here_is_counted_too():
    made, _ = puppet(leads=True)
    assert made.say(wire.Want(9, b"unknow", ids=ID)) == [wire.Done(9, 1)]
    (page,) = made.say(wire.Query(3, b"unknow", 0, bytes(32), 8191, 10))
    assert isinstance(page, wire.Page)
    assert (page.request, page.end, page.entries) == (3, True, ())


def test_a_request_for_more_than_there_can_be_is_answered_all_the_same():
    made, tag = puppet(leads=True)
    tags = [n.to_bytes(6, "big") for n in range(1, 20)]
    ranges = encode_ranges(dict.fromkeys(tags, ((1, limits.SEQ_MAX),)))
    assert made.say(wire.Want(9, tag, chains=ranges)) == [wire.Done(9, limits.SEQ_MAX)]


def test_done_comes_after_the_last_acknowledgement():
    made, tag = puppet(leads=True)
    ids = b"".join(sorted(ids_of(made.replica.store)))
    (bundle,) = made.say(wire.Want(4, tag, ids=ids))
    assert isinstance(bundle, wire.Entries)
    assert len(bundle.entries) == 3
    assert made.say(wire.Ack(bundle.serial, 1)) == [wire.Done(4, 1)]
    assert [n.count for n in made.notices if n.what == "refused"] == [1]


def test_entries_that_are_none_are_refused_one_by_one_and_the_rest_is_kept():
    made, tag = puppet(leads=True)
    other = replica(1)
    share(made.replica, other, 1)
    (row,) = other.write(1, drafts("good"), START_MS)
    (good,) = other.sealed_of(1, [row], bodies=True)
    said = made.say(
        wire.Entries(
            1,
            tag,
            (
                wire.Packed(b"", None, None),
                wire.Packed(bytes(200), b"body", None),
                wire.Packed(to_tail(good), good.body, good.signature),
                wire.Packed(to_tail(good), good.body, good.signature),
                wire.Packed(b"\xff" + bytes(300), None, None),
            ),
        )
    )
    assert said[0] == wire.Ack(1, 3)
    # Of one entry two parts are refused: it counts once.
    tail = to_tail(msgspec.structs.replace(good, body=None))
    (ack,) = made.say(wire.Entries(2, tag, (wire.Packed(tail, None, b"short"),)))
    assert ack == wire.Ack(2, 1)
    assert row.id in ids_of(made.replica.store)
    assert not made.closed


def test_fetching_many_parts_asks_in_requests_of_a_bounded_size():
    pair = pair_of_logs()
    rows = pair.a.replica.write(1, drafts(*map(str, range(900))), START_MS)
    rows += pair.a.replica.write(1, drafts(*map(str, range(900))), START_MS)
    give(pair.a.replica, pair.b.replica, 1)
    pair.connect()
    pair.run()
    pair.handle(pair.b, Fetch(1, tuple(row.id for row in rows)))
    pair.run()
    assert [len(want.ids) // 32 for want in pair.b.said(wire.Want)] == [1000, 800]
    assert not [*pair.a.closed, *pair.b.closed]
    assert pair.b.node.idle


def test_a_missing_body_is_asked_for_at_the_next_meeting():
    pair = pair_of_logs()
    pair.b.store.set_window(1, 0, fetch_bodies=False)
    rows = pair.a.replica.write(1, drafts("without"), START_MS)
    pair.connect()
    pair.run()
    assert pair.b.store.find(1, [rows[0].id])[rows[0].id].body is None
    pair.handle(pair.b, Fetch(1, (rows[0].id,)))
    pair.run()
    assert pair.b.store.find(1, [rows[0].id])[rows[0].id].body is not None


# -- round trips and bytes -------------------------------------------------------------------


def cost_of_nothing(logs: int) -> tuple[int, int]:
    pair = pair_of_logs(logs)
    pair.connect()
    # A round trip for the handshake, one for offer and answer, half of one for the leader's receipt.
    pair.run(2 * ROUND_TRIP_MS + ROUND_TRIP_MS // 2)
    assert len(pair.a.told("equal")) == logs
    assert pair.a.told("equal")[0].round_trips == 1
    assert len(pair.a.store.receipts()) == len(pair.b.store.receipts()) == logs
    spent = pair.a.bytes + pair.b.bytes
    pair.run()
    assert pair.a.bytes + pair.b.bytes == spent
    return spent, pair.a.frames + pair.b.frames


def test_nothing_differs_costs_one_round_trip_and_at_most_48_bytes_for_each_log():
    one, frames = cost_of_nothing(1)
    many, frames_of_many = cost_of_nothing(101)
    assert (many - one) / 100 <= 48
    assert frames == frames_of_many
    # All that does not depend on the number of logs, receipts and greetings included.
    assert one <= 500


def test_a_live_message_takes_half_a_round_trip_and_few_bytes_besides_itself():
    pair = pair_of_logs()
    pair.connect()
    pair.run()
    before = pair.a.bytes, pair.b.bytes
    (row,) = pair.write(pair.a, 1, "x" * 20)
    pair.run(ROUND_TRIP_MS // 2)
    assert row.id in ids_of(pair.b.store)
    pair.run()
    size = len(row.outer) + 48 + 80
    assert pair.a.bytes - before[0] <= size + 30
    assert pair.b.bytes - before[1] <= 30


# -- logs that begin while connected, questions ----------------------------------------------


def test_both_sides_ask_and_answer_queries():
    pair = pair_of_logs()
    pair.connect()
    pair.run()
    for number, end in enumerate(pair.ends):
        ask = Ask(
            number=number,
            device=pair.other(end).replica.device_id,
            log=1,
            first_week=0,
            last_week=8191,
            limit=100,
        )
        pair.handle(end, ask)
        pair.run()
        assert [page.number for page in end.pages] == [number]
        assert end.pages[0].end
        assert {entry.id for entry in end.pages[0].entries} == ids_of(end.store)
        assert [digest.entries for digest in end.pages[0].proven] == [len(ids_of(end.store))]


def test_a_question_about_a_log_that_is_not_here_is_answered_with_an_error():
    pair = pair_of_logs()
    pair.connect()
    pair.run()
    ask = Ask(number=1, device=pair.b.replica.device_id, log=9, first_week=0, last_week=1, limit=1)
    pair.handle(pair.a, ask)
    assert [page.error for page in pair.a.pages] == ["the log is not shared"]


def test_two_processes_that_write_to_one_home_are_both_heard():
    pair = pair_of_logs()
    pair.connect()
    pair.run()
    second = replica(0, pair.a.store, seed="another process")
    for number in range(5):
        second.write(1, [message(f"second {number}")], pair.now_ms)
        pair.write(pair.a, 1, f"first {number}")
    pair.handle(pair.a, Committed())
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)


def test_a_log_of_which_the_peer_knows_nothing_is_not_asked_about():
    a, b = replica(0), replica(1)
    trust(a, b)
    log = a.create_log(LogKind.CONVERSATION, drafts("mine alone"), START_MS)
    share(a, b, a.create_log(LogKind.CONVERSATION, drafts("shared"), START_MS))
    # Something of the unshared log is missing here.
    with a.store.transaction():
        a.store.change_absent(log, [(EntryId(b"x" * 32), 1)], [])
    pair = Pair(a, b)
    pair.connect()
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    assert not pair.a.said(wire.Want)


def test_messages_are_never_changed_on_their_way():
    pair = pair_of_logs(3)
    pair.a.replica.write(1, drafts("one"), START_MS)
    pair.connect()
    pair.run()
    for end in pair.ends:
        for said in end.sent:
            assert wire.decode(wire.encode(said)) == said
            assert msgspec.msgpack.decode(wire.encode(said))[0] == type(said).__struct_config__.tag


@pytest.mark.parametrize("leads", [True, False])
def test_a_signature_that_comes_late_goes_on_to_the_other_sessions(leads: bool):
    author, middle = replica(1), replica(0)
    log = middle.create_log(LogKind.CONVERSATION, drafts("one"), START_MS)
    share(middle, author, log)
    give(middle, author, log)
    (row,) = author.write(log, drafts("unsigned at first"), START_MS)
    (sealed,) = author.sealed_of(log, [row], bodies=True)
    middle.receive(log, [msgspec.structs.replace(sealed, signature=None)], START_MS)
    assert [r.id for r in middle.store.scan_unopened(log, 0, 10)] == [row.id]
    one = Puppet(middle, device_keys(3), leads=True).greet()
    other = Puppet(middle, device_keys(2), leads=leads, beside=one).greet()
    for each in (one, other):
        link = each.session._link
        assert link is not None
        (tag,) = link.shared()
        if each.session.leads:
            each.say(wire.Answer(each.take(wire.Offer).serial, b"\1"))
        else:
            each.say(wire.Offer(1, tag + bytes(32)))
    link = one.session._link
    assert link is not None
    heard = len(other.heard)
    packed = wire.Packed(to_tail(sealed), sealed.body, sealed.signature)
    one.say(wire.Entries(1, link.tag_of(middle.log(log).keys.topic), (packed,)))
    assert middle.store.scan_unopened(log, 0, 10) == []
    (bundle,) = [said for said in other.heard[heard:] if isinstance(said, wire.Entries)]
    (passed,) = bundle.entries
    assert (passed.signature, passed.body) == (sealed.signature, None)
    # Nothing goes back to where it came from, and what is known already goes no further.
    assert not any(isinstance(said, wire.Entries) for said in one.heard)
    other.say(wire.Ack(bundle.serial))
    heard = len(other.heard)
    one.say(wire.Entries(2, link.tag_of(middle.log(log).keys.topic), (packed,)))
    assert not any(isinstance(said, wire.Entries) for said in other.heard[heard:])
    assert not [*one.closed, *other.closed]


@pytest.mark.parametrize(
    ("signed", "sizes"),
    [
        # A bundle as an import makes it: apart from its last one nothing could be read before that came.
        ({0, 500, 999}, [1000]),
        # Each with its own: as many as may be, and what comes behind a signature with the next one.
        (set(range(1000)), [123] * 8 + [16]),
        (set(range(0, 1000, 2)), [219, 220, 220, 220, 121]),
        (set(range(0, 220, 2)), [219, 781]),
    ],
)
def test_bundles_are_stored_in_parts_that_end_with_a_signature(signed: set[int], sizes: list[int]):
    entries = [wire.Packed(bytes(182), bytes(144), bytes(80) if at in signed else None) for at in range(1000)]
    parts = list(_slices(entries, 1))
    assert [len(part) for part in parts] == sizes
    assert [entry for part in parts for entry in part] == entries

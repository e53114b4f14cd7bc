"""The follower: each question is answered by itself, whatever was asked before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.log.ids import EntryId
from mlog.log.merkle import refresh_digests
from mlog.log.replica import Replica
from mlog.log.scope import bodies_root, entries_root
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.marks import encode_marks, mark_key, marks_of
from mlog.protocol.sketch import encode_short_ids
from mlog.protocol.sketching import decode_weeks, encode_weeks
from mlog.protocol.vector import Held, chain_tag, decode_vector, encode_vector
from tests.log.support import START_MS

from .pair import WEEK_MS, Puppet, drafts, ids_of, replica

LOG = 1


class Questioner(Puppet):
    """A leader that is moved by hand, and shares one log with the real follower."""

    def __init__(self, real: Replica | None = None):
        if real is None:
            real = replica(0)
            real.create_log(LogKind.CONVERSATION, drafts("one", "two", "three"), START_MS)
        super().__init__(real, leads=True)
        self.greet()
        link = self.session._link
        assert link is not None
        (self.tag,) = link.shared()
        self.serial = 0

    def roots(self, first_week: int = 0) -> bytes:
        digests = refresh_digests(self.replica.store, LOG)
        return entries_root(digests, first_week)[:16] + bodies_root(digests, first_week)[:16]

    def offer(
        self, roots: bytes, *scopes: wire.Scoped, partial: bool = False
    ) -> tuple[wire.Answer, list[wire.Message]]:
        self.serial += 1
        answer, *more = self.say(wire.Offer(self.serial, self.tag + roots, scopes, partial))
        assert isinstance(answer, wire.Answer)
        assert answer.serial == self.serial
        return answer, more


def test_a_log_with_the_same_roots_is_equal_and_signed_for():
    questioner = Questioner()
    answer, more = questioner.offer(questioner.roots())
    assert (answer.equal, answer.differs) == (b"\1", ())
    assert [type(message) for message in more] == [wire.Receipt]


@pytest.mark.parametrize("changed", [0, 15, 16, 31])
def test_a_root_that_differs_in_one_byte_is_told_with_what_is_held(changed: int):
    questioner = Questioner()
    roots = bytearray(questioner.roots())
    roots[changed] ^= 1
    answer, more = questioner.offer(bytes(roots))
    assert answer.equal == b"\0"
    (differs,) = answer.differs
    assert (differs.index, differs.first_week, differs.bodies) == (0, 0, True)
    assert differs.entries_root + differs.bodies_root == questioner.roots()
    replica = questioner.replica
    tag = chain_tag(questioner.binding, replica.device_id, replica.incarnation)
    assert differs.vector is not None
    assert decode_vector(differs.vector) == {tag: Held(0, ((0, 3),))}
    assert more == []


def test_a_scope_that_is_narrower_here_is_told_though_the_roots_would_be_equal():
    questioner = Questioner()
    store = questioner.replica.store
    store.set_window(LOG, 30, fetch_bodies=True)
    answer, _ = questioner.offer(questioner.roots())
    (differs,) = answer.differs
    first_week = differs.first_week
    assert first_week > 0
    answer, _ = questioner.offer(questioner.roots(first_week), wire.Scoped(0, first_week, True))
    assert answer.equal == b"\1"


@pytest.mark.parametrize(("asked", "kept"), [(True, False), (False, True), (False, False)])
def test_bodies_count_only_where_both_sides_want_them(asked: bool, kept: bool):
    questioner = Questioner()
    questioner.replica.store.set_window(LOG, 0, fetch_bodies=kept)
    other_bodies = questioner.roots()[:16] + bytes(16)
    answer, _ = questioner.offer(other_bodies, wire.Scoped(0, 0, asked))
    if asked:
        assert answer.equal == b"\0"
        assert answer.differs[0].bodies is False
    else:
        assert answer.equal == b"\1"


def test_a_partial_offer_says_nothing_about_other_logs(monkeypatch: pytest.MonkeyPatch):
    questioner = Questioner()
    granted: list[object] = []
    exchange = questioner.session.exchange
    assert exchange is not None
    assert exchange._follower is not None
    monkeypatch.setattr(exchange._follower, "_unknown", lambda named, _: granted.append(named))
    questioner.offer(questioner.roots(), partial=True)
    assert granted == []
    questioner.offer(questioner.roots())
    assert granted == [{questioner.tag}]


def test_segments_are_those_from_a_week_on():
    real = replica(0)
    real.create_log(LogKind.CONVERSATION, [], START_MS)
    for week in range(3):
        at_ms = START_MS + week * WEEK_MS
        real.write(LOG, drafts("a", time_ms=at_ms), at_ms)
    questioner = Questioner(real)
    digests = refresh_digests(real.store, LOG)
    for first in (0, digests[1].week, digests[-1].week + 1):
        (weeks,) = questioner.say(wire.AskWeeks(questioner.tag, first, 5))
        chosen = [digest for digest in digests if digest.week >= first]
        marks = encode_marks(marks_of(mark_key(questioner.binding, 5), chosen))
        assert weeks == wire.Weeks(questioner.tag, 5, sum(digest.entries for digest in chosen), marks)


def test_ids_come_in_order_and_in_pages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "WANTED_IDS_MAX", 3)
    questioner = Questioner()
    week = refresh_digests(questioner.replica.store, LOG)[0].week
    ids = sorted(ids_of(questioner.replica.store))
    (first,) = questioner.say(wire.AskIds(questioner.tag, week, bytes(32)))
    assert first == wire.Ids(questioner.tag, week, bytes(32), b"".join(ids[:3]), more=True)
    (second,) = questioner.say(wire.AskIds(questioner.tag, week, ids[2]))
    assert second == wire.Ids(questioner.tag, week, ids[2], ids[3], more=False)
    (none,) = questioner.say(wire.AskIds(questioner.tag, week, b"\xff" * 32))
    assert none == wire.Ids(questioner.tag, week, b"\xff" * 32, b"", more=False)
    (other,) = questioner.say(wire.AskIds(questioner.tag, 5, bytes(32)))
    assert other == wire.Ids(questioner.tag, 5, bytes(32), b"", more=False)


def test_a_full_page_of_ids_without_more_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "WANTED_IDS_MAX", 4)
    questioner = Questioner()
    week = refresh_digests(questioner.replica.store, LOG)[0].week
    (ids,) = questioner.say(wire.AskIds(questioner.tag, week, bytes(32)))
    assert isinstance(ids, wire.Ids)
    assert len(ids.ids) == 4 * 32
    assert not ids.more


def test_what_the_leader_holds_is_heard_of_until_it_has_come():
    questioner = Questioner()
    real = questioner.replica
    tag = chain_tag(questioner.binding, real.device_id, real.incarnation)
    vector = encode_vector({tag: Held(0, ((0, 40),)), b"unknow": Held(0, ((0, 5),))})
    assert questioner.say(wire.Have(questioner.tag, vector)) == []
    (heard,) = real.store.heard(LOG)
    assert (heard.device, heard.seq, heard.by) == (real.device_id, 40, questioner.keys.id)
    # Of less than is here nothing is noted.
    questioner.say(wire.Have(questioner.tag, encode_vector({tag: Held(0, ((0, 1),))})))
    assert [row.seq for row in real.store.heard(LOG)] == [40]


def test_what_a_log_that_is_not_here_holds_is_ignored():
    questioner = Questioner()
    assert questioner.say(wire.Have(b"unknow", b"not even a vector")) == []
    assert not questioner.closed


def test_cells_are_of_the_weeks_that_were_asked_for():
    questioner = Questioner()
    week = refresh_digests(questioner.replica.store, LOG)[0].week
    asked = wire.AskCells(questioner.tag, 1, encode_weeks([week]), 0, 8)
    (cells,) = questioner.say(asked)
    assert isinstance(cells, wire.Cells)
    assert cells.count == 4
    (none,) = questioner.say(msgspec.structs.replace(asked, attempt=2, weeks=encode_weeks([week + 1])))
    assert isinstance(none, wire.Cells)
    assert (none.count, none.cells) == (0, bytes(72))


@pytest.mark.parametrize("weeks", [[0], [5, 6, 8191], list(range(100))])
def test_weeks_come_back(weeks: list[int]):
    assert decode_weeks(encode_weeks(weeks[::-1])) == tuple(weeks)


def test_entries_are_found_by_their_short_ids():
    questioner = Questioner()
    week = refresh_digests(questioner.replica.store, LOG)[0].week
    questioner.say(wire.AskCells(questioner.tag, 1, encode_weeks([week]), 0, 8))
    exchange: Any = questioner.session.exchange
    ids = sorted(ids_of(questioner.replica.store))
    sketcher = exchange._follower._sketched[LOG].sketcher
    shorts = sketcher._short(b"".join(ids)).tolist()
    said = questioner.say(wire.Want(1, questioner.tag, shorts=encode_short_ids(shorts[:2])))
    (bundle,) = said
    assert isinstance(bundle, wire.Entries)
    assert len(bundle.entries) == 2
    done = questioner.say(wire.Ack(bundle.serial))
    assert done == [wire.Done(1, 0)]


def test_a_question_is_answered_with_what_is_here_now():
    questioner = Questioner()
    before = questioner.roots()
    questioner.replica.write(LOG, drafts("meanwhile"), START_MS)
    answer, _ = questioner.offer(before)
    assert answer.equal == b"\0"
    assert questioner.offer(questioner.roots())[0].equal == b"\1"


def test_the_same_question_twice_has_the_same_answer():
    questioner = Questioner()
    one = questioner.say(wire.AskWeeks(questioner.tag, 0, 1))
    assert questioner.say(wire.AskWeeks(questioner.tag, 0, 1)) == one
    wanted = wire.Want(1, questioner.tag, ids=EntryId(b"x" * 32))
    assert questioner.say(wanted) == questioner.say(wanted) == [wire.Done(1, 1)]

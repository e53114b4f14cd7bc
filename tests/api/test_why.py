"""Why: what one entry rests on is checked again for the answer, and what is not here is explained too."""

from __future__ import annotations

import msgspec
import pytest

from mlog.api.home import Home
from mlog.api.repair import Certainty
from mlog.api.why import Explanation, Shown, explain
from mlog.errors import UserError
from mlog.log.bodies import Kind, Text
from mlog.log.memory import MemoryStore
from mlog.log.replica import Draft
from mlog.log.store import EntryRow, GapRow, Reason
from tests.api.conftest import Clock, read
from tests.api.peers import Peer
from tests.api.test_repair import elsewhere
from tests.log.support import LOG, join, make_replica


@pytest.fixture
def tea(opened: Home) -> int:
    n = opened.new("tea").n
    for text in ("green", "black", "mint"):
        opened.send(n, text)
    return n


def row_of(home: Home, log: int, text: str) -> EntryRow:
    [message] = [m for m in home.messages(log) if m.text == text]
    return home.store.find(log, [message.id])[message.id]


def why(home: Home, log: int, text: str) -> Explanation:
    return explain(home, row_of(home, log, text).id.hex())


def change(home: Home, row: EntryRow, **columns: object) -> None:
    with home.store.transaction():
        home.store.update([msgspec.structs.replace(row, **columns)], [], [], [])


def test_an_entry_of_ones_own_is_authentic_by_its_own_signature(opened: Home, tea: int):
    found = why(opened, tea, "black")
    row = row_of(opened, tea, "black")
    assert found.here
    assert found.written_here
    assert (found.author, found.claimed) == ("ann", False)
    assert (found.vouching.by, found.vouching.links) == (row.id, 0)
    assert (found.seq, found.time_ms, found.week, found.arrival) == (row.seq, row.time_ms, row.week, row.n)
    assert (found.shown, found.damage) == (Shown.SHOWN, "")


def test_an_imported_entry_rests_on_the_next_signature_of_its_chain(opened: Home, tea: int):
    lines = "".join(f"[2024-05-01 10:00:{second:02}] <ada> line {second}\n" for second in range(10))
    read(opened, lines, into=tea)
    first, last = row_of(opened, tea, "line 1"), row_of(opened, tea, "line 9")
    assert first.signature is None
    found = explain(opened, first.id.hex())
    assert (found.vouching.by, found.vouching.links) == (last.id, last.seq - first.seq)
    assert (found.author, found.claimed) == ("ada", True)


def test_a_signature_that_is_not_valid_vouches_for_nothing(opened: Home, tea: int):
    row = row_of(opened, tea, "mint")
    other = row_of(opened, tea, "green")
    change(opened, row, signature=other.signature)
    found = explain(opened, row.id.hex())
    assert found.vouching.by == b""
    assert "not valid" in found.vouching.detail


def test_a_later_signature_still_vouches_where_the_own_one_is_damaged(opened: Home, tea: int):
    row = row_of(opened, tea, "green")
    change(opened, row, signature=bytes(80))
    found = explain(opened, row.id.hex())
    assert (found.vouching.by, found.vouching.links) == (row_of(opened, tea, "black").id, 1)


def test_the_place_of_an_entry_is_its_own_time_or_behind_what_it_names(opened: Home, tea: int, clock: Clock):
    clock.ms += 10_000
    opened.send(tea, "in time")
    assert why(opened, tea, "in time").pushed_by == b""
    clock.ms -= 5_000
    before = row_of(opened, tea, "in time")
    opened.send(tea, "from a slow clock")
    found = why(opened, tea, "from a slow clock")
    assert found.pushed_by == before.id
    assert found.before == before.id
    assert found.after == b""
    assert found.parents == (before.id,)


def test_an_edited_message_names_the_edit(opened: Home, tea: int):
    message = next(m for m in opened.messages(tea) if m.text == "green")
    edit = opened.edit(message, "green tea")
    found = explain(opened, message.id.hex())
    assert (found.shown, found.by) == (Shown.EDITED, edit)
    assert explain(opened, edit.hex()).shown == Shown.CONTROL


def test_an_erased_message_names_the_erasure(opened: Home, tea: int):
    message = next(m for m in opened.messages(tea) if m.text == "green")
    erasure = opened.erase(message)
    found = explain(opened, message.id.hex())
    assert (found.shown, found.by) == (Shown.ERASED, erasure)


def test_a_message_that_two_imports_brought_names_the_one_that_stands_for_it(opened: Home, tea: int):
    read(opened, "[2024-05-01 10:00:00] <ada> who sails?\n", into=tea)
    first = row_of(opened, tea, "who sails?")
    replica = make_replica(MemoryStore(), 5)
    join(replica, opened.replica.log(tea).keys)
    said = Draft(Kind.MESSAGE, Text(text="who sails?", by="ada", at=1), first.time_ms, first.mid)
    [other] = replica.write_run(replica.begin_run(LOG), [said], opened.now_ms()).rows
    opened.replica.receive(tea, replica.sealed_of(LOG, [other], bodies=True), opened.now_ms())
    shown, hidden = sorted([first.id, other.id])
    found = explain(opened, hidden.hex())
    assert (found.shown, found.by) == (Shown.HIDDEN, shown)
    assert explain(opened, shown.hex()).shown == Shown.SHOWN


def test_damage_is_said(opened: Home, tea: int):
    row = row_of(opened, tea, "black")
    change(opened, row, body=b'{"text":"blacK"}')
    found = explain(opened, row.id.hex())
    assert "does not match its hash" in found.damage


def test_an_entry_whose_bytes_are_damaged_says_only_that(opened: Home, tea: int):
    row = row_of(opened, tea, "black")
    change(opened, row, outer=row.outer[:-1] + bytes([row.outer[-1] ^ 1]))
    found = explain(opened, row.id.hex())
    assert (found.here, found.device, found.shown) == (True, b"", Shown.NOT_READ)
    assert found.damage
    assert found.vouching.detail == found.damage


def test_an_entry_that_nothing_vouches_for_says_what_it_waits_for(opened: Home, tea: int):
    [sealed] = elsewhere(opened, tea, 1)
    opened.replica.receive(tea, [msgspec.structs.replace(sealed, signature=None)], opened.now_ms())
    found = explain(opened, sealed.id.hex())
    assert (found.here, found.shown, found.vouching.by) == (True, Shown.NOT_READ, b"")
    assert "no signature of its author vouches for it yet" in found.vouching.detail
    assert found.absences[0].reason == Reason.WAITING


def test_a_device_that_signed_for_the_entry_is_named(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    opened.send(tea, "late")
    [holder] = why(opened, tea, "black").holders
    assert (holder.name, holder.certainty) == ("phone", Certainty.SIGNED)
    assert why(opened, tea, "late").holders == ()


def test_both_branches_of_a_fork_say_so(opened: Home, tea: int):
    one, two = elsewhere(opened, tea, 1), elsewhere(opened, tea, 1, word="else")
    opened.replica.receive(tea, [*one, *two], opened.now_ms())
    for sealed in (*one, *two):
        fork = explain(opened, sealed.id.hex()).fork
        assert fork is not None
        assert {fork.one, fork.other} == {one[0].id, two[0].id}
    assert why(opened, tea, "green").fork is None


# -- what is not here ------------------------------------------------------------------------


def test_an_absent_parent_is_explained_by_the_start_of_its_id(opened: Home, tea: int):
    [parent] = elsewhere(opened, tea, 1)
    [child] = elsewhere(opened, tea, 1, 6, [parent])
    opened.replica.receive(tea, [child], opened.now_ms())
    found = explain(opened, parent.id.hex()[:10])
    assert (found.here, found.id) == (False, parent.id)
    assert found.absences[0].named_by == child.id
    assert explain(opened, child.id.hex()).absent_parents == (parent.id,)


def test_a_number_of_a_chain_is_explained_whether_it_is_here_or_not(opened: Home, tea: int):
    first, _, third = elsewhere(opened, tea, 3)
    opened.replica.receive(tea, [first, third], opened.now_ms())
    header = explain(opened, third.id.hex())
    device = header.device.hex()[:12]
    assert explain(opened, f"{device}:2").id == third.id
    found = explain(opened, f"{device}:1")
    assert (found.here, found.seq, found.device) == (False, 1, header.device)
    assert found.absences[0].named_by == third.id
    with pytest.raises(UserError, match="nothing here tells of an entry 9"):
        explain(opened, f"{device}:9")


def test_what_a_device_told_of_is_explained_by_its_name(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    [chain] = opened.store.chains(tea)
    phone.tell(tea, chain.seq + 2)
    found = explain(opened, f"{chain.device.hex()}:{chain.seq + 1}", tea)
    assert not found.here
    assert [holder.certainty for holder in found.holders] == [Certainty.TOLD]


def test_a_number_in_several_logs_is_refused_with_a_list(opened: Home, tea: int):
    opened.new("coffee")
    device = opened.replica.device_id.hex()
    with pytest.raises(UserError, match="say in which one, with --in") as refused:
        explain(opened, f"{device}:0")
    assert "tea" in str(refused.value)
    assert explain(opened, f"{device}:0", tea).log == tea


def test_nothing_known_is_refused_as_an_unknown_entry_or_device(opened: Home, tea: int):
    with pytest.raises(UserError, match="no entry"):
        explain(opened, "0123456789abcdef")
    with pytest.raises(UserError, match="no device 'nobody' is known here"):
        explain(opened, "nobody:3")


def test_a_lost_entry_is_explained_by_its_gap(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    lost = bytes(range(32))
    gap = GapRow(tea, lost, "entry", Reason.LOST, 0, 0, 0, opened.now_ms(), "it was here")
    with opened.store.transaction():
        opened.store.change_gaps(tea, [gap], ())
    found = explain(opened, lost.hex()[:8])
    assert (found.here, found.absences[0].detail) == (False, "it was here")


def test_a_log_that_is_kept_for_others_is_not_read(opened: Home, tea: int):
    [sealed] = opened.replica.sealed_of(tea, [row_of(opened, tea, "black")], bodies=True)
    with Home(opened.path.with_name("host"), person="bo", clock_ms=opened.now_ms) as host:
        log = host.replica.add_blind_log(opened.replica.log(tea).keys.topic)
        host.replica.receive(log, [sealed], host.now_ms())
        found = explain(host, sealed.id.hex())
        assert (found.here, found.shown) == (True, Shown.NOT_READ)
        assert "cannot be read here" in found.vouching.detail

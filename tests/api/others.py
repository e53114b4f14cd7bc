"""Homes of different people that share a conversation: by its keys, without invitation or session."""

from __future__ import annotations

from mlog.api.home import Home
from mlog.log import entry, ruling
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.entry import Sealed
from mlog.log.store import BodyState, EntryRow, LogKind


def share(giver: Home, taker: Home, n: int) -> int:
    """Let another person have a conversation, and each know the other's name; its number there."""
    for one, other in ((giver, taker), (taker, giver)):
        person = one.replica.people.current()
        assert person is not None
        keys = _keys(one, person.log)
        known = [state.keys.topic for state in other.replica.logs()]
        if keys.topic not in known:
            other.replica.add_logs([(LogKind.PERSON, keys)])
    exchange(giver, taker)
    people = giver.replica.people
    person = people.person_of(people.stand_in(taker.replica.device_id))
    assert person is not None
    ruling.add(giver.replica, n, [person], giver.now_ms())
    [there] = taker.replica.add_logs([(LogKind.CONVERSATION, _keys(giver, n))])
    exchange(giver, taker)
    return there


def exchange(one: Home, other: Home) -> None:
    """Give both all that the other has of what both know."""
    for _ in range(3):
        for giver, taker in ((one, other), (other, one)):
            _give(giver, taker)


def _give(giver: Home, taker: Home) -> None:
    theirs = {state.keys.topic: state for state in taker.replica.logs()}
    for state in giver.replica.logs():
        to = theirs.get(state.keys.topic)
        if to is None:
            continue
        taker.replica.learn_epochs(to.n, _epochs(giver, state.n))
        rows = giver.store.arrivals(state.n, 0, 1000)
        lacking = [row for row in rows if not taker.store.find(to.n, [row.id])]
        taken = taker.replica.receive(to.n, [_sealed(giver, row) for row in lacking], taker.now_ms())
        assert not taken.refused
        while taker.replica.settle(to.n, taker.now_ms()):
            pass


def _keys(home: Home, n: int) -> LogKeys:
    keys = LogKeys(home.replica.log(n).keys.secret)
    for epoch in _epochs(home, n):
        keys.add_epoch(epoch)
    return keys


def _epochs(home: Home, n: int) -> list[EpochKeys]:
    return list(home.replica.log(n).keys.epochs[1:])


def _sealed(home: Home, row: EntryRow) -> Sealed:
    body = row.body
    if body is not None and row.state == BodyState.OPENED:
        fields = entry.parse_outer(row.outer)
        epoch = home.replica.log(row.log).keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        body = entry.seal_body(epoch, row.outer, body, row.kind)
    return Sealed(row.id, row.outer, body, row.signature)

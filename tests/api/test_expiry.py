"""A home forgets what is to disappear when it is opened, and says why."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.api.home import Home
from mlog.api.why import Shown, explain
from mlog.errors import UserError
from tests.api.conftest import Clock

_DAY_MS = 24 * 3600 * 1000


def _texts(home: Home, n: int) -> list[str]:
    return [message.text for message in home.messages(n)]


def test_a_home_forgets_what_is_due_when_it_is_opened(opened: Home, clock: Clock) -> None:
    n = opened.new("trip").n
    opened.send(n, "said before")
    setting = opened.expire_after(n, 30 * _DAY_MS)
    id_ = opened.send(n, "a perishable word")
    assert opened.expiry_ms(n) == 30 * _DAY_MS
    clock.ms += 29 * _DAY_MS
    with Home(opened.path, clock_ms=clock) as later:
        assert _texts(later, n) == ["said before", "a perishable word"]
    clock.ms += 2 * _DAY_MS
    with Home(opened.path, clock_ms=clock) as later:
        assert _texts(later, n) == ["said before", ""]
        assert later.search("perishable") == []
        found = explain(later, id_.hex())
        assert (found.shown, found.by) == (Shown.EXPIRED, setting)
        assert later.verify(signatures=True) == []
        rows = later.store._all("SELECT text, erased FROM messages ORDER BY position")
        assert rows == [(b"said before", 0), (None, 1)]
    assert b"perishable" not in opened.database.read_bytes()


def test_it_looks_no_more_often_than_it_has_to(opened: Home, clock: Clock) -> None:
    n = opened.new("trip").n
    opened.expire_after(n, limits.EXPIRE_MIN_MS)
    opened.send(n, "tent")
    assert opened.expire() == 0
    clock.ms += limits.EXPIRE_LOOK_MS // 2
    assert opened.expire() == 0
    clock.ms += limits.EXPIRE_LOOK_MS
    assert opened.expire() == 1


def test_a_home_whose_conversations_keep_all_does_not_look(opened: Home) -> None:
    opened.new("trip")
    assert opened.expire() == 0
    assert opened.store.cached("expiry") is None


def test_a_setting_is_taken_back(opened: Home, clock: Clock) -> None:
    n = opened.new("trip").n
    opened.expire_after(n, _DAY_MS)
    opened.expire_after(n, 0)
    opened.send(n, "stays")
    assert opened.expiry_ms(n) == 0
    clock.ms += 99 * _DAY_MS
    assert opened.expire() == 0


def test_too_short_a_time_is_refused(opened: Home) -> None:
    n = opened.new("trip").n
    with pytest.raises(UserError, match="at least 1 min"):
        opened.expire_after(n, limits.EXPIRE_MIN_MS - 1)

"""What is particular to the memory store; the rest is test_store.py's."""

from __future__ import annotations

from mlog.log.memory import MemoryStore

from .support import LOG, make_log, make_replica, message


def test_two_stores_share_nothing():
    one, other = MemoryStore(), MemoryStore()
    make_log(make_replica(one))
    assert other.logs() == []
    assert other.heads(LOG) == []
    assert other.next_n() == 1


def test_search_folds_case_and_needs_every_phrase():
    replica = make_replica(MemoryStore())
    make_log(replica)
    replica.write(LOG, [message("Ten  Green\nBottles")], 0)
    assert replica.store.search('"green bottles" "TEN"', LOG, 10) != []
    assert replica.store.search('"green ten"', LOG, 10) == []

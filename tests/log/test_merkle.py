"""Digests and roots."""

from __future__ import annotations

import msgspec
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mlog.log.memory import MemoryStore
from mlog.log.merkle import log_root, refresh_digests, segment_digest
from mlog.log.store import Digest

from .support import LOG, START_MS, ids, make_log, make_replica, message

segments = st.lists(st.tuples(ids, st.booleans()), unique_by=lambda pair: pair[0], max_size=20).map(sorted)


def hashed(context: str, *parts: bytes) -> bytes:
    return blake3(b"".join(parts), derive_key_context=f"mlog v1 {context}").digest()


@given(st.integers(0, 8191), segments)
def test_a_digest_hashes_the_ids_and_those_with_a_body(week: int, members):
    held = [id_ for id_, has_body in members if has_body]
    assert segment_digest(week, members) == Digest(
        week,
        len(members),
        len(held),
        hashed("segment entries", *(id_ for id_, _ in members)),
        hashed("segment bodies", *held),
    )


def test_a_digest_of_many_parts_is_that_of_the_whole():
    members = [(n.to_bytes(32, "big"), n % 3 > 0) for n in range(2_500)]
    digest = segment_digest(7, iter(members))  # pyright: ignore[reportArgumentType]
    assert (digest.entries, digest.bodies) == (2500, 1666)
    assert digest.entries_hash == hashed("segment entries", *(id_ for id_, _ in members))


@given(st.lists(segments, max_size=4), st.randoms())
def test_a_root_depends_on_every_field_and_not_on_order(drawn, random):
    digests = [segment_digest(week, members) for week, members in enumerate(drawn)]
    root = log_root(digests)
    shuffled = list(digests)
    random.shuffle(shuffled)
    assert log_root(shuffled) == root
    for i, digest in enumerate(digests):
        if digest.entries:
            for name in digest.__struct_fields__:
                value = getattr(digest, name)
                other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
                changed = msgspec.structs.replace(digest, **{name: other})
                assert log_root([*digests[:i], changed, *digests[i + 1 :]]) != root


def test_weeks_without_entries_are_not_in_the_root():
    digest = segment_digest(5, [])
    assert log_root([digest]) == log_root([])


def test_only_what_changed_is_hashed_again():
    hashed_weeks: list[int] = []

    class Counted(MemoryStore):
        def segment(self, log, week):
            hashed_weeks.append(week)
            return super().segment(log, week)

    store = Counted()
    replica = make_replica(store)
    make_log(replica)
    replica.write(LOG, [message("one")], START_MS)
    first = refresh_digests(store, LOG)
    assert refresh_digests(store, LOG) == first
    assert len(hashed_weeks) == 1
    replica.write(LOG, [message("a month later")], START_MS + 30 * 24 * 3600_000)
    second = refresh_digests(store, LOG)
    assert second[0] == first[0]
    assert len(second) == len(hashed_weeks) == 2

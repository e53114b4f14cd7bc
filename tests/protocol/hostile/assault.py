"""One assault: a victim, attackers of all sorts for so many frames, and what holds meanwhile and later."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random

from mlog import limits
from mlog.log import crypto
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys
from mlog.log.memory import MemoryStore
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.replica import Replica
from mlog.log.store import LogKind, Reason, TimelineQuery
from mlog.log.verify import Finding, verify_log
from tests.log.support import device_keys, join
from tests.protocol.hostile.attack import Attacker
from tests.protocol.hostile.minting import Mint
from tests.protocol.hostile.world import SESSION_SIZE_MAX_BYTES, Far, device_replica, footprint, sqlite_victim
from tests.protocol.pair import Pair, peer_row

__all__ = ["Assault"]

_SESSIONS_MAX = 6
_FOOTPRINT_EVERY = 40
_ROOM_MIB = 160
"""What the process may grow by after the first third: the store's cache, and what the attackers remember."""


class Assault:
    """Frames from hostile devices, host and strangers against one node.

    Args:
        frames: Websocket messages in all.
    """

    def __init__(self, folder: Path, seed: int, frames: int):
        self.seed = seed
        self.frames = frames
        self.rng = Random(seed)
        self.victim = victim = sqlite_victim(folder, str(seed))
        self.sessions = Counter[str]()
        self.largest = 0
        self.grown_mib = 0.0
        own = list(victim.hostile)
        forged = [victim.replica.device_id, victim.honest.id]
        self.mints = {
            state.n: Mint(self.rng, state.keys, own, forged)
            for state in victim.logs
            if state.kind in (LogKind.CONVERSATION, LogKind.PERSON)
        }
        self._open: list[tuple[Far, Attacker]] = []
        self._guests: list[Far] = []

    def run(self) -> None:
        """All frames, checked as they come."""
        victim, rng = self.victim, self.rng
        third_mib = 0.0
        count = 0
        while victim.frames < self.frames:
            count += 1
            self._begin()
            for _ in range(rng.choice((3, 20, 60, 200))):
                far, attacker = rng.choice(self._open)
                attacker.step()
                if far.closed is not None:
                    self._open.remove((far, attacker))
                    if not self._open:
                        break
            if rng.random() < 0.2:
                victim.pass_time(rng.choice((10, 1000, limits.SETTLE_MS, limits.ANSWER_TIMEOUT_MS, 3600_000)))
                self._open = [(far, attacker) for far, attacker in self._open if far.closed is None]
            if rng.random() < 0.1:
                victim.write()
            if count % _FOOTPRINT_EVERY == 0:
                self._check_memory()
                if not third_mib and victim.frames > self.frames // 3:
                    third_mib = _resident_mib()
        self.grown_mib = _resident_mib() - third_mib
        for far, _ in self._open:
            victim.close(far)
        victim.pass_time(limits.ANSWER_TIMEOUT_MS)
        # What it asked nothing of may stay, and say nothing, until its connection ends.
        assert victim.node.idle, "a peer that does not answer keeps its session"
        for far in list(victim.far.values()):
            victim.close(far)
        assert not victim.node._sessions, "a session outlives its connection"
        self.check_guests()

    def _begin(self) -> None:
        victim, rng = self.victim, self.rng
        while len(self._open) > rng.randrange(_SESSIONS_MAX):
            far, _ = self._open.pop(rng.randrange(len(self._open)))
            if rng.random() < 0.9:
                victim.close(far)
        role = rng.choice(
            ("leader", "leader", "follower", "follower", "guest leads", "guest follows", "stranger")
        )
        self.sessions[role] += 1
        keys = self._keys(role)
        leads = role in ("leader", "guest leads", "stranger")
        far = victim.open(keys, leads=leads)
        if role in ("guest leads", "guest follows", "stranger"):
            self._guests.append(far)
        if far.closed is None:
            mints = self.mints if role in ("leader", "follower") else {}
            self._open.append((far, Attacker(rng, victim, far, mints)))
        if not self._open:
            self._begin()
        if len(self._guests) > 50:
            self.check_guests()

    def _keys(self, role: str) -> DeviceKeys:
        if role == "stranger":
            return device_keys(100 + self.rng.randrange(50))
        return self.victim.guest if role.startswith("guest") else self.rng.choice(self.victim.hostile)

    # -- what must hold ----------------------------------------------------------------------

    def _check_memory(self) -> None:
        node = self.victim.node
        for session in node._sessions.values():
            size = footprint(session)
            self.largest = max(self.largest, size)
            assert size < SESSION_SIZE_MAX_BYTES, f"a session holds {size:,} bytes"
        assert len(node._effects) == 0
        assert len(node._dialling._reached) <= 8
        assert len(node._turns) <= len(node._sessions)
        assert len(node._alarms._heap) <= 2 * len(node._sessions) + 64
        assert sum(map(len, node._feed._pages.values())) <= limits.BUNDLE_ENTRIES_MAX

    def check_guests(self) -> None:
        """Nothing of a log was said to a device that may not have it; and to a stranger nothing at all."""
        victim = self.victim
        known = {victim.guest}
        secrets: set[bytes] = {victim.replica.device_keys.signing_seed, victim.replica.device_keys.noise_seed}
        for state in victim.logs[:20]:
            secrets |= {
                state.keys.topic,
                state.keys.secret,
                *(epoch.secret for epoch in state.keys.epochs[:20]),
            }
            secrets |= set(victim.store.heads(state.n, 20))
        for far in self._guests:
            if far.keys not in known:
                assert far.frames_heard == 0, "a stranger was answered"
                continue
            tags: set[bytes] = set()
            if far.channel.established:
                tags = {crypto.keyed_hash(far.binding, b"log" + row.topic, 6) for row in victim.store.logs()}
            for plain in far.said:
                assert not any(secret in plain for secret in secrets)
                assert not any(tag in plain for tag in tags), "a device heard of a log that it may not have"
        self._guests.clear()

    def check_events(self) -> None:
        assert not self.victim.over, f"seed {self.seed}: slow events {sorted(self.victim.over)[-5:]}"

    def check_store(self) -> None:
        """What is stored is whole: every hash, link, signature and index; but for what was never whole."""
        victim = self.victim
        for state in victim.logs:
            while victim.replica.settle(state.n, victim.now_ms):
                pass
            found = [event for event in verify_log(victim.replica, state.n) if isinstance(event, Finding)]
            assert not [finding for finding in found if not _is_told(finding)], found[:5]

    def check_honest(self) -> None:
        """An honest device still gets all that is here, shows the same, and both say so."""
        victim = self.victim
        other = device_replica(MemoryStore(), 1, "honest")
        with other.store.transaction():
            other.store.put_peer(peer_row(victim.replica.device_keys))
        logs = {}
        for state in victim.logs:
            join(other, state.keys, state.kind, state.n)
            logs[state.n] = state
        pair = Pair(other, victim.replica, seed=f"honest {self.seed}")
        pair.now_ms = victim.now_ms
        pair.connect()
        pair.run(120_000)
        for n in logs:
            for one in (victim.replica, other):
                while one.settle(n, victim.now_ms):
                    pass
            mine, theirs = _root(victim.replica, n), _root(other, n)
            assert mine == theirs, f"seed {self.seed}: log {n} differs, {pair.a.notices[-3:]}"
            assert _view(victim.replica, n) == _view(other, n), f"seed {self.seed}: views of log {n} differ"
        victim.now_ms = pair.now_ms
        first, second = self._written(pair, "after all that"), self._written(pair, "and again")
        # Where a key entry states an epoch that this device was not given, it begins one of its own: once.
        assert first in ([Kind.MESSAGE], [Kind.KEY, Kind.MESSAGE]), f"seed {self.seed}: {first} came"
        assert second == [Kind.MESSAGE], f"seed {self.seed}: {second} came"

    def _written(self, pair: Pair, text: str) -> list[int]:
        """Have the honest device write; gives the kinds of the entries that come to the victim."""
        last_n = self.victim.store.next_n() - 1
        pair.write(pair.a, 3, text)
        pair.run()
        return [row.kind for row in self.victim.store.arrivals(3, last_n, 10)]

    def check(self) -> None:
        """All that holds afterwards."""
        assert self.grown_mib < _ROOM_MIB, f"the process grew by {self.grown_mib:.0f} MiB"
        self.check_store()
        self.check_honest()


def _is_told(finding: Finding) -> bool:
    """What a hostile member did and the verification rightly says: a fork, a log that was never begun."""
    return finding.reason == Reason.FORKED or "no key entry that began it" in finding.detail


def _root(one: Replica, log: int) -> bytes:
    return log_root(refresh_digests(one.store, log))


def _view(one: Replica, log: int) -> list[object]:
    shown: list[object] = []
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, hidden=True, kinds=frozenset())
    after = None
    while True:
        rows = one.store.timeline(
            TimelineQuery(log=query.log, limit=query.limit, hidden=True, kinds=query.kinds, after=after)
        )
        if not rows:
            return shown
        after = rows[-1].position
        edits = one.store.rows({row.edit for row in rows if row.edit})
        # Whoever never had the body of an edit cannot tell that it was erased with its message.
        shown += [
            (row.id, row.rank, bool(row.hidden), row.body, edits[row.edit].id if row.edit else None)
            for row in rows
        ]


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / limits.MIB

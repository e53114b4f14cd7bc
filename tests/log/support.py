"""Devices, replicas and histories for tests: seeded, so that a failure replays.

`History` is a small world: a few devices share one log, write to it concurrently, hear of each
other late, and import the same chat. What they wrote can then be delivered to any store in any
order; `facts` is all that must come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, Final

import msgspec
from blake3 import blake3
from hypothesis import strategies as st

from mlog.log import bodies, crypto, entry
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys, Vault
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.memory import MemoryStore
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.replica import Draft, Replica, Taken
from mlog.log.store import (
    FORGOTTEN,
    ChainRow,
    EntryRow,
    EpochRow,
    LogKind,
    LogRow,
    Store,
    Task,
    TimelineQuery,
)
from mlog.log.verify import Finding, verify_log
from mlog.log.view import View

LOG = 1
DEVICES_MAX = 4
START_MS = 1_700_000_000_000


class SeededEntropy:
    """Implements `mlog.log.crypto.Entropy` from a seed.

    HPKE draws randomness that cannot be handed in, so `wrap` gives bytes of the right length that
    depend on its arguments only. Nothing unwraps them; test_crypto.py tests real wrapping.
    """

    def __init__(self, seed: str):
        self._stream = blake3(seed.encode(), derive_key_context="mlog test entropy")
        self._at = 0

    def random(self, size: int) -> bytes:
        self._at += size
        return self._stream.digest(length=size, seek=self._at - size)

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return blake3(b"\0".join((recipient, secret, info))).digest(length=1168)


@lru_cache
def device_keys(index: int) -> DeviceKeys:
    entropy = SeededEntropy(f"device {index}")
    return DeviceKeys(entropy.random(32), entropy.random(32), entropy.random(32))


def make_replica(store: Store, index: int = 0, seed: str = "") -> Replica:
    """A replica of device `index`, in an incarnation that `seed` chooses."""
    entropy = SeededEntropy(f"replica {index} {seed}")
    vault = Vault(blake3(f"vault {index}".encode()).digest())
    return Replica(store, device_keys(index), vault, entropy, Incarnation(entropy.random(8)))


def make_log(replica: Replica, kind: LogKind = LogKind.CONVERSATION, *drafts: Draft) -> int:
    return replica.create_log(kind, drafts, START_MS)


def join(replica: Replica, keys: LogKeys, kind: LogKind = LogKind.CONVERSATION, log: int = LOG) -> None:
    """Give a replica the secrets of a log, as pairing and invitations will."""
    vault = replica.keyring.vault
    with replica.store.transaction():
        replica.store.add_log(LogRow(log, keys.topic, kind, vault.seal("log", keys.secret)))
        for epoch in keys.epochs[1:]:
            replica.store.add_epoch(EpochRow(log, epoch.number, vault.seal("epoch", epoch.secret)))


def text(words: str, *to: MessageId) -> bodies.Text:
    return bodies.Text(text=words, to=tuple(mid.hex() for mid in to))


def message(words: str, time_ms: int = START_MS, mid: MessageId | None = None) -> Draft:
    return Draft(Kind.MESSAGE, text(words), time_ms, mid)


def rows_of(store: Store, log: int = LOG) -> list[EntryRow]:
    """All opened entries of a log, in the order of the view."""
    return store.timeline(TimelineQuery(log=log, limit=1000, kinds=frozenset(), hidden=True))


def findings(replica: Replica, log: int = LOG, *, signatures: bool = True) -> list[Finding]:
    events = verify_log(replica, log, signatures=signatures)
    return [event for event in events if isinstance(event, Finding)]


def seal_again(keys: LogKeys, row: EntryRow) -> Sealed:
    """A stored entry as it is sent."""
    fields = entry.parse_outer(row.outer)
    epoch = keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    body = None if row.body is None else entry.seal_body(epoch, row.outer, row.body, row.kind)
    return Sealed(row.id, row.outer, body, row.signature)


def facts(replica: Replica, log: int = LOG) -> dict[str, object]:
    """Everything that two replicas with the same entries must agree on."""
    store = replica.store
    rows = rows_of(store, log)
    by_n = {row.n: row.id for row in rows}
    # What a forgotten body named knows only who had it.
    ns = [row.n for row in rows if row.state not in FORGOTTEN]
    spoken = store.timeline(TimelineQuery(log=log, limit=1000))
    view = View(replica, {device_keys(index).id: f"person {index}" for index in range(DEVICES_MAX)})
    local = {"chain": 0, "log": 0}
    digests = refresh_digests(store, log)
    return {
        "view": [
            {name: getattr(m, name) for name in m.__struct_fields__ if name not in local}
            for m in view.of_rows(log, spoken)
        ],
        "title": next(row.title for row in store.logs() if row.n == log),
        "folded": [(row.id, row.rank, row.hidden, row.state, by_n.get(row.edit), row.body) for row in rows],
        "parents": {by_n[n]: sorted(found) for n, found in named_parents(replica, log, rows).items()},
        "references": {by_n[n]: sorted(found) for n, found in store.references(ns).items()},
        "found": sorted(by_n[n] for word in _WORDS for n in store.search(f'"{word}"', log, 1000)),
        "heads": sorted(store.heads(log)),
        "chains": chains_of(store, log),
        "absent": [id_ for id_, _ in store.absent(log, 1000)],
        "forks": [msgspec.structs.astuple(fork)[1:] for fork in store.forks(log)],
        "unread": sorted((row.id, row.state) for row in store.scan_unopened(log, 0, 1000)),
        "left": [store.unsettled(log, task, 1) for task in Task],
        "devices": sorted((row.id, row.name, row.person) for row in store.devices()),
        "digests": digests,
        "root": log_root(digests),
    }


def named_parents(replica: Replica, log: int, rows: Iterable[EntryRow]) -> dict[int, set[EntryId]]:
    """What the store keeps of parents, without the entries before: which those are depends on order."""
    keys = replica.log(log).keys
    headers = {row.n: entry.open_header(keys, row.outer)[0] for row in rows}
    found = replica.store.parents(headers)
    return {n: named for n, ids in found.items() if (named := set(ids) - {headers[n].prev})}


def chains_of(store: Store, log: int) -> Sequence[object]:
    """Chains and their runs; of a forked one its branches' ends."""
    rows: dict[object, list[ChainRow]] = {}
    for chain in store.chains(log):
        rows.setdefault((chain.device, chain.incarnation), []).append(chain)
    runs = {
        chain.n: [(r.first, r.last) for r in store.runs(log) if r.chain == chain.n]
        for branches in rows.values()
        for chain in branches
    }
    return sorted(
        (key, of[0].seq, of[0].id, of[0].week, runs[of[0].n]) if len(of) == 1 else (key, -1)
        for key, of in rows.items()
    )


# -- values ----------------------------------------------------------------------------------

_WORDS = ("ten", "green", "bottles", "hanging", "wall", "Straße", "你好")

words = st.sampled_from(_WORDS)
ids = st.binary(min_size=32, max_size=32).filter(lambda id_: id_ != NO_ENTRY).map(EntryId)
mids = st.binary(min_size=16, max_size=16).map(MessageId)
counts = st.integers(0, 2**53 - 1)
short_texts = st.text(st.characters(codec="utf-8"), max_size=40)


@st.composite
def headers(draw: st.DrawFn, body_size: int | None = None) -> Header:
    """Headers of every form that a writer may make."""
    seq = draw(st.one_of(st.just(0), counts))
    prev = NO_ENTRY if seq == 0 else draw(ids)
    parents = tuple(sorted(draw(st.sets(ids, max_size=5)) - {prev}))
    return Header(
        kind=draw(st.integers(0, 255)),
        device=DeviceId(draw(st.binary(min_size=32, max_size=32))),
        incarnation=Incarnation(draw(st.binary(min_size=8, max_size=8))),
        seq=seq,
        prev=prev,
        time_ms=draw(counts),
        body_size=draw(st.integers(0, 256 * 1024)) if body_size is None else body_size,
        parents=parents,
        mid=draw(st.none() | mids),
    )


_claims = {"by": short_texts, "at": counts, "src": counts}
_hex16 = mids.map(bytes.hex)
_hex32 = ids.map(bytes.hex)


def any_body(kind: Kind) -> st.SearchStrategy[Body]:
    """Bodies of one kind."""
    match kind:
        case Kind.KEY:
            wraps = st.builds(
                bodies.Wrap,
                device=st.binary(min_size=32, max_size=32),
                sealed=st.binary(min_size=1, max_size=8).map(lambda b: (b * 1168)[:1168]),
            )
            return st.builds(
                bodies.Key,
                epoch=counts,
                commitment=_hex32,
                wraps=st.lists(wraps, max_size=3).map(tuple),
                log=st.sampled_from(["", "conversation", "person"]),
            )
        case Kind.DEVICE:
            return st.builds(
                bodies.Device,
                name=short_texts,
                person=short_texts,
                noise=st.binary(min_size=32, max_size=32),
                hpke=st.binary(min_size=1, max_size=8).map(lambda b: (b * 1216)[:1216]),
            )
        case Kind.TITLE:
            return st.builds(bodies.Title, title=short_texts, **_claims)
        case Kind.IMPORT:
            return st.builds(
                bodies.Import,
                format=short_texts,
                chat=short_texts,
                name=short_texts,
                hash=st.just("") | _hex32,
                src=counts,
                time_ms=counts,
            )
        case Kind.MANIFEST:
            return st.builds(
                bodies.Manifest,
                of=_hex16,
                name=short_texts,
                size=counts,
                hash=_hex32,
                group=_hex16,
                chunks=st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(tuple),
            )
        case Kind.CHUNK:
            return st.builds(
                bodies.Chunk,
                group=mids,
                index=st.integers(0, 2**32 - 1),
                data=st.binary(min_size=1, max_size=64),
            )
        case Kind.EXPIRE:
            return st.builds(bodies.Expire, after_ms=counts)
        case Kind.READ:
            chains = st.builds(
                bodies.ReadChain, chain=st.binary(min_size=8, max_size=8).map(bytes.hex), seq=counts
            )
            return st.builds(bodies.Read, chains=st.lists(chains, max_size=3).map(tuple))
        case Kind.PRIVATE:
            return st.builds(bodies.Private, change=st.binary(min_size=1, max_size=64))
        case Kind.ADMIT:
            return st.builds(
                bodies.Admit,
                device=st.binary(min_size=32, max_size=32),
                name=short_texts,
                noise=st.binary(min_size=32, max_size=32),
                hpke=st.binary(min_size=1, max_size=8).map(lambda b: (b * 1216)[:1216]),
            )
        case Kind.REVOKE:
            cut = st.builds(bodies.Cut, incarnation=st.binary(min_size=8, max_size=8), seq=counts, id=_hex32)
            return st.builds(
                bodies.Revoke,
                device=st.binary(min_size=32, max_size=32),
                by=st.just("") | _hex32,
                cuts=st.lists(cut, max_size=3).map(tuple),
            )
        case Kind.ALIAS:
            return st.builds(
                bodies.Alias, format=short_texts, uid=short_texts, by=short_texts, person=short_texts
            )
        case Kind.MEMBER:
            end = st.builds(
                bodies.ChainEnd,
                device=st.binary(min_size=32, max_size=32),
                incarnation=st.binary(min_size=8, max_size=8),
                seq=counts,
                id=_hex32,
            )
            return st.builds(
                bodies.Member,
                person=st.binary(min_size=16, max_size=16),
                role=st.sampled_from(["admin", "member", "none"]),
                relies=st.just("") | _hex32,
                history=st.booleans(),
                name=short_texts,
                cuts=st.lists(end, max_size=3).map(tuple),
            )
        case Kind.CONTACT:
            return st.builds(
                bodies.Contact,
                person=st.binary(min_size=16, max_size=16),
                name=short_texts,
                device=st.binary(min_size=32, max_size=32),
                removed=st.booleans(),
            )
        case Kind.EDIT:
            return st.builds(bodies.Edit, of=_hex16, text=short_texts, **_claims)
        case Kind.REACTION:
            emoji = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
            return st.builds(bodies.Reaction, of=_hex16, emoji=emoji, removed=st.booleans(), **_claims)
        case Kind.ERASURE:
            return st.builds(bodies.Erasure, of=_hex16, **_claims)
        case _:
            least, most = (1, 3) if kind == Kind.REPLY else (0, 0 if kind == Kind.MESSAGE else 3)
            to = st.lists(_hex16, min_size=least, max_size=most).map(tuple)
            return st.builds(bodies.Text, text=short_texts, to=to, erased=st.booleans(), **_claims)


@st.composite
def kinds_and_bodies(draw: st.DrawFn) -> tuple[Kind, Body]:
    kind = draw(st.sampled_from(Kind))
    return kind, draw(any_body(kind))


def sealed_example(header_body: bytes = b'{"text":"hello"}', **fields: Any) -> tuple[LogKeys, Sealed]:
    """An entry of a fixed log, signed by device 0."""
    device = device_keys(0)
    keys = LogKeys(SeededEntropy("log").random(32))
    keys.add_epoch(EpochKeys(1, SeededEntropy("epoch").random(32)))
    header = Header(
        Kind.MESSAGE, device.id, Incarnation(b"incarnat"), 0, NO_ENTRY, START_MS, len(header_body)
    )
    header = msgspec.structs.replace(header, **fields)
    sealed = entry.seal_entry(keys, keys.current, 1000, header, header_body)
    return keys, entry.sign_entry(device, keys.current, sealed)


# -- histories -------------------------------------------------------------------------------

_CHAT_LINES = 8


_GROUPS: Final = (MessageId(b"one group of two"), MessageId(b"and the other 1!"))


class History:
    """Several devices that write to one log; `run` performs steps drawn by `histories`."""

    def __init__(self, devices: int, make_store: Callable[[], Store] = MemoryStore):
        self.replicas = [make_replica(make_store(), index) for index in range(devices)]
        self.entries: dict[EntryId, Sealed] = {}
        first = self.replicas[0]
        title = Draft(Kind.TITLE, bodies.Title(title="at first"), START_MS)
        make_log(first, LogKind.CONVERSATION, title)
        self.keys = first.log(LOG).keys
        self.keys_at_first = LogKeys(self.keys.secret)
        self.keys_at_first.add_epoch(self.keys.current)
        self._keep(rows_of(first.store))
        for replica in self.replicas[1:]:
            join(replica, self.keys)
        self._mids: list[MessageId] = []
        self._now_ms = START_MS
        self._steps: Sequence[tuple[str, int, int, int]] = []

    def _keep(self, rows: Iterable[EntryRow]) -> None:
        for row in rows:
            self.entries[row.id] = seal_again(self.keys, row)
            if row.kind in SPOKEN:
                self._mids.append(row.message)

    def __repr__(self) -> str:
        return f"History({len(self.replicas)}).run({self._steps})"

    def run(self, steps: Sequence[tuple[str, int, int, int]]) -> History:
        self._steps = steps
        for name, device, a, b in steps:
            replica = self.replicas[device % len(self.replicas)]
            self._now_ms += (b - 20) * 1000
            if name == "hear":
                self._hear(replica, self.replicas[a % len(self.replicas)], b)
            elif name == "import":
                self._import(replica, a, b)
            else:
                kind, body = self._draft(name, a, b)
                draft = Draft(kind, body, self._now_ms)
                self._keep(replica.write(LOG, [draft], self._now_ms))
        return self

    def _draft(self, name: str, a: int, b: int) -> tuple[Kind, Body]:
        word = _WORDS[b % len(_WORDS)]
        # Also of what this device has not heard of yet.
        target = self._mids[a % len(self._mids)] if self._mids else MessageId(bytes(15) + b"\1")
        match name:
            case "reply":
                return Kind.REPLY, text(word, target)
            case "edit":
                return Kind.EDIT, bodies.Edit(of=target.hex(), text=f"{word} edited {b}")
            case "react":
                return Kind.REACTION, bodies.Reaction(
                    of=target.hex(), emoji="👍🎉"[b % 2], removed=b % 3 == 0
                )
            case "erase":
                return Kind.ERASURE, bodies.Erasure(of=target.hex())
            case "file":
                group = _GROUPS[b % 3].hex() if b % 3 < 2 else ""
                return Kind.MANIFEST, bodies.Manifest(of=target.hex(), name=word, size=b, group=group)
            case "chunk":
                return Kind.CHUNK, bodies.Chunk(group=_GROUPS[b % 2], index=a, data=word.encode() or b"x")
            case "forget":
                return Kind.ERASURE, bodies.Erasure(of=_GROUPS[b % 2].hex())
            case "title":
                return Kind.TITLE, bodies.Title(title=f"{word} {b}")
            case _:
                return Kind.MESSAGE, text(word)

    def _hear(self, replica: Replica, other: Replica, most: int) -> None:
        for row in rows_of(other.store)[: most + 1]:
            take(replica, self.entries[row.id])

    def _import(self, replica: Replica, first: int, count: int) -> None:
        run = replica.begin_run(LOG)
        drafts = [chat_line(first + offset) for offset in range(count % 5 + 1)]
        source = Draft(Kind.IMPORT, bodies.Import(format="test", chat="chat"), drafts[0].time_ms)
        written = replica.write_run(run, drafts, self._now_ms, preface=lambda _: [source])
        self._keep(written.rows)


# -- what hostile members, later versions and broken machines make ---------------------------


def _fork(history: History, a: int, b: int) -> None:
    """A machine is set back to where it knew only some entries, and writes on in the same chain."""
    device = a % len(history.replicas)
    twin = make_replica(MemoryStore(), device)
    join(twin, history.keys)
    known = rows_of(history.replicas[device].store)
    take(
        twin, *(history.entries[row.id] for row in known[: b % (len(known) + 1)] if row.id in history.entries)
    )
    for n in range(b % 3 + 1):
        history._keep(twin.write(LOG, [message(f"twin {n} {b}", START_MS + b * 1000)], START_MS))


def _header_in(history: History, a: int, b: int, **fields: Any) -> Header:
    """The header of an entry that goes where one of a chain goes, or right behind it."""
    headers = {id_: entry.unseal(history.keys, s.outer, None).header for id_, s in history.entries.items()}
    known = [(id_, header) for id_, header in headers.items() if header is not None]
    id_, like = known[a % len(known)]
    body = b'{"text":"minted %d"}' % b
    seq, prev = (like.seq, like.prev) if b % 2 else (like.seq + 1, id_)
    made = Header(Kind.MESSAGE, like.device, like.incarnation, seq, prev, START_MS + b * 1000, len(body))
    return msgspec.structs.replace(made, **fields)


def _mint(history: History, a: int, b: int) -> None:
    """A member makes an entry in the name of another device, unsigned or signed by itself."""
    sealed = entry.seal_entry(
        history.keys, history.keys.current, 1000, _header_in(history, a, b), b'{"text":"minted %d"}' % b
    )
    if b % 3:
        sealed = entry.sign_entry(device_keys(99), history.keys.current, sealed)
    history.entries[sealed.id] = sealed


def _later_kind(history: History, a: int, b: int) -> None:
    """A device writes an entry of a kind that this version does not know, in a chain of its own."""
    device = device_keys(a % DEVICES_MAX)
    body = b'{"later":%d}' % b
    parents = tuple(sorted(list(history.entries)[: b % 3]))
    header = Header(
        99, device.id, Incarnation(b.to_bytes(8, "big")), 0, NO_ENTRY, START_MS + b, len(body), parents
    )
    sealed = entry.seal_entry(history.keys, history.keys.current, 1001, header, body)
    sealed = entry.sign_entry(device, history.keys.current, sealed)
    history.entries[sealed.id] = sealed


def _later_version(history: History, a: int, b: int) -> None:
    """A later version makes an entry that begins and ends as all do."""
    ids = list(history.entries)
    outer = b"\x02" + history.entries[ids[a % len(ids)]].outer[1:-16]
    outer += history.keys.mac(outer)
    id_ = entry.entry_id(outer)
    history.entries[id_] = Sealed(id_, outer, None, bytes([b % 256]) * 80)


def _against_rules(history: History, a: int, b: int) -> None:
    """A member seals something that is no header, or changes one that is."""
    sealed = history.entries[list(history.entries)[a % len(history.entries)]]
    outer = bytearray(sealed.outer[:-16])
    outer[89 + b % (len(outer) - 89)] ^= 1
    changed = bytes(outer) + history.keys.mac(bytes(outer))
    id_ = entry.entry_id(changed)
    history.entries[id_] = Sealed(id_, changed, sealed.body, sealed.signature)


def _new_epoch(history: History, a: int, b: int) -> None:
    """A device starts an epoch, and writes under it; receivers learn it from the key entry."""
    number = len(history.keys.epochs)
    secret = SeededEntropy(f"epoch {number}").random(32)
    replica = history.replicas[a % len(history.replicas)]
    wraps = tuple(
        _wrap(history.keys.secret, number, replica.device_id, index) for index in range(DEVICES_MAX)
    )
    key = bodies.Key(epoch=number, commitment=crypto.commitment(secret).hex(), wraps=wraps)
    history._keep(replica.write(LOG, [Draft(Kind.KEY, key, START_MS + b)], START_MS))
    for each in (history.keys, *(r.log(LOG).keys for r in history.replicas)):
        each.add_epoch(EpochKeys(number, secret))
    history._keep(replica.write(LOG, [message(f"under epoch {number} {b}", START_MS + b)], START_MS))


@cache
def _wrap(log_secret: bytes, number: int, author: DeviceId, index: int) -> bodies.Wrap:
    """A real wrap: HPKE draws its own randomness, so it is made once for all examples."""
    secret = SeededEntropy(f"epoch {number}").random(32)
    recipient = device_keys(index)
    info = crypto.wrap_info(LogKeys(log_secret).topic, author, number, recipient.id)
    sealed = crypto.hpke_suite().encrypt(secret, crypto.hpke_public_key(recipient.hpke_public), info)
    return bodies.Wrap(device=recipient.id, sealed=sealed)


EXTRAS: dict[str, Callable[[History, int, int], None]] = {
    "fork": _fork,
    "mint": _mint,
    "later kind": _later_kind,
    "later version": _later_version,
    "against rules": _against_rules,
    "new epoch": _new_epoch,
}


def chat_line(number: int) -> Draft:
    """A line of the chat that everybody imports, again from the start after the last one."""
    number %= _CHAT_LINES
    mid = MessageId(blake3(b"line %d" % number).digest(length=16))
    earlier = blake3(b"line %d" % (number - 1)).digest(length=16).hex()
    time_ms = START_MS - 90 * 24 * 3600_000 + (number // 3) * 60_000
    by, at = f"nick{number % 2}", number + 1
    if number == 3:
        return Draft(Kind.EDIT, bodies.Edit(of=earlier, text="green edited", by=by, at=at), time_ms, mid)
    if number == 5:
        return Draft(Kind.REACTION, bodies.Reaction(of=earlier, emoji="👍", by=by, at=at), time_ms, mid)
    if number == 6:
        return Draft(Kind.ERASURE, bodies.Erasure(of=earlier, by=by, at=at), time_ms, mid)
    return Draft(Kind.MESSAGE, bodies.Text(text=f"bottles {number}", by=by, at=at), time_ms, mid)


_small = st.integers(0, 40)
_steps = st.tuples(
    st.sampled_from(
        [
            "say",
            "say",
            "reply",
            "edit",
            "edit",
            "react",
            "erase",
            "file",
            "chunk",
            "forget",
            "title",
            "import",
            "hear",
            "hear",
        ]
    ),
    st.integers(0, DEVICES_MAX - 1),
    _small,
    _small,
)


@st.composite
def histories(draw: st.DrawFn, max_steps: int = 16) -> History:
    devices = draw(st.integers(2, DEVICES_MAX))
    return History(devices).run(draw(st.lists(_steps, max_size=max_steps)))


def deliver(history: History, order: Iterable[Sealed], store: Store, index: int = 0) -> Replica:
    """A replica of a device that takes these entries, one by one."""
    replica = make_replica(store, index, "receiver")
    join(replica, history.keys)
    for sealed in order:
        take(replica, sealed)
    return replica


def take(replica: Replica, *entries: Sealed, log: int = LOG) -> Taken:
    """Have a replica receive entries, and do all that it would leave for later."""
    taken = replica.receive(log, entries, START_MS)
    while replica.settle(log, START_MS):
        pass
    return taken

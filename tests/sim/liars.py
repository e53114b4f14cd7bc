"""Peers that break the rules: they lie in what they send, or keep what nobody may have made.

A liar runs a real node over a real replica. What it says is altered on its way to the channel (`LIES`);
what it mints, it puts into its own store, from where its node offers it to everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from mlog.log import bodies, crypto, entry
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys
from mlog.log.entry import NO_ENTRY, Header, Sealed, entry_id
from mlog.log.ids import EntryId, Incarnation
from mlog.log.intake import Taken
from mlog.log.store import LogKind, LogRow
from mlog.protocol import wire
from mlog.protocol.session import Session
from mlog.protocol.vector import Held, decode_vector, encode_vector

from .machine import Machine, keys_of

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["FORGERIES", "LIES", "Liar"]

_KEEPS_NOTHING: Final = "acknowledges, and keeps nothing"

_Lie: TypeAlias = Callable[[Random, wire.Message], Iterable[wire.Message]]

FORGERIES: Final = (
    "the next entry of another, unsigned",
    "an entry of another, once more and different",
    "a first entry of another, unsigned",
    "an entry of another, signed by the liar",
    "an entry of another far behind a hole",
    "two of its own at one place",
    "a body that is none",
    "an unknown kind",
    "an unknown version",
    "an unknown epoch",
    "64 parents that nobody has",
    "a header that breaks the rules",
    "a message from the year 200,000",
    "an epoch that no key entry states",
)


class Liar:
    """What one dishonest machine does besides what its node does."""

    def __init__(self, simulation: Simulation, machine: Machine):
        self.machine = machine
        self.lie: str | None = None
        self._simulation = simulation
        self._random = Random(f"{simulation.network.seed} liar {machine.index}")
        simulation.network.tamper[machine.index] = self._tamper
        machine.take = self.take

    # -- lies --------------------------------------------------------------------------------

    def _tamper(self, session: Session, message: wire.Message) -> Iterable[wire.Message]:
        if self.lie is None:
            return (message,)
        return _LIES[self.lie](self._random, message)

    def take(self, receive: Callable[..., Taken], *args: Any) -> Taken:
        """What it does with entries that came: keep them, or only say so."""
        if self.lie == _KEEPS_NOTHING:
            return Taken(known=len(args[1]))
        return receive(*args)

    # -- what it mints -------------------------------------------------------------------------

    def _log(self, number: int, *, blind: bool = False) -> LogRow | None:
        assert self.machine.store is not None
        rows = [row for row in self.machine.store.logs() if (row.kind == LogKind.BLIND) == blind]
        return rows[number % len(rows)] if rows else None

    def junk(self, a: int, b: int) -> None:
        """A blind host makes entries up: they have the form, and no member's MAC."""
        row = self._log(a, blind=True)
        if row is None:
            return
        store, replica = self.machine.store, self.machine.replica
        assert store is not None
        assert replica is not None
        minted: list[Sealed] = []
        for known in store.arrivals(row.n, 0, 3):
            if known.outer[0] == entry.VERSION:
                outer = known.outer[:-16] + self._random.randbytes(16)
                if b % 2:
                    # In another week, under another salt.
                    outer = (
                        outer[:17] + (a % 1_500).to_bytes(2, "big") + self._random.randbytes(16) + outer[35:]
                    )
                minted.append(Sealed(entry_id(outer), outer, None, None))
        replica.receive(row.n, minted, self._simulation.network.local_ms(self.machine))

    def forge(self, a: int, b: int) -> None:
        """A member makes entries that break the rules."""
        row = self._log(a)
        if row is None:
            return
        simulation, store, replica = self._simulation, self.machine.store, self.machine.replica
        assert store is not None
        assert replica is not None
        now_ms = simulation.network.local_ms(self.machine)
        state = replica.log(row.n)
        chains = store.chains(row.n)
        if not chains:
            return
        others = [c for c in chains if c.device != self.machine.device]
        chain = others[a % len(others)] if others else chains[0]
        body = bodies.encode(bodies.Text(text=f"forged {a} {b}"))
        own = Header(
            Kind.MESSAGE,
            self.machine.device,
            Incarnation(self._random.randbytes(8)),
            0,
            NO_ENTRY,
            now_ms,
            len(body),
        )
        week = store.digests(row.n)[-1].week if store.digests(row.n) else 1_000
        replace = msgspec.structs.replace
        what = FORGERIES[b % len(FORGERIES)]
        minted: list[Sealed] = []

        def mint(header: Header, *, signed: bool = False, content: bytes = body) -> Sealed:
            sealed = entry.seal_entry(state.keys, state.keys.current, week, header, content)
            if signed:
                sealed = entry.sign_entry(self.machine.keys, state.keys.current, sealed)
            return sealed

        following = replace(
            own, device=chain.device, incarnation=chain.incarnation, seq=chain.seq + 1, prev=chain.id
        )
        match what:
            case "the next entry of another, unsigned":
                minted = [mint(following)]
            case "an entry of another, once more and different":
                target = store.at(chain.n, a % (chain.seq + 1))
                before = store.at(chain.n, target.seq - 1) if target is not None and target.seq else None
                if target is not None and (before is not None or target.seq == 0):
                    prev = before.id if before is not None else NO_ENTRY
                    minted = [mint(replace(following, seq=target.seq, prev=prev))]
            case "a first entry of another, unsigned":
                victim = keys_of(a % simulation.schedule.machines).id
                minted = [mint(replace(own, device=victim))]
            case "an entry of another, signed by the liar":
                minted = [mint(following, signed=True)]
            case "an entry of another far behind a hole":
                absent = EntryId(self._random.randbytes(32))
                minted = [mint(replace(following, seq=chain.seq + 7, prev=absent), signed=b % 2 == 0)]
            case "two of its own at one place":
                first = mint(own, signed=True)
                minted = [first, mint(replace(own, time_ms=now_ms + 1), signed=True)]
                minted.append(mint(replace(own, seq=1, prev=first.id), signed=True))
            case "a body that is none":
                content = b'{"text":"\\ud800"}'
                minted = [mint(replace(own, body_size=len(content)), signed=True, content=content)]
            case "an unknown kind":
                minted = [mint(replace(own, kind=99), signed=True)]
            case "an unknown version":
                minted = [self._resealed(mint(own), state.keys.mac, lambda outer: b"\2" + outer[1:])]
            case "an unknown epoch":
                epoch = EpochKeys(2, self._random.randbytes(32))
                sealed = entry.seal_entry(state.keys, epoch, week, own, body)
                minted = [entry.sign_entry(self.machine.keys, epoch, sealed)]
            case "64 parents that nobody has":
                parents = sorted(EntryId(self._random.randbytes(32)) for _ in range(64))
                minted = [mint(replace(own, parents=tuple(parents)), signed=True)]
            case "a header that breaks the rules":
                damaged = mint(own)
                minted = [self._resealed(damaged, state.keys.mac, lambda o: o[:-1] + bytes([o[-1] ^ 1]))]
            case "an epoch that no key entry states":
                # Its number is that of another: so it is granted to everybody.
                replica.learn_epochs(
                    row.n, [EpochKeys(state.keys.current.number, self._random.randbytes(32))]
                )
            case _:
                minted = [mint(replace(own, time_ms=6_000_000_000_000_000), signed=True)]
        replica.receive(row.n, minted, now_ms)

    @staticmethod
    def _resealed(sealed: Sealed, mac: Callable[[bytes], bytes], change: Callable[[bytes], bytes]) -> Sealed:
        """The same bytes with a change that no honest device makes, under a right MAC."""
        outer = change(sealed.outer[: -crypto.TAG_SIZE])
        outer += mac(outer)
        return Sealed(entry_id(outer), outer, sealed.body, None)


def _flipped(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _replace(message: wire.Message, **fields: Any) -> tuple[wire.Message]:
    return (msgspec.structs.replace(message, **fields),)


def _roots(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Offer):
        size = wire.TAG_SIZE + 2 * wire.ROOT_SIZE
        logs = b"".join(
            message.logs[at : at + wire.TAG_SIZE] + random.randbytes(2 * wire.ROOT_SIZE)
            for at in range(0, len(message.logs), size)
        )
        return _replace(message, logs=logs)
    if isinstance(message, wire.Answer):
        differs = tuple(
            msgspec.structs.replace(d, entries_root=random.randbytes(16), bodies_root=random.randbytes(16))
            for d in message.differs
        )
        return _replace(message, differs=differs)
    return (message,)


def _agrees(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Answer):
        return _replace(message, equal=b"\xff" * len(message.equal), differs=())
    return (message,)


def _denies(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Answer):
        return _replace(message, equal=bytes(len(message.equal)), differs=())
    return (message,)


def _vectors(change: Callable[[Random, bytes], bytes]) -> _Lie:
    def lie(random: Random, message: wire.Message) -> Iterable[wire.Message]:
        if isinstance(message, wire.Answer):
            differs = tuple(
                msgspec.structs.replace(d, vector=change(random, d.vector or b"")) for d in message.differs
            )
            return _replace(message, differs=differs)
        if isinstance(message, wire.Have):
            return _replace(message, vector=change(random, message.vector))
        return (message,)

    return lie


def _longer(random: Random, vector: bytes) -> bytes:
    chains = {
        tag: Held(held.first, (*held.ranges[:-1], (held.ranges[-1][0], held.ranges[-1][1] + 5)))
        for tag, held in decode_vector(vector).items()
    }
    chains[random.randbytes(6)] = Held(0, ((0, 2**40),))
    return encode_vector(chains)


def _shorter(random: Random, vector: bytes) -> bytes:
    chains = {
        tag: Held(held.first, ((held.first, held.first + (held.ranges[-1][1] - held.first) // 2),))
        for tag, held in decode_vector(vector).items()
    }
    return encode_vector(chains)


def _segments(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Weeks):
        return _replace(message, marks=_flipped(random, message.marks))
    return (message,)


def _more_ids(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Ids):
        ids = {message.ids[at : at + 32] for at in range(0, len(message.ids), 32)}
        made_up = {random.randbytes(32) for _ in range(50)}
        return _replace(message, ids=b"".join(sorted(i for i in ids | made_up if i > message.after)))
    return (message,)


def _fewer_ids(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Ids):
        return _replace(message, ids=message.ids[: len(message.ids) // 64 * 32])
    return (message,)


def _endless_ids(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Ids):
        ids = message.ids or message.after
        return _replace(message, ids=ids, more=True)
    return (message,)


def _cells(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Cells):
        return _replace(message, cells=random.randbytes(len(message.cells)))
    return (message,)


def _entries(change: Callable[[Random, tuple[wire.Packed, ...]], tuple[wire.Packed, ...]]) -> _Lie:
    def lie(random: Random, message: wire.Message) -> Iterable[wire.Message]:
        if isinstance(message, wire.Entries):
            return _replace(message, entries=change(random, message.entries))
        return (message,)

    return lie


def _parts(**fields: Any) -> _Lie:
    return _entries(lambda _, entries: tuple(msgspec.structs.replace(packed, **fields) for packed in entries))


def _bad_signatures(random: Random, entries: tuple[wire.Packed, ...]) -> tuple[wire.Packed, ...]:
    return tuple(msgspec.structs.replace(packed, signature=random.randbytes(80)) for packed in entries)


def _flipped_entries(random: Random, entries: tuple[wire.Packed, ...]) -> tuple[wire.Packed, ...]:
    return tuple(msgspec.structs.replace(packed, head=_flipped(random, packed.head)) for packed in entries)


def _mute(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    return (message,) if isinstance(message, wire.Hello) else ()


def _stutters(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    return (message, message)


def _interrupts(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    tag = getattr(message, "tag", bytes(6))
    return (
        random.choice(
            (
                wire.Ids(tag, 1_000, bytes(32), random.randbytes(64), more=True),
                wire.Done(random.randrange(9)),
                wire.Ack(random.randrange(9)),
                wire.Answer(1, b"\0"),
                wire.Grant(random.randbytes(100)),
                wire.Receipt(1, 1, 2, random.randbytes(64)),
                wire.Want(7, tag, ids=random.randbytes(32)),
                wire.Again(),
            )
        ),
        message,
    )


def _keeps_back(kind: type[wire.Message]) -> _Lie:
    return lambda random, message: () if isinstance(message, kind) else (message,)


def _refuses(random: Random, message: wire.Message) -> Iterable[wire.Message]:
    if isinstance(message, wire.Ack):
        return _replace(message, refused=1)
    return (message,)


_LIES: Final[dict[str, _Lie]] = {
    "wrong roots": _roots,
    "all is equal": _agrees,
    "has no log": _denies,
    "has more": _vectors(_longer),
    "has less": _vectors(_shorter),
    "vectors of noise": _vectors(lambda random, vector: random.randbytes(len(vector))),
    "a flipped bit in vectors": _vectors(_flipped),
    "no vectors": _vectors(lambda random, vector: b""),
    "wrong segments": _segments,
    "ids of nothing": _more_ids,
    "ids left out": _fewer_ids,
    "ids without end": _endless_ids,
    "cells of noise": _cells,
    "entries without bodies": _parts(body=None),
    "bodies of another": _parts(body=b"x" * 48),
    "entries without signatures": _parts(signature=None),
    "bad signatures": _entries(_bad_signatures),
    "entries with flipped bits": _entries(_flipped_entries),
    "the newest entry left out": _entries(lambda _, entries: entries[:-1]),
    "no entries": _entries(lambda _, entries: ()),
    "no acknowledgements": _keeps_back(wire.Ack),
    "no ends of requests": _keeps_back(wire.Done),
    "no answers": _keeps_back(wire.Answer),
    "refuses": _refuses,
    _KEEPS_NOTHING: lambda random, message: (message,),
    "mute": _mute,
    "says all twice": _stutters,
    "interrupts": _interrupts,
}

LIES: Final = tuple(_LIES)

"""Attackers: far ends that hold real keys and say, frame after frame, what nobody should say.

Each speaks the protocol well enough to be listened to: it leads or follows, answers some of what it is
asked, and puts into every field of every message what does harm somewhere. Seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from mlog import limits
from mlog.log import crypto, grants, receipts
from mlog.log.crypto import LogKeys
from mlog.log.entry import NO_ENTRY, Sealed, to_tail
from mlog.log.ids import EntryId
from mlog.log.receipts import Statement
from mlog.protocol import vector, wire
from mlog.protocol.marks import encode_marks
from mlog.protocol.vector import Held
from tests.protocol.hostile.minting import Mint
from tests.protocol.hostile.world import Entropy, Far, Victim

__all__ = ["Attacker", "mutated"]

_INTEGERS = (0, 1, 2, 7, 127, 128, 255, 2**16, 2**31, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -1, -(2**63))
_HUNGRY = (
    b"\xdd\xff\xff\xff\xff",  # array of 2^32 - 1
    b"\xc6\xff\xff\xff\xff",  # binary of 2^32 - 1
    b"\xdf\xff\xff\xff\xff",  # map of 2^32 - 1
    b"\x91" * 3000,  # nested
    b"\x92\x06" * 1000,
    b"",
    b"\xc1",
    b"\xd9\x02\xff\xfe",
)


class Attacker:
    """One far end and what it remembers.

    Args:
        mints: For each log whose secrets it has, by number, what makes entries of it.
    """

    def __init__(self, rng: Random, victim: Victim, far: Far, mints: dict[int, Mint]):
        self._rng = rng
        self._victim = victim
        self._far = far
        self._mints = mints
        self._serial = 0
        self._attempt = 0
        self._greeted = False
        self._said: list[bytes] = []
        self._frames: list[bytes] = []

    # -- what to say next --------------------------------------------------------------------

    def step(self) -> None:
        """Say something: mostly what has the right form, now and then what has not."""
        rng, far = self._rng, self._far
        if not far.channel.established or rng.random() < 0.004:
            self._raw()
            return
        if not self._greeted and rng.random() < 0.98:
            self._greeted = True
            self._say(wire.Hello(1, rng.choice((0, 0, 0, 1, 2**52)), self._time_ms()))
            return
        chance = rng.random()
        if chance < 0.35 and far.asked:
            answer = self._answer(far.asked.popleft())
            if answer is not None:
                self._say(answer)
                return
        if chance > 0.985:
            self._say_bytes(self._nonsense())
            return
        makers = self._leading if far.leads else self._following
        if chance > 0.975:
            makers = self._following if far.leads else self._leading
        message = rng.choice((*makers, *self._both))(self)
        if message is None:
            return
        encoded = wire.encode(message)
        if rng.random() < 0.02:
            encoded = mutated(rng, encoded)
        far.label = type(message).__name__
        cheap = isinstance(message, (wire.Ack, wire.Done, wire.Have, wire.AskIds, wire.AskWeeks, wire.Query))
        for _ in range(rng.choice((1, 3, 8) if cheap else (1, 1, 1, 1, 1, 1, 1, 2, 3))):
            self._say_bytes(encoded)
        if rng.random() < 0.1:
            # What a later version might say is ignored, however much of it there is.
            later = bytes((0x92, 0xCC, rng.randrange(128, 256))) + rng.randbytes(rng.randrange(200))
            for _ in range(rng.choice((5, 30))):
                self._say_bytes(later)

    def _say(self, message: wire.Message) -> None:
        self._far.label = type(message).__name__
        self._say_bytes(wire.encode(message))

    def _say_bytes(self, plain: bytes) -> None:
        rng, far = self._rng, self._far
        if not far.open:
            return
        if len(self._said) < 32:
            self._said.append(plain)
        frames = far.channel.seal(plain[: limits.MESSAGE_SIZE_MAX_BYTES])
        if rng.random() < 0.002:
            frames = rng.choice((frames[:-1], frames[::-1], frames * 2))
        if len(self._frames) < 32:
            self._frames += frames[:2]
        for frame in frames:
            self._victim.receive(far, frame)

    def _raw(self) -> None:
        """A websocket message that no channel made."""
        rng, far = self._rng, self._far
        far.label = "raw"
        frame = rng.choice(
            (
                b"",
                b"\x01",
                rng.randbytes(17),
                b"\x01" + rng.randbytes(96),
                b"\x01" + rng.randbytes(48),
                rng.randbytes(limits.FRAME_SIZE_MAX_BYTES),
                rng.randbytes(limits.FRAME_SIZE_MAX_BYTES + 1),
                *self._frames[:4],
            )
        )
        self._victim.receive(far, frame)

    def _nonsense(self) -> bytes:
        rng = self._rng
        kind = rng.randrange(256)
        return rng.choice(
            (
                rng.choice(_HUNGRY),
                bytes((0x91, kind % 25)) + rng.choice(_HUNGRY),
                bytes((0x93, 0xCC, kind | 0x80)) + rng.randbytes(20),
                bytes((0x93, 0xCC, kind | 0x80)) + rng.choice(_HUNGRY),
                rng.randbytes(rng.choice((1, 5, 100, 3000))),
                b"\x96\x05" + b"\xc6\x00\x10\x00\x00" + bytes(2**20),
                rng.choice(self._said) if self._said else b"\x91\x0b",
            )
        )

    # -- pieces ------------------------------------------------------------------------------

    def _time_ms(self) -> int:
        return self._rng.choice((self._victim.now_ms, self._victim.now_ms, 0, 2**53 - 1))

    def _count(self) -> int:
        return self._rng.choice((0, 1, 2, 50, 1000, 2**31, 2**53 - 1))

    def _log(self) -> Any:
        return self._rng.choice(self._victim.logs)

    def _tag(self) -> bytes:
        rng, far = self._rng, self._far
        if rng.random() < 0.005:
            return rng.randbytes(6)
        rows = self._victim.store.logs()
        topic = rng.choice(rows[:6]).topic
        return crypto.keyed_hash(far.binding, b"log" + topic, wire.TAG_SIZE)

    def _id(self) -> EntryId:
        ids = [mint.ids for mint in self._mints.values() if mint.ids]
        rng = self._rng
        if ids and rng.random() < 0.8:
            return rng.choice(rng.choice(ids))
        return rng.choice((NO_ENTRY, EntryId(b"\xff" * 32), EntryId(rng.randbytes(32))))

    def _ids(self) -> bytes:
        rng = self._rng
        count = rng.choice((0, 1, 3, 40)) if rng.random() < 0.97 else rng.choice((1000, 1000, 1001))
        ids = b"".join(self._id() for _ in range(min(count, 60))) * max(1, count // 60)
        return ids + (b"x" * 31 if rng.random() < 0.01 else b"")

    def _chain_tags(self) -> list[bytes]:
        far, rng = self._far, self._rng
        store = self._victim.store
        chains = store.chains(rng.randint(1, 4))
        rng.shuffle(chains)
        return [
            vector.chain_tag(far.binding, c.device, c.incarnation)
            for c in chains[: rng.choice((0, 1, 4, 20))]
        ]

    def _vector(self) -> bytes:
        rng = self._rng
        tags = {*self._chain_tags(), *(rng.randbytes(6) for _ in range(rng.choice((0, 1, 1, 5))))}
        if rng.random() < 0.01:
            tags |= {rng.randbytes(6) for _ in range(rng.choice((490, 513)))}
        held: dict[bytes, Held] = {}
        for tag in tags:
            first = rng.choice((0, 0, 0, 5, 10**9, 2**53 - 3))
            size = rng.choice((1, 2, 1000, 10**9, 2**53 - 2))
            last = min(first + size, limits.SEQ_MAX)
            ranges = [(first, last)]
            if last - first > 100 and rng.random() < 0.1:
                step = (last - first) // 100
                ranges = [
                    (first + n * step, first + n * step + step // 2) for n in range(rng.choice((2, 5, 20)))
                ]
            held[tag] = Held(first, tuple(ranges))
        encoded = vector.encode_vector(held)
        return self._maybe_cut(encoded)

    def _ranges(self) -> bytes:
        rng = self._rng
        tags = {*self._chain_tags(), *(rng.randbytes(6) for _ in range(rng.choice((0, 0, 1, 5))))}
        wanted: dict[bytes, vector.Ranges] = {}
        for tag in tags:
            count = rng.choice((1, 1, 1, 5, 30)) if rng.random() < 0.99 else 300
            size = rng.choice((1, 2, 10**9, 2**43))
            wanted[tag] = tuple((n * 2 * size, n * 2 * size + size - 1) for n in range(count))
        return self._maybe_cut(vector.encode_ranges(wanted))

    def _maybe_cut(self, encoded: bytes) -> bytes:
        rng = self._rng
        if encoded and rng.random() < 0.03:
            at = rng.randrange(len(encoded))
            return rng.choice((encoded[:at], encoded[:at] + rng.randbytes(3) + encoded[at:], encoded * 2))
        return encoded

    def _weeks(self) -> bytes:
        rng = self._rng
        count = rng.choice((0, 1, 3, 1000, limits.WEEK_MAX + 1)) if rng.random() < 0.2 else 1
        weeks = sorted(rng.sample(range(limits.WEEK_MAX + 1), count)) if count > 1 else [1245]
        if rng.random() < 0.02:
            weeks.append(9000)
        return b"".join(week.to_bytes(2, "big") for week in weeks[: count or 0])

    def _segments(self) -> bytes:
        rng = self._rng
        count = rng.choice((0, 1, 5, 5, 100, limits.WEEK_MAX + 1)) if rng.random() < 0.3 else 2
        weeks = sorted(rng.sample(range(limits.WEEK_MAX + 1), count))
        numbers = (0, 1, 200, 2**32 - 1)
        return b"".join(
            week.to_bytes(2, "big")
            + rng.choice(numbers).to_bytes(4, "big")
            + rng.choice(numbers).to_bytes(4, "big")
            + rng.randbytes(32)
            for week in weeks
        )

    def _marks(self) -> bytes:
        rng = self._rng
        count = rng.choice((0, 1, 5, 5, 100, limits.WEEK_MAX + 1)) if rng.random() < 0.3 else 2
        weeks = sorted(rng.sample(range(limits.WEEK_MAX + 1), count))
        return self._maybe_cut(encode_marks({week: rng.randbytes(4) for week in weeks}))

    def _packed(self, entries: Sequence[Sealed]) -> tuple[wire.Packed, ...]:
        rng = self._rng
        packed: list[wire.Packed] = []
        size = 0
        for sealed in entries:
            head = to_tail(sealed)
            if rng.random() < 0.03:
                head = rng.choice(
                    (b"", b"\xff", b"\xff" + sealed.outer, head[:40], rng.randbytes(300), head + b"x")
                )
            packed.append(wire.Packed(head, sealed.body, sealed.signature))
            size += len(head) + len(sealed.body or b"")
            if size > limits.BUNDLE_SIZE_MAX_BYTES:
                break
        return tuple(packed)

    def _some_entries(self) -> tuple[bytes, tuple[wire.Packed, ...]]:
        rng, far = self._rng, self._far
        if not self._mints:
            return self._tag(), tuple(
                wire.Packed(rng.randbytes(rng.choice((10, 150, 300))), rng.randbytes(48), rng.randbytes(80))
                for _ in range(rng.choice((0, 1, 5)))
            )
        number = rng.choice(list(self._mints))
        topic = self._victim.replica.log(number).keys.topic
        most = rng.choice((1, 1, 1, 2, 3, 3, 6, 20)) if rng.random() < 0.995 else 300
        entries = self._mints[number].some(most)
        return crypto.keyed_hash(far.binding, b"log" + topic, wire.TAG_SIZE), self._packed(entries)

    # -- messages ----------------------------------------------------------------------------

    def _entries(self) -> wire.Message:
        self._serial += 1
        return wire.Entries(self._rng.choice((self._serial, 0, 2**53 - 1)), *self._some_entries())

    def _want(self) -> wire.Message:
        rng = self._rng
        shorts = b""
        if rng.random() < 0.1:
            count = rng.choice((1, 50, 5000))
            shorts = b"".join(n.to_bytes(7, "big") for n in sorted(rng.sample(range(2**40), count)))
        return wire.Want(
            self._count(),
            self._tag(),
            chains=self._ranges() if rng.random() < 0.5 else b"",
            ids=self._ids() if rng.random() < 0.5 else b"",
            shorts=shorts if self._attempt and self._far.leads else b"",
            first_week=rng.choice((0, 0, 0, 1, 1245, limits.WEEK_MAX)),
            bodies=rng.random() < 0.8,
        )

    def _ack(self) -> wire.Message | None:
        rng = self._rng
        sent = self._far.heard.pop(wire.Entries, None)
        if sent is None or rng.random() < 0.03:
            return wire.Ack(self._count(), self._count()) if rng.random() < 0.05 else None
        return wire.Ack(sent.serial, rng.choice((0, 0, 0, len(sent.entries))))

    def _done(self) -> wire.Message | None:
        want = self._far.heard.pop(wire.Want, None)
        if want is None:
            return wire.Done(self._count(), self._count()) if self._rng.random() < 0.005 else None
        return wire.Done(want.request, self._count())

    def _receipt(self) -> wire.Message | None:
        rng, far = self._rng, self._far
        offer = far.heard.get(wire.Answer if far.leads else wire.Offer)
        if rng.random() > 0.03:
            return None
        statement = Statement(
            topic=self._log().keys.topic,
            first_week=0,
            entries=1,
            bodies=1,
            entries_root=rng.randbytes(32),
            bodies_root=rng.randbytes(32),
            time_ms=0,
            expires_ms=1,
        )
        signature = rng.choice((receipts.sign_statements(far.keys, [statement]), rng.randbytes(64)))
        return wire.Receipt(offer.serial if offer else 1, self._time_ms(), self._time_ms(), signature)

    def _grant(self) -> wire.Message | None:
        rng, far, replica = self._rng, self._far, self._victim.replica
        if rng.random() > 0.1:
            return None
        if not self._mints or rng.random() < 0.2:
            return wire.Grant(rng.randbytes(rng.choice((0, 1168, 5000)))) if rng.random() < 0.3 else None
        # Opens, and holds what it should not: logs that are known, with more epochs, and some that are new.
        logs: list[Any] = []
        for _ in range(rng.choice((0, 1, 3))):
            known = rng.random() < 0.8 or len(self._victim.store.logs()) > 40
            keys = self._log().keys if known else LogKeys(rng.randbytes(32))
            kind = rng.choice(("conversation", "conversation", "person", "private", "blind"))
            epochs = [
                (rng.choice((0, 1, 5, 2**53 - 1)), rng.randbytes(32)) for _ in range(rng.choice((0, 0, 1, 3)))
            ]
            if len(keys.epochs) > 200:
                epochs = []
            topic = keys.topic if rng.random() < 0.95 else rng.randbytes(16)
            logs.append((kind, topic, keys.secret, epochs))
        info = grants.grant_info(far.keys.id, replica.device_id, far.binding)
        key = rng.randbytes(32)
        sealed = crypto.seal(crypto.derive("grant", key), msgspec.msgpack.encode(logs), info)
        return wire.Grant(Entropy("grant").wrap(replica.device_keys.hpke_public, key, info) + sealed)

    def _query(self) -> wire.Message:
        rng = self._rng
        return wire.Query(
            self._count(),
            self._tag(),
            rng.choice((0, 0, 1245, 1246, limits.WEEK_MAX)),
            rng.choice((NO_ENTRY, self._id())),
            rng.choice((limits.WEEK_MAX, 0, 1245)),
            self._count(),
            bodies=rng.random() < 0.5,
        )

    def _page(self) -> wire.Message | None:
        return wire.Page(1, 0, NO_ENTRY, True, b"", ()) if self._rng.random() < 0.03 else None

    def _offer(self) -> wire.Message:
        rng = self._rng
        self._serial += 1
        rows = self._victim.store.logs()
        tags = {
            crypto.keyed_hash(self._far.binding, b"log" + row.topic, 6) for row in rows if rng.random() < 0.7
        }
        count = rng.choice((0, 0, 3, 500, limits.OFFERED_LOGS_MAX)) if rng.random() < 0.05 else 0
        tags |= {rng.randbytes(6) for _ in range(count)}
        ordered = list(tags)[: limits.OFFERED_LOGS_MAX]
        scopes = tuple(
            wire.Scoped(
                rng.randrange(len(ordered)), rng.choice((0, 1245, limits.WEEK_MAX)), rng.random() < 0.5
            )
            for _ in range(rng.choice((0, 0, 1, 3)) if ordered else 0)
        )
        logs = b"".join(tag + rng.randbytes(32) for tag in ordered)
        return wire.Offer(self._serial, self._maybe_cut(logs), scopes, rng.random() < 0.5)

    def _have(self) -> wire.Message:
        return wire.Have(self._tag(), self._vector())

    def _ask_weeks(self) -> wire.Message:
        return wire.AskWeeks(
            self._tag(),
            self._rng.choice((0, 1, 1245, limits.WEEK_MAX)),
            self._rng.choice((0, 1, 2, limits.SEQ_MAX)),
        )

    def _ask_cells(self) -> wire.Message:
        rng = self._rng
        start = rng.choice((0, 0, 0, 32, 5000))
        new = rng.random() < 0.6 or not self._attempt
        self._attempt += new
        size = rng.choice((1, 32, 32, 500, 5000)) if rng.random() < 0.98 else 2**16
        return wire.AskCells(
            self._tag(), self._attempt, self._weeks() if new else b"", 0 if new else start, start + size
        )

    def _ask_ids(self) -> wire.Message:
        rng = self._rng
        return wire.AskIds(self._tag(), rng.choice((0, 1245, 1246, limits.WEEK_MAX)), self._id())

    def _ask_carried(self) -> wire.Message:
        rng = self._rng
        known = rng.choice((b"", rng.randbytes(32)))
        return wire.AskCarried(self._tag(), rng.choice((0, 1246, limits.WEEK_MAX)), self._id(), known)

    def _again(self) -> wire.Message | None:
        return wire.Again() if self._rng.random() < 0.2 else None

    def _raw_answer(self) -> wire.Message | None:
        offer = self._far.heard.get(wire.Offer)
        return self._answer(offer) if offer is not None and self._rng.random() < 0.05 else None

    _leading: tuple[Callable[[Any], wire.Message | None], ...] = (
        _offer,
        _have,
        _ask_weeks,
        _ask_cells,
        _ask_ids,
        _ask_carried,
        _offer,
    )
    _following: tuple[Callable[[Any], wire.Message | None], ...] = (_again, _raw_answer)
    _both: tuple[Callable[[Any], wire.Message | None], ...] = (
        _entries,
        _entries,
        _entries,
        _want,
        _want,
        _ack,
        _ack,
        _done,
        _receipt,
        _grant,
        _query,
        _page,
    )

    # -- answers -----------------------------------------------------------------------------

    def _answer(self, asked: Any) -> wire.Message | None:
        rng = self._rng
        match asked:
            case wire.Offer():
                return self._answer_offer(asked)
            case wire.AskWeeks():
                entries = rng.choice((0, 1, 300, 10**6, limits.SEQ_MAX))
                return wire.Weeks(asked.tag, asked.attempt, entries, self._marks())
            case wire.AskCells():
                size = (asked.stop - asked.start) * 9
                cells = rng.choice((bytes(size), rng.randbytes(size), (b"\0" * 7 + b"\1\1") * (size // 9)))
                return wire.Cells(asked.tag, asked.attempt, self._count(), asked.start, cells)
            case wire.AskCarried() if rng.random() < 0.5:
                return wire.Same(asked.tag)
            case wire.AskIds() | wire.AskCarried():
                ids = sorted(EntryId(rng.randbytes(32)) for _ in range(rng.choice((0, 1, 5, 1000))))
                above = [id_ for id_ in ids if id_ > asked.after]
                return wire.Ids(asked.tag, asked.week, asked.after, b"".join(above), rng.random() < 0.5)
            case wire.Entries() if self._far.heard.pop(wire.Entries, None) is asked:
                return wire.Ack(asked.serial, rng.choice((0, 0, len(asked.entries))))
            case wire.Want() if self._far.heard.pop(wire.Want, None) is asked:
                return wire.Done(asked.request, rng.choice((0, 5, 2**53 - 1)))
            case wire.Query():
                _, entries = self._some_entries()
                return wire.Page(
                    asked.request, asked.week, asked.after, rng.random() < 0.5, self._segments(), entries
                )
            case _:
                return None

    def _answer_offer(self, offer: wire.Offer) -> wire.Message:
        rng = self._rng
        count = len(offer.logs) // 38
        equal = bytearray((count + 7) // 8)
        differs: list[wire.Differs] = []
        for index in range(count):
            how = rng.random()
            if how < 0.3:
                equal[index // 8] |= 1 << index % 8
            elif how < 0.8:
                roots = (
                    offer.logs[38 * index + 6 : 38 * index + 22],
                    offer.logs[38 * index + 22 : 38 * index + 38],
                )
                differs.append(
                    wire.Differs(
                        index,
                        rng.choice((0, 0, 0, 1245, limits.WEEK_MAX)),
                        rng.random() < 0.8,
                        rng.choice((rng.randbytes(16), roots[0])),
                        rng.choice((rng.randbytes(16), roots[1])),
                        self._vector() if rng.random() < 0.5 else b"",
                    )
                )
        return wire.Answer(offer.serial, bytes(equal), tuple(differs))


def mutated(rng: Random, encoded: bytes) -> bytes:
    """A message with one of its fields, at any depth, changed into something else."""
    fields = msgspec.msgpack.decode(encoded)
    path: Any = fields
    while True:
        at = rng.randrange(len(path))
        if isinstance(path[at], list) and path[at] and rng.random() < 0.7:
            path = path[at]
            continue
        path[at] = _instead_of(rng, path[at])
        break
    if rng.random() < 0.2:
        fields += [rng.choice((None, b"more", [[]], {"later": 1}))]
    if rng.random() < 0.1:
        fields = fields[: rng.randrange(len(fields) + 1)]
    try:
        return msgspec.msgpack.encode(fields)
    except OverflowError:
        return encoded[:-1]


def _instead_of(rng: Random, value: Any) -> Any:
    other = rng.choice((None, True, 1.5, "text", b"", b"\0" * 33, [], {}, [1, 2, 3], float("nan"), "\ud7ff"))
    if rng.random() < 0.3:
        return other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(_INTEGERS)
    if isinstance(value, bytes):
        return rng.choice((value[:-1], value + b"\0", rng.randbytes(len(value)), value * 2, b""))
    return other

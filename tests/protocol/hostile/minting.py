"""What a hostile member can mint: entries with the log's real MAC that are as unpleasant as can be.

Everything is drawn from one seeded generator, and what is remembered of earlier entries is bounded.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

from mlog import limits
from mlog.log import crypto, entry
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.ids import DeviceId, EntryId, Incarnation, week_of
from tests.log.support import START_MS

__all__ = ["Mint", "outer_with"]

_TEXTS = (
    "\ufdfa" * 40,  # each becomes 18 letters
    "\u202eabc\u202c\u200b\u2066",
    "e" + "\u0301" * 300,
    "\U0001f469\u200d\U0001f4bb" * 30,
    "\x00\x1b[2J\x1b]0;x\x07",
    "\u4f60\u597d" * 100,
    'NEAR( " * OR AND NOT ^ : ',
    "\ud7ff\ue000\uffff\U0010ffff",
    "a " * 400,
    "",
)
_KINDS = (*(int(kind) for kind in Kind), 0, 15, 77, 255)
_REMEMBERED = 4096


class _Chain:
    """One chain that a hostile device writes, or says it does."""

    def __init__(self, device: DeviceId, keys: DeviceKeys | None, incarnation: Incarnation):
        self.device = device
        self.keys = keys
        self.incarnation = incarnation
        self.seq = 0
        self.prev = NO_ENTRY


class Mint:
    """Makes entries of one log.

    Args:
        own: Devices whose keys the attacker has.
        forged: Devices whose ids it knows, and in whose name it writes.
    """

    def __init__(self, rng: Random, log: LogKeys, own: list[DeviceKeys], forged: list[DeviceId]):
        self._rng = rng
        self._log = log
        self._own = own
        self._forged = forged
        self._unknown = EpochKeys(7, rng.randbytes(32))
        self._chains: list[_Chain] = []
        self.ids: deque[EntryId] = deque(maxlen=_REMEMBERED)
        self.made: deque[Sealed] = deque(maxlen=256)

    # -- several -----------------------------------------------------------------------------

    def some(self, most: int) -> list[Sealed]:
        """Entries of one shape, at most so many."""
        rng = self._rng
        make = rng.choice(
            (
                self._run,
                self._run,
                self._mixture,
                self._mixture,
                self._fork,
                self._heads,
                self._broad,
                self._again,
                self._many_weeks,
                self._large,
                self._late_parent,
                self._of_one_message,
            )
        )
        found = make(rng.randint(1, most))
        self.ids.extend(sealed.id for sealed in found)
        self.made.extend(found)
        return found

    def _mixture(self, count: int) -> list[Sealed]:
        return [self._any(self._chain()) for _ in range(count)]

    def _run(self, count: int) -> list[Sealed]:
        """A chain that goes on; signed now and then, or only at its end, or backwards."""
        chain, rng = self._chain(), self._rng
        every = rng.choice((1, 3, 10_000))
        found = [
            self._make(chain, Kind.MESSAGE, self._body(Kind.MESSAGE), signed=n % every == 0 or n + 1 == count)
            for n in range(count)
        ]
        if rng.random() < 0.3:
            found.reverse()
        return found

    def _fork(self, count: int) -> list[Sealed]:
        """Many entries at one place of a chain, by its own device."""
        chain = self._chain(own=True)
        seq, prev = chain.seq, chain.prev
        found: list[Sealed] = []
        for _ in range(count):
            chain.seq, chain.prev = seq, prev
            found.append(self._make(chain, Kind.MESSAGE, self._body(Kind.MESSAGE), signed=True))
        return found

    def _heads(self, count: int) -> list[Sealed]:
        """Chains of one entry each that nobody follows."""
        return [
            self._make(self._new_chain(own=True), Kind.MESSAGE, self._body(Kind.MESSAGE), signed=True)
            for _ in range(count)
        ]

    def _broad(self, count: int) -> list[Sealed]:
        """64 parents each: known ones, or such as are nowhere."""
        chain, rng = self._chain(own=True), self._rng
        pool = list(self.ids)
        found: list[Sealed] = []
        for _ in range(min(count, 40)):
            parents = {EntryId(rng.randbytes(32)) for _ in range(rng.choice((0, 1, 64)))}
            parents |= set(rng.sample(pool, min(len(pool), limits.PARENTS_MAX - len(parents))))
            found.append(
                self._make(chain, Kind.MESSAGE, self._body(Kind.MESSAGE), parents=parents, signed=True)
            )
            pool.append(found[-1].id)
        return found

    def _again(self, count: int) -> list[Sealed]:
        """What was sent before: without parts, with parts of others, or the same twice."""
        rng, pool = self._rng, list(self.made)
        found: list[Sealed] = []
        for _ in range(min(count, len(pool))):
            one, other = rng.choice(pool), rng.choice(pool)
            found.append(
                Sealed(
                    one.id,
                    one.outer,
                    rng.choice((None, one.body, one.body, other.body)),
                    rng.choice((None, one.signature, other.signature, rng.randbytes(80))),
                )
            )
        return found

    def _many_weeks(self, count: int) -> list[Sealed]:
        chain = self._chain()
        week = self._rng.randrange(limits.WEEK_MAX)
        return [
            self._make(
                chain, Kind.MESSAGE, b'{"text":"w"}', week=(week + n) % (limits.WEEK_MAX + 1), signed=True
            )
            for n in range(count)
        ]

    def _large(self, count: int) -> list[Sealed]:
        chain, rng = self._chain(own=True), self._rng
        found: list[Sealed] = []
        for _ in range(min(count, 2)):
            size = rng.choice((1_000, 1_000, 30_000)) if rng.random() < 0.9 else 120_000
            body = rng.choice(
                (
                    lambda n: json.dumps({"text": "\ufdfa" * (n // 3)}, ensure_ascii=False).encode(),
                    lambda n: json.dumps({"text": "\U0001f600" * (n // 4)}, ensure_ascii=False).encode(),
                    lambda n: (
                        b'{"text":"' + b" ".join(b"%x" % rng.getrandbits(24) for _ in range(n // 7)) + b'"}'
                    ),
                    lambda n: (
                        b'{"text":"x","y":'
                        + b"[" * 60
                        + b"1"
                        + b"]" * 60
                        + b',"z":['
                        + b"{}," * (n // 3)
                        + b"1]}"
                    ),
                    lambda n: b'{"text":"x","y":' + b"[" * n + b"]" * n + b"}",
                    lambda n: b'{"text":"' + b"\\u00e9" * (n // 6) + b'"}',
                    lambda n: b'{"text":"x",' + b",".join(b'"k%d":1' % k for k in range(n // 10)) + b"}",
                    lambda n: b'{"text":"x","n":' + b"9" * n + b"}",
                )
            )(size)
            found.append(self._make(chain, Kind.MESSAGE, body[: limits.BODY_SIZE_MAX_BYTES], signed=True))
        return found

    def _late_parent(self, count: int) -> list[Sealed]:
        """Entries that all name one which comes after them, with a time far in the future."""
        later = self._new_chain(own=True)
        parent = self._make(later, Kind.MESSAGE, b'{"text":"late"}', signed=True, time_ms=limits.TIME_MAX_MS)
        chain = self._chain(own=True)
        children = [
            self._make(chain, Kind.MESSAGE, b'{"text":"early"}', parents={parent.id}, signed=True)
            for _ in range(min(count, 30))
        ]
        return [*children, parent]

    def _of_one_message(self, count: int) -> list[Sealed]:
        """Edits, erasures, reactions and claims of one message."""
        rng = self._rng
        mid = rng.choice(list(self.ids)[-8:])[:16] if self.ids else rng.randbytes(16)
        chain = self._chain(own=True)
        found: list[Sealed] = []
        for _ in range(min(count, 20)):
            kind = rng.choice(
                (Kind.EDIT, Kind.EDIT, Kind.REACTION, Kind.ERASURE, Kind.MANIFEST, Kind.MESSAGE)
            )
            said = mid if kind == Kind.MESSAGE else None
            found.append(self._make(chain, kind, self._body(kind, mid), mid=said, signed=True))
        return found

    # -- one ---------------------------------------------------------------------------------

    def entry(
        self,
        kind: int,
        body: bytes,
        seq: int = 0,
        prev: EntryId = NO_ENTRY,
        incarnation: Incarnation | None = None,
        **fields: Any,
    ) -> Sealed:
        """One that opens, signed, in a chain of its own."""
        chain = self._new_chain(own=True)
        chain.seq, chain.prev = seq, prev
        if incarnation is not None:
            chain.incarnation, chain.device, chain.keys = incarnation, self._own[0].id, self._own[0]
        return self._make(chain, kind, body, signed=True, **fields)

    def chain(
        self, count: int, kind: int = Kind.MESSAGE, every: int = 1000, words: str = "", **fields: Any
    ) -> list[Sealed]:
        """A chain of entries that differ, with a signature at its end and at each so many."""
        chain = _Chain(self._own[0].id, self._own[0], Incarnation(self._rng.randbytes(8)))
        signed = [n % every == every - 1 or n + 1 == count for n in range(count)]
        return [
            self._make(chain, kind, b'{"text":"%d%s"}' % (n, words.encode()), signed=signed[n], **fields)
            for n in range(count)
        ]

    def run(
        self, kind: int, said: Sequence[bytes], *, mids: Sequence[bytes] = (), **fields: Any
    ) -> list[Sealed]:
        """A chain of entries with these bodies, and a signature at its end and at each bundle's."""
        chain = _Chain(self._own[0].id, self._own[0], Incarnation(self._rng.randbytes(8)))
        return [
            self._make(
                chain,
                kind,
                body,
                signed=n + 1 == len(said) or (n + 1) % limits.BUNDLE_ENTRIES_MAX == 0,
                mid=mids[n][:16] if mids else None,
                **fields,
            )
            for n, body in enumerate(said)
        ]

    def _any(self, chain: _Chain) -> Sealed:
        rng = self._rng
        kind = rng.choice(_KINDS)
        mid = rng.choice((None, None, rng.randbytes(16), self._some_id()[:16]))
        sealed = self._make(
            chain,
            kind,
            self._body(kind),
            epoch=rng.choice((None, None, None, self._unknown, self._log.epochs[0])),
            mid=mid,
            week=rng.choice((None, None, 0, limits.WEEK_MAX, rng.randrange(limits.WEEK_MAX))),
            time_ms=rng.choice((None, None, 0, limits.TIME_MAX_MS, rng.getrandbits(50))),
            parents={self._some_id() for _ in range(rng.choice((0, 0, 1, 3)))},
            signed=rng.random() < 0.7,
        )
        return self._spoiled(sealed) if rng.random() < 0.2 else sealed

    def _spoiled(self, sealed: Sealed) -> Sealed:
        """One that breaks a rule, with a MAC that is right."""
        rng, outer = self._rng, bytearray(sealed.outer)
        how = rng.randrange(6)
        if how == 0:
            outer[0] = rng.choice((0, 2, 7, 255))
        elif how == 1:
            outer[rng.randrange(17, len(outer) - 16)] ^= 1 << rng.randrange(8)
        elif how == 2:
            del outer[rng.randrange(60, len(outer)) :]
        elif how == 3:
            outer[-30:-16] = rng.randbytes(rng.randrange(200))
        elif how == 4:
            return Sealed(sealed.id, sealed.outer, rng.randbytes(rng.randrange(300)), sealed.signature)
        else:
            return Sealed(sealed.id, sealed.outer, sealed.body, rng.randbytes(rng.choice((0, 1, 79, 80, 81))))
        return outer_with(self._log, bytes(outer[:-16]), sealed.body, sealed.signature)

    def _make(
        self,
        chain: _Chain,
        kind: int,
        body: bytes,
        *,
        epoch: EpochKeys | None = None,
        mid: bytes | None = None,
        week: int | None = None,
        time_ms: int | None = None,
        parents: set[EntryId] | None = None,
        signed: bool = False,
    ) -> Sealed:
        rng = self._rng
        chain.seq = min(chain.seq, limits.SEQ_MAX)
        at_ms = START_MS + rng.randrange(30 * 24 * 3600_000) if time_ms is None else time_ms
        epoch = epoch or self._log.current
        header = Header(
            kind,
            chain.device,
            chain.incarnation,
            chain.seq,
            chain.prev,
            at_ms,
            len(body),
            tuple(sorted((parents or set()) - {chain.prev, NO_ENTRY})),
            mid,  # pyright: ignore[reportArgumentType]
        )
        sealed = entry.seal_entry(self._log, epoch, week_of(at_ms) if week is None else week, header, body)
        chain.seq, chain.prev = chain.seq + 1, sealed.id
        if not signed:
            return sealed
        # Somebody else's name, and a signature that is not theirs.
        return entry.sign_entry(chain.keys or self._own[0], epoch, sealed)

    def _chain(self, *, own: bool = False) -> _Chain:
        # One that was begun near the last place has none left.
        known = [c for c in self._chains if (c.keys is not None or not own) and c.seq <= limits.SEQ_MAX]
        if known and self._rng.random() < 0.8:
            return self._rng.choice(known)
        return self._new_chain(own=own)

    def _new_chain(self, *, own: bool) -> _Chain:
        rng = self._rng
        keys = rng.choice(self._own) if own or rng.random() < 0.8 else None
        device = keys.id if keys is not None else rng.choice([*self._forged, DeviceId(rng.randbytes(32))])
        chain = _Chain(device, keys, Incarnation(rng.randbytes(8)))
        if not own and rng.random() < 0.3:
            chain.seq, chain.prev = rng.choice((1, 1000, limits.SEQ_MAX - 300)), self._some_id()
        if len(self._chains) > 64:
            self._chains.pop(rng.randrange(len(self._chains)))
        self._chains.append(chain)
        return chain

    def _some_id(self) -> EntryId:
        rng = self._rng
        return rng.choice(self.ids) if self.ids and rng.random() < 0.8 else EntryId(rng.randbytes(32))

    def _body(self, kind: int, mid: bytes | None = None) -> bytes:
        rng = self._rng
        if rng.random() < 0.05:
            return rng.choice((b"", b"{", b"null", b"[]", b'{"text":1}', b"\xff\xfe", rng.randbytes(40)))
        text, of = rng.choice((*_TEXTS, "hello", "ten green bottles")), (mid or self._some_id()[:16]).hex()
        fields: dict[str, Any]
        match kind:
            case Kind.KEY:
                secret = rng.randbytes(32)
                wraps = [
                    {"device": _base64(device), "sealed": _base64(rng.randbytes(1168))}
                    for device in [*self._forged, rng.randbytes(32)][: rng.randint(0, 3)]
                ]
                log = rng.choice(("", "", "person", "conversation", "x"))
                number = rng.choice((1, 2, 3, limits.SEQ_MAX))
                fields = {
                    "epoch": number,
                    "commitment": crypto.commitment(secret).hex(),
                    "wraps": wraps,
                    "log": log,
                }
            case Kind.DEVICE | Kind.ADMIT:
                fields = {
                    "name": text[:100],
                    "noise": _base64(rng.randbytes(32)),
                    "hpke": _base64(rng.randbytes(1216)),
                }
                if kind == Kind.DEVICE:
                    fields["person"] = text[:100]
                else:
                    fields["device"] = _base64(rng.choice((rng.randbytes(32), *self._forged)))
            case Kind.TITLE:
                fields = {"title": text[:200]}
            case Kind.IMPORT:
                fields = {"format": "irc", "chat": text[:50], "src": rng.choice((0, limits.SEQ_MAX))}
            case Kind.MANIFEST:
                fields = {"of": of, "name": text[:50], "size": 5, "chunks": [_base64(rng.randbytes(32))]}
            case Kind.EDIT:
                fields = {"of": of, "text": text}
            case Kind.REACTION:
                fields = {
                    "of": of,
                    "emoji": rng.choice(("\U0001f44d", "x" * 64)),
                    "removed": rng.random() < 0.3,
                }
            case Kind.ERASURE:
                fields = {"of": of}
            case Kind.MESSAGE:
                fields = {"text": text}
            case _:
                fields = {"text": text, "to": [of] * rng.choice((1, 1, 64)), "erased": rng.random() < 0.2}
        return json.dumps(fields, ensure_ascii=rng.random() < 0.5, separators=(",", ":")).encode()


def outer_with(log: LogKeys, outer: bytes, body: bytes | None, signature: bytes | None) -> Sealed:
    """Any bytes, with the MAC of a member behind them."""
    outer += log.mac(outer)
    return Sealed(entry.entry_id(outer), outer, body, signature)


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()

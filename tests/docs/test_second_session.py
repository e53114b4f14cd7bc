"""docs/protocol.md, 13 to 16, is enough: a second implementation follows a session from both sides.

It is given what both replicas held before (docs/vectors/session.json), reads every message with a
MessagePack decoder of its own, works out what each side had to say, and ends with the sets and
proofs that the real nodes ended with. Nothing of mlog is imported here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "vectors"
_SESSION = json.loads((_FOLDER / "session.json").read_text(encoding="utf-8"))
_WIRE = json.loads((_FOLDER / "wire.json").read_text(encoding="utf-8"))


class Refused(Exception):
    """The bytes are not of the form that the text states."""


def derive(context: str, data: bytes, size: int = 32) -> bytes:
    return blake3(data, derive_key_context="mlog v1 " + context).digest(size)


def keyed(key: bytes, data: bytes, size: int = 32) -> bytes:
    return blake3(data, key=key).digest(size)


# -- MessagePack -----------------------------------------------------------------------------


class Unpacker:
    """As much of MessagePack as 13.1 needs; whatever else there is can be skipped."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise Refused("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def value(self) -> Any:
        first = self.number(1)
        if first < 0x80:
            return first
        if first < 0x90:
            return self.map(first & 0x0F)
        if first < 0xA0:
            return [self.value() for _ in range(first & 0x0F)]
        if first < 0xC0:
            return self.take(first & 0x1F).decode()
        if first >= 0xE0:
            return first - 0x100
        match first:
            case 0xC0:
                return None
            case 0xC2 | 0xC3:
                return first == 0xC3
            case 0xC4 | 0xC5 | 0xC6:
                return self.take(self.number(1 << first - 0xC4))
            case 0xCA | 0xCB:
                self.take(4 << first - 0xCA)
                return 0.5
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self.number(1 << first - 0xCC)
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                return int.from_bytes(self.take(1 << first - 0xD0), "big", signed=True)
            case 0xD9 | 0xDA | 0xDB:
                return self.take(self.number(1 << first - 0xD9)).decode()
            case 0xDC | 0xDD:
                return [self.value() for _ in range(self.number(2 << first - 0xDC))]
            case 0xDE | 0xDF:
                return self.map(self.number(2 << first - 0xDE))
            case _:
                raise Refused(f"byte {first:#x}")

    def map(self, size: int) -> dict[Any, Any]:
        return {str(self.value()): self.value() for _ in range(size)}


COUNT, WEEK, FLAG, BYTES, BYTES_OR_NIL = "count", "week", "flag", "bytes", "bytes or nil"
SCOPED = [("index", COUNT), ("first_week", WEEK), ("bodies", FLAG)]
DIFFERS = [
    *SCOPED,
    ("entries_root", 16),
    ("bodies_root", 16),
    ("vector", BYTES_OR_NIL),
]
PACKED = [("head", BYTES), ("body", BYTES_OR_NIL), ("signature", BYTES_OR_NIL)]
# 13.3: name, fields, how many of them may not be missing, and most parts of its list.
KINDS: dict[int, tuple[str, list[tuple[str, Any]], int]] = {
    1: ("Hello", [("version", COUNT), ("features", COUNT), ("time_ms", COUNT)], 3),
    2: ("Offer", [("serial", COUNT), ("logs", BYTES), ("scopes", (SCOPED, 10_000)), ("partial", FLAG)], 2),
    3: ("Answer", [("serial", COUNT), ("equal", BYTES), ("differs", (DIFFERS, 10_000))], 2),
    4: ("Have", [("tag", 6), ("vector", BYTES)], 2),
    5: (
        "Want",
        [
            ("request", COUNT),
            ("tag", 6),
            ("chains", BYTES),
            ("ids", BYTES),
            ("shorts", BYTES),
            ("first_week", WEEK),
            ("bodies", FLAG),
        ],
        2,
    ),
    6: ("Entries", [("serial", COUNT), ("tag", 6), ("entries", (PACKED, 1000))], 3),
    7: ("Ack", [("serial", COUNT), ("refused", COUNT)], 1),
    8: ("Done", [("request", COUNT), ("lacking", COUNT)], 1),
    9: ("Receipt", [("serial", COUNT), ("time_ms", COUNT), ("expires_ms", COUNT), ("signature", 64)], 4),
    10: ("Grant", [("sealed", BYTES)], 1),
    11: ("Again", [], 0),
    12: ("AskWeeks", [("tag", 6), ("first_week", WEEK), ("attempt", COUNT)], 3),
    13: ("Weeks", [("tag", 6), ("attempt", COUNT), ("entries", COUNT), ("marks", BYTES)], 4),
    14: (
        "AskCells",
        [("tag", 6), ("attempt", COUNT), ("weeks", BYTES), ("start", COUNT), ("stop", COUNT)],
        5,
    ),
    15: ("Cells", [("tag", 6), ("attempt", COUNT), ("count", COUNT), ("start", COUNT), ("cells", BYTES)], 5),
    16: ("AskIds", [("tag", 6), ("week", WEEK), ("after", 32)], 3),
    17: ("Ids", [("tag", 6), ("week", WEEK), ("after", 32), ("ids", BYTES), ("more", FLAG)], 5),
    18: (
        "Query",
        [
            ("request", COUNT),
            ("tag", 6),
            ("week", WEEK),
            ("after", 32),
            ("last_week", WEEK),
            ("limit", COUNT),
            ("bodies", FLAG),
        ],
        6,
    ),
    20: ("AskCarried", [("tag", 6), ("week", WEEK), ("after", 32), ("known", BYTES)], 3),
    21: ("Same", [("tag", 6)], 1),
    19: (
        "Page",
        [
            ("request", COUNT),
            ("week", WEEK),
            ("after", 32),
            ("end", FLAG),
            ("segments", BYTES),
            ("entries", (PACKED, 1000)),
        ],
        6,
    ),
    128: ("Parting", [("tag", 6), ("entries", (PACKED, 64))], 2),
    129: ("Parted", [("tag", 6)], 1),
}
DEFAULTS = {"scopes": [], "partial": False, "differs": [], "chains": b"", "ids": b"", "shorts": b""}
DEFAULTS |= {"first_week": 0, "bodies": True, "refused": 0, "lacking": 0}


def checked(value: Any, kind: Any) -> Any:
    match kind:
        case "count" | "week":
            most = 8191 if kind == WEEK else 2**53 - 1
            if type(value) is not int or not 0 <= value <= most:
                raise Refused("not a count, or out of its bounds")
        case "flag":
            if type(value) is not bool:
                raise Refused("not a flag")
        case "bytes or nil":
            if value is not None and type(value) is not bytes:
                raise Refused("not bytes")
        case (fields, most):
            if type(value) is not list or len(value) > most:
                raise Refused("not a list, or too long")
            return [named(part, fields, len(fields)) for part in value]
        case _:
            if type(value) is not bytes or (kind != BYTES and len(value) != kind):
                raise Refused("not bytes, or of another length")
    return value


def named(array: Any, fields: list[tuple[str, Any]], least: int) -> dict[str, Any]:
    if type(array) is not list or len(array) < least:
        raise Refused("fields are missing")
    given = dict(zip((name for name, _ in fields), array, strict=False))
    kinds = dict(fields)
    return {name: checked(given[name], kinds[name]) if name in given else DEFAULTS[name] for name in kinds}


def read(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """13.1: name and fields of a message, or None where it is ignored."""
    if len(data) > 2_097_152:
        raise Refused("too long")
    may_ignore = len(data) > 2 and 0x90 <= data[0] <= 0x9F and data[1] == 0xCC and data[2] >= 128
    if may_ignore and data[2] not in KINDS:
        return None
    unpacker = Unpacker(data)
    array = unpacker.value()
    if unpacker.at < len(data) or type(array) is not list or not array:
        raise Refused("not one array")
    if type(array[0]) is not int or array[0] not in KINDS:
        raise Refused("a kind that is not known")
    name, fields, least = KINDS[array[0]]
    return name, named(array[1:], fields, least)


# -- 14.1, 14.2 ------------------------------------------------------------------------------


class Reader:
    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise Refused("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if value >= 2**53 or shift > 70:
                raise Refused("too large")
            if byte < 0x80:
                if shift > 7 and byte == 0:
                    raise Refused("not the shortest form")
                return value

    def ranges(self, start: int, last: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for index in range(self.number()):
            distance, length = self.number(), self.number()
            first = start + distance
            start = first + length
            if length == 0 or (index and distance == 0) or start - 1 > last:
                raise Refused("an impossible range")
            found.append((first, start - 1))
        return found


def chains_of(data: bytes, *, vector: bool) -> dict[bytes, list[tuple[int, int]]]:
    """A vector as first, last and holes of each chain; or the ranges of each chain."""
    reader, before, ranges = Reader(data), b"", 0
    found: dict[bytes, list[tuple[int, int]]] = {}
    while reader.at < len(data):
        tag = reader.take(6)
        if tag <= before or len(found) == 512:
            raise Refused("chains out of order, or too many")
        before = tag
        if vector:
            first, size = reader.number(), reader.number()
            if size == 0 or first + size > 2**53:
                raise Refused("an impossible chain")
            holes = reader.ranges(first, first + size - 2)
            found[tag] = [(first, first + size - 1), *holes]
            ranges += len(holes)
        else:
            found[tag] = reader.ranges(0, 2**53 - 1)
            ranges += len(found[tag])
        if ranges > 10_000:
            raise Refused("too many ranges")
    return found


def held_seqs(chain: Any) -> set[int]:
    (first, last), *holes = chain
    return set(range(first, last + 1)) - {n for low, high in holes for n in range(low, high + 1)}


def segments_of(data: bytes) -> dict[int, tuple[int, int, bytes, bytes]]:
    found: dict[int, tuple[int, int, bytes, bytes]] = {}
    for at in range(0, len(data), 42):
        part = data[at : at + 42]
        week = int.from_bytes(part[:2], "big")
        if len(part) < 42 or week > 8191 or (found and week <= max(found)):
            raise Refused("segments cut off or out of order")
        found[week] = (
            int.from_bytes(part[2:6], "big"),
            int.from_bytes(part[6:10], "big"),
            part[10:26],
            part[26:],
        )
    return found


def marks_of(data: bytes) -> dict[int, bytes]:
    """14.2"""
    found: dict[int, bytes] = {}
    while data:
        first, weeks = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        run, data = data[4 : 4 + 4 * weeks], data[4 + 4 * weeks :]
        if not weeks or len(run) < 4 * weeks or first + weeks > 8192 or (found and first <= max(found) + 1):
            raise Refused("marks cut off or out of order")
        for n in range(weeks):
            found[first + n] = run[4 * n : 4 * n + 4]
    return found


def mark(binding: bytes, attempt: int, week: int, entries: int, entries_hash: bytes) -> bytes:
    """14.2"""
    key = keyed(binding, b"weeks" + attempt.to_bytes(8, "big"), 32)
    return keyed(key, week.to_bytes(2, "big") + entries.to_bytes(8, "big") + entries_hash, 4)


# -- 4.5, 7, 16 ------------------------------------------------------------------------------


CARRIED = {1, 2, 3, 6, 7, 8, 9, 34}


class Entry(NamedTuple):
    week: int
    kind: int
    chain: tuple[bytes, bytes] | None
    seq: int
    body: bool


class Log:
    """One replica's set of one log, and what follows from it."""

    def __init__(self, plain: dict[str, Any], secrets: dict[str, Any]):
        self.topic = bytes.fromhex(plain["topic"])
        self.secret = None if plain["blind"] else bytes.fromhex(secrets["secret"])
        self.outlines = [derive("outline", bytes.fromhex(epoch)) for epoch in secrets["epochs"]]
        self.first_week = plain["first_week"]
        self.entries: dict[bytes, Entry] = {}
        for held in plain["entries"]:
            body = None if held["body"] is None else bytes.fromhex(held["body"])
            self.add(bytes.fromhex(held["outer"]), body)

    def add(self, outer: bytes, body: bytes | None) -> bytes:
        """4.5; signatures are taken as read: 4.3 has its own tests."""
        assert outer[:17] == b"\1" + self.topic
        week, salt, tag = int.from_bytes(outer[17:19], "big"), outer[19:35], outer[35:51]
        id_ = derive("entry id", outer)
        chain, seq, kind = None, 0, 0
        if self.secret is not None:
            assert outer[-16:] == keyed(derive("mac", self.secret), outer[:-16], 16)
            (outline,) = (o for o in self.outlines if keyed(derive("epoch tag", o), salt, 16) == tag)
            key = keyed(derive("header", outline), salt)
            header = ChaCha20Poly1305(key).decrypt(bytes(12), outer[89:-16], outer[:89])
            kind, seq = header[0], int.from_bytes(header[42:50], "big")
            chain = (header[2:34], header[34:42])
        if body is not None:
            assert outer[51:83] == derive("sealed body", body)
        had_body = id_ in self.entries and self.entries[id_].body
        self.entries[id_] = Entry(week, kind, chain, seq, had_body or body is not None)
        return id_

    def segments(self, first: int) -> dict[int, tuple[list[bytes], list[bytes]]]:
        weeks: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for id_, held in sorted(self.entries.items()):
            if held.week >= first:
                entries, bodies = weeks.setdefault(held.week, ([], []))
                entries.append(id_)
                if held.body:
                    bodies.append(id_)
        return dict(sorted(weeks.items()))

    def roots(self, first: int) -> tuple[bytes, bytes]:
        """7.1"""
        joined = [b"", b""]
        for week, sides in self.segments(first).items():
            for which, ids in enumerate(sides):
                if ids:
                    hashed = derive(("segment entries", "segment bodies")[which], b"".join(ids))
                    joined[which] += week.to_bytes(2, "big") + len(ids).to_bytes(8, "big") + hashed
        return derive("scope entries", joined[0]), derive("scope bodies", joined[1])

    def carried(self, first: int) -> list[bytes]:
        """14.5"""
        last: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        for held in self.entries.values():
            if held.chain is not None:
                last[held.chain] = max(last.get(held.chain, (0, 0)), (held.seq, held.week))
        return [
            id_
            for id_, held in sorted(self.entries.items())
            if held.week < first
            and held.chain is not None
            and (held.kind in CARRIED or (held.seq == 0 and last[held.chain][1] >= first))
        ]

    def chains(self, binding: bytes, first: int) -> dict[bytes, set[int]]:
        """What is held of each chain, from its first seq in a week that counts."""
        found: dict[bytes, set[int]] = {}
        starts: dict[bytes, int] = {}
        for held in self.entries.values():
            if held.chain is not None:
                tag = keyed(binding, b"chain" + b"".join(held.chain), 6)
                found.setdefault(tag, set()).add(held.seq)
                if held.week >= first:
                    starts[tag] = min(starts.get(tag, held.seq), held.seq)
        return {tag: {n for n in seqs if n >= starts[tag]} for tag, seqs in found.items() if tag in starts}

    def statement(self, first: int, time_ms: int, expires_ms: int) -> bytes:
        """16"""
        sides = list(self.segments(first).values())
        counts = [sum(len(side[which]) for side in sides) for which in (0, 1)]
        numbers = b"".join(count.to_bytes(8, "big") for count in counts)
        times = time_ms.to_bytes(8, "big") + expires_ms.to_bytes(8, "big")
        return self.topic + first.to_bytes(2, "big") + numbers + b"".join(self.roots(first)) + times


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return derive("receipt leaf", leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return derive("receipt node", tree(leaves[:split]) + tree(leaves[split:]))


# -- both sides of the session ---------------------------------------------------------------


class Follows:
    """Hears every message, and knows for each whether it had to be so."""

    def __init__(self) -> None:
        self.binding = bytes.fromhex(_SESSION["binding"])
        secrets = {log["topic"]: log for log in _SESSION["logs"]}
        self.sides = {
            side: {
                keyed(self.binding, b"log" + bytes.fromhex(plain["topic"]), 6): Log(
                    plain, secrets[plain["topic"]]
                )
                for plain in _SESSION["before"][side]
            }
            for side in ("leader", "follower")
        }
        self.offer: dict[str, Any] = {}
        self.offered: list[tuple[bytes, int]] = []
        self.equal: dict[str, list[tuple[Log, int]]] = {}
        self.flying: dict[str, tuple[int, list[bytes]] | None] = {"leader": None, "follower": None}
        self.wanted: list[int] = []
        self.weeks_asked: tuple[bytes, int, int] | None = None
        self.ids_asked: dict[str, Any] | None = None
        self.carried_asked: dict[str, Any] | None = None
        self.heard: list[str] = []
        self.proofs = 0

    def hear(self, side: str, name: str, said: dict[str, Any]) -> None:
        assert (name == "Hello") == (f"{side} Hello" not in self.heard)
        self.heard.append(f"{side} {name}")
        getattr(self, f"hear_{name.lower()}")(side, said)

    def hear_hello(self, _: str, said: dict[str, Any]) -> None:
        assert said["version"] >= 1

    def hear_offer(self, side: str, said: dict[str, Any]) -> None:
        assert side == "leader"
        assert said["serial"] == self.offer.get("serial", 0) + 1
        self.offer, self.offered = said, []
        scopes = {scoped["index"]: scoped for scoped in said["scopes"]}
        for index, at in enumerate(range(0, len(said["logs"]), 38)):
            part = said["logs"][at : at + 38]
            first = scopes[index]["first_week"] if index in scopes else 0
            entries, bodies = self.sides[side][part[:6]].roots(first)
            assert part == part[:6] + entries[:16] + bodies[:16]
            self.offered.append((part[:6], first))
        assert said["partial"] == (len(self.offered) < len(self.sides[side]))

    def hear_answer(self, side: str, said: dict[str, Any]) -> None:
        assert (side, said["serial"]) == ("follower", self.offer["serial"])
        equal, differs = bytearray((len(self.offered) + 7) // 8), []
        self.equal = {"leader": [], "follower": []}
        for index, (tag, offered_first) in enumerate(self.offered):
            mine, theirs = self.sides[side][tag], self.sides["leader"][tag]
            first = max(mine.first_week, offered_first)
            if first == offered_first and mine.roots(first) == theirs.roots(first):
                equal[index // 8] |= 1 << index % 8
                self.equal["leader"].append((theirs, first))
                self.equal["follower"].append((mine, first))
                continue
            differs.append(index)
            told = next(d for d in said["differs"] if d["index"] == index)
            assert told["first_week"] == first
            assert (told["entries_root"], told["bodies_root"]) == tuple(r[:16] for r in mine.roots(first))
            if mine.secret is None:
                assert told["vector"] is None
            else:
                self.same_chains(told["vector"], mine, first)
        assert said["equal"] == bytes(equal)
        assert [d["index"] for d in said["differs"]] == differs

    def same_chains(self, data: bytes, log: Log, first: int) -> None:
        found = chains_of(data, vector=True)
        assert {tag: held_seqs(chain) for tag, chain in found.items()} == log.chains(self.binding, first)

    def hear_receipt(self, side: str, said: dict[str, Any]) -> None:
        assert said["serial"] == self.offer["serial"]
        statements = [
            log.statement(first, said["time_ms"], said["expires_ms"]) for log, first in self.equal[side]
        ]
        # The other side makes the same ones from what it holds itself.
        other = "leader" if side == "follower" else "follower"
        assert statements == [
            log.statement(first, said["time_ms"], said["expires_ms"]) for log, first in self.equal[other]
        ]
        signed = len(statements).to_bytes(4, "big") + tree(statements)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(_SESSION["devices"][side]))
        key.verify(said["signature"], b"mlog v1 receipt\0" + signed)
        self.proofs += len(statements)

    def hear_have(self, side: str, said: dict[str, Any]) -> None:
        log = self.sides[side][said["tag"]]
        first = next(
            max(f, self.sides["follower"][t].first_week) for t, f in self.offered if t == said["tag"]
        )
        self.same_chains(said["vector"], log, first)

    def hear_want(self, side: str, said: dict[str, Any]) -> None:
        other = "leader" if side == "follower" else "follower"
        mine = self.sides[side][said["tag"]].chains(self.binding, said["first_week"])
        theirs = self.sides[other][said["tag"]].chains(self.binding, said["first_week"])
        lacks = {tag: seqs - mine.get(tag, set()) for tag, seqs in theirs.items()}
        asked = chains_of(said["chains"], vector=False)
        assert {
            tag: {n for low, high in ranges for n in range(low, high + 1)} for tag, ranges in asked.items()
        } == {tag: seqs for tag, seqs in lacks.items() if seqs}
        assert said["bodies"] is True
        self.wanted.append(said["request"])

    def hear_entries(self, side: str, said: dict[str, Any]) -> None:
        assert self.flying[side] is None
        other = "leader" if side == "follower" else "follower"
        mine, theirs = self.sides[side][said["tag"]], self.sides[other][said["tag"]]
        ids = []
        for packed in said["entries"]:
            head, body = packed["head"], packed["body"]
            if body is not None:
                head = head[:34] + derive("sealed body", body) + head[34:]
            ids.append(theirs.add(b"\1" + theirs.topic + head, body))
            if ids[-1] not in mine.entries:
                # Written while the session was live; from nobody else.
                mine.add(b"\1" + mine.topic + head, body)
        self.flying[side] = said["serial"], ids

    def hear_ack(self, side: str, said: dict[str, Any]) -> None:
        other = "leader" if side == "follower" else "follower"
        flying = self.flying[other]
        assert flying is not None
        assert (said["serial"], said["refused"]) == (flying[0], 0)
        self.flying[other] = None

    def hear_done(self, _: str, said: dict[str, Any]) -> None:
        assert said == {"request": self.wanted.pop(0), "lacking": 0}

    def hear_askweeks(self, _: str, said: dict[str, Any]) -> None:
        self.weeks_asked = said["tag"], said["first_week"], said["attempt"]

    def hear_weeks(self, side: str, said: dict[str, Any]) -> None:
        assert self.weeks_asked is not None
        tag, first, attempt = self.weeks_asked
        assert (said["tag"], said["attempt"]) == (tag, attempt)
        segments = self.sides[side][tag].segments(first)
        assert said["entries"] == sum(len(entries) for entries, _ in segments.values())
        assert marks_of(said["marks"]) == {
            week: mark(
                self.binding, attempt, week, len(entries), derive("segment entries", b"".join(entries))
            )
            for week, (entries, _) in segments.items()
        }

    def hear_askids(self, _: str, said: dict[str, Any]) -> None:
        self.ids_asked = said

    def hear_askcarried(self, side: str, said: dict[str, Any]) -> None:
        assert side == "leader"
        known = derive("carried entries", b"".join(self.sides[side][said["tag"]].carried(said["week"])))
        assert said["known"] == (b"" if any(said["after"]) else known)
        self.carried_asked = said

    def hear_same(self, side: str, said: dict[str, Any]) -> None:
        asked, self.carried_asked = self.carried_asked, None
        assert asked is not None
        assert said["tag"] == asked["tag"]
        log = self.sides[side][said["tag"]]
        known = derive("carried entries", b"".join(log.carried(asked["week"])))
        assert log.secret is None or asked["known"] == known

    def hear_ids(self, side: str, said: dict[str, Any]) -> None:
        if self.carried_asked is not None:
            asked, self.carried_asked = self.carried_asked, None
            assert (said["tag"], said["week"]) == (asked["tag"], asked["week"])
            assert said["ids"] == b"".join(self.sides[side][said["tag"]].carried(asked["week"]))
            assert said["more"] is False
            return
        assert self.ids_asked is not None
        assert (said["tag"], said["week"], said["after"]) == tuple(self.ids_asked.values())
        entries, _ = self.sides[side][said["tag"]].segments(0)[said["week"]]
        assert said["ids"] == b"".join(entries)
        assert said["more"] is False


def follow(messages: list[bytes]) -> Follows:
    follows = Follows()
    for message, data in zip(_SESSION["messages"], messages, strict=True):
        found = read(data)
        assert found is not None
        assert found[0] == message["name"]
        follows.hear(message["from"], *found)
    return follows


_MESSAGES = [bytes.fromhex(message["bytes"]) for message in _SESSION["messages"]]


def test_a_session_is_followed_from_both_sides() -> None:
    follows = follow(_MESSAGES)
    for side, logs in follows.sides.items():
        expected = {log["topic"]: log["ids"] for log in _SESSION["after"][side]}
        assert {
            log.topic.hex(): [id_.hex() for id_ in sorted(log.entries)] for log in logs.values()
        } == expected
    leader, follower = (follows.sides[side] for side in ("leader", "follower"))
    for tag, log in follower.items():
        assert log.roots(log.first_week) == leader[tag].roots(log.first_week)
    # Four logs, and then the one that was written to, by either side.
    assert follows.proofs == 2 * (4 + 1)
    assert not follows.wanted
    assert follows.flying == {"leader": None, "follower": None}
    # The session was worth recording.
    for name in ("Want", "Have", "Entries", "Done", "AskIds", "AskWeeks", "AskCarried", "Receipt"):
        assert any(heard.endswith(f" {name}") for heard in follows.heard), name


# What these say may differ in their last byte: a clock, a signature, where to begin.
_FREE = ("Hello", "Entries", "AskWeeks", "AskIds")


@pytest.mark.parametrize(
    "index", [n for n, message in enumerate(_SESSION["messages"]) if message["name"] not in _FREE]
)
def test_a_message_with_another_last_byte_is_noticed(index: int) -> None:
    messages = list(_MESSAGES)
    messages[index] = messages[index][:-1] + bytes([messages[index][-1] ^ 1])
    with pytest.raises(Exception):  # noqa: B017, PT011 (what it notices first is of no matter)
        follow(messages)


# -- wire.json -------------------------------------------------------------------------------


def _cases(*path: str) -> list[Any]:
    found = _WIRE
    for key in path:
        found = found[key]
    return [pytest.param(case, id=f"{n}-{case['note'][:40]}") for n, case in enumerate(found)]


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value


@pytest.mark.parametrize("case", [*_cases("messages", "valid"), *_cases("messages", "read")])
def test_a_message_is_read(case: dict[str, Any]) -> None:
    found = read(bytes.fromhex(case["bytes"]))
    assert found is not None
    assert (found[0], plain(found[1])) == (case["name"], case["fields"])


@pytest.mark.parametrize("case", _cases("messages", "ignored"))
def test_a_message_is_ignored(case: dict[str, Any]) -> None:
    assert read(bytes.fromhex(case["bytes"])) is None


@pytest.mark.parametrize("case", _cases("messages", "invalid"))
def test_a_message_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read(bytes.fromhex(case["bytes"]))


@pytest.mark.parametrize(("name", "vector"), [("vectors", True), ("ranges", False)])
def test_vectors_and_ranges(name: str, vector: bool) -> None:
    for case in _WIRE[name]["valid"]:
        found = chains_of(bytes.fromhex(case["bytes"]), vector=vector)
        assert [tag.hex() for tag in found] == [chain["tag"] for chain in case["chains"]]
        for chain, expected in zip(found.values(), case["chains"], strict=True):
            if not vector:
                assert [list(part) for part in chain] == expected["ranges"]
                continue
            (first, last), *holes = chain
            runs, at = [], first
            for low, high in [*holes, (last + 1, last + 1)]:
                runs += [[at, low - 1]] if at < low else []
                at = high + 1
            assert (first, runs) == (expected["first"], expected["ranges"])
    for case in _WIRE[name]["invalid"]:
        with pytest.raises(Refused):
            chains_of(bytes.fromhex(case["bytes"]), vector=vector)


def test_marks() -> None:
    for case in _WIRE["marks"]["valid"]:
        binding = bytes.fromhex(case["binding"])
        assert marks_of(bytes.fromhex(case["bytes"])) == {
            s["week"]: mark(
                binding, case["attempt"], s["week"], s["entries"], bytes.fromhex(s["entries_hash"])
            )
            for s in case["segments"]
        }
    for case in _WIRE["marks"]["invalid"]:
        with pytest.raises(Refused):
            marks_of(bytes.fromhex(case["bytes"]))


def test_segments() -> None:
    for case in _WIRE["segments"]["valid"]:
        found = segments_of(bytes.fromhex(case["bytes"]))
        assert [[week, *plain(list(rest))] for week, rest in found.items()] == [
            list(segment.values()) for segment in case["segments"]
        ]
    for case in _WIRE["segments"]["invalid"]:
        with pytest.raises(Refused):
            segments_of(bytes.fromhex(case["bytes"]))


def test_names_within_a_session() -> None:
    binding = bytes.fromhex(_WIRE["binding"])
    for case in _WIRE["log_tags"]:
        assert keyed(binding, b"log" + bytes.fromhex(case["topic"]), 6).hex() == case["tag"]
    for case in _WIRE["chain_tags"]:
        named_by = bytes.fromhex(case["device"] + case["incarnation"])
        assert keyed(binding, b"chain" + named_by, 6).hex() == case["tag"]
    for case in _WIRE["sketch_keys"]:
        assert keyed(binding, b"sketch" + case["attempt"].to_bytes(8, "big")).hex() == case["key"]

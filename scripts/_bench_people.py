"""Benchmarks of people: who belongs to a conversation, bytes of an epoch, and how soon a device is out.

Membership is folded from rulings of admins who were apart, each with as many as one person's rulings are
looked at. An epoch changes because a device is revoked, and is carried to another one of the person's
devices. A revocation is a command beside a service, and three services in processes of their own.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from _bench_shared import SEED, Bench, Result, percentile, result, rounded, write_texts
from _bench_sync import Process, join, require_equal

from mlog import limits
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.local_socket import ask
from mlog.api.home import Home
from mlog.log import belonging, bodies, crypto, entry, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys, LogKeys, Vault
from mlog.log.fold import Draft
from mlog.log.ids import Incarnation, Topic
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, LogKind, TimelineQuery

__all__ = ["bench_epochs", "bench_members", "bench_revocation"]

_REPEATS: Final = 5
_ROLES: Final = ("admin", "member", "member", "none")
_HPKE_SIZE: Final = 1136
"""What HPKE adds to a secret: the encapsulated key and the tag."""
_WAIT_S: Final = 60
_LOOK_S: Final = 0.001


# -- membership ------------------------------------------------------------------------------


def bench_members(bench: Bench) -> Iterator[Result]:
    """CPU time to work out who belongs to a conversation, from all rulings about that."""
    for count in bench.sizes.rulings:
        with Home(bench.folder / f"home-ruled-{count}") as home:
            log, admins = _ruled(home, count)
            people, rows = home.replica.people, _rulings(home, log)
            took: list[float] = []
            reference: list[float] = []
            for _ in range(_REPEATS):
                people.forget_log(log)
                reference.append(_cpu_s(lambda home=home, log=log, rows=rows: _verify(home, log, rows)))
                took.append(_cpu_s(lambda people=people, log=log: people.membership(log)))
            membership = people.membership(log)
            assert membership is not None
            yield result(
                f"members-{count}",
                statistics.median(took) * 1000,
                "ms of CPU",
                statistics.median(reference) * 1000,
                "the id of each of these entries hashed, and its signature verified",
                len(took),
                rulings=len(rows),
                admins=admins,
                joined=len(membership.joined()),
            )


def _cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _ruled(home: Home, count: int) -> tuple[int, int]:
    """A conversation with so many rulings of as few admins as may make them; its number, and theirs."""
    log, draw = home.new("ruled").n, random.Random(SEED)  # noqa: S311 (the same in every run)
    others = -(-count // limits.STORE_ROWS_MAX) - 1
    apart = _admins(home, log, others)
    subjects = [Topic(draw.randbytes(16)) for _ in range(count)]
    # Letting the other admins in took a ruling for each.
    _rule(home.replica, log, subjects[: count // (others + 1) - others], draw)
    for at, (admin, there) in enumerate(apart, 1):
        _rule(admin, there, subjects[at * count // (others + 1) : (at + 1) * count // (others + 1)], draw)
        _carry(admin, there, home.replica, log, home.now_ms())
    return log, 1 + others


def _rule(replica: Replica, log: int, subjects: Sequence[Topic], draw: random.Random) -> None:
    now_ms = time.time_ns() // 1_000_000
    drafts = [
        # Every second ruling is about somebody of whom another one was made.
        Draft(Kind.MEMBER, bodies.Member(person=subjects[at // 2], role=draw.choice(_ROLES)), now_ms)
        for at in range(len(subjects))
    ]
    replica.rule(log, drafts, now_ms)


def _admins(home: Home, log: int, count: int) -> list[tuple[Replica, int]]:
    """Replicas of so many further persons, each an admin that has heard of no other one's rulings."""
    here, now_ms = home.replica, home.now_ms()
    own = here.people.current()
    assert own is not None
    found: list[Replica] = []
    for number in range(count):
        replica = _person(number, now_ms)
        person = replica.people.current()
        assert person is not None
        (n,) = here.add_logs([(LogKind.PERSON, replica.log(person.log).keys)])
        _carry(replica, person.log, here, n, now_ms)
        found.append(replica)
    here.people.forget()
    persons = [p for p in here.people.persons() if p.topic != own.topic]
    if persons:
        ruling.add(here, log, persons, now_ms, Role.ADMIN)
    joined: list[tuple[Replica, int]] = []
    for replica in found:
        numbers = replica.add_logs(
            [(LogKind.PERSON, here.log(own.log).keys), (LogKind.CONVERSATION, _copied(here.log(log).keys))]
        )
        for source, target in zip((own.log, log), numbers, strict=True):
            _carry(here, source, replica, target, now_ms)
        joined.append((replica, numbers[1]))
    return joined


def _person(number: int, now_ms: int) -> Replica:
    """A person with one device, in memory."""
    entropy = SystemEntropy()
    draw = entropy.random
    keys = DeviceKeys(draw(32), draw(32), draw(32))
    replica = Replica(MemoryStore(), keys, Vault(draw(32)), entropy, Incarnation(draw(8)))
    record = bodies.Device(
        name="desk", person=f"person {number}", noise=keys.noise_public, hpke=keys.hpke_public
    )
    replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
    return replica


def _copied(keys: LogKeys) -> LogKeys:
    copied = LogKeys(keys.secret)
    for epoch in keys.epochs[1:]:
        copied.add_epoch(epoch)
    return copied


def _carry(giver: Replica, source: int, taker: Replica, target: int, now_ms: int) -> None:
    """All entries of a log from one replica to another, as a session would."""
    after = 0
    while rows := giver.store.arrivals(source, after, limits.STORE_ROWS_MAX):
        taker.receive(target, giver.sealed_of(source, rows, bodies=True), now_ms)
        after = rows[-1].n


def _rulings(home: Home, log: int) -> list[EntryRow]:
    found: list[EntryRow] = []
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.MEMBER}), hidden=True)
    while rows := home.store.timeline(query):
        found += rows
        query = TimelineQuery(
            log=log,
            limit=limits.STORE_ROWS_MAX,
            kinds=frozenset({Kind.MEMBER}),
            hidden=True,
            after=rows[-1].position,
        )
    return found


def _verify(home: Home, log: int, rows: Sequence[EntryRow]) -> None:
    keys = home.replica.log(log).keys
    devices = home.replica.authors(log, {row.chain for row in rows})
    for row in rows:
        fields = entry.parse_outer(row.outer)
        epoch = keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        assert row.signature is not None
        entry.verify_entry_signature(
            epoch, devices[row.chain], entry.entry_id(row.outer), row.outer, row.signature
        )


# -- epochs ----------------------------------------------------------------------------------


def bench_epochs(bench: Bench) -> Iterator[Result]:
    """Bytes of an epoch that begins because a device was revoked, as it lies there and on the wire."""
    for devices in bench.sizes.recipients:
        desk, laptop = bench.folder / f"desk-epochs-{devices}", bench.folder / f"laptop-epochs-{devices}"
        with Home(desk) as home:
            home.new("talk")
        join(desk, laptop, blind=False)
        with Home(desk) as home:
            others = [_stranger(number) for number in range(devices - 1)]
            for peer in others:
                belonging.admit(home.replica, peer, home.now_ms())
        _exchanged(desk, laptop)
        same = _exchanged(desk, laptop)
        with Home(desk) as home:
            before = home.store.next_n()
            belonging.revoke(home.replica, others[-1].device, home.now_ms())
            new = list(home.store.rows(range(before, home.store.next_n())).values())
            keys = [row for row in new if row.kind == Kind.KEY]
            sealed = [s for row in keys for s in home.replica.sealed_of(row.log, [row], bodies=True)]
            recipients = {_recipients(row) for row in keys}
        changed = _exchanged(desk, laptop)
        assert recipients == {devices}, recipients
        yield result(
            f"epochs-{devices}-sealed",
            statistics.median(len(s.outer) + len(s.body or b"") + len(s.signature or b"") for s in sealed),
            "bytes/log",
            devices * (_HPKE_SIZE + crypto.SECRET_SIZE),
            "the secret as HPKE wraps it, for each device",
            len(keys),
            plain_bytes=round(statistics.median(len(row.body or b"") for row in keys)),
            secrets_bytes=devices * crypto.SECRET_SIZE,
        )
        yield result(
            f"epochs-{devices}-wire",
            changed - same,
            "bytes",
            len(keys) * devices * (_HPKE_SIZE + crypto.SECRET_SIZE),
            "the secret as HPKE wraps it, for each device and log",
            1,
            of="a revocation, both ways, beyond what a sync takes where nothing differs",
            logs=len(keys),
            entries=len(new),
            bytes_each_device=rounded((changed - same) / len(keys) / devices),
        )


def _stranger(number: int) -> PeerRow:
    draw = SystemEntropy().random
    keys = DeviceKeys(draw(32), draw(32), draw(32))
    return PeerRow(
        device=keys.id, name=f"device {number}", noise=keys.noise_public, hpke=keys.hpke_public, own=True
    )


def _recipients(row: EntryRow) -> int:
    body = bodies.decode(row.kind, row.body or b"")
    assert isinstance(body, bodies.Key)
    return len(body.wraps)


def _exchanged(desk: Path, laptop: Path) -> int:
    """Bytes of a sync, with its handshake."""
    with Process("home", desk) as one, Process("home", laptop) as two:
        told = two.ask("sync", target=f"127.0.0.1:{one.ask('serve')['port']}")
        require_equal(told)
        return told["bytes"]


# -- revocation ------------------------------------------------------------------------------


class _Event(NamedTuple):
    """What a service said, and when."""

    ns: int
    what: str
    device: str


class _Served:
    """A home with `mlog serve`; use it in a `with` statement."""

    def __init__(self, home: Path):
        self.home = home
        self.events: list[_Event] = []
        command = [*_mlog(home), "--json", "serve", "--host", "127.0.0.1", "--port", "0", "--no-discovery"]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.port: int = json.loads(self._child.stdout.readline())["port"]
        self._reader = threading.Thread(target=self._read, name=f"events of {home.name}")
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            told = json.loads(line)
            self.events.append(_Event(time.monotonic_ns(), told["what"], told["device"] or ""))

    def __enter__(self) -> _Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        self._reader.join()
        self._child.communicate()

    def connected(self) -> set[str]:
        """The devices that are connected to it."""
        return {device["device"] for device in self._devices() if device["connected"]}

    def known(self) -> set[str]:
        """The devices that may connect to it."""
        return {device["device"] for device in self._devices()}

    def _devices(self) -> list[dict[str, Any]]:
        (status,) = ask(self.home, {"do": "status"}, timeout_s=_WAIT_S)
        return status["devices"]

    def lost_ns(self, since_ns: int, device: str) -> int | None:
        """When it said that the connection to a device had ended."""
        found = (e for e in self.events if e.what == "disconnected" and e.ns > since_ns)
        return next((event.ns for event in found if event.device == device), None)


def _mlog(home: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("mlog")), "--home", str(home)]


def _run(home: Path, *words: str, code: int = 0) -> None:
    done = subprocess.run([*_mlog(home), *words], capture_output=True, text=True, check=False)
    if done.returncode != code:
        sys.exit(f"mlog {' '.join(words)} of {home.name}: {done.returncode}\n{done.stdout}{done.stderr}")


def _until(what: str, found: Callable[[], int | bool | None]) -> int:
    """Wait for something; what it gives, or the time at which it came to be true."""
    deadline = time.monotonic() + _WAIT_S
    while not (came := found()):
        if time.monotonic() > deadline:
            sys.exit(f"never: {what}")
        time.sleep(_LOOK_S)
    return time.monotonic_ns() if came is True else came


def bench_revocation(bench: Bench) -> Iterator[Result]:
    """A device is revoked: until it is cut off, and until the other device goes on without it."""
    desk, phone = bench.folder / "desk-revoking", bench.folder / "phone-revoking"
    with Home(desk) as home:
        home.new("talk")
    join(desk, phone, blind=False)
    took: dict[str, list[float]] = {"told": [], "closed": [], "refused": [], "epoch": []}
    with _Served(desk) as one:
        _run(phone, "sync", f"127.0.0.1:{one.port}", "--no-discovery")
        with _Served(phone) as two:
            for turn in range(bench.sizes.revocations):
                for name, ms in _revoked(bench.folder / f"lost-{turn}", one, two).items():
                    took[name].append(ms)
    bare = _bare(bench, bench.sizes.revocations)
    said = {
        "told": "the command ends",
        "closed": "the revoked device has lost its connection to the one where it was revoked",
        "refused": "the other device has closed its connection too",
        "epoch": "the other device has the new epoch, and writes under it",
    }
    for name, values in took.items():
        for percent, suffix in ((50, "p50"), (100, "max")):
            yield result(
                f"revocation-{name}-{suffix}",
                percentile(values, percent),
                "ms",
                percentile(bare, percent),
                "one row committed by sqlite3 (FULL), sent over a bare websocket, and committed there",
                len(values),
                of=f"{suffix}, from the start of 'mlog devices revoke' until {said[name]}",
            )


def _revoked(lost: Path, desk: _Served, phone: _Served) -> dict[str, float]:
    """Pair a device, connect it to both others, revoke it; milliseconds until what."""
    join(desk.home, lost, blind=False)
    with Home(lost) as home, Home(desk.home) as first:
        device, revoking = home.replica.device_id.hex(), first.replica.device_id.hex()
    _until("the phone hears of it", lambda: device in phone.known())
    for served in (desk, phone):
        _run(lost, "sync", f"127.0.0.1:{served.port}", "--no-discovery")
    with _Served(lost) as third:
        _until("all are connected", lambda: all(device in s.connected() for s in (desk, phone)))
        before = _epochs(phone.home)
        started_ns = time.monotonic_ns()
        command = subprocess.Popen(
            [*_mlog(desk.home), "devices", "revoke", device, "--yes"], stdout=subprocess.DEVNULL
        )
        epoch_ns = _until("the phone has the epoch", lambda: _epochs(phone.home) > before)
        told_ns = _until("the command ends", lambda: command.poll() is not None)
        closed_ns = _until("it is cut off", lambda: third.lost_ns(started_ns, revoking))
        refused_ns = _until("the phone refuses it", lambda: phone.lost_ns(started_ns, device))
    for served in (desk, phone):
        _run(lost, "sync", f"127.0.0.1:{served.port}", "--no-discovery", code=3)
    ends = {"told": told_ns, "closed": closed_ns, "refused": refused_ns, "epoch": epoch_ns}
    return {name: (ns - started_ns) / 1e6 for name, ns in ends.items()}


def _epochs(home: Path) -> int:
    """How many epochs of the conversation are known in a home that others use."""
    database = sqlite3.connect(f"file:{home / 'mlog.db'}?mode=ro", uri=True)
    sql = "SELECT count(*) FROM epochs JOIN logs ON logs.n = epochs.log WHERE logs.kind = 'conversation'"
    [(count,)] = database.execute(sql)
    database.close()
    return count


def _bare(bench: Bench, count: int) -> list[float]:
    texts = list(islice(write_texts(), count))
    one_path, two_path = bench.folder / "bare-revoking.db", bench.folder / "bare-revoked.db"
    with Process("bare", one_path) as one, Process("bare", two_path) as two:
        sent = one.ask("send", port=two.ask("serve")["port"], texts=texts, gap_s=0.03)["stamps_ns"]
        came = two.ask("heard", count=count)["stamps_ns"]
    return [(end - start) / 1e6 for start, end in zip(sent, came, strict=True)]

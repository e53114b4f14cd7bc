"""Benchmarks of sync: real homes in real processes, over a websocket on loopback with the channel on.

Every end is a process of its own (scripts/_bench_node.py). What counts as bytes are the messages inside
the websocket, both ways, with the channel's share of them.
"""

# ruff: noqa: S608 (what is put into SQL are this module's own constants)

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from _bench_shared import SEED, Bench, Result, percentile, result, rounded, write_texts

from mlog.api.home import Home
from mlog.log import belonging, bodies
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.peers import PeerRow
from mlog.log.replica import Draft
from mlog.log.words import searchable
from mlog.protocol import wire

_DATABASE: Final = "mlog.db"
_STEP_MS: Final = 150_000
_ROOT_SIZE: Final = 32
_SHORT_ID_SIZE: Final = 8
_OFFERED_SIZE: Final = wire.TAG_SIZE + 2 * wire.ROOT_SIZE
_FRAME_SIZE: Final = 17
"""What the channel adds to a message."""
_SETTLED_S: Final = 6.0
"""After a change both ends compare once more, 5 s later: figures of rest begin behind that."""


class Process:
    """An end in a process of its own."""

    def __init__(self, kind: str, where: object):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._name = f"{kind} {where}"
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_bench_node.py")), kind, str(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end of its input is what ends it.
        self._child.communicate()
        self._errors.close()

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Tell it to do something, and wait until it is done."""
        self.tell(do, **arguments)
        return self.hear()

    def tell(self, do: str, **arguments: object) -> None:
        """Tell it to do something."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._child.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """What it answers to the oldest command."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self._errors.seek(0)
            sys.exit(f"{self._name} failed:\n{self._errors.read().decode(errors='replace')}")
        return json.loads(line)


# -- pairs of homes --------------------------------------------------------------------------


def _desk(bench: Bench, how: str, messages: int, path: Path) -> None:
    """A home with a conversation of so many messages, as the import or as writing by hand makes it."""
    if how == "imported":
        shutil.copytree(bench.home(messages), path)
        return
    with Home(path) as home:
        log, time_ms = home.new("written").n, 1_420_070_400_000
        texts = write_texts()
        for start in range(0, messages, 1000):
            some = islice(texts, min(1000, messages - start))
            drafts = [
                Draft(Kind.MESSAGE, bodies.Text(text=text), time_ms + at * _STEP_MS)
                for at, text in enumerate(some)
            ]
            time_ms = drafts[-1].time_ms + _STEP_MS
            home.replica.write(log, drafts, time_ms)


def peer_of(home: Home, name: str) -> PeerRow:
    keys = home.replica.device_keys
    return PeerRow(device=keys.id, name=name, noise=keys.noise_public, hpke=keys.hpke_public, own=True)


def join(desk: Path, laptop: Path, *, blind: bool) -> None:
    """Make them two devices of one person, or the second one a holder that cannot read."""
    now_ms = time.time_ns() // 1_000_000
    # The person that was founded first is the one that stays.
    with Home(desk) as one, Home(laptop, clock_ms=lambda: now_ms + 60_000) as two:
        if blind:
            for row in one.store.logs():
                two.replica.add_blind_log(row.topic)
            with one.store.transaction():
                one.store.put_peer(peer_of(two, "laptop"))
        else:
            belonging.admit(one.replica, peer_of(two, "laptop"), one.now_ms())
        with two.store.transaction():
            two.store.put_peer(peer_of(one, "desk"))


def cold(bench: Bench, how: str, messages: int, *, blind: bool = False) -> dict[str, Any]:
    """Sync a conversation into an empty home; keeps both homes, which are equal then."""
    name = f"{how}-{messages}{'-blind' if blind else ''}"
    if name in bench.pairs:
        return bench.pairs[name]
    desk, laptop = bench.folder / f"desk-{name}", bench.folder / f"laptop-{name}"
    _desk(bench, how, messages, desk)
    join(desk, laptop, blind=blind)
    with Process("home", desk) as one, Process("home", laptop) as two:
        port = one.ask("serve")["port"]
        before = one.ask("stats")
        told = two.ask("sync", target=f"127.0.0.1:{port}")
        require_equal(told)
        there, here = one.ask("stats"), two.ask("stats")
    told["desk"], told["laptop"] = desk, laptop
    told["sender_cpu_s"] = there["cpu_s"] - before["cpu_s"]
    told["sender_peak_mib"], told["receiver_peak_mib"] = there["peak_mib"], here["peak_mib"]
    bench.pairs[name] = told
    return told


def require_equal(told: dict[str, Any]) -> None:
    if not told["equal"]:
        sys.exit(f"sync failed: {told}")


def bench_cold(bench: Bench) -> Iterator[Result]:
    """A conversation comes into an empty home, durable, searchable and proven equal."""
    for how in ("imported", "written"):
        for messages in bench.sizes.synced[-2:]:
            told = cold(bench, how, messages)
            bare = _bare_cold(bench, told["desk"])
            entries = told["received"]
            yield result(
                f"cold-{how}-{messages}",
                entries / told["seconds"],
                "entries/s",
                bare["rows"] / bare["seconds"],
                "the same rows by executemany into a bare table, over a bare websocket, FULL each 1,000",
                1,
                bytes_each=rounded(told["bytes"] / entries),
                reference_bytes_each=rounded(bare["bytes"] / bare["rows"]),
                sender_cpu_us_each=rounded(told["sender_cpu_s"] / entries * 1e6),
                receiver_cpu_us_each=rounded(told["cpu_s"] / entries * 1e6),
                reference_cpu_us_each=rounded(bare["cpu_s"] / bare["rows"] * 1e6),
                sender_peak_mib=rounded(told["sender_peak_mib"]),
                receiver_peak_mib=rounded(told["receiver_peak_mib"]),
                round_trips=told["round_trips"],
            )


def _bare_cold(bench: Bench, home: Path) -> dict[str, Any]:
    source, target = bench.folder / "bare-source.db", bench.folder / "bare-target.db"
    with Process("bare", source) as one, Process("bare", target) as two:
        port = one.ask("serve", source=str(home))["port"]
        told = two.ask("fetch", port=port)
    _remove(source, target)
    return told


def _remove(*databases: Path) -> None:
    for path in databases:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


# -- nothing differs -------------------------------------------------------------------------


def bench_same(bench: Bench) -> Iterator[Result]:
    """Two homes that hold the same compare all their logs."""
    knocks = _knocks(bench)
    told, messages = dict[str, Any](), 0
    for messages in bench.sizes.synced:
        told = cold(bench, "imported", messages)
        yield from _same(f"same-{messages}", told, knocks)
    # How much of it each further log takes.
    with Home(told["desk"]) as home:
        for number in range(bench.sizes.sessions // 2):
            home.new(f"empty {number}")
    with Process("home", told["desk"]) as one, Process("home", told["laptop"]) as two:
        require_equal(two.ask("sync", target=f"127.0.0.1:{one.ask('serve')['port']}"))
    yield from _same(f"same-{messages}-many-logs", told, knocks)


def _same(name: str, told: dict[str, Any], knocks: Sequence[float]) -> Iterator[Result]:
    with Process("home", told["desk"]) as one, Process("home", told["laptop"]) as two:
        target = f"127.0.0.1:{one.ask('serve')['port']}"
        first = two.ask("sync", target=target)
        again = [two.ask("sync", target="desk") for _ in range(5)]
        for round_ in (first, *again):
            require_equal(round_)
    size, logs = again[-1]["bytes"], first["logs"]
    yield result(
        f"{name}-bytes",
        size,
        "bytes",
        _ROOT_SIZE * logs,
        "a hash of 32 bytes for each log",
        len(again),
        logs=logs,
        bytes_each_log=rounded(size / logs),
        bytes_with_handshake=first["bytes"],
        round_trips=first["round_trips"],
    )
    yield result(
        f"{name}-ms",
        statistics.median(round_["seconds"] for round_ in again) * 1000,
        "ms",
        statistics.median(knocks) * 1000,
        "48 bytes there and back over a bare websocket",
        len(again),
        ms_with_handshake=rounded(first["seconds"] * 1000),
        cpu_ms=rounded(statistics.median(round_["cpu_s"] for round_ in again) * 1000),
    )


def _knocks(bench: Bench) -> list[float]:
    one_path, two_path = bench.folder / "bare-one.db", bench.folder / "bare-two.db"
    with Process("bare", one_path) as one, Process("bare", two_path) as two:
        took = two.ask("knock", port=one.ask("serve")["port"], count=50)["seconds"]
    _remove(one_path, two_path)
    return took


# -- differences -----------------------------------------------------------------------------


def bench_differences(bench: Bench) -> Iterator[Result]:
    """The laptop lacks some entries of a large conversation, the newest ones or ones here and there."""
    messages = bench.sizes.synced[-1]
    for way, blind in (("vector", False), ("sketch", True)):
        told = cold(bench, "imported", messages, blind=blind)
        desk, laptop = told["desk"], told["laptop"]
        # Whoever dials compares: of a holder that cannot read, the other one.
        leads, follows, name = (desk, laptop, "laptop") if blind else (laptop, desk, "desk")
        handshake = _handshake_size(leads, follows, name)
        for where in ("newest", "scattered"):
            for count in bench.sizes.differences:
                _lose(laptop / _DATABASE, where, count, blind=blind)
                with Process("home", follows) as one, Process("home", leads) as two:
                    found = two.ask("sync", target=f"127.0.0.1:{one.ask('serve')['port']}")
                require_equal(found)
                known = found["known"]
                size = known["bytes"] - handshake
                yield result(
                    f"difference-{way}-{where}-{count}",
                    size,
                    "bytes",
                    _SHORT_ID_SIZE * count,
                    "8 bytes for each of them",
                    1,
                    of=f"until it is known which of {messages:,} entries differ, without the handshake",
                    bytes_of_this_log=size - 2 * _receipt_size() - _OFFERED_SIZE * (found["logs"] - 1),
                    known_ms=rounded(known["seconds"] * 1000),
                    round_trips_known=known["round_trips"],
                    differing=known["count"],
                    bytes_in_all=found["bytes"],
                    ms_in_all=rounded(found["seconds"] * 1000),
                    round_trips_in_all=found["round_trips"],
                )


def _receipt_size() -> int:
    """Both ends sign what they find of the other logs."""
    now_ms = time.time_ns() // 1_000_000
    return len(wire.encode(wire.Receipt(1, now_ms, now_ms, bytes(64)))) + _FRAME_SIZE


def _handshake_size(leads: Path, follows: Path, name: str) -> int:
    with Process("home", follows) as one, Process("home", leads) as two:
        first = two.ask("sync", target=f"127.0.0.1:{one.ask('serve')['port']}")
        return first["bytes"] - two.ask("sync", target=name)["bytes"]


def _lose(path: Path, where: str, count: int, *, blind: bool) -> None:
    """Take entries of the largest log out of a database that nobody uses, as if they had never come."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    [(log,)] = database.execute("SELECT log FROM entries GROUP BY log ORDER BY count(*) DESC LIMIT 1")
    # Those that are not read have no kind.
    kinds = "chain IS NULL" if blind else f"kind BETWEEN {min(SPOKEN)} AND {max(SPOKEN)}"
    ns = [
        n for (n,) in database.execute(f"SELECT n FROM entries WHERE log = ? AND {kinds} ORDER BY n", (log,))
    ]
    draw = random.Random(SEED + count)  # noqa: S311 (the same in every run)
    chosen = ns[-count:] if where == "newest" else sorted(draw.sample(ns[:-1], count))
    database.execute("CREATE TEMP TABLE lost (n INTEGER PRIMARY KEY)")
    database.executemany("INSERT INTO lost VALUES (?)", [(n,) for n in chosen])
    lost = "(SELECT n FROM lost)"
    if not blind:
        texts = database.execute(f"SELECT n, body FROM bodies WHERE n IN {lost}").fetchall()
        words = [(n, searchable(_words_of(json.loads(body)))) for n, body in texts]
        database.executemany("INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)", words)
    database.execute(f"INSERT OR IGNORE INTO stale SELECT DISTINCT log, week FROM entries WHERE n IN {lost}")
    for table in ("bodies", "parents", "links", "entries"):
        database.execute(f"DELETE FROM {table} WHERE n IN {lost}")
    if not blind:
        _mend_chains(database, log)
    database.execute("COMMIT")
    database.close()


def _words_of(body: dict[str, Any]) -> str:
    return f"{body['by']} {body['text']}" if body.get("by") else body.get("text", "")


def _mend_chains(database: sqlite3.Connection, log: int) -> None:
    """Runs, ends and heads as they are without what was lost."""
    in_log = "chain IN (SELECT n FROM chains WHERE log = ?)"
    database.execute(f"DELETE FROM runs WHERE {in_log}", (log,))
    database.execute(
        "INSERT INTO runs SELECT chain, min(seq), max(seq) FROM (SELECT chain, seq, seq - row_number() "
        f"OVER (PARTITION BY chain ORDER BY seq) AS run FROM entries WHERE {in_log}) GROUP BY chain, run",
        (log,),
    )
    database.execute(
        "UPDATE chains SET (seq, id, week) = (SELECT seq, id, week FROM entries AS e "
        "WHERE e.chain = chains.n ORDER BY e.seq DESC LIMIT 1) WHERE log = ?",
        (log,),
    )
    database.execute("DELETE FROM heads WHERE log = ?", (log,))
    database.execute(
        "INSERT INTO heads SELECT log, id FROM chains WHERE log = ? AND NOT EXISTS "
        "(SELECT 1 FROM parents AS p WHERE substr(p.parent, 1, 8) = substr(chains.id, 1, 8))",
        (log,),
    )


# -- live ------------------------------------------------------------------------------------


def bench_live(bench: Bench) -> Iterator[Result]:
    """A message sent by one process until it is durable at the other device, and its service says so."""
    told = cold(bench, "imported", bench.sizes.synced[-2:][0])
    texts = list(islice(write_texts(), bench.sizes.live))
    with Process("home", told["desk"]) as one, Process("home", told["laptop"]) as two:
        require_equal(two.ask("sync", target=f"127.0.0.1:{one.ask('serve')['port']}"))
        with Process("writer", told["desk"]) as writer:
            sent = writer.ask("send", texts=texts, gap_s=0.03)["stamps_ns"]
        came = two.ask("heard", count=len(texts))["stamps_ns"]
    one_path, two_path = bench.folder / "bare-one.db", bench.folder / "bare-two.db"
    with Process("bare", one_path) as one, Process("bare", two_path) as two:
        bare_sent = one.ask("send", port=two.ask("serve")["port"], texts=texts, gap_s=0.03)["stamps_ns"]
        bare_came = two.ask("heard", count=len(texts))["stamps_ns"]
    _remove(one_path, two_path)
    yield from _latencies("live", _between_ms(sent, came), _between_ms(bare_sent, bare_came))


def _between_ms(sent: Sequence[int], came: Sequence[int]) -> list[float]:
    return [(end - start) / 1e6 for start, end in zip(sent, came, strict=True)]


def _latencies(name: str, took: Sequence[float], bare: Sequence[float], **more: object) -> Iterator[Result]:
    for percent in (50, 99):
        yield result(
            f"{name}-p{percent}",
            percentile(took, percent),
            "ms",
            percentile(bare, percent),
            "one row committed by sqlite3 (FULL), sent over a bare websocket, and committed there",
            len(took),
            of=f"p{percent}",
            **more,
        )


# -- many sessions ---------------------------------------------------------------------------


def bench_sessions(bench: Bench) -> Iterator[Result]:
    """One service with many devices connected: what each takes, and when all of them have a message."""
    count = bench.sizes.sessions
    rest_s = _SETTLED_S if count > 100 else 0.5
    texts = list(islice(write_texts(), max(bench.sizes.live // 25, 2)))
    desk = bench.folder / "desk-sessions"
    _desk(bench, "written", 50, desk)
    bare = _bare_sessions(bench, count)
    with Process("clients", count) as clients:
        devices = clients.ask("devices")["devices"]
        with Home(desk) as home:
            key = home.replica.device_keys
            identity = {"device": key.id.hex(), "noise": key.noise_public.hex()}
            topics = [row.topic.hex() for row in home.store.logs()]
            with home.store.transaction():
                for number, (device, noise) in enumerate(devices):
                    home.store.put_peer(_blind_peer(number, device, noise))
        with Process("home", desk) as service:
            port = service.ask("serve")["port"]
            before = service.ask("stats")
            joined = clients.ask("join", **identity, topics=topics, port=port)
            time.sleep(rest_s)
            idle = service.ask("idle", seconds=rest_s)
            after = service.ask("stats")
            with Process("writer", desk) as writer:
                sent = writer.ask("send", texts=texts, gap_s=1.0 if count > 100 else 0.1)["stamps_ns"]
            came = clients.ask("heard", count=len(texts))["stamps_ns"]
    took = [(stamps[at] - start) / 1e6 for at, start in enumerate(sent) for stamps in came]
    last = [(max(stamps[at] for stamps in came) - start) / 1e6 for at, start in enumerate(sent)]
    yield result(
        f"sessions-{count}-memory",
        (after["rss_mib"] - before["rss_mib"]) / count * 1024,
        "KiB/session",
        bare["kib_each"],
        "a bare websocket server with as many connections",
        1,
        service_mib=rounded(after["rss_mib"]),
        peak_mib=rounded(after["peak_mib"]),
        idle_cpu_share=rounded(max(idle["cpu"], 1e-6)),
        reference_idle_cpu_share=rounded(max(bare["cpu"], 1e-6)),
        connected_s=rounded(joined["seconds"]),
    )
    for percent in (50, 99):
        yield result(
            f"sessions-{count}-live-p{percent}",
            percentile(took, percent),
            "ms",
            percentile(last, 50),
            "the median time until the last device has it",
            len(took),
            of=f"p{percent} over devices and messages",
        )


def _blind_peer(number: int, device: str, noise: str) -> PeerRow:
    keys = {"device": bytes.fromhex(device), "noise": bytes.fromhex(noise), "hpke": b""}
    return msgspec.convert({**keys, "name": f"device {number}", "own": True}, PeerRow)


def _bare_sessions(bench: Bench, count: int) -> dict[str, float]:
    one_path, two_path = bench.folder / "bare-one.db", bench.folder / "bare-two.db"
    with Process("bare", one_path) as one, Process("bare", two_path) as two:
        port = one.ask("serve")["port"]
        before = one.ask("stats")["rss_mib"]
        two.ask("hold", port=port, count=count)
        cpu = one.ask("idle", seconds=1.0)["cpu"]
        after = one.ask("stats")["rss_mib"]
    _remove(one_path, two_path)
    return {"kib_each": max((after - before) / count * 1024, 1.0), "cpu": cpu}

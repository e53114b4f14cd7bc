"""Repair: what is missing here, why, who has it, and how it comes back.

absences    what is missing or damaged, each with its reason and who has it
repair      verify, fetch what is missing from whoever has it, verify again
compare     what only this device holds, and what only another one, with nothing transferred
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import config, limits
from mlog.api.standing import Copy, Holding, Standing, left_logs, standings
from mlog.errors import PeerUnavailable
from mlog.log.ids import DeviceId, EntryId, week_of
from mlog.log.merkle import segment_digest
from mlog.log.missing import Missing
from mlog.log.peers import HeardRow, PeerRow
from mlog.log.store import GapRow, Reason
from mlog.log.verify import SEARCH_DAMAGED, Finding

# A session brings asyncio and websockets with it, 200 ms that a list of gaps needs not.
if TYPE_CHECKING:
    from mlog.api.home import Home
    from mlog.api.rounds import SyncReport

__all__ = [
    "Absence",
    "Certainty",
    "Comparison",
    "Difference",
    "Holder",
    "Repair",
    "absences",
    "compare",
    "device_names",
    "repair",
]

_ROUNDS_MAX: Final = 4
"""Rounds of sync in one repair: what one brings may name what the next one asks for."""

_ON_PURPOSE: Final = frozenset({Reason.OUTSIDE_WINDOW, Reason.PRUNED, Reason.ERASED, Reason.BEFORE_JOINING})
_NEVER_READ: Final = frozenset({Reason.FORKED, Reason.REFUSED})

_PARTS: Final = frozenset({"entry", "body", "signature"})


class Certainty(StrEnum):
    """How it is known that a device has something."""

    SIGNED = "signed for it"
    TOLD = "told of it"
    LIKELY = "likely"


class Holder(msgspec.Struct, frozen=True):
    """A device that has what is missing here."""

    device: DeviceId
    name: str
    certainty: Certainty


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is missing, damaged or not read here.

    Attributes:
        part: As in `Missing`.
        id: The entry, where anything here names it; else b"".
        chain: Its chain's number here, or 0.
        device: Whose chain it belongs to, or b"".
        first, last: Numbers in that chain; they count where `device` is known.
        week: Its segment, or the one of the entry that shows that it is missing; None where neither is known.
        time_ms: Its claimed time, or that of the entry that shows that it is missing; 0 for none.
        since_ms: When it was noticed; 0 where that was not written down.
        named_by: The entry that names it, or b"".
        holders: Who has it, the surest first.
    """

    log: int
    part: str
    reason: Reason
    id: bytes
    chain: int
    device: bytes
    first: int
    last: int
    week: int | None
    time_ms: int
    since_ms: int
    detail: str
    named_by: bytes
    holders: tuple[Holder, ...]

    @property
    def count(self) -> int:
        """How many entries are concerned."""
        return self.last - self.first + 1

    @property
    def on_purpose(self) -> bool:
        """Somebody wanted it so."""
        return self.reason in _ON_PURPOSE

    @property
    def is_entry(self) -> bool:
        """It is an entry or a part of one, which others may have; not something worked out from entries."""
        return self.part in _PARTS

    @property
    def is_damage(self) -> bool:
        """It was here, and is damaged or lost."""
        return self.reason in (Reason.CORRUPT, Reason.LOST)

    @property
    def is_gap(self) -> bool:
        """It should be here and read, and could be."""
        return not self.on_purpose and self.reason not in _NEVER_READ


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair found, and what came of it.

    Attributes:
        entries: So many were checked in the end.
        healed: What was damaged or missing before, and is not any more.
        left: What still is.
        findings: What the last verification found besides, such as damage to what is worked out from
            entries; but no forks, which are evidence and no damage.
        sources: The devices that entries or parts of entries came from, with how many.
        search_rebuilt: The search index was made anew.
        reason: Why no device, or not every device, could be asked; "" if all were.
    """

    entries: int
    healed: tuple[Absence, ...]
    left: tuple[Absence, ...]
    findings: tuple[Finding, ...]
    sources: tuple[tuple[str, int], ...]
    search_rebuilt: bool
    reason: str

    @property
    def is_whole(self) -> bool:
        """Nothing is left."""
        return not self.left and not self.findings


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One log here and at another device.

    Attributes:
        shared: The other device has this log.
        equal: Both hold the same, of the weeks that both keep.
        here, there: Entries that only this device holds, and only the other one; where both are empty
            and it is not equal, one side lacks texts.
    """

    log: int
    shared: bool
    equal: bool
    here: tuple[EntryId, ...] = ()
    there: tuple[EntryId, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All logs, or one, here and at another device."""

    device: DeviceId
    name: str
    logs: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Both hold the same of every log."""
        return all(log.equal for log in self.logs)


def device_names(home: Home) -> dict[bytes, str]:
    """What the devices are called that are known here."""
    names: dict[bytes, str] = {row.id: row.name for row in home.store.devices()}
    return names | {peer.device: peer.name for peer in home.store.peers()}


def absences(home: Home, log: int | None = None) -> list[Absence]:
    """All that is missing of one log, or of all, at most GAPS_MAX of each; gaps first."""
    found: list[Absence] = []
    file = [gap for gap in home.store.gaps(log) if not gap.log]
    found += [_of_no_log(gap) for gap in file]
    for standing in standings(home, log):
        found += _Log(home, standing).absences()
    return sorted(found, key=lambda absence: not absence.is_gap)


def _of_no_log(gap: GapRow) -> Absence:
    return Absence(
        log=0,
        part=gap.part,
        reason=gap.reason,
        id=gap.id,
        chain=0,
        device=b"",
        first=0,
        last=0,
        week=None,
        time_ms=0,
        since_ms=gap.since_ms,
        detail=gap.detail,
        named_by=b"",
        holders=(),
    )


class _Log:
    """What is missing of one log, and what is known about who has it."""

    def __init__(self, home: Home, standing: Standing):
        self._home = home
        self._store = home.store
        self._log = standing.log
        self._standing = standing
        self._copies: Mapping[bytes, Copy] = {copy.device: copy for copy in standing.copies}
        self._names = device_names(home)
        self._chains = {chain.n: chain for chain in self._store.chains(self._log)}
        self._heard: Sequence[HeardRow] = self._store.heard(self._log)
        self._gaps = {(gap.id, gap.part, gap.chain, gap.seq): gap for gap in self._store.gaps(self._log)}
        self._pruned = [pruned.week for pruned in self._store.pruned(self._log)]
        self._named_by = dict(self._store.absent(self._log, limits.GAPS_MAX))

    def absences(self) -> list[Absence]:
        found: dict[tuple[object, ...], Absence] = {}
        first_week = self._standing.first_week
        for missing in self._home.replica.missing(self._log, limits.GAPS_MAX, first_week):
            absence = self._absence(missing)
            # What a verification wrote down, and what is seen now, may be the same.
            key = absence.part, absence.id or (absence.device, absence.chain, absence.first)
            found.setdefault(key, absence)
        return list(found.values())

    def _absence(self, missing: Missing) -> Absence:
        gap = self._gaps.get((missing.id, missing.part, missing.chain, missing.first))
        chain = self._chains.get(missing.chain)
        device = missing.device or (chain.device if chain is not None else b"")
        id_ = EntryId(missing.id)
        row = self._store.find(self._log, [id_]).get(id_) if missing.id else None
        week, time_ms = None, gap.time_ms if gap is not None else 0
        named_by = b""
        shown = row
        if row is None and missing.id in self._named_by:
            shown = self._store.rows([self._named_by[id_]]).get(self._named_by[id_])
            named_by = shown.id if shown is not None else b""
        elif row is None and missing.chain:
            shown = self._store.at(missing.chain, missing.last + 1)
            named_by = shown.id if shown is not None else b""
        if shown is not None:
            week, time_ms = shown.week, time_ms or shown.time_ms
        elif time_ms:
            week = week_of(time_ms)
        return Absence(
            log=self._log,
            part=missing.part,
            reason=missing.reason,
            id=missing.id,
            chain=missing.chain,
            device=device,
            first=missing.first,
            last=missing.last,
            week=week,
            time_ms=time_ms,
            since_ms=missing.since_ms or self._told_ms(missing),
            detail=missing.detail,
            named_by=named_by,
            holders=self._holders(missing, gap, week),
        )

    def _tellers(self, missing: Missing) -> list[HeardRow]:
        """Who said that a chain reaches behind a hole here."""
        if missing.part != "entry" or not missing.device:
            return []
        chain = missing.device, missing.incarnation
        return [
            heard
            for heard in self._heard
            if (heard.device, heard.incarnation) == chain and heard.seq >= missing.first
        ]

    def _told_ms(self, missing: Missing) -> int:
        return min((heard.time_ms for heard in self._tellers(missing)), default=0)

    def _holders(self, missing: Missing, gap: GapRow | None, week: int | None) -> tuple[Holder, ...]:
        if missing.part not in _PARTS or missing.reason == Reason.ERASED:
            return ()
        found: dict[bytes, Certainty] = {}
        for device, holding in self._standing.holdings.items():
            if missing.reason == Reason.PRUNED:
                if holding.later is not None and min(self._pruned, default=0) >= holding.first_week:
                    found[device] = Certainty.SIGNED
                continue
            if week is None or week < holding.first_week:
                continue
            certainty = self._certainty(missing, gap, week, holding, self._copies[device])
            if certainty is not None:
                found[device] = certainty
        for heard in self._tellers(missing):
            found.setdefault(heard.by, Certainty.TOLD)
        order = list(Certainty)
        return tuple(
            Holder(DeviceId(device), self._names.get(device) or device.hex()[:8], certainty)
            for device, certainty in sorted(found.items(), key=lambda item: order.index(item[1]))
        )

    def _certainty(
        self, missing: Missing, gap: GapRow | None, week: int, holding: Holding, copy: Copy
    ) -> Certainty | None:
        """How surely a device has what is missing, by what it was proven to hold; None for not at all."""
        covers = bool(missing.id) and holding.covers(EntryId(missing.id), week)
        if missing.part == "body":
            if not covers or not holding.bodies:
                return Certainty.LIKELY if covers else None
            # Equal texts prove that it had this one only where it was here; else, that it lacked it too.
            return Certainty.SIGNED if gap is not None and copy.proven_ms <= gap.since_ms else None
        if gap is None:
            # Of what never was here an equal root proves the contrary: it was not there either.
            return None
        if covers:
            # A holder may leave out a signature for which a later one stands.
            return Certainty.SIGNED if missing.part == "entry" else Certainty.LIKELY
        return Certainty.LIKELY if self._was_before(gap, copy) and not missing.id else None

    @staticmethod
    def _was_before(gap: GapRow, copy: Copy) -> bool:
        """Whether a device was equal to this one while what is missing was most probably here still."""
        return gap.time_ms <= copy.proven_ms <= gap.since_ms


# -- repair ----------------------------------------------------------------------------------


def repair(
    home: Home,
    log: int | None = None,
    *,
    signatures: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    sync: Callable[[Home], SyncReport] | None = None,
) -> Repair:
    """Check everything, fetch what is damaged or missing from whoever has it, and check again.

    Args:
        log: Only this one; None for all.
        signatures: As for `Home.verify`.
        progress: Told how many entries were checked since the last call.
        sync: One round with all known devices; default `mlog.api.service.sync_once`.

    Raises:
        StoreError: The disk is full, or the database is damaged beyond this.
    """
    looked_at = 0

    def count(entries: int) -> None:
        nonlocal looked_at
        looked_at += entries
        progress(entries)

    findings = home.verify(log, signatures=signatures, progress=count)
    before = left = _to_heal(home, log)
    sources: dict[str, int] = {}
    reason, is_rebuilt = "", False
    for _ in range(_ROUNDS_MAX):
        if not any(absence.is_entry for absence in left):
            break
        _count_again(home, log)
        report, reason = _round(home, sync)
        if report is None:
            break
        for device in report.devices:
            received = sum(known.received for known in device.logs)
            if received:
                sources[device.name] = sources.get(device.name, 0) + received
        looked_at = 0
        findings = home.verify(log, signatures=signatures, progress=count)
        last, left = left, _to_heal(home, log)
        if _keys(left) == _keys(last):
            break
    if any(finding.detail == SEARCH_DAMAGED for finding in findings):
        home.rebuild_search()
        is_rebuilt = True
        looked_at = 0
        findings = home.verify(log, signatures=signatures, progress=count)
        left = _to_heal(home, log)
    keys = _keys(left)
    return Repair(
        entries=looked_at,
        healed=tuple(absence for absence in before if _key(absence) not in keys),
        left=tuple(left),
        findings=tuple(f for f in findings if _key(f) not in keys and f.reason != Reason.FORKED),
        sources=tuple(sorted(sources.items())),
        search_rebuilt=is_rebuilt,
        reason=reason,
    )


def _to_heal(home: Home, log: int | None) -> list[Absence]:
    return [absence for absence in absences(home, log) if absence.is_gap]


def _key(found: Absence | Finding) -> tuple[object, ...]:
    first = found.first if isinstance(found, Absence) else found.seq
    return found.log, found.part, found.id, found.chain, first, found.detail if not found.id else ""


def _keys(found: Sequence[Absence]) -> set[tuple[object, ...]]:
    return {_key(absence) for absence in found}


def _count_again(home: Home, log: int | None) -> None:
    """Make the digests anew: one of rows that are lost would tell others that nothing is missing."""
    store = home.store
    with store.transaction():
        for row in store.logs():
            if log in (None, row.n):
                weeks = {digest.week for digest in store.digests(row.n)} | set(store.stale_weeks(row.n))
                for week in weeks:
                    store.put_digest(row.n, segment_digest(week, store.segment(row.n, week)))


def _round(home: Home, sync: Callable[[Home], SyncReport] | None) -> tuple[SyncReport | None, str]:
    """One round of sync, and why it could not ask everybody."""
    peers = home.store.peers()
    if not peers:
        return None, (
            "no other device is known here that it could come from. 'mlog pair' makes one known, and "
            "'mlog restore' opens a backup beside this home to compare"
        )
    if sync is None:
        from mlog.api.service import sync_once as sync
    try:
        report = sync(home)
    except PeerUnavailable as error:
        return None, str(error)
    failed = [f"{device.name}: {device.reason}" for device in report.devices if device.reason]
    return report, "; ".join(failed)


# -- compare ---------------------------------------------------------------------------------


def compare(home: Home, name: str, log: int | None = None, *, timeout_s: float | None = None) -> Comparison:
    """Compare entry by entry with another device, and transfer nothing.

    Args:
        name: The device, as `mlog.api.service.find_device` takes it.
        log: Only this one; None for all.

    Raises:
        UserError: No such device, or several.
        PeerUnavailable: It cannot be reached, or did not finish.
        StoreError: The disk is full, or the database is damaged.
    """
    import asyncio

    from mlog.api.service import find_device, unknown_device

    peers = home.store.peers()
    peer = find_device(peers, name)
    if peer is None:
        raise unknown_device(peers, name)
    if not peer.addresses:
        raise PeerUnavailable(
            f"where {peer.name} is is not known: 'mlog sync HOST:PORT' with its address finds it once, and "
            "that is remembered."
        )
    return asyncio.run(_compared(home, peer, log, timeout_s))


async def _compared(home: Home, peer: PeerRow, log: int | None, timeout_s: float | None) -> Comparison:
    import asyncio

    from mlog.adapters.keystore import SystemEntropy
    from mlog.adapters.runtime import Runtime
    from mlog.protocol.events import Notice
    from mlog.protocol.node import Node

    differing: dict[int, tuple[tuple[EntryId, ...], tuple[EntryId, ...]]] = {}
    equal: set[int] = set()
    ended = asyncio.Event()
    failed = "it did not answer in time"

    def inspect(n: int, here: Sequence[EntryId], there: Sequence[EntryId]) -> None:
        known = differing.get(n, ((), ()))
        differing[n] = (*known[0], *here), (*known[1], *there)

    def notice(said: Notice) -> None:
        nonlocal failed
        match said.what:
            case "equal":
                equal.add(said.log)
            case "rested":
                failed = ""
                ended.set()
            case "unreachable" | "disconnected":
                failed = said.detail
                ended.set()
            case _:
                pass

    runtime = Runtime(
        Node(home.replica, SystemEntropy(), dials=False, inspect=inspect),
        ping=False,
        default_port=config.DEFAULT_PORT,
        clock_ms=home.now_ms,
        notice=notice,
    )
    runtime.start()
    running = asyncio.ensure_future(runtime.run())
    try:
        runtime.peers.dial(peer.device, peer.addresses)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                waiting = asyncio.ensure_future(ended.wait())
                await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
    finally:
        runtime.stop()
        await running
    if failed:
        raise PeerUnavailable(f"{peer.name} could not be compared: {failed}.")
    logs = tuple(
        Difference(
            log=row.n,
            shared=row.n in equal or row.n in differing,
            equal=row.n in equal and row.n not in differing,
            here=differing.get(row.n, ((), ()))[0],
            there=differing.get(row.n, ((), ()))[1],
        )
        for row in home.store.logs()
        if log in (None, row.n) and row.n not in left_logs(home)
    )
    return Comparison(device=peer.device, name=peer.name, logs=logs)

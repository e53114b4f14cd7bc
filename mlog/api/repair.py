"""Repair: what is missing here, why, who has it, and how it comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.api.standing import Copy, Standing, standings
from mlog.log.ids import DeviceId, EntryId, week_of
from mlog.log.missing import Missing
from mlog.log.peers import HeardRow
from mlog.log.store import GapRow, Reason

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["Absence", "Certainty", "Holder", "absences", "device_names"]

_ON_PURPOSE: Final = frozenset({Reason.OUTSIDE_WINDOW, Reason.PRUNED, Reason.ERASED})
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
        for missing in self._home.replica.missing(self._log, limits.GAPS_MAX):
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
            # Of what never was here an equal root proves the contrary: it was not there either.
            was_here = gap is not None or missing.part == "body"
            if not was_here or week is None or week < holding.first_week:
                continue
            if missing.id and holding.covers(EntryId(missing.id), week):
                is_sure = missing.part != "body" or holding.bodies
                found[device] = Certainty.SIGNED if is_sure else Certainty.LIKELY
            elif gap is not None and self._was_before(gap, self._copies[device]):
                found[device] = Certainty.LIKELY
        for heard in self._tellers(missing):
            found.setdefault(heard.by, Certainty.TOLD)
        order = list(Certainty)
        return tuple(
            Holder(DeviceId(device), self._names.get(device) or device.hex()[:8], certainty)
            for device, certainty in sorted(found.items(), key=lambda item: order.index(item[1]))
        )

    @staticmethod
    def _was_before(gap: GapRow, copy: Copy) -> bool:
        """Whether a device was equal to this one while what is missing was most probably here still."""
        return gap.time_ms <= copy.proven_ms <= gap.since_ms

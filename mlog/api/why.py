"""Why: what one entry rests on, and why it is shown as it is, or why it is not here.

Everything is checked again for the answer: the entry's hash, the links from it to the signature
that vouches for it, and that signature. Nothing cached is believed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mlog.api.repair import Absence, Certainty, Holder, absences, device_names
from mlog.api.seen import Seen, seen
from mlog.api.standing import standings
from mlog.errors import BadSignature, InvalidInput, UserError
from mlog.log import entry
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.entry import Header
from mlog.log.expiry import settings_of
from mlog.log.ids import DeviceId, EntryId
from mlog.log.ranks import parents_of
from mlog.log.store import BodyState, ChainRow, EntryRow, ForkRow, Position, TimelineQuery
from mlog.log.stored import check_body, check_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlog.api.home import Home
    from mlog.log.fold import LogState

__all__ = ["Explanation", "Shown", "Vouching", "explain"]

_LINKS_MAX: Final = 10_000
"""Links that are followed to a signature: an import leaves at most 999 entries without one."""


class Shown(StrEnum):
    """How an entry appears in the view, and by which rule."""

    SHOWN = "shown"
    CLOSED = "shown without its text: it is from before you joined"
    EDITED = "shown with the text of an edit"
    ERASED = "shown as erased"
    EXPIRED = "expired: the conversation lets messages disappear"
    HIDDEN = "hidden: another entry stands for the same message"
    NO_RIGHT = "not shown, and counts for nothing: its person was not in the conversation there"
    QUARANTINED = "not shown, and counts for nothing: its device was revoked, and this came after the cut"
    CONTROL = "not a message: it changes what is shown of others"
    NOTED = "not a message: it notes something for the devices of its person"
    REFUSED = "counts for nothing: what it notes is refused"
    NOT_READ = "not read"


class Vouching(msgspec.Struct, frozen=True, kw_only=True):
    """What makes an entry authentic, or why nothing does.

    Attributes:
        by: The entry whose signature vouches for it: itself, or a later one of its chain; b"" for none.
        seq: The number of that entry.
        links: How many links lead there.
        detail: Where there is none, why.
    """

    by: bytes = b""
    seq: int = 0
    links: int = 0
    detail: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one entry.

    Attributes:
        id: b"" where nothing here names it.
        here: Its bytes are stored here. Where they are not, only `log`, `id`, `device`, `seq` and
            `absences` say something.
        mid: How other messages refer to it, or b"".
        author: The person who wrote it; of an imported message, whom the file names.
        claimed: The author is a claim of the device, which imported it.
        seq: Its number in the chain of `device` and `incarnation`.
        arrival: How many entries, of all logs, came here before it, plus one.
        written_here: By this device.
        damage: What is wrong with the stored bytes, or "".
        pushed_by: The entry that it names and that stands behind its own time, so that it stands behind that.
        before, after: The messages that are shown beside it.
        absent_parents: Of those that it names, which are not here.
        by: The edit, the erasure, or the entry that stands for it, as `shown` says.
        fork: Evidence that its chain has branches, if it stands on one of them.
        reason: Why what it notes is refused, as `shown` says.
        holders: Who else has it.
        seen: Devices of other people that have it, and whether it was read there.
        absences: What is missing of it here.
    """

    log: int
    id: bytes
    here: bool
    mid: bytes = b""
    kind: int = 0
    author: str = ""
    claimed: bool = False
    device: bytes = b""
    incarnation: bytes = b""
    seq: int = 0
    time_ms: int = 0
    week: int = 0
    arrival: int = 0
    written_here: bool = False
    damage: str = ""
    vouching: Vouching = Vouching()
    rank: int = 0
    pushed_by: bytes = b""
    before: bytes = b""
    after: bytes = b""
    parents: tuple[EntryId, ...] = ()
    absent_parents: tuple[EntryId, ...] = ()
    shown: Shown = Shown.NOT_READ
    by: bytes = b""
    fork: ForkRow | None = None
    reason: str = ""
    holders: tuple[Holder, ...] = ()
    seen: tuple[Seen, ...] = ()
    absences: tuple[Absence, ...] = ()


def explain(home: Home, name: str, log: int | None = None) -> Explanation:
    """Explain one entry, also one that is not here.

    Args:
        name: The start of an id of an entry or message; or DEVICE:NUMBER, the device by its name or the
            start of its id.
        log: Only in this log.

    Raises:
        UserError: Nothing is known of it, or it could mean several.
    """
    device, colon, number = name.rpartition(":")
    if colon and re.fullmatch("[0-9]{1,16}", number):
        return _by_number(home, device, int(number), log)
    try:
        row = home.find_entry(name, log)
    except UserError:
        missing = _absent(home, name, log)
        if missing is None:
            raise
        return _not_here(missing, missing.first)
    if not next(known.secret for known in home.store.logs() if known.n == row.log):
        detail = "this log is kept for others, and cannot be read here"
        vouching = Vouching(detail=detail)
        return Explanation(log=row.log, id=row.id, here=True, week=row.week, arrival=row.n, vouching=vouching)
    return _Entry(home, row).explain()


def _absent(home: Home, prefix: str, log: int | None) -> Absence | None:
    """What is missing and has an id that begins so."""
    digits = prefix.casefold().removeprefix("#")
    found = {
        absence.id: absence
        for absence in absences(home, log)
        if len(digits) >= 4 and absence.id.hex().startswith(digits)
    }
    if len(found) > 1:
        listed = "".join(f"\n  {id_.hex()[:16]}" for id_ in list(found)[:20])
        raise UserError(f"{len(found)} entries match {prefix!r}, and none is here; give more digits:{listed}")
    return next(iter(found.values()), None)


def _not_here(absence: Absence, seq: int) -> Explanation:
    return Explanation(
        log=absence.log,
        id=absence.id,
        here=False,
        device=absence.device,
        seq=seq,
        holders=absence.holders,
        absences=(absence,),
    )


def _by_number(home: Home, device: str, seq: int, log: int | None) -> Explanation:
    devices = _devices(home, device)
    rows: list[EntryRow] = []
    for state in home.replica.logs():
        if log in (None, state.n):
            for chain in home.store.chains(state.n):
                row = home.store.at(chain.n, seq) if chain.device in devices else None
                rows += [row] if row is not None else []
    missing = [a for a in absences(home, log) if a.device in devices and a.first <= seq <= a.last]
    if len(rows) + len(missing) > 1:
        listed = "".join(f"\n  {row.id.hex()[:16]}  in {_title(home, row.log)}" for row in rows[:20])
        listed += "".join(f"\n  not here, of {_title(home, absence.log)}" for absence in missing[:20])
        raise UserError(
            f"{device} has several entries with the number {seq}; say in which one, with --in:{listed}"
        )
    if rows:
        return _Entry(home, rows[0]).explain()
    if missing:
        return _not_here(missing[0], seq)
    raise UserError(
        f"nothing here tells of an entry {seq} of {device}. 'mlog log CONVERSATION --graph' shows what "
        "there is."
    )


def _devices(home: Home, name: str) -> set[DeviceId]:
    folded = name.casefold()
    known = device_names(home)
    known.setdefault(home.replica.device_id, "")
    for row in home.store.logs():
        for chain in home.store.chains(row.n):
            known.setdefault(chain.device, "")
    found = {DeviceId(id_) for id_, called in known.items() if called.casefold() == folded} or {
        DeviceId(id_) for id_ in known if len(folded) >= 4 and id_.hex().startswith(folded)
    }
    if not found:
        names = ", ".join(sorted({called for called in known.values() if called}))
        raise UserError(f"no device {name!r} is known here: {names}, or the start of a device's id.")
    return found


def _title(home: Home, log: int) -> str:
    row = next((row for row in home.store.logs() if row.n == log), None)
    return (row.title or row.kind.value) if row is not None else "?"


class _Entry:
    """One entry that is here."""

    def __init__(self, home: Home, row: EntryRow):
        self._home = home
        self._store = home.store
        self._row = row
        self._state: LogState = home.replica.log(row.log)
        self._chain = next(iter(self._store.chain_rows([row.chain])), None) if row.chain else None

    def explain(self) -> Explanation:
        """All there is to say of it."""
        row = self._row
        header, damage = self._opened()
        missing = tuple(a for a in absences(self._home, row.log) if a.id == row.id)
        known = Explanation(
            log=row.log,
            id=row.id,
            here=True,
            week=row.week,
            arrival=row.n,
            damage=damage,
            holders=self._holders(),
            absences=missing,
        )
        if header is None or not row.chain:
            detail = damage or next((absence.detail for absence in missing), "")
            known = msgspec.structs.replace(known, vouching=Vouching(detail=detail))
        if header is None:
            return known
        known = msgspec.structs.replace(
            known,
            kind=header.kind,
            device=header.device,
            incarnation=header.incarnation,
            seq=header.seq,
            time_ms=header.time_ms,
            author=self._author(),
            claimed=row.mid is not None,
            written_here=header.device == self._home.replica.device_id,
            parents=parents_of(header),
            absent_parents=self._absent_parents(header),
            fork=self._fork(header),
        )
        if not row.chain:
            return known
        shown, by = self._shown()
        return msgspec.structs.replace(
            known,
            mid=row.message,
            vouching=self._vouching(),
            rank=row.rank,
            pushed_by=self._pushed_by(header),
            before=self._beside(newest_first=True),
            after=self._beside(newest_first=False),
            shown=shown,
            by=by,
            reason=self._home.notes.refusal(row.id) if shown == Shown.REFUSED else "",
            seen=seen(self._home, row),
        )

    def _opened(self) -> tuple[Header | None, str]:
        """The header, checked, and what is wrong with the entry or its body."""
        row, keys = self._row, self._state.keys
        if entry.entry_id(row.outer) != row.id:
            return None, "the entry does not match its hash"
        try:
            if not row.chain:
                return entry.unseal(keys, row.outer, None).header, ""
            header = check_header(keys, row, self._chain.device if self._chain else DeviceId(b""))
        except InvalidInput as error:
            return None, str(error)
        try:
            check_body(keys, row)
        except InvalidInput as error:
            return header, str(error)
        return header, ""

    def _author(self) -> str:
        row = self._row
        if row.mid is None or row.kind not in SPOKEN:
            return self._home.view.name_of(row)
        return self._home.view.of_rows(row.log, [row])[0].author.name

    # -- what vouches for it -------------------------------------------------------------------

    def _vouching(self) -> Vouching:
        """Follow the chain to a signature that is valid."""
        row: EntryRow | None = self._row
        assert self._chain is not None
        detail = ""
        for links in range(_LINKS_MAX):
            if row is None:
                break
            if row.signature is not None:
                try:
                    self._check_signature(row, self._chain)
                    return Vouching(by=row.id, seq=row.seq, links=links)
                except InvalidInput as error:
                    detail = f"the signature of entry {row.id.hex()[:8]} is not valid: {error}"
            row = next(self._followers(row), None)
        return Vouching(detail=detail or "no later entry of its chain that is here is signed")

    def _check_signature(self, row: EntryRow, chain: ChainRow) -> None:
        fields = entry.parse_outer(row.outer)
        epoch = self._state.keys.epoch_of(fields.salt, fields.tag)
        if epoch is None:
            raise BadSignature("its epoch is not known here")
        assert row.signature is not None
        entry.verify_entry_signature(epoch, chain.device, row.id, row.outer, row.signature)

    def _followers(self, row: EntryRow) -> Iterator[EntryRow]:
        """The entries that name this one as the one before in their chain; several where it forked."""
        after = self._store.at(row.chain, row.seq + 1)
        named = self._store.children(row.log, [row.id]).get(row.id, ())
        rows = [*([after] if after is not None else []), *self._store.rows({p.n for p in named}).values()]
        for found in rows:
            try:
                header, _ = entry.open_header(self._state.keys, found.outer)
            except InvalidInput:
                continue
            if header.prev == row.id and entry.entry_id(found.outer) == found.id:
                yield found

    # -- its place and what is shown -----------------------------------------------------------

    def _absent_parents(self, header: Header) -> tuple[EntryId, ...]:
        named = parents_of(header)
        known = self._store.places(self._row.log, named)
        return tuple(id_ for id_ in named if id_ not in known)

    def _pushed_by(self, header: Header) -> bytes:
        if self._row.rank <= header.time_ms:
            return b""
        places = self._store.places(self._row.log, parents_of(header))
        return next((id_ for id_, place in places.items() if place.rank == self._row.rank - 1), b"")

    def _beside(self, *, newest_first: bool) -> bytes:
        at: Position = self._row.position
        query = TimelineQuery(
            log=self._row.log,
            limit=1,
            after=None if newest_first else at,
            before=at if newest_first else None,
            newest_first=newest_first,
        )
        return next((row.id for row in self._store.timeline(query)), b"")

    def _is_revoked(self) -> bool:
        """Whether it is behind the cut of a revoked device, and not only of a person who has no right."""
        people, row = self._home.replica.people, self._row
        chain = next(iter(self._store.chain_rows([row.chain])), None)
        return chain is None or people.is_revoked(chain.device) or people.membership(row.log) is None

    def _shown(self) -> tuple[Shown, bytes]:
        row = self._row
        if self._home.replica.people.cuts(row.log).quarantined([row]):
            return (Shown.QUARANTINED if self._is_revoked() else Shown.NO_RIGHT), b""
        if row.kind == Kind.PRIVATE:
            return (Shown.REFUSED if self._home.notes.refusal(row.id) else Shown.NOTED), b""
        if row.kind not in SPOKEN:
            return Shown.CONTROL, b""
        if row.hidden:
            said = self._store.by_mid(row.log, [row.message]).get(row.message, [])
            return Shown.HIDDEN, next((other.id for other in said if not other.hidden), b"")
        if row.state == BodyState.EXPIRED:
            return Shown.EXPIRED, self._let_expire_by()
        if row.state == BodyState.ERASED:
            return Shown.ERASED, self._changed_by(Kind.ERASURE)
        if row.edit:
            return Shown.EDITED, next((edit.id for edit in self._store.rows([row.edit]).values()), b"")
        if row.state == BodyState.CLOSED:
            return Shown.CLOSED, b""
        return Shown.SHOWN, b""

    def _let_expire_by(self) -> bytes:
        """The setting that holds at its place."""
        log, setters = self._row.log, self._home.replica.people.setters
        settings = settings_of(self._store, log, setters)
        before = [s for s in settings if s.position < self._row.position]
        return before[-1].position.id if before else b""

    def _changed_by(self, kind: Kind) -> bytes:
        """The change of this kind that the message's own author made."""
        row = self._row
        references = self._store.references_to(row.log, [row.message], frozenset({kind}))
        changes: Sequence[EntryRow] = list(self._store.rows({r.n for r in references}).values())
        authors = self._home.replica.authors(row.log, {row.chain, *(change.chain for change in changes)})
        own = [change for change in changes if authors.get(change.chain) == authors.get(row.chain)]
        return min(own, key=lambda change: change.position).id if own else b""

    def _fork(self, header: Header) -> ForkRow | None:
        for fork in self._store.forks(self._row.log):
            if (fork.device, fork.incarnation) == (
                header.device,
                header.incarnation,
            ) and header.seq >= fork.seq:
                return fork
        return None

    def _holders(self) -> tuple[Holder, ...]:
        [standing] = standings(self._home, self._row.log)
        names = device_names(self._home)
        return tuple(
            Holder(device, names.get(device) or device.hex()[:8], Certainty.SIGNED)
            for device, holding in standing.holdings.items()
            if holding.covers(self._row.id, self._row.week)
        )

"""View: what a conversation looks like, read from a store and checked while it is read.

The fold that decides what is shown is kept up to date by `Replica`; here its results become
messages. Every entry read is hashed again, so that a damaged one is shown as damaged and never
as something that its author did not write. docs/protocol.md, 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from mlog.errors import InvalidInput
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.fold import LogState
from mlog.log.ids import DeviceId, EntryId, MessageId
from mlog.log.replica import Replica
from mlog.log.store import FORGOTTEN, BodyState, EntryRow, Position, Reference
from mlog.log.stored import check_body, check_header

__all__ = ["Attached", "Author", "Message", "Names", "Reacted", "Source", "View"]


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who says so.

    Attributes:
        name: The person's name; of an imported message, the name that the file gives.
        device: The device that signed it.
        claimed: The name is a claim of the importer, whose device this is.
        uid: What the program of an imported message knows the author by, or "".
    """

    name: str
    device: DeviceId
    claimed: bool = False
    uid: str = ""


class Reacted(msgspec.Struct, frozen=True, kw_only=True):
    """An emoji and who put it there."""

    emoji: str
    authors: tuple[str, ...]


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to a message, as its manifest says.

    Attributes:
        id: The manifest's entry.
        hash: BLAKE3 of the file in hexadecimal; "" where it is not known.
        chunks: Entries with the parts of the file, in its order; none where only its name was imported.
    """

    id: EntryId
    log: int
    mid: MessageId
    name: str
    type: str
    size: int
    hash: str = ""
    group: str = ""
    chunks: tuple[EntryId, ...] = ()

    @property
    def has_content(self) -> bool:
        """More than its name was written; whether it is here is another question."""
        return bool(self.hash) and (bool(self.chunks) or self.size == 0)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where an imported message came from. `position`: line or ordinal, from 1."""

    format: str
    name: str
    file_hash: str
    position: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a conversation as it reads now.

    Attributes:
        id: The entry that stands for it.
        mid: How other messages refer to it.
        log: Number of its conversation.
        text: As edited; empty if erased, damaged or not here.
        time_ms: The author's claim.
        to: Messages that it answers.
        closed: It is from before this person joined, who may not read it.
        damage: What is wrong with the stored bytes, or "".
    """

    id: EntryId
    mid: MessageId
    log: int
    kind: Kind
    author: Author
    time_ms: int
    position: Position
    text: str = ""
    to: tuple[MessageId, ...] = ()
    edited: bool = False
    erased: bool = False
    absent: bool = False
    closed: bool = False
    damage: str = ""
    reactions: tuple[Reacted, ...] = ()
    attachments: tuple[Attached, ...] = ()
    at: int = 0
    src: int = 0
    chain: int = 0


class Names(Mapping[DeviceId, str]):
    """What the persons are called whose devices write: contacts as they are called here, others as they
    call themselves; as it is now, also when that changes."""

    def __init__(self, replica: Replica):
        self._replica = replica
        self._persons: object = None
        self._names: dict[DeviceId, str] = {}

    def _current(self) -> Mapping[DeviceId, str]:
        people = self._replica.people
        persons = people.persons()
        if persons is not self._persons:
            self._persons = persons
            self._names = {row.id: row.person for row in self._replica.store.devices()}
            chosen = {people.subject_of_topic(t): contact.name for t, contact in people.contacts().items()}
            for device, subject in people.stand_ins().items():
                if subject in chosen:
                    self._names[device] = chosen[subject]
        return self._names

    def __getitem__(self, device: DeviceId) -> str:
        return self._current()[device]

    def __iter__(self) -> Iterator[DeviceId]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())


class View:
    """Reads a replica's logs as messages.

    Args:
        names: What people call the devices that write.

    Attributes:
        store: What it reads.
    """

    def __init__(self, replica: Replica, names: Mapping[DeviceId, str]):
        self._replica = replica
        self.store = replica.store
        self._names = names
        self._devices: dict[int, DeviceId] = {}

    def of_rows(self, log: int, rows: Sequence[EntryRow]) -> list[Message]:
        """The messages that these entries of one log say, in the same order."""
        edits = self.store.rows({row.edit for row in rows if row.edit})
        mids = [row.message for row in rows]
        reactions, attached = self._about(log, set(mids))
        state = self._replica.log(log)
        return [
            self._message(state, row, mid, edits.get(row.edit), reactions.get(mid, ()), attached.get(mid, ()))
            for row, mid in zip(rows, mids, strict=True)
        ]

    def attachments_of(self, log: int, rows: Sequence[EntryRow]) -> dict[MessageId, tuple[Attached, ...]]:
        """The files of the messages that these entries of one log say."""
        mids = {row.message for row in rows}
        references = self.store.references_to(log, mids, frozenset({Kind.MANIFEST}))
        manifests = self.store.rows({reference.n for reference in references})
        found = [(r.target, manifests[r.n]) for r in references if not manifests[r.n].hidden]
        return self._attached(log, found) if found else {}

    def opened(self, row: EntryRow) -> Body | None:
        """The checked body of an entry, or None where it is not here.

        Raises:
            InvalidInput: Damaged.
        """
        state = self._replica.log(row.log)
        check_header(state.keys, row, self.device_of(row))
        encoded = check_body(state.keys, row)
        return None if encoded is None else bodies.decode(row.kind, encoded)

    def source(self, message: Message) -> Source | None:
        """Where an imported message came from; None for what was written in mlog."""
        if not message.author.claimed:
            return None
        found = self.sources(message.chain).get(message.src)
        if found is None:
            return Source(format="", name="", file_hash="", position=message.at)
        return Source(format=found.format, name=found.name, file_hash=found.hash, position=message.at)

    def sources(self, chain: int) -> dict[int, bodies.Import]:
        """The files that a chain was imported from, by `src`."""
        found: dict[int, bodies.Import] = {}
        for row in self.store.chain_kind(chain, Kind.IMPORT):
            body = self.opened(row)
            if isinstance(body, bodies.Import):
                found[body.src] = body
        return found

    def name_of(self, row: EntryRow) -> str:
        """What people call the person whose device wrote an entry."""
        return self.person_of(self.device_of(row))

    def person_of(self, device: DeviceId) -> str:
        """What people call the person whose device this is."""
        return self._names.get(device, device.hex()[:8])

    def device_of(self, row: EntryRow) -> DeviceId:
        """The device that wrote an entry, or empty where the record of its chain is lost."""
        if row.chain not in self._devices:
            for chain in self.store.chains(row.log):
                self._devices[chain.n] = chain.device
        return self._devices.get(row.chain, DeviceId(b""))

    def _message(
        self,
        state: LogState,
        row: EntryRow,
        mid: MessageId,
        edit: EntryRow | None,
        reactions: tuple[Reacted, ...],
        attached: tuple[Attached, ...],
    ) -> Message:
        device = self.device_of(row)
        damage, body, edited = "", None, None
        try:
            check_header(state.keys, row, device)
            encoded = check_body(state.keys, row)
            body = None if encoded is None else bodies.decode(row.kind, encoded)
            if edit is not None and edit.state == BodyState.OPENED:
                edited = self.opened(edit)
        except InvalidInput as error:
            damage = str(error)
        by = body.by if isinstance(body, bodies.Text | bodies.Title) else ""
        claimed = row.mid is not None
        text = body.text if isinstance(body, bodies.Text) else ""
        if isinstance(edited, bodies.Edit):
            text = edited.text
        return Message(
            id=row.id,
            mid=mid,
            log=row.log,
            kind=Kind(row.kind),
            author=Author(
                name=by if claimed else self.name_of(row),
                device=device,
                claimed=claimed,
                uid=body.uid if claimed and isinstance(body, bodies.Text) else "",
            ),
            time_ms=row.time_ms,
            position=row.position,
            text="" if damage else text,
            to=_answers(body),
            edited=isinstance(edited, bodies.Edit),
            erased=row.state in FORGOTTEN or (isinstance(body, bodies.Text) and body.erased),
            absent=row.state == BodyState.NOT_FETCHED,
            closed=row.state == BodyState.CLOSED and not isinstance(edited, bodies.Edit),
            damage=damage,
            reactions=reactions,
            attachments=() if row.state in FORGOTTEN else attached,
            at=body.at if isinstance(body, bodies.Text) else 0,
            src=body.src if isinstance(body, bodies.Text) else 0,
            chain=row.chain,
        )

    def _about(
        self, log: int, mids: set[MessageId]
    ) -> tuple[dict[MessageId, tuple[Reacted, ...]], dict[MessageId, tuple[Attached, ...]]]:
        """Reactions and attachments of messages."""
        references = self.store.references_to(log, mids, frozenset({Kind.REACTION, Kind.MANIFEST}))
        rows = self.store.rows({reference.n for reference in references})
        reactions = self._reactions([r for r in references if rows[r.n].kind == Kind.REACTION], rows)
        manifests = [
            (r.target, rows[r.n])
            for r in references
            if rows[r.n].kind == Kind.MANIFEST and not rows[r.n].hidden
        ]
        return reactions, self._attached(log, manifests) if manifests else {}

    def _attached(
        self, log: int, manifests: Sequence[tuple[MessageId, EntryRow]]
    ) -> dict[MessageId, tuple[Attached, ...]]:
        """What those attached who said a message themselves; the same file once."""
        said = self.store.by_mid(log, {mid for mid, _ in manifests})
        found = (*(row for rows in said.values() for row in rows), *(row for _, row in manifests))
        authors = self._replica.authors(log, {row.chain for row in found})
        by_message: dict[MessageId, dict[tuple[str, str], Attached]] = {}
        for mid, row in sorted(manifests, key=lambda pair: pair[1].position):
            speakers = {authors.get(one.chain) for one in said.get(mid, ()) if one.kind in SPOKEN}
            attached = self.attached(row) if authors.get(row.chain) in speakers else None
            if attached is not None and attached.mid == mid:
                by_message.setdefault(mid, {}).setdefault(
                    (attached.name, attached.hash if attached.has_content else ""), attached
                )
        return {mid: _with_content(files.values()) for mid, files in by_message.items()}

    def attached(self, row: EntryRow) -> Attached | None:
        """What a manifest says; None where it is erased or damaged."""
        try:
            body = self.opened(row)
        except InvalidInput:
            return None
        if not isinstance(body, bodies.Manifest):
            return None
        return Attached(
            id=row.id,
            log=row.log,
            mid=MessageId(bytes.fromhex(body.of)),
            name=body.name,
            type=body.type,
            size=body.size,
            hash=body.hash,
            group=body.group,
            chunks=tuple(EntryId(chunk) for chunk in body.chunks),
        )

    def _reactions(
        self, references: Sequence[Reference], rows: Mapping[int, EntryRow]
    ) -> dict[MessageId, tuple[Reacted, ...]]:
        latest: dict[MessageId, dict[tuple[str, str | DeviceId], tuple[Position, bool, str]]] = {}
        for reference in references:
            row = rows[reference.n]
            if row.hidden:
                continue
            try:
                body = self.opened(row)
            except InvalidInput:
                continue
            if isinstance(body, bodies.Reaction):
                claimed = row.mid is not None
                name = body.by if claimed else self.name_of(row)
                # Two persons may be called the same.
                who = name if claimed else self._replica.people.stand_in(self.device_of(row))
                of_message = latest.setdefault(reference.target, {})
                before = of_message.get((body.emoji, who))
                if before is None or before[0] < row.position:
                    of_message[body.emoji, who] = (row.position, body.removed, name)
        return {mid: _grouped(of_message) for mid, of_message in latest.items()}


def _with_content(files: Collection[Attached]) -> tuple[Attached, ...]:
    """Without those of which only the name is known, where a later import brought the file itself."""
    whole = {attached.name for attached in files if attached.has_content}
    return tuple(one for one in files if one.has_content or one.name not in whole)


def _grouped(
    latest: Mapping[tuple[str, str | DeviceId], tuple[Position, bool, str]],
) -> tuple[Reacted, ...]:
    by_emoji: dict[str, list[str]] = {}
    for (emoji, _), (_, removed, name) in sorted(latest.items(), key=lambda item: item[1][0]):
        if not removed:
            by_emoji.setdefault(emoji, []).append(name)
    return tuple(Reacted(emoji=emoji, authors=tuple(names)) for emoji, names in by_emoji.items())


def _answers(body: Body | None) -> tuple[MessageId, ...]:
    targets: Iterable[str] = body.to if isinstance(body, bodies.Text) else ()
    return tuple(MessageId(bytes.fromhex(target)) for target in targets)

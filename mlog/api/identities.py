"""People across imports: who is in the logs, who is one and the same, and who perhaps is.

Whom a name means is written in the private log (mlog/log/identities.py) and shared by all devices of the
person. What looks alike in two programs is shown as "perhaps the same" and stays apart until the
person says so; saying something else later takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.formats import IMPORTERS, TREE_IMPORTERS
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.identities import (
    FAMILIES,
    NATIVE_FORMAT,
    Identity,
    WhoIsWho,
    folded_name,
    identity_from,
    identity_of,
)
from mlog.log.ids import DeviceId
from mlog.log.people import private_log
from mlog.log.replica import Draft, Replica
from mlog.log.store import EntryRow, Position, Store, TimelineQuery
from mlog.log.stored import readable_body
from mlog.log.view import Message, View

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "Authors",
    "Chosen",
    "Likeness",
    "Natives",
    "Person",
    "alias",
    "find",
    "likenesses",
    "map_to",
    "merge",
    "people",
    "split",
    "who_is_who",
]

_UNKNOWN: Final = "unknown"
"""Format of what was imported from where the log does not say any more."""

_TOPIC_DIGITS: Final = 16
"""Of a person's log, that tell it from others of its name."""

_LISTED: Final = 20
"""People that a message lists to choose from."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who says something in the logs.

    Attributes:
        name: What the owner of this home calls them; else the name or uid that the program gives.
        is_named: The owner chose that name.
        identities: At least one.
        names: What they are called where they say something.
        conversations: Titles of those in which they say something.
        messages: How many, claimed between `first_ms` and `last_ms`.
    """

    name: str
    is_named: bool
    identities: tuple[Identity, ...]
    names: tuple[str, ...]
    conversations: tuple[str, ...]
    messages: int
    first_ms: int
    last_ms: int


class Likeness(msgspec.Struct, frozen=True, kw_only=True):
    """Two people who are perhaps the same, and why; nothing follows from it."""

    one: Person
    other: Person
    reason: str


class _Seen:
    """What is counted of one person."""

    def __init__(self) -> None:
        self.identities: set[Identity] = set()
        self.names: dict[str, int] = {}
        self.logs: set[int] = set()
        self.messages = 0
        self.first_ms = limits.TIME_MAX_MS
        self.last_ms = 0


class Natives:
    """Which identities the persons have who write in mlog.

    A name is a claim: where several persons have the same one, each is known by its log instead.
    """

    def __init__(self, store: Store) -> None:
        self._rows = {row.id: row for row in store.devices()}
        topics: dict[str, set[bytes]] = {}
        for row in self._rows.values():
            if row.topic:
                topics.setdefault(row.person, set()).add(row.topic)
        self._shared = {name for name, of in topics.items() if len(of) > 1}

    def of(self, device: DeviceId) -> tuple[Identity, str]:
        """The identity of a device's person, and what it calls itself."""
        row = self._rows.get(device)
        name = row.person if row is not None else device.hex()[:8]
        if row is not None and row.topic and name in self._shared:
            return Identity(NATIVE_FORMAT, f"{NATIVE_FORMAT}:{row.topic.hex()[:_TOPIC_DIGITS]}", ""), name
        return Identity(NATIVE_FORMAT, "", name), name


class Authors:
    """Whose identity a message has; what was read of files is remembered."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._natives = Natives(view.store)
        self._sources: dict[int, dict[int, tuple[str, str]]] = {}

    def format_of(self, chain: int, src: int) -> str:
        """The format that a chain's entries with this `src` were imported from, or "unknown"."""
        return self._source(chain, src)[0]

    def source_of(self, row: EntryRow, body: bodies.Text) -> tuple[str, str]:
        """The program and the chat in it that an entry came from."""
        if row.mid is None:
            return NATIVE_FORMAT, ""
        format_name, chat = self._source(row.chain, body.src)
        return FAMILIES.get(format_name, format_name), chat

    def _source(self, chain: int, src: int) -> tuple[str, str]:
        if chain not in self._sources:
            try:
                sources = self._view.sources(chain)
            except InvalidInput:
                sources = {}
            self._sources[chain] = {n: (body.format, body.chat) for n, body in sources.items()}
        return self._sources[chain].get(src, (_UNKNOWN, ""))

    def of(self, message: Message) -> tuple[Identity, str]:
        """Who said a message, and the name that they have there."""
        author = message.author
        if not author.claimed:
            return self._natives.of(author.device)[0], author.name
        return identity_of(self.format_of(message.chain, message.src), author.uid, author.name), author.name

    def of_row(self, row: EntryRow, body: bodies.Text) -> tuple[Identity, str]:
        """The same, of an entry as it is stored."""
        if row.mid is None:
            return self._natives.of(self._view.device_of(row))[0], self._view.name_of(row)
        return identity_of(self.format_of(row.chain, body.src), body.uid, body.by), body.by


class Chosen:
    """Those whom a text means: whom the owner calls so with all identities, else all who have that name.

    Args:
        who: A name, or an identity as `mlog people` lists it.
    """

    def __init__(self, home: Home, who: str) -> None:
        known = who_is_who(home.replica)
        self._authors = Authors(home.view)
        self._who, self._wanted = who, folded_name(who)
        named = {name for name in known if folded_name(name) == self._wanted}
        self._by_name = not named
        if self._by_name:
            named = {name for identity, name in known.items() if self._is_called(identity, identity.name)}
        self._identities = {identity for identity, name in known.items() if name in named}

    def said(self, message: Message) -> bool:
        """Whether it is from one of them."""
        return self._is_one(*self._authors.of(message))

    def wrote(self, row: EntryRow) -> bool:
        """Whether an entry is from one of them; one whose text is not here is from nobody."""
        body = readable_body(row.kind, row.body)
        return isinstance(body, bodies.Text) and self._is_one(*self._authors.of_row(row, body))

    def _is_one(self, identity: Identity, name: str) -> bool:
        return identity in self._identities or (self._by_name and self._is_called(identity, name))

    def _is_called(self, identity: Identity, name: str) -> bool:
        return folded_name(name) == self._wanted or identity.is_called(self._who)


def who_is_who(replica: Replica) -> WhoIsWho:
    """What this person's private log says of whom names mean."""
    log = private_log(replica)
    return WhoIsWho() if log is None else WhoIsWho(_aliases(replica, log.n))


def people(home: Home) -> list[Person]:
    """Everybody who says something: those with a name of the owner's first, then by how much they say."""
    known = who_is_who(home.replica)
    authors = Authors(home.view)
    titles = {row.n: row.title for row in home.store.logs()}
    devices = {chain.n: chain.device for row in home.store.logs() for chain in home.store.chains(row.n)}
    natives = Natives(home.store)
    seen: dict[str | Identity, _Seen] = {}
    for row in home.store.authors():
        if row.imported:
            identity, name = identity_of(authors.format_of(row.chain, row.src), row.uid, row.by), row.by
        else:
            identity, name = natives.of(devices.get(row.chain, DeviceId(b"")))
        if not (identity.uid or identity.name):
            continue
        of = seen.setdefault(known.name_of(identity) or identity, _Seen())
        of.identities.add(identity)
        of.names[name] = of.names.get(name, 0) + row.messages
        of.logs.add(row.log)
        of.messages += row.messages
        of.first_ms, of.last_ms = min(of.first_ms, row.first_ms), max(of.last_ms, row.last_ms)
    for identity, name in known.items():
        seen.setdefault(name, _Seen()).identities.add(identity)
    found = [_person(key, of, titles) for key, of in seen.items()]
    return sorted(
        found, key=lambda one: (not one.is_named, -one.messages, folded_name(one.name), one.identities)
    )


def likenesses(persons: Iterable[Person]) -> list[Likeness]:
    """Who is perhaps the same, in different programs: by number or address, else by name."""
    found: list[Likeness] = []
    by_trait: dict[str, list[Person]] = {}
    paired: set[frozenset[tuple[Identity, ...]]] = set()
    for person in persons:
        uids = {f"uid {one.uid}" for one in person.identities if one.uid.startswith(("tel:", "mailto:"))}
        called = {f"name {folded_name(name)}" for name in (person.name, *person.names) if name.strip()}
        for trait in (*sorted(uids), *sorted(called)):
            by_trait.setdefault(trait, []).append(person)
    for trait, alike in sorted(by_trait.items(), reverse=True):
        is_uid = trait.startswith("uid ")
        for other in alike[1:]:
            pair = frozenset((alike[0].identities, other.identities))
            formats = {one.format for one in alike[0].identities} ^ {one.format for one in other.identities}
            if pair not in paired and (formats or is_uid):
                paired.add(pair)
                reason = "the same number or address" if is_uid else "the same name"
                found.append(Likeness(one=alike[0], other=other, reason=reason))
    return found


def merge(home: Home, one: str, other: str) -> Person:
    """Take two people for one from now on; the name is that of the first.

    Raises:
        UserError: Nobody, or several, are called so; or somebody else has that name already.
    """
    everybody = people(home)
    first, second = _find(everybody, one), _find(everybody, other)
    if first == second:
        raise UserError(f"{one} and {other} are one already.")
    others = [person for person in everybody if person.is_named and person not in (first, second)]
    if not first.is_named and folded_name(first.name) in {folded_name(person.name) for person in others}:
        raise UserError(
            f"you call somebody else {first.name!r} already. Give {one} a name first: "
            f"'mlog people alias NAME {first.identities[0]}', or name both in one merge."
        )
    map_to(home, first.name, (*first.identities, *second.identities))
    return next(person for person in people(home) if first.identities[0] in person.identities)


def map_to(home: Home, name: str, identities: Iterable[Identity]) -> None:
    """Say that these are the person `name`; "" takes back what was said of them.

    Raises:
        UserError: There is no private log yet.
        LimitExceeded: The name is too long.
    """
    if len(name.encode(errors="replace")) > limits.NAME_SIZE_MAX_BYTES:
        raise LimitExceeded(f"the name is too long: at most {limits.NAME_SIZE_MAX_BYTES:,} bytes.")
    log = private_log(home.replica)
    if log is None:
        raise UserError("your settings have not come to this device yet. Run 'mlog sync', then try again.")
    known = who_is_who(home.replica)
    now = home.now_ms()
    drafts = [
        Draft(Kind.ALIAS, bodies.Alias(format=one.format, uid=one.uid, by=one.name, person=name), now)
        for one in sorted(set(identities))
        if known.name_of(one) != name
    ]
    for start in range(0, len(drafts), limits.STORE_ROWS_MAX):
        home.replica.write(log.n, drafts[start : start + limits.STORE_ROWS_MAX], now)


def alias(home: Home, name: str, what: str) -> Person:
    """Call somebody `name`; whoever has that name already is the same person from now on.

    Args:
        what: A person, with all identities; or one identity, which leaves the others as they are.

    Raises:
        UserError: Nobody, or several, are called `what`; or the name is empty.
    """
    name = " ".join(name.split())
    if not name:
        raise UserError("a person needs a name.")
    # A name that is written a little differently is the one that there is, unless it is spelled anew.
    identities = find(home, what).identities
    chosen = [one for one in identities if one.is_called(what)] or list(identities)
    others = [known for known, of in who_is_who(home.replica).by_name().items() if not of <= set(chosen)]
    name = next((known for known in others if folded_name(known) == folded_name(name)), name)
    map_to(home, name, chosen)
    return find(home, name)


def split(home: Home, what: str) -> list[Identity]:
    """Take back that identities are one person: of a person all, else the one that is named.

    Raises:
        UserError: Nobody, or several, are called so; or nothing was said of them.
    """
    known = who_is_who(home.replica)
    named = [identity for identity, _ in known.items() if identity.is_called(what)]
    identities = named or list(find(home, what).identities)
    mapped = sorted(one for one in identities if known.name_of(one))
    if not mapped:
        raise UserError(f"{what} is one by itself already; there is nothing to split.")
    map_to(home, "", mapped)
    return mapped


def find(home: Home, what: str) -> Person:
    """The one person that a name or an identity means.

    Raises:
        UserError: Nobody, or several: the message lists them.
    """
    return _find(people(home), what)


def _find(everybody: list[Person], what: str) -> Person:
    found = _matching(everybody, what)
    if len(found) == 1:
        return found[0]
    if not found:
        # What a dry run of an import named is not in a log yet.
        unseen = identity_from(what.strip(), _programs())
        if unseen is not None:
            return _person(unseen, _seen_nowhere(unseen), {})
        raise UserError(f"nobody is called {what!r}. 'mlog people' lists all.")
    identities = [str(one) for person in found for one in person.identities]
    listed = "".join(f"\n  {one}" for one in identities[:_LISTED])
    raise UserError(f"{len(found)} people are called {what!r}; say which:{listed}")


def _programs() -> set[str]:
    names = {known.name for known in (*IMPORTERS, *TREE_IMPORTERS)}
    return {FAMILIES.get(name, name) for name in names} | set(FAMILIES.values())


def _seen_nowhere(identity: Identity) -> _Seen:
    seen = _Seen()
    seen.identities.add(identity)
    if identity.name:
        seen.names[identity.name] = 0
    return seen


def _matching(everybody: list[Person], what: str) -> list[Person]:
    """Those that a text means: a person by the owner's name, else an identity, else all who are called so."""
    wanted = folded_name(what)
    named = [one for one in everybody if one.is_named and folded_name(one.name) == wanted]
    by_identity = [one for one in everybody if any(own.is_called(what) for own in one.identities)]
    by_name = [one for one in everybody if wanted in {folded_name(name) for name in (one.name, *one.names)}]
    return named or by_identity or by_name


def _aliases(replica: Replica, log: int) -> Iterator[tuple[Position, bodies.Alias]]:
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({int(Kind.ALIAS)}))
    while rows := replica.store.timeline(query):
        for row in rows:
            body = readable_body(row.kind, row.body)
            if isinstance(body, bodies.Alias):
                yield row.position, body
        query = msgspec.structs.replace(query, after=rows[-1].position)


def _person(key: str | Identity, seen: _Seen, titles: dict[int, str]) -> Person:
    names = sorted(seen.names, key=lambda name: (-seen.names[name], name))
    shown = key if isinstance(key, str) else (names[0] if names and names[0].strip() else str(key))
    return Person(
        name=shown,
        is_named=isinstance(key, str),
        identities=tuple(sorted(seen.identities)),
        names=tuple(name for name in names if name.strip()),
        conversations=tuple(sorted({titles[log] for log in seen.logs})),
        messages=seen.messages,
        first_ms=seen.first_ms if seen.messages else 0,
        last_ms=seen.last_ms,
    )

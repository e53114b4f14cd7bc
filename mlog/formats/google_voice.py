"""Google Voice from Takeout: a page for each day and chat, and for each call, merged by numbers.

A chat is the numbers of the others: `google-voice:+17325550101`, those of a group in order with ","
between. Takeout makes many pages of one chat, and one on which only the owner writes names nobody
but in its file name: then the number is learnt from other pages with that name.

| on the page                    | becomes                                                             |
|--------------------------------|---------------------------------------------------------------------|
| message                        | MESSAGE; the owner's are by "Me", as the page says                  |
| call, voicemail, recording     | EVENT: its title, duration and transcript                           |
| pictures, sound, contact cards | attachments, found in the tree by their name and any ending         |

Times have milliseconds and a zone. They, the author's number and the text are the identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final

import msgspec
from blake3 import blake3

from mlog.errors import InvalidInput, UserError
from mlog.formats.beside import Beside, folder_of
from mlog.formats.google_voice_html import Page, Person, Said
from mlog.formats.identity import Occurrences, of_line
from mlog.formats.record import Chat, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.formats.tree import Tree
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["GoogleVoiceImporter", "GoogleVoiceTreeImporter"]

_PAGE_NAME: Final = re.compile(
    r"(?:^|/)(?P<who>[^/]*?)[ _]?-[ _](?:(?P<what>[A-Za-z]+)[ _]-[ _])?"
    r"\d{4}-\d\d-\d\dT\d\d_\d\d_\d\dZ[^/]*\.html?$"
)
_NUMBER: Final = re.compile(r"\+?\d{3,20}")
_GROUP: Final = "Group Conversation"


class GoogleVoiceImporter:
    """Reads one page."""

    name = "google-voice"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is a page with Google Voice's classes."""
        text = decode_head(head)
        return "<html" in text[:2000] and ('class="hChatLog' in text or 'class="haudio"' in text)

    def parse(self, source: Source) -> Iterator[Item]:
        """The page's chat.

        Raises:
            LimitExceeded: The page is too large.
        """
        page = Page()
        said = list(page.read(source))
        chat = _chat(_others(page, said), page, source.name, said)
        reader = _Reader(source.hints.zone, Beside(source.tree, folder_of(source.path)))
        yield chat
        yield from reader.items(page, said)


class GoogleVoiceTreeImporter:
    """Reads all pages of a Takeout folder or archive."""

    name = "google-voice"

    def claim(self, tree: Tree, /) -> Sequence[str]:
        """Every page of a chat or call, by its name."""
        return [name for name in tree.names if _PAGE_NAME.search(name)]

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints, /) -> Iterator[Item]:
        """The chats, each with all its pages by their first time; a broken page is reported."""
        found: list[_Found] = []
        numbers: dict[str, str] = {}
        for path in claimed:
            try:
                one = _look(tree, path, hints, numbers)
            except (InvalidInput, UserError) as error:
                yield Skipped(position=0, reason=str(error), file=path)
                continue
            found.append(one)
        pages: dict[str, list[_Found]] = {}
        titles: dict[str, str] = {}
        for one in found:
            number = numbers.get(one.chat.title)
            known = f"google-voice:{number}" if number and one.nameless else one.chat.key
            pages.setdefault(known, []).append(one)
            if known not in titles or not _NUMBER.fullmatch(one.chat.title):
                titles[known] = one.chat.title
        folders: dict[str, Beside] = {}
        for key, ones in pages.items():
            yield Chat(key=key, title=titles[key])
            reader = _Reader(hints.zone, Beside(None, ""))
            for one in sorted(ones, key=lambda one: (one.first_ms, one.path)):
                folder = folder_of(one.path)
                reader.beside = folders.get(folder) or folders.setdefault(folder, Beside(tree, folder))
                yield from _page(tree, one.path, hints, reader)


class _Found(msgspec.Struct, frozen=True):
    """What the first look at a page told."""

    path: str
    chat: Chat
    first_ms: int
    nameless: bool


class _Reader:
    """Makes records of what is said on pages of one chat."""

    def __init__(self, zone: tzinfo | None, beside: Beside) -> None:
        self._zone = zone
        self._occurrences = Occurrences()
        self.beside = beside

    def items(self, page: Page, said: Sequence[Said]) -> Iterator[Item]:
        for ordinal, one in enumerate(said, start=1):
            yield from self._item(ordinal, one)
        if not said:
            yield Skipped(position=0, reason="no message and no call on this page")
        elif not page.complete:
            yield Skipped(position=len(said), reason="the page breaks off here")

    def _item(self, ordinal: int, said: Said) -> Iterator[Item]:
        time_ms = _time_ms(said.time, self._zone)
        if time_ms is None:
            yield Skipped(position=ordinal, reason=f"date {said.time[:80]!r} is not understood")
            time_ms = 0
        person = said.author or Person("", "")
        number = _bare(person.number)
        author = person.name or number
        text = said.text
        if said.call:
            if said.label == "placed":
                author, number = "Me", ""
            head, _, rest = text.partition("\n")
            head = f"{head.strip()} ({said.duration})" if said.duration else head.strip()
            text = f"[{head}]\n{rest}" if rest else f"[{head}]"
        kind = Kind.EVENT if said.call else Kind.MESSAGE
        first = of_line(f"{time_ms}ms", kind, number or author, text)
        yield from fitted(
            Record(
                kind=kind,
                mid=self._occurrences.identity(first, time_ms),
                author=author,
                text=text,
                time_ms=time_ms,
                position=ordinal,
                uid=f"tel:{number}" if _NUMBER.fullmatch(number) else "",
                files=tuple(self.beside.file(name, self.beside.find_stem(name)) for name in said.files),
            )
        )


def _look(tree: Tree, path: str, hints: Hints, numbers: dict[str, str]) -> _Found:
    """The chat of a page, and the numbers of names on it."""
    page = Page()
    with tree.open(path) as stream:
        said = list(page.read(Source(stream, path, hints=hints)))
    others = _others(page, said)
    for one in others:
        number = _bare(one.number)
        if one.name and number and numbers.setdefault(one.name, number) != number:
            numbers[one.name] = ""  # A name with two numbers does not tell which.
    times = [time for one in said if (time := _time_ms(one.time, hints.zone)) is not None]
    nameless = not any(one.number for one in others)
    return _Found(path, _chat(others, page, path.rpartition("/")[2], said), min(times, default=0), nameless)


def _page(tree: Tree, path: str, hints: Hints, reader: _Reader) -> Iterator[Item]:
    name = path.rpartition("/")[2]
    try:
        hasher = blake3()
        with tree.open(path) as stream:
            while raw := stream.read(2**20):
                hasher.update(raw)
        page = Page()
        with tree.open(path) as stream:
            said = list(page.read(Source(stream, name, hints=hints)))
        yield Provenance(format="google-voice", file_hash=hasher.hexdigest(), name=name)
        for item in reader.items(page, said):
            yield msgspec.structs.replace(item, file=path) if isinstance(item, Skipped) else item
    except (InvalidInput, UserError) as error:
        yield Skipped(position=0, reason=str(error), file=path)


def _others(page: Page, said: Sequence[Said]) -> list[Person]:
    """Who takes part besides the owner."""
    people = [
        *page.participants,
        *(one.author for one in said if one.author is not None and not one.author.owner),
    ]
    by_number: dict[str, Person] = {}
    for person in people:
        by_number.setdefault(_bare(person.number) or person.name, person)
    return list(by_number.values())


def _chat(others: Sequence[Person], page: Page, name: str, said: Sequence[Said]) -> Chat:
    found = _PAGE_NAME.search(name)
    who = found["who"].replace("_", " ").strip() if found is not None else ""
    who = "" if who == _GROUP else who
    bare = sorted({_bare(one.number) or one.name for one in others} - {""})
    if not bare and _NUMBER.fullmatch(who):
        bare = [who if who.startswith("+") else f"+{who}"]
    title = ", ".join(one.name or _bare(one.number) for one in others if one.name or one.number)
    title = title or who or ("Unknown caller" if any(one.call for one in said) else page.title)
    key = ",".join(bare) or (who or title).lower()
    return Chat(key=clip(f"google-voice:{key}"), title=clip(title or "Google Voice", TITLE_SIZE_MAX_BYTES))


def _bare(number: str) -> str:
    bare = re.sub(r"[\s()./-]", "", number)
    return bare if _NUMBER.fullmatch(bare) else number.strip()


def _time_ms(written: str, zone: tzinfo | None) -> int | None:
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone or UTC)
        return max(round(moment.timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        return None

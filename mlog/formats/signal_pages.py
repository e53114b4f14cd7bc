"""Signal chats as the pages that signalbackup-tools makes of them, as records.

A chat is one page, or several: "Ann.html", "Ann_1.html" and so on in one folder, with media/ beside. It has
the same key as its text by the same tool, `signal:<title>`; a message is known by second, author and
text, so that both meet where both name the author alike. One's own messages are by "Me".

| on the page                  | becomes                                                            |
|------------------------------|--------------------------------------------------------------------|
| a message                    | MESSAGE; in a chat of two, an incoming one is by whom it is called |
| what happened, a call        | EVENT                                                              |
| a quotation                  | `to`, or lines with ">" where its words were not said before       |
| former versions              | the oldest is the MESSAGE, later ones are EDITs                    |
| reactions; a deleted message | REACTIONs; an erased message                                       |

Times are of the clock of the machine that made the pages: UTC unless `Hints.zone` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.formats.beside import Beside, folder_of
from mlog.formats.clock_words import month
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import iso_ms, opened
from mlog.formats.quotes import Said as Quotable
from mlog.formats.record import Chat, File, Item, Provenance, Record, Skipped
from mlog.formats.signal_html import Page, Said, is_page
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.formats.tree import Tree
from mlog.limits import EMOJI_SIZE_MAX_BYTES, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["SignalPagesImporter", "items_of_page"]

_NAME: Final = re.compile(r"(?P<chat>.*?)(?:_(?P<number>\d{1,6}))?\.html?", re.DOTALL)
_TIME: Final = re.compile(r"([^\W\d]{1,12}\.?) (\d\d?), (\d{4}) (\d\d:\d\d:\d\d)")
_OWN: Final = "Me"


class SignalPagesImporter:
    """Reads all pages of a folder or archive, those of one chat as one."""

    name = "signal-pages"

    def claim(self, tree: Tree) -> Sequence[str]:
        """Every page of a chat."""
        pages = (name for name in tree.names if name.lower().endswith((".html", ".htm")))
        return [name for name in pages if _is_page(tree, name)]

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        """All chats, each with its pages in order."""
        chats: dict[str, list[tuple[int, str]]] = {}
        known = set(claimed)
        for path in claimed:
            match = _NAME.fullmatch(path)
            assert match is not None, "claimed by its ending"
            # "Ann_2.html" may be a chat of its own: it is a further page where "Ann.html" is there.
            first = next((f"{match['chat']}{end}" for end in (".html", ".htm") if match["number"]), path)
            chat = first if first in known else path
            chats.setdefault(chat, []).append((int(match["number"] or 0) if chat != path else 0, path))
        for pages in chats.values():
            reader = _Reader(hints)
            for _, path in sorted(pages):
                try:
                    with opened(tree, path, hints) as source:
                        digest = source.hash_ahead()
                        name = clip(path.rpartition("/")[2])
                        yield from reader.items(
                            source, Provenance(format=self.name, file_hash=digest, name=name)
                        )
                except (InvalidInput, LimitExceeded, UserError) as error:
                    yield Skipped(position=reader.ordinal, reason=str(error), file=path)


def items_of_page(source: Source) -> Iterator[Item]:
    """The chat of a single page.

    Raises:
        LimitExceeded: A message is too large.
    """
    yield from _Reader(source.hints).items(source)


def _is_page(tree: Tree, path: str) -> bool:
    try:
        with opened(tree, path, Hints()) as source:
            return is_page(decode_head(source.head()))
    except UserError:
        return False


class _Reader:
    """Makes records of the pages of one chat.

    Attributes:
        ordinal: Of the last message of the page that is read.
    """

    def __init__(self, hints: Hints) -> None:
        self.ordinal = 0
        self._zone = hints.zone
        self._title = ""
        self._occurrences = Occurrences()
        self._said = Quotable()
        self._beside = Beside(None, "")

    def items(self, source: Source, origin: Provenance | None = None) -> Iterator[Item]:
        """The chat before its first page, then the records of a page."""
        page = Page()
        self.ordinal = 0
        self._beside = Beside(source.tree, folder_of(source.path))
        file = source.path if origin is not None else ""
        for said in page.read(source):
            if self.ordinal == 0:
                yield from self._begin(page, source, origin)
            self.ordinal += 1
            for item in self._items(said, group=page.group):
                is_placed = isinstance(item, Skipped)
                yield msgspec.structs.replace(item, file=file) if is_placed else item
        if self.ordinal == 0:
            yield from self._begin(page, source, origin)
            yield Skipped(position=0, reason="no message on this page", file=file)
        elif not page.complete:
            yield Skipped(position=self.ordinal, reason="the page breaks off here", file=file)

    def _begin(self, page: Page, source: Source, origin: Provenance | None) -> Iterator[Item]:
        if not self._title:
            self._title = page.title or source.name
            yield Chat(
                key=clip(f"signal:{self._title.lower()}"), title=clip(self._title, TITLE_SIZE_MAX_BYTES)
            )
        if origin is not None:
            yield origin

    def _items(self, said: Said, *, group: bool) -> Iterator[Item]:
        versions = [*said.versions, said]
        first = versions[0]
        time_ms = self._time_ms(first.time)
        if not time_ms:
            reason = f"date {first.time[:80]!r} is not understood: the time is left open"
            yield Skipped(position=self.ordinal, reason=reason)
        kind = Kind.EVENT if said.kind == "status" else Kind.MESSAGE
        author = _OWN if said.kind == "outgoing" else said.name if group else self._title
        author = "" if kind is Kind.EVENT else author
        same = of_line(f"{time_ms}s", kind, author, first.text)
        mid = self._occurrences.identity(same, time_ms)
        parent = self._said.find(said.quotation)
        quoted = "" if parent or not said.quotation else said.quotation
        before = [f"> {line}" for line in quoted.split("\n")] if quoted else []
        texts = ["\n".join(filter(None, [*before, one.text, *one.further])) for one in versions]
        record = Record(
            kind=kind,
            mid=mid,
            author=author,
            text="" if said.erased else texts[0],
            time_ms=time_ms,
            position=self.ordinal,
            to=() if parent is None or parent == mid else (parent,),
            erased=said.erased,
            files=() if said.erased else tuple(self._files(said)),
        )
        yield from fitted(record)
        for nth, text in enumerate([] if said.erased else texts[1:], start=1):
            yield from fitted(
                msgspec.structs.replace(
                    record,
                    kind=Kind.EDIT,
                    mid=of_id("signal", f"{mid.hex()} edit {nth}"),
                    text=text,
                    time_ms=self._time_ms(versions[nth].time) or time_ms,
                    to=(mid,),
                    files=(),
                )
            )
        self._said.remember(said.text, mid)
        yield from self._reactions(said, record)

    def _reactions(self, said: Said, record: Record) -> Iterator[Item]:
        for emoji, names in said.reactions:
            if not 0 < len(emoji.encode()) <= EMOJI_SIZE_MAX_BYTES:
                yield Skipped(position=self.ordinal, reason="a reaction that is no emoji")
                continue
            if not names:
                reason = f"a reaction {emoji}: the page does not say whose"
                yield Skipped(position=self.ordinal, reason=reason)
            for name in names:
                mid = of_id("signal", f"{record.mid.hex()} reaction {name} {emoji}")
                reacted = msgspec.structs.replace(
                    record, kind=Kind.REACTION, mid=mid, author=name, text=emoji
                )
                yield from fitted(msgspec.structs.replace(reacted, to=(record.mid,), erased=False, files=()))

    def _files(self, said: Said) -> Iterator[File]:
        for one in said.files:
            yield self._beside.file(one.name or one.path, self._beside.find(one.path))

    def _time_ms(self, written: str) -> int:
        found = _TIME.fullmatch(written)
        if found is None or not (number := month(found[1])):
            return 0
        return iso_ms(f"{found[3]}-{number:02}-{int(found[2]):02}T{found[4]}", self._zone)

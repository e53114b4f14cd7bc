"""Pages that signalbackup-tools makes of Signal chats (`--exporthtml`), as plain values.

| element                                 | is                                                      |
|-----------------------------------------|---------------------------------------------------------|
| title                                   | what the chat is called                                 |
| input#showmembers                       | a sign that it is a group                               |
| div.msg                                 | a message: msg-incoming, msg-outgoing, or msg-status    |
| span.msg-name                           | who wrote it; in the quotation, whom it quotes          |
| pre                                     | what was said; in div.msg-quote, what is quoted         |
| div.attachment, img, source, a          | a file in media/ beside the page                        |
| div.footer, span.msg-data               | when                                                    |
| div.msg in div.edited-info              | what the message was before an edit, the oldest first   |
| div.msg-reaction                        | an emoji, and of whom                                   |
| deleted-msg; viewonce                   | a message without its text                              |

All else that stands in a message is kept as further lines. A page may hold a whole chat: it is read
in pieces, and gives each message when its element ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import msgspec

from mlog.errors import LimitExceeded
from mlog.formats.html_stream import VOID, HtmlStream
from mlog.formats.source import Source
from mlog.formats.texts import clean
from mlog.limits import MESSAGE_LINES_SIZE_MAX_BYTES, TREE_SIZE_MAX_BYTES

__all__ = ["Attached", "Page", "Said", "is_page"]

_ZONES: Final = {
    **dict.fromkeys(("footer", "footer-status", "edited", "msg-reactions", "avatar"), "none"),
    **dict.fromkeys(("reaction-count", "poll-option-meter-bar", "poll-option-votes"), "none"),
    **dict.fromkeys(("poll-option-details", "poll-subtitle"), "none"),
    "msg-dl-link": "download",
    "msg-name": "name",
    "msg-quote": "quote",
    "attachment": "attachment",
    "pending-attachment": "pending",
    "caption": "body",
    "shared-contact": "contact",
    "linkpreview": "preview",
    "msg-data": "time",
    "msg-reaction": "reaction",
    "msg-reaction-info": "reactors",
    "viewonce": "viewonce",
    "poll-title": "poll",
    "poll-option-title": "answer",
}
_IN_QUOTE: Final = frozenset(("msg-name", "attachment", "msg-quote-attach"))
_SILENT: Final = frozenset(("none", "aside", "download"))
_DEPTH_MAX: Final = 200
"""Elements inside each other; a message has a dozen."""

_VERSIONS_MAX: Final = 100
"""Former versions of one message; Signal allows ten edits."""

_STORY: Final = "Reacted to your story"
"""Stands where the author stands."""

_GENERATED: Final = "<!-- Generated on "
_TOOL: Final = " by signalbackup-tools ("


class Attached(msgspec.Struct, frozen=True):
    """A file of a message: where it lies, and what it was called, or ""."""

    path: str
    name: str = ""


class Said(msgspec.Struct):
    """One message, or something that happened.

    Attributes:
        kind: "incoming", "outgoing" or "status".
        time: As the page writes it.
        further: Lines besides the text: a poll, a contact, a preview.
        reactions: Emoji, and the names of those who reacted.
        versions: What it was before, the oldest first.
    """

    kind: str = "status"
    name: str = ""
    text: str = ""
    time: str = ""
    quotation: str = ""
    erased: bool = False
    further: list[str] = []
    files: list[Attached] = []
    reactions: list[tuple[str, list[str]]] = []
    versions: list[Said] = []


class _Message(msgspec.Struct):
    """A message whose element is open."""

    said: Said
    depth: int
    parts: dict[str, list[str]] = {}
    emoji: str = ""
    size: int = 0


class _Element(msgspec.Struct):
    tag: str
    zone: str
    link: str = ""
    link_at: int = 0


def is_page(head: str) -> bool:
    """Whether a page begins as those of chats do; the index and the settings have no messages."""
    first = head.lstrip()[:400]
    return first.startswith(_GENERATED) and _TOOL in first and ".msg-incoming" in head


class Page(HtmlStream):
    """Reads one page.

    Attributes:
        title: Of the page.
        group: It is of a group; known before the first message.
        complete: The page came to its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.group = False
        self.complete = False
        self._done: list[Said] = []
        self._open: list[_Element] = []
        self._messages: list[_Message] = []
        self._title: list[str] = []
        self._too_large = False

    def read(self, source: Source) -> Iterator[Said]:
        """The messages of the page, in its order.

        Raises:
            LimitExceeded: A message is too large.
        """
        for _ in self.pieces(source, TREE_SIZE_MAX_BYTES):
            done, self._done = self._done, []
            yield from done
            if self._too_large:
                raise LimitExceeded(
                    f"more than {MESSAGE_LINES_SIZE_MAX_BYTES:,} bytes in one message",
                    source=source.name,
                    position=0,
                )
        while self._messages:
            self._end_message()
        yield from self._done

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        fields = {name: value or "" for name, value in attrs}
        classes = fields.get("class", "").split()
        if fields.get("id") == "showmembers":
            self.group = True
        if tag == "br":
            self._add("\n")
        elif tag == "hr":
            self._add("\n\n")
        message = self._messages[-1] if self._messages else None
        zone = self._open[-1].zone if self._open else "none"
        if zone in ("attachment", "download") and message is not None:
            address = fields.get("src") or (fields.get("href") if tag == "a" else "")
            if address and tag in ("img", "source", "a"):
                self._attach(message, address)
        if tag in VOID:
            return
        if len(self._open) >= _DEPTH_MAX:
            del self._open[0]
            for one in self._messages:
                one.depth -= 1
        if tag == "div" and "msg" in classes and "msg-date-change" not in classes:
            self._begin_message(classes)
            zone = "other"
        elif message is not None:
            zone = _zone(tag, classes, zone)
        elif tag == "title":
            zone = "title"
        link = fields.get("href", "") if tag == "a" and zone == "body" else ""
        at = len(message.parts.get("body", ())) if link and message is not None else 0
        self._open.append(_Element(tag, zone, link, at))

    def handle_endtag(self, tag: str) -> None:
        """An element ends, and with it all that were left open in it."""
        at = next((at for at in range(len(self._open) - 1, -1, -1) if self._open[at].tag == tag), -1)
        if at < 0:
            return
        element = self._open[at]
        del self._open[at:]
        if tag == "html":
            self.complete = True
        while self._messages and self._messages[-1].depth >= at:
            self._end_message()
        if not self._messages:
            return
        message = self._messages[-1]
        if element.link:
            shown = "".join(message.parts.get("body", [])[element.link_at :])
            if shown and shown not in element.link and element.link not in shown:
                self._append(message, "body", f" ({element.link})")
        if element.zone == "name" and _STORY in "".join(message.parts.get("name", ())):
            message.said.further.append("[reacted to a story]")
            message.parts["name"] = ["".join(message.parts["name"]).replace(_STORY, "")]
        elif element.zone == "emoji":
            message.emoji = _taken(message, "emoji").strip()
        elif element.zone == "reaction" and tag in ("div", "span") and message.emoji:
            names = [
                line.partition("From")[2].lstrip(":").strip()
                for line in _taken(message, "reactors").split("\n")
                if line.strip().startswith("From")
            ]
            message.said.reactions.append((message.emoji, [name for name in names if name]))
            message.emoji = ""
        elif element.zone in ("contact", "preview", "poll", "answer", "pending", "viewonce"):
            if not self._open or self._open[-1].zone != element.zone:
                self._say_further(message, element.zone)
        elif element.zone == "attachment" and self._open[-1:] and self._open[-1].zone != "attachment":
            self._name_attached(message)

    def handle_data(self, data: str) -> None:
        """Text."""
        self._add(data)

    def _add(self, text: str) -> None:
        zone = self._open[-1].zone if self._open else "none"
        if zone == "title":
            if not self._messages and sum(map(len, self._title)) < 4096:
                self._title.append(text)
                self.title = " ".join(clean("".join(self._title)).split())
        elif self._messages and zone not in _SILENT:
            self._append(self._messages[-1], zone, text)

    def _append(self, message: _Message, zone: str, text: str) -> None:
        message.size += len(text) + 8
        if message.size > MESSAGE_LINES_SIZE_MAX_BYTES:
            self._too_large = True
            return
        message.parts.setdefault(zone, []).append(text)

    def _begin_message(self, classes: list[str]) -> None:
        kind = next((kind for kind in ("incoming", "outgoing") if f"msg-{kind}" in classes), "status")
        said = Said(kind=kind, erased="deleted-msg" in classes)
        self._messages.append(_Message(said, len(self._open)))

    def _end_message(self) -> None:
        message = self._messages.pop()
        said = message.said
        said.text = clean("".join(message.parts.get("body", ())))
        said.name = _line(message, "name")
        said.time = _line(message, "time")
        said.quotation = clean("".join(message.parts.get("quote", ()))).strip()
        if other := _line(message, "other"):
            said.further.append(other)
        if not self._messages:
            self._done.append(said)
        elif len(self._messages[-1].said.versions) < _VERSIONS_MAX:
            self._messages[-1].said.versions.append(said)

    def _say_further(self, message: _Message, zone: str) -> None:
        text = " ".join(clean(_taken(message, zone)).split())
        if not text:
            return
        if zone == "answer":
            message.said.further.append(f"- {text}")
        else:
            what = {"viewonce": "view-once", "preview": "link", "pending": "attachment"}.get(zone, zone)
            message.said.further.append(f"[{what}: {text.strip('()') if zone == 'pending' else text}]")

    def _attach(self, message: _Message, address: str) -> None:
        path = clean(unquote(address))
        message.size += len(path) + 64
        if path not in [file.path for file in message.said.files]:
            message.said.files.append(Attached(path))

    def _name_attached(self, message: _Message) -> None:
        """What stands beside a file is its name, in quotation marks, or only its type."""
        text = " ".join(clean(_taken(message, "attachment")).split())
        name = text[text.find("'") + 1 : text.rfind("'")]
        if name and text.startswith("Attachment '") and message.said.files:
            message.said.files[-1] = Attached(message.said.files[-1].path, name)


def _zone(tag: str, classes: list[str], zone: str) -> str:
    """What the text in an element is, by its class and what it stands in."""
    if zone in ("quote", "aside"):
        return "aside" if _IN_QUOTE & set(classes) else zone
    if zone == "reaction" and "msg-emoji" in classes:
        return "emoji"
    found = next((_ZONES[css] for css in classes if css in _ZONES), "")
    if zone == "body" and found != "body":
        return zone
    if not found and tag == "pre" and zone == "other":
        return "body"
    return found or zone


def _taken(message: _Message, zone: str) -> str:
    return "".join(message.parts.pop(zone, ()))


def _line(message: _Message, zone: str) -> str:
    return " ".join(clean("".join(message.parts.get(zone, ()))).split())

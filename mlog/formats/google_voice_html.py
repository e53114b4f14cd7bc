"""Google Voice's pages as plain values: messages, calls, and who takes part.

Takeout writes microformats: what an element is stands in its class. A page is read in pieces with
bounded memory; a page that breaks off gives what came before.

| element                          | is                                                         |
|----------------------------------|------------------------------------------------------------|
| div.message                      | a message: abbr.dt, cite.sender, q, then attachments       |
| abbr.fn in a sender              | the account's owner ("Me"); others are span.fn             |
| div.participants                 | the others in a group                                      |
| div.haudio                       | a call or voicemail: .contributor, .published, .duration   |
| img, audio, video, a.vcard ...   | an attachment, named without its ending                    |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import msgspec

from mlog.formats.html_stream import VOID, HtmlStream
from mlog.formats.source import Source
from mlog.formats.texts import clean
from mlog.limits import HTML_FILE_SIZE_MAX_BYTES

__all__ = ["Page", "Person", "Said"]

_ATTACHED: Final = frozenset(("img", "audio", "video", "source", "embed"))
_LINKED: Final = frozenset(("vcard", "video", "audio", "image", "attachment"))


class Person(msgspec.Struct, frozen=True):
    """Somebody on a page.

    Attributes:
        number: As after "tel:", or "".
        owner: It is the one whose account was exported.
    """

    name: str
    number: str
    owner: bool = False


class Said(msgspec.Struct):
    """One message, or the call that a page is about.

    Attributes:
        time: In ISO form, as the page has it.
        call: It is a call; `text` is what the page calls it.
        label: Of a call: "placed", "received", "missed", "voicemail", "recorded".
        duration: Of a call, as the page writes it.
        files: Names of attachments.
    """

    time: str = ""
    author: Person | None = None
    text: str = ""
    call: bool = False
    label: str = ""
    duration: str = ""
    files: list[str] = []


class Page(HtmlStream):
    """Reads one page.

    Attributes:
        title: Of the page.
        participants: Of a group, without the owner.
        complete: The page came to its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.participants: list[Person] = []
        self.complete = False
        self._done: list[Said] = []
        self._open: list[tuple[str, str]] = []
        self._said: Said | None = None
        self._said_depth = 0
        self._person: tuple[str, str, bool] | None = None
        self._person_depth = 0
        self._text: list[str] = []

    def read(self, source: Source) -> Iterator[Said]:
        """What is said on the page, in its order.

        Raises:
            LimitExceeded: The page, or a piece of it, is too large.
        """
        for _ in self.pieces(source, HTML_FILE_SIZE_MAX_BYTES):
            yield from self._take()
        self._finish()
        yield from self._take()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        fields = {name: value or "" for name, value in attrs}
        classes = fields.get("class", "").split()
        if tag not in VOID:
            self._open.append((tag, classes[0] if classes else ""))
            if len(self._open) > 200:  # Nothing of Google's goes that deep.
                del self._open[0]
        if tag == "div" and ("message" in classes or "haudio" in classes):
            self._finish()
            self._said = Said(call="haudio" in classes)
        elif "sender" in classes or "contributor" in classes:
            self._person, self._person_depth = ("", "", False), len(self._open)
        elif tag == "a" and "tel" in classes and self._person is not None:
            name, _, owner = self._person
            self._person = (name, unquote(fields.get("href", "").removeprefix("tel:")), owner)
        elif "fn" in classes and self._person is not None and tag == "abbr":
            self._person = (*self._person[:2], True)
        if tag == "br":
            self._text.append("\n")
        elif tag in ("title", "q") or "fn" in classes or "full-text" in classes or "duration" in classes:
            self._text = []
        said = self._said
        if said is None:
            return
        if "dt" in classes or "published" in classes:
            said.time = fields.get("title", "")
        elif tag in _ATTACHED and fields.get("src"):
            self._attach(said, fields["src"])
        elif (
            tag == "a" and fields.get("href") and (_LINKED & set(classes) or fields.get("rel") == "enclosure")
        ):
            self._attach(said, fields["href"])
        elif tag == "a" and fields.get("rel") == "tag" and not said.label:
            label = fields.get("href", "").rpartition("#")[2]
            said.label = "" if label in ("inbox", "unread", "starred", "history") else label

    def handle_endtag(self, tag: str) -> None:
        """An element ends, and with it all that were left open in it."""
        at = next((at for at in range(len(self._open) - 1, -1, -1) if self._open[at][0] == tag), -1)
        if at < 0:
            return
        css = self._open[at][1]
        text = clean("".join(self._text))
        if tag == "title" and not self.title:
            self.title = " ".join(text.split())
        elif css == "fn" and self._person is not None:
            self._person = (" ".join(text.split()), *self._person[1:])
        elif css == "fn" and self._said is not None and self._said.call and not self._said.text:
            self._said.text = " ".join(text.split())
        elif tag == "q" and self._said is not None:
            self._said.text = text
        elif css == "full-text" and self._said is not None:
            self._said.text = f"{self._said.text}\n{text.strip()}"
        elif css == "duration" and self._said is not None:
            self._said.duration = text.strip().strip("()")
        if self._person is not None and at < self._person_depth:
            self._person_done()
        del self._open[at:]
        if tag == "html":
            self.complete = True

    def handle_data(self, data: str) -> None:
        """Text."""
        self._text.append(data)

    def _person_done(self) -> None:
        assert self._person is not None
        person = Person(*self._person)
        self._person = None
        if self._said is None:
            if not person.owner:
                self.participants.append(person)
        elif self._said.author is None:
            self._said.author = person

    def _attach(self, said: Said, name: str) -> None:
        name = clean(unquote(name))
        if name not in said.files:
            said.files.append(name)

    def _finish(self) -> None:
        if self._said is not None:
            self._done.append(self._said)
            self._said = None

    def _take(self) -> Iterator[Said]:
        done, self._done = self._done, []
        yield from done

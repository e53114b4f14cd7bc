"""Exports of other programs, made up for the benchmarks: every format of mlog/formats, at any size.

Each maker is handed messages one by one and yields the bytes of a file, so that 2 GB of it take no
memory; whoever writes the bytes says when it is enough. The shape (fields, line ends, files of a day
each) is that of the real programs, the words are synthetic.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from _bench_shared import GAP_S_MEAN, PEOPLE, SEED, START_S, Words, write_texts

__all__ = ["FORMATS", "Talk", "make"]

_DAY_MESSAGES: Final = 1000
"""Messages in one file of a tree: a page or a day of a busy chat."""


class Said(NamedTuple):
    """One message."""

    n: int
    time_ms: int
    author: str
    text: str

    @property
    def utc(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.time_ms / 1000, dt.UTC)


class Talk:
    """Messages of a busy chat, until `messages` were taken or somebody says that it is enough."""

    def __init__(self, messages: int | None = None) -> None:
        self.taken = 0
        self.text_bytes = 0
        self.is_enough = False
        self._most = messages
        draw = random.Random(SEED)  # noqa: S311 (the same text in every run)
        names = [name.capitalize() for name in Words().by_rank[600 : 600 + PEOPLE]]
        self._speakers = draw.choices(names, weights=[1 / (rank + 1) for rank in range(PEOPLE)], k=9973)
        self._gaps = [draw.expovariate(1 / GAP_S_MEAN) for _ in range(9973)]
        self._texts = write_texts()
        self._time_s = float(START_S)

    def __iter__(self) -> Iterator[Said]:
        while not self.is_enough and self.taken != self._most:
            self.taken += 1
            self._time_s += self._gaps[self.taken % len(self._gaps)]
            text = next(self._texts)
            self.text_bytes += len(text)
            yield Said(
                self.taken, int(self._time_s * 1000), self._speakers[self.taken % len(self._speakers)], text
            )

    def day(self) -> Iterator[Said]:
        """The messages of one file of a tree."""
        for said in self:
            yield said
            if self.taken % _DAY_MESSAGES == 0:
                return

    def days(self) -> Iterator[Iterator[Said]]:
        """File by file, until the talk is over."""
        for first in self:
            yield chain([first], self.day())


def make(format_: str, folder: Path, talk: Talk, size_bytes: int | None = None) -> Path:
    """Write an export of a format; gives the path to import.

    Args:
        size_bytes: Of all its files, unpacked: then the talk ends. None to leave it to the talk.
    """
    folder.mkdir(parents=True)
    written = 0
    maker = FORMATS[format_]
    enough = None if size_bytes is None else size_bytes * maker.talk_share
    path = folder / (format_ + maker.suffix)
    with maker.place(path) as place:
        for name, pieces in maker.files(talk):
            with place.open(name) as file:
                for piece in pieces:
                    file.write(piece)
                    written += len(piece)
                    talk.is_enough = enough is not None and written >= enough
    return path


# -- where the files go ----------------------------------------------------------------------


class _Single:
    """One file, or a folder of files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Single:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def open(self, name: str) -> Any:
        path = self._path / name if name else self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


class _Zip(_Single):
    """An archive, compressed as a phone would."""

    def __enter__(self) -> _Zip:
        self._archive = zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def open(self, name: str) -> Any:
        return self._archive.open(name, "w", force_zip64=True)


class Maker(NamedTuple):
    """How an export of one format is made.

    Attributes:
        files: Names and pieces of the files; "" for a single one.
        suffix: Of the path.
        place: Where they go.
        talk_share: Part of the bytes that is written while people talk.
    """

    files: Callable[[Talk], Iterator[tuple[str, Iterable[bytes]]]]
    suffix: str = ""
    place: Callable[[Path], _Single] = _Single
    talk_share: float = 1


def _one(pieces: Callable[[Talk], Iterator[bytes]], suffix: str) -> Maker:
    return Maker(lambda talk: iter([("", pieces(talk))]), suffix)


# -- lines -----------------------------------------------------------------------------------


def _irc(talk: Talk) -> Iterator[bytes]:
    for said in talk:
        yield f"{said.utc:%Y-%m-%d %H:%M:%S} <{said.author}> {said.text}\n".encode()


def _whatsapp(talk: Talk) -> Iterator[bytes]:
    for said in talk:
        more = "\nand a second line" if said.n % 20 == 0 else ""
        yield f"[{said.utc:%d.%m.%y, %H:%M:%S}] {said.author}: {said.text}{more}\r\n".encode()


def _mlog(talk: Talk) -> Iterator[bytes]:
    draw = random.Random(SEED)  # noqa: S311
    yield _line(
        {"kind": "conversation", "format": "mlog", "format_version": 1, "key": "bench:1", "title": "t"}
    )
    for said in talk:
        # Random ids, as real ones are hashes: the indexes are as scattered as those of a real chat.
        line = {"kind": "message", "id": draw.randbytes(16).hex(), "author": said.author}
        yield _line(line | {"time_ms": said.time_ms, "text": said.text})


def _signal(talk: Talk) -> Iterator[bytes]:
    for said in talk:
        when = said.utc.isoformat(timespec="milliseconds")
        line = {"date": when, "sender": said.author, "body": said.text, "quote": "", "sticker": None}
        yield _line(line | {"reactions": [], "attachments": [], "deleted": False, "call": False})


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


# -- one JSON value --------------------------------------------------------------------------


def _rows(head: dict[str, Any], name: str, rows: Iterable[object]) -> Iterator[bytes]:
    yield json.dumps(head).encode()[:-1] + (b", " if head else b"") + f'"{name}": [\n'.encode()
    for at, row in enumerate(rows):
        yield (b",\n" if at else b"") + json.dumps(row, indent=1).encode()
    yield b"\n]}\n"


def _telegram(talk: Talk) -> Iterator[bytes]:
    def row(said: Said) -> dict[str, Any]:
        whole = {"id": said.n, "type": "message", "date": f"{said.utc:%Y-%m-%dT%H:%M:%S}"}
        whole |= {"date_unixtime": str(said.time_ms // 1000), "from": said.author, "from_id": "user7"}
        if said.n % 5 == 0:
            whole["reply_to_message_id"] = said.n - 2
        return whole | {"text": said.text, "text_entities": [{"type": "plain", "text": said.text}]}

    head = {"name": "Tea", "type": "private_supergroup", "id": 7}
    return _rows(head, "messages", map(row, talk))


def _discord(talk: Talk) -> Iterator[bytes]:
    def row(said: Said) -> dict[str, Any]:
        author = {"id": "1", "name": said.author.lower(), "nickname": said.author, "discriminator": "0"}
        author |= {"color": None, "isBot": False, "roles": [], "avatarUrl": "https://cdn.example/1.png"}
        whole = {"id": str(said.n), "type": "Default", "timestamp": said.utc.isoformat(), "isPinned": False}
        whole |= {"timestampEdited": None, "callEndedTimestamp": None, "content": said.text, "author": author}
        return whole | {"attachments": [], "embeds": [], "stickers": [], "reactions": [], "mentions": []}

    head = {
        "guild": {"id": "9", "name": "Home"},
        "channel": {"id": "5", "type": "GuildTextChat", "name": "tea"},
    }
    return _rows(head, "messages", map(row, talk))


def _meta(talk: Iterable[Said]) -> Iterator[bytes]:
    def row(said: Said) -> dict[str, Any]:
        whole = {"sender_name": said.author, "timestamp_ms": said.time_ms, "content": said.text}
        return whole | {"is_geoblocked_for_viewer": False}

    head = {"participants": [{"name": "ann"}], "title": "Tea", "thread_path": "inbox/tea_1"}
    return _rows(head, "messages", map(row, talk))


def _google_chat(talk: Talk) -> Iterator[bytes]:
    def row(said: Said) -> dict[str, Any]:
        who = {"name": said.author, "email": f"{said.author}@example.org", "user_type": "Human"}
        when = f"{said.utc:%A, %B} {said.utc.day}, {said.utc:%Y at %I:%M:%S %p} UTC"
        whole = {"creator": who, "created_date": when, "text": said.text, "topic_id": f"t{said.n}"}
        return whole | {"message_id": f"g/t{said.n}/m{said.n}"}

    return _rows({}, "messages", map(row, talk))


# -- markup and mail -------------------------------------------------------------------------


def _sms(talk: Talk) -> Iterator[bytes]:
    # The number of messages is not known yet; a file may hold more than it announces.
    yield b"<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>\n<smses count=\"0\">\n"
    for said in talk:
        yield (
            f'  <sms protocol="0" address="+4917{said.n % 50:07d}" date="{said.time_ms}" '
            f'type="{1 + said.n % 2}" subject="null" body={quoteattr(said.text)} toa="null" sc_toa="null" '
            f'service_center="null" read="1" status="-1" locked="0" '
            f'readable_date="{said.utc:%d %b %Y %H:%M:%S}" contact_name="{said.author}" />\n'
        ).encode()
    yield b"</smses>\n"


def _voice_page(said: Iterable[Said]) -> Iterator[bytes]:
    yield (
        b'<?xml version="1.0" ?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head>'
        b'<title>Me to\nAnn Lee</title></head>\n<body><div class="hChatLog hfeed">'
    )
    for one in said:
        when = one.utc.isoformat(timespec="milliseconds")
        yield (
            f'<div class="message"><abbr class="dt" title="{when}">{one.utc:%b %d, %Y}</abbr>:\n'
            f'<cite class="sender vcard"><a class="tel" href="tel:+17325550101">'
            f'<span class="fn">Ann Lee</span>'
            f"</a></cite>:\n<q>{escape(one.text)}</q>\n</div> "
        ).encode()
    yield (
        b'</div>\n<div class="tags">Labels:\n<a rel="tag" href="http://www.google.com/voice#sms">Text</a></div>'
        b"</body></html>"
    )


def _mail(said: Said) -> bytes:
    head = (
        f"Return-Path: <{said.author}@example.org>\r\nReceived: from a.example by b.example; "
        f"{said.utc:%a, %d %b %Y %H:%M:%S} +0000\r\nMIME-Version: 1.0\r\nFrom: {said.author} Lee "
        f"<{said.author}@example.org>\r\nTo: tea@example.org\r\nSubject: Re: tea\r\n"
        f"Date: {said.utc:%a, %d %b %Y %H:%M:%S} +0000\r\nMessage-ID: <{said.n}@example.org>\r\n"
        f"In-Reply-To: <{max(1, said.n - 2)}@example.org>\r\nList-Id: <tea.example.org>\r\n"
    )
    text = "\r\n".join(said.text[at : at + 70] for at in range(0, len(said.text), 70))
    if said.n % 10:
        return (f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n\r\n").encode()
    # A tenth as most programs write: the text twice, the second time as HTML.
    return (
        f"{head}Content-Type: multipart/alternative; boundary=b1\r\n\r\n--b1\r\n"
        f"Content-Type: text/plain\r\n\r\n{text}\r\n--b1\r\n"
        f"Content-Type: text/html\r\n\r\n<p>{escape(text)}</p>\r\n--b1--\r\n\r\n"
    ).encode()


def _mbox(talk: Talk) -> Iterator[bytes]:
    for said in talk:
        yield f"From {said.author}@example.org {said.utc:%a %b %d %H:%M:%S %Y}\n".encode()
        yield _mail(said).replace(b"\r\n", b"\n")


# -- trees -----------------------------------------------------------------------------------


def _emls(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    for said in talk:
        yield f"{said.n // 1000}/{said.n}.eml", [_mail(said)]


def _maildir(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    for said in talk:
        yield f"cur/{said.time_ms // 1000}.{said.n}.host:2,S", [_mail(said)]
    yield "new/.keep", []
    yield "tmp/.keep", []


def _voice(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    for at, day in enumerate(talk.days()):
        yield f"Takeout/Voice/Calls/Ann Lee - Text - {at:05d}.html", _voice_page(day)


def _slack(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    users = [{"id": "U1", "name": "ann", "profile": {"display_name": "ann", "real_name": "Ann A"}}]
    yield "users.json", [json.dumps(users).encode()]
    yield "channels.json", [json.dumps([{"id": "C1", "name": "tea"}]).encode()]

    def row(said: Said) -> dict[str, Any]:
        stamp = f"{said.time_ms // 1000}.{said.n % 1_000_000:06d}"
        return {"type": "message", "user": "U1", "text": said.text, "ts": stamp, "team": "T1", "blocks": []}

    for at, day in enumerate(talk.days()):
        date = dt.date(2015, 1, 1) + dt.timedelta(at)
        yield f"tea/{date}.json", _rows_only(map(row, day))


def _discord_package(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    yield "Account/user.json", [b'{"id":"77","username":"ann_1","global_name":"ann"}']
    yield "Messages/index.json", [b'{"12345":"tea in Home"}']
    yield "Messages/c12345/channel.json", [b'{"id":"12345","name":"tea","guild":{"name":"Home"}}']

    def row(said: Said) -> dict[str, Any]:
        when = f"{said.utc:%Y-%m-%d %H:%M:%S}"
        return {"ID": 20_000 + said.n, "Timestamp": when, "Contents": said.text, "Attachments": ""}

    yield "Messages/c12345/messages.json", _rows_only(map(row, talk))


def _meta_export(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    for at, day in enumerate(talk.days(), start=1):
        yield f"messages/inbox/tea_1/message_{at}.json", _meta(day)


def _google_chats(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    yield "Google Chat/Groups/Space g/group_info.json", [b'{"name":"Tea","members":[]}']
    yield "Google Chat/Groups/Space g/messages.json", _google_chat(talk)


def _matrix_event(said: Said) -> dict[str, Any]:
    event = {"type": "m.room.message", "room_id": "!tea:example.org", "sender": f"@{said.author}:example.org"}
    content = {"msgtype": "m.text", "body": said.text}
    return event | {"origin_server_ts": said.time_ms, "content": content}


def _matrix(talk: Talk) -> Iterator[bytes]:
    head = {"room_name": "Tea", "room_creator": "Ann", "topic": "", "exported_by": "Ann"}
    events = (_matrix_event(said) | {"event_id": f"${said.n:043d}", "unsigned": {"age": 1}} for said in talk)
    return _rows(head, "messages", events)


def _matrix_export(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Of a server: the events one behind the other, without ids."""
    base = {"auth_events": ["$a"], "prev_events": ["$b"], "hashes": {"sha256": "x"}, "signatures": {}}
    events = (_line(_matrix_event(said) | base | {"depth": said.n}) for said in talk)
    yield "rooms/!tea:example.org/events", events


def _signal_pages(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    for at, day in enumerate(talk.days()):
        yield f"Tea (_id1)/Tea{f'_{at}' if at else ''}.html", _signal_page(day)


def _signal_page(said: Iterable[Said]) -> Iterator[bytes]:
    yield b"<!-- Generated on 2024-01-02 03:04:05 by signalbackup-tools (20240102.1). Input x. -->\n"
    yield b'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>Tea</title><style>\n'
    yield b".msg-incoming { align-self: flex-start; } </style></head><body>\n"
    yield b'<div id="page">'
    yield b'<div id="thread-title"><pre class="threadtitle">Tea</pre></div><div class="conversation-box">\n'
    for one in said:
        name = f'<span class="msg-name msg-name-7">{html.escape(one.author)}</span>'
        data = f'<span class="msg-data">{one.utc:%b %d, %Y %H:%M:%S}</span>'
        yield (
            f'<div class="incoming-group-msg"><!-- Message: _id:{one.n},type:20 -->'
            f'<div class="msg msg-incoming">{name}'
            f"<div>\n<pre>{html.escape(one.text)}</pre>\n</div>"
            f'<div class="footer">{data}</div></div>\n</div>\n'
        ).encode()
    yield b"</div></div></body></html>\n"


def _rows_only(rows: Iterable[object]) -> Iterator[bytes]:
    yield b"["
    for at, row in enumerate(rows):
        yield (b",\n" if at else b"\n") + json.dumps(row, indent=4).encode()
    yield b"\n]"


def _attached(talk: Talk) -> Iterator[tuple[str, Iterable[bytes]]]:
    """mlog's own export with its files: 32 KiB of text for each attachment of 1 MiB."""
    draw = random.Random(SEED)  # noqa: S311
    names: list[str] = []

    def lines() -> Iterator[bytes]:
        size = 0
        for at, line in enumerate(_mlog(talk)):
            whole = json.loads(line)
            if at and size > len(names) << 15:
                names.append(f"files/{len(names)}.bin")
                whole["files"] = [{"name": names[-1], "path": names[-1]}]
            size += len(line)
            yield _line(whole)

    yield "chat.jsonl", lines()
    for name in names:
        yield name, [draw.randbytes(1 << 20)]


FORMATS: Final[dict[str, Maker]] = {
    "irc": _one(_irc, ".log"),
    "whatsapp": _one(_whatsapp, ".txt"),
    "mlog": _one(_mlog, ".jsonl"),
    "signal": _one(_signal, ".json"),
    "telegram": _one(_telegram, ".json"),
    "discord": _one(_discord, ".json"),
    "meta": _one(_meta, ".json"),
    "matrix": _one(_matrix, ".json"),
    "google-chat": _one(_google_chat, ".json"),
    "sms": _one(_sms, ".xml"),
    "mbox": _one(_mbox, ".mbox"),
    "eml": Maker(_emls),
    "maildir": Maker(_maildir),
    "google-voice": Maker(_voice),
    "slack": Maker(_slack),
    "discord-package": Maker(_discord_package),
    "meta-export": Maker(_meta_export),
    "matrix-export": Maker(_matrix_export),
    "signal-pages": Maker(_signal_pages),
    "google-chat-export": Maker(_google_chats),
    "whatsapp-zip": Maker(lambda talk: iter([("_chat.txt", _whatsapp(talk))]), ".zip", _Zip),
    "slack-zip": Maker(_slack, ".zip", _Zip),
    "attachments": Maker(_attached, talk_share=1 / 33),
}
"""Each format of mlog/formats, by its name; archives and attachments besides."""

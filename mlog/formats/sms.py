"""SMS, MMS and calls as the app "SMS Backup & Restore" and programs in its format write them (XML).

| in the file                    | becomes                                                          |
|--------------------------------|------------------------------------------------------------------|
| sms, mms received (1), sent (2)| MESSAGE; the author of a sent one is "Me"                        |
| drafts, failed and queued ones | EVENT with the state in brackets and the text                    |
| part with data                 | an attachment; text/plain is text, SMIL is layout and left out   |
| call                           | EVENT                                                            |

A chat is the numbers of the others: `sms:+4930123456`, several in order with "," between. The file mixes
chats: they are sorted out (mlog/formats/regroup.py). Numbers are the uids.

The file is read element by element. Entities cannot be declared in it, so none is expanded or fetched.
The app writes an emoji as two halves ("&#55357;&#56832;") and control characters as they are, which
is no XML: both are mended on the way to the parser.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final
from xml.parsers import expat

from mlog.errors import InvalidInput, LimitExceeded
from mlog.formats.beside import file_type
from mlog.formats.identity import Occurrences, of_line
from mlog.formats.record import File, Item, Record, Skipped
from mlog.formats.regroup import Regrouped
from mlog.formats.source import Source
from mlog.formats.texts import clean, clip, decode, decode_head, fitted
from mlog.limits import KIB, MAIL_SIZE_MAX_BYTES, TIME_MAX_MS
from mlog.log.bodies import Kind

__all__ = ["SmsImporter"]

_CHUNK_SIZE_BYTES: Final = 64 * KIB
_SECONDS_MAX: Final = 10**11
"""A date below this is in seconds: as milliseconds it would be before 1973."""

_HIGH: Final = rb"&#(?:(5529[6-9]|55[3-9]\d\d|56[0-2]\d\d|563[01]\d)|x([Dd][89ABab][0-9A-Fa-f]{2}));"
_LOW: Final = (
    rb"&#(?:(563[2-9]\d|56[4-9]\d\d|57[0-2]\d\d|573[0-3]\d|5734[0-3])|x([Dd][C-Fc-f][0-9A-Fa-f]{2}));"
)
_HALVES: Final = re.compile(_HIGH + _LOW)
_UNFINISHED: Final = re.compile(rb"(?:" + _HIGH + rb")?(?:&[#0-9A-Fa-fx]{0,10})?\Z")
_REFERENCE: Final = re.compile(rb"&#(?:(\d{1,9})|x([0-9A-Fa-f]{1,8}));")
_REFERENCE_LENGTH_MAX: Final = 24
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_REPLACEMENT: Final = "\ufffd".encode()
_ROOTS: Final = re.compile(r"<(?:smses|calls)[\s>/]")

_SENT: Final = "2"
_STATES: Final = {"3": "draft", "4": "not sent yet", "5": "not sent", "6": "not sent yet"}
_CALLS: Final = {
    "1": "incoming call",
    "2": "outgoing call",
    "3": "missed call",
    "4": "voicemail",
    "5": "rejected call",
    "6": "refused call",
    "7": "call answered elsewhere",
}
_SENDER: Final = "137"
_NOBODY: Final = frozenset(("", "null", "insert-address-token"))
_UNNAMED: Final = frozenset(("", "null", "(unknown)"))


class SmsImporter:
    """Reads sms-*.xml and calls-*.xml."""

    name = "sms"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the root of an XML file is one of the app's."""
        text = decode_head(head).lstrip()
        return text.startswith("<") and _ROOTS.search(text[:4096]) is not None

    def parse(self, source: Source) -> Iterator[Item]:
        """Chat by chat; skipped ones first.

        Raises:
            InvalidInput: No XML from some line on; what came before is yielded first.
            LimitExceeded: One message, or the number of chats, is too large.
            StoreError: There is no room for temporary data.
        """
        broken: InvalidInput | None = None
        with Regrouped(source.name) as chats:
            reader = _Reader(source.name, chats)
            try:
                for _ in reader.feed(source):
                    yield from reader.skipped
                    reader.skipped.clear()
            except InvalidInput as error:
                broken = error  # What came before the break is kept.
            yield from reader.skipped
            yield from chats.items()
        if broken is not None:
            raise broken


class _Reader:
    """The parser, and the message that is open in it."""

    def __init__(self, name: str, chats: Regrouped) -> None:
        self.skipped: list[Skipped] = []
        self._name = name
        self._chats = chats
        self._occurrences = Occurrences()
        self._names: dict[str, str] = {}
        self._ordinal = 0
        self._said_count = ""
        self._counted = 0
        self._mms: dict[str, str] | None = None
        self._parts: list[dict[str, str]] = []
        self._addresses: list[dict[str, str]] = []
        self._progressed = False
        # Bytes are UTF-8 whatever the file declares: `Source` saw to that.
        self._size = 0
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.EntityDeclHandler = self._refuse

    def feed(self, source: Source) -> Iterator[None]:
        """Parse the file; yields after each chunk.

        Raises:
            InvalidInput: No XML from some line on.
        """
        rest = b""
        chunk_size = _CHUNK_SIZE_BYTES
        while raw := source.read(chunk_size):
            whole, rest = _cut(rest + raw)
            self._progressed = False
            self._parse(_mended(whole), final=False)
            self._size += len(whole)
            # The parser starts anew in a long element: growing chunks keep that in proportion.
            grown = min(chunk_size * 2, MAIL_SIZE_MAX_BYTES)
            chunk_size = _CHUNK_SIZE_BYTES if self._progressed else grown
            if self._size > MAIL_SIZE_MAX_BYTES:
                raise LimitExceeded(
                    f"more than {MAIL_SIZE_MAX_BYTES:,} bytes in one message",
                    source=self._name,
                    position=self._parser.CurrentLineNumber,
                )
            yield
        self._parse(_mended(rest), final=True)
        if self._said_count.isdecimal() and int(self._said_count[:15]) != self._counted:
            reason = f"the file announces {self._said_count[:15]} messages and holds {self._counted}"
            self.skipped.append(Skipped(position=0, reason=reason))
        yield

    def _parse(self, raw: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(raw, final)
        except expat.ExpatError as error:
            raise self._invalid(f"no valid XML: {expat.ErrorString(error.code)}", error.lineno) from None

    def _invalid(self, reason: str, line: int) -> InvalidInput:
        return InvalidInput(reason, source=self._name, position=line)

    def _refuse(self, *_: object) -> None:
        raise self._invalid(
            "declares entities, as no backup of messages does", self._parser.CurrentLineNumber
        )

    def _start(self, tag: str, fields: dict[str, str]) -> None:
        self._progressed = True
        if self._mms is None:
            self._size = 0
        if tag == "sms":
            self._count()
            self._sms(fields)
        elif tag == "mms":
            self._count()
            self._mms, self._parts, self._addresses = fields, [], []
        elif tag == "part" and self._mms is not None:
            self._parts.append(fields)
        elif tag == "addr" and self._mms is not None:
            self._addresses.append(fields)
        elif tag == "call":
            self._count()
            self._call(fields)
        elif tag in ("smses", "calls"):
            self._said_count = fields.get("count", "")
        elif tag not in ("parts", "addrs"):
            self.skipped.append(Skipped(position=self._ordinal, reason=f"element {tag[:64]!r} is not known"))

    def _end(self, tag: str) -> None:
        self._progressed = True
        if tag == "mms" and self._mms is not None:
            fields, self._mms = self._mms, None
            self._mms_done(fields)

    def _count(self) -> None:
        self._ordinal += 1
        self._counted += 1

    def _sms(self, fields: dict[str, str]) -> None:
        number = _number(fields.get("address", ""))
        name = self._learn(number, fields)
        said = _value(fields, "body")
        subject = _value(fields, "subject")
        text = f"{subject}\n{said}" if subject else said
        sent = fields.get("type") != "1"
        sender = "" if sent else number
        author = "Me" if sent else name or number
        self._add([number], name or number, author, sender, text, fields, fields.get("type", ""))

    def _mms_done(self, fields: dict[str, str]) -> None:
        box = fields.get("msg_box") or fields.get("type") or ""
        sent = box != "1"
        senders = [_number(one.get("address", "")) for one in self._addresses if one.get("type") == _SENDER]
        sender = next(filter(None, senders), "")
        others = sorted({_number(one) for one in fields.get("address", "").split("~")} - {""})
        if not others:
            listed = {_number(one.get("address", "")) for one in self._addresses} - {""}
            others = sorted(listed - ({sender} if sent else set())) or [sender]
        if not sent and not sender and len(others) == 1:
            sender = others[0]
        name = self._learn(others[0], fields) if len(others) == 1 else ""
        author = "Me" if sent else self._names.get(sender) or sender
        title = name or ", ".join(self._names.get(one) or one for one in others)
        texts = [subject] if (subject := _value(fields, "sub")) else []
        files: list[File] = []
        for part in self._parts:
            kind = part.get("ct", "").lower()
            if kind == "application/smil":
                continue
            if kind == "text/plain":
                texts.append(_value(part, "text") or decode(self._bytes(part, "text") or b""))
            else:
                files.append(self._file(part, kind))
        self._parts = []
        text = "\n".join(texts)
        self._add(
            others, title, author, sender, text, fields, box, tuple(files), own="" if not sent else sender
        )

    def _file(self, part: dict[str, str], kind: str) -> File:
        names = (_value(part, name) for name in ("fn", "name", "cl", "cid"))
        name = clip(next(filter(None, names), "attachment").strip("<>"))
        data = self._bytes(part, name)
        if data is None and _value(part, "text"):
            data = _value(part, "text").encode()
        kind = kind if kind not in ("", "null") else file_type(name)
        return File(name=name, type=kind, data=data, size=len(data or b""))

    def _bytes(self, part: dict[str, str], name: str) -> bytes | None:
        if part.get("data", "null") == "null":
            return None
        try:
            return binascii.a2b_base64(part["data"])
        except (binascii.Error, ValueError):
            reason = f"attachment {name[:64]!r} is damaged: only its name is kept"
            self.skipped.append(Skipped(position=self._ordinal, reason=reason))
            return None

    def _call(self, fields: dict[str, str]) -> None:
        number = _number(fields.get("number", ""))
        name = self._learn(number, fields)
        what = _CALLS.get(fields.get("type", ""), "call")
        seconds = fields.get("duration", "")
        length = f", {seconds} s" if seconds.isdecimal() and seconds != "0" else ""
        outgoing = fields.get("type") == "2"
        author, sender = ("Me", "") if outgoing else (name or number, number)
        text = f"[{what}{length}]"
        self._add([number], name or number, author, sender, text, fields, "call")

    def _add(
        self,
        others: list[str],
        title: str,
        author: str,
        sender: str,
        text: str,
        fields: dict[str, str],
        box: str,
        files: tuple[File, ...] = (),
        own: str = "",
    ) -> None:
        time_ms = _time_ms(fields.get("date", ""))
        if box in _STATES:
            text = f"[{_STATES[box]}] {text}"
        kind = Kind.MESSAGE if box in ("1", _SENT) else Kind.EVENT
        key = clip(f"sms:{','.join(others)}")
        first = of_line(f"{time_ms}ms", kind, f"{key} {'Me' if author == 'Me' else sender}", text)
        record = Record(
            kind=kind,
            mid=self._occurrences.identity(first, time_ms),
            author=author,
            text=text,
            time_ms=time_ms,
            position=self._ordinal,
            uid=_uid(own if author == "Me" else sender),
            files=files,
        )
        for item in fitted(record):
            if isinstance(item, Record):
                self._chats.add(key, title, item)
            elif isinstance(item, Skipped):
                self.skipped.append(item)

    def _learn(self, number: str, fields: dict[str, str]) -> str:
        """The name of a number, if the phone knew one."""
        name = clean(fields.get("contact_name", ""))
        if name.casefold() in _UNNAMED:
            return self._names.get(number, "")
        if len(self._names) < 100_000:
            self._names[number] = name
        return name


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    """What is whole, and what may be the start of a reference, or the first half of two."""
    found = _UNFINISHED.search(raw, max(0, len(raw) - _REFERENCE_LENGTH_MAX))
    end = len(raw) if found is None else found.start()
    return raw[:end], raw[end:]


def _mended(raw: bytes) -> bytes:
    """XML as it should have been: whole characters, and none that XML does not allow."""
    if b"&#" in raw:
        raw = _REFERENCE.sub(_allowed, _HALVES.sub(_joined, raw))
    return _CONTROL.sub(_REPLACEMENT, raw)


def _joined(found: re.Match[bytes]) -> bytes:
    high = int(found[1]) if found[1] else int(found[2], 16)
    low = int(found[3]) if found[3] else int(found[4], 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00).encode()


def _allowed(found: re.Match[bytes]) -> bytes:
    code = int(found[1]) if found[1] else int(found[2], 16)
    plain = code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE
    return found[0] if plain or 0x10000 <= code < 0x110000 else _REPLACEMENT


def _value(fields: dict[str, str], name: str) -> str:
    value = fields.get(name, "")
    return "" if value == "null" else clean(value)


def _number(written: str) -> str:
    """A number without its spaces and strokes; a name or short word as it is."""
    written = clean(written).strip()
    if written in _NOBODY:
        return ""
    bare = re.sub(r"[\s()./-]", "", written)
    return bare if re.fullmatch(r"\+?\d+", bare) else written


def _uid(number: str) -> str:
    return f"tel:{number}" if re.fullmatch(r"\+?\d{3,20}", number) else ""


def _time_ms(written: str) -> int:
    if not written.isascii() or not written.isdecimal() or len(written) > 16:
        return 0
    number = int(written)
    return min(number * 1000 if number < _SECONDS_MAX else number, TIME_MAX_MS)

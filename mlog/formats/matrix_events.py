"""Events of one Matrix room as records.

| event                                   | becomes                                                    |
|-----------------------------------------|------------------------------------------------------------|
| m.room.message                          | MESSAGE; of m.emote an ACTION, of m.notice a NOTICE        |
| m.image, m.file, m.audio, m.video,      | a File beside its caption; without a caption and without   |
| m.sticker                               | the file itself the text is "[image: tea.jpg]"             |
| m.in_reply_to                           | `to`, and the quotation before the text goes               |
| m.thread                                | `to` the answered message, else the one that began it      |
| m.replace, also bundled in "unsigned"   | EDIT                                                       |
| m.annotation                            | REACTION; bundled ones of nobody in particular: `Skipped`  |
| redacted                                | an erased message; the m.room.redaction is an EVENT        |
| could not be decrypted                  | an EVENT with an identity of its own, so that a later      |
|                                         | export with the text adds it; `Skipped` counts it          |
| m.room.member                           | JOIN, PART, RENAME or EVENT                                |
| polls                                   | MESSAGE with the answers                                   |
| any other                               | EVENT                                                      |

A message is known by room and event id, a person by "matrix:@ann:example.org". An author is called
as the last membership before the message says, else by the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import details, dicts, mapping, reaction, scaled_ms, unnamed_reactions, word
from mlog.formats.matrix_ids import event_id
from mlog.formats.record import File, Item, Record, Skipped
from mlog.formats.texts import clip, fitted
from mlog.limits import PEOPLE_COUNTED_MAX
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["Known", "Room"]

_MESSAGES: Final = {"m.emote": Kind.ACTION, "m.notice": Kind.NOTICE}
_MEDIA: Final = {"m.image": "image", "m.file": "file", "m.audio": "audio", "m.video": "video"}
_POLLS: Final = ("m.poll.start", "org.matrix.msc3381.poll.start")
_SENTENCES: Final = {
    "m.room.create": "created the room",
    "m.room.encryption": "turned encryption on",
    "m.room.avatar": "changed the picture of the room",
    "m.room.tombstone": "closed the room, which goes on elsewhere",
    "m.room.third_party_invite": "invited",
    "m.call.invite": "called",
    "m.call.answer": "answered the call",
    "m.call.hangup": "ended the call",
    "m.call.reject": "declined the call",
}


class Known:
    """What earlier events say of a room and of the people in it.

    Attributes:
        version: Of the room; "" until its first event was seen.
        title: What it is called, else its alias, else ""; `people` are the first that joined.
    """

    def __init__(self) -> None:
        self.version = ""
        self.title = ""
        self.people: list[str] = []
        self._names: dict[str, str] = {}

    def learn(self, event: dict[str, Any]) -> None:
        """Take from an event what it says."""
        content, kind = mapping(event.get("content")), event.get("type")
        if kind == "m.room.member":
            who, name = word(event.get("state_key")), word(content.get("displayname"))
            if content.get("membership") == "join" and who not in self._names and len(self.people) < 10:
                self.people.append(name or who)
            if who and name and (who in self._names or len(self._names) < PEOPLE_COUNTED_MAX):
                self._names[who] = clip(name)
        elif kind == "m.room.create":
            self.version = word(content.get("room_version")) or "1"
        elif kind == "m.room.name":
            self.title = word(content.get("name"))
        elif kind == "m.room.canonical_alias" and not self.title:
            self.title = word(content.get("alias"))

    def name(self, user: str) -> str:
        """What somebody is called by now, else the id."""
        return self._names.get(user, user)


class Room:
    """Makes records of the events of one room, in their order.

    Args:
        key: Of the chat.
        find: The path of the attachment of a message, by its body, kind and time, or "".
    """

    def __init__(self, key: str, known: Known, find: Callable[[str, str, int], str]) -> None:
        self._key = key
        self._known = known
        self._name = known.name
        self._find = find
        self._occurrences = Occurrences()

    def items(self, event: dict[str, Any], ordinal: int) -> Iterator[Item]:
        """The record of one event, then its edit."""
        kind, content = word(event.get("type")), mapping(event.get("content"))
        sender, time_ms = word(event.get("sender")), scaled_ms(event.get("origin_server_ts"), 1)
        renamed_from = self._name(sender)
        self._known.learn(event)
        own_id = event_id(event, self._known.version)
        base = Record(
            kind=Kind.EVENT,
            mid=self._mid(own_id) if own_id else self._counted(event, sender, time_ms),
            author=self._name(sender),
            text="",
            time_ms=time_ms,
            position=ordinal,
            uid=f"matrix:{sender}" if sender else "",
        )
        unsigned = mapping(event.get("unsigned"))
        if kind == "m.room.encrypted" or content.get("msgtype") == "m.bad.encrypted":
            if "redacted_because" in unsigned or not content:
                yield from self._message(base, event, erased=True)
            else:
                yield from self._undecrypted(base)
        elif kind in ("m.room.message", "m.sticker", *_POLLS):
            relation = mapping(content.get("m.relates_to"))
            if relation.get("rel_type") == "m.replace" and word(relation.get("event_id")):
                yield from self._edit(base, content, word(relation["event_id"]))
            else:
                erased = "redacted_because" in unsigned or not content
                yield from self._message(base, event, erased=erased)
        elif kind == "m.reaction":
            yield from self._reaction(base, content)
        elif kind == "m.room.member":
            yield from fitted(self._membership(base, event, renamed_from))
        else:
            yield from fitted(self._other(base, event, kind))

    # -- messages ----------------------------------------------------------------------------

    def _message(self, base: Record, event: dict[str, Any], *, erased: bool) -> Iterator[Item]:
        content = mapping(event.get("content"))
        files = () if erased else tuple(self._files(event))
        record = msgspec.structs.replace(
            base,
            kind=_MESSAGES.get(word(content.get("msgtype")), Kind.MESSAGE),
            text="" if erased else _text_of(event, files),
            to=() if erased else self._answered(content, base.mid),
            erased=erased,
            files=files,
        )
        yield from fitted(record)
        related = mapping(mapping(event.get("unsigned")).get("m.relations"))
        edit = mapping(related.get("m.replace"))
        if edit_id := word(edit.get("event_id")):
            newer = mapping(mapping(edit.get("content")).get("m.new_content")) or content
            time_ms = scaled_ms(edit.get("origin_server_ts"), 1) or record.time_ms
            changed = msgspec.structs.replace(base, mid=self._mid(edit_id), time_ms=time_ms)
            yield from self._edit(changed, newer, "", record.mid)
        for one in dicts(mapping(related.get("m.annotation")).get("chunk")):
            yield from unnamed_reactions(base.position, one.get("count"), 0, word(one.get("key")))

    def _edit(
        self, base: Record, content: dict[str, Any], of: str, mid: MessageId | None = None
    ) -> Iterator[Item]:
        newer = mapping(content.get("m.new_content")) or content
        text = _text_of({"content": newer}, tuple(self._files({"content": newer})))
        target = self._mid(of) if mid is None else mid
        yield from fitted(msgspec.structs.replace(base, kind=Kind.EDIT, text=text, to=(target,)))

    def _reaction(self, base: Record, content: dict[str, Any]) -> Iterator[Item]:
        relation = mapping(content.get("m.relates_to"))
        of = word(relation.get("event_id"))
        if not of:
            yield Skipped(position=base.position, reason="a reaction that was taken back")
            return
        to = msgspec.structs.replace(base, mid=self._mid(of))
        for item in reaction(
            to, scope=self._key, emoji=word(relation.get("key")), author=base.author, uid=base.uid
        ):
            yield msgspec.structs.replace(item, mid=base.mid) if isinstance(item, Record) else item

    def _undecrypted(self, base: Record) -> Iterator[Item]:
        yield Skipped(
            position=base.position,
            reason="could not be decrypted by the program that exported it: its text is not in the file",
        )
        mid = of_id(self._key, f"{base.mid.hex()} encrypted")
        text = f"{base.author or 'somebody'}: [could not be decrypted]"
        yield from fitted(msgspec.structs.replace(base, mid=mid, text=text))

    def _answered(self, content: dict[str, Any], own: MessageId) -> tuple[MessageId, ...]:
        relation = mapping(content.get("m.relates_to"))
        answered = word(mapping(relation.get("m.in_reply_to")).get("event_id"))
        if relation.get("rel_type") == "m.thread" and (not answered or relation.get("is_falling_back")):
            answered = word(relation.get("event_id"))
        return (self._mid(answered),) if answered and self._mid(answered) != own else ()

    def _files(self, event: dict[str, Any]) -> Iterator[File]:
        content = mapping(event.get("content"))
        what = "sticker" if event.get("type") == "m.sticker" else _MEDIA.get(word(content.get("msgtype")), "")
        if not what:
            return
        info = mapping(content.get("info"))
        body = word(content.get("body"))
        name = word(content.get("filename")) or body.partition("\n")[0] or what
        is_voice = "org.matrix.msc3245.voice" in content or "org.matrix.msc2516.voice" in content
        path = self._find(body, "voice" if is_voice else what, scaled_ms(event.get("origin_server_ts"), 1))
        size = info.get("size")
        yield File(
            name=clip(name.replace("\\", "/").rpartition("/")[2] or name),
            type=clip(word(info.get("mimetype"))),
            path=path,
            size=size if isinstance(size, int) and 0 < size < 2**53 else 0,
        )

    # -- the room ----------------------------------------------------------------------------

    def _membership(self, base: Record, event: dict[str, Any], renamed_from: str) -> Record:
        content = mapping(event.get("content"))
        unsigned = mapping(event.get("unsigned"))
        before = mapping(unsigned.get("prev_content")) or mapping(event.get("prev_content"))
        sender, who = word(event.get("sender")), word(event.get("state_key"))
        membership, former = word(content.get("membership")), word(before.get("membership"))
        actor, other = base.author or "somebody", self._name(who)
        reason = word(content.get("reason"))
        why = f": {reason}" if reason else ""
        if membership == "join" and former == "join":
            old, new = word(before.get("displayname")), word(content.get("displayname"))
            if old != new:
                text = f"{old or renamed_from} is now known as {new or who}"
                return msgspec.structs.replace(base, kind=Kind.RENAME, author=clip(old or who), text=text)
            return msgspec.structs.replace(base, text=f"{actor} changed the own picture or profile")
        kind, did = {
            "join": (Kind.JOIN, "joined"),
            "leave": (Kind.PART, "left"),
            "ban": (Kind.PART, "banned"),
            "invite": (Kind.EVENT, "invited"),
            "knock": (Kind.EVENT, "asked to join"),
        }.get(membership, (Kind.EVENT, f"changed the membership to {membership or 'nothing'} of"))
        if membership == "leave" and former in ("invite", "knock"):
            kind, did = (
                Kind.EVENT,
                "declined the invitation" if who == sender else "took back the invitation of",
            )
        elif membership == "leave" and who != sender:
            did = "lifted the ban of" if former == "ban" else "removed"
            kind = Kind.EVENT if former == "ban" else Kind.PART
        text = f"{actor} {did}{'' if who == sender else f' {other}'}{why}"
        return msgspec.structs.replace(base, kind=kind, text=text)

    def _other(self, base: Record, event: dict[str, Any], kind: str) -> Record:
        content = mapping(event.get("content"))
        actor = base.author or "somebody"
        if kind in ("m.room.name", "m.room.topic"):
            said = word(content.get("name" if kind == "m.room.name" else "topic"))
            text = (
                f"{actor} changed the {kind[7:]} of the room to {said!r}"
                if said
                else (f"{actor} removed the {kind[7:]} of the room")
            )
        elif kind == "m.room.redaction":
            of = word(event.get("redacts")) or word(content.get("redacts"))
            reason = word(content.get("reason"))
            text = f"{actor} erased a message" + (f": {reason}" if reason else "")
            to = (self._mid(of),) if of and self._mid(of) != base.mid else ()
            base = msgspec.structs.replace(base, to=to)
        elif kind in _SENTENCES:
            name = word(content.get("display_name"))
            text = f"{actor} {_SENTENCES[kind]}" + (f" {name}" if name else "")
        else:
            text = " ".join(filter(None, (actor, kind or "event", details(content))))
        return msgspec.structs.replace(base, text=text)

    # -- ids ----------------------------------------------------------------------------------

    def _mid(self, own_id: str) -> MessageId:
        return of_id(self._key, own_id)

    def _counted(self, event: dict[str, Any], sender: str, time_ms: int) -> MessageId:
        said = details(event.get("content"))
        first = of_line(str(time_ms), Kind.MESSAGE, sender, f"{word(event.get('type'))} {said}")
        return self._occurrences.identity(first, time_ms)


def _text_of(event: dict[str, Any], files: tuple[File, ...]) -> str:
    """What people saw."""
    content = mapping(event.get("content"))
    kind, said = word(event.get("type")), word(content.get("msgtype"))
    body = word(content.get("body"))
    if kind in _POLLS:
        return _poll(content, kind) or body
    if kind == "m.sticker" or said in _MEDIA:
        filename = word(content.get("filename"))
        caption = body if filename and body != filename else ""
        what = _MEDIA.get(said, "sticker")
        marked = "" if any(file.path for file in files) else f"[{what}: {filename or body or what}]"
        return "\n".join(filter(None, (marked, _unquoted(content, caption))))
    place = word(content.get("geo_uri")) or word(mapping(content.get("m.location")).get("uri"))
    text = _unquoted(content, body)
    if place and place not in text:
        text = f"{text}\n[location: {place}]".lstrip("\n")
    return text or details({key: one for key, one in content.items() if not key.startswith("m.")})


def _unquoted(content: dict[str, Any], body: str) -> str:
    """Without the quotation that programs put before an answer, for those that know none."""
    answered = mapping(mapping(content.get("m.relates_to")).get("m.in_reply_to"))
    # An edited answer lost its relation; the quotation always starts with a name in angle brackets.
    if not body.startswith(("> <", "> * <")) or not (answered or "\n\n" in body):
        return body
    lines = body.split("\n")
    at = next((at for at, line in enumerate(lines) if not line.startswith(">")), len(lines))
    rest = lines[at + 1 :] if at < len(lines) and not lines[at].strip() else lines[at:]
    return "\n".join(rest) or body


def _poll(content: dict[str, Any], kind: str) -> str:
    poll = mapping(content.get("org.matrix.msc3381.poll.start" if kind == _POLLS[1] else "m.poll"))
    asked = _words(poll.get("question"))
    if not asked:
        return ""
    return "\n".join([f"[poll: {asked}]", *(f"- {_words(one)}" for one in dicts(poll.get("answers")))])


def _words(value: Any) -> str:
    """The text of a part of a poll, in any of the forms it had over time."""
    fields = mapping(value)
    for key in ("m.text", "org.matrix.msc1767.text"):
        said = fields.get(key)
        texts = [word(one.get("body")) for one in dicts(said)]
        if text := word(said) or next(filter(None, texts), ""):
            return text
    return word(fields.get("body"))

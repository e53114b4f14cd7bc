"""Slack's export: a folder or archive of channels, each with a file for every day.

| in the export                        | becomes                                                     |
|--------------------------------------|-------------------------------------------------------------|
| users.json                           | names, as display name, else real name                      |
| channels, groups, dms, mpims .json   | chats: `slack:<channel id>`; a direct one is named by people |
| CHANNEL/2020-01-02.json              | its messages; a message is known by channel and `ts`        |
| <@U1>, <#C1|tea>, <url|text>, &amp;  | "@ann", "#tea", "text (url)", "&"                           |
| thread_ts                            | `to` the message that opened the thread                     |
| edited                               | an EDIT beside it                                           |
| attachments, blocks                  | further lines of text                                       |
| join, leave, me_message; tombstone   | JOIN, PART, ACTION; an erased message                       |
| any other subtype                    | EVENT with its text                                         |
| files                                | File with name and size; its path where the archive has it  |

Times are `ts`, seconds since 1970 UTC. People are known as "slack:U0123".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mlog.errors import InvalidInput, UserError
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import (
    details,
    dicts,
    edit,
    elements,
    file_beside,
    folder_of,
    items_of,
    mapping,
    opened,
    reaction,
    scaled_ms,
    unnamed_reactions,
    word,
)
from mlog.formats.record import Chat, File, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints
from mlog.formats.texts import clip, fitted
from mlog.formats.tree import Tree
from mlog.limits import SNIFF_SIZE_BYTES, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["SlackImporter"]

_LISTS: Final = ("channels.json", "groups.json", "dms.json", "mpims.json")
_DAY: Final = re.compile(r"(?:.*/)?\d{4}-\d{2}-\d{2}\.json")
_GONE: Final = {
    "tombstone": "[file: deleted]",
    "hidden_by_limit": "[file: hidden by Slack, as the workspace's plan has it]",
}
"""Files of which the export has nothing but that there was one."""

_ANGLED: Final = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")

_KINDS: Final = {
    **dict.fromkeys(("", "bot_message", "file_share", "file_comment", "file_mention"), Kind.MESSAGE),
    **dict.fromkeys(("thread_broadcast", "reply_broadcast", "slackbot_response"), Kind.MESSAGE),
    "tombstone": Kind.MESSAGE,
    "me_message": Kind.ACTION,
    **dict.fromkeys(("channel_join", "group_join"), Kind.JOIN),
    **dict.fromkeys(("channel_leave", "group_leave"), Kind.PART),
}


class SlackImporter:
    """Reads a workspace's export, or one channel of it."""

    name = "slack"

    def claim(self, tree: Tree) -> Sequence[str]:
        """The lists of people and channels, and the days of every channel."""
        days = [name for name in tree.names if _DAY.fullmatch(name)]
        roots = {_root(name) for name in days}
        lists = [
            name
            for name in tree.names
            if name.rpartition("/")[2] in (*_LISTS, "users.json") and folder_of(name) in roots
        ]
        listed = {folder_of(name) for name in lists}
        unlisted: dict[str, bool] = {}
        claimed = list(lists)
        for day in days:
            root = _root(day)
            if root not in listed:
                if root not in unlisted:
                    unlisted[root] = _says_slack(tree, day)
                if not unlisted[root]:
                    continue
            claimed.append(day)
        return claimed if len(claimed) > len(lists) else ()

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        """All channels, each with its days in order.

        Raises:
            StoreError: There is no room for temporary data.
        """
        people: dict[str, str] = {}
        channels: dict[tuple[str, str], dict[str, Any]] = {}
        for path in claimed:
            if not _DAY.fullmatch(path):
                yield from _read_list(tree, path, hints, people, channels)
        names = {one["id"]: one["name"] for one in channels.values() if one["name"] and one["id"]}
        chat: _Channel | None = None
        folder = None
        for path in sorted(path for path in claimed if _DAY.fullmatch(path)):
            if chat is None or folder_of(path) != folder:
                folder = folder_of(path)
                called = (folder[:-1] or tree.name).rpartition("/")[2]  # A channel's folder by itself.
                known = channels.get((folder_of(folder[:-1]), called), {"id": "", "name": called})
                chat = _Channel(tree, called, known, people, names)
                yield chat.chat
            yield from chat.day(path, hints)


def _root(day: str) -> str:
    """The folder of the whole export, by a file of one day; "/" where a channel is all there is."""
    channel = folder_of(day)
    return folder_of(channel[:-1]) if channel else "/"


def _says_slack(tree: Tree, day: str) -> bool:
    try:
        with opened(tree, day, Hints()) as source:
            head = source.head()[:SNIFF_SIZE_BYTES].lstrip()
    except UserError:
        return False
    return head.startswith(b"[") and b'"ts"' in head and (b'"type"' in head or b'"user"' in head)


def _read_list(
    tree: Tree,
    path: str,
    hints: Hints,
    people: dict[str, str],
    channels: dict[tuple[str, str], dict[str, Any]],
) -> Iterator[Item]:
    """Names of people, or of channels by folder, from one of the lists."""
    root, base = folder_of(path), path.rpartition("/")[2]
    try:
        with opened(tree, path, hints) as source:
            for ordinal, one in elements(source):
                own_id = word(mapping(one).get("id"))
                if not own_id:
                    yield Skipped(position=ordinal, reason=f"an entry of {base} without id", file=path)
                elif base == "users.json":
                    people[own_id] = _person(mapping(one)) or own_id
                else:
                    name = word(one.get("name"))
                    known: dict[str, Any] = {
                        "id": own_id,
                        "name": name,
                        "members": items_of(one.get("members")),
                    }
                    known["direct"] = base in ("dms.json", "mpims.json")
                    channels[root, own_id] = known
                    if name:
                        channels[root, name] = known
    except (InvalidInput, UserError) as error:
        yield Skipped(position=0, reason=str(error), file=path)


def _person(user: dict[str, Any]) -> str:
    profile = mapping(user.get("profile"))
    fields = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name"))
    return next((name for name in map(word, fields) if name), "")


class _Channel:
    """Turns the messages of one channel into records."""

    def __init__(
        self, tree: Tree, folder: str, known: dict[str, Any], people: dict[str, str], names: dict[str, str]
    ) -> None:
        self._tree = tree
        self._people = people
        self._names = names
        self._key = f"slack:{known['id'] or '#' + folder}"
        self._occurrences = Occurrences()
        title = f"#{known['name'] or folder}"
        if known.get("direct"):
            title = ", ".join(people.get(word(one), word(one)) for one in known["members"]) or title
        self.chat = Chat(key=clip(self._key), title=clip(title, TITLE_SIZE_MAX_BYTES))

    def day(self, path: str, hints: Hints) -> Iterator[Item]:
        """The records of one file."""
        try:
            with opened(self._tree, path, hints) as source:
                digest = source.hash_ahead()
                yield Provenance(format="slack", file_hash=digest, name=clip(path.rpartition("/")[2]))
                for ordinal, row in elements(source):
                    if isinstance(row, dict):
                        yield from self._items(mapping(row), ordinal, path)
                    else:
                        yield Skipped(position=ordinal, reason="not a message", file=path)
        except (InvalidInput, UserError) as error:
            yield Skipped(position=0, reason=str(error), file=path)

    def _items(self, row: dict[str, Any], ordinal: int, path: str) -> Iterator[Item]:
        subtype = word(row.get("subtype"))
        kind = _KINDS.get(subtype, Kind.EVENT)
        if word(row.get("type")) not in ("", "message"):
            kind = Kind.EVENT
        author, user = self._author(row)
        text = self._text(row)
        if kind is Kind.EVENT and not text:
            shown = {name: value for name, value in row.items() if name not in ("ts", "user", "text")}
            text = details(shown)
        ts = word(row.get("ts"))
        time_ms = scaled_ms(row.get("ts"), 1000)
        if ts:
            mid = self._mid(ts)
        else:
            first = of_line(f"{time_ms}s", kind, author, text)
            mid = self._occurrences.identity(first, time_ms)
        thread = word(row.get("thread_ts"))
        erased = subtype == "tombstone"
        record = Record(
            kind=kind,
            mid=mid,
            author=author,
            text="" if erased else text,
            time_ms=time_ms,
            position=ordinal,
            to=(self._mid(thread),) if thread and thread != ts else (),
            erased=erased,
            uid=f"slack:{user}" if user else "",
            files=tuple(self._files(row, path)),
        )
        yield from fitted(record)
        edited_ms = scaled_ms(mapping(row.get("edited")).get("ts"), 1000)
        if edited_ms and ts and kind in (Kind.MESSAGE, Kind.ACTION) and not erased:
            yield from edit(record, scope=self._key, own_id=ts, time_ms=edited_ms)
        for one in dicts(row.get("reactions")):
            emoji = f":{word(one.get('name'))}:" if one.get("name") else ""
            users = [user for user in map(word, items_of(one.get("users"))) if user]
            for user in users:
                yield from reaction(
                    record,
                    scope=self._key,
                    emoji=emoji,
                    author=self._people.get(user, user),
                    uid=f"slack:{user}",
                )
            count = one.get("count", 0 if users else 1)
            yield from unnamed_reactions(ordinal, count, len(users), emoji, path)

    def _author(self, row: dict[str, Any]) -> tuple[str, str]:
        """Name and id."""
        user = word(row.get("user")) or word(mapping(row.get("comment")).get("user"))
        bot = mapping(row.get("bot_profile"))
        own_id = user or word(row.get("bot_id")) or word(bot.get("id"))
        profile = {"profile": row.get("user_profile")}
        given = word(row.get("username")) or word(bot.get("name"))
        return self._people.get(user) or _person(profile) or given or own_id, own_id

    def _mid(self, ts: str) -> MessageId:
        return of_id(self._key, ts)

    def _files(self, row: dict[str, Any], path: str) -> Iterator[File]:
        listed = dicts(row.get("files"))
        if not listed and isinstance(row.get("file"), dict) and word(row.get("subtype")) == "file_share":
            listed = [mapping(row["file"])]
        for one in listed:
            if word(one.get("mode")) in _GONE:
                continue
            own_id = word(one.get("id"))
            name = word(one.get("name")) or word(one.get("title")) or own_id or "file"
            found = file_beside(
                f"{own_id}-{name}",
                tree=self._tree,
                folders=_file_folders(path),
                name=name,
                kind=word(one.get("mimetype")),
                size=one.get("size"),
            )
            yield found

    def _text(self, row: dict[str, Any]) -> str:
        lines = [self._plain(word(row.get("text")))]
        if not lines[0]:
            lines = ["".join(self._blocks(row.get("blocks"), 0)).strip("\n")]
        for one in dicts(row.get("attachments")):
            lines.extend(self._attachment(one))
        lines += [_GONE.get(word(one.get("mode")), "") for one in dicts(row.get("files"))]
        return "\n".join(filter(None, lines))

    def _attachment(self, one: dict[str, Any]) -> Iterator[str]:
        """A preview or what a bot says."""
        title, link = self._plain(word(one.get("title"))), word(one.get("title_link"))
        texts = [
            self._plain(word(one.get("pretext"))),
            f"{title} ({link})" if title and link and title != link else title or link,
            self._plain(word(one.get("text"))) or "".join(self._blocks(one.get("blocks"), 0)).strip("\n"),
        ]
        texts += [
            ": ".join(self._plain(word(field.get(part))) for part in ("title", "value"))
            for field in dicts(one.get("fields"))
        ]
        yield from filter(None, texts if any(texts) else [self._plain(word(one.get("fallback")))])

    def _blocks(self, value: Any, depth: int) -> Iterator[str]:
        """What rich text says, where a message has no plain one."""
        for block in dicts(value):
            kind = word(block.get("type"))
            text = block.get("text")
            if kind == "user":
                yield "@" + self._people.get(word(block.get("user_id")), word(block.get("user_id")))
            elif kind == "channel":
                yield "#" + self._names.get(word(block.get("channel_id")), word(block.get("channel_id")))
            elif kind == "emoji":
                yield f":{word(block.get('name'))}:"
            elif kind == "link":
                yield _linked(word(block.get("url")), word(text))
            elif isinstance(text, dict):
                yield self._plain(word(mapping(text).get("text"))) + "\n"
            else:
                yield word(text)
            for part in ("elements", "fields"):
                yield from self._blocks(block.get(part), depth + 1)
            if kind.startswith("rich_text_"):
                yield "\n"

    def _plain(self, text: str) -> str:
        text = _ANGLED.sub(self._angled, text)
        return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    def _angled(self, match: re.Match[str]) -> str:
        what, label = match[1], match[2] or ""
        if what.startswith("@"):
            return "@" + (self._people.get(what[1:]) or label or what[1:])
        if what.startswith("#"):
            return "#" + (label or self._names.get(what[1:]) or what[1:])
        if what.startswith("!"):
            return label or "@" + what[1:].partition("^")[0]
        return _linked(what, label) if what else match[0]


def _file_folders(path: str) -> tuple[str, ...]:
    """Where programs that fetch the files of an export put them: beside the days, or one above."""
    channel = folder_of(path)
    root = folder_of(channel[:-1])
    return channel, channel + "attachments/", channel + "files/", root + "attachments/", root + "files/"


def _linked(address: str, label: str) -> str:
    bare = address.removeprefix("mailto:")
    return f"{label} ({bare})" if label and label not in (bare, address) else bare

"""What requests on the local socket mean, one function for each. docs/local-socket.md."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.api.attachments import attachment_fields
from mlog.errors import InvalidInput, UserError
from mlog.log.bodies import SPOKEN, Kind, kind_name
from mlog.log.ids import ENTRY_ID_SIZE, EntryId, message_id
from mlog.log.store import EntryRow, LogKind, LogRow, Position, TimelineQuery
from mlog.log.view import Message, View
from mlog.protocol.events import Decide

if TYPE_CHECKING:
    from mlog.api.service import Service

__all__ = ["Requests", "message_fields"]

_CHANGES: Final = frozenset({Kind.EDIT, Kind.REACTION, Kind.ERASURE})
_PAGE: Final = 50
_FETCH_S: Final = 10.0
_FETCH_MAX_S: Final = 600.0

_Answers: TypeAlias = AsyncGenerator[dict[str, Any], None]
_Request: TypeAlias = Mapping[str, Any]


def message_fields(message: Message, log: LogRow) -> dict[str, Any]:
    """A message for programs: the fields of the command line's JSON lines, and the time as a number."""
    return {
        "id": message.id.hex(),
        "message_id": message.mid.hex(),
        "topic": log.topic.hex(),
        "conversation": log.title,
        "kind": kind_name(message.kind),
        "author": message.author.name or None,
        "claimed": message.author.claimed,
        "device": message.author.device.hex(),
        "time": _iso(message.time_ms),
        "time_ms": message.time_ms,
        "text": message.text,
        "reply_to": [target.hex() for target in message.to],
        "edited": message.edited,
        "erased": message.erased,
        "absent": message.absent,
        "closed": message.closed,
        "damage": message.damage,
        "reactions": [
            {"emoji": reacted.emoji, "authors": list(reacted.authors)} for reacted in message.reactions
        ],
        "attachments": [attachment_fields(attached) for attached in message.attachments],
    }


class Requests:
    """Answers requests for one service."""

    def __init__(self, service: Service):
        self._service = service
        self._home = service.home
        self._store = service.home.store

    async def answers(self, request: dict[str, Any]) -> _Answers:
        """Answer one request.

        Raises:
            MlogError: What is wrong with it, or why it cannot be done.
        """
        verb = request.get("do")
        handler = self._VERBS.get(verb) if isinstance(verb, str) else None
        if handler is None:
            raise UserError(f"{verb!r} is no request; there are {', '.join(self._VERBS)}.")
        async for answer in handler(self, request):
            yield answer

    # -- writing and reading -----------------------------------------------------------------

    async def _send(self, request: _Request) -> _Answers:
        log = self._log(request)
        text = _text(request, "text")
        reply_to = _text(request, "reply_to", "")
        answered = self._home.message(reply_to, log.n).mid if reply_to else None
        id_ = self._home.send(log.n, text, reply_to=answered)
        yield {"id": id_.hex(), "message_id": message_id(id_).hex()}

    async def _query(self, request: _Request) -> _Answers:
        log = self._log(request)
        limit = _number(request, "limit", _PAGE, 1, limits.STORE_ROWS_MAX)
        newest_first = bool(request.get("newest_first", False))
        place = _position(_text(request, "cursor", ""))
        rows = self._store.timeline(
            TimelineQuery(
                log=log.n,
                limit=limit,
                since_ms=_time(request, "since"),
                until_ms=_time(request, "until"),
                after=None if newest_first else place,
                before=place if newest_first else None,
                newest_first=newest_first,
            )
        )
        page, size = list[Message](), 0
        for message in self._view().of_rows(log.n, rows):
            page.append(message)
            size += len(message.text.encode())
            if size >= limits.LOCAL_PAGE_SIZE_MAX_BYTES:
                break
        full = len(page) == limit or size >= limits.LOCAL_PAGE_SIZE_MAX_BYTES
        yield {
            "messages": [message_fields(message, log) for message in page],
            "cursor": _cursor(page[-1].position) if full else None,
        }

    async def _follow(self, request: _Request) -> _Answers:
        only = self._log(request).n if {"conversation", "log"} & request.keys() else None
        after = _number(request, "cursor", self._store.next_n() - 1, 0, limits.SEQ_MAX)
        with self._service.commits() as commits:
            yield {"following": True, "cursor": after, "more": True}
            while True:
                rows = self._arrived(only, after)
                for row in rows:
                    for change, message, log in self._changes(row):
                        fields = message_fields(message, log)
                        yield {"change": change, "message": fields, "cursor": row.n, "more": True}
                    after = row.n
                if rows:
                    # Others have their turn between two pages.
                    await asyncio.sleep(0)
                else:
                    await commits.wait()

    def _arrived(self, only: int | None, after: int) -> list[EntryRow]:
        """The next entries of conversations in the order of their arrival."""
        logs = [
            row.n for row in self._store.logs() if row.kind == LogKind.CONVERSATION and only in (None, row.n)
        ]
        found = [row for log in logs for row in self._store.arrivals(log, after, _PAGE)]
        return sorted(found, key=lambda row: row.n)[:_PAGE]

    def _changes(self, row: EntryRow) -> Iterator[tuple[str, Message, LogRow]]:
        """The messages that an entry brings or changes, as they read now."""
        log, view = self._row(row.log), self._view()
        if row.kind in SPOKEN and not row.hidden:
            yield "new", view.of_rows(row.log, [row])[0], log
        elif row.kind in _CHANGES:
            mids = self._store.references([row.n]).get(row.n, [])
            for rows in self._store.by_mid(row.log, mids).values():
                shown = [said for said in rows if said.kind in SPOKEN and not said.hidden]
                for message in view.of_rows(row.log, shown[:1]):
                    yield "changed", message, log

    def _view(self) -> View:
        """With the names of devices that were paired since the service began."""
        return View(self._home.replica, {row.id: row.person for row in self._store.devices()})

    # -- the service -------------------------------------------------------------------------

    async def _status(self, _: _Request) -> _Answers:
        connected = self._service.runtime.connected()
        logs = {row.n: row for row in self._store.logs()}
        syncs = [row for row in self._store.syncs() if row.log in logs]
        devices = [
            {
                "device": peer.device.hex(),
                "name": peer.name,
                "own": peer.own,
                "connected": peer.device in connected,
                "address": connected.get(peer.device) or next(iter(peer.addresses), None),
                "seen": _iso(peer.seen_ms),
                "logs": [
                    {
                        "topic": logs[row.log].topic.hex(),
                        "state": row.state.value,
                        "here_lacks": row.here_lacks,
                        "there_lacks": row.there_lacks,
                        "detail": row.detail,
                        "since": _iso(row.time_ms),
                    }
                    for row in syncs
                    if row.device == peer.device
                ],
            }
            for peer in self._store.peers()
        ]
        yield {
            "version": version("mlog-sync"),
            "pid": os.getpid(),
            "home": str(self._home.path),
            "device": self._home.replica.device_id.hex(),
            "listens": self._service.port,
            "conversations": sum(row.kind == LogKind.CONVERSATION for row in logs.values()),
            "devices": devices,
        }

    async def _sync(self, request: _Request) -> _Answers:
        target = request.get("target")
        if target is not None and not isinstance(target, str):
            raise UserError("'target' is a text: the name of a device, or HOST:PORT.")
        report = await self._service.sync(target or None, _seconds(request, None))
        yield {"report": msgspec.to_builtins(report)}

    async def _fetch(self, request: _Request) -> _Answers:
        log = self._log(request)
        wanted = _ids(request)
        with suppress(TimeoutError), self._service.commits() as commits:
            async with asyncio.timeout(_seconds(request, _FETCH_S)):
                self._service.fetch(log.n, wanted)
                while len(self._here(log.n, wanted)) < len(wanted):
                    await commits.wait()
        here = self._here(log.n, wanted)
        yield {
            "here": [id_.hex() for id_ in wanted if id_ in here],
            "missing": [id_.hex() for id_ in wanted if id_ not in here],
        }

    def _here(self, log: int, wanted: list[EntryId]) -> set[EntryId]:
        return {id_ for id_, row in self._store.find(log, wanted).items() if row.body is not None}

    async def _pair(self, request: _Request) -> _Answers:
        from mlog.api.pairing import steps
        from mlog.api.pairing_steps import Wish

        try:
            wish = msgspec.convert(request, Wish)
        except msgspec.ValidationError as error:
            raise UserError(f"this is no pairing: {error}.") from None
        async with aclosing(steps(self._service, wish)) as happening:
            async for step in happening:
                yield {**msgspec.to_builtins(step), "more": True}
        yield {}

    async def _decide(self, request: _Request) -> _Answers:
        yes = request.get("yes")
        if not isinstance(yes, bool):
            raise UserError("'yes' is true or false.")
        self._service.runtime.deliver(Decide(yes))
        yield {}

    async def _poke(self, _: _Request) -> _Answers:
        self._service.committed()
        yield {}

    # -- what requests name ------------------------------------------------------------------

    def _log(self, request: _Request) -> LogRow:
        topic = _text(request, "log", "")
        if not topic:
            return self._row(self._home.conversation(_text(request, "conversation")).n)
        for row in self._store.logs():
            if row.topic.hex() == topic:
                return row
        raise UserError(f"there is no log with the topic {topic}.")

    def _row(self, n: int) -> LogRow:
        return next(row for row in self._store.logs() if row.n == n)

    _VERBS: ClassVar[Mapping[str, Callable[[Any, _Request], _Answers]]] = {
        "send": _send,
        "query": _query,
        "follow": _follow,
        "status": _status,
        "sync": _sync,
        "fetch": _fetch,
        "pair": _pair,
        "decide": _decide,
        "poke": _poke,
    }


def _text(request: _Request, name: str, default: str | None = None) -> str:
    value = request.get(name, default)
    if not isinstance(value, str):
        raise UserError(f"{name!r} is missing, or is no text.")
    return value


def _number(request: _Request, name: str, default: int, least: int, most: int) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(f"{name!r} is a whole number from {least:,} to {most:,}.")
    return value


def _seconds(request: _Request, default: float | None) -> float | None:
    value = request.get("timeout_s", default)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _FETCH_MAX_S:
        raise UserError(f"'timeout_s' is a number of seconds, above 0 and up to {_FETCH_MAX_S:g}.")
    return float(value)


def _time(request: _Request, name: str) -> int | None:
    value = request.get(name)
    match value:
        case None:
            return None
        case int() if not isinstance(value, bool):
            return value
        case str():
            with suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(value)
                return max(0, int(moment.astimezone(moment.tzinfo or UTC).timestamp() * 1000))
        case _:
            pass
    raise UserError(f"{name!r} is a time as in 2024-05-12T14:05:00Z, or milliseconds since 1970.")


def _ids(request: _Request) -> list[EntryId]:
    value: Any = request.get("ids")
    try:
        found = [EntryId(bytes.fromhex(id_)) for id_ in value]
    except (TypeError, ValueError):
        found = []
    if not 0 < len(found) <= limits.STORE_ROWS_MAX or any(len(id_) != ENTRY_ID_SIZE for id_ in found):
        raise UserError(f"'ids' are 1 to {limits.STORE_ROWS_MAX:,} whole ids of entries in hexadecimal.")
    return list(dict.fromkeys(found))


def _cursor(position: Position) -> str:
    return f"{position.rank}.{position.id.hex()}"


def _position(cursor: str) -> Position | None:
    if not cursor:
        return None
    match = re.fullmatch(r"([0-9]{1,19})\.([0-9a-f]{64})", cursor)
    if match is None:
        raise InvalidInput("'cursor' is none that a query gave")
    return Position(int(match[1]), EntryId(bytes.fromhex(match[2])))


def _iso(time_ms: int) -> str | None:
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC) if time_ms else None
    except (OverflowError, ValueError, OSError):
        # Beyond the year 9999; as a number it is there.
        moment = None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment is not None else None

"""Writing: what a person says in this home, and takes back; refused where it would not count.

What is written is durable when a function returns, and what is forgotten is overwritten by then wherever
this home keeps it: in the database, and in the copy of it for scripts. `Home` has a method for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlog import config, limits
from mlog.adapters.disk import disk_errors
from mlog.adapters.overwrite import forget_file
from mlog.api.ended import require_writable
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.ids import EntryId, MessageId
from mlog.log.replica import Draft
from mlog.log.ruling import require_admin
from mlog.log.view import Message

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "checked_title",
    "edit",
    "erase",
    "expire",
    "expire_after",
    "react",
    "send",
    "set_title",
    "write",
]


def write(home: Home, log: int, kind: Kind, body: bodies.Body) -> EntryId:
    """Write one entry, whatever it says.

    Raises:
        UserError: This person is not in the conversation, or this device was revoked.
    """
    require_writable(home, log)
    now = home.now_ms()
    return home.replica.write(log, [Draft(kind, body, now)], now)[0].id


# -- saying ----------------------------------------------------------------------------------


def send(home: Home, log: int, text: str, reply_to: MessageId | None, attach: Sequence[Path]) -> EntryId:
    """A message; as `Home.send`."""
    require_writable(home, log)
    text = _checked_text(text) if text.strip() or not attach else ""
    body = bodies.Text(text=text, to=(reply_to.hex(),) if reply_to is not None else ())
    if attach:
        # Costs a part of the start of `mlog send`, which mostly needs none of it.
        from mlog.api import attachments

        return attachments.send(home, log, body, attach)
    return write(home, log, Kind.REPLY if body.to else Kind.MESSAGE, body)


def edit(home: Home, message: Message, text: str) -> EntryId:
    """Another text in the place of a message's; as `Home.edit`."""
    _require_own(home, message, "edit")
    if message.author.claimed:
        raise UserError("an imported message says what was said elsewhere; it can be erased, not edited.")
    return write(home, message.log, Kind.EDIT, bodies.Edit(of=message.mid.hex(), text=_checked_text(text)))


def react(home: Home, message: Message, emoji: str, *, remove: bool) -> EntryId:
    """An emoji on a message, or taken back; as `Home.react`."""
    emoji = emoji.strip()
    if not emoji or len(emoji.encode()) > limits.EMOJI_SIZE_MAX_BYTES:
        raise UserError(
            f"a reaction is an emoji or a short word, of at most {limits.EMOJI_SIZE_MAX_BYTES} bytes."
        )
    body = bodies.Reaction(of=message.mid.hex(), emoji=emoji, removed=remove)
    return write(home, message.log, Kind.REACTION, body)


def set_title(home: Home, log: int, title: str) -> EntryId:
    """What a conversation is called from now on; as `Home.set_title`."""
    return write(home, log, Kind.TITLE, bodies.Title(title=checked_title(title)))


def checked_title(title: str) -> str:
    """A title as it is written.

    Raises:
        UserError: It is empty.
        LimitExceeded: It is too long.
    """
    title = " ".join(title.split())
    if not title:
        raise UserError("a conversation needs a title.")
    if len(title.encode(errors="replace")) > limits.TITLE_SIZE_MAX_BYTES:
        raise LimitExceeded(f"the title is too long: at most {limits.TITLE_SIZE_MAX_BYTES:,} bytes.")
    return title


def _checked_text(text: str) -> str:
    if not text.strip():
        raise UserError("nothing to send: the text is empty.")
    if "\0" in text:
        raise UserError("the text has a zero byte in it. Is it a text file?")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UserError("the text is not valid Unicode. Save it as UTF-8 and try again.") from None
    if size > limits.TEXT_SIZE_MAX_BYTES:
        raise LimitExceeded(
            f"the text is too long: {size:,} bytes, and a message may have {limits.TEXT_SIZE_MAX_BYTES:,}. "
            "Split it into several messages."
        )
    return text


# -- forgetting ------------------------------------------------------------------------------


def erase(home: Home, message: Message) -> EntryId:
    """Forget text and files of a message; as `Home.erase`."""
    from mlog.api import attachments

    require_writable(home, message.log)
    if message.erased or not _is_admin_of_others(home, message.log):
        _require_own(home, message, "erase")
    with home.replica.transaction():
        groups = attachments.forgetting(home.replica, message.log, message.mid, message.author.device)
        erasures = [bodies.Erasure(of=message.mid.hex()), *groups]
        now = home.now_ms()
        drafts = [Draft(Kind.ERASURE, erasure, now) for erasure in erasures]
        id_ = home.replica.write(message.log, drafts, now)[0].id
    _forget_copies(home)
    return id_


def expire_after(home: Home, log: int, after_ms: int) -> EntryId:
    """After how long disappears what is said from now on; as `Home.expire_after`."""
    require_admin(home.replica, log, "set when messages disappear")
    if after_ms and after_ms < limits.EXPIRE_MIN_MS:
        raise UserError(
            f"messages stay for at least {limits.EXPIRE_MIN_MS // 60_000} min: clocks differ by as much."
        )
    return write(home, log, Kind.EXPIRE, bodies.Expire(after_ms=after_ms))


def expire(home: Home) -> int:
    """Forget what was to disappear by now; as `Home.expire`."""
    store = home.store
    logs = store.logs_with(Kind.EXPIRE)
    if not logs:
        return 0
    now, looked = home.now_ms(), store.cached("expiry") or b""
    if 0 <= now - int.from_bytes(looked, "big") < limits.EXPIRE_LOOK_MS:
        return 0
    count = sum(home.replica.expire(log, now) for log in logs)
    with store.transaction():
        store.put_cached("expiry", now.to_bytes(8, "big"))
    if count:
        _forget_copies(home)
    return count


def _forget_copies(home: Home) -> None:
    """Overwrite what was forgotten, wherever this home keeps it."""
    home.finish_erasures()
    snapshot = home.path / config.SNAPSHOT_NAME
    with disk_errors(snapshot):
        forget_file(snapshot)


# -- who may ---------------------------------------------------------------------------------


def _is_admin_of_others(home: Home, log: int) -> bool:
    """Whether this person may erase what others said in a conversation."""
    people = home.replica.people
    return people.membership(log) is not None and people.role(log) == Role.ADMIN


def _require_own(home: Home, message: Message, verb: str) -> None:
    if message.erased:
        raise UserError(f"the message is erased; there is nothing to {verb}.")
    if not home.replica.people.is_own(message.author.device):
        raise UserError(f"only its author can {verb} a message, and that is {message.author.name}.")

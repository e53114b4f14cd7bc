"""Notes: what this person notes of conversations, shared by all own devices and nobody else.

Labels, pins, mute, drafts, settings, and how far a conversation was read. Where others write too,
looking at their messages also tells them how far they were read, unless that is switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mlog import limits
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log import private_state as keys
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import EntryId
from mlog.log.private_log import PrivateLog
from mlog.log.private_state import SETTINGS, ConversationState, PrivateState
from mlog.log.reading import Marks, chain_name, encode_marks, merge_marks
from mlog.log.replica import Draft
from mlog.log.store import ChainRow, EntryRow, TimelineQuery

if TYPE_CHECKING:
    from mlog.api.home import Home
    from mlog.log.private_change import Value
    from mlog.log.view import Message

__all__ = ["Notes"]

_NOTHING: Final = -1
"""The number before the first of a chain."""


class Notes:
    """What is noted in one home. Each call that notes something is durable when it returns."""

    def __init__(self, home: Home):
        self._home = home
        self._log = PrivateLog(home.replica)

    def state(self) -> PrivateState:
        """All of it, with what came from other devices."""
        return self._log.state()

    def of(self, n: int) -> ConversationState:
        """What is noted of one conversation."""
        return self.state().of(self._topic(n))

    def refusal(self, id_: bytes) -> str:
        """Why an entry of the private log is not part of the state, or ""."""
        return self._log.refusal(EntryId(id_))

    # -- what one command sets -----------------------------------------------------------------

    def pin(self, n: int, *, pinned: bool = True) -> bool:
        """Let a conversation stand first in the list, or no more; whether that is new."""
        return self._note({keys.pin_key(self._topic(n)): True if pinned else None})

    def mute(self, n: int, *, muted: bool = True) -> bool:
        """Count no unread messages of a conversation, or again; whether that is new."""
        return self._note({keys.mute_key(self._topic(n)): True if muted else None})

    def label(self, n: int, label: str, *, remove: bool = False) -> bool:
        """Put a label on a conversation, or take it off; whether that is new.

        Raises:
            UserError: Not a word or a few.
        """
        return self._note({keys.label_key(self._topic(n), label): None if remove else True})

    def draft(self, n: int, text: str) -> bool:
        """Keep an unsent text; with "" forget what is kept. Whether that is new.

        Drafts that other devices wrote, and that are known here, are replaced by it.

        Raises:
            LimitExceeded: Longer than a message may be.
        """
        if len(text.encode(errors="replace")) > limits.TEXT_SIZE_MAX_BYTES:
            raise LimitExceeded(f"a draft may have {limits.TEXT_SIZE_MAX_BYTES:,} bytes, as a message.")
        topic, own = self._topic(n), self._home.replica.device_id
        edits: dict[str, Value | None] = {keys.draft_key(topic, device): None for device in self.of(n).drafts}
        edits[keys.draft_key(topic, own)] = text or None
        return self._note(edits)

    def set(self, name: str, *, on: bool) -> bool:
        """Switch a setting; whether that is new.

        Raises:
            UserError: There is no such setting: the message lists them.
        """
        if name not in SETTINGS:
            raise UserError(f"no setting {name!r}. There are: {', '.join(SETTINGS)}.")
        return self._note({keys.setting_key(name): on})

    def _note(self, edits: dict[str, Value | None]) -> bool:
        return self._log.note(edits, self._home.now_ms())

    def _topic(self, n: int) -> bytes:
        return self._home.replica.log(n).keys.topic

    # -- read and unread -----------------------------------------------------------------------

    def unread(self) -> dict[int, int]:
        """How many messages of others were not read, by conversation; muted ones too."""
        state = self.state()
        counts: dict[int, int] = {}
        for conversation in self._home.conversations():
            read = state.of(conversation.topic).read
            counts[conversation.n] = sum(
                self._home.store.count_spoken(chain.n, read.get(_name_of(chain), _NOTHING))
                for chain in self._others(conversation.n)
            )
        return counts

    def unread_messages(self, n: int) -> Iterator[Message]:
        """The unread messages of a conversation in the order of the view, in bounded memory."""
        read = self.of(n).read
        after = {chain.n: read.get(_name_of(chain), _NOTHING) for chain in self._others(n)}
        if not after:
            return
        for rows in self._pages(n):
            unread = [row for row in rows if row.seq > after.get(row.chain, row.seq)]
            yield from self._home.view.of_rows(n, unread)

    def _pages(self, n: int) -> Iterator[list[EntryRow]]:
        query = TimelineQuery(log=n, limit=limits.STORE_ROWS_MAX, kinds=SPOKEN)
        while rows := self._home.store.timeline(query):
            yield rows
            query = TimelineQuery(log=n, limit=limits.STORE_ROWS_MAX, kinds=SPOKEN, after=rows[-1].position)

    def mark_read(self, n: int) -> int:
        """Count all that is here of a conversation as read; how many messages that are.

        Others are told by one entry, unless the setting `read-receipts` is off.
        """
        home, now = self._home, self._home.now_ms()
        with home.replica.transaction():
            count = self.unread()[n]
            if not count:
                return 0
            state = self.state()
            known, own = state.of(self._topic(n)), home.replica.device_id
            held: Marks = {}
            for chain in self._others(n):
                name = _name_of(chain)
                held[name] = max(chain.seq, held.get(name, _NOTHING))
            mine = merge_marks(known.read_on.get(own, {}), held)
            self._log.note({keys.read_key(self._topic(n), own): encode_marks(mine)}, now)
            further = {name: seq for name, seq in held.items() if seq > known.read.get(name, _NOTHING)}
            if further and state.setting("read-receipts") and home.replica.people.may_write(n):
                told = sorted(further.items())[: limits.READ_CHAINS_MAX]
                chains = tuple(bodies.ReadChain(chain=name.hex(), seq=seq) for name, seq in told)
                home.replica.write(n, [Draft(Kind.READ, bodies.Read(chains=chains), now)], now)
        return count

    def _others(self, n: int) -> list[ChainRow]:
        """The chains of a conversation that other people write."""
        people = self._home.replica.people
        own = people.stand_in(self._home.replica.device_id)
        return [c for c in self._home.store.chains(n) if c.seq >= 0 and people.stand_in(c.device) != own]


def _name_of(chain: ChainRow) -> bytes:
    return chain_name(chain.device, chain.incarnation)

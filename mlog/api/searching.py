"""Search: the newest messages that have all words of a query, of all people or of one.

The index gives entries in the order in which they came, newest first. Of these SEARCH_CANDIDATES_MAX are
looked at and put in the order of the view; where only one person is wanted, that many of theirs, however
many others have the words too. docs/decisions/0004-search-in-any-script.md.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from mlog import limits
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import MessageId
from mlog.log.store import EntryRow, Hit, Store
from mlog.log.view import Message, View
from mlog.log.words import match_expression

if TYPE_CHECKING:
    from mlog.api.identities import Chosen

__all__ = ["search"]

_Found: TypeAlias = dict[tuple[int, MessageId], Hit | EntryRow]


def search(
    store: Store, view: View, query: str, *, log: int | None, limit: int, who: Chosen | None = None
) -> list[Message]:
    """The newest messages that hold all words of a query.

    Args:
        query: Words; `word*` for a start, "two words" in quotes for a phrase.
        log: Only in this conversation.
        who: Only from these.

    Raises:
        UserError: No word in it.
    """
    expression = match_expression(query)
    found: _Found = {}
    before_n: int | None = None
    while len(found) < limits.SEARCH_CANDIDATES_MAX:
        ns = store.search(expression, log, limits.SEARCH_CANDIDATES_MAX, before_n)
        page = _messages_of(store, ns)
        found |= page if who is None else _only(store, page, who)
        if who is None or len(ns) < limits.SEARCH_CANDIDATES_MAX:
            break
        before_n = ns[-1]
    newest = sorted(found.values(), key=lambda hit: hit.position, reverse=True)[:limit]
    # The bytes of those that are shown, read at once for each log.
    rows = store.rows({hit.n for hit in newest})
    by_log: dict[int, list[EntryRow]] = {}
    for hit in newest:
        by_log.setdefault(hit.log, []).append(rows[hit.n])
    shown = {m.id: m for n, part in by_log.items() for m in view.of_rows(n, part)}
    return [shown[hit.id] for hit in newest]


def _messages_of(store: Store, ns: Collection[int]) -> _Found:
    """The messages that read so now."""
    found: _Found = {}
    for hit in store.hits(ns):
        if hit.kind == Kind.EDIT:
            # An edit's words count for the message that reads so now.
            for mid in store.references([hit.n]).get(hit.n, []):
                for target in store.by_mid(hit.log, [mid]).get(mid, []):
                    if target.edit == hit.n and not target.hidden:
                        found[hit.log, mid] = target
        elif hit.kind in SPOKEN and not hit.edit and not hit.hidden:
            found[hit.log, hit.message] = hit
    return found


def _only(store: Store, found: _Found, who: Chosen) -> _Found:
    rows = store.rows({hit.n for hit in found.values()})
    return {key: hit for key, hit in found.items() if hit.n in rows and who.wrote(rows[hit.n])}

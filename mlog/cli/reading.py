"""Commands that show what was said."""

from __future__ import annotations

import heapq
import shutil
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, LIMIT, SINCE, TEXT, UNTIL, verb
from mlog.cli.terminal import iso, safe, safe_block, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlog.api import Conversation, Entry, Home
    from mlog.cli.graph import Node
    from mlog.cli.lines import Lines
    from mlog.cli.output import Console
    from mlog.log.private_state import ConversationState
    from mlog.log.store import Position
    from mlog.log.view import Message

__all__ = ["log", "overview", "search", "show", "tail"]

_LOG_LINES: Final = 50
"""Messages that `log` shows on a terminal where nothing else is asked for."""

_POLL_S: Final = 0.2
"""How often `tail --follow` looks at the file: one page of it, about 10 us."""


# -- mlog alone ------------------------------------------------------------------------------


def overview(console: Console) -> None:
    """The conversations with their latest message, newest first, and one line of health."""
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        lines = Lines(home, console)
        notes = home.notes
        state, unread = notes.state(), notes.unread()
        latest = [(c, _latest(home, c.n)) for c in home.conversations()]
        latest.sort(key=lambda pair: pair[1].time_ms if pair[1] is not None else 0, reverse=True)
        latest.sort(key=lambda pair: not state.of(pair[0].topic).pinned)
        gaps = len(home.gaps())
        detail = f"{gaps:,} damaged or missing: 'mlog gaps' lists them" if gaps else "no damage known"
        if console.json:
            for conversation, message in latest:
                noted = state.of(conversation.topic)
                fields = lines.conversation(conversation, message, noted, unread[conversation.n])
                console.record("conversation", fields)
            health = {"ok": not gaps, "conversations": len(latest), "gaps": gaps, "detail": detail}
            console.record("health", health)
            return
        columns = shutil.get_terminal_size().columns
        for conversation, message in latest:
            noted = state.of(conversation.topic)
            console.line(
                _overview_line(console, lines, conversation, message, columns, noted, unread[conversation.n])
            )
        _say_if_revoked(console, home)
        if latest:
            several = "conversation" if len(latest) == 1 else "conversations"
            console.line(f"\n{console.mark(ok=not gaps)} {len(latest):,} {several}, {detail}")
        else:
            console.line("No conversation yet.")
            console.note(
                "Start one with 'mlog new TITLE', bring one with 'mlog import FILE', or look around with "
                "'mlog demo'."
            )


def _say_if_revoked(console: Console, home: Home) -> None:
    from mlog.api.ended import revoked

    how = revoked(home)
    if how is not None:
        console.line(f"{console.mark(ok=False)} {how}: nothing that is written since comes here")


def _latest(home: Home, n: int) -> Message | None:
    return next(home.messages(n, limit=1, newest_first=True), None)


def _overview_line(
    console: Console,
    lines: Lines,
    conversation: Conversation,
    message: Message | None,
    columns: int,
    noted: ConversationState,
    unread: int,
) -> str:
    """Title with what is unread, when the latest message came, what it says, and labels."""
    from mlog.cli.terminal import when, width

    count = f" ({unread:,})" if unread and not noted.muted else ""
    marks = ("* " if noted.pinned else "") + shorten(lines.title(conversation.n), 24 - len(count))
    head = console.bold(marks + count) + " " * max(1, 26 - width(marks + count))
    labels = shorten(" ".join(f"[{safe(label)}]" for label in noted.labels), 30)
    columns -= width(labels)
    tail = f"  {console.dim(labels)}" if labels else ""
    how = lines.ended(conversation.n)
    if how["ended"]:
        by = f"{safe(str(how['ended_by']))} removed you" if how["ended_by"] else "you were removed"
        said = shorten("you left" if how["ended"] == "left" else by, 30)
        columns -= width(said) + 2
        tail += f"  {console.warn(said)}"
    if message is None:
        return head + console.dim("no message yet") + tail
    now = time.time_ns() // 1_000_000
    preview = lines.preview(message, max(20, columns - 42))
    return f"{head}{when(message.time_ms, now, None):<13}{preview}{tail}"


# -- log and tail ----------------------------------------------------------------------------


@verb(
    "log",
    """mlog log trip
    mlog log trip --since 30d --limit all
    mlog log trip --graph
    mlog log trip --dot | dot -Tsvg > trip.svg""",
)
@click.argument("conversation", type=CONVERSATION)
@click.option("--since", type=SINCE, metavar="WHEN", help="From this date, time, or so long ago (30d, 12h).")
@click.option("--until", type=UNTIL, metavar="WHEN", help="Up to this time, or the end of this date.")
@click.option(
    "--limit",
    "-n",
    type=LIMIT,
    metavar="N|all",
    help=f"Only the newest N; on a terminal {_LOG_LINES} unless --since or --until is given, else all.",
)
@click.option("--from", "author", type=TEXT, metavar="NAME", help="Only what this person says; see 'people'.")
@click.option("--reverse", is_flag=True, help="The other order: newest first, or with --graph oldest first.")
@click.option("--graph", is_flag=True, help="Draw how entries follow each other, newest first.")
@click.option("--dot", is_flag=True, help="Print the graph as Graphviz source.")
def log(
    console: Console,
    conversation: str,
    since: int | None,
    until: int | None,
    limit: int | None,
    author: str | None,
    reverse: bool,
    graph: bool,
    dot: bool,
) -> None:
    """Show a conversation, oldest message first.

    A name in <angle brackets> is what an imported file says; whoever imported it vouches for that, the
    named person does not. "@" and digits name the message that is answered.
    """
    if dot and console.json:
        raise click.UsageError("--dot prints Graphviz source, and --json JSON lines: choose one.")
    if author is not None and (graph or dot):
        raise click.UsageError("--from chooses messages, and a graph shows all entries: choose one.")
    cut = limit is None and since is None and until is None and console.is_terminal and not dot
    chosen_limit = _LOG_LINES if cut else limit
    with console.open_home() as home:
        n = home.conversation(conversation).n
        if graph or dot:
            entries = home.entries(n, limit=chosen_limit, since_ms=since, until_ms=until, newest_first=True)
            _draw(console, home, entries, as_dot=dot, oldest_first=reverse)
        elif author is not None:
            messages = _from(home, n, author, chosen_limit, since, until, newest_first=reverse)
            if not _print_messages(console, home, messages):
                _say_who_there_is(console, author)
            cut = False
        else:
            messages = _messages(home, n, chosen_limit, since, until, newest_first=reverse)
            _print_messages(console, home, messages)
        if cut and not console.json:
            total = next((s.messages for s in home.status(n)), 0)
            if total > _LOG_LINES:
                console.note(f"the newest {_LOG_LINES} of {total:,} messages; all with --limit all")


def _messages(
    home: Home, n: int, limit: int | None, since: int | None, until: int | None, *, newest_first: bool
) -> Iterator[Message]:
    """The newest messages, in either order and bounded memory."""
    if limit is None or newest_first:
        return home.messages(n, limit=limit, since_ms=since, until_ms=until, newest_first=newest_first)
    # Where the last N begin is found from the end; then they are read forwards.
    before: Position | None = None
    left = limit
    for message in home.messages(n, limit=limit + 1, since_ms=since, until_ms=until, newest_first=True):
        if left == 0:
            before = message.position
        left -= 1
    return home.messages(n, since_ms=since, until_ms=until, after=before)


def _from(
    home: Home,
    n: int,
    author: str,
    limit: int | None,
    since: int | None,
    until: int | None,
    *,
    newest_first: bool,
) -> Iterator[Message]:
    """The newest messages of one person, in either order; what a limit leaves is held in memory."""
    from mlog.api.identities import Chosen

    chosen = Chosen(home, author)
    if limit is None:
        messages = home.messages(n, since_ms=since, until_ms=until, newest_first=newest_first)
        return (message for message in messages if chosen.said(message))
    messages = home.messages(n, since_ms=since, until_ms=until, newest_first=True)
    newest = list(islice((message for message in messages if chosen.said(message)), limit))
    return iter(newest if newest_first else newest[::-1])


def _say_who_there_is(console: Console, author: str) -> None:
    console.note(f"nothing from {safe(author)}; 'mlog people' lists who says what")


def _print_messages(console: Console, home: Home, messages: Iterator[Message]) -> int:
    """Prints them, and gives how many there were."""
    from mlog.cli.lines import Lines

    lines = Lines(home, console)
    count = 0
    for count, message in enumerate(messages, start=1):  # noqa: B007 (it is what is given back)
        if console.json:
            console.record("message", lines.message(message))
        else:
            console.line(lines.message_line(message))
    _explain_claims(console, lines)
    return count


def _explain_claims(console: Console, lines: Lines) -> None:
    if lines.claimed and console.is_terminal and not console.json:
        console.note("<name>: as an imported file says, not signed by that person")


def _draw(
    console: Console, home: Home, entries: Iterator[Entry], *, as_dot: bool, oldest_first: bool
) -> None:
    from mlog.cli.graph import Node, dot, draw
    from mlog.cli.lines import Lines

    lines = Lines(home, console)
    if console.json:
        for entry in entries:
            console.record("entry", lines.entry(entry))
        return
    nodes = (
        Node(
            entry.id,
            (*(() if entry.prev is None else (entry.prev,)), *entry.parents),
            lines.entry_label(entry),
        )
        for entry in entries
    )
    if as_dot:
        drawn = dot(nodes)
    else:
        ordered = _children_first(nodes)
        drawn = draw(
            reversed(ordered) if oldest_first else ordered,
            oldest_first=oldest_first,
            unicode=console.unicode,
        )
    columns = shutil.get_terminal_size().columns if console.is_terminal and not as_dot else None
    for line in drawn:
        console.line(line if columns is None else shorten(line, columns))
    _explain_claims(console, lines)


def _children_first(nodes: Iterable[Node]) -> list[Node]:
    """The same nodes, each before its parents, and otherwise in the order in which they came.

    In the view an imported message stands at its own time, however late it was imported: there
    it may come before an entry that it names.
    """
    waiting = list(nodes)
    at = {node.id: index for index, node in enumerate(waiting)}
    children = [0] * len(waiting)
    for node in waiting:
        for parent in set(node.parents) & at.keys():
            children[at[parent]] += 1
    waiting = [node._replace(children=count) for node, count in zip(waiting, children, strict=True)]
    ready = [index for index, count in enumerate(children) if not count]
    ordered: list[Node] = []
    while ready:
        node = waiting[heapq.heappop(ready)]
        ordered.append(node)
        for parent in set(node.parents) & at.keys():
            children[at[parent]] -= 1
            if not children[at[parent]]:
                heapq.heappush(ready, at[parent])
    return ordered


@verb(
    "tail",
    """mlog tail trip
    mlog tail -f trip""",
)
@click.argument("conversation", type=CONVERSATION)
@click.option("-n", "--lines", "limit", type=LIMIT, default=10, show_default=True, metavar="N|all")
@click.option("--follow", "-f", is_flag=True, help="Go on with messages as they come, until Ctrl-C.")
def tail(console: Console, conversation: str, limit: int | None, follow: bool) -> None:
    """Show the last messages, and with -f those that come."""
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        n = home.conversation(conversation).n
        after: Position | None = None
        seen = _Changes(home)
        for message in _messages(home, n, limit, None, None, newest_first=False):
            _print_messages(console, home, iter([message]))
            after = message.position
        if not follow:
            return
        console.interrupted = ""
        while True:
            console.flush()
            seen.wait()
            lines = Lines(home, console)
            for message in home.messages(n, after=after):
                if console.json:
                    console.record("message", lines.message(message))
                else:
                    console.line(lines.message_line(message))
                after = message.position


class _Changes:
    """Waits until another process has written to the database."""

    def __init__(self, home: Home):
        self._home = home
        self._seen = home.data_version()

    def wait(self) -> None:
        while (now := self._home.data_version()) == self._seen:
            time.sleep(_POLL_S)
        self._seen = now


# -- search and show -------------------------------------------------------------------------


@verb(
    "search",
    """mlog search tent
    mlog search 'camp*' --in trip
    mlog search '"big tent" monday'
    mlog search tent --from Ann""",
)
@click.argument("query", type=TEXT)
@click.option("--in", "conversation", type=CONVERSATION, metavar="CONVERSATION", help="Only in this one.")
@click.option("--from", "author", type=TEXT, metavar="NAME", help="Only what this person says; see 'people'.")
@click.option("--limit", "-n", type=LIMIT, default=50, show_default=True, metavar="N|all")
def search(console: Console, query: str, conversation: str | None, author: str | None, limit: int) -> None:
    """Find messages that have all words of QUERY, newest first.

    A word with a star matches its continuations, words in double quotes stand together.
    """
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        n = home.conversation(conversation).n if conversation is not None else None
        found = home.search(query, log=n, limit=limit, who=author)
        lines = Lines(home, console)
        for message in found:
            if console.json:
                console.record("message", lines.message(message))
            else:
                console.line(lines.message_line(message, titled=n is None))
        if not found and author is not None:
            _say_who_there_is(console, author)
        elif not found:
            console.note("nothing found")
        _explain_claims(console, lines)


@verb("show", "mlog show 3f9a")
@click.argument("entry", type=TEXT)
def show(console: Console, entry: str) -> None:
    """Show everything about one entry."""
    from mlog.api.seen import seen
    from mlog.cli.lines import Lines
    from mlog.log.bodies import SPOKEN

    with console.open_home() as home:
        lines = Lines(home, console)
        found = home.entry(entry)
        message = home.message(found.id.hex(), found.log) if found.kind in SPOKEN else None
        source = home.provenance(message) if message is not None and not message.damage else None
        others = seen(home, home.find_entry(found.id.hex(), found.log)) if message is not None else ()
        if console.json:
            console.record("entry", lines.entry(found))
            if message is not None:
                console.record("message", lines.message(message))
            if source is not None:
                fields = {"format": source.format, "name": source.name, "file_hash": source.file_hash}
                console.record("source", {"id": found.id.hex(), **fields, "position": source.position})
            for one in others:
                fields = {"id": found.id.hex(), **lines.place(found.log), **lines.seen(one)}
                console.record("seen", fields)
            return
        _show_entry(console, lines, found, message)
        if source is not None:
            where = f"{source.name or 'a pipe'}, {source.position}" if source.position else source.name
            _show_field(console, "imported from", f"{source.format or 'mlog'}: {where}")
            _show_field(console, "file hash", source.file_hash or "not known")
        for one in others:
            _show_field(console, "read by" if one.read else "delivered", lines.seen_text(one))
        console.line()
        console.line(_body_text(lines, found, message))


def _show_entry(console: Console, lines: Lines, entry: Entry, message: Message | None) -> None:
    from mlog.log.bodies import kind_name

    author = lines.author(entry) or "?"
    if entry.imported:
        author = f"<{author}>, as the device below says, which imported it"
    _show_field(console, "entry", entry.id.hex())
    if message is not None and message.mid.hex() != entry.id.hex()[:32]:
        _show_field(console, "message", message.mid.hex())
    _show_field(console, "conversation", lines.title(entry.log))
    _show_field(console, "kind", kind_name(entry.kind))
    _show_field(console, "author", author)
    _show_field(console, "time", f"{iso(entry.time_ms)} (a claim)")
    _show_field(console, "device", entry.device.hex() or "not readable")
    _show_field(
        console, "position", f"{entry.seq} in incarnation {entry.incarnation.hex()}, week {entry.week}"
    )
    _show_field(
        console, "before", entry.prev.hex() if entry.prev is not None else "none: its chain starts here"
    )
    for parent in entry.parents:
        _show_field(console, "follows", parent.hex())
    if entry.head:
        _show_field(console, "head", "yes: no entry names it yet")
    _show_field(console, "signed", "yes" if entry.signed else "by a later entry of its chain")
    _show_field(console, "size", f"{entry.outer_size} bytes of header, {entry.body_size} of body")
    _show_field(console, "body", entry.state)
    _show_field(console, "intact", f"no: {entry.damage}" if entry.damage else "yes: all bytes match its hash")
    if message is not None:
        for target in message.to:
            _show_field(console, "answers", target.hex())
        if message.edited:
            _show_field(console, "edited", "yes: the text below is the latest")
        for reacted in message.reactions:
            _show_field(console, "reaction", f"{reacted.emoji} {', '.join(reacted.authors)}")


def _show_field(console: Console, name: str, value: str) -> None:
    console.line(f"{console.dim(f'{name:<14}')}{safe(value)}")


def _body_text(lines: Lines, entry: Entry, message: Message | None) -> str:
    if message is not None:
        return safe_block(message.text, 0) if message.text else lines.said(message)
    if entry.body is None:
        return "[erased]" if entry.state == "erased" else f"[{entry.damage or entry.state}]"
    return "\n".join(f"{safe(name)}: {shorten(safe(str(value)), 200)}" for name, value in entry.body.items())

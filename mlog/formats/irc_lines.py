"""What one line of an IRC log says: its time stamp, and who said or did what.

A line is read in two steps, because programs differ in the stamp much more than in the rest:

1. `_STAMPS`: date, time of day and channel at the start of the line.
2. `_BODIES`: `<nick> text`, `* nick waves`, `-nick- text`, `-!- nick has joined #c` and so on.

Known: irssi, WeeChat, ZNC, HexChat and XChat, mIRC, Supybot, Energymech, Eggdrop day marks, Textual's
ISO stamps, The Lounge, and the styles of the irc-disentanglement corpus. A line that is none of them is an
EVENT with its whole text. Text is kept exactly, but for the separator after the nick.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final, NamedTuple

from mlog.limits import TIME_MAX_MS
from mlog.log.bodies import Kind

__all__ = ["Line", "LineReader"]

_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}

# -- step 1: stamps --------------------------------------------------------------------------

_TIME: Final = r"(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d|60)(?:[.,](?P<f>\d{1,9}))?)?"
_AMPM: Final = r"(?: ?(?P<ap>[AaPp])\.?[Mm]\.?)?"
_DATE: Final = r"(?P<Y>\d{4})[-/.](?P<M>\d\d)[-/.](?P<D>\d\d)"
_ZONE: Final = r" ?(?P<z>Z|UTC|[+-]\d\d:?\d\d)?"
_COLOUR: Final = "(?:\x03\\d{0,2}(?:,\\d{1,2})?)?"

_STAMPS: Final = tuple(
    _COLOUR + pattern
    for pattern in (
        # [21:20] and [21:20:37], 12-hour clocks with am or pm too
        rf"\[{_TIME}{_AMPM}\](?: |\t|(?=$))",
        # channel 2018-05-29 [21:20:37], as in the corpus
        rf"(?P<chan>\S{{1,64}}) {_DATE} \[{_TIME}\](?: |(?=$))",
        # channel 2018-05-29 === ..., the same without a time
        rf"(?P<chan>\S{{1,64}}) {_DATE} (?====)",
        # 2018-05-29T21:20:37Z, 2018-05-29 21:20:37<tab>, [2018-05-29 21:20:37], [2018-05-29 @ 21:20:37]
        rf"\[?{_DATE}(?:[T ]| @ ){_TIME}{_ZONE}\]?(?:\t|  ?|(?=$))",
        # May 29 21:20:37
        rf"(?P<mon>[A-Z][a-z]{{2}}) {{1,2}}(?P<D>\d{{1,2}}) (?:(?P<Y>\d{{4}}) )?{_TIME}(?: |\t|(?=$))",
        # 21:20, only where something follows that a client writes
        rf"{_TIME}{_AMPM} (?= ?[<*>-]|\[|===|—)",
    )
)

# -- days and headers ------------------------------------------------------------------------

_MARKER: Final = re.compile(
    r"(?:---|\*{4}) (?:Log (?:opened|closed) |Day changed (?:to )?|(?:BEGIN|ENDING) LOGGING AT )?"
    r"(?=[A-Z][a-z]{2} )|Session (?:Start|Time|Close)(?: \([^)]*\))?: "
)
"""irssi, XChat, Eggdrop and mIRC write the full date in such lines, others never do."""

_MARKER_STARTS: Final = ("---", "****", "Session ")

_MARKED_DATE: Final = re.compile(
    r"(?:[A-Z][a-z]{2},? )?"
    r"(?:(?P<mon>[A-Z][a-z]{2}) +(?P<D>\d{1,2})|(?P<D2>\d{1,2}) (?P<mon2>[A-Z][a-z]{2}))"
    rf",?(?: {_TIME}(?: [A-Z]{{3,5}})?)? (?P<Y>\d{{4}})\s*$"
)

# -- step 2: bodies --------------------------------------------------------------------------

_MODES: Final = "@+%&~! "
_NICK: Final = r"[^\s<>!@#]{1,64}"
_HOSTS: Final = r"(?: +(?:[\[(][^\])]*[\])]|<\S+@\S+>))*"

_SPACED: Final = r"([^<>*\t]{1,64}?) +[\[(]\S{1,64}@\S{1,128}[\])]"
"""Some logs hold nicks with a space; before a host there is no mistaking."""

_SAID: Final = re.compile(r"<([^>\t]{1,128})>(?:\t| |$)")
_SAID_BARE: Final = re.compile(r"<([^>\s]{1,64})>[\t ]")
_SAID_CORPUS: Final = re.compile(r"<([^>\t]{1,128})>(?:\t ?| |$)")
_ACTION: Final = re.compile(r" *[*•][\t ](\S{1,128})(?: |$)")
_ACTION_CORPUS: Final = re.compile(r" *\* (\S{1,128})(?:  ?|$)")
_NOTICE: Final = re.compile(r"-([^\s:()!-][^\s:()]{0,63}?)(?:[:(]\S{1,128})?-(?:\t| |$)")
_SYSTEM: Final = re.compile(r"(?:-!-|={2,3}|=!=|\*{3}|-->|<--|---?|—)(?:\t| +)")
_EGGDROP: Final = re.compile(
    rf"Action: (?P<action>{_NICK}) |Nick change: (?P<rename>{_NICK}) -> {_NICK}\s*$"
    rf"|(?P<system>{_NICK} \([^)\s]*\) (?:joined|left) |Topic changed on #|Mode change: )"
)
_WEECHAT: Final = re.compile(r"(\S{0,64})\t")
_WEECHAT_NOTICE: Final = re.compile(r"Notice\(([^)\s]{1,64})\)(?: -> \S+)?: ")

_RENAME: Final = re.compile(rf"({_NICK}) (?:is|are) now known as {_NICK}\s*$")
_JOIN: Final = re.compile(
    rf"({_NICK}){_HOSTS} +(?:ha(?:s|ve) joined\b|joined [#&]|entered the room)|Joins: ({_NICK})"
    rf"|{_SPACED} +has joined\b|{_SPACED} joined\s*$"
)
_PART: Final = re.compile(
    rf"({_NICK}){_HOSTS} +(?:ha(?:s|ve) (?:left|quit)\b|left (?:[#&]|irc\b|the room)|quit \()"
    rf"|(?:Parts|Quits): ({_NICK})|{_SPACED} +has (?:left|quit)\b|{_SPACED} (?:left\s*$|quit \()"
)
_STARRED: Final = re.compile(
    rf"(?:Joins|Parts|Quits): {_NICK}|Now talking (?:in|on) [#&]|Topic is '|Set by \S+ on |Disconnected\s*$"
    rf"|{_NICK} [\[(]\S*[\])] (?:has (?:joined|left|quit)\b|Quit\b)|{_NICK} sets mode(?:: [+-]|s \[)"
    rf"|{_NICK} (?:gives|removes) (?:channel (?:half-)?operator status|voice) (?:to|from) "
    rf"|{_NICK} has kicked \S+ from [#&]|{_NICK} has changed the topic to: "
    rf"|{_NICK} is now known as {_NICK}\s*$|{_NICK} was kicked (?:by|from) "
    rf"|{_NICK} has (?:joined|left) [#&]\S+\s*$|{_NICK} has quit(?: IRC)? \("
)
"""mIRC and HexChat write system lines with the star of an action."""


class Line(NamedTuple):
    """One line, understood.

    Attributes:
        exact: "s" or "m" by what the stamp gives, "" where the line has none.
        day: Days since 1970.
        known: It fits one of the styles.
    """

    kind: Kind
    author: str
    text: str
    time_ms: int
    exact: str
    day: int
    known: bool


class LineReader:
    """Reads the lines of one log in order, and remembers the date that some of them set.

    A clock that steps back stays as it is: 12-hour clocks without am and pm do, and a later
    day that no line names cannot be told from it. Only December to January, where
    lines name the month and not the year, is the next year.

    Attributes:
        channel: The channel that stamps name, as written, or "".
    """

    def __init__(self, day: date) -> None:
        self.channel = ""
        self._day = day.toordinal() - _EPOCH
        self._year = day.year
        self._month = 0
        self._time_ms = max(self._day * _DAY_MS, 0)
        self._stamps = [re.compile(pattern) for pattern in _STAMPS]
        self._last_stamp = ""
        self._last_exact = ""

    def read(self, text: str) -> Line:
        """What a line says. Any text is some line, an EVENT at worst."""
        stamp = None
        for index, pattern in enumerate(self._stamps):
            stamp = pattern.match(text)
            if stamp is not None:
                if index:  # A log keeps to its style: the next line tries this one first.
                    self._stamps.insert(0, self._stamps.pop(index))
                break
        rest = text
        exact = tail = ""
        corpus = False
        if stamp is not None:
            rest = text[stamp.end() :]
            corpus = "chan" in stamp.re.groupindex
            exact = self._take_stamp(stamp)
            tail = stamp.group()[-1:]
        marker = _MARKER.match(rest) if rest.startswith(_MARKER_STARTS) else None
        if marker is not None and self._take_marker(rest[marker.end() :]):
            return Line(Kind.EVENT, "", text, self._time_ms, "m", self._day, True)
        body = _body(rest, stamped=stamp is not None, corpus=corpus, tabbed=tail == "\t")
        if body is None:
            known = text.startswith("Session Ident: ")
            return Line(Kind.EVENT, "", text, self._time_ms, exact, self._day, known)
        kind, author, said = body
        return Line(kind, author, said, self._time_ms, exact, self._day, True)

    def _take_stamp(self, stamp: re.Match[str]) -> str:
        written = stamp.group()
        if written == self._last_stamp:
            return self._last_exact
        found = stamp.groupdict()
        if found.get("chan"):
            self.channel = self.channel or found["chan"]
        if found.get("D"):
            self._take_date(found)
        exact = ""
        if found.get("h"):
            exact = "s" if found["s"] else "m"
            self._time_ms = self._clamped(self._day * _DAY_MS + _of_day_ms(found))
        else:
            self._time_ms = self._clamped(max(self._day * _DAY_MS, self._time_ms))
        self._last_stamp = written
        self._last_exact = exact
        return exact

    def _take_date(self, found: dict[str, str]) -> None:
        name = found.get("mon") or found.get("mon2")
        month = _MONTHS.get(name.lower(), 0) if name else int(found["M"])
        if found.get("Y"):
            self._year = int(found["Y"])
        elif self._month == 12 and month == 1:
            self._year += 1
        try:
            self._day = date(self._year, month, int(found.get("D") or found["D2"])).toordinal() - _EPOCH
        except ValueError:  # 31 February: the date before stays
            return
        self._month = month

    def _take_marker(self, rest: str) -> bool:
        found = _MARKED_DATE.match(rest)
        if found is None:
            return False
        self._take_date(found.groupdict())
        self._last_stamp = ""
        self._time_ms = self._clamped(
            self._day * _DAY_MS + (_of_day_ms(found.groupdict()) if found["h"] else 0)
        )
        return True

    def _clamped(self, time_ms: int) -> int:
        return min(max(time_ms, 0), TIME_MAX_MS)


def _of_day_ms(found: dict[str, str]) -> int:
    hour = int(found["h"])
    if found.get("ap") and hour <= 12:
        hour = hour % 12 + (12 if found["ap"] in "pP" else 0)
    milliseconds = ((hour * 60 + int(found["m"])) * 60 + int(found["s"] or 0)) * 1000
    if found.get("f"):
        milliseconds += int(found["f"][:3].ljust(3, "0"))
    zone = found.get("z")
    if zone and zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        milliseconds -= (minutes if zone[0] == "+" else -minutes) * 60_000
    return milliseconds


def _body(rest: str, *, stamped: bool, corpus: bool, tabbed: bool) -> tuple[Kind, str, str] | None:
    """Kind, author and text of a line after its stamp, or None where it fits no style.

    Args:
        stamped: There is a stamp; without one, only what is hard to mistake counts.
        corpus: Written as in the corpus, whose separators have one more space.
        tabbed: The stamp ends with a tab, as WeeChat's do: "nick<tab>text" follows.
    """
    said = (_SAID_CORPUS if corpus else _SAID if stamped else _SAID_BARE).match(rest)
    if said is not None:
        return Kind.MESSAGE, _nick(said[1]), rest[said.end() :]
    system = _SYSTEM.match(rest)
    if system is not None:
        return _system(rest[system.end() :])
    action = (_ACTION_CORPUS if corpus else _ACTION).match(rest)
    if action is not None:
        starred = rest.lstrip(" *\t")
        if _STARRED.match(starred):
            return _system(starred)
        return Kind.ACTION, _nick(action[1]), rest[action.end() :]
    notice = _NOTICE.match(rest)
    if notice is not None:
        return Kind.NOTICE, notice[1], rest[notice.end() :]
    if tabbed and (column := _WEECHAT.match(rest)) is not None:
        if not column[1]:
            return Kind.EVENT, "", rest[column.end() :]
        return Kind.MESSAGE, _nick(column[1]), rest[column.end() :]
    bare = _EGGDROP.match(rest) if stamped else None
    if bare is None:
        return None
    if bare["action"]:
        return Kind.ACTION, bare["action"], rest[bare.end() :]
    if bare["rename"]:
        return Kind.RENAME, bare["rename"], rest
    return _system(rest)


def _system(text: str) -> tuple[Kind, str, str]:
    for kind, pattern in ((Kind.JOIN, _JOIN), (Kind.PART, _PART), (Kind.RENAME, _RENAME)):
        found = pattern.match(text)
        if found is not None:
            return kind, next(nick for nick in found.groups() if nick), text
    notice = _WEECHAT_NOTICE.match(text)
    if notice is not None:
        return Kind.NOTICE, notice[1], text[notice.end() :]
    return Kind.EVENT, "", text


def _nick(written: str) -> str:
    """A nick without the sign of its rights in the channel."""
    return written.lstrip(_MODES) or written

"""Text for a terminal: other people's text made harmless, measured and cut; times; capabilities.

Invariant: `safe` lets no character through that moves the cursor, changes colours, turns the
direction of writing or is invisible. What it replaces stays visible (`␛[2J`, `\\u202e`), so that
a person sees that somebody tried. The invisible characters are Unicode's
Default_Ignorable_Code_Point (DerivedCoreProperties.txt); joiners and variation selectors stay
where writing systems and emoji need them (UTS 51, RFC 5892 appendix A).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["can_unicode", "iso", "safe", "safe_block", "shorten", "use_colour", "when", "width"]


# -- hostile text ----------------------------------------------------------------------------


def safe(text: str) -> str:
    """One line that is safe to print; printable ASCII comes back unchanged, and so does the result.

    Line ends become ` ⏎ ` and tabs four spaces. The formatting codes of IRC are removed with their
    digits, as every IRC client does; every other control character stays as its picture.
    """
    if (text.isascii() and text.isprintable()) or _SUSPECT.search(text) is None:
        return text
    return _SUSPECT.sub(_replace, _IRC_FORMAT.sub("", _LINE_END.sub(" ⏎ ", text)))


def safe_block(text: str, indent: int) -> str:
    """Text of several lines, each `safe`; all but the first are indented by so many columns.

    The indentation keeps a message from imitating the line of another message; the first line
    stands behind what the caller prints there.
    """
    return ("\n" + " " * indent).join(safe(line) for line in _LINE_END.split(text))


_LINE_END: Final = re.compile(r"\r*\n")

# Colour (0-99 for text and background), hex colour, bold, reset, monospace, reverse, italics,
# strikethrough, underline: https://modern.ircdocs.horse/formatting
_IRC_FORMAT: Final = re.compile(
    "\x03(?:[0-9]{1,2}(?:,[0-9]{1,2})?)?"
    "|\x04(?:[0-9A-Fa-f]{6}(?:,[0-9A-Fa-f]{6})?)?"
    "|[\x02\x0f\x11\x16\x1d-\x1f]"
)

_SUSPECT: Final = re.compile(
    "["
    # C0, DEL, C1; line and paragraph separator; lone surrogates.
    "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    # Default_Ignorable_Code_Point: soft hyphen, fillers, zero widths, bidirectional controls,
    # variation selectors, tags; and the interlinear annotations FFF9 to FFFB.
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    # Non-characters: 32, and the last two of each plane.
    "\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)

_PICTURES: Final = {chr(code): chr(0x2400 + code) for code in range(0x20)} | {"\x7f": "␡", "\t": "    "}

_JOINING_SCRIPTS: Final = (
    (0x0600, 0x0DFF),  # Arabic, Syriac, N'Ko, Indic
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1700, 0x18AF),  # Philippine, Khmer, Mongolian
    (0x1900, 0x1C4F),  # Tai Tham, Balinese, Sundanese, Lepcha
    (0xA800, 0xABFF),  # Phags-pa, Javanese, Meetei Mayek
    (0xFB50, 0xFDCF),  # Arabic forms
    (0xFE70, 0xFEFC),
    (0x10A00, 0x11FFF),  # Kharoshthi, Brahmi and its descendants
    (0x1E900, 0x1E95F),  # Adlam
)


def _replace(match: re.Match[str]) -> str:
    character, text, at = match[0], match.string, match.start()
    before = text[at - 1] if at else ""
    after = text[at + 1 : at + 2]
    # Neighbours count only if they are never replaced themselves; so the answer stays the same
    # when the text comes back.
    if before and _belongs(text, at, character, before, after):
        return character
    picture = _PICTURES.get(character)
    if picture is not None:
        return picture
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _belongs(text: str, at: int, character: str, before: str, after: str) -> bool:
    """Whether an invisible character does its proper work here, between these neighbours."""
    match character:
        case "\u200c" | "\u200d" if after:
            if _joins(before) and _joins(after):
                return True
            if before == "\ufe0f" and at >= 2:
                before = text[at - 2]
            return character == "\u200d" and _is_emoji(before) and _is_emoji(after)
        case "\ufe0e" | "\ufe0f":
            return _is_emoji(before) or before in "0123456789#*"
        case _ if "\ufe00" <= character <= "\ufe0d":
            return not before.isascii() and unicodedata.category(before) in {"Lo", "Sm"} and _stays(before)
        case _ if "\U000e0100" <= character <= "\U000e01ef":
            return unicodedata.name(before, "").startswith("CJK ")
        case _ if "\u180b" <= character <= "\u180f":
            return "\u1820" <= before <= "\u18aa"
        case _:
            return False


def _joins(character: str) -> bool:
    code = ord(character)
    return (
        any(first <= code <= last for first, last in _JOINING_SCRIPTS)
        and unicodedata.category(character)[0] in "LM"
        and _stays(character)
    )


def _is_emoji(character: str) -> bool:
    code = ord(character)
    return 0x1F000 <= code <= 0x1FAFF or 0x2190 <= code <= 0x2BFF or character in "©®‼⁉™ℹ〰〽㊗㊙"


def _stays(character: str) -> bool:
    return _SUSPECT.match(character) is None


# -- columns ---------------------------------------------------------------------------------


def width(text: str) -> int:
    """Columns that safe text of one line takes on a terminal.

    Terminals differ about emoji; this follows those that draw a joined sequence as one.
    """
    return len(text) if text.isascii() else sum(_steps(text))


def shorten(text: str, columns: int, mark: str = "…") -> str:
    """Safe text of one line, cut to at most so many columns, with a mark where it was cut."""
    if text.isascii() and len(text) <= columns:
        return text
    room = columns - width(mark)
    used = end = 0
    for at, step in enumerate(_steps(text)):
        used += step
        if used <= room:
            end = at + 1
        if used > columns:
            # A joiner belongs between two characters, and the second one is gone.
            return text[:end].rstrip("\u200c\u200d") + mark if room >= 0 else ""
    return text


def _steps(text: str) -> Iterator[int]:
    """How far the cursor moves at each character."""
    before = ""
    for character in text:
        if before == "\u200d" and _is_emoji(character):
            yield 0
        elif character == "\ufe0f":
            yield 2 - _width_of(before) if before and _is_emoji(before) else 0
        elif "\U0001f3fb" <= character <= "\U0001f3ff" and before and _is_emoji(before):
            yield 0
        else:
            yield _width_of(character)
        before = character


@lru_cache(maxsize=4096)
def _width_of(character: str) -> int:
    category = unicodedata.category(character)
    # Format characters that are drawn (Arabic number signs) are the exception.
    if category in {"Mn", "Me", "Cc"} or (category == "Cf" and not _stays(character)):
        return 0
    if "\u1160" <= character <= "\u11ff":  # Hangul vowels and finals stand inside a syllable
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


# -- times -----------------------------------------------------------------------------------

_NO_DATE: Final = "no date"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 24 * 3600 * 1000
_DAYS_IN_400_YEARS: Final = 146_097
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def when(time_ms: int, now_ms: int, tz: tzinfo | None) -> str:
    """A time for a person: `today 14:05`, `Mon 14:05`, `12 May` or `2019-05-12`.

    Args:
        time_ms: Milliseconds since 1970 as its author claims; 0 is unknown.
        now_ms: What is "today".
        tz: Zone to show it in; None is that of this machine.
    """
    if time_ms == 0:
        return _NO_DATE
    try:
        time, now = ((_EPOCH + timedelta(milliseconds=value)).astimezone(tz) for value in (time_ms, now_ms))
    except (OverflowError, ValueError, OSError):
        return _utc_day(time_ms)
    days_ago = now.toordinal() - time.toordinal()
    if 0 <= days_ago < len(_DAYS):
        day = "today" if days_ago == 0 else _DAYS[time.weekday()]
        return f"{day} {time.hour:02}:{time.minute:02}"
    if time.year == now.year:
        return f"{time.day} {_MONTHS[time.month - 1]}"
    return f"{time.year:04}-{time.month:02}-{time.day:02}"


def iso(time_ms: int) -> str:
    """A time in full, in UTC: `2019-05-12T14:05:09.123Z`; after 9999 the year is `+012345`."""
    if time_ms == 0:
        return _NO_DATE
    seconds, milliseconds = divmod(time_ms % _DAY_MS, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{_utc_day(time_ms)}T{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z"


def _utc_day(time_ms: int) -> str:
    # The calendar repeats every 400 years, so any day can be looked up among the first 400.
    cycles, days = divmod(time_ms // _DAY_MS + _EPOCH_DAY - 1, _DAYS_IN_400_YEARS)
    day = date.fromordinal(days + 1)
    year = day.year + 400 * cycles
    shown = f"{year:04}" if 0 <= year <= 9999 else f"{year:+07}"
    return f"{shown}-{day.month:02}-{day.day:02}"


# -- what the terminal can do ----------------------------------------------------------------


def use_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether to colour what goes to this stream: https://no-color.org, https://force-color.org."""
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return env.get("TERM") != "dumb" and not stream.closed and stream.isatty()


def can_unicode(stream: TextIO) -> bool:
    """Whether the stream's encoding has the characters of a drawing."""
    try:
        "●◉◆◈│├╮╯╰╭─┼┊»⏎…␛".encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeError):
        return False
    return True

"""What commands are made of: common options, kinds of arguments, and what they read besides.

Every command takes `--json` and the other common options, so that they work before the verb and
after it. Nothing here imports more than click: `mlog --help` loads this.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from mlog import config, limits
from mlog.cli.output import FORMAT_VERSION, Console
from mlog.errors import InvalidInput, LimitExceeded, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

__all__ = [
    "CONVERSATION",
    "DATE",
    "DURATION",
    "LIMIT",
    "PATH",
    "SINCE",
    "SPAN_OR_OFF",
    "TEXT",
    "UNTIL",
    "Verb",
    "ask_passphrase",
    "common_options",
    "read_passphrase",
    "span_ms",
    "span_text",
    "text_or_stdin",
    "verb",
]

_PASSPHRASE_SIZE_MAX_BYTES: Final = 4 * limits.KIB
"""A passphrase file longer than this is the wrong file."""


# -- commands --------------------------------------------------------------------------------


class Verb(click.Command):
    """One command: it takes the common options too, and its help ends in examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params += common_options()

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's signature, here and below)
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the examples as they are typed."""
        with formatter.section("Examples"):
            for line in self.examples.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")


def verb(name: str, examples: str) -> Callable[[Callable[..., Any]], Verb]:
    """Make a command of a function that takes the Console first."""

    def made(function: Callable[..., Any]) -> Verb:
        return click.command(
            name,
            Verb,
            examples=examples,
            context_settings={"help_option_names": ["-h", "--help"]},
        )(click.pass_obj(function))

    return made


def common_options() -> list[click.Parameter]:
    """The options that every command takes; they change the Console."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_set_json,
            help="Print JSON lines for programs.",
        ),
        click.Option(
            ["--home"],
            type=PATH,
            metavar="FOLDER",
            expose_value=False,
            callback=_set_home,
            help=f"The folder of your logs, instead of {config.HOME_VARIABLE} or the usual place.",
        ),
        click.Option(
            ["--no-colour", "--no-color"],
            is_flag=True,
            expose_value=False,
            callback=_set_colour,
            help="Print without colour.",
        ),
        click.Option(
            ["--format-version"],
            type=int,
            metavar="N",
            expose_value=False,
            callback=_check_format_version,
            help=f"Version of the JSON lines; there is only {FORMAT_VERSION}.",
        ),
    ]


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).json = True


def _set_home(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Console).home_path = value


def _set_colour(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).refuse_colour()


def _check_format_version(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value not in (None, FORMAT_VERSION):
        raise click.BadParameter(f"this mlog prints version {FORMAT_VERSION} only.", ctx, param)


# -- kinds of arguments ----------------------------------------------------------------------


class _Text(click.ParamType[str]):
    """Text; bytes that are no text in the system's encoding are refused."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("not valid text: it has bytes that are not UTF-8.", param, ctx)
        return str(value)


class _Conversation(_Text):
    """A title or the start of one; the shell can complete it."""

    name = "conversation"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Titles that begin like this, of a home that exists."""
        from click.shell_completion import CompletionItem

        from mlog.errors import MlogError

        console = ctx.ensure_object(Console)
        try:
            if not (console.chosen_home() / config.DATABASE_NAME).exists():
                return []
            with console.open_home() as home:
                titles = [conversation.title for conversation in home.conversations()]
        except MlogError:
            return []
        # A title may come from somebody else's file, and the shell reads what is completed again.
        return [
            CompletionItem(title)
            for title in titles
            if title.casefold().startswith(incomplete.casefold()) and re.fullmatch(r"\w[\w.,+@-]*", title)
        ]


class _Path(click.ParamType[Path]):
    """A file or folder; names that are not valid text are fine here."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("the name of a file or folder is empty.", param, ctx)
        if "\0" in str(value):
            self.fail("no file name has a zero byte.", param, ctx)
        return Path(value).expanduser()

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's signature)
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The shell's own completion of file names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class _Limit(click.ParamType[int]):
    """How many; "all" is more than there can be."""

    name = "n|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) or value == "all":
            return value if isinstance(value, int) else limits.SEQ_MAX
        if re.fullmatch(r"[0-9]{1,15}", str(value)) is None or int(value) == 0:
            self.fail(f"{value!r} is neither a number from 1 nor 'all'.", param, ctx)
        return int(value)


_UNITS_S: Final = {"m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
"""A year has 365 days: whole ones, as a window has."""


class _When(click.ParamType[int]):
    """A moment, as milliseconds since 1970.

    Args:
        end_of_day: A date without a time means the end of that day.
    """

    name = "when"

    def __init__(self, *, end_of_day: bool = False):
        self._end_of_day = end_of_day

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = self._moment(str(value).strip())
            return max(0, int(moment.timestamp() * 1000))
        except (ValueError, OverflowError, OSError):
            self._refuse(value, param, ctx)

    def _moment(self, text: str) -> datetime:
        ago = re.fullmatch(r"([0-9]{1,6})\s*(m|min|h|d|w|y)", text.lower())
        if ago is not None:
            return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]])
        moment = datetime.fromisoformat(text)
        if self._end_of_day and re.fullmatch(r"\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(-?\d)?", text):
            moment += timedelta(days=1)
        # Without a zone it is the clock on this person's wall.
        return moment.astimezone()

    def _refuse(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(
            f"{value!r} is no time: give a date (2024-05-12), a time (2024-05-12T14:05), or how long ago "
            "(90m, 12h, 30d, 2w).",
            param,
            ctx,
        )


def span_ms(text: str) -> int:
    """Milliseconds of a span of time such as 12h; 0 where it is none."""
    match = re.fullmatch(r"([0-9]{1,6})\s*(m|min|h|d|w|y)", text.strip().lower())
    return int(match[1]) * _UNITS_S[match[2]] * 1000 if match is not None else 0


class _Duration(click.ParamType[int]):
    """A span of time, in milliseconds."""

    name = "duration"
    _written = "write it as 90m, 12h, 14d or 2w"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        span = span_ms(str(value))
        if not span:
            self.fail(f"{value!r} is no span of time: {self._written}.", param, ctx)
        return span


class _SpanOrOff(_Duration):
    """A span of time in milliseconds, or `off` for 0."""

    name = "duration or off"
    _written = "write it as 90m, 12h, 14d or 2w, or as 'off'"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if str(value).strip().lower() == "off" else super().convert(value, param, ctx)


def span_text(span_ms: int) -> str:
    """A span of time as `DURATION` reads it, in the largest unit that is exact."""
    seconds = span_ms // 1000
    unit = next(unit for unit in ("w", "d", "h", "m") if not seconds % _UNITS_S[unit] or unit == "m")
    return f"{seconds // _UNITS_S[unit]}{unit}"


class _Date(click.ParamType[date]):
    """A day."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no date: write it as 2024-05-12.", param, ctx)


TEXT: Final = _Text()
CONVERSATION: Final = _Conversation()
PATH: Final = _Path()
LIMIT: Final = _Limit()
SINCE: Final = _When()
UNTIL: Final = _When(end_of_day=True)
DATE: Final = _Date()
DURATION: Final = _Duration()
SPAN_OR_OFF: Final = _SpanOrOff()


# -- what else a command reads ---------------------------------------------------------------


def text_or_stdin(text: str) -> str:
    """The text of a message; `-` reads it from standard input.

    Raises:
        LimitExceeded: More than TEXT_SIZE_MAX_BYTES; no more was read.
        InvalidInput: Not UTF-8.
    """
    if text != "-":
        return text
    return _read_stdin(limits.TEXT_SIZE_MAX_BYTES, "a message").removesuffix("\n").removesuffix("\r")


def _read_stdin(size_max_bytes: int, what: str) -> str:
    if sys.stdin is None:
        raise UserError("there is no standard input to read.")
    data = sys.stdin.buffer.read(size_max_bytes + 1)
    return _decoded(data, size_max_bytes, what, "standard input")


def _decoded(data: bytes, size_max_bytes: int, what: str, source: str) -> str:
    if len(data) > size_max_bytes:
        raise LimitExceeded(f"longer than {what} may be: {size_max_bytes:,} bytes", source=source)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"byte {error.start + 1:,} is not UTF-8. Save the text as UTF-8 and try again.", source=source
        ) from None


def read_passphrase(file: Path | None) -> str | None:
    """The passphrase in a file (`-`: on standard input), or in the one that the environment names.

    Returns:
        Its first line; None where no file was named.

    Raises:
        UserError: It cannot be read, or is empty.
    """
    if file is None:
        named = os.environ.get(config.PASSPHRASE_VARIABLE)
        if not named:
            return None
        file = Path(named).expanduser()
    if str(file) == "-":
        text = _read_stdin(_PASSPHRASE_SIZE_MAX_BYTES, "a passphrase")
    else:
        try:
            with file.open("rb") as stream:
                data = stream.read(_PASSPHRASE_SIZE_MAX_BYTES + 1)
        except OSError as error:
            raise UserError(f"{file}: the passphrase cannot be read: {error.strerror or error}") from None
        text = _decoded(data, _PASSPHRASE_SIZE_MAX_BYTES, "a passphrase", str(file))
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise UserError(f"{file}: the first line is empty, and it should be the passphrase.")
    return lines[0]


def ask_passphrase(*, twice: bool, prompt: str = "Passphrase") -> str:
    """The passphrase that a person types, unseen.

    Raises:
        UserError: Nobody sits at a terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(
            "a passphrase is needed, and nobody is here to type it. Put it in a file and name that with "
            f"--passphrase-file FILE or {config.PASSPHRASE_VARIABLE}."
        )
    return click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)

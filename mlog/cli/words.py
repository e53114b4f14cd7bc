"""Words of the list that a person types: the shell completes them, and so does Tab where they are asked for.

What is typed at a prompt here is a secret: it is in no history, and on no command line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mlog import limits
from mlog.cli.options import TEXT
from mlog.errors import InvalidInput, UserError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mlog.cli.output import Console

__all__ = ["Words", "can_ask", "piped_words", "typed_words"]


class Words(click.ParamType[str]):
    """Words of the list; the shell can complete them."""

    name = "words"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return TEXT.convert(value, param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's signature)
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Words that begin like this."""
        from click.shell_completion import CompletionItem

        from mlog.log.phrase import completions

        return [CompletionItem(word) for word in completions(incomplete)] if incomplete else []


def can_ask() -> bool:
    """Whether somebody is here to be asked."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def piped_words(what: str) -> str:
    """What stands on standard input.

    Args:
        what: It is called so.

    Raises:
        InvalidInput: It is no text.
        UserError: It is empty.
    """
    stream = sys.stdin
    data = b"" if stream is None else stream.buffer.read(limits.PAIRING_TEXT_SIZE_MAX_BYTES + 1)
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise InvalidInput(f"the {what} is no text", source="standard input") from None
    if not text:
        raise UserError(f"a {what} is needed, and nobody is here to type it. Give it on standard input.")
    return text


def typed_words(console: Console, prompt: str) -> str:
    """One line from the terminal; Tab completes the words, and no history keeps it."""
    if not console.is_terminal:
        console.note(prompt)
        return sys.stdin.readline(limits.PAIRING_TEXT_SIZE_MAX_BYTES + 1).strip()
    try:
        import readline
    except ImportError:
        return input(prompt).strip()
    from mlog.log.phrase import completions

    before = readline.get_completer()
    readline.set_auto_history(False)
    readline.set_completer_delims(" -")
    readline.set_completer(lambda start, n: dict(enumerate(f"{w} " for w in completions(start))).get(n))
    # The editor of macOS has a language of its own.
    readline.parse_and_bind(
        "bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete"
    )
    try:
        return input(prompt).strip()
    finally:
        readline.set_completer(before)

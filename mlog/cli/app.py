"""The table of commands, and what `mlog` alone does.

A command's module is loaded when the command runs; for `--help` all are, and they import nothing
heavy until a command is called (tests/cli/test_app.py). A word that is no command of mlog is looked for
on the PATH as `mlog-WORD` (mlog/cli/outside.py); the PATH is read only then, and for help.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import TEXT, common_options, verb
from mlog.cli.output import Console
from mlog.cli.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "app"]

_SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Write": {
        "new": "writing",
        "send": "writing",
        "edit": "writing",
        "react": "writing",
        "erase": "writing",
        "title": "writing",
        "expire": "writing",
    },
    "Read": {
        "log": "reading",
        "tail": "reading",
        "search": "reading",
        "show": "reading",
        "read": "noting",
    },
    "For yourself": {
        "label": "noting",
        "pin": "noting",
        "unpin": "noting",
        "mute": "noting",
        "unmute": "noting",
        "draft": "noting",
        "settings": "noting",
    },
    "Other programs' chats": {
        "import": "transfer",
        "export": "transfer",
        "attachments": "files",
        "save": "files",
        "people": "people",
    },
    "People": {
        "invite": "pairing",
        "accept": "pairing",
        "contacts": "contacts",
        "members": "members",
        "add": "members",
        "remove": "members",
        "leave": "members",
    },
    "Your devices": {
        "pair": "pairing",
        "recovery": "recovery",
        "recover": "recovery",
        "sync": "serving",
        "serve": "serving",
        "service": "serving",
        "trust": "trust",
        "devices": "devices",
        "window": "windows",
        "prune": "windows",
    },
    "Care for your log": {
        "verify": "care",
        "gaps": "care",
        "status": "proving",
        "why": "proving",
        "diff": "proving",
        "backup": "safekeeping",
        "restore": "safekeeping",
        "doctor": "care",
        "keys": "keys",
        "path": "safekeeping",
    },
    "Get to know mlog": {
        "demo": "demo",
        "completion": "safekeeping",
        "help": "app",
    },
}
"""For each command the module in mlog.cli that has it, as a function of the same name."""

COMMANDS: Final[Mapping[str, str]] = {
    name: module for section in _SECTIONS.values() for name, module in section.items()
}


_TAKEN: Final = ("import", "help")
"""Words that Python takes for something else: their functions have an underscore more."""


class _App(click.Group):
    """Loads commands late, lists them by use, and says what an unknown one may have meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands of mlog, then those on the PATH."""
        from click.shell_completion import CompletionItem

        from mlog.cli import outside

        names = [name for name in outside.found() if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *map(CompletionItem, names)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return self._outside(cmd_name)
        name = f"{cmd_name}_" if cmd_name in _TAKEN else cmd_name
        command = getattr(importlib.import_module(f"mlog.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def _outside(self, name: str) -> click.Command | None:
        from mlog.cli import outside

        program = outside.find(name)
        return None if program is None else outside.command(name, program)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = args[0] in COMMANDS or args[0].startswith("-") or ctx.resilient_parsing
        if not known and self._outside(args[0]) is None:
            raise click.exceptions.NoSuchCommand(
                args[0],
                f"there is no command {args[0]!r}; 'mlog --help' lists them all.",
                possibilities=COMMANDS,
                ctx=ctx,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in _SECTIONS.items():
            with formatter.section(section):
                rows: list[tuple[str, str]] = []
                for name in names:
                    command = self.get_command(ctx, name)
                    assert command is not None
                    rows.append((name, command.get_short_help_str(70)))
                formatter.write_dl(rows)
        from mlog.cli import outside

        if names := outside.found():
            with formatter.section("Programs on your PATH"):
                formatter.write_text(", ".join(map(safe, names)))


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        ctx.ensure_object(Console).line(f"mlog {version('mlog-sync')}")
        ctx.exit()


@click.group(
    "mlog",
    _App,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 you can fix it, 2 wrong usage, 3 peer or network, 4 verification failed, "
    "5 busy, 6 store or disk failed, 130 interrupted.",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """A personal message log that can prove itself whole.

    Alone it lists your conversations. CONVERSATION is a title or the start of one, ENTRY the first
    digits of an id, as 'log' and 'search' show them.
    """
    if ctx.invoked_subcommand is None:
        from mlog.cli.reading import overview

        overview(ctx.ensure_object(Console))


app.params += [
    *common_options(),
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print the version.",
    ),
]


def _complete_word(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return app.shell_complete(ctx.parent or ctx, incomplete)


@verb(
    "help",
    """mlog help
    mlog help send""",
)
@click.argument("command", type=TEXT, required=False, shell_complete=_complete_word)
@click.pass_context
def help_(ctx: click.Context, _: Console, command: str | None) -> None:
    """Show what mlog can do, or how one command is used.

    The same as 'mlog --help' and 'mlog COMMAND --help'.
    """
    if command is None:
        app.make_context("mlog", ["--help"])
        return
    found = app.resolve_command(ctx, [command])[1]
    assert found is not None
    with found.make_context(command, ["--help"], parent=ctx.parent) as asked:
        # Only a program that is not mlog's own comes this far: it has help of its own.
        found.invoke(asked)

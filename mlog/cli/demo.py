"""`mlog demo`: what mlog is for, on a sample conversation, with every claim checked as it is made.

It runs the commands that a person would type, in a temporary folder, without a network. One bit of a
stored text and one of a header are flipped in a copy, and mlog has to name both.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlog import config
from mlog.cli.options import verb
from mlog.cli.terminal import can_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlog.cli.output import Console

__all__ = ["demo"]

_SAMPLE: Final = """\
[2026-05-08 18:02:11] <mara> who is in for the hut weekend, 12 to 14 June?
[2026-05-08 18:02:54] <tomasz> me! the one above the lake?
[2026-05-08 18:03:20] <mara> yes, it has eight beds and a stove
[2026-05-08 18:04:02] *** Joins: ines (ines@example.org)
[2026-05-08 18:04:31] <ines> count me in, I only read half of it
[2026-05-08 18:05:03] <mara> hut weekend, 12 to 14 June, above the lake
[2026-05-08 18:05:40] <ines> 12 June I work until four
[2026-05-08 18:06:15] <tomasz> then we take the 17:20 train together
[2026-05-08 18:06:58] * ines dances
[2026-05-08 18:08:12] <kofi> can I bring the dog?
[2026-05-08 18:08:44] <mara> let me ask the warden
[2026-05-08 18:10:02] <tomasz> who brings the big tent, in case?
[2026-05-08 18:10:31] <kofi> I have one, three people and a dog
[2026-05-08 18:11:20] <ines> food: I do Saturday evening
[2026-05-08 18:11:49] <tomasz> 馬鈴薯湯 again? please!
[2026-05-08 18:12:10] <ines> potato soup it is
[2026-05-08 18:14:33] <kofi> breakfast is mine, with far too much coffee
[2026-05-08 18:15:01] <mara> warden says: dogs yes, but not on the beds
[2026-05-08 18:15:09] <kofi> he takes that personally
[2026-05-08 18:15:10] <kofi> ok
"""
_SAMPLE_LATER: Final = """\
[2026-05-09 09:30:27] <mara> booked! the code for the key box comes by letter
[2026-05-09 09:31:02] <ines> hurray
[2026-05-09 09:31:02] <kofi> hurray
[2026-05-09 09:44:19] <tomasz> I keep the list, and mlog keeps us honest
[2026-05-09 09:45:00] <ines> see you at the 17:20
"""
_LINKS: Final = "0 1 -\n1 2 -\n0 4 -\n4 5 -\n5 6 -\n6 7 -\n9 10 -\n11 12 -\n13 14 -\n14 15 -\n9 17 -\n"
"""Line numbers from 0: the later line of each pair answers the earlier."""

_CHANNEL: Final = "#hut"
_WIDTH: Final = 76


@verb("demo", "mlog demo")
def demo(console: Console) -> None:
    """See mlog at work on a sample conversation, in seconds.

    It writes to a temporary folder only. Each claim is checked as it is made; exits non-zero if one
    does not hold.
    """
    import tempfile

    console.interrupted = "interrupted. The demo wrote to a temporary folder only, and that is gone."
    with tempfile.TemporaryDirectory(prefix="mlog-demo-", ignore_cleanup_errors=True) as folder:
        _Demo(console, Path(folder)).run()


class _Demo:
    def __init__(self, console: Console, folder: Path):
        self._console = console
        self._folder = folder
        self._home = folder / "home"
        self._steps = 0
        self._failed = 0

    def run(self) -> None:
        from mlog import api

        api.open(self._home, person="you").close()
        self._import()
        self._write()
        self._import_longer()
        self._graph()
        self._search()
        self._verify()
        self._damage()
        self._take_along()
        self._say("")
        if self._failed:
            self._say(self._console.bad(f"{self._failed} checks failed."))
            self._console.exit_code = 1
        else:
            self._say(
                "Every check holds. Next: 'mlog new TITLE', or 'mlog import FILE' with a chat of yours."
            )

    # -- the steps ---------------------------------------------------------------------------

    def _import(self) -> None:
        self._title("Bring a chat along", "Four friends planned a weekend on IRC. mlog reads the log of it.")
        chat = self._file("#hut.log", _SAMPLE)
        links = self._file("#hut.links", _LINKS)
        lines = _SAMPLE.count("\n")
        _, report = self._show("import", chat, "--links", links)
        self._check("every line became a message", f"{lines} new" in report and "skipped" not in report)
        replies = sum(bool(message["reply_to"]) for message in self._json("log", _CHANNEL))
        self._check(
            f"{replies} of them answer another, as the links file says", replies == _LINKS.count("\n")
        )
        _, again = self._show("import", chat)
        self._check("the same file again adds nothing", f"0 new, {lines} already known" in again)

    def _write(self) -> None:
        self._title("Write", "Your own messages are signed with the key that was made for you.")
        _, id_ = self._show("send", _CHANNEL, "room for one more?")
        code, _ = self._show("send", _CHANNEL, "--reply-to", id_.strip(), "I can sleep in the tent")
        self._check("both are on the disk", code == 0)

    def _import_longer(self) -> None:
        self._title("Import a longer export", "The chat went on elsewhere: only what is new is added.")
        chat = self._file("#hut.log", _SAMPLE + _SAMPLE_LATER)
        _, report = self._show("import", chat)
        new, known = _SAMPLE_LATER.count("\n"), _SAMPLE.count("\n")
        self._check("new lines and known ones are told apart", f"{new} new, {known} already known" in report)
        twins = [m for m in self._json("log", _CHANNEL) if m["text"] == "hurray"]
        self._check("two people who say the same in one second are two messages", len(twins) == 2)

    def _graph(self) -> None:
        self._title(
            "See how it hangs together",
            "Each entry names the ones before it by their hash. What you wrote and the lines that follow in",
            "the file branch off from one line of it; the next entry joins them.",
        )
        _, drawing = self._show("log", _CHANNEL, "--graph")
        merges, heads = (re.findall(rf"^\W*?[{signs}] ", drawing, re.MULTILINE) for signs in ("◆◈oO", "◉◈@O"))
        self._check("the drawing has a merge, where both sides are joined", len(merges) >= 1)
        self._check("and one head, the newest entry", len(heads) == 1)

    def _search(self) -> None:
        self._title("Find", "Every word is in an index, in any script.")
        _, tents = self._show("search", "tent")
        self._check("two messages speak of a tent", len(tents.splitlines()) == 2)
        soup = "鈴薯"
        self._check(
            "a word inside a Chinese sentence is found",
            [message["author"] for message in self._json("search", soup)] == ["tomasz"],
        )

    def _verify(self) -> None:
        self._title("Prove it whole", "Each header, text, link and signature is checked against its hash.")
        code, _ = self._show("verify", "--signatures")
        self._check("nothing is damaged or missing", code == 0)

    def _damage(self) -> None:
        self._title(
            "Notice damage",
            "In a copy of your home one bit of a text and one bit of a header are flipped behind",
            "mlog's back, as a failing disk would do.",
        )
        import shutil

        copy = self._folder / "damaged-copy"
        shutil.copytree(self._home, copy)
        text = self._json("search", "warden says")[0]
        header = self._json("search", "17:20 train")[0]
        _flip_bits(copy / config.DATABASE_NAME, text["id"], header["id"])
        code, report = self._show("verify", home=copy)
        self._check("verification fails, with exit code 4", code == 4)
        found = [line for line in self._json("verify", home=copy) if line["type"] == "finding"]
        for what, message, part in (("text", text, "body"), ("header", header, "entry")):
            named = [f for f in found if f["id"] == message["id"] and f["part"] == part]
            right = [
                f
                for f in named
                if (f["conversation"], f["time"], f["author"])
                == (_CHANNEL, message["time"], message["author"])
                and f["seq"] is not None
                and f"position {f['seq']}" in report
            ]
            self._check(f"the damaged {what} is named: conversation, time, author, position", len(right) == 1)
        self._check("and nothing else is blamed", {f["id"] for f in found} == {text["id"], header["id"]})
        shown = self._json("search", "warden*", home=copy)
        self._check(
            "the changed text is not shown as hers",
            all("dogs yes" not in message["text"] for message in shown),
        )
        self._check("from now on it is listed as a gap", self._run("gaps", "--check", home=copy)[0] == 4)
        self._check("the original is still whole", self._run("verify")[0] == 0)

    def _take_along(self) -> None:
        self._title("Leave whenever you like", "All of it goes into one file of JSON lines, and comes back.")
        first, second = self._folder / "hut.jsonl", self._folder / "hut-again.jsonl"
        self._show("export", _CHANNEL, "--output", first)
        other = self._folder / "other-home"
        self._show("import", first, home=other)
        self._show("export", _CHANNEL, "--output", second, home=other)
        same = first.exists() and second.exists() and first.read_bytes() == second.read_bytes()
        self._check("exported from an empty home that read it, it is the same byte for byte", same)

    # -- telling -----------------------------------------------------------------------------

    def _title(self, title: str, *explained: str) -> None:
        self._steps += 1
        rule = "─" if self._console.unicode else "-"
        head = f"{rule * 2} {self._steps}. {title} "
        self._say("\n" + self._console.bold(head + rule * (_WIDTH - len(head))))
        for line in explained:
            self._say(line)

    def _check(self, claim: str, holds: bool) -> None:
        self._failed += not holds
        if self._console.json:
            fields = {"name": claim, "ok": holds, "detail": f"step {self._steps}", "advice": ""}
            self._console.record("check", fields)
        self._say(f"  {self._console.mark(ok=holds)} {claim}")

    def _say(self, text: str) -> None:
        if not self._console.json:
            self._console.line(text)

    # -- doing -------------------------------------------------------------------------------

    def _file(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text, encoding="utf-8", newline="\n")
        return path

    def _show(self, *arguments: str | Path, home: Path | None = None) -> tuple[int, str]:
        """Run a command as a person would type it, and show both."""
        shown = [str(part.name) if isinstance(part, Path) else part for part in arguments]
        quoted = " ".join(part if part.isascii() and " " not in part else f"'{part}'" for part in shown)
        of_home = f"--home {home.name} " if home is not None else ""
        code, printed = self._run(*arguments, home=home)
        self._say(self._console.dim(f"$ mlog {of_home}{quoted}".replace(" #", r" \#")))
        for line in printed.splitlines():
            self._say(f"  {line}")
        return code, printed

    def _json(self, *arguments: str | Path, home: Path | None = None) -> list[dict[str, Any]]:
        import json

        _, printed = self._run("--json", *arguments, home=home)
        return [json.loads(line) for line in printed.splitlines()]

    def _run(self, *arguments: str | Path, home: Path | None = None) -> tuple[int, str]:
        """Exit code and output of a command."""
        from mlog.cli.main import main

        words: Sequence[str] = ["--home", str(home or self._home), *map(str, arguments)]
        encoding = "utf-8" if sys.stdout is None or can_unicode(sys.stdout) else "ascii"
        # JSON lines are UTF-8 whatever the terminal has.
        if "--json" in words:
            encoding = "utf-8"
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding, errors="backslashreplace", newline="\n")
        with redirect_stdout(stream), redirect_stderr(stream):
            code = main(words)
            stream.flush()
        if code == 130:
            raise KeyboardInterrupt
        return code, raw.getvalue().decode(encoding)


def _flip_bits(database: Path, text_id: str, header_id: str) -> None:
    """Change the lowest bit of a letter in one stored text, and of a byte in one stored header."""
    import sqlite3

    text, header = bytes.fromhex(text_id), bytes.fromhex(header_id)
    db = sqlite3.connect(database)
    try:
        with db:
            n, body = db.execute(
                "SELECT n, CAST(body AS BLOB) FROM bodies JOIN entries USING (n) WHERE id = ?",
                (text,),
            ).fetchone()
            at = body.index(b"dogs yes")
            db.execute("UPDATE bodies SET body = CAST(? AS TEXT) WHERE n = ?", (_flipped(body, at), n))
            n, tail = db.execute(
                "SELECT n, tail FROM entries WHERE id = ?", (bytes.fromhex(header_id),)
            ).fetchone()
            db.execute("UPDATE entries SET tail = ? WHERE id = ?", (_flipped(tail, len(tail) // 2), header))
    finally:
        db.close()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

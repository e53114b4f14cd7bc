"""The first half of `mlog demo`: a sample conversation on one device, and what mlog does with it.

It runs the commands that a person would type, without a network. One bit of a stored text and one of
a header are flipped in a copy, and mlog has to name both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mlog import config
from mlog.cli.demo_stage import flip_bits

if TYPE_CHECKING:
    from mlog.cli.demo_stage import Stage

__all__ = ["OneDevice"]

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


class OneDevice:
    """A conversation on one device: imported, written to, searched, proved, taken along."""

    def __init__(self, stage: Stage):
        self._stage = stage

    def run(self) -> None:
        from mlog import api

        api.open(self._stage.home, person="you").close()
        self._import()
        self._write()
        self._import_longer()
        self._graph()
        self._search()
        self._verify()
        self._damage()
        self._take_along()

    # -- the steps ---------------------------------------------------------------------------

    def _import(self) -> None:
        self._stage.title(
            "Bring a chat along", "Four friends planned a weekend on IRC. mlog reads the log of it."
        )
        chat = self._stage.file("#hut.log", _SAMPLE)
        links = self._stage.file("#hut.links", _LINKS)
        lines = _SAMPLE.count("\n")
        _, report = self._stage.show("import", chat, "--links", links)
        self._stage.check("every line became a message", f"{lines} new" in report and "skipped" not in report)
        replies = sum(bool(message["reply_to"]) for message in self._stage.json("log", _CHANNEL))
        self._stage.check(
            f"{replies} of them answer another, as the links file says", replies == _LINKS.count("\n")
        )
        _, again = self._stage.show("import", chat)
        self._stage.check("the same file again adds nothing", f"0 new, {lines} already known" in again)

    def _write(self) -> None:
        self._stage.title("Write", "Your own messages are signed with the key that was made for you.")
        _, id_ = self._stage.show("send", _CHANNEL, "room for one more?")
        code, _ = self._stage.show("send", _CHANNEL, "--reply-to", id_.strip(), "I can sleep in the tent")
        self._stage.check("both are on the disk", code == 0)

    def _import_longer(self) -> None:
        self._stage.title("Import a longer export", "The chat went on elsewhere: only what is new is added.")
        chat = self._stage.file("#hut.log", _SAMPLE + _SAMPLE_LATER)
        _, report = self._stage.show("import", chat)
        new, known = _SAMPLE_LATER.count("\n"), _SAMPLE.count("\n")
        self._stage.check(
            "new lines and known ones are told apart", f"{new} new, {known} already known" in report
        )
        twins = [m for m in self._stage.json("log", _CHANNEL) if m["text"] == "hurray"]
        self._stage.check("two people who say the same in one second are two messages", len(twins) == 2)

    def _graph(self) -> None:
        self._stage.title(
            "See how it hangs together",
            "Each entry names the ones before it by their hash. What you wrote and the lines that follow in",
            "the file branch off from one line of it; the next entry joins them.",
        )
        _, drawing = self._stage.show("log", _CHANNEL, "--graph")
        merges, heads = (re.findall(rf"^\W*?[{signs}] ", drawing, re.MULTILINE) for signs in ("◆◈oO", "◉◈@O"))
        self._stage.check("the drawing has a merge, where both sides are joined", len(merges) >= 1)
        self._stage.check("and one head, the newest entry", len(heads) == 1)

    def _search(self) -> None:
        self._stage.title("Find", "Every word is in an index, in any script.")
        _, tents = self._stage.show("search", "tent")
        self._stage.check("two messages speak of a tent", len(tents.splitlines()) == 2)
        soup = "鈴薯"
        self._stage.check(
            "a word inside a Chinese sentence is found",
            [message["author"] for message in self._stage.json("search", soup)] == ["tomasz"],
        )

    def _verify(self) -> None:
        self._stage.title(
            "Prove it whole", "Each header, text, link and signature is checked against its hash."
        )
        code, _ = self._stage.show("verify", "--signatures")
        self._stage.check("nothing is damaged or missing", code == 0)

    def _damage(self) -> None:
        self._stage.title(
            "Notice damage",
            "In a copy of your home one bit of a text and one bit of a header are flipped behind",
            "mlog's back, as a failing disk would do.",
        )
        import shutil

        copy = self._stage.folder / "damaged-copy"
        shutil.copytree(self._stage.home, copy)
        text = self._stage.json("search", "warden says")[0]
        header = self._stage.json("search", "17:20 train")[0]
        flip_bits(copy / config.DATABASE_NAME, text["id"], header["id"])
        code, report = self._stage.show("verify", home=copy)
        self._stage.check("verification fails, with exit code 4", code == 4)
        found = [line for line in self._stage.json("verify", home=copy) if line["type"] == "finding"]
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
            self._stage.check(
                f"the damaged {what} is named: conversation, time, author, position", len(right) == 1
            )
        self._stage.check(
            "and nothing else is blamed", {f["id"] for f in found} == {text["id"], header["id"]}
        )
        shown = self._stage.json("search", "warden*", home=copy)
        self._stage.check(
            "the changed text is not shown as hers",
            all("dogs yes" not in message["text"] for message in shown),
        )
        self._stage.check(
            "from now on it is listed as a gap", self._stage.run("gaps", "--check", home=copy)[0] == 4
        )
        self._stage.check("the original is still whole", self._stage.run("verify")[0] == 0)

    def _take_along(self) -> None:
        self._stage.title(
            "Leave whenever you like", "All of it goes into one file of JSON lines, and comes back."
        )
        first, second = self._stage.folder / "hut.jsonl", self._stage.folder / "hut-again.jsonl"
        self._stage.show("export", _CHANNEL, "--output", first)
        other = self._stage.folder / "other-home"
        self._stage.show("import", first, home=other)
        self._stage.show("export", _CHANNEL, "--output", second, home=other)
        same = first.exists() and second.exists() and first.read_bytes() == second.read_bytes()
        self._stage.check("exported from an empty home that read it, it is the same byte for byte", same)

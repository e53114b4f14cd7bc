"""The second half of `mlog demo`: two devices of one person, each a real process on this machine.

They are joined, one is cut off in the middle of a transfer, both write apart, one is damaged; and
each time mlog says what is missing, who has it, and what it took to be equal again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from mlog import config
from mlog.cli.demo_stage import flip_bits

if TYPE_CHECKING:
    from mlog.cli.demo_stage import Process, Stage

__all__ = ["TwoDevices"]

_CHAT: Final = "#weather"
_MESSAGES: Final = 3_000
_BUNDLE: Final = 500
_STATIONS: Final = ("harbour", "hilltop", "lake", "mill")
_SKIES: Final = ("clear", "mist", "rain", "thunder, stay inside", "first snow", "wind from the west")


class TwoDevices:
    """A desktop that serves, and a phone that comes and goes."""

    def __init__(self, stage: Stage):
        self._stage = stage
        self._desktop = stage.home
        self._phone = stage.folder / "phone"

    def run(self) -> None:
        port = self._free_port()
        self._join(port)
        command = ("serve", "--host", "127.0.0.1", "--port", str(port), "--no-discovery")
        with self._stage.start(*command, home=self._desktop) as service:
            ready = service.wait_for(lambda line: line["type"] == "serving") is not None
            self._stage.check("the desktop serves, a process of its own", ready)
            self._first_sync()
            self._cut()
            self._write_apart()
            self._damage()

    def _free_port(self) -> int:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            return server.getsockname()[1]

    # -- the steps ---------------------------------------------------------------------------

    def _join(self, port: int) -> None:
        stage = self._stage
        stage.title(
            "Join a second device",
            "A phone, here another folder, becomes one of yours. Each device exports a file and imports",
            "the other one's; the files hold no secret.",
        )
        stage.show("trust", "export", stage.folder / "desktop.trust", "--address", f"127.0.0.1:{port}")
        stage.show("trust", "export", stage.folder / "phone.trust", home=self._phone)
        stage.show("trust", "import", stage.folder / "phone.trust")
        code, _ = stage.show("trust", "import", stage.folder / "desktop.trust", home=self._phone)
        stage.check("each knows the other", code == 0)

    def _first_sync(self) -> None:
        stage = self._stage
        stage.title(
            "Sync", "The phone asks for what it lacks, which is everything; then both compare hashes."
        )
        code, _ = stage.show("sync", home=self._phone)
        stage.check("both devices hold the same, and signed that they do", code == 0)
        stage.check("the phone shows the conversation as the desktop does", self._same("#hut"))
        round_ = self._sync()
        cost = round_["received_bytes"] + round_["sent_bytes"]
        stage.check(
            f"asked again: {cost:,} bytes and one round trip, and nothing is missing",
            round_["round_trips"] == 1,
        )

    def _cut(self) -> None:
        stage = self._stage
        stage.title(
            "Cut off in the middle",
            f"The desktop gets a chat of {_MESSAGES:,} messages. While they come, the phone loses its power",
            "(kill -9).",
        )
        stage.show("import", stage.file("#weather.log", _weather()))
        with stage.start("serve", "--phone", "--no-discovery", home=self._phone) as phone:
            came = self._stored(phone)
            phone.stop(at_once=True)
        held = self._held()
        stage.check(f"{held:,} of {_MESSAGES:,} messages are on the phone", 0 < held < _MESSAGES)
        stage.check("no entry that it had confirmed is lost", self._entries() >= came)
        _, report = stage.show("gaps", _CHAT, home=self._phone)
        stage.check(
            "it knows that entries are missing, and that the desktop has them", "not yet fetched" in report
        )
        round_ = self._sync()
        got = sum(log["received"] for log in round_["logs"])
        stage.check(f"it goes on where it was cut: {got:,} more come", self._held() == _MESSAGES)
        stage.check("what came before is not sent again beyond one bundle", held + got <= _MESSAGES + 1_100)
        bytes_each = round_["received_bytes"] / max(got, 1)
        stage.check(
            f"{bytes_each:.0f} bytes for each, {round_['round_trips']} round trips, and the roots agree",
            all(log["state"] == "in sync" for log in round_["logs"]),
        )

    def _write_apart(self) -> None:
        stage = self._stage
        stage.title(
            "Write on both while they are apart", "Neither waits for the other; the graph joins them."
        )
        stage.show("send", "#hut", "the desktop says: bring a torch")
        stage.show("send", "#hut", "the phone says: two, one is broken", home=self._phone)
        code, _ = stage.show("sync", home=self._phone)
        texts = [message["text"] for message in stage.json("log", "#hut")]
        both = sum("bring a torch" in text or "one is broken" in text for text in texts)
        stage.check("both devices show both messages", code == 0 and both == 2 and self._same("#hut"))

    def _damage(self) -> None:
        stage = self._stage
        stage.title(
            "Damage the phone, and heal it",
            "One bit of a text and one of a header are flipped on the phone's disk.",
        )
        text, header = stage.json("log", _CHAT, "--limit", "2", home=self._phone)
        flip_bits(self._phone / config.DATABASE_NAME, text["id"], header["id"])
        code, _ = stage.show("verify", home=self._phone)
        stage.check("the phone notices, with exit code 4", code == 4)
        code, _ = stage.show("verify", "--repair", home=self._phone)
        stage.check("it fetches both from the desktop, and is whole again", code == 0)
        stage.check("the texts are the ones that were written", self._same(_CHAT))
        code, _ = stage.show("status", _CHAT, home=self._phone)
        stage.check("and it can prove it: in sync, with the desktop's signature", code == 0)

    # -- looking -----------------------------------------------------------------------------

    def _sync(self) -> dict[str, Any]:
        """One round of the phone, as its report tells it."""
        lines = self._stage.json("sync", home=self._phone)
        return next(line for line in lines if line["type"] == "synced")

    def _stored(self, phone: Process) -> int:
        """How many entries the phone says it has, when the first bundle of the chat is on its disk."""
        line = phone.wait_for(lambda line: line.get("what") == "stored" and line["count"] >= _BUNDLE)
        return line["count"] if line is not None else 0

    def _held(self) -> int:
        return len(self._stage.json("log", _CHAT, "--limit", "all", home=self._phone))

    def _entries(self) -> int:
        """How many entries of the chat are on the phone."""
        records = self._stage.json("status", _CHAT, home=self._phone)
        return next(record["entries"] for record in records if record["type"] == "status")

    def _same(self, conversation: str) -> bool:
        """Both devices show the same messages in the same order."""
        shown = [
            [(m["id"], m["author"], m["text"]) for m in self._stage.json("log", conversation, home=home)]
            for home in (self._desktop, self._phone)
        ]
        return bool(shown[0]) and shown[0] == shown[1]


def _weather() -> str:
    """A chat of the last days, a message every few minutes, made here."""
    start_s = int(time.time()) - 20 * 86_400
    lines: list[str] = []
    for n in range(_MESSAGES):
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start_s + n * 280))
        sky = _SKIES[n * 7 // 5 % len(_SKIES)]
        lines.append(f"[{stamp}] <{_STATIONS[n % 4]}> {sky}, {n * 37 % 31 - 6} degrees, reading {n}\n")
    return "".join(lines)

"""What commands print: data on standard output, everything else on standard error.

Data are lines for people, or with `--json` JSON lines for programs: UTF-8, one object a line, each
with a `type` and exactly the fields of that type. This is format version 1 (`--format-version`);
a field that goes away or changes its meaning makes a new version.

    type          fields
    conversation  topic title latest unread pinned muted labels ended ended_by ended_at
    health        ok conversations gaps detail
    written       id kind topic conversation
    noted         topic conversation pinned muted labels drafts
    setting       name on
    expiry        topic conversation after_s
    message       id message_id topic conversation kind author claimed device time text reply_to
                  edited erased absent closed damage reactions attachments
    entry         id topic conversation kind author device incarnation seq prev parents time week
                  imported signed head state outer_size body_size body damage
    source        id format name file_hash position
    imported      file topic conversation created new known erased messages events replies attachments
                  attachments_absent people first last same unsure unsure_at dry_run
    skipped       file part position reason
    person        name named identities names conversations messages first last
    alike         one other reason
    split         identity
    import        file format new known erased messages events replies attachments attachments_absent
                  skipped same unsure dry_run
    attachment    id name media_type size hash state topic conversation of
    saved         id name media_type size hash file
    keys          protection file database
    exported      file topic conversation format size damaged
    finding       topic conversation id part reason detail author seq time
    verified      entries findings signatures ok
    gap           topic conversation id part reason is_gap detail author seq last week time since
                  named_by holders
    healed        topic conversation id part reason is_gap detail author seq last week time since
                  named_by holders
    repaired      entries healed left sources search_rebuilt reason ok
    compared      topic conversation device name shared equal here_only there_only
    difference    topic conversation device name id where author time text
    seen          id topic conversation device name person read time
    why           topic conversation id message_id here kind author claimed device incarnation seq time
                  week arrival authentic vouched_by damage rank pushed_by parents absent_parents shown by
                  reason forked holders seen missing explanation
    status        topic conversation kind entries bodies messages chains heads root gaps closed proven
                  ended ended_by ended_at
    copy          topic conversation device name state here_lacks there_lacks exact weeks
                  first_missing detail bodies keeps_from seen compared proven expires
    calendar      topic conversation device name here weeks
    twin          device name here
    path          name path
    backup        file
    restored      file home
    check         name ok detail advice
    trust_file    file
    trusted       device name person outcome addresses
    contact       person name called devices safety since
    member        topic conversation name role here contact history devices
    device        device name here peer member confirmed revoked put_out phrase by addresses added
                  seen in_sync conversations
    recovery      device name replaced
    renamed       device name before
    revoked       device name
    forgotten     device name
    pair_offer    code link addresses seconds
    pair_shown    name person words asks
    paired        device name person outcome met
    pair_progress remaining done
    pair_complete done differing
    synced        device name reached complete reason address received_bytes sent_bytes round_trips
                  duration_ms logs
    sync          ok duration_ms
    serving       home port local
    event         what device name topic conversation count detail
    service       action file detail
    window        topic conversation days bodies
    pruned        topic conversation entries unproven dry_run

Ids, keys and hashes are hexadecimal; `topic` names the conversation in every replica, `conversation`
is its title here. Times are ISO 8601 in UTC, or null where none is known; a message's time is its
author's claim. `author` is null where nobody can be named; `claimed` says that it is what an importer
read in a file. `latest` is null or a `message`; `reactions` are objects with `emoji` and `authors`.
Sizes are bytes. `damage` is "" where the stored bytes match their hash.

Of an `imported` chat `same` messages were here already, from another program or another person's export, and
`unsure` are perhaps; `unsure_at` are the first of these: objects with `position`, `reason`, `author`,
`author_here` and `minutes`. A `person` says something in the logs: `identities` are objects with
`identity` (as typed), `format`, `uid` and `name`. Two that are `alike` are perhaps the same person.

A conversation that `ended` for this person is one that it "left", or from which it was "removed".

A `copy` is that of another device: `here_lacks` and `there_lacks` count entries, and there are at least
so many where `exact` is false; `weeks` are objects with `week`, `from` (its Monday) and `entries`, of
what is not proven to be there; in a `calendar` they have `week`, `from` and `state`. A `gap` is of the
numbers `seq` to `last` of a chain; where `is_gap` is false it is absent on purpose, or never to be read.
`holders` are objects with `device`, `name` and `certainty`: "signed for it", "told of it", "likely";
what others have `seen` are objects with `device`, `name`, `person`, `read` and `time`: where `read` is false
they hold it; `drafts` are objects with `device`, `name` and `text`; an `expiry`'s `after_s` is null where
messages stay;
what is `missing` of an entry are objects with `part`, `reason`, `detail`, `since` and `named_by`.

The `logs` of a `synced` device are objects with `topic`, `title`, `kind`, `state` ("in sync", "behind",
"differing"), `received` and `sent` (entries) and `detail`; it is `complete` where all was compared before the
round was over. `local` says that programs can talk to the service; an `event` is what the service tells.

A `twin` is a device in whose name two copies of a home write; `here` says that this home is one of them.

A `trusted` device's `outcome` is "admitted" (it is one of this person's now), "joins" (this device joins
its person at the next sync) or "known"; of a `device`, `member` says that the person log admits it,
`peer` that this home connects to it, `by` who added it, and `in_sync` in how many of its `conversations`.
While devices are paired, `pair_offer` has the secrets that are shown, `pair_shown` who is at the other end
(`asks`: the person here is asked), and `remaining` and `done` count entries of both directions. Of what was
`paired` the `outcome` is as of `trusted`.

A `device` that is a `phrase` is a recovery phrase; of a new one `recovery` says whether it `replaced` one.
A machine that is recovered is `paired` too, with outcome "joins"; `met` is the other person whose device has
let it in, and "" where that was one's own, and in all other cases.

A `window`'s `days` are null for everything; `unproven` are the Mondays of weeks that stayed for want of a
proof.

`export` without `--output`, `log --dot` and `completion` print a file of its own format and none
of these lines. Errors stay text on standard error in every case: the exit code is for programs.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import IO, TYPE_CHECKING, Any, Final, TextIO

from mlog.cli.terminal import can_unicode, iso, safe, safe_block, use_colour
from mlog.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from mlog.api import Home

__all__ = ["FORMAT_VERSION", "Console", "OutputClosed", "Progress", "discard", "iso_or_none"]

FORMAT_VERSION: Final = 1

_BOLD, _DIM, _RED, _GREEN, _YELLOW = "1", "2", "31", "32", "33"


class OutputClosed(Exception):
    """Whoever read our output has seen enough: stop, in silence."""


class Console:
    """How this run of mlog talks to the person or program that started it.

    Attributes:
        home_path: The home that was asked for, or None for the default.
        json: Print JSON lines.
        exit_code: What the process ends with if nothing else goes wrong.
        interrupted: What to say after Ctrl-C: what stays, and how to go on.
    """

    def __init__(self) -> None:
        self.home_path: Path | None = None
        self.json = False
        self.exit_code = 0
        self.interrupted = "interrupted."
        self._colour: bool | None = None
        self._passphrase: str | None = None

    # -- the home ----------------------------------------------------------------------------

    def open_home(self, device: str | None = None) -> Home:
        """The home that was asked for; made if it is new, and the device then called so."""
        from mlog import api

        return api.open(self.home_path, device=device, passphrase=self.passphrase)

    def passphrase(self) -> str:
        """The passphrase of the key file, from the file that the environment names, or typed; asked once."""
        from mlog.cli.options import ask_passphrase, read_passphrase

        if self._passphrase is None:
            self._passphrase = read_passphrase(None) or ask_passphrase(twice=False)
        return self._passphrase

    def chosen_home(self) -> Path:
        """Its folder, without opening it."""
        from mlog import api

        return self.home_path if self.home_path is not None else api.default_home()

    # -- data --------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """Print a line for people; other people's text in it is `safe` already."""
        self._write(sys.stdout, text + "\n")

    def record(self, type_: str, fields: Mapping[str, object]) -> None:
        """Print a JSON line."""
        import json

        # A terminal gets ASCII only: JSON leaves characters alone that turn the direction of writing.
        encoded = json.dumps({"type": type_, **fields}, ensure_ascii=self.is_terminal)
        # Half of a pair can only come from a file name; JSON's own escape for it is this one.
        self.write_bytes(encoded.encode("utf-8", "backslashreplace") + b"\n")

    def write_bytes(self, data: bytes) -> None:
        """Write bytes of a file to standard output."""
        stream: Any = sys.stdout
        if stream is not None:
            self._write(stream.buffer, data)

    def flush(self) -> None:
        """Hand everything printed so far to whoever reads it."""
        if sys.stdout is not None:
            with _OutputErrors():
                sys.stdout.flush()

    def _write(self, stream: IO[Any] | None, data: str | bytes) -> None:
        # Standard output may have been closed by whoever started us; then nobody wants it.
        if stream is not None:
            with _OutputErrors():
                stream.write(data)

    # -- messages ----------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say something on standard error; made safe here, and lost if nobody can read it."""
        say(safe_block(text, 0))

    def progress(self, verb: str, total: int | None = None, unit: str = "entries") -> Progress:
        """A progress line on standard error, where that is a terminal."""
        return Progress(sys.stderr, verb, total, unit)

    # -- the terminal ------------------------------------------------------------------------

    def refuse_colour(self) -> None:
        """Print without colour, whatever the terminal can do."""
        self._colour = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads standard output as it comes."""
        return sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()

    @property
    def unicode(self) -> bool:
        """Whether standard output can show drawings and signs."""
        return sys.stdout is not None and can_unicode(sys.stdout)

    def bold(self, text: str) -> str:
        """For headings and titles."""
        return self._styled(text, _BOLD)

    def dim(self, text: str) -> str:
        """For what a reader skips."""
        return self._styled(text, _DIM)

    def good(self, text: str) -> str:
        """For what is as it should be."""
        return self._styled(text, _GREEN)

    def bad(self, text: str) -> str:
        """For what is not."""
        return self._styled(text, _RED)

    def warn(self, text: str) -> str:
        """For what needs a second look."""
        return self._styled(text, _YELLOW)

    def mark(self, *, ok: bool) -> str:
        """A check mark or a cross."""
        if self.unicode:
            return self.good("✓") if ok else self.bad("✗")
        return self.good("ok") if ok else self.bad("FAILED")

    def _styled(self, text: str, code: str) -> str:
        if self._colour is None:
            self._colour = sys.stdout is not None and use_colour(sys.stdout, os.environ)
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


class Progress:
    """One line that is drawn over itself: a bar where the total is known, a count and a rate.

    Drawn at most ten times a second, and only on a terminal.
    """

    def __init__(self, stream: TextIO | None, verb: str, total: int | None, unit: str):
        self._stream = stream if stream is not None and stream.isatty() else None
        self._verb = verb
        self._total = total
        self._unit = unit
        self._done = 0
        self._left: int | None = None
        self._share: float | None = None
        self._drawn_at = 0.0
        self._started_at = _seconds()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever follows starts on a clean line.
        self._draw("\r\x1b[K")

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._total:
            self._share = min(self._done / self._total, 1.0)
        self._draw_sometimes()

    def remain(self, remaining: int, done: int) -> None:
        """So many are done, and so many remain, as far as is known now."""
        self._done, self._left = done, remaining
        self._share = done / (done + remaining) if done + remaining else 1.0
        self._draw_sometimes()

    def at(self, share: float) -> None:
        """So much of the whole is done, 0 to 1, where that is known otherwise than by the count."""
        self._share = min(share, 1.0)
        self._draw_sometimes()

    def _draw_sometimes(self) -> None:
        now = _seconds()
        if self._stream is not None and now - self._drawn_at >= 0.1:
            self._drawn_at = now
            self._draw("\r" + self.text(now - self._started_at) + "\x1b[K")

    def text(self, elapsed_s: float) -> str:
        """The line as it stands after so many seconds."""
        rate = self._done / elapsed_s if elapsed_s > 0 else 0
        bar = ""
        if self._share is not None:
            filled = int(self._share * 24)
            full, empty = ("█", "░") if self._stream and can_unicode(self._stream) else ("#", "-")
            bar = f" {full * filled}{empty * (24 - filled)} {self._share:4.0%}"
        count = (
            f"{self._done:,} {self._unit}" if self._left is None else f"{self._left:,} {self._unit} remain"
        )
        return f"{self._verb}{bar}  {count}, {rate:,.0f}/s"

    def _draw(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._stream = None


def say(text: str) -> None:
    """A line on standard error, if anybody can read it."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def discard(stream: TextIO | None) -> None:
    """Point a stream that failed to nowhere, so that the interpreter's last flush succeeds."""
    try:
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    except (OSError, ValueError):
        return


def iso_or_none(time_ms: int) -> str | None:
    """A time for a program."""
    return iso(time_ms) if time_ms else None


def joined(parts: Iterable[str], separator: str = ", ") -> str:
    """Other people's words in one safe line."""
    return safe(separator.join(parts))


class _OutputErrors:
    """Turns what writing to standard output raises into what the handler in main.py knows."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BrokenPipeError) or (
            # Windows reports a closed pipe as an invalid argument.
            isinstance(error, OSError) and os.name == "nt" and error.errno == errno.EINVAL
        ):
            raise OutputClosed from None
        if isinstance(error, OSError):
            raise StoreError(
                f"the output cannot be written: {error.strerror or error}. What is in the log is not touched."
            ) from None


def _seconds() -> float:
    import time

    return time.monotonic()

"""The local socket: how programs of the same person talk to the service. docs/local-socket.md.

JSON lines over a Unix domain socket that only this user can open; where the system has none, over
loopback TCP with a token that only this user can read. What requests mean is the service's
business (mlog/api/service.py); here are lines, bounds and files.

`poke` runs at every commit of every process, so that half imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from mlog import config, limits
from mlog.adapters.disk import disk_errors
from mlog.adapters.keystore import write_private
from mlog.adapters.locking import ProcessLock
from mlog.errors import (
    Busy,
    InvalidInput,
    LimitExceeded,
    MlogError,
    PeerUnavailable,
    StoreError,
    UserError,
    VerificationFailed,
)

if TYPE_CHECKING:
    import asyncio
    import socket
    from types import TracebackType

__all__ = ["Answers", "Claim", "LocalServer", "Whereabouts", "ask", "is_served", "poke", "whereabouts"]

Answers: TypeAlias = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]
"""Answers one request, with as many objects as it takes."""

_PATH_SIZE_MAX_BYTES: Final = 100
"""Of a Unix socket: 104 on macOS, 108 on Linux, each with a zero byte at the end."""

_FOLLOWS: Final = ("follow", "pair")
"""The requests that end when their asker is gone."""


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """What the service writes into its home for other programs.

    Attributes:
        pid: The service's process.
        socket: Path of its Unix socket, or "".
        folder: Made for the socket, because the path of the home is too long for one; or "".
        port: Its TCP port on 127.0.0.1, where it has no Unix socket; `token` stands in each request then.
        listens: The port at which other devices reach it, or 0.
    """

    version: int = 1
    pid: int
    socket: str = ""
    folder: str = ""
    port: int = 0
    token: str = ""
    listens: int = 0


# -- the asking side -------------------------------------------------------------------------


def whereabouts(home: Path) -> Whereabouts | None:
    """Where the service of a home is, or was: None if there is nothing about it."""
    try:
        return msgspec.json.decode((home / config.SERVICE_NAME).read_bytes(), type=Whereabouts)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def poke(home: Path) -> None:
    """Tell the service, if one runs, that something was committed; never fails, and hardly waits."""
    where = whereabouts(home)
    if where is None:
        return
    with suppress(OSError), _connected(where, limits.POKE_TIMEOUT_MS / 1000) as sock:
        sock.sendall(_line(_signed({"do": "poke"}, where)))


def is_served(home: Path) -> bool:
    """Whether a service runs on this home, and takes requests."""
    where = whereabouts(home)
    return where is not None and _answers(where)


def ask(home: Path, request: Mapping[str, Any], *, timeout_s: float | None) -> Iterator[dict[str, Any]]:
    """Ask the service something; gives its answers as they come.

    Args:
        timeout_s: How long to wait for each answer; None for ever.

    Raises:
        PeerUnavailable: No service runs, or it does not answer in time.
        MlogError: What the service says is wrong, as it would be raised there.
    """
    where = whereabouts(home)
    try:
        if where is None:
            raise FileNotFoundError
        with _connected(where, timeout_s) as sock, sock.makefile("rb") as lines:
            # A service that refuses may have hung up already: why is still to be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(_line(_signed(request, where)))
            for line in lines:
                answer = _decoded(line)
                if not answer.get("ok"):
                    raise _as_error(answer)
                yield answer
                if not answer.get("more"):
                    return
    except TimeoutError:
        raise PeerUnavailable("the service that runs on these logs does not answer. Is it stopped?") from None
    except OSError:
        raise PeerUnavailable("no service runs on these logs. Start one with 'mlog serve'.") from None
    raise PeerUnavailable("the service ended before it had answered. Try again.")


def _connected(where: Whereabouts, timeout_s: float | None) -> socket.socket:
    import socket

    if where.socket:
        sock = socket.socket(socket.AF_UNIX)
        target: Any = where.socket
    else:
        sock = socket.socket(socket.AF_INET)
        target = ("127.0.0.1", where.port)
    try:
        sock.settimeout(timeout_s)
        sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return sock


def _signed(request: Mapping[str, Any], where: Whereabouts) -> Mapping[str, Any]:
    return {**request, "token": where.token} if where.token else request


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _as_error(answer: Mapping[str, Any]) -> MlogError:
    """The error that the service named, of the class with its exit code."""
    kinds = (UserError, Busy, PeerUnavailable, VerificationFailed, StoreError)
    kind = {kind.exit_code: kind for kind in kinds}.get(answer.get("exit_code", 0), UserError)
    return kind(str(answer.get("error", "the service refused, and did not say why")))


# -- one service for each home ---------------------------------------------------------------


class Claim:
    """The right to serve a home, for as long as it is held; it goes with the process.

    Raises:
        Busy: On entering, where another process serves it.
    """

    def __init__(self, home: Path):
        self._home = home
        self._lock = ProcessLock(home / config.SERVICE_LOCK_NAME, 0)

    def __enter__(self) -> None:
        try:
            with disk_errors(self._home):
                self._lock.__enter__()
        except Busy:
            where = whereabouts(self._home)
            who = f" (process {where.pid})" if where is not None else ""
            raise Busy(
                f"a service runs on {self._home} already{who}, and one is enough. To start another, stop "
                "that one."
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)


# -- the answering side ----------------------------------------------------------------------


class LocalServer:
    """Answers requests on the local socket of a home; the caller holds its `Claim`.

    Args:
        answers: Called for each request; what it raises is told to the asker.
        tcp: Loopback TCP with a token instead of a Unix socket, as on Windows (where it is untested).
    """

    def __init__(self, home: Path, answers: Answers, *, tcp: bool = os.name == "nt"):
        self._home = home
        self._answers = answers
        self._tcp = tcp
        self._token = secrets.token_hex(16) if tcp else ""
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def start(self, listens: int) -> None:
        """Take requests, and write into the home where.

        Args:
            listens: As in `Whereabouts`.

        Raises:
            StoreError: The files in the home cannot be written.
        """
        with disk_errors(self._home):
            self._clean_up()
            where = await (self._start_tcp() if self._tcp else self._start_unix())
            encoded = msgspec.json.encode(msgspec.structs.replace(where, listens=listens))
            write_private(self._home / config.SERVICE_NAME, encoded)

    async def _start_unix(self) -> Whereabouts:
        import asyncio
        import socket

        path = self._home.absolute() / config.SOCKET_NAME
        folder = ""
        if len(os.fsencode(path)) > _PATH_SIZE_MAX_BYTES:
            folder = _short_folder()
            path = Path(folder) / config.SOCKET_NAME
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(str(path))
            # Nobody can connect before it listens, so nobody else ever could.
            path.chmod(0o600)
            self._server = await asyncio.start_unix_server(
                self._talk, sock=sock, limit=limits.LOCAL_LINE_SIZE_MAX_BYTES
            )
        except BaseException:
            sock.close()
            raise
        return Whereabouts(pid=os.getpid(), socket=str(path), folder=folder)

    async def _start_tcp(self) -> Whereabouts:
        import asyncio

        self._server = await asyncio.start_server(
            self._talk, "127.0.0.1", 0, limit=limits.LOCAL_LINE_SIZE_MAX_BYTES
        )
        port = self._server.sockets[0].getsockname()[1]
        return Whereabouts(pid=os.getpid(), port=port, token=self._token)

    async def stop(self) -> None:
        """Take no more requests, and end those that go on."""
        import asyncio

        from mlog.adapters.listeners import accept_no_more, turn

        if self._server is not None:
            await accept_no_more(self._server.sockets)
            self._server.close()
        talks = dict(self._talks)
        for talk, writer in talks.items():
            talk.cancel()
            # An answer that its asker does not take would keep the socket open.
            writer.transport.abort()
        await asyncio.gather(*talks, return_exceptions=True)
        await turn()
        self._clean_up()

    def _clean_up(self) -> None:
        """Remove what this service, or one that was killed, left."""
        where = whereabouts(self._home)
        # A copy of a home names the folder of the other one, whose service may run.
        if where is not None and where.folder and (where.pid == os.getpid() or not _answers(where)):
            with suppress(OSError):
                Path(where.socket).unlink(missing_ok=True)
                Path(where.folder).rmdir()
        for name in (config.SERVICE_NAME, config.SOCKET_NAME):
            (self._home / name).unlink(missing_ok=True)

    # -- one asker ---------------------------------------------------------------------------

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        self._talks[task] = writer
        try:
            if len(self._talks) > limits.LOCAL_CLIENTS_MAX:
                await self._say(writer, _refusal(Busy("too many programs talk to the service. Try later.")))
            else:
                while await self._answer_next(reader, writer):
                    pass
        except (OSError, asyncio.CancelledError):
            # The asker is gone, or the service stops: this task belongs to nobody else.
            return
        finally:
            del self._talks[task]
            writer.close()

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one line; False after the last."""
        import asyncio

        try:
            line = await reader.readline()
        except ValueError:
            error = LimitExceeded(f"a request may have {limits.LOCAL_LINE_SIZE_MAX_BYTES:,} bytes")
            await self._say(writer, _refusal(error))
            return False
        if not line.strip():
            return bool(line)
        try:
            request = _decoded(line)
            self._check_token(request)
        except MlogError as error:
            await self._say(writer, _refusal(error))
            return not isinstance(error, UserError)
        answering = asyncio.ensure_future(self._answer(request, writer))
        if request.get("do") not in _FOLLOWS:
            await answering
            return True
        # It may never end by itself, and nothing else is answered beside it.
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        return False

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        try:
            async with aclosing(self._answers(request)) as answers:
                async for answer in answers:
                    await self._say(writer, {"ok": True, **answer})
        except MlogError as error:
            await self._say(writer, _refusal(error))
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 (one odd request must not end the service)
            fault = MlogError(f"a fault in mlog, please report it: {type(error).__name__}: {error}")
            await self._say(writer, _refusal(fault))

    def _check_token(self, request: Mapping[str, Any]) -> None:
        given = request.get("token")
        if self._token and not (
            isinstance(given, str) and secrets.compare_digest(given.encode(), self._token.encode())
        ):
            raise UserError(f"the token is missing or wrong: it stands in {config.SERVICE_NAME}")

    async def _say(self, writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
        writer.write(_line(answer))
        await writer.drain()


def _short_folder() -> str:
    """A new folder of this user's own with a short path."""
    import tempfile

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return tempfile.mkdtemp(prefix="mlog-", dir=runtime if os.path.isdir(runtime) else None)


def _answers(where: Whereabouts) -> bool:
    try:
        with _connected(where, limits.POKE_TIMEOUT_MS / 1000):
            return True
    except OSError:
        return False


def _refusal(error: MlogError) -> dict[str, Any]:
    return {"ok": False, "error": str(error), "exit_code": error.exit_code}


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("not a JSON object on one line")
    return cast("dict[str, Any]", found)

"""A JSON document of any length, read event by event in bounded memory.

For exports that are one document. What is of interest is built value by value, the rest is
skipped. Nothing hostile gets far: one value has at most JSON_VALUE_SIZE_MAX_BYTES and
JSON_DEPTH_MAX, and everything that a JSON library may raise becomes InvalidInput with the byte
(the end of the block in which it was noticed).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final

from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.formats.source import Source
from mlog.formats.texts import clean
from mlog.limits import JSON_DEPTH_MAX, JSON_VALUE_SIZE_MAX_BYTES, KIB

__all__ = ["JsonStream"]

_BLOCK_SIZE_BYTES: Final = 8 * KIB
_INT_MAX: Final = 2**63 - 1
_STARTS: Final = frozenset(("start_map", "start_array"))
_ENDS: Final = frozenset(("end_map", "end_array"))


class JsonStream:
    """The events of one document: ("start_map", None), ("map_key", "id"), ("number", 7) and so on.

    Strings are clean (mlog/formats/texts.py). Of a key that stands twice in an object the
    last value counts where the object is built.

    Args:
        several: Values may stand one behind the other, with or without line ends between.
    """

    def __init__(self, source: Source, *, several: bool = False) -> None:
        # Loaded by name: the library has no types.
        ijson: Any = importlib.import_module("ijson")
        self._source = source
        self._offset = 0
        self._value_start = 0
        self._json_error: type[Exception] = ijson.JSONError
        self._events: Iterator[tuple[str, Any]] = ijson.basic_parse(
            self, use_float=True, buf_size=_BLOCK_SIZE_BYTES, multiple_values=several
        )

    def read(self, size: int = -1) -> bytes:
        """The next bytes, for the parser.

        Raises:
            LimitExceeded: The value that is being read is too large.
        """
        if self._offset - self._value_start > JSON_VALUE_SIZE_MAX_BYTES:
            raise LimitExceeded(
                f"more than {JSON_VALUE_SIZE_MAX_BYTES:,} bytes in one value",
                source=self._source.name,
                position=self._value_start,
            )
        raw = self._source.read(size)
        self._offset += len(raw)
        return raw

    def next(self) -> tuple[str, Any]:
        """The next event.

        Raises:
            InvalidInput: No JSON from here on, or the document ends too early.
        """
        self._value_start = self._offset
        return self._next()

    def next_or_end(self) -> tuple[str, Any] | None:
        """As `next`; None where the file ends, between the values of several.

        Raises:
            InvalidInput: As `next`.
        """
        self._value_start = self._offset
        return self._cleaned(self._advance())

    def build(self, event: str, value: Any) -> Any:
        """The whole value that starts with this event, as dicts, lists and scalars.

        Raises:
            InvalidInput: As `next`, or nested too deep.
            LimitExceeded: Too large.
        """
        if event not in _STARTS:
            return value
        root: Any = {} if event == "start_map" else []
        open_values: list[Any] = [root]
        keys: list[str] = [""]
        while open_values:
            event, value = self._next()
            if event in _ENDS:
                open_values.pop()
                keys.pop()
                continue
            if event == "map_key":
                keys[-1] = value
                continue
            if event in _STARTS:
                value = {} if event == "start_map" else []
            holder = open_values[-1]
            if isinstance(holder, dict):
                holder[keys[-1]] = value
            else:
                holder.append(value)
            if event in _STARTS:
                if len(open_values) == JSON_DEPTH_MAX:
                    raise self._invalid(f"nested more than {JSON_DEPTH_MAX} deep")
                open_values.append(value)
                keys.append("")
        return root

    def skip(self, event: str) -> None:
        """Read over the value that starts with this event, however large it is.

        Raises:
            InvalidInput: As `next`.
        """
        depth = 1 if event in _STARTS else 0
        while depth:
            event, _ = self.next()
            depth += (event in _STARTS) - (event in _ENDS)

    def end(self) -> None:
        """Check that nothing follows the document.

        Raises:
            InvalidInput: Something does.
        """
        if self._advance() is not None:
            raise self._invalid("something follows the end of the document")

    def _next(self) -> tuple[str, Any]:
        token = self._cleaned(self._advance())
        if token is None:
            raise self._invalid("the document ends too early")
        return token

    @staticmethod
    def _cleaned(token: tuple[str, Any] | None) -> tuple[str, Any] | None:
        if token is None:
            return None
        event, value = token
        if isinstance(value, str):
            value = clean(value)
        elif isinstance(value, int) and abs(value) > _INT_MAX:
            value = f"{value:x}"  # Nobody counts that far: a name at best.
        return event, value

    def _advance(self) -> tuple[str, Any] | None:
        """The next event, or None at the end of the document."""
        try:
            return next(self._events, None)
        except (InvalidInput, UserError):
            raise
        except RecursionError:
            raise self._invalid("nested too deep") from None
        except (self._json_error, ValueError, ArithmeticError) as error:
            # The library's message goes on to quote the text at fault: its first line is enough.
            reason = str(error).removeprefix("b'").replace("\\n", "\n").partition("\n")[0]
            raise self._invalid(f"no valid JSON: {reason[:100]}") from None

    def _invalid(self, reason: str) -> InvalidInput:
        return InvalidInput(reason, source=self._source.name, position=self._offset)

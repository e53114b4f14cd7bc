"""Records of chats that are mixed in one file, sorted out chat by chat.

Importers yield one chat after the other. Where a file mixes them, records wait in a temporary file
without a name; memory holds about 1,000 bytes for each chat, and 8 for each _BLOCK_PLACES records.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from mlog.errors import LimitExceeded, StoreError
from mlog.formats.record import Chat, Item, Record
from mlog.limits import CHATS_PER_FILE_MAX, KIB

__all__ = ["Regrouped"]

_SPOOL_SIZE_BYTES: Final = 256 * KIB
_LENGTH_SIZE_BYTES: Final = 8
_BLOCK_PLACES: Final = 64
"""So many places of a chat go to the file together."""


class Regrouped:
    """Takes records in any order of chats, and gives them chat by chat, each in its order."""

    def __init__(self, source_name: str) -> None:
        self._name = source_name
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_SIZE_BYTES)  # noqa: SIM115 -- __exit__
        # Places of the latest records of a chat, and of the blocks that hold those before.
        self._places: dict[str, array[int]] = {}
        self._blocks: dict[str, array[int]] = {}
        self._titles: dict[str, str] = {}
        self._encoder = msgspec.msgpack.Encoder()

    def __enter__(self) -> Regrouped:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, key: str, title: str, record: Record) -> None:
        """Put a record to its chat; of several titles the last one that is not empty counts.

        Raises:
            LimitExceeded: Too many chats.
            StoreError: There is no room for temporary data.
        """
        places = self._places.get(key)
        if places is None:
            if len(self._places) == CHATS_PER_FILE_MAX:
                raise LimitExceeded(
                    f"more than {CHATS_PER_FILE_MAX:,} chats in one file",
                    source=self._name,
                    position=record.position,
                )
            places = self._places[key] = array("Q")
            self._blocks[key] = array("Q")
        if title:
            self._titles[key] = title
        encoded = self._encoder.encode(record)
        try:
            places.append(self._spool.tell())
            self._spool.write(len(encoded).to_bytes(_LENGTH_SIZE_BYTES) + encoded)
            if len(places) == _BLOCK_PLACES:
                self._blocks[key].append(self._spool.tell())
                self._spool.write(places.tobytes())
                del places[:]
        except OSError as error:
            raise _no_room(error) from None

    def items(self) -> Iterator[Item]:
        """Each chat, then its records.

        Raises:
            StoreError: The temporary file cannot be read.
        """
        decoder = msgspec.msgpack.Decoder(Record)
        for key in self._places:
            yield Chat(key=key, title=self._titles.get(key, key.partition(":")[2]))
            for place in self._places_of(key):
                try:
                    self._spool.seek(place)
                    encoded = self._spool.read(int.from_bytes(self._spool.read(_LENGTH_SIZE_BYTES)))
                except OSError as error:
                    raise _no_room(error) from None
                yield decoder.decode(encoded)

    def _places_of(self, key: str) -> Iterator[int]:
        for block in self._blocks[key]:
            places = array("Q")
            try:
                self._spool.seek(block)
                places.frombytes(self._spool.read(_BLOCK_PLACES * places.itemsize))
            except OSError as error:
                raise _no_room(error) from None
            yield from places
        yield from self._places[key]


def _no_room(error: OSError) -> StoreError:
    return StoreError(f"temporary file: {error.strerror}. Free some space in the temporary folder.")

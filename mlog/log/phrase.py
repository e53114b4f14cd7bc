"""Recovery phrase: 24 words on paper that are a device of the person; and the list that words are of.

A phrase says 32 random bytes in the way of BIP39: a checksum of 8 bits, the first of SHA-256, stands
behind them, and each 11 bits are one of the 2,048 English words. All keys of the device follow from the
32 bytes, which are stored nowhere. What a person types is read kindly: four letters of each word are
enough. Derivation and vectors: docs/protocol.md, 21.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import UserError
from mlog.log import crypto
from mlog.log.crypto import DeviceKeys, Entropy

__all__ = [
    "PHRASE_WORDS",
    "WORD_BITS",
    "Phrase",
    "completions",
    "meeting_key",
    "new_phrase",
    "number_of",
    "parse_phrase",
    "similar_words",
    "word_list",
]

PHRASE_WORDS: Final = 24
WORD_BITS: Final = 11

_SECRET_SIZE: Final = 32
_CHECKSUM_BITS: Final = 8
_PREFIX_MIN: Final = 4
_TYPED_MAX: Final = 16
"""Characters of a typed word that are compared with others: no word has more than 8."""

_SUSPECTS_MAX: Final = 3


# -- words -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def word_list() -> tuple[str, ...]:
    """The 2,048 words, in the order of their numbers."""
    from mnemonic import Mnemonic

    return tuple(Mnemonic("english").wordlist)


def completions(start: str) -> list[str]:
    """The words that begin so, whatever the case; for a shell that completes them."""
    start = start.casefold()
    return [word for word in word_list() if word.startswith(start)]


def number_of(typed: str) -> int | None:
    """The number of a word that was typed in lower case, whole or its first four letters or more."""
    words = word_list()
    if typed in words:
        return words.index(typed)
    if len(typed) >= _PREFIX_MIN:
        # The first four letters of a word are those of no other one.
        return next((number for number, word in enumerate(words) if word.startswith(typed)), None)
    return None


def similar_words(typed: str) -> list[str]:
    """Words that may have been meant by one that is none of the list."""
    return get_close_matches(typed[:_TYPED_MAX], word_list(), 3, 0.6) or completions(typed[:3])[:3]


# -- phrases ---------------------------------------------------------------------------------


class Phrase(msgspec.Struct, frozen=True):
    """What 24 words say.

    Attributes:
        secret: 32 bytes.
    """

    secret: bytes

    @property
    def words(self) -> tuple[str, ...]:
        """The 24 words."""
        number = int.from_bytes(self.secret) << _CHECKSUM_BITS | _checksum(self.secret)
        shifts = range((PHRASE_WORDS - 1) * WORD_BITS, -1, -WORD_BITS)
        return tuple(word_list()[number >> shift & 2047] for shift in shifts)

    @property
    def keys(self) -> DeviceKeys:
        """Of the device that the phrase is."""
        return DeviceKeys(
            signing_seed=crypto.derive("recovery signing", self.secret),
            noise_seed=crypto.derive("recovery noise", self.secret),
            hpke_seed=crypto.derive("recovery hpke", self.secret),
        )

    def __repr__(self) -> str:
        return "Phrase(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


def new_phrase(entropy: Entropy) -> Phrase:
    """A phrase that nobody has seen."""
    return Phrase(entropy.random(_SECRET_SIZE))


def meeting_key(device: bytes, noise: bytes, hpke: bytes) -> bytes:
    """What whoever has the phrase shares with those who know the person's log, from its public keys."""
    return crypto.derive("recovery meeting", device + noise + hpke)


def parse_phrase(text: str) -> Phrase:
    """Read what a person typed: any case, words cut to four letters or more, any spaces or hyphens.

    Raises:
        UserError: Not 24 words of the list, or not all as they were written down; names the word that is
            none, or those that are most likely to be wrong.
    """
    if len(text) > limits.PAIRING_TEXT_SIZE_MAX_BYTES:
        raise UserError(f"a recovery phrase has {PHRASE_WORDS} words, and this is far longer.")
    typed = [word for word in re.split(r"[\s-]+", text.casefold()) if word]
    numbers: list[int] = []
    for place, word in enumerate(typed[:PHRASE_WORDS], 1):
        number = number_of(word)
        if number is None:
            meant = similar_words(word)
            hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
            # The word itself is left out: what is printed here may end up in a log.
            raise UserError(f"word {place} of the phrase is none of the list.{hint}")
        numbers.append(number)
    if len(typed) != PHRASE_WORDS:
        raise UserError(
            f"a recovery phrase has {PHRASE_WORDS} words, and here are {len(typed)}. Type it again."
        )
    secret = _secret_of(numbers)
    if secret is None:
        raise UserError(_wrong(numbers))
    return Phrase(secret)


def _secret_of(numbers: Sequence[int]) -> bytes | None:
    """The 32 bytes that these words say; None where their checksum is another one."""
    packed = 0
    for number in numbers:
        packed = packed << WORD_BITS | number
    secret = (packed >> _CHECKSUM_BITS).to_bytes(_SECRET_SIZE)
    return secret if _checksum(secret) == packed & 0xFF else None


def _checksum(secret: bytes) -> int:
    return hashlib.sha256(secret).digest()[0]


def _wrong(numbers: Sequence[int]) -> str:
    """What is said where the words do not fit together: which ones to look at first."""
    suspects = sorted(dict.fromkeys(_suspects(numbers)), key=lambda suspect: suspect[0])[:_SUSPECTS_MAX]
    places = [f"word {place}" for looks, place in suspects if looks == 0]
    swapped = [f"words {place} and {place + 1}" for looks, place in suspects if looks == 1]
    first = ", then at ".join((*places, *(f"the order of {pair}" for pair in swapped)))
    look = f"Look first at {first}: that would explain it." if first else "Compare each word with your paper."
    return (
        "the words are all of the list, but do not fit together: at least one is another word than you wrote "
        f"down, or two stand in the wrong order. {look}"
    )


def _suspects(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places of which a change that a person would make by mistake explains the checksum.

    Each as (0, place) where a word is easily taken for another one, (1, place) where it may be swapped with
    the one behind it. Of what does not explain it one in 256 is named as well.
    """
    words = word_list()
    for at, number in enumerate(numbers):
        for word in get_close_matches(words[number], words, 6, 0.7):
            if _secret_of([*numbers[:at], words.index(word), *numbers[at + 1 :]]) is not None:
                yield 0, at + 1
    for at in range(len(numbers) - 1):
        swapped = [*numbers[:at], numbers[at + 1], numbers[at], *numbers[at + 2 :]]
        if swapped != numbers and _secret_of(swapped) is not None:
            yield 1, at + 1

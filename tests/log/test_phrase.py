"""Recovery phrases are BIP39, and what a person mistypes is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import UserError
from mlog.log.phrase import PHRASE_WORDS, WORD_BITS, Phrase, meeting_key, new_phrase, parse_phrase, word_list
from tests.log.support import SeededEntropy

# https://github.com/trezor/python-mnemonic/blob/master/vectors.json, those of 256 bits
_PUBLISHED = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: "legal winner thank year wave sausage worth useful " * 2
    + "legal winner thank year wave sausage worth title",
    "80" * 32: "letter advice cage absurd amount doctor acoustic avoid " * 2
    + "letter advice cage absurd amount doctor acoustic bless",
    "ff" * 32: "zoo " * 23 + "vote",
    "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": (
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel "
        "tennis maple dilemma loan word shrug inflict delay length"
    ),
    "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863": (
        "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed "
        "nation flash devote level hobby quick inner drive ghost inside"
    ),
    "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad": (
        "all hour make first leader extend hole alien behind guard gospel lava path output census museum "
        "junior mass reopen famous sing advance salt reform"
    ),
    "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f": (
        "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen "
        "patrol group space point ten exist slush involve unfold"
    ),
}

each_published = pytest.mark.parametrize(("secret", "words"), _PUBLISHED.items())


@each_published
def test_words_are_those_of_the_published_vectors(secret: str, words: str) -> None:
    assert " ".join(Phrase(bytes.fromhex(secret)).words) == words
    assert parse_phrase(words).secret.hex() == secret


@each_published
def test_the_library_of_the_standard_agrees(secret: str, words: str) -> None:
    from mnemonic import Mnemonic

    assert Mnemonic("english").to_mnemonic(bytes.fromhex(secret)) == words
    assert Mnemonic("english").check(words)


def phrase(seed: int = 1) -> Phrase:
    return new_phrase(SeededEntropy(f"phrase {seed}"))


@given(st.binary(min_size=32, max_size=32), st.data())
def test_four_letters_any_case_and_any_space_give_the_same_phrase(secret: bytes, data: st.DataObject) -> None:
    made = Phrase(secret)
    typed = [
        data.draw(st.sampled_from([word, word[:4], word.upper(), word[:5].title()])) for word in made.words
    ]
    spaces = data.draw(st.sampled_from([" ", "\n", "  ", "-", " - ", "\t\r\n"]))
    assert parse_phrase(spaces + spaces.join(typed) + spaces) == made


@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(st.sampled_from(word_list()), min_size=20, max_size=28).map(" ".join),
    )
)
def test_whatever_is_typed_gives_a_phrase_or_says_what_is_wrong(text: str) -> None:
    try:
        found = parse_phrase(text)
    except UserError:
        return
    assert len(found.secret) == 32
    assert parse_phrase(" ".join(found.words)) == found


def reason(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_phrase(text)
    return str(caught.value)


def test_a_word_that_is_none_is_named_by_its_place_and_not_repeated() -> None:
    words = [*phrase().words]
    words[6] = "gardem"
    said = reason(" ".join(words))
    assert "word 7 of the phrase is none of the list" in said
    assert "garden" in said
    assert "gardem" not in said


@pytest.mark.parametrize("count", [0, 1, 12, 23, 25])
def test_another_number_of_words_is_refused(count: int) -> None:
    assert f"24 words, and here are {count}" in reason(" ".join(["zoo"] * count))


def test_a_text_that_is_far_too_long_is_not_looked_at() -> None:
    assert "far longer" in reason("zoo " * limits.PAIRING_TEXT_SIZE_MAX_BYTES)


@pytest.mark.parametrize("place", range(PHRASE_WORDS - 1))
def test_a_word_that_was_taken_for_a_similar_one_is_named(place: int) -> None:
    # "wage" and "wave" are both of the list.
    shift = 256 - WORD_BITS * (place + 1)
    number = int.from_bytes(phrase().secret) & ~(2047 << shift) | word_list().index("wage") << shift
    made = Phrase(number.to_bytes(32))
    assert made.words[place] == "wage"
    said = reason(" ".join([*made.words[:place], "wave", *made.words[place + 1 :]]))
    assert f"word {place + 1}" in said
    assert "wage" not in said


def test_two_words_in_the_wrong_order_are_named() -> None:
    words = [*phrase().words]
    words[9], words[10] = words[10], words[9]
    assert "the order of words 10 and 11" in reason(" ".join(words))


def test_where_nothing_explains_it_all_are_to_be_compared() -> None:
    words = [*phrase().words]
    words[3:7] = ["zoo", "abandon", "vote", "art"]
    said = reason(" ".join(words))
    assert "do not fit together" in said
    assert "Compare each word" in said or "Look first at" in said


def test_keys_differ_in_every_part_and_from_those_of_another_phrase() -> None:
    seeds = [*phrase(1).keys, *phrase(2).keys]
    assert len({*seeds, phrase(1).secret, phrase(2).secret}) == 8


def test_the_meeting_key_follows_from_public_keys() -> None:
    one, other = phrase(1).keys, phrase(2).keys
    key = meeting_key(one.id, one.noise_public, one.hpke_public)
    assert len(key) == 32
    assert key != meeting_key(other.id, other.noise_public, other.hpke_public)
    assert key != meeting_key(one.id, one.noise_public, other.hpke_public)


def test_nothing_shows_the_words_by_accident() -> None:
    made = phrase()
    for shown in (repr(made), str(made), f"{made}", repr(made.keys)):
        assert made.secret.hex() not in shown
        assert repr(made.secret) not in shown

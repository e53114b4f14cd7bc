"""Codes are read kindly and never wrongly; links come back whole, or are refused in plain words."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlog import limits
from mlog.errors import UserError
from mlog.log.phrase import completions, word_list
from mlog.protocol.codes import (
    Code,
    Link,
    LinkType,
    decode_link,
    encode_link,
    expect_link,
    is_link,
    new_code,
    parse_code,
    shown_words,
)

NUMBERS = st.integers(0, 2**66 - 1)


class Fixed:
    """Entropy that gives one byte again and again."""

    def __init__(self, byte: int):
        self._byte = byte

    def random(self, size: int) -> bytes:
        return bytes([self._byte]) * size

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        raise NotImplementedError


# -- words -----------------------------------------------------------------------------------


def test_the_list_has_2048_words_that_four_letters_tell_apart() -> None:
    words = word_list()
    assert len(words) == 2048
    assert len({word[:4] for word in words}) == 2048
    assert words == tuple(sorted(words))
    assert (words[0], words[-1]) == ("abandon", "zoo")
    assert all(word.isascii() and word.islower() for word in words)


def test_completions_begin_with_what_was_typed() -> None:
    assert completions("ZO") == ["zone", "zoo"]
    assert completions("zoox") == []


def test_four_words_are_shown_and_follow_from_the_binding() -> None:
    words = shown_words(b"b" * 32)
    assert len(words) == 4
    assert set(words) <= set(word_list())
    assert words == shown_words(b"b" * 32)
    assert words != shown_words(b"c" * 32)


# -- codes -----------------------------------------------------------------------------------


def test_a_code_has_66_random_bits() -> None:
    assert new_code(Fixed(0)).text == " ".join(["abandon"] * 6)
    assert new_code(Fixed(255)).text == " ".join(["zoo"] * 6)
    assert new_code(Fixed(255)).number == 2**66 - 1


@given(NUMBERS)
def test_a_code_comes_back_from_its_words(number: int) -> None:
    assert parse_code(Code(number).text) == Code(number)


@given(NUMBERS, st.data())
def test_a_code_comes_back_however_it_is_typed(number: int, data: st.DataObject) -> None:
    typed = ""
    for word in Code(number).text.split():
        length = data.draw(st.integers(min(4, len(word)), len(word)))
        cased = data.draw(st.sampled_from([str.upper, str.lower, str.title]))(word[:length])
        typed += cased + data.draw(st.sampled_from([" ", "-", "  ", " - ", "\n", "\t"]))
    assert parse_code(typed) == Code(number)


@given(NUMBERS, NUMBERS)
def test_other_codes_give_other_keys(one: int, other: int) -> None:
    assert (Code(one).shared_key == Code(other).shared_key) == (one == other)


def test_a_typing_error_gets_suggestions_and_is_not_repeated() -> None:
    with pytest.raises(UserError) as error:
        parse_code("abandon ability abble about above absent")
    assert "word 3" in str(error.value)
    assert "able" in str(error.value)
    assert "abble" not in str(error.value)


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_a_code_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"has 6 words, and here are {count}"):
        parse_code(" ".join(["zoo"] * count))


@pytest.mark.parametrize("word", ["ab", "aba", "zo", "abandonn", "abanxyz", "é", "1234"])
def test_what_names_no_word_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="word 6"):
        parse_code(f"zoo zoo zoo zoo zoo {word}")


@given(st.text() | st.text(string.ascii_letters + " -").map(lambda text: text * 3))
def test_any_text_is_a_code_or_a_user_error(text: str) -> None:
    try:
        code = parse_code(text)
    except UserError:
        return
    assert parse_code(code.text) == code


def test_a_very_long_text_is_refused_before_it_is_read() -> None:
    with pytest.raises(UserError, match="far longer"):
        parse_code("zoo " * limits.PAIRING_TEXT_SIZE_MAX_BYTES)


# -- links -----------------------------------------------------------------------------------

LINK = Link(
    type=LinkType.DEVICE,
    expires_s=2_000_000_000,
    secret=bytes(range(32)),
    fingerprint=b"f" * 16,
    addresses=("desk.example:7367", "[2001:db8::1]:7367"),
)
NOW_MS = 1_999_999_999_000
ADDRESSES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
LINKS = st.builds(
    Link,
    type=st.sampled_from(LinkType),
    expires_s=st.integers(0, 2**32 - 1),
    secret=st.binary(min_size=32, max_size=32),
    fingerprint=st.binary(min_size=16, max_size=16),
    addresses=st.lists(ADDRESSES, max_size=3).map(tuple),
)


@given(LINKS)
def test_a_link_comes_back(link: Link) -> None:
    text = encode_link(link)
    assert decode_link(f" {text}\n") == link
    assert is_link(text)
    assert len(text) <= limits.PAIRING_TEXT_SIZE_MAX_BYTES


def test_the_type_of_a_link_can_be_seen() -> None:
    assert encode_link(LINK).startswith("mlog:pair#")
    assert encode_link(replace(LINK, type=LinkType.PERSON)).startswith("mlog:invite#")
    assert not is_link("zoo zoo")


def test_addresses_that_do_not_fit_are_left_out() -> None:
    link = replace(LINK, addresses=tuple(f"{n}{'x' * 240}:1" for n in range(30)))
    assert decode_link(encode_link(link)).addresses == link.addresses[:4]


@pytest.mark.parametrize("expected", LinkType)
def test_a_link_of_another_type_is_refused_and_says_what_it_is(expected: LinkType) -> None:
    other = LinkType(3 - expected)
    with pytest.raises(UserError) as error:
        expect_link(replace(LINK, type=other), expected, NOW_MS)
    said = str(error.value)
    invitation, device = said.index("invitation"), said.index("device of your own")
    assert (invitation < device) == (other is LinkType.PERSON)


def test_a_link_is_good_until_it_expires() -> None:
    expect_link(LINK, LinkType.DEVICE, NOW_MS)
    with pytest.raises(UserError, match="no longer good"):
        expect_link(LINK, LinkType.DEVICE, NOW_MS + 1000)


def test_a_link_of_a_newer_version_is_refused_as_such() -> None:
    newer = "mlog:pair#Ag" + encode_link(LINK)[12:]
    with pytest.raises(UserError, match="newer mlog"):
        decode_link(newer)


@given(st.data())
def test_a_link_with_another_character_is_refused(data: st.DataObject) -> None:
    text = encode_link(LINK)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_#:= "))
    changed = text[:at] + other + text[at + 1 :]
    if changed.strip() != text:
        with pytest.raises(UserError):
            decode_link(changed)


@pytest.mark.parametrize("cut", range(1, 150, 7))
def test_a_part_of_a_link_is_refused(cut: int) -> None:
    with pytest.raises(UserError, match="part of"):
        decode_link(encode_link(LINK)[:-cut])


def test_the_name_of_another_type_does_not_make_a_link_one() -> None:
    with pytest.raises(UserError, match="damaged"):
        decode_link(encode_link(LINK).replace("pair", "invite"))


@given(st.text() | st.binary().map(lambda raw: "mlog:pair#" + raw.hex()))
def test_any_text_is_a_link_or_a_user_error(text: str) -> None:
    try:
        link = decode_link(text)
    except UserError:
        return
    assert encode_link(link) == text.strip()


def test_a_very_long_link_is_refused() -> None:
    with pytest.raises(UserError, match="longer than any link"):
        decode_link("mlog:pair#" + "A" * limits.PAIRING_TEXT_SIZE_MAX_BYTES)


def test_secrets_stand_in_no_representation() -> None:
    shown = f"{LINK!r} {LINK} {Code(12345)!r} {[Code(12345)]}"
    assert LINK.secret.hex() not in shown
    assert repr(LINK.secret) not in shown
    assert "12345" not in shown

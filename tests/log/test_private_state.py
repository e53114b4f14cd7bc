"""What keys of the private state mean; keys of later versions do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import UserError
from mlog.log import private_state as keys
from mlog.log.ids import DeviceId, Topic
from mlog.log.private_state import PrivateState, read_values
from mlog.log.reading import encode_marks

_TOPIC = Topic(bytes(range(16)))
_DESK, _PHONE = DeviceId(b"d" * 32), DeviceId(b"p" * 32)
_ONE, _TWO = b"chain  1", b"chain  2"


def test_nothing_noted_is_nothing_set() -> None:
    state = read_values({})
    known = state.of(_TOPIC)
    assert (known.pinned, known.muted, known.labels, known.drafts, known.read) == (False, False, (), {}, {})
    assert state.setting("read-receipts")


def test_all_that_can_be_noted_is_read() -> None:
    state = read_values(
        {
            keys.pin_key(_TOPIC): True,
            keys.mute_key(_TOPIC): True,
            keys.label_key(_TOPIC, "work / home"): True,
            keys.label_key(_TOPIC, " a  b "): True,
            keys.draft_key(_TOPIC, _DESK): "tent",
            keys.draft_key(_TOPIC, _PHONE): "rain",
            keys.read_key(_TOPIC, _DESK): encode_marks({_ONE: 4, _TWO: 1}),
            keys.read_key(_TOPIC, _PHONE): encode_marks({_ONE: 2, _TWO: 8}),
            keys.setting_key("read-receipts"): False,
        }
    )
    known = state.of(_TOPIC)
    assert (known.pinned, known.muted) == (True, True)
    assert known.labels == ("a b", "work / home")
    assert known.drafts == {_DESK: "tent", _PHONE: "rain"}
    assert known.read == {_ONE: 4, _TWO: 8}
    assert known.read_on == {_DESK: {_ONE: 4, _TWO: 1}, _PHONE: {_ONE: 2, _TWO: 8}}
    assert not state.setting("read-receipts")


@pytest.mark.parametrize(
    "label", ["", "  ", "x" * (limits.LABEL_SIZE_MAX_BYTES + 1), "é" * limits.LABEL_SIZE_MAX_BYTES]
)
def test_a_label_is_a_short_word(label: str) -> None:
    with pytest.raises(UserError, match="a label is a word"):
        keys.label_key(_TOPIC, label)


@given(
    st.dictionaries(
        st.one_of(
            st.text(max_size=20),
            st.builds(
                "{}/{}/{}".format,
                st.sampled_from(["pin", "mute", "label", "draft", "read", "name", "setting", "later"]),
                st.sampled_from([_TOPIC.hex(), "", "zz", _DESK.hex()]),
                st.sampled_from(["", _DESK.hex(), "word"]),
            ),
        ),
        st.one_of(st.booleans(), st.integers(0, 9), st.text(max_size=9), st.binary(max_size=32)),
    )
)
def test_any_keys_and_values_are_read_or_left_alone(values: dict[str, bool | int | str | bytes]) -> None:
    state = read_values(values)
    assert isinstance(state, PrivateState)
    assert state.conversations.keys() <= {_TOPIC}

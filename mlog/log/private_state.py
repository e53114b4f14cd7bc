"""What the private state says: labels, pins, mute, read positions, drafts and settings.

The document is one flat map (mlog/log/private_document.py). What could be set twice while two
devices are apart has a key of its own for each label, device or conversation, so nothing that one
of them sets is lost:

    pin/TOPIC, mute/TOPIC        true
    label/TOPIC/NAME             true
    read/TOPIC/DEVICE            how far this device has read each chain; of all devices the most counts
    draft/TOPIC/DEVICE           a text; writing one takes those away that its writer knew
    setting/NAME                 true or false

TOPIC and DEVICE are in hexadecimal. Other keys, and values of another type, are kept and not read.
docs/protocol.md, 20.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log.ids import DeviceId, Topic
from mlog.log.private_change import Value
from mlog.log.reading import Marks, decode_marks, merge_marks

__all__ = [
    "SETTINGS",
    "ConversationState",
    "PrivateState",
    "draft_key",
    "label_key",
    "mute_key",
    "pin_key",
    "read_key",
    "read_values",
    "setting_key",
]

SETTINGS: Final[Mapping[str, bool]] = MappingProxyType({"read-receipts": True})
"""What can be switched, and how it is where nobody said so."""


class ConversationState(msgspec.Struct, kw_only=True):
    """What I noted about one conversation.

    Attributes:
        labels: In alphabetical order.
        drafts: Unsent texts by the device that wrote them; several only if these were apart.
        read: How far each chain has been read, on whichever device.
        read_on: The same, of each device by itself.
    """

    pinned: bool = False
    muted: bool = False
    labels: tuple[str, ...] = ()
    drafts: dict[DeviceId, str] = {}
    read: Marks = {}
    read_on: dict[DeviceId, Marks] = {}


class PrivateState(msgspec.Struct, kw_only=True):
    """All that I noted, as my devices agree on it."""

    conversations: dict[Topic, ConversationState] = {}
    settings: dict[str, bool] = {}

    def of(self, topic: bytes) -> ConversationState:
        """Of one conversation; empty where nothing was noted."""
        return self.conversations.get(Topic(topic)) or ConversationState()

    def setting(self, name: str) -> bool:
        """How something is set; as SETTINGS where nobody said so."""
        return self.settings.get(name, SETTINGS[name])


def read_values(values: Mapping[str, Value]) -> PrivateState:
    """What the document's keys say together."""
    state = PrivateState()
    for key, value in sorted(values.items()):
        area, _, rest = key.partition("/")
        subject, _, more = rest.partition("/")
        try:
            if area == "setting" and isinstance(value, bool):
                state.settings[rest] = value
            else:
                _note(state, area, Topic(_hex(subject, 16)), more, value)
        except InvalidInput:
            continue
    return state


def _note(state: PrivateState, area: str, topic: Topic, more: str, value: Value) -> None:
    known = state.conversations.get(topic) or ConversationState()
    match area, value:
        case "pin", bool():
            known.pinned = value
        case "mute", bool():
            known.muted = value
        case "label", True if more:
            known.labels = (*known.labels, more)
        case "draft", str():
            known.drafts[DeviceId(_hex(more, 32))] = value
        case "read", bytes():
            marks = decode_marks(value)
            known.read_on[DeviceId(_hex(more, 32))] = marks
            known.read = merge_marks(known.read, marks)
        case _:
            return
    state.conversations[topic] = known


def _hex(text: str, size: int) -> bytes:
    try:
        decoded = bytes.fromhex(text)
    except ValueError:
        decoded = b""
    if len(decoded) != size:
        raise InvalidInput("not a name of this kind")
    return decoded


# -- keys --------------------------------------------------------------------------------------


def pin_key(topic: bytes) -> str:
    return f"pin/{topic.hex()}"


def mute_key(topic: bytes) -> str:
    return f"mute/{topic.hex()}"


def label_key(topic: bytes, label: str) -> str:
    """Where a label stands.

    Raises:
        UserError: It is empty, or longer than LABEL_SIZE_MAX_BYTES.
    """
    label = " ".join(label.split())
    if not label or len(label.encode(errors="replace")) > limits.LABEL_SIZE_MAX_BYTES:
        raise UserError(f"a label is a word or a few, of at most {limits.LABEL_SIZE_MAX_BYTES} bytes.")
    return f"label/{topic.hex()}/{label}"


def read_key(topic: bytes, device: bytes) -> str:
    return f"read/{topic.hex()}/{device.hex()}"


def draft_key(topic: bytes, device: bytes) -> str:
    return f"draft/{topic.hex()}/{device.hex()}"


def setting_key(name: str) -> str:
    return f"setting/{name}"

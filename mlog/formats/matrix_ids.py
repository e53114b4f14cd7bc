"""The id of a Matrix event that the event itself does not carry.

In rooms of version 3 and later the id is a hash of the event (Matrix specification, room versions,
"event IDs" and "redactions"): of its canonical JSON, without signatures and without everything that a
redaction would take away. So an erased event keeps its id, and what a server exports without
ids has the same ones as what a client exports.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

__all__ = ["event_id"]

_KEPT: Final = frozenset(
    (
        *("type", "room_id", "sender", "state_key", "content", "hashes", "depth"),
        *("prev_events", "auth_events", "origin_server_ts"),
    )
)
_KEPT_UNTIL_10: Final = frozenset(("origin", "membership", "prev_state"))

_CONTENT_KEPT: Final[Mapping[str, tuple[tuple[str, int, int], ...]]] = {
    "m.room.member": (("membership", 1, 99), ("join_authorised_via_users_server", 9, 99)),
    "m.room.create": (("creator", 1, 10),),
    "m.room.join_rules": (("join_rule", 1, 99), ("allow", 8, 99)),
    "m.room.power_levels": (
        *((key, 1, 99) for key in ("ban", "events", "events_default", "kick", "redact")),
        *((key, 1, 99) for key in ("state_default", "users", "users_default")),
        ("invite", 11, 99),
    ),
    "m.room.aliases": (("aliases", 1, 5),),
    "m.room.history_visibility": (("history_visibility", 1, 99),),
    "m.room.redaction": (("redacts", 11, 99),),
}
"""By type of event: keys of the content that a redaction leaves, and in which room versions."""

_NEWEST: Final = 11
"""The last version that changed what a redaction leaves."""


def event_id(event: Mapping[str, Any], room_version: str) -> str:
    """The id: as the event has it, else its hash; "" where it lacks what a hash needs.

    Args:
        room_version: As the room's first event says; "" if that is not known.
    """
    given = event.get("event_id")
    if isinstance(given, str) and given:
        return given
    if not all(key in event for key in ("type", "sender", "content", "hashes", "auth_events", "prev_events")):
        return ""
    version = int(room_version) if room_version.isdecimal() and len(room_version) < 3 else _NEWEST
    if not room_version and "origin" in event:
        version = 10  # Version 11 does away with it.
    kept = _KEPT if version > 10 else _KEPT | _KEPT_UNTIL_10
    redacted = {key: value for key, value in event.items() if key in kept}
    redacted["content"] = _content(event, version)
    try:
        canonical = json.dumps(redacted, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode()).digest()
    except (ValueError, RecursionError):
        return ""
    encoded = base64.b64encode(digest) if version == 3 else base64.urlsafe_b64encode(digest)
    return "$" + encoded.decode().rstrip("=")


def _content(event: Mapping[str, Any], version: int) -> dict[str, Any]:
    content = event.get("content")
    if not isinstance(content, dict):
        return {}
    fields = cast(dict[str, Any], content)
    kind = event.get("type")
    if kind == "m.room.create" and version > 10:
        return fields
    rules = _CONTENT_KEPT.get(kind, ()) if isinstance(kind, str) else ()
    left = {key: fields[key] for key, first, last in rules if key in fields and first <= version <= last}
    invite = fields.get("third_party_invite")
    if kind == "m.room.member" and version > 10 and isinstance(invite, dict):
        signed = cast(dict[str, Any], invite).get("signed")
        left["third_party_invite"] = {} if signed is None else {"signed": signed}
    return left

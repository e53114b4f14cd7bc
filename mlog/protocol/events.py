"""What goes into a node and what comes out: `Node.handle(event, now_ms) -> effects`.

The node has no sockets and no clock; whoever drives it (mlog/adapters/runtime.py, the simulator)
turns what happens into events and carries out effects in their order. Effects are returned after
the commit of what they acknowledge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from mlog.log.entry import Sealed
from mlog.log.ids import DeviceId, EntryId
from mlog.log.store import Digest
from mlog.protocol import pairing
from mlog.protocol.pairing import DeviceRecord

__all__ = [
    "Admitted",
    "Ask",
    "Close",
    "Closed",
    "Committed",
    "Decide",
    "Dial",
    "Effect",
    "Established",
    "Event",
    "Fetch",
    "Leave",
    "Meet",
    "Notice",
    "Opened",
    "Paged",
    "Reach",
    "Received",
    "Recover",
    "Seen",
    "Send",
    "SyncNow",
    "Tick",
    "Unmet",
    "Unreachable",
    "WakeAt",
]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A transport connection is open.

    Attributes:
        session: A number never used before in this node.
        device: Whom we dialled; None where somebody dialled us.
        address: Of the other end, as HOST:PORT, for messages to the person.
        reached: We dialled it for `Reach`: nobody knows yet who is there.
    """

    session: int
    device: DeviceId | None = None
    address: str = ""
    reached: bool = False


class Received(msgspec.Struct, frozen=True):
    """One binary websocket message came."""

    session: int
    data: bytes


class Closed(msgspec.Struct, frozen=True):
    """The connection is gone, whoever ended it; nothing more comes of this session."""

    session: int
    reason: str = ""


class Unreachable(msgspec.Struct, frozen=True):
    """A dial did not lead to a connection."""

    device: DeviceId
    reason: str


class Seen(msgspec.Struct, frozen=True):
    """Discovery, or the person, says where a device can be reached now (HOST:PORT, best first)."""

    device: DeviceId
    addresses: tuple[str, ...]


class Tick(msgspec.Struct, frozen=True):
    """The time that `WakeAt` asked for has come."""


class Committed(msgspec.Struct, frozen=True):
    """Something was committed to the store, here or by another process."""


class SyncNow(msgspec.Struct, frozen=True):
    """Compare everything again with the devices that are connected, and dial the others now."""


class Fetch(msgspec.Struct, frozen=True):
    """Ask for entries, their bodies and signatures from whoever is connected."""

    log: int
    ids: tuple[EntryId, ...]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Read weeks of a log at a peer, page by page, without storing them.

    Attributes:
        number: Repeated in each `Paged`.
        device: Whom to ask.
        limit: End after about so many entries.
    """

    number: int
    device: DeviceId
    log: int
    first_week: int
    last_week: int
    limit: int
    bodies: bool = True


class Meet(msgspec.Struct, frozen=True, kw_only=True):
    """Pair with a device that has, or shows, a one-use secret; one pairing at a time.

    Attributes:
        record: What this device says of itself.
        shared_keys: Of the code and the link that are shown, together good for one try; or of the one typed.
        dials: This end has the secret of the other one, and connects to it; else it waits to be dialled.
        addresses: Where to, best first.
        expected: Fingerprint of the other device, where a link says it.
        accepts: Raises `UserError` where this device cannot be paired with the other one, and why.
        keep: Stores the other device, durable on return; called when both ends have said yes.
    """

    record: DeviceRecord
    shared_keys: tuple[bytes, ...]
    dials: bool
    addresses: tuple[str, ...] = ()
    expected: bytes | None = None
    accepts: Callable[[DeviceRecord], object]
    keep: Callable[[DeviceRecord], object]

    def __repr__(self) -> str:
        return "Meet(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Decide(msgspec.Struct, frozen=True):
    """What the person says to the `Show` of a pairing; of a pairing that is over it says nothing."""

    yes: bool


class Leave(msgspec.Struct, frozen=True):
    """End the pairing that goes on, if one does."""


class Recover(msgspec.Struct, frozen=True):
    """Dial whoever is there, as the recovery phrase whose keys this replica has (HOST:PORT, best first)."""

    addresses: tuple[str, ...]


class Unmet(msgspec.Struct, frozen=True):
    """`Reach` did not lead to a connection."""

    reason: str


Event: TypeAlias = (
    Opened
    | Received
    | Closed
    | Unreachable
    | Seen
    | Tick
    | Committed
    | SyncNow
    | Fetch
    | Ask
    | Meet
    | Decide
    | Leave
    | Recover
    | Unmet
)


class Send(msgspec.Struct, frozen=True):
    """Send one binary websocket message."""

    session: int
    data: bytes


class Close(msgspec.Struct, frozen=True):
    """Close the connection once what was sent before is out."""

    session: int
    reason: str


class Established(msgspec.Struct, frozen=True):
    """The other end is this device and takes part: it is no stranger any more."""

    session: int
    device: DeviceId


class Dial(msgspec.Struct, frozen=True):
    """Connect to a device: try the addresses in order, then say `Opened` or `Unreachable`."""

    device: DeviceId
    addresses: tuple[str, ...]


class Reach(msgspec.Struct, frozen=True):
    """Connect to whoever is there: try the addresses in order, then say `Opened` or `Unmet`."""

    addresses: tuple[str, ...]


class Admitted(msgspec.Struct, frozen=True):
    """The other end of this connection has the secret of the pairing: it may stay while people decide."""

    session: int


class WakeAt(msgspec.Struct, frozen=True):
    """Say `Tick` at this time; a later `WakeAt` replaces it. A time that is past means at once,
    after other events that wait: so long work is done in slices."""

    time_ms: int


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person or a program that watches may want to know; never needed to go on.

    Attributes:
        what: "connected", "disconnected", "unreachable", "clock"; of a log "equal", "behind",
            "differing", "stored", "refused"; "granted"; "parted", of a log to which this device
            belongs no more, as it was told; "narrowed" before the connection to a device ends that may not
            have all logs any more, and begins anew; "accepted", of a further device of another person,
            which `detail` names; "rested" when nothing is left to do with a peer.
            How far a transfer is: "lacks" (the peer is about to send so many that are not here), "wanted"
            (it asked for so many), "sent" (it acknowledged so many).
            After each comparison there is one of "equal", "behind", "differing" for each log.
        log: Which log, or 0.
        device: Which peer, or b"".
        count: Entries concerned.
        round_trips: Of the session so far, counted by the side that dialled.
        detail: In plain words.
    """

    what: str
    log: int = 0
    device: bytes = b""
    count: int = 0
    round_trips: int = 0
    detail: str = ""


class Paged(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what was asked for.

    Attributes:
        entries: In the order (week, id); hashed, and otherwise as the peer sent them.
        end: No page follows.
        proven: With the last page: the digests of the segments that were read from start to end; the
            peer left nothing out of them.
        error: Why no page follows, where something is wrong.
    """

    number: int
    entries: tuple[Sealed, ...] = ()
    end: bool = False
    proven: tuple[Digest, ...] = ()
    error: str = ""


Effect: TypeAlias = (
    Send
    | Close
    | Established
    | Admitted
    | Dial
    | Reach
    | WakeAt
    | Notice
    | Paged
    | pairing.Show
    | pairing.Paired
    | pairing.Ended
)

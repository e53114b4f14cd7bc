"""Recovery: a phrase on paper is one of the person's devices, and brings all history back to a new home.

`enrol` makes a phrase a device: admitted by this one, confirmed by its own keys, which are forgotten then.
`recover` is for a new home, of a person who has nothing else left than the words and one device somewhere
that holds the logs: first the phrase's device, which lives in memory only, fetches the person log from
there, admits the new home's own device in it, and hands that on; then the home syncs as that device, as
after a pairing. So the phrase's keys stay on no disk, and the phrase stays good. A device of another person
gives what both persons share, where no own one answers (mlog/log/regaining.py). What is told meanwhile:

    Searching -> Reaching -> Paired -> Progress... -> Complete

A cut is gone on from by `recover` again, or once the device was admitted by any sync. docs/protocol.md, 21.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from mlog import config, limits
from mlog.adapters import interfaces, local_socket
from mlog.adapters.interfaces import Interface
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.local_socket import Claim
from mlog.adapters.runtime import Runtime
from mlog.adapters.websocket import join_address, split_address
from mlog.api.first_sync import FirstSync
from mlog.api.pairing_steps import Complete, Paired, Progress, Reaching, Searching, Step
from mlog.api.trust import usable_addresses
from mlog.errors import InvalidInput, LimitExceeded, PeerUnavailable, UserError
from mlog.log import belonging, bodies, regaining, trusting
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact
from mlog.log.crypto import LogKeys, Vault
from mlog.log.ids import DeviceId, Incarnation, Topic
from mlog.log.memory import MemoryStore
from mlog.log.merkle import refresh_digests
from mlog.log.peers import PeerRow
from mlog.log.person import Member, Person
from mlog.log.phrase import Phrase, new_phrase
from mlog.log.replica import Draft, Replica
from mlog.log.scope import entries_root
from mlog.log.store import LogKind
from mlog.log.trusting import Claim as DeviceClaim
from mlog.log.trusting import Outcome
from mlog.protocol.events import Closed, Committed, Event, Notice, Opened, Recover, SyncNow, Unmet
from mlog.protocol.node import Node

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["PHRASE_NAME", "enrol", "fresh_phrase", "phrases", "recover", "require_enrollable"]

PHRASE_NAME: Final = "recovery phrase"

_SEARCH_S: Final = 10.0
"""How long devices are looked for in the local network."""

_ROOT_SIZE: Final = 16
"""Of the root that a session keeps, as it stands on the wire."""

_WHERE: Final = (
    "Run 'mlog serve' on a device of yours that holds your messages, or have a contact run it on one of "
    "theirs, in the same network as this one, or say where it is: --peer HOST:PORT."
)
_NO_ANSWER: Final = (
    "It is none of yours, nor of a contact who knows this phrase, or the phrase was replaced or revoked "
    "('mlog devices' there says so), or mlog there is older, or its clock and that of this machine are more "
    "than a day apart. Nothing was changed."
)
_DAMAGED: Final = (
    "the log of your devices is damaged on the device that answers: run 'mlog verify --repair' there, or "
    "recover from another one ('--peer HOST:PORT')."
)

Told: TypeAlias = Callable[[Step], None]


# -- the phrase as a device ------------------------------------------------------------------


def fresh_phrase() -> Phrase:
    """A phrase that nobody has seen, and that is nobody's yet."""
    return new_phrase(SystemEntropy())


def phrases(home: Home) -> tuple[Member, ...]:
    """The phrases of this person that are good now, as devices."""
    person = home.replica.people.current()
    return person.phrases if person is not None else ()


def require_enrollable(home: Home, *, replace: bool) -> None:
    """See whether `enrol` would work now.

    Raises:
        UserError: There is a phrase already, or none to replace, or there are too many devices.
    """
    person = trusting.own_person(home.replica)
    if person.phrases and not replace:
        raise UserError(
            "there is a recovery phrase already. If it was lost, or somebody else has seen it, 'mlog "
            "recovery --replace' makes a new one, and the old one is good for nothing then."
        )
    if len(person.members) - len(person.phrases) >= limits.KEY_RECIPIENTS_MAX:
        raise UserError(
            f"a person has at most {limits.KEY_RECIPIENTS_MAX} devices, the phrase included. Revoke one that "
            "is not used any more: 'mlog devices revoke DEVICE'."
        )


def enrol(home: Home, phrase: Phrase, *, replace: bool = False) -> Member:
    """Make a phrase a device of this person; all that is written from now on is for it, too. Durable on
    return, all of it or nothing.

    Args:
        replace: Revoke those that there are.

    Raises:
        UserError: As `require_enrollable`.
    """
    replica, now_ms, keys = home.replica, home.now_ms(), phrase.keys
    with replica.transaction():
        require_enrollable(home, replace=replace)
        for old in trusting.own_person(replica).phrases:
            belonging.revoke(replica, old.device, now_ms)
        row = PeerRow(
            device=keys.id, name=PHRASE_NAME, noise=keys.noise_public, hpke=keys.hpke_public, own=True
        )
        belonging.admit(replica, row, now_ms, phrase=True)
        person = trusting.own_person(replica)
        before = replica.people.standing()
        record = bodies.Device(name=PHRASE_NAME, person=person.name, noise=row.noise, hpke=row.hpke)
        replica.as_device(keys).write(person.log, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        belonging.follow(replica, before, now_ms)
        member = trusting.own_person(replica).member(keys.id)
    assert member is not None
    return member


# -- recovery --------------------------------------------------------------------------------


def recover(home: Home, phrase: Phrase, told: Told, *, peer: str = "", discovery: bool = True) -> None:
    """Bring all history of the person whose phrase this is to a new home.

    Args:
        told: Told what happens, in this thread.
        peer: Where a device is that holds it, as HOST:PORT; "" looks for one in the local network.

    Raises:
        UserError: This home has messages of its own; the device that is there does not answer this phrase;
            or the phrase is not good any more.
        PeerUnavailable: No device is found or reached, or it was lost.
        StoreError: The disk is full, or the database is damaged.
    """
    _require_new(home, phrase)
    if local_socket.is_served(home.path):
        raise UserError("'mlog serve' runs on this home. Stop it, then run 'mlog recover' again.")

    async def run() -> None:
        networks = interfaces.present if discovery else None
        holder = await _Recovery(home, phrase, told, networks).find(peer)
        await _sync(home, holder, told, networks)

    with Claim(home.path):
        asyncio.run(run())


def _require_new(home: Home, phrase: Phrase) -> None:
    """That nothing here would be mixed with what is recovered.

    Raises:
        UserError: Something would.
    """
    replica = home.replica
    person = trusting.own_person(replica)
    if person.member(phrase.keys.id) is not None:
        # It was cut off before, or another device lost the rest.
        return
    wrote = any(
        chain.device == replica.device_id
        for state in replica.logs(LogKind.CONVERSATION)
        for chain in home.store.chains(state.n)
    )
    if wrote or len(person.members) > 1:
        raise UserError(
            "this home has messages or devices of its own, which are not to be mixed with what is recovered. "
            "Recover into a new one: 'mlog --home FOLDER recover'. To bring both together instead, run 'mlog "
            "pair' on a device that has the rest."
        )


class _PersonLogs(Replica):
    """Keeps the logs that say who is who, and nothing else: the phrase's device needs no more."""

    def add_logs(self, logs: Sequence[tuple[LogKind, LogKeys]]) -> list[int]:
        return super().add_logs([log for log in logs if log[0] == LogKind.PERSON])

    def trusted(self) -> Set[DeviceId]:
        """Not who answers, who may be anybody that knows the phrase's public keys: only devices of the
        person to which the phrase said yes before."""
        person = self.people.current()
        machines = person.machines if person is not None else ()
        return {member.device for member in machines if member.confirmed}


class _Holder(NamedTuple):
    """The device that let the new home in.

    Attributes:
        met: Topic of the person log of another person, whose device it is; None of one's own.
    """

    device: DeviceId
    met: Topic | None


class _NoAnswer(PeerUnavailable):
    """Who is there does not answer this phrase."""


class _Lost(PeerUnavailable):
    """The connection ended before it was done, and trying again goes on from there."""


class _OnlyMet(PeerUnavailable):
    """Who is there is a device of another person, and there may be one of one's own."""


class _Recovery:
    """Finds a device that holds the person's log, and has the new home's device admitted there."""

    def __init__(
        self,
        home: Home,
        phrase: Phrase,
        told: Told,
        networks: Callable[[], Sequence[Interface]] | None,
    ):
        self._home = home
        self._phrase = phrase
        self._told = told
        self._networks = networks

    async def find(self, peer: str) -> _Holder:
        """The device that let this one in; one's own, if one answers, since it holds more."""
        missed: list[PeerUnavailable] = []
        candidates = await self._candidates(peer)
        met: list[tuple[str, ...]] = []
        for addresses in candidates:
            try:
                return await self._try(addresses, met=len(candidates) == 1)
            except _OnlyMet:
                met.append(addresses)
            except PeerUnavailable as error:
                missed.append(error)
        # Who was lost on the way may have been an own device.
        for addresses in met if not any(isinstance(error, _Lost) for error in missed) else ():
            try:
                return await self._try(addresses, met=True)
            except PeerUnavailable as error:
                missed.append(error)
        if all(isinstance(error, _NoAnswer) for error in missed):
            where = (
                missed[0] if len(missed) == 1 else f"{len(missed)} devices here run mlog, and none answers."
            )
            raise UserError(f"{where} {_NO_ANSWER}")
        raise missed[-1]

    async def _try(self, addresses: tuple[str, ...], *, met: bool) -> _Holder:
        self._told(Reaching(addresses=addresses))
        return await _Attempt(self._home, self._phrase, self._told, met=met).run(addresses)

    async def _candidates(self, peer: str) -> Sequence[tuple[str, ...]]:
        """Where holders may be, one after the other; at least one."""
        if peer:
            try:
                return [(join_address(*split_address(peer, config.DEFAULT_PORT)),)]
            except InvalidInput as error:
                raise UserError(f"{error}.") from None
        if self._networks is None:
            raise UserError("say where a device is that holds your messages: --peer HOST:PORT.")
        from mlog.adapters.pairing_discovery import find_served

        self._told(Searching())
        try:
            found = await find_served(self._networks(), _SEARCH_S)
        except OSError as error:
            raise PeerUnavailable(
                f"this network cannot be searched: {error.strerror or error}. Say where a device is that "
                "holds your messages: --peer HOST:PORT."
            ) from None
        if not found:
            raise PeerUnavailable(f"no device that runs mlog is found in this network. {_WHERE}")
        return found


class _Attempt:
    """One try at one device: the phrase's device in memory, and its only session.

    Args:
        met: A device of another person will do.
    """

    def __init__(self, home: Home, phrase: Phrase, told: Told, *, met: bool):
        self._home = home
        self._told = told
        self._takes_met = met
        entropy = SystemEntropy()
        self._store = MemoryStore()
        self._replica = _PersonLogs(
            self._store, phrase.keys, Vault(entropy.random(32)), entropy, Incarnation(entropy.random(8))
        )
        self._heard: asyncio.Queue[Event | Notice] = asyncio.Queue()
        self._address = ""
        self._greeted = False
        self._stored = 0
        self._holder: Member | None = None
        self._met: Person | None = None
        self._heard_out = False

    async def run(self, addresses: tuple[str, ...]) -> _Holder:
        """Until the new home's device is admitted there, durably.

        Raises:
            PeerUnavailable: It is not reached, or was lost.
            UserError: The phrase is not good any more, or this home cannot be the one that is recovered.
        """
        runtime = Runtime(
            Node(self._replica, SystemEntropy(), dials=False),
            ping=True,
            default_port=config.DEFAULT_PORT,
            clock_ms=self._home.now_ms,
            notice=self._heard.put_nowait,
            watch=self._heard.put_nowait,
        )
        runtime.start()
        running = asyncio.ensure_future(runtime.run())
        try:
            runtime.deliver(Recover(addresses))
            while True:
                holder = self._take(await self._next(addresses), runtime, addresses)
                if holder is not None:
                    return holder
        finally:
            runtime.stop()
            await asyncio.gather(running, return_exceptions=True)

    async def _next(self, addresses: tuple[str, ...]) -> Event | Notice:
        try:
            async with asyncio.timeout(limits.IDLE_TIMEOUT_MS / 1000):
                return await self._heard.get()
        except TimeoutError:
            if self._greeted and self._holder is None:
                raise PeerUnavailable(
                    f"the device at {addresses[0]} answers, and gives no log in which this phrase is one "
                    "of your devices. Recover from another one: --peer HOST:PORT."
                ) from None
            raise self._lost(addresses) from None

    def _lost(self, addresses: tuple[str, ...]) -> _Lost:
        return _Lost(
            f"the connection to {addresses[0]} was lost before it was done. Run 'mlog recover' again: it "
            "goes on from there."
        )

    def _take(self, happened: Event | Notice, runtime: Runtime, addresses: tuple[str, ...]) -> _Holder | None:
        """What follows from what happened; the holder, once all is done."""
        match happened:
            case Opened(reached=True, address=address):
                self._address = address
            case Unmet(reason=reason):
                raise PeerUnavailable(f"nobody is reached at {reason}. {_WHERE}")
            case Closed() if not self._greeted:
                raise _NoAnswer(f"the device at {addresses[0]} does not answer this phrase.")
            case Closed():
                raise self._lost(addresses)
            case Notice(what="connected"):
                self._greeted = True
            case Notice(what="rested" | "equal" as what, device=device):
                return self._compared(DeviceId(device), runtime, rested=what == "rested")
            case Notice(what="stored", count=count):
                self._stored += count
                if self._stored > limits.RECOVERY_ENTRIES_MAX:
                    raise UserError(
                        f"the device at {addresses[0]} sends far more than the log of a person's devices. "
                        "Recover from another one: --peer HOST:PORT."
                    )
            case Notice(what="differing", log=log) if self._is_own(log):
                raise UserError(_DAMAGED)
            case _:
                pass
        return None

    def _is_own(self, log: int) -> bool:
        person = self._replica.people.current()
        return person is not None and person.log == log

    def _compared(self, device: DeviceId, runtime: Runtime, *, rested: bool) -> _Holder | None:
        """A log is the same at both ends, or nothing is left to compare."""
        if self._replica.people.is_revoked(self._replica.device_id):
            raise UserError(
                "this phrase was revoked, or replaced by a newer one: it opens nothing any more. Type the "
                "newer one, or pair this machine with one of your devices ('mlog pair')."
            )
        person = self._replica.people.current()
        if person is None or not self._is_equal(person.log, device):
            return None
        if self._holder is None:
            # All that was given has to be here: it may say that the person joined an older one.
            if rested:
                self._admit(person, device)
                runtime.deliver(Committed())
                runtime.deliver(SyncNow())
            return None
        if self._met is not None and not self._heard_out:
            # It answers once more when it has taken what opens what is new in the log.
            if rested:
                self._heard_out = True
                runtime.deliver(SyncNow())
            return None
        return self._done(person)

    def _is_equal(self, log: int, device: DeviceId) -> bool:
        root = entries_root(refresh_digests(self._store, log), 0)[:_ROOT_SIZE]
        return any(row.device == device and row.equal_root == root for row in self._store.syncs(log))

    def _admit(self, person: Person, device: DeviceId) -> None:
        """See whose the holder is, then let the phrase admit the new home's device."""
        home, now_ms = self._home, self._home.now_ms()
        holder, met = self._find_holder(person, device), None
        if holder is None:
            met = next((p for p in self._replica.people.persons() if self._find_holder(p, device)), None)
            holder = self._find_holder(met, device) if met is not None else None
        if holder is None:
            raise UserError(
                "the device that answers is none of yours any more, as it says itself, and of nobody whom "
                "you meet. Recover from another one: --peer HOST:PORT."
            )
        if met is not None and not self._takes_met:
            raise _OnlyMet(f"{holder.name} is a device of {met.name}.")
        claim = DeviceClaim(
            device=device,
            noise=holder.noise,
            hpke=holder.hpke,
            name=holder.name,
            person=person.name,
            topic=person.topic,
            founded_ms=person.founded_ms,
            devices=len(person.machines),
            addresses=self._addresses(holder),
        )
        own = trusting.own_person(home.replica)
        if own.topic != person.topic and trusting.outcome_of(home.replica, claim) == Outcome.ADMITTED:
            raise UserError(
                "this home is older than what is to be recovered, or the clock of this machine is behind. "
                "Set the clock, and recover into a new home: 'mlog --home FOLDER recover'."
            )
        keys = home.replica.device_keys
        here = own.member(keys.id)
        assert here is not None
        row = PeerRow(
            device=keys.id, name=here.name, noise=keys.noise_public, hpke=keys.hpke_public, own=True
        )
        try:
            if met is None:
                trusting.trust(home.replica, claim, now_ms)
                belonging.admit(self._replica, row, now_ms)
            else:
                # What opens the log from now on is given to it as to a contact.
                regaining.meet(self._replica, _contact(met, device, now_ms), now_ms)
                regaining.let_in(self._replica, row, keys, now_ms)
        except LimitExceeded as error:
            raise UserError(
                f"{error} Revoke one that is lost, on one that is left: 'mlog devices revoke DEVICE'."
            ) from None
        self._holder, self._met = holder, met

    def _find_holder(self, person: Person, device: DeviceId) -> Member | None:
        """The device that answers, if it is one of a person, and has the key of the handshake."""
        known = next(peer for peer in self._store.peers() if peer.device == device)
        member = person.member(device)
        if member is None or not member.confirmed or member.noise != known.noise:
            return None
        return None if self._replica.people.is_revoked(device) else member

    def _addresses(self, holder: Member) -> tuple[str, ...]:
        return usable_addresses((self._address, *holder.addresses))

    def _done(self, person: Person) -> _Holder:
        """The new home is a device of the person at the other end, too."""
        home, holder, met = self._home, self._holder, self._met
        assert holder is not None
        if met is not None:
            now_ms = home.now_ms()
            row = PeerRow(
                device=holder.device,
                name=f"{met.name} ({holder.name})",
                noise=holder.noise,
                hpke=holder.hpke,
                own=False,
                addresses=self._addresses(holder),
                added_ms=now_ms,
            )
            with home.replica.transaction():
                regaining.take_over(self._replica, home.replica, person.log, now_ms)
                home.store.put_peer(row)
                regaining.meet(home.replica, _contact(met, holder.device, now_ms), now_ms)
        self._told(
            Paired(
                device=holder.device.hex(),
                name=holder.name,
                person=person.name,
                outcome=Outcome.JOINS.value,
                met=met.name if met is not None else "",
            )
        )
        return _Holder(holder.device, met.topic if met is not None else None)


def _contact(person: Person, device: DeviceId, now_ms: int) -> Contact:
    return Contact(topic=person.topic, name=person.name, device=device, since_ms=now_ms)


async def _sync(
    home: Home, holder: _Holder, told: Told, networks: Callable[[], Sequence[Interface]] | None
) -> None:
    """Fetch all, as the device that was admitted."""
    from mlog.api.service import Service

    service = Service(home, phone=True, networks=networks)
    try:
        sync = FirstSync(service, holder.device, holder.met)
        with service.watched(sync.heard):
            await service.start(None)
            async with aclosing(sync.amounts()) as amounts:
                while (amount := await service.unless_stopped(anext(amounts, None))) is not None:
                    told(Progress(remaining=amount.remaining, done=amount.done))
        told(Complete(done=sync.amount.done, differing=sync.differing))
    finally:
        await service.close()

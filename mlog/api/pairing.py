"""Pairing: one device shows a one-use code, another one has it typed; then both share everything.

`pair` does either part for a home: in the service if one runs there, so that one port and one store are
used, else by itself for as long as it takes. What happens is told as steps (`Step`), on the showing side

    Offered -> Shown (asks) -> Paired -> Progress... -> Complete

and on the other one

    Searching -> Reaching -> Shown -> Paired -> Progress... -> Complete

Whatever ends it earlier is an error that says why. docs/protocol.md, 19.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mlog import config, limits
from mlog.adapters import interfaces, local_socket
from mlog.adapters.interfaces import Interface
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.local_socket import Claim
from mlog.adapters.websocket import join_address, split_address
from mlog.api.first_sync import FirstSync
from mlog.api.pairing_steps import (
    Complete,
    Offered,
    Paired,
    Progress,
    Reaching,
    Searching,
    Shown,
    Step,
    Wish,
)
from mlog.api.trust import checked_address, usable_addresses
from mlog.errors import Busy, InvalidInput, PeerUnavailable, UserError
from mlog.log import trusting
from mlog.log.ids import DeviceId, Topic
from mlog.log.trusting import Claim as DeviceClaim
from mlog.protocol import codes, pairing
from mlog.protocol.codes import Code, Link, LinkType
from mlog.protocol.events import Decide, Leave, Meet, Opened, Seen, SyncNow, Unmet
from mlog.protocol.pairing import DeviceRecord, Ended, Show

if TYPE_CHECKING:
    from mlog.adapters.pairing_discovery import Waiting
    from mlog.api.home import Home
    from mlog.api.service import Happening, Service

__all__ = ["OnMet", "pair", "read_secret", "steps"]

_SEARCH_S: Final = 10.0
"""How long a device that waits is looked for in the local network."""

_LINK_ADDRESSES_MAX: Final = 4
"""Addresses that go into a link: a QR code with more does not fit a small terminal."""

_FIREWALL: Final = (
    "See that both are in one network, and that the code is still shown there; a firewall or a guest network "
    "may be in the way: 'mlog doctor' on both says more."
)

OnMet: TypeAlias = Callable[["Home", DeviceRecord], object]
"""Takes another person's device that was met, durable on return; refuses it with `UserError`."""

Told: TypeAlias = Callable[[Step, Callable[[bool], None]], None]
"""Told each step, and what to call with the person's answer to `Shown`, from any thread."""


# -- either part, for a home -----------------------------------------------------------------


def pair(
    home: Home,
    wish: Wish,
    told: Told,
    *,
    host: str | None = None,
    port: int | None = None,
    discovery: bool = True,
) -> None:
    """Pair, and bring both devices to the same.

    Args:
        told: Told what happens, in this thread.
        host, port, discovery: As for `mlog.api.service.serve`, where no service runs; a port that is None
            is the usual one, or any where that is in use.

    Raises:
        UserError: The code is none, or another one, or too old; somebody said no; or both cannot be paired.
        Busy: A pairing goes on already.
        PeerUnavailable: The other device is not found or not reached, or was lost.
        StoreError: The disk is full, or the database is damaged.
    """
    if local_socket.is_served(home.path):
        _pair_in_service(home, wish, told)
        return

    async def run() -> None:
        from mlog.api.service import Service

        loop = asyncio.get_running_loop()
        networks = interfaces.present if discovery else None
        service = Service(home, phone=bool(wish.secret), networks=networks)

        def answer(yes: bool) -> None:
            # The loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(service.runtime.deliver, Decide(yes))

        try:
            await _start(service, None if wish.secret else (host, port))
            async with aclosing(steps(service, wish)) as happening:
                async for step in happening:
                    told(step, answer)
        finally:
            await service.close()

    with Claim(home.path):
        asyncio.run(run())


async def _start(service: Service, listen: tuple[str | None, int | None] | None) -> None:
    if listen is None:
        await service.start(None)
        return
    host, port = listen
    try:
        await service.start((host, config.DEFAULT_PORT if port is None else port))
    except UserError:
        if port is not None:
            raise
        await service.start((host, 0))


def _pair_in_service(home: Home, wish: Wish, told: Told) -> None:
    def answer(yes: bool) -> None:
        # The service may be gone, which the other request tells.
        with suppress(PeerUnavailable):
            list(local_socket.ask(home.path, {"do": "decide", "yes": yes}, timeout_s=10))

    request = {"do": "pair", **msgspec.to_builtins(wish)}
    for given in local_socket.ask(home.path, request, timeout_s=None):
        if "step" in given:
            told(msgspec.convert(given, Step), answer)


def read_secret(text: str, expected: LinkType, now_ms: int) -> Code | Link:
    """A code or a link, as a person typed it.

    Raises:
        UserError: It is none, or of another type, or too old.
    """
    if not codes.is_link(text):
        return codes.parse_code(text)
    link = codes.decode_link(text)
    codes.expect_link(link, expected, now_ms)
    return link


# -- in a service ----------------------------------------------------------------------------


def _meet(home: Home, record: DeviceRecord) -> None:
    from mlog.api.contacts import meet

    meet(home, record)


async def steps(service: Service, wish: Wish, on_met: OnMet = _meet) -> AsyncGenerator[Step]:
    """Pair in a service that runs, until both hold the same; closing it ends the pairing.

    Args:
        on_met: Called with another person's device once both ends have said yes. The first sync then is of
            the two persons' logs.

    Raises:
        As `pair`.
    """
    if service.pairs:
        raise Busy("a pairing goes on already on this device. End that one first.")
    service.pairs = True
    talk = _Talk(service, wish, on_met)
    try:
        with service.watched(talk.heard):
            async with aclosing(talk.join() if wish.secret else talk.offer()) as happening:
                async for step in happening:
                    yield step
    finally:
        service.pairs = False
        service.runtime.deliver(Leave())


class _Talk:
    """One pairing of one service."""

    def __init__(self, service: Service, wish: Wish, on_met: OnMet):
        self._service = service
        self._on_met = on_met
        self._home = service.home
        self._wish = wish
        self._heard: asyncio.Queue[Show | pairing.Paired | Ended] = asyncio.Queue()
        self._outcome = ""
        self._reached = ""
        self._unmet = False
        self._sync: FirstSync | None = None

    def heard(self, told: Happening) -> None:
        """Take what the service says."""
        match told:
            case Show() | Ended():
                self._heard.put_nowait(told)
            case pairing.Paired(record=record):
                self._heard.put_nowait(told)
                met = Topic(record.topic) if self._wish.type == LinkType.PERSON else None
                self._sync = FirstSync(self._service, DeviceId(record.device), met)
            case Opened(reached=True, address=address):
                self._reached = address
            case Unmet():
                self._unmet = True
            case _ if self._sync is not None:
                self._sync.heard(told)
            case _:
                pass

    # -- the side that shows the code --------------------------------------------------------

    async def offer(self) -> AsyncGenerator[Step]:
        from mlog.adapters.pairing_discovery import Waiting, addresses_of

        service, wish, entropy = self._service, self._wish, SystemEntropy()
        if not service.port:
            raise UserError(
                "this device only connects to others, and cannot be found. Show the code on the other one, "
                "and type it here ('mlog pair --join', 'mlog accept')."
            )
        at = self._networks()
        found = addresses_of(at, service.port, service.host)
        addresses = self._own_addresses(found)
        own = self._record(addresses[: limits.ADDRESSES_MAX])
        code = codes.new_code(entropy)
        link = Link(
            type=wish.type,
            expires_s=(self._home.now_ms() + limits.PAIRING_LIFE_MS) // 1000,
            secret=entropy.random(codes.LINK_SECRET_SIZE),
            fingerprint=pairing.fingerprint(own.device, own.noise, own.hpke),
            addresses=addresses[:_LINK_ADDRESSES_MAX],
        )
        waiting = Waiting(entropy)
        try:
            problem = await self._announce(waiting, at, found)
            self._meet(own, (code.shared_key, link.shared_key))
            yield Offered(
                code=code.text,
                link=codes.encode_link(link),
                addresses=addresses,
                life_ms=limits.PAIRING_LIFE_MS,
                problem=problem,
            )
            async for step in self._until_paired():
                yield step
        finally:
            await waiting.stop()
        async for step in self._first_sync():
            yield step

    async def _announce(self, waiting: Waiting, at: Sequence[Interface], addresses: Sequence[str]) -> str:
        """Say in the local network that this device waits; gives what is in the way of that."""
        if self._service.networks is None:
            return "devices are not looked for here"
        if not addresses:
            return "this machine is in no network"
        try:
            await waiting.start(at, addresses, self._service.port)
        except OSError as error:
            return str(error.strerror or error)
        return ""

    # -- the side that has it typed ----------------------------------------------------------

    async def join(self) -> AsyncGenerator[Step]:
        from mlog.adapters.pairing_discovery import addresses_of

        wish = self._wish
        secret = read_secret(wish.secret, wish.type, self._home.now_ms())
        service = self._service
        found = addresses_of(self._networks(), service.port, service.host) if service.port else ()
        own_addresses = self._own_addresses(found)
        missed = PeerUnavailable("the other device is not reached.")
        async for addresses in self._candidates(secret):
            if not addresses:
                yield Searching()
                continue
            yield Reaching(addresses=addresses)
            self._unmet = False
            expected = secret.fingerprint if isinstance(secret, Link) else None
            self._meet(self._record(own_addresses), (secret.shared_key,), addresses, expected)
            try:
                async for step in self._until_paired():
                    yield step
            except PeerUnavailable as error:
                if not self._unmet:
                    raise
                missed = error
                continue
            async for step in self._first_sync():
                yield step
            return
        raise missed

    async def _candidates(self, secret: Code | Link) -> AsyncGenerator[tuple[str, ...]]:
        """Where the other device may be, one after the other; empty before it is looked for."""
        if self._wish.peer:
            try:
                yield (join_address(*split_address(self._wish.peer, config.DEFAULT_PORT)),)
            except InvalidInput as error:
                raise UserError(f"{error}.") from None
            return
        tried = isinstance(secret, Link) and bool(secret.addresses)
        if isinstance(secret, Link) and secret.addresses:
            yield secret.addresses
        if self._service.networks is None:
            if not tried:
                raise UserError("say where the other device is: --peer HOST:PORT, as its screen shows it.")
            return
        yield ()
        found = await self._search()
        if found:
            yield found
        elif not tried:
            raise PeerUnavailable(
                "no device in this network waits to be paired. Have the other one show its code first, or "
                f"say where it is: --peer HOST:PORT, as its screen shows it. {_FIREWALL}"
            )

    async def _search(self) -> tuple[str, ...]:
        from mlog.adapters.pairing_discovery import find_waiting

        try:
            found = await find_waiting(self._networks(), _SEARCH_S)
        except OSError as error:
            raise PeerUnavailable(
                f"this network cannot be searched: {error.strerror or error}. Say where the other device is: "
                "--peer HOST:PORT, as its screen shows it."
            ) from None
        if len(found) > 1:
            listed = "".join(f"\n  {', '.join(addresses)}" for addresses in found)
            raise UserError(
                "several devices in this network wait to be paired, and a try at the wrong one would spend "
                f"its code. Say which one: --peer HOST:PORT, as its screen shows it.{listed}"
            )
        return found[0] if found else ()

    # -- both --------------------------------------------------------------------------------

    def _own_addresses(self, found: Sequence[str]) -> tuple[str, ...]:
        """Where this device is reached: as the person says, and what it found itself."""
        service = self._service
        listens = [join_address(service.host, service.port)] if service.host is not None else []
        named = map(checked_address, self._wish.addresses)
        return tuple(dict.fromkeys((*named, *found, *(listens if service.port else ()))))

    def _networks(self) -> Sequence[Interface]:
        """Of this machine: to name its addresses nothing is sent, so also where nobody is looked for."""
        return (self._service.networks or interfaces.present)()

    def _record(self, addresses: tuple[str, ...]) -> DeviceRecord:
        keys, person = self._home.replica.device_keys, trusting.own_person(self._home.replica)
        member = person.member(keys.id)
        assert member is not None
        return pairing.make_record(
            keys,
            purpose=self._wish.type,
            name=member.name,
            person=person.name,
            topic=person.topic,
            founded_ms=person.founded_ms,
            devices=len(person.machines),
            addresses=addresses[: limits.ADDRESSES_MAX],
        )

    def _meet(
        self,
        own: DeviceRecord,
        shared_keys: tuple[bytes, ...],
        addresses: Sequence[str] = (),
        expected: bytes | None = None,
    ) -> None:
        plan = Meet(
            record=own,
            shared_keys=shared_keys,
            dials=bool(self._wish.secret),
            addresses=tuple(addresses),
            expected=expected,
            accepts=self._check,
            keep=self._keep,
        )
        self._service.runtime.deliver(plan)

    def _check(self, other: DeviceRecord) -> None:
        if self._wish.type == LinkType.DEVICE:
            trusting.outcome_of(self._home.replica, self._claim_of(other))
        elif self._home.replica.people.is_own(DeviceId(other.device)):
            raise UserError("this is one of your own devices, and no other person's.")

    def _keep(self, other: DeviceRecord) -> None:
        if self._wish.type == LinkType.PERSON:
            self._on_met(self._home, msgspec.structs.replace(other, addresses=self._addresses_of(other)))
            self._outcome = "met"
            return
        outcome = trusting.trust(self._home.replica, self._claim_of(other), self._home.now_ms())
        self._outcome = outcome.value

    def _claim_of(self, other: DeviceRecord) -> DeviceClaim:
        return DeviceClaim(
            device=DeviceId(other.device),
            noise=other.noise,
            hpke=other.hpke,
            name=other.name,
            person=other.person,
            topic=Topic(other.topic),
            founded_ms=other.founded_ms,
            devices=other.devices,
            addresses=self._addresses_of(other),
        )

    def _addresses_of(self, other: DeviceRecord) -> tuple[str, ...]:
        """Where the other device is; where it was reached first."""
        return usable_addresses((self._reached, *other.addresses))

    async def _until_paired(self) -> AsyncGenerator[Step]:
        while True:
            told = await self._service.unless_stopped(self._heard.get())
            match told:
                case Show(record=record, words=words, asks=asks):
                    yield Shown(name=record.name, person=record.person, words=words, asks=asks)
                case Ended(reason=reason):
                    if self._unmet:
                        raise PeerUnavailable(f"the other device is not reached: {reason}. {_FIREWALL}")
                    raise UserError(reason)
                case pairing.Paired(record=record):
                    yield Paired(
                        device=record.device.hex(),
                        name=record.name,
                        person=record.person,
                        outcome=self._outcome,
                    )
                    addresses = self._addresses_of(record)
                    if self._wish.secret and addresses:
                        self._service.runtime.deliver(Seen(DeviceId(record.device), addresses))
                    # Where both are connected already, for they were paired before.
                    self._service.runtime.deliver(SyncNow())
                    return

    async def _first_sync(self) -> AsyncGenerator[Step]:
        assert self._sync is not None
        async with aclosing(self._sync.amounts()) as amounts:
            while True:
                amount = await self._service.unless_stopped(anext(amounts, None))
                if amount is None:
                    break
                yield Progress(remaining=amount.remaining, done=amount.done)
        yield Complete(done=self._sync.amount.done, differing=self._sync.differing)

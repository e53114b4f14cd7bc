"""Homes of several persons who accepted each other, and sync as commands do."""

from __future__ import annotations

from pathlib import Path

from mlog.adapters.runtime import now_ms
from mlog.api.contacts import meet
from mlog.api.home import Home
from mlog.api.service import sync_once
from mlog.protocol.codes import LinkType
from mlog.protocol.pairing import DeviceRecord, make_record
from tests.api.serving import served

_WAIT_S = 20


def record_of(home: Home) -> DeviceRecord:
    """What the device of a home says of itself to another person's."""
    person = home.replica.people.current()
    assert person is not None
    member = person.member(home.replica.device_id)
    assert member is not None
    return make_record(
        home.replica.device_keys,
        purpose=LinkType.PERSON,
        name=member.name,
        person=person.name,
        topic=person.topic,
        founded_ms=person.founded_ms,
        devices=len(person.members),
    )


def people(folder: Path, *names: str) -> list[Path]:
    """Homes of persons each of whom accepted all others, and that have met."""
    paths = [folder / name for name in names]
    for at, path in enumerate(paths):
        with Home(path, person=path.name, clock_ms=lambda at=at: now_ms() + at):
            pass
    for at, path in enumerate(paths):
        for other in paths[at + 1 :]:
            accept(path, other)
            sync(path, other)
    return paths


def accept(one: Path, other: Path) -> None:
    """Both persons say yes to each other."""
    with Home(one) as here, Home(other) as there:
        meet(here, record_of(there))
        meet(there, record_of(here))


def sync(served_home: Path, other: Path) -> bool:
    """Serve a home, sync another one with it; whether that was complete."""
    with served(served_home, other), Home(other) as home, Home(served_home) as there:
        device = there.replica.device_id
        report = sync_once(home, device.hex(), timeout_s=_WAIT_S)
    return report.equal

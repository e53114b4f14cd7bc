"""Real days of IRC, replayed: who spoke then writes at a device of their own, and they meet now and then."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from mlog.formats import Source, importer
from mlog.formats.record import Record
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.replica import Draft
from mlog.protocol.events import Committed

from . import checkers
from .checkers import Ledger
from .machine import Machine
from .network import Network
from .simulation import paired

pytestmark = pytest.mark.corpus

DEVICES = 5
_QUIET_MS = 5 * 60_000
_HEAL_MAX_MS = 24 * 3600_000


class Line(NamedTuple):
    """One line of a day. `minute`: since the first one; never back, as the file is in order."""

    minute: int
    author: str
    text: str


def lines_of(path: Path) -> list[Line]:
    with path.open("rb") as stream:
        records = [
            item for item in importer("irc").parse(Source(stream, path.name)) if isinstance(item, Record)
        ]
    lines: list[Line] = []
    latest = first = records[0].time_ms
    for record in records:
        latest = max(latest, record.time_ms)
        text = f"{record.position} {record.kind.name} {record.text}"
        lines.append(Line((latest - first) // 60_000, record.author, text))
    return lines


def speakers(lines: list[Line]) -> dict[str, int]:
    """A device for each author: those who said most have one to themselves."""
    ranked = [author for author, _ in Counter(line.author for line in lines).most_common()]
    return {author: number % DEVICES for number, author in enumerate(ranked)}


def replay(path: Path, seed: int) -> Counter[str]:
    """Let a day happen again; gives what every device shows at the end."""
    lines = lines_of(path)
    device_of = speakers(lines)
    random = Random(f"{path.name} {seed}")
    begun = paired(DEVICES, (), sqlite=False)
    machines = [Machine(index, f"replay {seed}") for index in range(DEVICES)]
    network = Network(f"replay {path.name} {seed}", machines, events_max=2_000_000)
    ledger = Ledger(network)
    for machine, disk in zip(machines, begun.disks, strict=True):
        machine.continue_from(disk)
        ledger.begin(machine)
        network.boot(machine)
    topic = begun.topics[-1]
    start_ms = network.now_ms
    for line in lines:
        machine = machines[device_of[line.author]]
        network.run(max(start_ms + line.minute * 60_000 - network.now_ms, 0))
        draft = Draft(Kind.MESSAGE, bodies.Text(text=line.text), network.now_ms)
        machine.say(topic, [draft], network.now_ms, beside=random.random() < 0.1)
        network.post(machine, Committed())
        one, other = random.sample(machines, 2)
        drawn = random.random()
        if drawn < 0.02:
            network.meet(one, other)
        elif drawn < 0.05:
            network.part(one, other)
    for number, machine in enumerate(machines[1:]):
        network.meet(machine, machines[random.randint(0, number)])
    network.run_until_quiet(_QUIET_MS, _HEAL_MAX_MS)
    for machine in machines:
        checkers.check_held(machine)
        checkers.check_stores(machine)
        checkers.check_authentic(network, ledger, machine)
    checkers.check_equal(network, machines, topic)
    assert machines[0].replica is not None
    n = machines[0].log_n(topic)
    assert n is not None
    shown = checkers.view_of(network, machines[0].replica, n)
    for machine in machines:
        said = [line.text for line in lines if machines[device_of[line.author]] is machine]
        assert [m.text for m in shown if m.author.device == machine.device] == said, "a device's own order"
    assert Counter(m.text for m in shown) == Counter(line.text for line in lines)
    return Counter(m.text for m in shown)


def days(corpus: Path) -> list[Path]:
    return sorted([*corpus.glob("irc-*/**/*.raw.txt"), *corpus.glob("irc-*/**/*.ascii.txt")])


@pytest.mark.parametrize("number", [0, 60])
def test_a_day_that_is_said_at_many_devices_reads_alike_on_all(corpus: Path, number: int):
    assert sum(replay(days(corpus)[number], number).values()) > 200


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 120, 6))
def test_many_days_read_alike_on_all_devices(corpus: Path, number: int):
    assert sum(replay(days(corpus)[number], number).values()) > 200

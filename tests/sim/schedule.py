"""Schedules: what happens in one simulated network, as a list of actions that follows from a seed.

An action is a name and a few numbers, whose meaning never depends on the other actions: so any of them
can be left out, and `shrink` finds a short list that still fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final, NamedTuple

import msgspec

__all__ = ["PROFILES", "Action", "Schedule", "draw", "shrink"]


class Action(NamedTuple):
    """One thing that happens.

    Attributes:
        who: Machine, counted modulo their number.
        a, b: What they mean depends on the name (`simulation.py`).
        then_ms: How much time passes afterwards.
    """

    name: str
    who: int
    a: int
    b: int
    then_ms: int


class Schedule(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        machines: How many devices.
        roles: By machine, what is special about it.
        persons: By machine, whose it is; none where all are one person's.
    """

    seed: int
    profile: str
    machines: int
    roles: dict[int, str]
    actions: tuple[Action, ...]
    persons: tuple[int, ...] = ()

    def __str__(self) -> str:
        actions = "".join(f"\n    {tuple(action)}," for action in self.actions)
        persons = f", persons {self.persons}" if self.persons else ""
        begins = f"seed {self.seed} ({self.profile}), {self.machines} machines, roles {self.roles}{persons}"
        return f"{begins}:{actions}"


class Profile(NamedTuple):
    """What one family of schedules is about.

    Attributes:
        weights: Of the actions.
        roles: For special machines; each is the last one that is still free.
        sqlite: Databases instead of memory.
        persons: The devices are of several persons; the roles are for any of them.
    """

    weights: Mapping[str, int]
    roles: tuple[str, ...] = ()
    sqlite: bool = False
    persons: bool = False


_LIFE: Final = {"say": 12, "import": 2, "meet": 8, "part": 5, "wait": 3}
_CRASHES: Final = {"kill": 2, "kill at": 5, "kill amid": 3, "boot": 9, "fail at": 1, "busy": 2}
_LIES: Final = {"lie": 4, "forge": 4}
_PEOPLE: Final = {
    "meet": 14,
    "part": 4,
    "begin": 2,
    "add": 4,
    "expel": 3,
    "leave": 1,
    "promote": 3,
    "read": 1,
}
_DEVICES: Final = {"pair": 2, "revoke": 4, "rename": 1}

PROFILES: Final[dict[str, Profile]] = {
    "quiet": Profile(_LIFE),
    "crashes": Profile({**_LIFE, **_CRASHES}),
    "disks": Profile({**_LIFE, **_CRASHES}, sqlite=True),
    "backups": Profile({**_LIFE, "kill": 1, "boot": 4, "backup": 3, "restore": 3}),
    "network": Profile({**_LIFE, "stall": 3, "skew": 2, "slow": 2, "bad transport": 3, "sync now": 1}),
    "writers": Profile({**_LIFE, "beside": 10, "kill at": 2, "boot": 3}),
    "scopes": Profile(
        {**_LIFE, "import": 5, "fetch": 4, "window": 3, "prune": 4, "wait": 5}, roles=("window", "headers")
    ),
    "newcomers": Profile({**_LIFE, "admit": 2, "new log": 2, "kill at": 1, "boot": 2}, roles=("newcomer",)),
    "liars": Profile({**_LIFE, **_LIES}, roles=("liar",)),
    "clones": Profile({**_LIFE, "backup": 3, "roll back": 3, "boot": 3}, roles=("clone",)),
    "blind": Profile({**_LIFE, "junk": 3, "kill": 1, "boot": 2}, roles=("blind",)),
    "everything": Profile(
        {
            **_LIFE,
            **_CRASHES,
            **_LIES,
            "beside": 3,
            "backup": 1,
            "restore": 1,
            "stall": 1,
            "skew": 1,
            "bad transport": 1,
            "fetch": 1,
            "window": 1,
            "prune": 2,
            "new log": 1,
            "admit": 1,
            "junk": 1,
        },
        roles=("liar", "window", "newcomer"),
    ),
    "members": Profile({**_LIFE, **_PEOPLE, "accept": 1, "pair": 1, "expire": 1, "look": 1}, persons=True),
    "revocations": Profile(
        {**_LIFE, **_PEOPLE, **_DEVICES, "note": 2, "kill": 1, "kill at": 2, "boot": 5}, persons=True
    ),
    "traitors": Profile(
        {**_LIFE, **_PEOPLE, **_DEVICES, **_LIES, "usurp": 6, "backup": 2, "roll back": 2, "boot": 4},
        roles=("liar", "clone"),
        persons=True,
    ),
    "phones": Profile(
        {
            **_LIFE,
            **_PEOPLE,
            "import": 4,
            "fetch": 3,
            "window": 3,
            "prune": 4,
            "wait": 8,
            "expire": 1,
            "pair": 1,
        },
        roles=("window", "headers"),
        persons=True,
    ),
    "society": Profile(
        {
            **_LIFE,
            **_PEOPLE,
            **_DEVICES,
            **_CRASHES,
            "accept": 1,
            "beside": 3,
            "backup": 2,
            "restore": 2,
            "stall": 1,
            "skew": 1,
            "bad transport": 1,
            "expire": 2,
            "look": 2,
            "note": 2,
        },
        persons=True,
    ),
}

_DEVICES_OF_PERSONS: Final = ((1, 1), (2, 1), (2, 2), (1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 2), (1, 1, 1, 1))
_GAPS_MS: Final = (0, 0, 3, 30, 300, 2_000, 10_000, 90_000)


def draw(profile: str, seed: int) -> Schedule:
    """The schedule of this seed."""
    random = Random(f"mlog schedule {profile} {seed}")
    chosen = PROFILES[profile]
    persons: tuple[int, ...] = ()
    if chosen.persons:
        persons, roles = _draw_persons(random, chosen)
        count = len(persons)
    else:
        count = random.randint(2, 4) + len(chosen.roles)
        roles = dict(zip(range(count - 1, 0, -1), chosen.roles, strict=False))
    names, weights = list(chosen.weights), list(chosen.weights.values())
    actions = tuple(
        Action(
            random.choices(names, weights)[0],
            random.randrange(count),
            random.randrange(1_000),
            random.randrange(1_000),
            random.choice(_GAPS_MS),
        )
        for _ in range(random.randint(8, 60))
    )
    return Schedule(seed, profile, count, roles, actions, persons)


def _draw_persons(random: Random, profile: Profile) -> tuple[tuple[int, ...], dict[int, str]]:
    """Whose each machine is, and what is special about some; half of the time one is paired only later."""
    devices = random.choice(_DEVICES_OF_PERSONS)
    persons = [person for person, count in enumerate(devices) for _ in range(count)]
    special = random.sample(range(len(persons)), min(len(profile.roles), len(persons) - 1))
    roles = dict(zip(special, profile.roles, strict=False))
    if random.random() < 0.5:
        roles[len(persons)] = "spare"
        persons.append(random.randrange(2))
    return tuple(persons), roles


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Leave out actions, many at once and then one by one, as long as it still fails."""
    actions = list(schedule.actions)
    size = max(len(actions) // 2, 1)
    while True:
        at, shrank = 0, False
        while at < len(actions):
            fewer = actions[:at] + actions[at + size :]
            if fails(msgspec.structs.replace(schedule, actions=tuple(fewer))):
                actions, shrank = fewer, True
            else:
                at += size
        if size > 1:
            size //= 2
        elif not shrank:
            return msgspec.structs.replace(schedule, actions=tuple(actions))

"""Identities: whom the names in imports mean, as this person says.

A name in an import is a claim, unique at most in its program. An *identity* is such a claim: a format and
what the program knows the author by (a number, an address), or else the name. Each ALIAS in the private
log gives one identity the name of a person, the latest one counts; identities of one name are one person.
So who is who is a pure function of that log, the same at all devices of its owner, and nobody else
sees it. Nothing is put together that the owner did not. docs/protocol.md, 6.5.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from mlog.log.bodies import Alias
from mlog.log.store import Position

__all__ = ["FAMILIES", "NATIVE_FORMAT", "Identity", "WhoIsWho", "folded_name", "identity_from", "identity_of"]

NATIVE_FORMAT: Final = "mlog"
"""Of people who write in mlog."""

FAMILIES: Final = {
    "": NATIVE_FORMAT,
    "mbox": "mail",
    "eml": "mail",
    "maildir": "mail",
    "discord-package": "discord",
    "meta-export": "meta",
}
"""Formats that are one program to their users."""

_SCHEMES: Final = ("tel:", "mailto:")
"""Before numbers and addresses: what follows is what people know."""

_NUMBER: Final = ("tel:", re.compile(r"\+?\d{3,20}"))
_ADDRESS: Final = ("mailto:", re.compile(r"[^@\s]+@[^@\s]+"))
_UIDS: Final = {
    "sms": _NUMBER,
    "whatsapp": _NUMBER,
    "signal": _NUMBER,
    "google-voice": _NUMBER,
    "mail": _ADDRESS,
    "google-chat": _ADDRESS,
    "telegram": ("telegram:", re.compile(r"[a-z]*\d+")),
    "slack": ("slack:", re.compile(r"[A-Z][A-Z0-9]{5,}")),
    "discord": ("discord:", re.compile(r"\d{10,}")),
    "matrix": ("matrix:", re.compile(r"@[^\s:]+:\S+")),
    NATIVE_FORMAT: ("mlog:", re.compile(r"[0-9a-f]{16}")),
}
"""By program: how its uids begin, and what they look like behind that."""


class Identity(msgspec.Struct, frozen=True, order=True):
    """Somebody in one program.

    Attributes:
        format: The program (FAMILIES): all forms of mail are "mail".
        uid: What it knows them by, or "".
        name: The name in the file, where there is no uid; else "".
    """

    format: str
    uid: str = ""
    name: str = ""

    def __str__(self) -> str:
        """As people type it, different for each: "irc:ann", "sms:+4930123456", "slack:U1"."""
        known = self.uid or self.name
        for scheme in _SCHEMES:
            known = known.removeprefix(scheme)
        return known if known.startswith(f"{self.format}:") else f"{self.format}:{known}"

    def is_called(self, what: str) -> bool:
        """Whether a text means this one: as above, or the uid alone, which several programs may know."""
        return folded_name(what) in (folded_name(str(self)), folded_name(self.uid) or None)


def identity_of(format_name: str, uid: str, name: str) -> Identity:
    """The identity that a claim names."""
    family = FAMILIES.get(format_name, format_name)
    return Identity(family, uid, "") if uid else Identity(family, "", name)


def identity_from(text: str, programs: Collection[str]) -> Identity | None:
    """The identity that a text of the form of `str(Identity)` names; None if it has another form.

    What uids of a program look like decides whether it is one or a name.

    Args:
        programs: Their names.
    """
    program, colon, known = text.partition(":")
    if not colon or not known or program not in programs:
        return None
    scheme, form = _UIDS.get(program, ("", None))
    is_uid = form is not None and form.fullmatch(known) is not None
    return identity_of(program, f"{scheme}{known}" if is_uid else "", known)


def folded_name(name: str) -> str:
    """A name for comparing: Unicode, case and blanks written in any way."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


class WhoIsWho:
    """What the ALIAS entries of a private log say together.

    Args:
        aliases: In any order, each with its place in the log.
    """

    def __init__(self, aliases: Iterable[tuple[Position, Alias]] = ()) -> None:
        latest: dict[Identity, tuple[Position, str]] = {}
        for position, alias in aliases:
            identity = identity_of(alias.format, alias.uid, alias.by)
            before = latest.get(identity)
            if before is None or before[0] < position:
                latest[identity] = (position, alias.person)
        self._names = {identity: name for identity, (_, name) in latest.items() if name}

    def items(self) -> Iterable[tuple[Identity, str]]:
        """The identities that have a name, and which."""
        return self._names.items()

    def __iter__(self) -> Iterator[str]:
        """Their names, in order."""
        return iter(sorted(set(self._names.values())))

    def name_of(self, identity: Identity) -> str:
        """What the person is called whom an identity means; "" where nothing was said of it."""
        return self._names.get(identity, "")

    def by_name(self) -> dict[str, set[Identity]]:
        """The persons: by name, their identities."""
        found: dict[str, set[Identity]] = {}
        for identity, name in self._names.items():
            found.setdefault(name, set()).add(identity)
        return found
